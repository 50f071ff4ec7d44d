"""Texts, or token ids as bytes, that lie in any number of buffers and are brought into any order by one copy.

A body is a place: its buffer, its first byte, its bytes. `gather` joins the bodies at some places to one Arrow array. It makes
Arrow's own views of them (`binary_view`) and casts these to a plain array, which Arrow does at 5 GB/s for bodies of 5 kB and at 3
for bodies of 100 bytes. Why: docs/decisions/043-kept-rows.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from chameleon_data.arrays import I64, byte_lengths, string_offsets

INLINE_BYTES = 12
"""A view holds a body of so many bytes itself, after its length."""
LARGEST_VIEW = 2**31 - 1
"""Bytes of a body that a view can refer to. Bodies are joined in Python where one is larger."""
WINDOW_BYTES = 2**30
"""A view says where a body begins in 31 bits, so a larger buffer counts as several that begin so far apart."""


@dataclass(frozen=True)
class Bodies:
    """Where bodies lie; nothing is copied."""

    buffers: tuple[pa.Buffer, ...]
    buffer: I64
    """(rows,) index into `buffers`."""
    begin: I64
    """(rows,) first byte in its buffer."""
    size: I64
    """(rows,) bytes."""

    @classmethod
    def of(cls, values: pa.LargeStringArray | pa.LargeBinaryArray) -> Bodies:
        """The values of an array without nulls."""
        data = values.buffers()[2]
        return cls(
            (data or pa.py_buffer(b""),), np.zeros(len(values), np.int64), string_offsets(values)[:-1], byte_lengths(values)
        )

    @classmethod
    def concatenate(cls, several: Sequence[Bodies]) -> Bodies:
        """All of them, one after the other."""
        counts = [len(one.buffers) for one in several]
        before = np.cumsum([0, *counts])
        return cls(
            tuple(buffer for one in several for buffer in one.buffers),
            np.concatenate([np.zeros(0, np.int64), *(one.buffer + n for one, n in zip(several, before.tolist(), strict=False))]),
            np.concatenate([np.zeros(0, np.int64), *(one.begin for one in several)]),
            np.concatenate([np.zeros(0, np.int64), *(one.size for one in several)]),
        )

    def take(self, rows: I64) -> Bodies:
        """The places of these rows."""
        return Bodies(self.buffers, self.buffer[rows], self.begin[rows], self.size[rows])

    def gather(self) -> pa.LargeBinaryArray:
        """The bodies themselves, in this order."""
        if self.size.max(initial=0) > LARGEST_VIEW:
            data = [memoryview(buffer) for buffer in self.buffers]
            places = zip(self.buffer.tolist(), self.begin.tolist(), (self.begin + self.size).tolist(), strict=True)
            offsets = pa.py_buffer(np.append(0, np.cumsum(self.size)))
            joined = pa.py_buffer(b"".join([data[buffer][begin:end] for buffer, begin, end in places]))
            return pa.Array.from_buffers(pa.large_binary(), len(self.size), [None, offsets, joined])
        views = np.zeros((len(self.size), 4), np.int32)  # length; four first bytes, which a cast does not read; buffer; begin
        counts = np.array([max(1, -(-buffer.size // WINDOW_BYTES)) for buffer in self.buffers], np.int64)
        views[:, 0] = self.size
        views[:, 2] = (np.cumsum(counts) - counts)[self.buffer] + self.begin // WINDOW_BYTES if len(counts) else 0
        views[:, 3] = self.begin % WINDOW_BYTES
        short = np.flatnonzero(self.size <= INLINE_BYTES)
        if len(short):
            views.view(np.uint8)[short, 4:] = self._inline(short)
        windows = [
            b.slice(n * WINDOW_BYTES) for b, count in zip(self.buffers, counts.tolist(), strict=True) for n in range(count)
        ]
        array = pa.Array.from_buffers(pa.binary_view(), len(views), [None, pa.py_buffer(views), *windows])
        return array.cast(pa.large_binary())

    def _inline(self, rows: I64) -> npt.NDArray[Any]:
        """(rows, INLINE_BYTES) the bytes of short bodies, zeros behind them."""
        place = np.arange(INLINE_BYTES)
        found = np.zeros((len(rows), INLINE_BYTES), np.uint8)
        for buffer in np.unique(self.buffer[rows]).tolist():
            of_buffer = np.flatnonzero(self.buffer[rows] == buffer)
            here, data = rows[of_buffer], np.frombuffer(self.buffers[buffer], np.uint8)
            if len(data):
                found[of_buffer] = data[np.minimum(self.begin[here, None] + place, len(data) - 1)]
        found[place >= self.size[rows, None]] = 0
        return found
