"""A shard as one chunk of litdata, for its `StreamingDataset` and `PyTreeLoader`: an item is a dict of str, int and arrays.

    uint32 count; uint32 offsets [count + 1]; then per row
    uint32 sizes of the five values; text or input_ids; domain; doc_id; int64 epoch; int64 tokens     (in the order of SCHEMA)

With zstd, the layout that litdata calls "batch": frames of 256 rows in the same .bin.

    "LDFZ01\\0\\0"; uint16 version 1; uint16 0; uint32 count, 256, frames; uint32 offsets [count + 1] from the first row's start;
    per frame uint32 first row, uint32 rows, uint64 place in the file, uint32 bytes stored, uint32 bytes of rows; the frames

litdata has two layouts more, and neither will do. The whole file as one frame (.zstd.bin) is deleted by the reader once it is
unpacked, also where the folder is not its own but the one that was written. And what its writer makes today of a dict of text,
an Arrow file behind an empty index of rows, is nothing that earlier releases read. These two are read in place, by litdata
0.2.76 in tests; the first by any release. The train split lies at the folder's root and another in a folder of its name.

Behind the last row or frame, where readers do not look, stand the types of the values as JSON: text and uint16 look alike, and
a shard must say by itself what it holds. Before that, byte for byte what litdata's `PyTreeLoader.encode_data` and
`pack_framed_zstd` give, written by columns as in `mds.py`: rows of 2 kB at 3.5 GB/s on one core, BinaryWriter 48 MB/s.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from chameleon_data.errors import InputError
from chameleon_data.plan.plan import TRAIN
from chameleon_data.shards.formats.row_bytes import (
    BYTES_TYPE,
    byte_strings,
    decode_numbers,
    fixed_size_strings,
    join_rows,
    separate_rows,
)
from chameleon_data.shards.formats.zstd import ZSTD_WRITER, compress_frame, decompress_frame
from chameleon_data.shards.rows import (
    INPUT_IDS,
    TEXT_SCHEMA,
    Compression,
    Encoded,
    column_array,
    conform,
    refuse_empty,
    sequence_schema,
    token_ids,
)

LARGEST_CHUNK = 2**32
"""Bytes; offsets are uint32, so a shard is shorter than this."""
FRAME_ROWS = 256
NO_DIMENSIONS = b"LDFZ01\0\0"
DTYPES = {pa.uint16(): 5, pa.uint32(): 6}
"""litdata's numbers for numpy's types."""

WRITER: dict[str, Any] = {"format": "litdata", "frame_rows": FRAME_ROWS, **ZSTD_WRITER}
"""Together with the compression, all that decides the bytes beside the rows; part of the plan digest."""

_U32 = np.dtype("<u4")
_PREFIX = struct.Struct("<8sHHIII")
_FRAME = np.dtype([("first", "<u4"), ("rows", "<u4"), ("at", "<u8"), ("stored", "<u4"), ("bytes", "<u4")])


def names(number: int, count: int, split: str, compression: Compression) -> tuple[str, ...]:
    return (f"{_folder(split)}chunk-{number:0{max(5, len(str(count - 1)))}}.bin",)


def encode(table: pa.Table, number: int, count: int, split: str, compression: Compression) -> Encoded:
    """One chunk. InputError where there is no row, and at 4 GiB or more."""
    rows = conform(table)
    refuse_empty(rows, "a chunk of litdata")
    data = _framed(rows) if compression == "zstd" else _plain(rows)
    (name,) = names(number, count, split, compression)
    return Encoded({name: data}, _entry(name, rows, data, compression))


def index(split: str, entries: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
    """index.json of these chunks, in reading order. All of them have one configuration."""
    configurations = [entry["config"] for entry in entries] or [None]
    if any(other != configurations[0] for other in configurations):
        raise InputError("chunks of litdata in one split are not all of the same kind; build them again")
    found = {"chunks": [entry["chunk"] for entry in entries], "config": configurations[0]}
    return {f"{_folder(split)}index.json": json.dumps(found, sort_keys=True).encode()}


def decode(files: Mapping[str, pa.Buffer | bytes], where: str) -> tuple[pa.Table, dict[str, Any]]:
    """The rows, if this is, byte for byte, the layout that `encode` gives them, and the entry of this chunk; else InputError."""
    ((name, data),) = files.items()
    data = pa.py_buffer(data)
    framed = data.size >= _PREFIX.size and data.slice(0, 8).to_pybytes() == NO_DIMENSIONS
    try:
        rows = _unframed(data, where) if framed else _unplain(data)
    except InputError:
        raise
    except (pa.ArrowException, ValueError, OverflowError, struct.error, MemoryError) as error:
        raise InputError(f"{where}: damaged chunk of litdata ({error}); restore it from a copy or build it again") from error
    return rows, _entry(name, rows, data, "zstd" if framed else "none")


def _folder(split: str) -> str:
    return "" if split == TRAIN else f"{split}/"


def _entry(name: str, rows: pa.Table, data: pa.Buffer, compression: Compression) -> dict[str, Any]:
    """What litdata's writer says of the chunk and of all chunks of its split."""
    columns = rows.schema.names
    leaf: dict[str, Any] = {"type": None, "context": None, "children_spec": []}
    spec = [1, {"type": "builtins.dict", "context": json.dumps(columns), "children_spec": [leaf] * len(columns)}]
    types = {"domain": "str", "doc_id": "str", "epoch": "int", "tokens": "int"}
    framed = compression == "zstd"
    chunk = {"chunk_bytes": data.size, "chunk_size": rows.num_rows, "dim": None, "filename": name.rpartition("/")[2]}
    config = {
        "chunk_bytes": None, "chunk_size": None, "encryption": None, "ipc_compression": None, "item_loader": "PyTreeLoader",
        "compression": "zstd" if framed else None, "compression_level": "batch" if framed else None,
        "compression_batch_size": FRAME_ROWS if framed else None, "data_format": _types(rows.schema),
        "data_spec": json.dumps(spec), "types": {columns[0]: "json" if INPUT_IDS in columns else "str", **types},
    }  # fmt: skip
    return {"chunk": chunk, "config": config}


def _types(schema: pa.Schema) -> list[str]:
    """litdata's names of how the values are stored."""
    first = f"no_header_numpy:{DTYPES[schema.field(INPUT_IDS).type.value_type]}" if INPUT_IDS in schema.names else "str"
    return [first, "str", "str", "int", "int"]


def _tail(schema: pa.Schema) -> bytes:
    return json.dumps(_types(schema)).encode()


def _items(rows: pa.Table) -> tuple[list[pa.Array], npt.NDArray[np.int64]]:
    """The pieces of every row, and (rows + 1) where it starts and ends, counted from the first. InputError at 4 GiB or more."""
    lengths, parts = [], []
    for name in rows.schema.names:
        if name == INPUT_IDS:
            ids = token_ids(rows)
            parts.append(fixed_size_strings(ids.astype(ids.dtype.newbyteorder("<"), copy=False)))
        elif name in ("epoch", "tokens"):
            parts.append(fixed_size_strings(column_array(rows, name).to_numpy().astype("<i8")))
        else:
            parts.append(column_array(rows, name).cast(BYTES_TYPE))
        lengths.append(pc.binary_length(parts[-1]).to_numpy())
    sizes = np.stack(lengths, axis=1)  # (rows, 5)
    offsets = np.append(0, np.cumsum(sizes.sum(axis=1, dtype=np.int64) + 4 * sizes.shape[1]))
    if offsets[-1] + 4 * (len(offsets) + 1) >= LARGEST_CHUNK:
        raise InputError(f"a litdata chunk of {offsets[-1]:,} bytes: the format ends at 4 GiB; lower 'shards.size' in the recipe")
    return [fixed_size_strings(sizes.astype(_U32)), *parts], offsets


def _plain(rows: pa.Table) -> pa.Buffer:
    parts, offsets = _items(rows)
    count = rows.num_rows
    start = _U32.type(count).tobytes() + (offsets + 4 * (count + 2)).astype(_U32).tobytes()
    sizes = np.frombuffer(parts[0].buffers()[2], np.uint8)
    width = len(sizes) // count
    first = np.append(0, len(start) + width * np.arange(1, count + 1))  # the head goes with the sizes of the first row
    parts[0] = byte_strings(first, pa.py_buffer(start + sizes.tobytes()))
    tail = np.full(count + 1, 0)
    tail[-1] = len(_tail(rows.schema))
    return join_rows([*parts, byte_strings(tail, pa.py_buffer(_tail(rows.schema)))])


def _framed(rows: pa.Table) -> pa.Buffer:
    parts, offsets = _items(rows)
    body = join_rows(parts)
    bounds = offsets[np.append(np.arange(0, rows.num_rows, FRAME_ROWS), rows.num_rows)]
    frames = [compress_frame(body.slice(begin, end - begin)) for begin, end in pairwise(bounds)]
    head = _head(offsets, np.array([frame.size for frame in frames]))
    return pa.py_buffer(b"".join([head, *frames, _tail(rows.schema)]))


def _head(offsets: npt.NDArray[np.int64], stored: npt.NDArray[np.int64]) -> bytes:
    """What stands before frames of these sizes."""
    count = len(offsets) - 1
    first = np.arange(0, count, FRAME_ROWS)
    ends = np.minimum(first + FRAME_ROWS, count)
    table = np.zeros(len(first), _FRAME)
    prefix = _PREFIX.pack(NO_DIMENSIONS, 1, 0, count, FRAME_ROWS, len(first)) + offsets.astype(_U32).tobytes()
    table["first"], table["rows"], table["stored"], table["bytes"] = first, ends - first, stored, offsets[ends] - offsets[first]
    table["at"] = len(prefix) + table.nbytes + np.cumsum(stored) - stored
    return prefix + table.tobytes()


def _unframed(data: pa.Buffer, where: str) -> pa.Table:
    _, _, _, count, _, frames = _PREFIX.unpack(data.slice(0, _PREFIX.size))
    offsets = _offsets(data, _PREFIX.size, count)
    at = _PREFIX.size + 4 * (count + 1)
    if frames != -(-count // FRAME_ROWS) or at + frames * _FRAME.itemsize > data.size:
        raise ValueError(f"{frames:,} frames of {count:,} rows")
    table = np.frombuffer(data, _FRAME, frames, at)
    head = _head(offsets, table["stored"].astype(np.int64))
    ends = table["at"].astype(np.int64) + table["stored"]
    if data.slice(0, len(head)).to_pybytes() != head or ends[-1] > data.size:
        raise ValueError("a table of frames that do not lie one after the other in the file")
    views = [data.slice(int(frame["at"]), int(frame["stored"])) for frame in table]
    body = pa.py_buffer(b"".join(decompress_frame(frame, where, LARGEST_CHUNK) for frame in views))
    rows = _rows(body, offsets, data.slice(int(ends[-1])).to_pybytes())
    if not join_rows(_items(rows)[0]).equals(body):
        raise ValueError("bytes that no row asks for")
    return rows


def _unplain(data: pa.Buffer) -> pa.Table:
    offsets = _offsets(data, 4)
    rows = _rows(data, offsets, data.slice(int(min(offsets[-1], data.size))).to_pybytes())
    if not _plain(rows).equals(data):
        raise ValueError("bytes that no row asks for")
    return rows


def _offsets(data: pa.Buffer, at: int, count: int | None = None) -> npt.NDArray[np.int64]:
    """(rows + 1) as they are stored. ValueError where they are not there."""
    if count is None:
        count = int(np.frombuffer(data, _U32, 1)[0])
    if not count or at + 4 * (count + 1) > data.size:
        raise ValueError(f"{count:,} rows in {data.size:,} bytes")
    return np.frombuffer(data, _U32, count + 1, at).astype(np.int64)


def _rows(body: pa.Buffer, offsets: npt.NDArray[np.int64], tail: bytes) -> pa.Table:
    """The rows between these offsets, of the types that `tail` names. ValueError where they do not add up."""
    columns = len(TEXT_SCHEMA)
    if offsets[-1] > body.size or np.any(np.diff(offsets) < 4 * columns):
        raise ValueError("the row offsets do not rise to the end of the rows")
    sizes = np.frombuffer(body, np.uint8)[offsets[:-1, None] + np.arange(4 * columns)].view(_U32).astype(np.int64)
    if not np.array_equal(sizes.sum(axis=1) + 4 * columns, np.diff(offsets)):
        raise ValueError("the sizes of a row do not add up to its length")
    schema = TEXT_SCHEMA
    for dtype in DTYPES:
        if tail == _tail(sequence_schema(1, dtype)):
            schema = sequence_schema(int(sizes[0, 0]) // dtype.byte_width, dtype)
    if tail != _tail(schema):
        raise ValueError("types of values that are not ours")
    fixed_sizes = {INPUT_IDS: int(sizes[0, 0]), "epoch": 8, "tokens": 8}
    if any(np.any(sizes[:, at] != fixed_sizes[name]) for at, name in enumerate(schema.names) if name in fixed_sizes):
        raise ValueError("a value has not the size that its type has")
    _, *pieces = separate_rows(body, int(offsets[0]), np.insert(sizes, 0, 4 * columns, axis=1))
    found = []
    for field, piece in zip(schema, pieces, strict=True):
        if field.name in fixed_sizes:
            stored = f"<u{field.type.value_type.byte_width}" if field.name == INPUT_IDS else "<i8"
            found.append(decode_numbers(piece, field.type, stored))
        else:
            found.append(piece.cast(field.type))
    return conform(pa.table(found, schema=schema))
