"""Pass 4: every part of the corpus is spilled to runs, then every shard is assembled from all runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from chameleon_data.corpus.selection import copies_in_part
from chameleon_data.corpus.survey import Part
from chameleon_data.errors import InputError
from chameleon_data.pipelines.ray_cluster import Progress, run_tasks
from chameleon_data.shards.assemble import encode_indexes, write_shards
from chameleon_data.shards.lay_out import ShardSpec, build_folder
from chameleon_data.shards.receipts import Receipt, read_receipts
from chameleon_data.shards.runs import group_shards, read_run_lists, shards_per_task
from chameleon_data.shards.spill import spill
from chameleon_data.store.paths import BuildFolder
from chameleon_data.store.store import Store


def write_shards_on_cluster(
    store: Store, spec: ShardSpec, copies: pa.Table, parts: Sequence[Part], progress: Progress
) -> tuple[list[Receipt], int]:
    """Write the shards that are not finished yet, then the index of each format.

    Returns all receipts in order, and the number of shards that were finished before. `copies` are those of all parts
    (`selection.COPIES_SCHEMA`); a task gets those of its part.
    """
    import ray

    build = build_folder(spec.layouts, parts)
    missing = _missing_shards(store, build)
    if missing:
        shared = ray.put(spec)
        spill_parts(store, build, shared, copies, parts, spill, progress)

        try:
            runs = read_run_lists(store, [build.run_list(part.key) for part in parts])
            groups = group_shards(missing, shards_per_task(len(runs), build.shards, spec.shards.size))

            def write_group(number: int) -> None:
                write_shards(store, build, ray.get(shared), parts, runs, groups[number])

            run_tasks(
                "write", range(len(groups)), write_group, progress, build.shards - len(missing), [len(group) for group in groups]
            )
        except InputError:
            if _missing_shards(store, build):  # else another build of the same plan wrote them, and then removed the runs
                raise
    receipts = list(read_receipts(store, build).values())
    for path, data in encode_indexes(spec, receipts).items():
        store.write_new(build.file(path), data)
    return receipts, build.shards - len(missing)


def spill_parts(
    store: Store,
    build: BuildFolder,
    spec: Any,
    copies: pa.Table,
    parts: Sequence[Part],
    spill: Callable[..., None],
    progress: Progress,
) -> None:
    """Spill every part whose runs are not there yet, by `spill` or `spill_records`.

    `spec` is a reference to a ShardSpec in Ray's object store. `copies` are those of all parts.
    """
    import ray

    here = store.list(build.runs)
    todo = [number for number, part in enumerate(parts) if build.run_list(part.key) not in here]
    copies_of = {number: ray.put(copies_in_part(copies, number)) for number in todo}

    def spill_one(number: int) -> None:
        spill(store, build, ray.get(spec), number, parts[number], ray.get(copies_of[number]))

    run_tasks("read", todo, spill_one, progress, done=len(parts) - len(todo))


def _missing_shards(store: Store, build: BuildFolder) -> list[int]:
    finished = read_receipts(store, build)
    return [shard for shard in range(build.shards) if shard not in finished]
