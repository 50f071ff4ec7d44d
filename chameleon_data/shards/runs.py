"""Runs: rows on their way to shards, in sliced files of about 128 MiB (`store/slices.py`) with a slice for each shard."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from chameleon_data.errors import InputError
from chameleon_data.store.adapters import type_adapter
from chameleon_data.store.checksummed import read_record, write_record
from chameleon_data.store.slices import SLICED_FILES_AT_ONCE, SlicedFile, read_slices
from chameleon_data.store.store import Store

RUN_LIST_FORMAT = 2
RUN_BYTES = 128 * 2**20
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


def write_run_list(store: Store, path: str, runs: Sequence[str]) -> None:
    """Record the paths of the runs of a part. With its list, a part is done."""
    write_record(store, path, {"format": RUN_LIST_FORMAT, "runs": list(runs)})


def read_run_lists(store: Store, paths: Sequence[str]) -> tuple[SlicedFile, ...]:
    """All runs that the lists name."""
    with ThreadPoolExecutor(SLICED_FILES_AT_ONCE) as pool:
        return tuple(run for runs in pool.map(lambda path: _read_run_list(store, path), paths) for run in runs)


def _read_run_list(store: Store, path: str) -> list[SlicedFile]:
    record = read_record(store, path)
    if record.get("format") != RUN_LIST_FORMAT:
        raise InputError(
            f"{store.url}/{path}: runs of another release of chameleon-data; finish the build with that release, or remove the "
            "build's folder"
        )
    runs: list[str] = type_adapter(list[str]).validate_python(record["runs"])
    return [SlicedFile(run, path) for run in runs]


def read_runs(store: Store, runs: Sequence[SlicedFile], shards: range) -> list[pa.Table]:
    """Every row of these shards, as one table for each. The order of its rows means nothing."""
    empty = RUN_SCHEMA.empty_table()
    return [pa.concat_tables([empty, *tables]) for tables in read_slices(store, runs, shards)]
