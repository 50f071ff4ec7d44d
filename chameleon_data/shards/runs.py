"""Runs: rows on their way to shards, in sliced files of about 128 MiB (`store/slices.py`) with a slice for each range of
shards."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa

from chameleon_data.arrays import I64
from chameleon_data.errors import InputError
from chameleon_data.store.adapters import type_adapter
from chameleon_data.store.checksummed import read_record, write_record
from chameleon_data.store.slices import SLICED_FILES_AT_ONCE, SlicedFile, read_slices, write_slices
from chameleon_data.store.store import Store

RUN_LIST_FORMAT = 2
RUN_BYTES = 128 * 2**20
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


def write_run_list(store: Store, path: str, runs: Sequence[str]) -> None:
    """Record the paths of the runs of a part. With its list, a part is done."""
    write_record(store, path, {"format": RUN_LIST_FORMAT, "runs": list(runs)})


def read_run_lists(store: Store, paths: Sequence[str]) -> tuple[tuple[SlicedFile, ...], ...]:
    """The runs that each list names."""
    with ThreadPoolExecutor(SLICED_FILES_AT_ONCE) as pool:
        return tuple(pool.map(lambda path: _read_run_list(store, path), paths))


def _read_run_list(store: Store, path: str) -> tuple[SlicedFile, ...]:
    record = read_record(store, path)
    if record.get("format") != RUN_LIST_FORMAT:
        raise InputError(
            f"{store.url}/{path}: runs of another release of chameleon-data; finish the build with that release, or remove the "
            "build's folder"
        )
    runs: list[str] = type_adapter(list[str]).validate_python(record["runs"])
    return tuple(SlicedFile(run, path) for run in runs)


def write_run(store: Store, path: str, pending: Sequence[tuple[I64, pa.Table]], ranges: int, groups: int) -> None:
    """Write a run with a slice for each range.

    `pending` are tables (RUN_SCHEMA) whose rows lie in the order of their ranges, which stand beside each. Where ranges are
    divided, by `groups` groups of domains, the rows without their bodies are written beside it, with a slice for each range and
    group.
    """
    if groups:
        records = []
        for number, table in pending:
            of_group = number * groups + table["domain"].to_numpy() % groups
            order = np.argsort(of_group, kind="stable")
            records.append((of_group[order], table.select(RECORDS_SCHEMA.names).take(order)))
        write_slices(store, records_path(path), RECORDS_SCHEMA, records, ranges * groups)
    write_slices(store, path, RUN_SCHEMA, pending, ranges)


def records_path(run: str) -> str:
    return f"{run}.records"


def read_runs(store: Store, runs: Sequence[SlicedFile], number: int) -> pa.Table:
    """Every row of a range, in the order of the runs."""
    return pa.concat_tables([RUN_SCHEMA.empty_table(), *read_slices(store, runs, range(number, number + 1))[0]])


def read_records(store: Store, runs: Sequence[SlicedFile], slice: int) -> pa.Table:
    """Every row of a range and group of domains, without its body (RECORDS_SCHEMA)."""
    files = [SlicedFile(records_path(run.path), run.listed) for run in runs]
    return pa.concat_tables([RECORDS_SCHEMA.empty_table(), *read_slices(store, files, range(slice, slice + 1))[0]])
