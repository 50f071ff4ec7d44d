"""A shard as one Parquet file, which any reader of tables opens.

The bytes are a function of the rows alone. Row groups hold about equal bytes, 8 to 16 MiB each: with B bytes in all, the file has
G = ceil(B / 16 MiB) groups, and group g ends before the first row that starts at or after B (g + 1) / G. Pages carry checksums.
The Arrow schema is stored only with rows of tokens, because it alone says that all have one length.
Why: docs/decisions/032-parquet-row-groups-and-statistics.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from chameleon_data.shards.formats.files import Encoded, IndexEntry, Level, name_by_split, no_index, refusing_damage
from chameleon_data.shards.rows import ROW_OVERHEAD, check_stored_schema, conform, equal_byte_bounds, is_sequences, kept_names

ROW_GROUP_BYTES = 16 * 2**20

WRITER: dict[str, Any] = {
    "format": "parquet",
    "pyarrow": pa.__version__,
    "parquet": "2.6",
    "row_group": f"equal bytes, at most {ROW_GROUP_BYTES}, {ROW_OVERHEAD} a row",
}

index = no_index


def names(number: int, count: int, split: str, level: Level) -> tuple[str, ...]:
    return (name_by_split(number, count, split, ".parquet"),)


def encode(table: pa.Table, number: int, count: int, split: str, level: Level) -> Encoded:
    """One file. The same rows give the same bytes, however they are chunked."""
    rows = conform(table)
    bounds = equal_byte_bounds(rows, ROW_GROUP_BYTES)
    (name,) = names(number, count, split, level)
    return Encoded({name: encode_table(rows, bounds, level, is_sequences(rows.schema))}, {})


def encode_table(rows: pa.Table, bounds: Iterable[Any], level: Level, typed: bool = False) -> pa.Buffer:
    """A file of these rows, with a row group between each two of `bounds`. `typed` stores the Arrow schema."""
    sink = pa.BufferOutputStream()
    kept = kept_names(rows.schema)
    with pq.ParquetWriter(
        sink,
        rows.schema,
        version="2.6",
        compression="zstd" if level else "none",
        compression_level=level,
        use_dictionary=["domain", "domain_id", "epoch", *kept],
        write_statistics=["domain", "domain_id", "doc_id", "epoch", "tokens", *kept],
        write_page_checksum=True,
        store_schema=typed,
    ) as writer:
        for begin, end in pairwise(bounds):
            writer.write_table(rows.slice(begin, end - begin), row_group_size=int(end - begin))
    return sink.getvalue()


def decode(files: Mapping[str, pa.Buffer | bytes], where: str) -> tuple[pa.Table, IndexEntry]:
    """Page checksums are verified."""
    (data,) = files.values()
    with refusing_damage(where, "Parquet file"):
        return conform(decode_table(data, check_stored_schema)), {}


def decode_table(data: pa.Buffer | bytes, check: Callable[[pa.Schema], None]) -> pa.Table:
    """What `encode_table` stored. `check` takes the schema, before any row is read, and raises ValueError where it is wrong."""
    with pq.ParquetFile(pa.BufferReader(data), pre_buffer=False, page_checksum_verification=True) as file:
        check(file.schema_arrow.remove_metadata())
        return file.read(use_threads=False)
