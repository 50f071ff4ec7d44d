"""A shard as one Arrow IPC file, which a trainer maps into memory. polars, pyarrow and `datasets` open it as it is.

    "ARROW1"; the schema; record batches, each buffer a zstd frame or plain; the footer with the batches' places

Layout: the Arrow columnar format, version 1.5. Record batches hold about equal bytes, 2 to 4 MiB each. Text has 32-bit offsets,
as in Parquet, so that every reader sees plain strings. Packed tokens are a fixed-size list, which without compression is a matrix
on disk. The format has no checksums: damage that leaves a file well-formed is found by the sha256 in the manifest.
Why batches of this size: docs/decisions/034-record-batches.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.ipc

from chameleon_data.errors import InputError
from chameleon_data.shards.formats.files import Encoded, IndexEntry, Level, name_by_split, no_index, refusing_damage
from chameleon_data.shards.rows import ROW_OVERHEAD, check_stored_schema, conform, equal_byte_bounds, schema_of, stored_schema

RECORD_BATCH_BYTES = 4 * 2**20

WRITER: dict[str, Any] = {
    "format": "arrow",
    "pyarrow": pa.__version__,
    "batch": f"equal bytes, at most {RECORD_BATCH_BYTES}, {ROW_OVERHEAD} a row",
}

index = no_index


def names(number: int, count: int, split: str, level: Level) -> tuple[str, ...]:
    return (name_by_split(number, count, split, ".arrow"),)


def encode(table: pa.Table, number: int, count: int, split: str, level: Level) -> Encoded:
    """One file. InputError for a text of 2 GiB."""
    rows = conform(table)
    schema = stored_schema(rows.schema)
    codec = pa.Codec("zstd", compression_level=level) if level else None
    sink = pa.BufferOutputStream()
    try:
        with pa.ipc.new_file(sink, schema, options=pa.ipc.IpcWriteOptions(compression=codec, use_threads=False)) as writer:
            for begin, end in pairwise(equal_byte_bounds(rows, RECORD_BATCH_BYTES)):
                writer.write_table(rows.slice(begin, end - begin).cast(schema).combine_chunks())
    except pa.ArrowInvalid as error:
        raise InputError(f"a text is too long for Arrow's plain strings ({error}); lower 'input.max_document'") from error
    (name,) = names(number, count, split, level)
    return Encoded({name: sink.getvalue()}, {})


def decode(files: Mapping[str, pa.Buffer | bytes], where: str) -> tuple[pa.Table, IndexEntry]:
    """The rows, once every offset and character in them was checked."""
    (data,) = files.values()
    with refusing_damage(where, "Arrow file"):
        with pa.ipc.open_file(pa.BufferReader(data), options=pa.ipc.IpcReadOptions(use_threads=False)) as reader:
            check_stored_schema(reader.schema, metadata=True)
            table = reader.read_all()
        table.validate(full=True)
        return conform(table) if table.num_rows else schema_of(table.schema).empty_table(), {}
