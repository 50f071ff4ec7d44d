r"""The bytes of a text file: decompressed, in chunks, in lines.

Only \n ends a line. A line that is longer than allowed is never held whole. A compressed stream that ends before its last frame
does is an error, and so is whatever follows its end, but for zeros that pad gzip, bz2 or xz.
Why: docs/decisions/020-reading-lines.md, docs/decisions/120-what-follows-an-end.md.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from typing import BinaryIO

import pyarrow as pa

from chameleon_data.corpus.content import COMPRESSIONS, PEEKED_BYTES, START_BYTES, name_content
from chameleon_data.corpus.fragments import Fragment
from chameleon_data.corpus.unpack import UNPACKING_ERRORS, ByteStream, unpack
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


def open_stream(file: BinaryIO, fragment: Fragment) -> ByteStream:
    """A stream of the file's content. Raises InputError where the first bytes are not what the name says, and where what is
    unpacked is packed again.

    Reading the stream raises at a frame that does not end, at bytes behind the last one, and at a zstd window above 128 MiB.
    Frames and members that follow each other are joined.
    """
    packed, url = fragment.compression, fragment.url
    start = file.read(START_BYTES if packed == "none" else PEEKED_BYTES)
    file.seek(0)
    content = name_content(start)
    if packed == "none":
        if content:
            raise InputError(f"{url}: holds {content}, which its name does not say; {_remedy(content)}")
        plain: ByteStream = pa.PythonFile(file, "r")
        return plain
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
    return unpack(file, url, packed)


def _remedy(content: str) -> str:
    """What to do with a file of text that holds this."""
    if content == "UTF-16":
        return "write it again as UTF-8"
    return "rename it" if content in (*COMPRESSIONS, "Parquet", "Arrow") else "unpack it, or leave it out"


def read_chunks(stream: ByteStream) -> Iterator[bytes]:
    while chunk := stream.read(READ_BYTES):
        yield chunk


def split_lines(chunks: Iterable[bytes], longest: int) -> Iterator[tuple[int, list[bytes | None]]]:
    r"""Runs of lines, each with the number of its first line. A line of more than `longest` bytes is None.

    U+2028 and \x85 end no line. A byte order mark at the start is left out.
    """
    number = 0
    held: list[bytes] = []  # the start of a line whose end was not read yet
    size = 0
    for chunk in chain(chunks, [b"\n"]):
        *whole, tail = chunk.split(b"\n")
        if whole:
            size += len(whole[0])
            lines: list[bytes | None] = [*whole]
            lines[0] = b"".join([*held, whole[0]]) if size <= longest else None
            if len(chunk) > longest:
                lines = [None if line is None or len(line) > longest else line for line in lines]
            yield number, _without_mark(lines) if number == 0 else lines
            number += len(lines)
            held, size = [], 0
        size += len(tail)
        if size > longest:
            held = []
        elif tail:
            held.append(tail)


def _without_mark(lines: list[bytes | None]) -> list[bytes | None]:
    first = lines[0]
    return lines if first is None else [first.removeprefix(BYTE_ORDER_MARK), *lines[1:]]
