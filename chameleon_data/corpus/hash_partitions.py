"""Groups rows by hash out of core. Rows go to files by the top bits of their hash, so equal rows meet in one file.

The files lie in a folder of their own on a local disk (TMPDIR says where), which is removed at the end. Memory: 4 million rows
while they are added, then one partition. Cost: 3 million rows of 32 bytes a second, written and read.
Why: docs/decisions/025-dedup-out-of-core.md.
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
"""(rows,) of a structured type with a field `lo`, a uint64: the hash."""

DEDUP_ROWS_AT_ONCE = 1 << 24
"""Rows among which copies are sought in memory."""
BUFFERED_ROWS = 1 << 22
"""Rows that are sorted by partition together before they are written."""


class HashPartitions:
    """Rows on disk, parted by the top `bits` bits of their hash."""

    def __init__(self, folder: Path, bits: int) -> None:
        self._folder, self._bits = folder, bits
        self._buffered, self._number = list[HashedRows](), 0

    def add(self, rows: HashedRows) -> None:
        self._buffered.append(rows)
        self._number += len(rows)
        if self._number >= BUFFERED_ROWS:
            self._write()

    def _write(self) -> None:
        rows, self._buffered, self._number = np.concatenate(self._buffered), [], 0
        partition = rows["lo"] >> np.uint64(64 - self._bits) if self._bits else np.zeros(len(rows), np.uint64)
        order = np.argsort(partition)
        numbers, starts = np.unique(partition[order], return_index=True)
        for number, group in zip(numbers.tolist(), np.split(order, starts[1:]), strict=True):
            with (self._folder / f"{number:08d}").open("ab") as file:  # one at a time: a process may open 1,024 files
                file.write(rows[group].tobytes())

    def read(self, kind: np.dtype[Any]) -> Iterator[HashedRows]:
        """The rows of each partition, by ascending hash of the partitions. Call it once, after the last `add`."""
        if self._number:
            self._write()
        for file in sorted(self._folder.iterdir()):
            rows = np.fromfile(file, kind)
            file.unlink()
            yield rows


@contextmanager
def partition_by_hash(rows: int, at_once: int) -> Iterator[HashPartitions]:
    """Partitions for about `rows` rows, of which each is to hold at most about `at_once`."""
    with tempfile.TemporaryDirectory(prefix="chameleon-") as folder:
        yield HashPartitions(Path(folder), max(0, (rows - 1) // at_once).bit_length())


def select_repeated_hashes(rows: HashedRows) -> HashedRows:
    """The rows of a partition whose `lo` another row has too, by ascending `lo`. Only they can be copies, and they are few."""
    order = np.argsort(rows["lo"])
    same, repeated = np.diff(rows["lo"][order]) == 0, np.zeros(len(rows), bool)
    repeated[1:] = same
    repeated[:-1] |= same
    return rows[order[repeated]]
