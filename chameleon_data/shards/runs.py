"""Runs: rows on their way to shards, in files of about 128 MiB.

    slices    for each shard that has rows here, in the order of the shards, an Arrow stream of one batch
    index     for each shard of the build, where its slice ends, and the sum of its bytes: two uint64, little-endian

A task that makes a shard reads 32 bytes and one range of each run. A slice that is not what was written (torn by a power failure,
for instance) is read again, twice. Then its run is removed together with the list that names it, and the same command makes it
anew. Cost: a run of 128 MiB is written in .2 s, and 16 shards of it are read in .1 s, on one core.
Why: docs/decisions/042-layout-of-runs.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import xxhash

from chameleon_data.arrays import I64
from chameleon_data.errors import InputError
from chameleon_data.store.adapters import type_adapter
from chameleon_data.store.checksummed import ChecksumError, read_checked, read_record, write_record
from chameleon_data.store.store import Store

RUN_LIST_FORMAT = 1
RUN_BYTES = 128 * 2**20
INDEX_ENTRY_BYTES = 16
"""Bytes of a shard in the index."""
NO_ROWS = 2**64 - 1
"""In the place of the sum where a shard has no rows. Not zero: a file that did not reach the disk may be full of zeros."""
RUN_READERS = 16
"""Runs of a distant store that are read at once."""
RUN_SCHEMA = pa.schema(
    [
        ("domain", pa.int32()),  # index in the layout of its split
        ("epoch", pa.uint32()),
        ("hi", pa.uint64()),
        ("lo", pa.uint64()),
        ("copy", pa.int64()),  # number among identical documents, see `routing.CopyCounter`
        ("tokens", pa.int64()),
        ("part", pa.int32()),  # part of the corpus, fragment of the part, row of the fragment
        ("fragment", pa.int32()),
        ("row", pa.int64()),
        ("body", pa.large_binary()),  # text in UTF-8, or token ids
    ]
)
"""A document on its way to one shard in one epoch."""


@dataclass(frozen=True)
class Run:
    """One file of rows of a part."""

    path: str
    index: int
    """Byte at which its index begins."""
    listed: str
    """Path of the list that names it."""


def write_run_list(store: Store, path: str, runs: Sequence[Run]) -> None:
    """Record the runs of a part. With its list, a part is done."""
    write_record(store, path, {"format": RUN_LIST_FORMAT, "runs": [asdict(run) for run in runs]})


def read_run_lists(store: Store, paths: Sequence[str]) -> tuple[Run, ...]:
    """All runs that the lists name."""
    with ThreadPoolExecutor(RUN_READERS) as pool:
        return tuple(run for runs in pool.map(lambda path: _read_run_list(store, path), paths) for run in runs)


def _read_run_list(store: Store, path: str) -> list[Run]:
    record = read_record(store, path)
    if record.get("format") != RUN_LIST_FORMAT:
        raise InputError(
            f"{store.url}/{path}: runs of another release of chameleon-data; finish the build with that release, or remove the "
            "build's folder"
        )
    runs: list[Run] = type_adapter(list[Run]).validate_python(record["runs"])
    return runs


def write_run(store: Store, path: str, listed: str, pending: Sequence[tuple[I64, pa.Table]], shards: int) -> Run:
    """Write one run of a build of `shards` shards.

    `pending` are tables (RUN_SCHEMA) whose rows lie in the order of their shards, which stand beside each; `listed` is the list
    that will name the run.
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
                    entries[number, 1] = _slice_sum(body[at:end], number)
                at = end
            del body
        with file.open("ab") as more:
            more.write(entries.tobytes())
    return Run(path, at, listed)


def read_runs(store: Store, runs: Sequence[Run], shards: range) -> list[pa.Table]:
    """Every row of these shards, as one table for each. The order of its rows means nothing."""
    distant = store.local("x") is None
    with ThreadPoolExecutor(RUN_READERS if distant else 1) as pool:
        slices = list(pool.map(lambda run: _read_slices(store, run, shards), runs))
    empty = RUN_SCHEMA.empty_table()
    return [pa.concat_tables([empty, *(of_run[n] for of_run in slices if of_run[n] is not None)]) for n in range(len(shards))]


def _read_slices(store: Store, run: Run, shards: range) -> list[pa.Table | None]:
    """The rows of each shard in one run; None where it has none."""
    before = min(shards.start, 1)  # where a slice begins, the entry before says

    def read() -> list[pa.Table | None]:
        begin, end = ((run.index + INDEX_ENTRY_BYTES * shard) for shard in (shards.start - before, shards.stop))
        entries = np.frombuffer(store.read_range(run.path, begin, end), "<u8").reshape(-1, 2)
        if len(entries) != len(shards) + before:
            raise ChecksumError
        ends = [0, *entries[:, 0].tolist()][-len(shards) - 1 :]
        if not 0 <= ends[0] <= ends[-1] <= run.index:
            raise ChecksumError
        body = store.read_range(run.path, ends[0], ends[-1]) if ends[-1] > ends[0] else pa.py_buffer(b"")
        tables: list[pa.Table | None] = []
        for number, shard in enumerate(shards):
            begin, end = ends[number] - ends[0], ends[number + 1] - ends[0]
            if not begin <= end <= body.size:
                raise ChecksumError
            stored = body.slice(begin, end - begin)
            if entries[before + number, 1] != (_slice_sum(stored, shard) if stored.size else NO_ROWS):
                raise ChecksumError
            tables.append(pa.ipc.open_stream(stored).read_all() if stored.size else None)
        return tables

    return read_checked(store, read, run.path, run.listed)


def _slice_sum(body: memoryview | pa.Buffer, shard: int) -> int:
    """xxh3 of a slice and its shard number, so a slice read from the wrong place is noticed."""
    return xxhash.xxh3_64_intdigest(body, seed=shard)
