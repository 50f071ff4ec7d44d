"""A remote file that is read from first to last: while one block of it is parsed, the next is on its way.

One thread fetches one block, so memory is two blocks. Nothing is fetched ahead behind the end of the stretch that is read, and
what follows it, to the end of a line, comes in smaller blocks. An error of the thread is raised by the read that needs its block,
as if that had fetched it. Why: docs/decisions/154-reading-ahead.md.
"""

from __future__ import annotations

import io
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import BinaryIO

AHEAD_BYTES = 8 * 2**20
"""Bytes of a block."""
BEHIND_BYTES = 2**20
"""Bytes of a block behind the end of the stretch."""


class ReadAhead(io.RawIOBase):
    """Takes over `file`, whose every read is a request, and closes it."""

    def __init__(self, file: BinaryIO, size: int, end: int | None) -> None:
        """`size` is the file's; the stretch ends at `end`, or with the file."""
        self._file, self._size, self._end = file, size, size if end is None else end
        self._at = self._begin = 0
        self._block = b""
        """What begins at `_begin`."""
        self._thread = ThreadPoolExecutor(1)
        self._coming: tuple[int, Future[bytes]] | None = None
        """Where the block begins that is on its way, and the block."""

    def read(self, size: int = -1) -> bytes:
        """So many bytes, or fewer at the end of the file."""
        left = self._size - self._at if size < 0 else min(size, self._size - self._at)
        parts = []
        while left > 0:
            if not self._begin <= self._at < self._begin + len(self._block):
                self._take_block()
            start = self._at - self._begin
            data = self._block[start : start + left]
            if not data:
                break
            parts.append(data)
            self._at += len(data)
            left -= len(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _take_block(self) -> None:
        """Let the block be the one that begins here, and fetch the one behind it."""
        begin, coming = self._coming or (-1, None)
        self._coming = None
        if coming is not None and begin == self._at:
            block = coming.result()
        else:
            wait([coming] if coming else [])  # two threads must not read the file at once
            block = self._fetch(self._at)
        self._begin, self._block = self._at, block
        behind = self._begin + len(block)
        if block and behind < self._end:
            self._coming = behind, self._thread.submit(self._fetch, behind)

    def _fetch(self, begin: int) -> bytes:
        end = min(begin + AHEAD_BYTES, max(self._end, begin + BEHIND_BYTES), self._size)
        self._file.seek(begin)
        return self._file.read(end - begin)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        if not self.closed:
            self._thread.shutdown(cancel_futures=True)
            self._file.close()
        super().close()
