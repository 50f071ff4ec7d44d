"""More rows with a hash than memory holds, taken again one range of hashes after the other: rows that are equal meet in one.

Rows go by the top bits of `lo` to files in a folder of their own on a local disk (TMPDIR says where), which is removed at the
end. Memory: 2^22 rows while they are added, then one range. Cost: 3 million rows of 32 bytes a second, there and back.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

HashedRows = npt.NDArray[Any]
"""(rows,) of a structured type with a field `lo`, a uint64."""

BUFFERED_ROWS = 1 << 22
"""Rows that are put in order before they are added to the files."""


class HashPartitions:
    def __init__(self, folder: Path, bits: int) -> None:
        self._folder, self._bits = folder, bits
        self._waiting, self._number = list[HashedRows](), 0

    def add(self, rows: HashedRows) -> None:
        self._waiting.append(rows)
        self._number += len(rows)
        if self._number >= BUFFERED_ROWS:
            self._write()

    def _write(self) -> None:
        rows, self._waiting, self._number = np.concatenate(self._waiting), [], 0
        number = rows["lo"] >> np.uint64(64 - self._bits) if self._bits else np.zeros(len(rows), np.uint64)
        order = np.argsort(number)
        numbers, starts = np.unique(number[order], return_index=True)
        for n, some in zip(numbers.tolist(), np.split(order, starts[1:]), strict=True):
            with (self._folder / f"{n:08d}").open("ab") as file:  # not all at once: a process may open 1,024 files
                file.write(rows[some].tobytes())

    def taken(self, kind: np.dtype[Any]) -> Iterator[HashedRows]:
        """The rows of one range after the other, once all are there."""
        if self._number:
            self._write()
        for file in sorted(self._folder.iterdir()):
            rows = np.fromfile(file, kind)
            file.unlink()
            yield rows


@contextmanager
def hash_partitions(rows: int, at_once: int) -> Iterator[HashPartitions]:
    """Ranges for about so many rows, of which each is to hold about `at_once` at most."""
    with tempfile.TemporaryDirectory(prefix="chameleon-") as folder:
        yield HashPartitions(Path(folder), max(0, (rows - 1) // at_once).bit_length())


def rows_with_repeated_hash(rows: HashedRows) -> HashedRows:
    """Those of a range whose `lo` another one has too, in its order: all that can be copies, and mostly few."""
    order = np.argsort(rows["lo"])
    same, again = np.diff(rows["lo"][order]) == 0, np.zeros(len(rows), bool)
    again[1:] = same
    again[:-1] |= same
    return rows[order[again]]
