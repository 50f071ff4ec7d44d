"""Raw rows become a block: rows that cannot be used are parted from the others and get a reason.

A row is looked at by itself: its length, its UTF-8, whether it is blank, its domain, its id. So the documents and the bad rows do
not depend on how a file's bytes fall into reads and blocks.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from chameleon_data.arrays import string_offsets
from chameleon_data.corpus.chat_template import ChatTemplate, TemplateRefusesError
from chameleon_data.corpus.conversations import make_conversation, make_exchange, read_conversation
from chameleon_data.corpus.kept_columns import encode_columns
from chameleon_data.corpus.readers.rows import NOT_TEXT, REASONS, BadRow, Block, Fault, RawRows, binary_array
from chameleon_data.corpus.readers.where import LEFT_OUT, NOT_JUDGED, judge_rows
from chameleon_data.recipe import Source, check_domain_name

JUDGED = (Fault.NONE, Fault.NO_TEXT, Fault.NULL_TEXT, Fault.NOT_STRING, Fault.HALF_CHARACTER)
"""Faults of rows whose columns can be read, and so judged; where they are not taken, their faults do not count."""
DOMAIN_SEPARATOR = "/"
"""Between the values of several columns that name a domain together."""
NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?", re.ASCII)


def validate_rows(raw: RawRows, source: Source, name: str, max_document: int) -> Block:
    """The block of these rows. `name` is the source's name; `max_document` is in bytes of UTF-8."""
    end = int(raw.rows[-1:].sum()) + 1 if raw.end is None else raw.end
    filtered: dict[str, int] = {}
    if source.where is not None:
        raw, filtered = _take_rows(raw, source, source.where, name)
    fault = raw.fault.copy()
    if source.holds_turns:
        raw = replace(raw, text=_make_conversations(raw, source, fault), valid_utf8=True)
    lengths = np.diff(string_offsets(raw.text))
    fault[(fault == Fault.NONE) & (lengths > max_document)] = Fault.TOO_LONG
    if not raw.valid_utf8:
        _mark_not_utf8(raw.text, fault)
    _mark_blank(raw.text, lengths, fault)

    if raw.key_fault is not None:
        np.copyto(fault, raw.key_fault, where=fault == Fault.NONE)

    names, domain = _name_domains(raw, source, name, fault)
    for values in raw.values.values():
        wrong = np.fromiter((value is NOT_TEXT for value in values), bool, len(values))
        fault[wrong & (fault == Fault.NONE)] = Fault.COLUMN_NOT_UTF8
    ids = raw.ids
    if ids is not None:
        ids = ids.fill_null(b"")
        wrong = np.where(np.diff(string_offsets(ids)) == 0, Fault.NO_ID, Fault.NONE).astype(np.uint8)
        _mark_not_utf8(ids, wrong, Fault.ID_NOT_UTF8)
        np.copyto(fault, wrong, where=fault == Fault.NONE)

    text, rows, usable, vectors, bad = raw.text, raw.rows, domain, raw.vectors, np.flatnonzero(fault)
    kept = {column: raw.values[column] for column in source.keep}
    if len(bad):
        keep = np.flatnonzero(fault == Fault.NONE)
        text, rows, usable, ids = text.take(keep), rows[keep], domain[keep], None if ids is None else ids.take(keep)
        vectors = None if vectors is None else vectors.take(keep)
        kept = {column: [values[row] for row in keep.tolist()] for column, values in kept.items()}
    bad_rows = (BadRow(int(raw.rows[i]), names[domain[i]] if domain[i] >= 0 else name, REASONS[fault[i]]) for i in bad)
    return Block(
        text.view(pa.large_string()),
        rows,
        names,
        usable,
        None if ids is None else ids.view(pa.large_string()),
        vectors,
        tuple(sorted(bad_rows, key=lambda row: row.row)),
        end,
        filtered,
        kept,
        encode_columns(kept, len(rows)) if kept else None,
    )


def _make_conversations(raw: RawRows, source: Source, fault: npt.NDArray[np.uint8]) -> pa.LargeBinaryArray:
    """(rows,) the conversation of each row as canonical JSON, or the text that the source's template makes of it; rows without
    one are marked, if they have no fault yet."""
    template = None if source.template is None else ChatTemplate(source.template, ())
    columns = [raw.values[key] for key in source.chat_columns]
    found = list[bytes]()
    for row, values in enumerate(zip(*columns, strict=True)):
        made: bytes | Fault = b""
        if any(value is NOT_TEXT for value in values):
            made = Fault.COLUMN_NOT_UTF8
        elif fault[row] == Fault.NONE:
            made = make_conversation(*values) if source.chat is not None else make_exchange(values[:-1], values[-1])
        if template and made and not isinstance(made, Fault):
            try:
                made = template.render(*read_conversation(made)).encode()
            except TemplateRefusesError:
                made = Fault.NOT_RENDERED
        if isinstance(made, Fault):
            fault[row] = fault[row] or made
        found.append(b"" if isinstance(made, Fault) else made)
    return binary_array(found)


def _take_rows(raw: RawRows, source: Source, condition: str, name: str) -> tuple[RawRows, dict[str, int]]:
    """The rows that the source's condition takes, those that cannot be judged, and those that are no rows; and by domain how many
    it leaves out."""
    verdict = judge_rows(condition, raw.values)
    judged = np.isin(raw.fault, JUDGED)
    taken = ~judged | (verdict != LEFT_OUT)
    left_out = raw.take(np.flatnonzero(~taken))
    fault = np.where(judged & (verdict == NOT_JUDGED), Fault.NOT_JUDGED, raw.fault).astype(np.uint8)
    names, domain = _name_domains(left_out, source, name, np.zeros(len(left_out.rows), np.uint8))
    filtered = Counter(names[code] if code >= 0 else name for code in domain.tolist())
    return replace(raw, fault=fault).take(np.flatnonzero(taken)), dict(filtered)


def _name_domains(
    raw: RawRows, source: Source, name: str, fault: npt.NDArray[np.uint8]
) -> tuple[tuple[str, ...], npt.NDArray[np.int32]]:
    """Names, and (rows,) the index of each row's name or -1. Rows without one are marked, if they have no fault yet."""
    if source.domain is None:
        return (name,), np.zeros(len(raw.rows), np.int32)
    if isinstance(source.domain, str):
        return _domains(raw.domain, source.rename, fault)
    if isinstance(source.domain, tuple):
        named = [_join_names(row) for row in zip(*(raw.values[key] for key in source.domain), strict=True)]
    else:
        ((key, bounds),) = source.domain.items()
        named = [_name_bucket(key, bounds, value) for value in raw.values[key]]
    wrong = np.array([found if isinstance(found, Fault) else Fault.NONE for found in named], np.uint8)
    np.copyto(fault, wrong, where=fault == Fault.NONE)
    encoded = pa.array([None if isinstance(found, Fault) else found.encode() for found in named], pa.large_binary())
    return _domains(encoded, source.rename, fault)


def _join_names(values: tuple[Any, ...]) -> str | Fault:
    """The name that several columns give together."""
    for value in values:
        if value is None or value == "":
            return Fault.NO_DOMAIN
        if type(value) is float:
            return Fault.DOMAIN_IS_FLOAT
        if value is NOT_TEXT or type(value) not in (str, int):
            return Fault.COLUMN_NOT_UTF8 if value is NOT_TEXT else Fault.DOMAIN_OF_OTHER_TYPE
    return DOMAIN_SEPARATOR.join(map(str, values))


def _name_bucket(key: str, bounds: tuple[float, ...], value: Any) -> str | Fault:
    """The bucket of a number: under the first bound, from one bound up to the next, or from the last."""
    if value is None:
        return Fault.NO_DOMAIN
    if type(value) is str and NUMBER.fullmatch(value):  # CSV has no others
        value = float(value)
    if type(value) not in (int, float):
        return Fault.NO_NUMBER
    at = bisect_right(bounds, value)
    low, high = (f"{bounds[i]:.15g}" if 0 <= i < len(bounds) else "" for i in (at - 1, at))
    if not low:
        return f"{key} under {high}"
    return f"{key} {low} to {high}" if high else f"{key} from {low}"


def _mark_not_utf8(values: pa.LargeBinaryArray, fault: npt.NDArray[np.uint8], reason: Fault = Fault.NOT_UTF8) -> None:
    """Mark the values without a fault that are not UTF-8."""
    try:
        values.view(pa.large_string()).validate(full=True)  # 8 GB/s and more
        return
    except pa.ArrowInvalid:
        pass
    for i in np.flatnonzero(fault == Fault.NONE):
        try:
            values[i].as_py().decode()
        except UnicodeDecodeError:
            fault[i] = reason


def _mark_blank(values: pa.LargeBinaryArray, lengths: npt.NDArray[np.int64], fault: npt.NDArray[np.uint8]) -> None:
    """Mark the values without a fault of which `str.strip` leaves nothing.

    Only those whose first and last byte may be a blank's are looked at.
    """
    offsets = string_offsets(values)
    data = np.frombuffer(values.buffers()[2] or b"\0", np.uint8)
    first, last = (data[np.clip(at, 0, len(data) - 1)] for at in (offsets[:-1], offsets[1:] - 1))
    maybe = (lengths == 0) | (_BLANK_START[first] & _BLANK_END[last])
    for i in np.flatnonzero((fault == Fault.NONE) & maybe):
        a, b = offsets[i], offsets[i + 1]
        if not bytes(data[a : min(a + 64, b)]).decode(errors="ignore").strip() and not bytes(data[a:b]).decode().strip():
            fault[i] = Fault.BLANK


_BLANKS = [chr(c).encode() for c in range(0x3001) if chr(c).isspace()]
_BLANK_START, _BLANK_END = np.zeros((2, 256), np.bool_)
_BLANK_START[[blank[0] for blank in _BLANKS]] = _BLANK_END[[blank[-1] for blank in _BLANKS]] = True


def _domains(
    values: pa.LargeBinaryArray, rename: dict[str, str], fault: npt.NDArray[np.uint8]
) -> tuple[tuple[str, ...], npt.NDArray[np.int32]]:
    """Names, and (rows,) the index of each row's name or -1. Rows without one are marked, if they have no fault yet."""
    encoded = values.dictionary_encode()
    names: dict[str, int] = {}
    code = np.full(len(encoded.dictionary) + 1, -1, np.int32)  # the last one is for null
    reason = np.full(len(encoded.dictionary) + 1, Fault.NO_DOMAIN, np.uint8)
    for i, value in enumerate(encoded.dictionary.to_pylist()):
        try:
            name = value.decode()
            name = rename.get(name, name)
            check_domain_name(name)
        except ValueError:  # a UnicodeDecodeError is one
            reason[i] = Fault.BAD_DOMAIN
            continue
        code[i], reason[i] = names.setdefault(name, len(names)), Fault.NONE
    index = encoded.indices.fill_null(len(encoded.dictionary)).to_numpy()
    np.copyto(fault, reason[index], where=fault == Fault.NONE)
    return tuple(names), code[index]
