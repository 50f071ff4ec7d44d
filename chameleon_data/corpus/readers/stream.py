r"""The bytes of a text file: decompressed, in chunks, in lines.

Only \n ends a line. A line that is longer than allowed is never held whole. A compressed stream that ends before its last frame
does is an error, and so is whatever follows its end, but for zeros that pad gzip, bz2 or xz.
Why: docs/decisions/020-reading-lines.md, docs/decisions/120-what-follows-an-end.md.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import BinaryIO

from chameleon_data.corpus.content import COMPRESSIONS, OTHER_ENCODINGS, PEEKED_BYTES, START_BYTES, name_content
from chameleon_data.corpus.fragments import Fragment
from chameleon_data.corpus.unpack import UNPACKING_ERRORS, ByteStream, FileStretch, unpack
from chameleon_data.errors import InputError

READ_BYTES = 2**17
"""Bytes of one read. So few stay in the processor's cache."""
SHORTEST_START = 10
"""Bytes with which every compressed file can be told."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class PeekedStream:
    """A stream whose start is known."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        parts: list[bytes] = []
        while sum(map(len, parts)) < PEEKED_BYTES and (data := stream.read(PEEKED_BYTES)):
            parts.append(data)
        self.start = b"".join(parts)
        """Its first bytes, PEEKED_BYTES or more unless it is shorter."""
        self._at = 0

    def read(self, size: int) -> bytes:
        if self._at < len(self.start):
            self._at += size
            return self.start[self._at - size : self._at]
        return self._stream.read(size)


def read_fragment_chunks(file: BinaryIO, fragment: Fragment) -> Iterator[bytes]:
    """The lines of a stretch of a file, in chunks: those of `Fragment.end`. The last one may end behind the stretch."""
    begun = fragment.begin == 0
    for chunk in read_chunks(open_stream(file, fragment)):
        if begun:
            yield chunk
        elif at := chunk.find(b"\n") + 1:
            begun = True
            yield chunk[at:]
    if begun and fragment.end is not None:
        for chunk in read_chunks(_unpack_from(file, fragment, fragment.end, None)):
            at = chunk.find(b"\n") + 1
            yield chunk[:at] if at else chunk
            if at:
                return


def open_stream(file: BinaryIO, fragment: Fragment) -> ByteStream:
    """A stream of the fragment's content. Raises InputError where the first bytes of the file are not what the name says, and
    where what is unpacked is packed again.

    Reading the stream raises at a frame that does not end, at bytes behind the last one, and at a zstd window above 128 MiB.
    Frames and members that follow each other are joined.
    """
    if fragment.begin == 0:
        _check_start(file, fragment)
    return _unpack_from(file, fragment, fragment.begin, fragment.end)


def _unpack_from(file: BinaryIO, fragment: Fragment, begin: int, end: int | None) -> ByteStream:
    packed = FileStretch(file, begin, end)
    return packed if fragment.compression == "none" else unpack(packed, fragment.url, fragment.compression)


def _check_start(file: BinaryIO, fragment: Fragment) -> None:
    packed, url = fragment.compression, fragment.url
    start = file.read(START_BYTES if packed == "none" else PEEKED_BYTES)
    content = name_content(start)
    if packed == "none":
        if content:
            raise InputError(f"{url}: holds {content}, which its name does not say; {_remedy(content)}")
        return
    if content != packed and len(start) < SHORTEST_START:
        raise InputError(f"{url}: truncated ({len(start)} bytes in all); fetch it again")
    if content != packed:
        raise InputError(
            f"{url}: holds {content or 'no compressed data'}, not {packed} as its name says; rename it, or fetch it again"
        )
    inside = ""
    with suppress(*UNPACKING_ERRORS):  # reading raises them again
        inside = name_content(unpack(io.BytesIO(start), url, packed).read(START_BYTES))
    if inside:
        again = f"{inside} again" if inside == packed else f"{inside} inside {packed}"
        raise InputError(f"{url}: holds {again}; {'unpack it once' if inside in COMPRESSIONS else _remedy(inside)}")


def _remedy(content: str) -> str:
    """What to do with a file of text that holds this."""
    if content in OTHER_ENCODINGS:
        return "write it again as UTF-8"
    return "rename it" if content in (*COMPRESSIONS, "Parquet", "Arrow") else "unpack it, or leave it out"


def read_chunks(stream: ByteStream) -> Iterator[bytes]:
    while chunk := stream.read(READ_BYTES):
        yield chunk


def split_lines(chunks: Iterable[bytes], longest: int, start: bool = True) -> Iterator[tuple[int, list[bytes | None]]]:
    r"""Runs of lines, each with the number of its first line. A line holds its \n, which the last one of all may lack. One of
    more than `longest` bytes, \n not counted, is None.

    U+2028 and \x85 end no line. A byte order mark at the start of a file is left out; `start` says whether the chunks begin
    there.
    """
    number = 0
    held: list[bytes] = []  # the start of a line whose end was not read yet
    size = 0
    for chunk in chunks:
        lines: list[bytes | None] = [*io.BytesIO(chunk)]  # a quarter of the time that bytes.split takes
        tail = b"" if not chunk or chunk.endswith(b"\n") else lines.pop() or b""
        if lines:
            first = lines[0] or b""
            lines[0] = b"".join([*held, first]) if size + len(first) - 1 <= longest else None
            if len(chunk) > longest:
                lines = [None if line is None or len(line) - 1 > longest else line for line in lines]
            yield number, _without_mark(lines) if start and number == 0 else lines
            number += len(lines)
            held, size = [], 0
        size += len(tail)
        if size > longest:
            held = []
        elif tail:
            held.append(tail)
    if size:
        lines = [b"".join(held) if size <= longest else None]
        yield number, _without_mark(lines) if start and number == 0 else lines


def _without_mark(lines: list[bytes | None]) -> list[bytes | None]:
    first = lines[0]
    return lines if first is None else [first.removeprefix(BYTE_ORDER_MARK), *lines[1:]]
