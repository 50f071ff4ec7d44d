"""Runs: rows on their way to shards, in sliced files of about 128 MiB (`store/slices.py`). Each run of a part has other ranges of
shards, so a range finds its rows of the part in one of them. Where ranges are divided, the rows of a part without their bodies
lie in files of their own, as few as there can be: each is asked by every range and group of domains.
Why: docs/decisions/155-records-in-few-files.md; 156-runs-of-some-ranges.md."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa

from chameleon_data.arrays import I64
from chameleon_data.errors import InputError
from chameleon_data.store.adapters import type_adapter
from chameleon_data.store.checksummed import read_record, write_record
from chameleon_data.store.slices import SLICED_FILES_AT_ONCE, SlicedFile, read_slices, write_slices
from chameleon_data.store.store import Store

RUN_LIST_FORMAT = 4
RUN_BYTES = 128 * 2**20
RECORD_FILE_BYTES = 64 * 2**20
"""Bytes of a file of records, about: 1.5 million rows, which is some 3 GB of text."""
RUN_SCHEMA = pa.schema(
    [
        ("domain", pa.int32()),  # index in the layout of its split
        ("epoch", pa.uint32()),
        ("hi", pa.uint64()),
        ("lo", pa.uint64()),
        ("copy", pa.int64()),  # number among identical documents, or -1; see `routing.CopyCounter`
        ("tokens", pa.int64()),
        ("part", pa.int32()),  # part of the corpus, fragment of the part, row of the fragment
        ("fragment", pa.int32()),
        ("row", pa.int64()),
        ("body", pa.large_binary()),  # text in UTF-8, or token ids
    ]
)
"""A document on its way to one range in one epoch."""
RECORDS_SCHEMA = pa.schema([field for field in RUN_SCHEMA if field.name not in ("fragment", "row", "body")])


@dataclass(frozen=True)
class PartRuns:
    """What one part left on the way to its shards."""

    runs: tuple[SlicedFile, ...]
    records: tuple[SlicedFile, ...]
    """Files of records; none where no range is divided."""


def write_run_list(store: Store, path: str, runs: Sequence[SlicedFile], records: Sequence[str] = ()) -> None:
    """Record the runs of a part, and its files of records. With its list, a part is done."""
    listed = [[run.path, run.first, run.behind] for run in runs]
    write_record(store, path, {"format": RUN_LIST_FORMAT, "runs": listed, "records": list(records)})


def read_run_lists(store: Store, paths: Sequence[str]) -> tuple[PartRuns, ...]:
    """What each list names."""
    with ThreadPoolExecutor(SLICED_FILES_AT_ONCE) as pool:
        return tuple(pool.map(lambda path: _read_run_list(store, path), paths))


def _read_run_list(store: Store, path: str) -> PartRuns:
    record = read_record(store, path)
    if record.get("format") != RUN_LIST_FORMAT:
        raise InputError(
            f"{store.url}/{path}: runs of another release of chameleon-data; finish the build with that release, or remove the "
            "build's folder"
        )
    runs: list[tuple[str, int, int]] = type_adapter(list[tuple[str, int, int]]).validate_python(record["runs"])
    records: list[str] = type_adapter(list[str]).validate_python(record["records"])
    return PartRuns(
        tuple(SlicedFile(file, path, first, behind) for file, first, behind in runs),
        tuple(SlicedFile(file, path) for file in records),
    )


def write_run(store: Store, path: str, pending: Sequence[tuple[I64, pa.Table]], ranges: range) -> None:
    """Write a run with a slice for each of these ranges.

    `pending` are tables (RUN_SCHEMA) whose rows lie in the order of their ranges, which stand beside each.
    """
    write_slices(store, path, RUN_SCHEMA, pending, ranges)


def cut_runs(range_bytes: I64) -> list[range]:
    """The ranges of each run of a part that has so many bytes in each range, and some in any: about RUN_BYTES, or one range."""
    before = np.append(0, np.cumsum(range_bytes))
    begins = np.unique(np.searchsorted(before, np.arange(0, int(before[-1]), RUN_BYTES), "right") - 1)
    begins[0] = 0  # ranges without rows go with those that follow
    return [range(first, behind) for first, behind in pairwise([*begins.tolist(), len(range_bytes)])]


def drop_bodies(number: I64, table: pa.Table, groups: int) -> tuple[I64, pa.Table]:
    """Rows without their bodies, in the order of their ranges and groups of domains, and the slice of each. `number` are their
    ranges."""
    slice = number * groups + table["domain"].to_numpy() % groups
    order = np.argsort(slice, kind="stable")
    return slice[order], table.select(RECORDS_SCHEMA.names).take(order)


def write_records(store: Store, path: str, pending: Sequence[tuple[I64, pa.Table]], slices: int) -> None:
    """Write a file of records, of what `drop_bodies` gives."""
    write_slices(store, path, RECORDS_SCHEMA, pending, range(slices))


def records_path(run: str) -> str:
    """The records of a run that a task sent further."""
    return f"{run}.records"


def read_runs(store: Store, runs: Sequence[SlicedFile], number: int) -> pa.Table:
    """Every row of a range, in the order of the runs."""
    return pa.concat_tables([RUN_SCHEMA.empty_table(), *read_slices(store, runs, range(number, number + 1))[0]])


def read_records(store: Store, files: Sequence[SlicedFile], slice: int) -> pa.Table:
    """Every row of a range and group of domains, without its body (RECORDS_SCHEMA)."""
    return pa.concat_tables([RECORDS_SCHEMA.empty_table(), *read_slices(store, files, range(slice, slice + 1))[0]])
