"""Checks the headers of a Parquet file's pages on their way to pyarrow, which makes buffers as large as they say.

No checksum covers a header, and one damaged byte of it can ask for 2 GiB. The footer says how long a column chunk is, as stored
and as it is read, and chunks are read from start to end. So the bytes that pass are followed from header to header (Thrift's
compact protocol). A header that asks for more than its chunk has is refused before pyarrow sees it. No byte is read twice.

Measured: 215 MB of text in pages of 1 MiB take .51 to .62 s of zstd and .29 to .32 s uncompressed, with it as without it.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa

LARGEST_PAGE_HEADER = 2**24
"""Most bytes of a header; pyarrow has the same limit."""
BELIEVED_PAGE_BYTES = 2**26
"""Bytes of a page that are believed whatever the footer says: some writers give a wrong size where pages are compressed."""
CHUNK_SLACK_BYTES = 100
"""Bytes that a chunk may be longer than the footer says: old writers did not count the header of a dictionary."""
MOST_NESTED_STRUCTURES = 8
"""Depth of structures that is followed in a header; 2 is in use."""


class UnwatchedReadError(Exception):
    """A page is read before it is known where the pages are."""


@dataclass
class ColumnChunk:
    """A column's bytes in a row group."""

    start: int
    end: int
    expanded: int
    """Bytes of its longest page, uncompressed."""
    next: int
    """Byte at which the next header begins."""
    held: bytes = b""
    """The beginning of that header, where a read ended inside it."""


def column_chunk(column: Any) -> ColumnChunk:
    """The chunk that a pq.ColumnChunkMetaData describes."""
    start = min(at for at in (column.dictionary_page_offset, column.data_page_offset) if at)
    return ColumnChunk(
        start,
        start + column.total_compressed_size + CHUNK_SLACK_BYTES,
        max(column.total_uncompressed_size, BELIEVED_PAGE_BYTES),
        start,
    )


class WatchedFile(io.RawIOBase):
    """A file that checks the pages of `chunks` as they are read. While `chunks` is None, reading raises UnwatchedReadError."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.chunks: Sequence[ColumnChunk] | None = ()

    def read(self, size: int = -1) -> bytes:
        if self.chunks is None:
            raise UnwatchedReadError
        at = self.file.tell()
        data = self.file.read(size)
        for chunk in self.chunks:
            if chunk.start <= at < chunk.end and at <= chunk.next + len(chunk.held) < at + len(data):
                _follow(chunk, data, at)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def _follow(chunk: ColumnChunk, data: bytes, at: int) -> None:
    """Check the headers in `data`, which was read at byte `at`."""
    if chunk.held:
        data, at = chunk.held + data[chunk.next + len(chunk.held) - at :], chunk.next
        chunk.held = b""
    end = min(at + len(data), chunk.end - CHUNK_SLACK_BYTES)
    while chunk.next < end:
        begin = chunk.next - at
        try:
            size, fields = _struct(data, begin, 0)
        except IndexError:
            if at + len(data) - chunk.next > LARGEST_PAGE_HEADER:
                raise pa.ArrowInvalid(f"a page's header at byte {chunk.next:,} does not end") from None
            chunk.held = data[begin:]
            return
        expanded, stored, dictionary = fields.get(2), fields.get(3), fields.get(7)
        if type(expanded) is not int or type(stored) is not int:
            raise pa.ArrowInvalid(f"no page's header at byte {chunk.next:,}")
        after = at + size + stored
        if stored < 0 or after > chunk.end or not 0 <= expanded <= chunk.expanded:
            raise pa.ArrowInvalid(f"the page at byte {chunk.next:,} says {max(expanded, stored):,} bytes; its column has fewer")
        values = dictionary.get(1) if dictionary else 0
        if type(values) is not int or not 0 <= values <= expanded:  # there is a buffer of 16 bytes for each
            raise pa.ArrowInvalid(f"the dictionary at byte {chunk.next:,} says {values} values in {expanded:,} bytes")
        chunk.next = after


def _struct(data: bytes, at: int, depth: int) -> tuple[int, dict[int, Any]]:
    """The end of the structure that begins at `at`, and its fields by number. IndexError where the data ends before it."""
    if depth > MOST_NESTED_STRUCTURES:
        raise pa.ArrowInvalid("a page's header is no header")
    found: dict[int, Any] = {}
    number = 0
    while head := data[at]:
        at += 1
        if head >> 4:
            number += head >> 4
        else:
            at, number = _integer(data, at)
        kind = head & 15
        if kind > 2:  # 1 and 2 are the values true and false
            at, found[number] = _value(data, at, kind, depth)
    return at + 1, found


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[int, Any]:
    if 4 <= kind <= 6:
        return _integer(data, at)
    if kind == 12:
        return _struct(data, at, depth + 1)
    if kind == 8:
        at, size = _unsigned(data, at)
        return _within(data, at + size), None
    if kind in (1, 2, 3, 7):
        return _within(data, at + (8 if kind == 7 else 1)), None
    if kind in (9, 10):
        head, at = data[at], at + 1
        count, kind = head >> 4, head & 15
        if count == 15:
            at, count = _unsigned(data, at)
        for _ in range(count):
            at, _value_of = _value(data, at, kind, depth + 1)
        return at, None
    raise pa.ArrowInvalid("a page's header is no header")  # nor has any a map


def _within(data: bytes, at: int) -> int:
    if at > len(data):
        raise IndexError
    return at


def _integer(data: bytes, at: int) -> tuple[int, int]:
    at, number = _unsigned(data, at)
    return at, number >> 1 ^ -(number & 1)


def _unsigned(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while (byte := data[at]) > 127:
        number |= (byte & 127) << shift
        shift += 7
        at += 1
        if shift > 63:
            raise pa.ArrowInvalid("a page's header is no header")
    return at + 1, number | byte << shift
