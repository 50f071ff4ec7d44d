"""What Parquet, Arrow and CSV share: where the columns are that a source names, and record batches as raw rows.

A batch is cut so small that rows stay small where a format stores equal strings once, as dictionaries do: 50 kB of Parquet that
stand for 20 GB of text take 270 MB of memory. Why: docs/decisions/022-columns-in-small-batches.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from chameleon_data.corpus.fragments import Fragment
from chameleon_data.corpus.kept_columns import plain_value
from chameleon_data.corpus.readers.rows import NOT_TEXT, Columns, Fault, NotText, RawRows, Values, binary_array
from chameleon_data.errors import InputError

BATCH_ROWS = 2**10
"""Most rows of a batch of Parquet, Arrow and CSV."""
UUID_BYTES = 16
"""Bytes of a UUID. Parquet has no other values of so many bytes that are common."""
READ_BATCH_BYTES = 2**21
"""Bytes of a batch, of all its columns and uncompressed."""


def find_columns(schema: pa.Schema, wanted: Columns, fragment: Fragment, vectors: str | None = None) -> list[tuple[str, ...]]:
    """Names from the top down to the text, domain, id, values and vectors: those that are wanted, in this order.

    Raises InputError for a column that is missing, stands twice or is of an extension type. Some of those run code when a value
    is read, so none is read.
    """
    paths = []
    roles: list[tuple[str, str | None]] = [("text", wanted.text), ("domain", wanted.domain), ("id", wanted.id)]
    for role, key in (*roles, *(("value", name) for name in wanted.values), ("vector", vectors)):
        if key is None:
            continue
        of_role = "" if role == "value" else f" for the {role}"
        literal = key in schema.names or fragment.format == "csv"
        path = (key,) if literal else tuple(key.split("."))
        if schema.names.count(path[0]) > 1:
            raise InputError(f"{fragment.url}: the column {path[0]!r} stands twice; rename one")
        field, kind = None, pa.struct(list(schema))
        for part in path:
            at = kind.get_field_index(part) if pa.types.is_struct(kind) else -1
            if at < 0:
                raise InputError(f"{fragment.url}: no column {key!r}{of_role}; there are {', '.join(schema.names)[:500]}")
            field = kind.field(at)
            kind = field.type
            extension = (field.metadata or {}).get(b"ARROW:extension:name", b"").decode(errors="replace")
            if isinstance(kind, pa.BaseExtensionType):
                extension = kind.extension_name
            if extension not in ("", "arrow.uuid"):
                raise InputError(f"{fragment.url}: the column {key!r} is of the extension type {extension}; store it as a string")
        if role == "vector" and not _is_vector(kind):
            raise InputError(f"{fragment.url}: the column {key!r} is of {kind}; 'embed.column' wants lists of float32 or float64")
        if role not in ("vector", "value"):
            _check_type(kind, role, key, fragment.url)
        paths.append(path)
    foreign = [field.name for field in schema if isinstance(field.type, pa.ExtensionType)]
    if foreign:
        raise InputError(f"{fragment.url}: the column {foreign[0]!r} has an extension type of Python code; leave it out")
    return paths


def _check_type(kind: pa.DataType, role: str, key: str, url: str) -> None:
    """Raise InputError for a column whose values are not text or, for a domain or id, have no one way to be written as text."""
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    if _is_text(plain) or pa.types.is_null(plain):
        return
    named = f"{url}: the column {key!r} is of {kind}"
    if role == "text":
        raise InputError(f"{named}, which is not text; name the column of the text, or store it as strings")
    if not _is_writable(plain):
        raise InputError(f"{named}; for the {role} store strings, integers, dates or UUIDs")


def _is_text(kind: pa.DataType) -> bool:
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_binary, pa.types.is_large_binary,
             pa.types.is_binary_view)  # fmt: skip
    return any(is_kind(kind) for is_kind in texts)


def _is_writable(kind: pa.DataType) -> bool:
    """Whether there is one way to write a value as text."""
    kinds = (pa.types.is_integer, pa.types.is_date, pa.types.is_fixed_size_binary)
    return any(is_kind(kind) for is_kind in kinds) or isinstance(kind, pa.UuidType)


def rows_of_batch(
    batch: pa.RecordBatch, paths: list[tuple[str, ...]], wanted: Columns, first: int, vectors: bool, longest: int
) -> Iterator[RawRows]:
    """A record batch in slices. `first` is the number of its first row, `paths` is what `find_columns` gave."""
    columns = [_leaf(batch, path) for path in paths]
    if wanted.text is None:
        columns.insert(0, pa.repeat(pa.scalar(b"", pa.large_binary()), batch.num_rows))
    lengths = [_shared_lengths(column) for column in columns]
    long = lengths[0] > longest
    sizes = np.where(long, 0, lengths[0]) + sum(lengths[1:])
    slices = np.cumsum(sizes) // READ_BATCH_BYTES
    turns = np.flatnonzero((np.diff(slices) != 0) | (np.diff(long) != 0)) + 1
    starts = np.union1d(np.arange(0, batch.num_rows, BATCH_ROWS), turns)
    for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), batch.num_rows], strict=True):
        part = [column.slice(start, stop - start) for column in columns]
        vector = _finite(part.pop()) if vectors else None
        several = len(part) - len(wanted.values)
        values = {name: _plain_values(column) for name, column in zip(wanted.values, part[several:], strict=True)}
        domain = _bytes_of(part[1]) if wanted.domain else None
        ids = _bytes_of(part[several - 1]) if wanted.id else None
        fault = np.zeros(stop - start, np.uint8)
        if long[start]:  # never copied
            text, fault[:] = binary_array([b""] * len(fault)), Fault.TOO_LONG
        else:
            text = _bytes_of(part[0])
        if text.null_count:
            fault[text.is_null().to_numpy(zero_copy_only=False)] = Fault.NULL_TEXT
            text = text.fill_null(b"")
        numbers = np.arange(first + start, first + stop, dtype=np.int64)
        yield RawRows(text, numbers, fault, domain, ids, vector, values=values)


def _plain_values(column: pa.Array) -> Values:
    """The values of a column of any type. Bytes are text; dates, times and decimals are their text."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if _is_text(kind):
        return [_decode(value) for value in column.to_pylist()]
    if pa.types.is_fixed_size_binary(kind):
        return [_decode(value) for value in _bytes_of(column).to_pylist()]
    if pa.types.is_temporal(kind) or pa.types.is_decimal(kind):
        column = column.cast(pa.string())
    return [_nested_value(value) for value in column.to_pylist()]


def _nested_value(value: Any) -> Any:
    try:
        return plain_value(_as_json(value))
    except UnicodeDecodeError:
        return NOT_TEXT


def _decode(value: bytes | None) -> str | NotText | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return NOT_TEXT


def _as_json(value: Any) -> Any:
    """A value of Arrow as JSON has it. UnicodeDecodeError for bytes that are not text."""
    if isinstance(value, dict):
        return {str(key): _as_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return value.decode()
    return value if value is None or isinstance(value, str | int) else str(value)


def _shared_lengths(column: pa.Array) -> npt.NDArray[np.int64]:
    """(rows,) bytes of each string where the column's type stores equal ones once, else zeros.

    Such a column may stand for terabytes that are not there until they are copied.
    """
    if pa.types.is_dictionary(column.type):
        known = pa.array(_lengths(column.dictionary)).take(column.indices).fill_null(0)
        return np.asarray(known.to_numpy(zero_copy_only=False), np.int64)
    return _lengths(column) if pa.types.is_binary_view(column.type) else np.zeros(len(column), np.int64)


def _lengths(values: pa.Array) -> npt.NDArray[np.int64]:
    """(rows,) bytes of each value of an array of bytes; 0 for null, and for every value of another type."""
    if pa.types.is_binary_view(values.type):
        views = np.frombuffer(values.buffers()[1] or b"", np.int32)[4 * values.offset :: 4][: len(values)]
        return np.where(values.is_valid().to_numpy(zero_copy_only=False), views, 0).astype(np.int64)
    if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
        return np.asarray(pc.binary_length(values).fill_null(0).to_numpy(zero_copy_only=False), np.int64)
    return np.zeros(len(values), np.int64)


def _is_vector(kind: pa.DataType) -> bool:
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_kind(kind) for is_kind in lists) and pa.types.is_floating(kind.value_type)


def _finite(column: pa.Array) -> pa.LargeListArray:
    """Lists of float32; null for an empty list and for one that holds a null or a number that is not finite."""
    lists = column.cast(pa.large_list(pa.float32()))
    offsets = lists.offsets.to_numpy()
    values = lists.values.to_numpy(zero_copy_only=False)  # a null among them becomes NaN
    wrong = np.append(0, np.cumsum(~np.isfinite(values)))
    usable = (wrong[offsets[1:]] == wrong[offsets[:-1]]) & (offsets[1:] > offsets[:-1]) & lists.is_valid().to_numpy(False)
    return pc.if_else(pa.array(usable), lists, pa.scalar(None, lists.type))


def _leaf(batch: pa.RecordBatch, path: tuple[str, ...]) -> pa.Array:
    """One column, its strings as bytes that are not checked yet. Offsets and indices are: a hostile file's may point anywhere."""
    column = batch.column(path[0])
    column.validate()
    if len(path) > 1:
        column = pc.struct_field(column, list(path[1:]))
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        column = pa.DictionaryArray.from_arrays(column.indices, _unchecked(column.dictionary))
        if pa.types.is_binary_view(column.type.value_type):
            column = _expand_views(column)
    column = _unchecked(column)
    column.validate(full=True)
    return column


def _expand_views(column: pa.DictionaryArray) -> pa.Array:
    """The views that the indices name; no string is copied. Arrow itself cannot do this, and polars writes categoricals so."""
    column.validate(full=True)
    values = column.dictionary
    _, views, *data = values.buffers()
    at = column.indices.fill_null(0).to_numpy()
    known = np.append(np.asarray(values.is_valid().to_numpy(zero_copy_only=False)), False)
    of_value = np.zeros((len(values) + 1, 16), np.uint8)  # the last one for a null, should there be no value at all
    of_value[:-1] = np.frombuffer(views or b"", np.uint8).reshape(-1, 16)[values.offset :][: len(values)]
    valid = column.indices.is_valid().to_numpy(zero_copy_only=False) & known[at]
    bits = pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(pa.binary_view(), len(column), [bits, pa.py_buffer(of_value[at]), *data])


def _unchecked(column: pa.Array) -> pa.Array:
    """Strings as bytes, without looking at them."""
    as_bytes = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(), pa.string_view(): pa.binary_view()}
    return column.view(as_bytes[column.type]) if column.type in as_bytes else column


def _bytes_of(column: pa.Array) -> pa.LargeBinaryArray:
    """Bytes of each value, as text; null where it is null."""
    kind = column.type
    if pa.types.is_dictionary(kind) and not _is_text(kind.value_type):
        column = column.dictionary_decode()
        kind = column.type
    if pa.types.is_fixed_size_binary(kind):
        if kind.byte_width != UUID_BYTES:
            return column.cast(pa.binary()).cast(pa.large_binary())
        values = [None if value is None else str(UUID(bytes=value)) for value in column.to_pylist()]
        return pa.array(values, pa.large_binary())
    if pa.types.is_integer(kind) or pa.types.is_date(kind):
        column = (column.cast(pa.date32()) if pa.types.is_date(kind) else column).cast(pa.large_string())
    return column.cast(pa.large_binary())
