r"""The bytes of a text file: decompressed, in chunks, in lines.

Only \n ends a line. A line that is longer than allowed is never held whole. A compressed stream that ends before its last frame
does is an error, and so is whatever follows its end, but for zeros that pad gzip, bz2 or xz.
Why: docs/decisions/020-reading-lines.md, docs/decisions/120-what-follows-an-end.md.
"""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from typing import Any, BinaryIO, Protocol

import pyarrow as pa

from chameleon_data.corpus.content import COMPRESSIONS, START_BYTES, name_content
from chameleon_data.corpus.fragments import Fragment
from chameleon_data.errors import InputError

READ_BYTES = 2**17
"""Bytes of one read. So few stay in the processor's cache."""
PACKED_BYTES = 2**15
"""Bytes of one read of a file of gzip, bz2 or xz; zlib copies what it did not come to."""
LARGEST_XZ = 2**28
"""Bytes that xz may take: its highest level takes 65 MiB, and a hostile file asks for 4 GiB."""
SHORTEST_START = 10
"""Bytes with which every compressed file can be told."""
PEEKED_BYTES = 2**14
"""Bytes that are looked at beforehand, to see what a file holds."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class ByteStream(Protocol):
    """Bytes to read from the beginning to the end."""

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end."""


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


class _Members:
    """What a file of gzip, bz2 or xz holds, member after member. Zeros between and behind them are padding.

    Raises InputError for anything else between or behind them, and EOFError where the last one does not end.
    """

    def __init__(self, file: BinaryIO, url: str, compression: str) -> None:
        self._file, self._url, self._compression = file, url, compression
        self._member: Any = None
        """The decompressor of the member that is being read; None between members."""
        self._packed = b""
        """Bytes that were read of the file and are not decompressed yet."""
        self._full = False
        """Whether the decompressor may hold more than the last read asked for."""

    def read(self, size: int) -> bytes:
        while True:
            if not self._packed and not self._full:
                self._packed = self._file.read(PACKED_BYTES)
                if not self._packed and self._member is not None:
                    raise EOFError(f"Truncated {self._compression} stream")
            if self._member is None:
                if not self._packed:
                    return b""
                self._packed = self._packed.lstrip(b"\0")
                if not self._packed:
                    continue
                self._packed += self._file.read(START_BYTES)  # a member may begin with the last bytes of a read
                if name_content(self._packed) != self._compression:
                    at = self._file.tell() - len(self._packed)
                    raise InputError(
                        f"{self._url}: from byte {at:,} on, behind the end of its {self._compression} data, it holds something "
                        "else; cut that off, or compress the content again"
                    )
                self._member = _DECOMPRESSORS[self._compression]()
            data: bytes = self._member.decompress(self._packed, size)
            self._full = len(data) == size and not self._member.eof
            if self._member.eof:
                self._packed, self._member = self._member.unused_data, None
            else:
                self._packed = getattr(self._member, "unconsumed_tail", b"")
            if data:
                return data


_DECOMPRESSORS: dict[str, Callable[[], Any]] = {
    "gzip": lambda: zlib.decompressobj(wbits=31),
    "bz2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=LARGEST_XZ),
}


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
    with suppress(pa.ArrowException, OSError, EOFError, InputError, zlib.error, lzma.LZMAError):  # reading raises them again
        inside = name_content(_unpack(io.BytesIO(start), url, packed).read(START_BYTES))
    if inside:
        again = f"{inside} again" if inside == packed else f"{inside} inside {packed}"
        raise InputError(f"{url}: holds {again}; {'unpack it once' if inside in COMPRESSIONS else _remedy(inside)}")
    return _unpack(file, url, packed)


def _unpack(file: BinaryIO, url: str, compression: str) -> ByteStream:
    if compression == "zstd":
        frames: ByteStream = pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd")
        return frames
    return _Members(file, url, compression)


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
