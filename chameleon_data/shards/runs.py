"""Runs: rows on their way to their shards, in files of about 128 MiB.

    slices    for each shard that has rows here, in the order of the shards, an Arrow stream of one batch
    index     for each shard of the build, where its slice ends, and the sum of its bytes: two uint64, little-endian

So whoever makes a shard reads 32 bytes and one range of each run, of 16 runs at once, however far away the store is. (An Arrow
file would be asked for its size, its footer and then batch after batch.) A slice that is not what was written, torn by a power
failure, say, is read again, twice; then its run goes, with the list that names it, and the same command makes it anew.

Cost: a run of 128 MiB is written in .2 s and 16 shards of it read in .1 s on one core.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import xxhash

from chameleon_data.arrays import I64
from chameleon_data.store.checksummed import ChecksumError, read_checked, read_record, write_record
from chameleon_data.store.store import Store

RUN_BYTES = 128 * 2**20
INDEX_ENTRY_BYTES = 16
"""Bytes of a shard in the index."""
NO_ROWS = 2**64 - 1
"""In the place of the sum, where a shard has no rows; not zero, since a file that was not yet on the disk may be full of that."""
RUN_READERS = 16
"""Runs that are read at once."""

GROUP_BYTES = 256 * 2**20
"""Bytes of shards that a task reads together at most."""
MOST_RANGES = 2**20
"""Ranges of runs that a build reads, until tasks read several shards together: 100 GB in shards of 64 MiB. An object store
answers some 5,000 requests a second."""

RUN_SCHEMA = pa.schema(
    [("domain", pa.int32()), ("epoch", pa.uint32()), ("hi", pa.uint64()), ("lo", pa.uint64()), ("copy", pa.int64()),
     ("tokens", pa.int64()), ("part", pa.int32()), ("fragment", pa.int32()), ("row", pa.int64()), ("body", pa.large_binary())]
)  # fmt: skip
"""A document on its way. `domain` is its index in the layout of its split; `body` is its text, or its token ids."""


@dataclass(frozen=True)
class Run:
    path: str
    index: int
    """Where its index begins."""
    listed: str
    """Path of the list that names it."""


def write_run_list(store: Store, path: str, runs: Sequence[tuple[str, int]]) -> None:
    """Record the runs of a part, (path, index) each: what makes the part done."""
    write_record(store, path, {"runs": runs})


def read_run_lists(store: Store, lists: Sequence[str]) -> tuple[Run, ...]:
    """All runs that the lists name."""
    with ThreadPoolExecutor(RUN_READERS) as pool:
        found = list(pool.map(lambda path: read_record(store, path)["runs"], lists))
    return tuple(Run(path, index, listed) for listed, runs in zip(lists, found, strict=True) for path, index in runs)


def write_run(store: Store, path: str, pending: Sequence[tuple[I64, pa.Table]], shards: int) -> tuple[str, int]:
    """One run of a build of `shards` shards; returns its path and where its index begins. Of each table the rows are in the order
    of their shards, which stand beside it.

    Into a file: an Arrow buffer that grows costs seven times as much (.24 s against .03 for 125 MB).
    """
    slices: dict[int, list[pa.Table]] = {}
    for shard, table in pending:
        numbers, begins = np.unique(shard, return_index=True)
        for number, begin, end in zip(numbers.tolist(), begins.tolist(), [*begins[1:].tolist(), len(shard)], strict=True):
            slices.setdefault(number, []).append(table.slice(begin, end - begin))
    entries, at = np.zeros((shards, 2), np.dtype("<u8")), 0
    entries[:, 1] = NO_ROWS
    with store.writing(path) as file:
        with pa.OSFile(str(file), "wb") as sink:
            for number in sorted(slices):
                with pa.ipc.new_stream(sink, RUN_SCHEMA) as stream:
                    stream.write_table(pa.concat_tables(slices.pop(number)).combine_chunks())
                entries[number, 0] = sink.tell()
        entries[:, 0] = np.maximum.accumulate(entries[:, 0])
        with pa.memory_map(str(file)) as mapped:
            body = memoryview(mapped.read_buffer())
            for number, end in enumerate(entries[:, 0].tolist()):
                if end > at:
                    entries[number, 1] = _sum(body[at:end], number)
                at = end
            del body
        with file.open("ab") as more:
            more.write(entries.tobytes())
    return path, at


def shards_per_task(runs: int, shards: int, size: int) -> int:
    """How many shards a task reads together. One, until the ranges to read, one for each run and task, are more than
    `MOST_RANGES`; then as many as that takes, and at most `GROUP_BYTES` of them. `size` is that of a shard in bytes."""
    return max(1, min(-(-runs * shards // MOST_RANGES), GROUP_BYTES // size))


def group_shards(missing: Sequence[int], most: int) -> list[range]:
    """Groups of at most `most` shards that follow each other. `missing` ascends."""
    groups: list[range] = []
    for shard in missing:
        if groups and groups[-1].stop == shard and len(groups[-1]) < most:
            groups[-1] = range(groups[-1].start, shard + 1)
        else:
            groups.append(range(shard, shard + 1))
    return groups


def read_runs(store: Store, runs: Sequence[Run], shards: range) -> list[pa.Table]:
    """Every row of these shards, in no order that matters."""
    far = store.local("x") is None
    with ThreadPoolExecutor(RUN_READERS if far else 1) as pool:  # of a disk, one after the other is as fast, and in less memory
        found = list(pool.map(lambda run: _slices(store, run, shards), runs))
    empty = RUN_SCHEMA.empty_table()
    return [pa.concat_tables([empty, *(slices[n] for slices in found if slices[n] is not None)]) for n in range(len(shards))]


def _slices(store: Store, run: Run, shards: range) -> list[pa.Table | None]:
    before = min(shards.start, 1)

    def read() -> list[pa.Table | None]:
        begin, end = ((run.index + INDEX_ENTRY_BYTES * shard) for shard in (shards.start - before, shards.stop))
        entries = np.frombuffer(store.read_range(run.path, begin, end), "<u8").reshape(-1, 2)
        if len(entries) != len(shards) + before:
            raise ChecksumError
        ends = [0, *entries[:, 0].tolist()][-len(shards) - 1 :]
        if not 0 <= ends[0] <= ends[-1] <= run.index:
            raise ChecksumError
        body = store.read_range(run.path, ends[0], ends[-1]) if ends[-1] > ends[0] else pa.py_buffer(b"")
        found: list[pa.Table | None] = []
        for number, shard in enumerate(shards):
            begin, end = ends[number] - ends[0], ends[number + 1] - ends[0]
            if not begin <= end <= body.size:
                raise ChecksumError
            some = body.slice(begin, end - begin)
            if entries[before + number, 1] != (_sum(some, shard) if some.size else NO_ROWS):
                raise ChecksumError
            found.append(pa.ipc.open_stream(some).read_all() if some.size else None)
        return found

    return read_checked(store, read, run.path, run.listed)


def _sum(body: memoryview | pa.Buffer, shard: int) -> int:
    """Of a slice; in another shard's place it is another one."""
    return xxhash.xxh3_64_intdigest(body, seed=shard)
