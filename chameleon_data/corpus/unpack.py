"""Unpacks what is compressed, to its very end: no library's own file does, as they leave out what follows.

Why: docs/decisions/120-what-follows-an-end.md.
"""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO, Protocol

import pyarrow as pa

from chameleon_data.corpus.content import START_BYTES, name_content
from chameleon_data.errors import InputError

PACKED_BYTES = 2**15
"""Bytes of one read of a file of gzip, bz2 or xz; zlib copies what it did not come to."""
LARGEST_XZ = 2**28
"""Bytes that xz may take: its highest level takes 65 MiB, and a hostile file asks for 4 GiB."""
UNPACKING_ERRORS = (pa.ArrowException, OSError, EOFError, InputError, zlib.error, lzma.LZMAError)
"""What reading a file raises that is damaged."""


class ByteStream(Protocol):
    """Bytes to read from the beginning to the end."""

    def read(self, size: int) -> bytes:
        """Read at most `size` bytes; the answer is empty at the end."""


class FileStretch(io.RawIOBase):
    """Some stored bytes of a file, to read from first to last. To close it closes nothing else."""

    def __init__(self, file: BinaryIO, begin: int, end: int | None) -> None:
        self._file, self._at, self._end = file, begin, end
        file.seek(begin)

    def read(self, size: int = -1) -> bytes:
        if self._end is not None:
            left = self._end - self._at
            size = left if size < 0 else min(size, left)
        data = self._file.read(size)
        self._at += len(data)
        return data

    def tell(self) -> int:
        """Its place in the file."""
        return self._at

    def readable(self) -> bool:
        return True


def unpack(file: BinaryIO | FileStretch, url: str, compression: str) -> ByteStream:
    """What the file holds. Frames that follow each other are joined.

    Reading raises one of UNPACKING_ERRORS at a frame that does not end, at other bytes behind the last one, and at a zstd window
    above 128 MiB.
    """
    if compression == "zstd":
        frames: ByteStream = pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd")
        return frames
    return _Members(file, url, compression)


class _Members:
    """What a file of gzip, bz2 or xz holds, member after member. Zeros between and behind them are padding.

    Raises InputError for anything else between or behind them, and EOFError where the last one does not end.
    """

    def __init__(self, file: BinaryIO | FileStretch, url: str, compression: str) -> None:
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
