"""A shard as one Parquet file: what any reader of tables opens, without a word of ours.

The bytes are a function of the rows alone. Row groups hold about equal bytes, 8 to 16 MiB each: with total bytes B the
file has G = ceil(B / 16 MiB) groups, and group g ends before the first row that starts at or after B (g + 1) / G. Rows
are not counted, because a thousand rows are 200 kB of one domain and 90 MB of another. Pages carry checksums.

Three choices were measured on 43 MB of ten real domains. Statistics of the text column make the footer four times as
long (14.7 instead of 3.4 kB for 7 groups), put the openings of documents into it in the clear, and prune nothing: off.
The Arrow schema is not stored, so every reader sees plain strings, not 64-bit ones. Level 3 of zstd: 220 MB/s and
14.3 MB; level 6 saves 7 % for 2.5 times the time. Rows of tokens do store it: it alone says that all have one length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from chameleon_data.errors import InputError
from chameleon_data.shards.formats.zstd import LEVEL
from chameleon_data.shards.rows import (
    ROW_OVERHEAD,
    Compression,
    Encoded,
    conform,
    equal_byte_bounds,
    is_sequences,
    schema_of,
    stored_schema,
)

ROW_GROUP_BYTES = 16 * 2**20

WRITER: dict[str, Any] = {
    "format": "parquet",
    "pyarrow": pa.__version__,
    "parquet": "2.6",
    "level": LEVEL,
    "row_group": f"equal bytes, at most {ROW_GROUP_BYTES}, {ROW_OVERHEAD} a row",
}
"""Together with the compression, all that decides the bytes beside the rows; part of the plan digest."""


def names(number: int, count: int, split: str, compression: Compression) -> tuple[str, ...]:
    """Hugging Face `datasets` reads the split's name from the file's."""
    return (f"{split}-{number:0{max(5, len(str(count - 1)))}}-of-{count:05}.parquet",)


def encode(table: pa.Table, number: int, count: int, split: str, compression: Compression) -> Encoded:
    """One file. The same rows give the same bytes, however they are chunked."""
    rows = conform(table)
    (name,) = names(number, count, split, compression)
    return Encoded({name: encode_table(rows, row_groups(rows), compression, is_sequences(rows.schema))}, {})


def encode_table(rows: pa.Table, bounds: Iterable[Any], compression: Compression, typed: bool = False) -> pa.Buffer:
    """A file of these rows, with a group between each two of `bounds`. `typed` stores the Arrow schema."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        rows.schema,
        version="2.6",
        compression=compression,
        compression_level=LEVEL if compression == "zstd" else None,
        use_dictionary=["domain", "epoch"],
        write_statistics=["domain", "doc_id", "epoch", "tokens"],
        write_page_checksum=True,
        store_schema=typed,
    ) as writer:
        for begin, end in pairwise(bounds):
            writer.write_table(rows.slice(begin, end - begin), row_group_size=int(end - begin))
    return sink.getvalue()


def row_groups(rows: pa.Table) -> npt.NDArray[np.int64]:
    """Row numbers where groups begin, and the number of rows at the end."""
    return equal_byte_bounds(rows, ROW_GROUP_BYTES)


def decode(files: Mapping[str, pa.Buffer | bytes], where: str) -> tuple[pa.Table, dict[str, Any]]:
    """Page checksums are verified. InputError on damage and on any other schema."""
    (data,) = files.values()
    try:
        return conform(decode_table(data, where, lambda found: stored_schema(schema_of(found)))), {}
    except InputError:
        raise
    except ValueError as error:
        raise _damaged(where, error) from error


def decode_table(data: pa.Buffer | bytes, where: str, expected: Callable[[pa.Schema], pa.Schema]) -> pa.Table:
    """What `encode_table` stored, where the columns are those that `expected` says of what is found. InputError otherwise."""
    try:
        with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as file:
            found: Any = file.schema_arrow
            if not found.remove_metadata().equals(expected(found)):  # before any row is read, since a schema can be hostile
                raise InputError(f"{where}: this is not a shard of ours, its columns are {found.names}; build it again")
            return file.read(use_threads=False)
    except InputError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(where, error) from error


def _damaged(where: str, error: Exception) -> InputError:
    return InputError(f"{where}: damaged Parquet file ({error}); restore it from a copy or build it again")


def index(split: str, entries: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
    """None: the names say it all."""
    return {}
