"""A shard as one Arrow IPC file: what a trainer maps into memory, and what polars, pyarrow and `datasets` open as it is.

    "ARROW1"; the schema; record batches, each buffer a zstd frame (level 3) or as it is; the footer with the batches' places

Record batches hold about equal bytes, 2 to 4 MiB each (`shards.cuts`), so that a reader which streams holds little and one which
goes to a row decompresses little; at 1 MiB the file is 1.6 % longer, at 16 MiB .2 % shorter. Text has 32-bit offsets, as in
Parquet, so that every reader sees plain strings; packed tokens are a fixed-size list, which without compression is a matrix on
disk. Layout: the Arrow columnar format, version 1.5. The format has no checksums: damage that leaves it well-formed is for the
sha256 in the manifest to find.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.ipc

from chameleon_data.errors import InputError
from chameleon_data.shards.formats.zstd import LEVEL
from chameleon_data.shards.rows import ROW_OVERHEAD, Compression, Encoded, conform, equal_byte_bounds, schema_of, stored_schema

RECORD_BATCH_BYTES = 4 * 2**20

WRITER: dict[str, Any] = {
    "format": "arrow",
    "pyarrow": pa.__version__,
    "level": LEVEL,
    "batch": f"equal bytes, at most {RECORD_BATCH_BYTES}, {ROW_OVERHEAD} a row",
}
"""Together with the compression, all that decides the bytes beside the rows; part of the plan digest."""


def names(number: int, count: int, split: str, compression: Compression) -> tuple[str, ...]:
    """Hugging Face `datasets` reads the split's name from the file's."""
    return (f"{split}-{number:0{max(5, len(str(count - 1)))}}-of-{count:05}.arrow",)


def encode(table: pa.Table, number: int, count: int, split: str, compression: Compression) -> Encoded:
    """One file. InputError for a text of 2 GiB."""
    rows = conform(table)
    schema = stored_schema(rows.schema)
    codec = pa.Codec("zstd", compression_level=LEVEL) if compression == "zstd" else None
    sink = pa.BufferOutputStream()
    try:
        with pa.ipc.new_file(sink, schema, options=pa.ipc.IpcWriteOptions(compression=codec, use_threads=False)) as writer:
            for begin, end in pairwise(equal_byte_bounds(rows, RECORD_BATCH_BYTES)):
                writer.write_table(rows.slice(begin, end - begin).cast(schema).combine_chunks())
    except pa.ArrowInvalid as error:
        raise InputError(f"a text is too long for Arrow's plain strings ({error}); lower 'input.max_document'") from error
    (name,) = names(number, count, split, compression)
    return Encoded({name: sink.getvalue()}, {})


def decode(files: Mapping[str, pa.Buffer | bytes], where: str) -> tuple[pa.Table, dict[str, Any]]:
    """The rows, once every offset and character in them was checked. InputError on damage and on any other schema."""
    (data,) = files.values()
    try:
        with pa.ipc.open_file(pa.BufferReader(data), options=pa.ipc.IpcReadOptions(use_threads=False)) as reader:
            # before any row is read, since a schema can be hostile
            if not reader.schema.equals(stored_schema(schema_of(reader.schema)), check_metadata=True):
                raise InputError(f"{where}: this is not a shard of ours, its columns are {reader.schema.names}; build it again")
            table = reader.read_all()
        table.validate(full=True)
        return conform(table) if table.num_rows else schema_of(table.schema).empty_table(), {}
    except InputError:
        raise
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise InputError(f"{where}: damaged Arrow file ({error}); restore it from a copy or build it again") from error


def index(split: str, entries: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
    """None: the names say it all."""
    return {}
