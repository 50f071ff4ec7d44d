"""Parquet, one row group at a time. Page checksums are verified where the file has them.

700 MB of text a second on one core. Memory is a batch of about 2 MiB and the page it comes from, whatever the row group's size.
Why: docs/decisions/022-columns-in-small-batches.md.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from chameleon_data.corpus.fragments import Fragment
from chameleon_data.corpus.readers.columns import BATCH_ROWS, READ_BATCH_BYTES, find_columns, rows_of_batch
from chameleon_data.corpus.readers.rows import Columns, RawRows
from chameleon_data.errors import InputError

LARGEST_EXPANDED_BATCH = 2**26
"""Bytes that a batch may take where the file stores repeated values once."""


class _GateShutError(Exception):
    """A page is read while the gate is shut."""


class _Gate(io.RawIOBase):
    """A file of which, while it is shut, nothing can be read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.shut = False

    def read(self, size: int = -1) -> bytes:
        if self.shut:
            raise _GateShutError
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def read_parquet(file: BinaryIO, fragment: Fragment, wanted: Columns, vectors: str | None, longest: int) -> Iterator[RawRows]:
    """The rows of the fragment's row groups."""
    gate = _Gate(file)
    opened = pq.ParquetFile(
        gate,
        pre_buffer=False,  # it would hold the whole row group
        buffer_size=2**16,
        page_checksum_verification=True,
        arrow_extensions_enabled=False,
    )
    paths = find_columns(opened.schema_arrow, wanted, fragment, vectors)
    columns = list(dict.fromkeys(".".join(path) for path in paths))
    groups = range(opened.metadata.num_row_groups)
    number = 0
    for at in groups[fragment.begin : fragment.end]:
        how: dict[str, Any] = {"row_groups": [at], "columns": columns}
        # A damaged footer raises here, before a page is read; `row_group(at).column(i)` would abort the process.
        gate.shut = True
        with suppress(_GateShutError):
            next(opened.iter_batches(1, use_threads=False, **how), None)
        gate.shut = False
        if at == groups[-1]:
            _refuse_files_in_one(file, opened, fragment.url)
        group = opened.metadata.row_group(at)
        rows = READ_BATCH_BYTES * group.num_rows // max(group.total_byte_size, 1)
        most = LARGEST_EXPANDED_BATCH // _longest_shared_string(file, opened, at, columns)
        for batch in opened.iter_batches(max(1, min(rows, most, BATCH_ROWS)), use_threads=False, **how):
            yield from rows_of_batch(batch, paths, wanted, number, vectors is not None, longest)
            number += batch.num_rows


def _refuse_files_in_one(file: BinaryIO, opened: pq.ParquetFile, url: str) -> None:
    """Raise InputError where another Parquet file ends before this one begins: the footer knows nothing of its rows.

    Bytes that no row group has, in front of the footer, are indexes and filters, or as many as the files before this one have.
    """
    group = opened.metadata.row_group(opened.metadata.num_row_groups - 1)
    columns = [group.column(i) for i in range(group.num_columns)]
    ends = [
        min(at for at in (c.dictionary_page_offset, c.data_page_offset) if at is not None) + c.total_compressed_size
        for c in columns
    ]
    size = file.seek(0, io.SEEK_END)
    file.seek(size - 8)
    footer_at = size - 8 - int.from_bytes(file.read(4), "little")
    unlisted = footer_at - max(ends, default=footer_at)
    file.seek(0)
    if unlisted > 0 and b"PAR1PAR1" in file.read(unlisted + 8):
        raise InputError(f"{url}: holds several Parquet files, as where `cat` joined them; give each its own file")


def _longest_shared_string(file: BinaryIO, opened: pq.ParquetFile, group: int, columns: list[str]) -> int:
    """Most bytes of a string that a row group may store once for many rows; at least 1.

    No string is longer than its dictionary page or, where values share beginnings with the values before, than the column.
    """
    longest = 1
    for i in range(opened.metadata.num_columns):
        column = opened.schema.column(i)
        if column.physical_type != "BYTE_ARRAY" or column.path not in columns:
            continue
        if pa.types.is_dictionary(opened.schema_arrow.field(column.path.split(".")[0]).type):
            continue  # read as a dictionary, so nothing is repeated yet
        chunk = opened.metadata.row_group(group).column(i)
        file.seek(min(at for at in (chunk.dictionary_page_offset, chunk.data_page_offset) if at is not None))
        head = file.read(8)  # Thrift's compact protocol: field 1, type 2 (a dictionary); field 2, bytes uncompressed, as a varint
        if head[:3] == b"\x15\x04\x15":
            longest = max(longest, sum((byte & 127) << 7 * k for k, byte in enumerate(_varint(head[3:]))) >> 1)
        elif {"PLAIN_DICTIONARY", "RLE_DICTIONARY", "DELTA_BYTE_ARRAY"} & set(chunk.encodings):
            longest = max(longest, chunk.total_uncompressed_size)
    return longest


def _varint(data: bytes) -> bytes:
    """The bytes of the number at the start."""
    end = next((k for k, byte in enumerate(data) if byte < 128), len(data) - 1)
    return data[: end + 1]
