"""JSON lines: one object a line. Each line stands alone, so a broken one costs no other.

orjson parses at 690 MB/s on one core; a file of documents of 6 kB is read at 450 MB/s. Why: docs/decisions/020-reading-lines.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from math import isfinite
from operator import itemgetter
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from chameleon_data.corpus.kept_columns import plain_value
from chameleon_data.corpus.readers.rows import NOT_TEXT, Columns, Fault, RawRows, Values, binary_array
from chameleon_data.corpus.readers.stream import BYTE_ORDER_MARK, split_lines

LINE_BYTES_PER_TEXT_BYTE = 6
r"""A character may be written as \u0001, which is six bytes for one."""
LINE_BYTES_BESIDE_TEXT = 2**20
"""Bytes of a line that its other fields may take."""
DOMAIN_FAULTS = (Fault.DOMAIN_IS_FLOAT, Fault.DOMAIN_OF_OTHER_TYPE, Fault.BAD_DOMAIN)
ID_FAULTS = (Fault.ID_IS_FLOAT, Fault.ID_OF_OTHER_TYPE, Fault.ID_NOT_UTF8)


def read_jsonl(chunks: Iterable[bytes], columns: Columns, longest: int, start: bool = True) -> Iterator[RawRows]:
    """The rows of each chunk. Blank lines are no rows; `longest` is bytes of a text; `start` is as for `split_lines`."""
    rows_of = lines_reader(columns)
    end = told = 0
    for first, lines in split_lines(chunks, longest_line(longest), start):
        end = first + len(lines)
        if lines.count(b"\n") == len(lines):  # so a file of nothing but line ends takes a tenth of the time
            continue
        numbers = np.arange(first, first + len(lines), dtype=np.int64)
        if not _all_full(lines):
            full = [i for i, line in enumerate(lines) if line is None or (line and not line.isspace())]
            if not full:
                continue
            lines, numbers = [lines[i] for i in full], numbers[full]
        told = int(numbers[-1]) + 1
        yield rows_of(lines, numbers)
    if end > told:
        yield replace(rows_of([], np.zeros(0, np.int64)), end=end)


def _all_full(lines: list[bytes | None]) -> bool:
    """Whether no line is blank, or too long; without a loop in Python, as nearly all lines are like that."""
    return None not in lines and b"" not in lines and True not in map(bytes.isspace, cast("list[bytes]", lines))


def longest_line(longest: int) -> int:
    """Most bytes of a line, for a text of at most `longest` bytes."""
    return LINE_BYTES_PER_TEXT_BYTE * longest + LINE_BYTES_BESIDE_TEXT


def lines_reader(columns: Columns) -> Callable[[list[bytes | None], npt.NDArray[np.int64]], RawRows]:
    """A function that reads lines, one JSON value each, and their numbers. None is a line that is too long."""
    text_of = _no_text if columns.text is None else _getter(columns.text)
    domain_of = _getter(columns.domain) if columns.domain else None
    id_of = _getter(columns.id) if columns.id else None
    value_of = {name: _getter(name) for name in columns.values}
    no_number = b"null" if value_of else b"0.0"

    def read(lines: list[bytes | None], numbers: npt.NDArray[np.int64]) -> RawRows:
        documents: list[Any] = []
        twins: dict[int, Any] = {}
        faults, key_faults = np.zeros((2, len(lines)), np.uint8)
        try:
            if domain_of or id_of or value_of:
                documents = list(map(_loads, lines))
                texts = [text.encode() for text in map(text_of, documents)]
            else:
                texts = [text.encode() for text in map(text_of, map(_loads, lines))]
        except (ValueError, KeyError, TypeError, AttributeError):  # one of the lines is bad: each by itself, to see which
            parsed = [_parse(line, text_of, no_number) for line in lines]
            documents, texts = [line.document for line in parsed], [line.text for line in parsed]
            twins = {i: line.twin for i, line in enumerate(parsed) if line.twin is not None}
            faults[:] = [line.fault for line in parsed]
        ids = _strings(documents, twins, id_of, key_faults, ID_FAULTS) if id_of else None
        domain = _strings(documents, twins, domain_of, key_faults, DOMAIN_FAULTS) if domain_of else None
        values = {name: _values(documents, twins, get) for name, get in value_of.items()}
        return RawRows(binary_array(texts), numbers, faults, domain, ids, None, True, key_faults, values=values)

    return read


_loads: Callable[[Any], Any] = orjson.loads
"""Takes None too, for a line that is too long, and raises as for other lines that are not JSON."""


def _getter(key: str) -> Callable[[Any], Any]:
    """A function that reads a key of a document; KeyError where it is not there.

    Dots reach into nested objects, unless the document has the key as it stands.
    """
    parts = key.split(".")

    def nested(document: Any) -> Any:
        if key in document:
            return document[key]
        for part in parts:
            if type(document) is not dict:
                raise KeyError(part)
            document = document[part]
        return document

    return nested if len(parts) > 1 else itemgetter(key)


def _no_text(document: Any) -> str:
    """The text of a row that has none."""
    if type(document) is not dict:
        raise TypeError
    return ""


@dataclass(frozen=True)
class _Line:
    """What is known of a line."""

    document: Any
    text: bytes
    fault: Fault
    twin: Any = None
    """The document with other characters for halves of surrogate pairs, where it has any. A value that differs holds one."""


def _parse(line: bytes | None, text_of: Callable[[Any], Any], no_number: bytes) -> _Line:
    if line is None:
        return _Line(None, b"", Fault.TOO_LONG)
    line = line.removeprefix(BYTE_ORDER_MARK)  # that of a file which `cat` put behind another
    twin = None
    try:
        document = _loads(line)
    except ValueError:
        mended = _without_infinities(line, no_number)
        try:
            document = _loads(_without_halves(mended, rb"\ufffd"))
            if b"\\u" in line:
                twin = _loads(_without_halves(mended, rb"\ufffc"))
        except ValueError:
            try:
                line.decode()
            except UnicodeDecodeError:
                return _Line(None, b"", Fault.NOT_UTF8)
            return _Line(None, b"", Fault.BROKEN_JSON)
    if type(document) is not dict:
        return _Line(None, b"", Fault.NOT_OBJECT)
    try:
        text = text_of(document)
        half = twin is not None and text_of(twin) != text
    except KeyError:
        return _Line(document, b"", Fault.NO_TEXT, twin)
    if text is None:
        return _Line(document, b"", Fault.NULL_TEXT, twin)
    if type(text) is not str:
        return _Line(document, b"", Fault.NOT_STRING, twin)
    return _Line(document, b"", Fault.HALF_CHARACTER, twin) if half else _Line(document, text.encode(), Fault.NONE, twin)


_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.", re.DOTALL
)
"""An escape; the group is half of a surrogate pair, which Python's json writes and JSON does not have."""


def _without_halves(line: bytes, instead: bytes) -> bytes:
    """The line with something else for halves of surrogate pairs."""
    return _ESCAPE.sub(lambda found: instead if found[1] else found[0], line) if b"\\u" in line else line


_NUMBER = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|-?Infinity|NaN|-?\d[\d.]*+(?:[eE][+-]?\d++)?', re.DOTALL)
"""A string, a number, or one that Python's json writes and JSON does not have."""
_MAY_BE_INFINITE = re.compile(rb"NaN|Infinity|\d[eE]\+?\d{3}|[\d.]{309}")
"""What a line has, be it in a string, that holds a number which is none or beyond 1.8e308."""


def _without_infinities(line: bytes, no_number: bytes) -> bytes:
    """The line with something else for NaN and infinities: null where columns of numbers are read, else 0.0, which is as wrong
    for a text or domain as they are."""

    def replace_infinite(found: re.Match[bytes]) -> bytes:
        said = found[0]
        try:
            return said if said[:1] == b'"' or isfinite(float(said)) else no_number
        except ValueError:  # such as 1.2.3
            return said

    return _NUMBER.sub(replace_infinite, line) if _MAY_BE_INFINITE.search(line) else line


def _values(documents: list[Any], twins: Mapping[int, Any], key_of: Callable[[Any], Any]) -> Values:
    """The value of a key in each document; null where there is none."""
    values = []
    for document in documents:
        try:
            values.append(plain_value(key_of(document)))
        except (KeyError, TypeError):
            values.append(None)
    for row in _halves(documents, twins, key_of):
        values[row] = NOT_TEXT
    return values


def _strings(
    documents: list[Any],
    twins: Mapping[int, Any],
    key_of: Callable[[Any], Any],
    faults: npt.NDArray[np.uint8],
    kinds: tuple[Fault, Fault, Fault],
) -> pa.LargeBinaryArray:
    """The value of a key in each document, an integer in decimal; null where there is none or it is of another type. `faults`
    gets the reason, one of `kinds`: it is a float, it is of another type, it holds half of a surrogate pair."""
    values: list[str | None] = []
    is_float, other_type, half = kinds
    for i, document in enumerate(documents):
        try:
            value = key_of(document)
        except (KeyError, TypeError):
            value = None
        if type(value) is int:
            value = str(value)
        elif value is not None and type(value) is not str:
            faults[i] = is_float if type(value) is float else other_type
            value = None
        values.append(value)
    for row in _halves(documents, twins, key_of):
        faults[row], values[row] = faults[row] or half, None
    return pa.array(values, pa.large_binary())


def _halves(documents: list[Any], twins: Mapping[int, Any], key_of: Callable[[Any], Any]) -> Iterator[int]:
    """The rows whose value holds half of a surrogate pair."""
    for row, twin in twins.items():
        with suppress(KeyError, TypeError):
            if key_of(documents[row]) != key_of(twin):
                yield row
