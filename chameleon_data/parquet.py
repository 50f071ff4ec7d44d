"""A shard as one Parquet file: what any reader of tables opens, without a word of ours.

The bytes are a function of the rows alone. Row groups hold about equal bytes, 8 to 16 MiB each: with total bytes B the
file has G = ceil(B / 16 MiB) groups, and group g ends before the first row that starts at or after B (g + 1) / G. Rows
are not counted, because a thousand rows are 200 kB of one domain and 90 MB of another. Pages carry checksums.

Three choices were measured on 43 MB of ten real domains. Statistics of the text column make the footer four times as
long (14.7 instead of 3.4 kB for 7 groups), put the openings of documents into it in the clear, and prune nothing: off.
The Arrow schema is not stored, so every reader sees plain strings, not 64-bit ones. Level 3 of zstd: 220 MB/s and
14.3 MB; level 6 saves 7 % for 2.5 times the time.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from chameleon_data.errors import InputError

SCHEMA = pa.schema(
    [
        ("text", pa.large_string()),
        ("domain", pa.string()),
        ("doc_id", pa.string()),
        ("epoch", pa.uint32()),
        ("tokens", pa.uint32()),
    ]
)
"""A row of a shard, of either format. `doc_id` is the document's hash as 32 hexadecimal digits; epochs count from 0."""

Compression = Literal["zstd", "none"]

LEVEL = 3
ROW_GROUP = 16 * 2**20
ROW_OVERHEAD = 64  # bytes a row counts beside its text, so that a million empty-ish rows are more than one group

WRITER = {
    "format": "parquet",
    "pyarrow": pa.__version__,
    "parquet": "2.6",
    "level": LEVEL,
    "row_group": f"equal bytes, at most {ROW_GROUP}, {ROW_OVERHEAD} a row",
}
"""Together with the compression, all that decides the bytes beside the rows; part of the plan digest."""


def shard_name(number: int, count: int, split: str = "train") -> str:
    """The file name of one shard of `count`. Sorts in order, and Hugging Face `datasets` reads the split's name from it."""
    return f"{split}-{number:0{max(5, len(str(count - 1)))}}-of-{count:05}.parquet"


def conform(table: pa.Table) -> pa.Table:
    """The table with the columns of SCHEMA, at most one chunk each, no metadata. ValueError on other columns and on nulls."""
    if set(table.column_names) != set(SCHEMA.names):
        raise ValueError(f"a shard has the columns {SCHEMA.names}, not {table.column_names}")
    rows = table.select(SCHEMA.names).cast(SCHEMA)
    nulls = [name for name in SCHEMA.names if rows[name].null_count]
    if nulls:
        raise ValueError(f"nulls in the column {nulls[0]!r}; a shard has none")
    return rows.combine_chunks()


def encode(table: pa.Table, compression: Compression, level: int = LEVEL) -> pa.Buffer:
    """One Parquet file of these rows in this order. The same rows give the same bytes, however they are chunked."""
    rows = conform(table)
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        SCHEMA,
        version="2.6",
        compression=compression,
        compression_level=level if compression == "zstd" else None,
        use_dictionary=["domain", "epoch"],
        write_statistics=["domain", "doc_id", "epoch", "tokens"],
        write_page_checksum=True,
        store_schema=False,
    ) as writer:
        bounds = row_groups(rows)
        for begin, end in pairwise(bounds):
            writer.write_table(rows.slice(begin, end - begin), row_group_size=int(end - begin))
    return sink.getvalue()


def row_groups(rows: pa.Table) -> npt.NDArray[np.int64]:
    """Row numbers where groups begin, and the number of rows at the end. No group is empty."""
    sizes = pc.binary_length(rows["text"]).to_numpy().astype(np.int64) + ROW_OVERHEAD
    starts = np.cumsum(sizes) - sizes
    total = int(sizes.sum())
    groups = -(-total // ROW_GROUP)
    cuts = np.array([total * g // groups for g in range(groups)], np.int64)
    return np.unique(np.append(np.searchsorted(starts, cuts), len(sizes)))


def decode(data: pa.Buffer | bytes, name: str = "shard") -> pa.Table:
    """The rows of a stored shard, page checksums verified. InputError on damage and on any other schema."""
    try:
        with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as file:
            found: Any = file.schema_arrow
            if found.names != SCHEMA.names or found.types != _STORED:  # before any row is read: a schema can be hostile
                raise InputError(f"{name}: this is not a shard of ours, its columns are {found.names}; build it again")
            return file.read(use_threads=False).cast(SCHEMA)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{name}: damaged Parquet file ({error}); restore it from a copy or build it again") from error


_STORED = [pa.string() if field.type == pa.large_string() else field.type for field in SCHEMA]
