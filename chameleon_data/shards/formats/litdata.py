"""A shard as one chunk of litdata, for its `StreamingDataset` and `PyTreeLoader`: an item is a dict of str, int and arrays.

    uint32 count; uint32 offsets [count + 1]; then per row
    uint32 sizes of the values; the values in the schema's order: text in UTF-8, numbers as int64, lists of numbers as they are,
    kept columns as JSON text, since there is no other null

With zstd, the layout that litdata calls "batch": frames of 256 rows in the same .bin.

    "LDFZ01\\0\\0"; uint16 version 1; uint16 0; uint32 count, 256, frames; uint32 offsets [count + 1] from the first row's start;
    per frame uint32 first row, uint32 rows, uint64 place in the file, uint32 bytes stored, uint32 bytes of rows; the frames

Behind the last row or frame, where readers do not look, stand the types of the values as JSON: text and uint16 look alike, and a
shard must say by itself what it holds. What is before that is, byte for byte, what litdata's `PyTreeLoader.encode_data` and
`pack_framed_zstd` give. The train split lies at the folder's root and another in a folder of its name.

Rows of 2 kB encode at 3.5 GB/s on one core. Why these two layouts: docs/decisions/037-litdata-layouts.md.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from chameleon_data.arrays import I64
from chameleon_data.errors import InputError
from chameleon_data.recipe import SHARD_COLUMNS
from chameleon_data.shards.formats.files import (
    Encoded,
    IndexEntry,
    Level,
    pad_number,
    refuse_empty,
    refusing_damage,
    split_folder,
)
from chameleon_data.shards.formats.mds import json_values, parse_json_values
from chameleon_data.shards.formats.row_bytes import (
    BYTES_TYPE,
    U32,
    decode_column,
    fixed_size_strings,
    join_sized_rows,
    list_strings,
    read_offsets,
    read_sizes,
    separate_rows,
)
from chameleon_data.shards.formats.zstd import ZSTD_WRITER, compress_frame, decompress_frame
from chameleon_data.shards.rows import (
    INPUT_IDS,
    LABELS,
    LOSS_MASK,
    TEXT_SCHEMA,
    column_array,
    conform,
    is_token_column,
    kept_names,
    sequence_schema,
    text_schema,
    token_values,
)

LARGEST_CHUNK = 2**32
"""Bytes; offsets are uint32, so a shard is shorter than this."""
FRAME_ROWS = 256
FRAMED_MAGIC = b"LDFZ01\0\0"
DTYPES = {pa.uint16(): 5, pa.uint32(): 6}
"""litdata's numbers for the types of ids."""
LIST_TYPES = {**DTYPES, pa.int32(): 2, pa.uint8(): 4}
"""litdata's numbers for numpy's types."""

WRITER: dict[str, Any] = {"format": "litdata", "frame_rows": FRAME_ROWS, **ZSTD_WRITER}

_PREFIX = struct.Struct("<8sHHIII")
_FRAME = np.dtype([("first", "<u4"), ("rows", "<u4"), ("at", "<u8"), ("stored", "<u4"), ("bytes", "<u4")])


def names(number: int, count: int, split: str, level: Level) -> tuple[str, ...]:
    return (f"{split_folder(split)}chunk-{pad_number(number, count)}.bin",)


def encode(table: pa.Table, number: int, count: int, split: str, level: Level) -> Encoded:
    """One chunk. InputError where there is no row, and at 4 GiB or more."""
    rows = conform(table)
    refuse_empty(rows, "a chunk of litdata")
    data = _encode_framed(rows, level) if level else _encode_plain(rows)
    (name,) = names(number, count, split, level)
    return Encoded({name: data}, _entry(name, rows, data, framed=level is not None))


def index(split: str, entries: Sequence[IndexEntry]) -> dict[str, bytes]:
    """index.json of these chunks, in reading order. All of them have one configuration."""
    configurations = [entry["config"] for entry in entries] or [None]
    if any(other != configurations[0] for other in configurations):
        raise InputError("chunks of litdata in one split are not all of the same kind; build them again")
    listed = {"chunks": [entry["chunk"] for entry in entries], "config": configurations[0]}
    return {f"{split_folder(split)}index.json": json.dumps(listed, sort_keys=True).encode()}


def decode(files: Mapping[str, pa.Buffer | bytes], where: str) -> tuple[pa.Table, IndexEntry]:
    """The rows, if this is, byte for byte, the layout that `encode` gives them; and the entry of this chunk."""
    ((name, data),) = files.items()
    data = pa.py_buffer(data)
    framed = data.size >= _PREFIX.size and data.slice(0, 8).to_pybytes() == FRAMED_MAGIC
    with refusing_damage(where, "chunk of litdata"):
        rows = _decode_framed(data, where) if framed else _decode_plain(data)
    return rows, _entry(name, rows, data, framed)


def _entry(name: str, rows: pa.Table, data: pa.Buffer, framed: bool) -> IndexEntry:
    """What litdata's writer says of the chunk and of all chunks of its split."""
    columns = rows.schema.names
    leaf: dict[str, Any] = {"type": None, "context": None, "children_spec": []}
    spec = [1, {"type": "builtins.dict", "context": json.dumps(columns), "children_spec": [leaf] * len(columns)}]
    chunk = {"chunk_bytes": data.size, "chunk_size": rows.num_rows, "dim": None, "filename": name.rpartition("/")[2]}
    config = {
        "chunk_bytes": None,
        "chunk_size": None,
        "encryption": None,
        "ipc_compression": None,
        "item_loader": "PyTreeLoader",
        "compression": "zstd" if framed else None,
        "compression_level": "batch" if framed else None,
        "compression_batch_size": FRAME_ROWS if framed else None,
        "data_format": _value_types(rows.schema),
        "data_spec": json.dumps(spec),
        "types": {
            name: "json" if kind.startswith("no_header_numpy") else kind
            for name, kind in zip(columns, _value_types(rows.schema), strict=True)
        },
    }
    return {"chunk": chunk, "config": config}


def _value_types(schema: pa.Schema) -> list[str]:
    """litdata's names of how the values are stored."""
    return [
        f"no_header_numpy:{LIST_TYPES[kind.value_type]}" if _is_list(kind) else "int" if kind == pa.uint32() else "str"
        for kind in schema.types
    ]


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind))


def _tail(schema: pa.Schema) -> bytes:
    described: list[Any] = _value_types(schema)
    return json.dumps([*described, kept] if (kept := kept_names(schema)) else described).encode()


def _values(rows: pa.Table) -> tuple[I64, list[pa.Array], I64]:
    """The values of every row as bytes: (rows, columns) their sizes, the values by column, and (rows + 1) where rows start and
    end, counted from the first. InputError at 4 GiB or more."""
    values = []
    for name in rows.schema.names:
        if name not in SHARD_COLUMNS:
            values.append(json_values(column_array(rows, name)))
        elif is_token_column(rows.schema.field(name)):
            values.append(fixed_size_strings(token_values(rows, name)))
        elif _is_list(rows.schema.field(name).type):
            values.append(list_strings(column_array(rows, name)))
        elif rows.schema.field(name).type == pa.uint32():
            values.append(fixed_size_strings(column_array(rows, name).to_numpy().astype(np.int64)))
        else:
            values.append(column_array(rows, name).cast(BYTES_TYPE))
    sizes = np.stack([pc.binary_length(column).to_numpy() for column in values], axis=1)
    offsets = np.append(0, np.cumsum(sizes.sum(axis=1, dtype=np.int64) + U32.itemsize * sizes.shape[1]))
    if offsets[-1] + U32.itemsize * (len(offsets) + 1) >= LARGEST_CHUNK:
        raise InputError(f"a litdata chunk of {offsets[-1]:,} bytes: the format ends at 4 GiB; lower 'shards.size' in the recipe")
    return sizes, values, offsets


def _encode_plain(rows: pa.Table) -> pa.Buffer:
    sizes, values, offsets = _values(rows)
    places = offsets + U32.itemsize * (rows.num_rows + 2)
    head = U32.type(rows.num_rows).tobytes() + places.astype(U32).tobytes()
    return join_sized_rows(sizes, values, head, _tail(rows.schema))


def _encode_framed(rows: pa.Table, level: int) -> pa.Buffer:
    sizes, values, offsets = _values(rows)
    body = join_sized_rows(sizes, values)
    bounds = offsets[np.append(np.arange(0, rows.num_rows, FRAME_ROWS), rows.num_rows)]
    frames = [compress_frame(body.slice(begin, end - begin), level) for begin, end in pairwise(bounds)]
    head = _framed_head(offsets, np.array([frame.size for frame in frames]))
    return pa.py_buffer(b"".join([head, *frames, _tail(rows.schema)]))


def _framed_head(offsets: I64, stored: I64) -> bytes:
    """What stands before frames of these sizes."""
    count = len(offsets) - 1
    first = np.arange(0, count, FRAME_ROWS)
    ends = np.minimum(first + FRAME_ROWS, count)
    table = np.zeros(len(first), _FRAME)
    prefix = _PREFIX.pack(FRAMED_MAGIC, 1, 0, count, FRAME_ROWS, len(first)) + offsets.astype(U32).tobytes()
    table["first"], table["rows"], table["stored"], table["bytes"] = first, ends - first, stored, offsets[ends] - offsets[first]
    table["at"] = len(prefix) + table.nbytes + np.cumsum(stored) - stored
    return prefix + table.tobytes()


def _decode_framed(data: pa.Buffer, where: str) -> pa.Table:
    _, _, _, count, _, frames = _PREFIX.unpack(data.slice(0, _PREFIX.size))
    offsets = read_offsets(data, _PREFIX.size, count)
    at = _PREFIX.size + U32.itemsize * (count + 1)
    if frames != -(-count // FRAME_ROWS) or at + frames * _FRAME.itemsize > data.size:
        raise ValueError(f"{frames:,} frames of {count:,} rows")
    table = np.frombuffer(data, _FRAME, frames, at)
    head = _framed_head(offsets, table["stored"].astype(np.int64))
    ends = table["at"].astype(np.int64) + table["stored"]
    if data.slice(0, len(head)).to_pybytes() != head or ends[-1] > data.size:
        raise ValueError("a table of frames that do not lie one after the other in the file")
    stored = [data.slice(int(frame["at"]), int(frame["stored"])) for frame in table]
    body = pa.py_buffer(b"".join(decompress_frame(frame, where, LARGEST_CHUNK) for frame in stored))
    rows = _decode_rows(body, offsets, data.slice(int(ends[-1])).to_pybytes())
    sizes, values, _ = _values(rows)
    if not join_sized_rows(sizes, values).equals(body):
        raise ValueError("bytes that no row asks for")
    return rows


def _decode_plain(data: pa.Buffer) -> pa.Table:
    offsets = read_offsets(data, U32.itemsize, int(np.frombuffer(data, U32, 1)[0]))
    rows = _decode_rows(data, offsets, data.slice(int(min(offsets[-1], data.size))).to_pybytes())
    if not _encode_plain(rows).equals(data):
        raise ValueError("bytes that no row asks for")
    return rows


def _decode_rows(body: pa.Buffer, offsets: I64, tail: bytes) -> pa.Table:
    """The rows between these offsets, of the types that `tail` names. ValueError where they do not add up."""
    turns = ((), (LOSS_MASK,), (LOSS_MASK, LABELS))
    sequences = (sequence_schema(1, dtype, columns) for dtype in DTYPES for columns in turns)
    kinds = {_tail(schema): schema for schema in (TEXT_SCHEMA, *sequences)}
    if tail not in kinds:
        with_names = json.loads(tail)
        kept = text_schema((str(name), pa.large_string()) for name in (with_names[-1] if isinstance(with_names, list) else ()))
        if _tail(kept) != tail:
            raise ValueError("types of values that are not ours")
        kinds[tail] = kept
    schema = kinds[tail]
    columns = len(schema)
    sizes = read_sizes(body, offsets, columns)
    if not len(sizes):
        raise ValueError("no rows")
    fixed_sizes = {field.name: 8 for field in schema if field.type == pa.uint32()}
    if INPUT_IDS in schema.names:
        dtype = schema.field(INPUT_IDS).type.value_type
        length = int(sizes[0, 0]) // dtype.byte_width
        schema = sequence_schema(length, dtype, schema.names)
        fixed_sizes |= {field.name: length * field.type.value_type.byte_width for field in filter(is_token_column, schema)}
    if any(np.any(sizes[:, at] != fixed_sizes[name]) for at, name in enumerate(schema.names) if name in fixed_sizes):
        raise ValueError("a value has not the size that its type has")
    _, *values = separate_rows(body, int(offsets[0]), np.insert(sizes, 0, U32.itemsize * columns, axis=1))
    stored = {
        field.name: field.type.value_type.to_pandas_dtype()().dtype.newbyteorder("<").str if _is_list(field.type) else "<i8"
        for field in schema
    }
    decoded = [
        decode_column(strings, field, stored[field.name]) if field.name in SHARD_COLUMNS else parse_json_values(strings)
        for field, strings in zip(schema, values, strict=True)
    ]
    if kept_names(schema):
        schema = text_schema((name, decoded[schema.names.index(name)].type) for name in kept_names(schema))
    return conform(pa.table(decoded, schema=schema))
