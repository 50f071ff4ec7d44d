"""Sliced files: rows on their way to tasks that have numbers, in files of which each task reads its own slice.

    index     for each number of the file, where its slice begins, where it ends, and the sum of its bytes: three uint64,
              little-endian
    slices    for each number that has rows here, in order, an Arrow stream of one batch

The index has a fixed width and comes first, so a task reads 24 bytes and one range of each file, and knows its path alone. A
slice that is not what was written (torn by a power failure, for instance) is read again, twice. Then its file is removed together
with the list that names it, and the same command makes it anew. Cost: 128 MiB are written in .2 s, and 16 slices of them are read
in .1 s, on one core. Why: docs/decisions/042-layout-of-runs.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash

from chameleon_data.arrays import I64
from chameleon_data.store.checksummed import ChecksumError, read_checked
from chameleon_data.store.store import Store

INDEX_ENTRY_BYTES = 24
"""Bytes of a number in the index."""
NO_ROWS = 2**64 - 1
"""In the place of the sum where a number has no rows. Not zero: a file that did not reach the disk may be full of zeros."""
SLICED_FILES_AT_ONCE = 16
"""Files of a distant store that are read at once."""


@dataclass(frozen=True)
class SlicedFile:
    """A file of slices."""

    path: str
    listed: str = ""
    """Path of the list that names it, if there is one."""
    first: int = 0
    """The first number that it has a slice for."""
    behind: int = 2**62
    """The number behind the last one."""


def write_slices(store: Store, path: str, schema: pa.Schema, pending: Sequence[tuple[I64, pa.Table]], numbers: range) -> None:
    """Write a file with slices for these numbers.

    `pending` are tables whose rows lie in the order of their numbers, which stand beside each; those of other numbers are left
    out.
    """
    slices: dict[int, list[pa.Table]] = {}
    for number_of, table in pending:
        first, behind = np.searchsorted(number_of, [numbers.start, numbers.stop]).tolist()
        found, begins = np.unique(number_of[first:behind], return_index=True)
        begins = begins + first
        ends = np.append(begins, behind)[1:]
        for number, begin, end in zip(found.tolist(), begins.tolist(), ends.tolist(), strict=True):
            slices.setdefault(number, []).append(table.slice(begin, end - begin))
    entries = np.zeros((len(numbers), 3), np.dtype("<u8"))
    entries[:, 2] = NO_ROWS
    with store.writing(path) as file:
        with pa.OSFile(str(file), "wb") as sink:
            sink.write(entries.tobytes())
            for number in sorted(slices):
                place = number - numbers.start
                entries[place, 0] = sink.tell()
                with pa.ipc.new_stream(sink, schema) as stream:
                    stream.write_table(pa.concat_tables(slices.pop(number)).combine_chunks())
                entries[place, 1] = sink.tell()
        with pa.memory_map(str(file)) as mapped:
            body = memoryview(mapped.read_buffer())
            for place in np.flatnonzero(entries[:, 1]).tolist():
                begin, end = entries[place, :2].tolist()
                entries[place, 2] = _slice_sum(body[begin:end], numbers[place])
            del body
        with file.open("r+b") as again:
            again.write(entries.tobytes())


def read_slices(store: Store, files: Sequence[SlicedFile], numbers: range) -> list[list[pa.Table]]:
    """The rows of each of these numbers, as a table of each file that has some, in the order of the files. A file without a slice
    for one of them is not looked at."""
    files = [file for file in files if file.first < numbers.stop and numbers.start < file.behind]
    distant = store.local("x") is None
    with ThreadPoolExecutor(SLICED_FILES_AT_ONCE if distant and len(files) > 1 else 1) as pool:
        of_files = list(pool.map(lambda file: _read_slices(store, file, numbers), files))
    return [[table for tables in of_files if (table := tables[place]) is not None] for place in range(len(numbers))]


def _read_slices(store: Store, file: SlicedFile, numbers: range) -> list[pa.Table | None]:
    """The rows of each number in one file; None where it has none."""
    here = range(max(numbers.start, file.first), min(numbers.stop, file.behind))
    before, after = [None] * (here.start - numbers.start), [None] * (numbers.stop - here.stop)

    def read() -> list[pa.Table | None]:
        at, end = (INDEX_ENTRY_BYTES * (number - file.first) for number in (here.start, here.stop))
        entries = np.frombuffer(store.read_range(file.path, at, end), "<u8")
        if len(entries) != 3 * len(here):
            raise ChecksumError
        tables, filled = list[pa.Table | None](), entries.reshape(-1, 3)[entries[2::3] != NO_ROWS]
        first, last = (int(filled[0, 0]), int(filled[-1, 1])) if len(filled) else (0, 0)
        if len(filled) and not (end <= first and (filled[:, 0] < filled[:, 1]).all() and (filled[1:, 0] == filled[:-1, 1]).all()):
            raise ChecksumError
        body = store.read_range(file.path, first, last) if len(filled) else pa.py_buffer(b"")
        if body.size != last - first:
            raise ChecksumError
        for number, (begin, stop, sum) in zip(here, entries.reshape(-1, 3).tolist(), strict=True):
            if sum == NO_ROWS:
                if begin or stop:
                    raise ChecksumError
                tables.append(None)
                continue
            stored = body.slice(begin - first, stop - begin)
            if sum != _slice_sum(stored, number):
                raise ChecksumError
            tables.append(pa.ipc.open_stream(stored, options=pa.ipc.IpcReadOptions(use_threads=False)).read_all())
        return tables

    return [*before, *read_checked(store, read, *filter(None, (file.path, file.listed))), *after]


def _slice_sum(body: memoryview | pa.Buffer, number: int) -> int:
    """xxh3 of a slice and its number, so a slice read from the wrong place is noticed."""
    return xxhash.xxh3_64_intdigest(body, seed=number)


def map_table(path: Path, table: pa.Table) -> pa.Table:
    """The table, in a file of this machine that is mapped into memory, for what is to be sliced and is more than memory shall
    hold."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as file:
        file.write_table(table.combine_chunks())
    return pa.ipc.open_file(pa.memory_map(str(path)), options=pa.ipc.IpcReadOptions(use_threads=False)).read_all()
