"""Pass 4: the exchange. Every part of the corpus to sorted runs, then every shard from all runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from chameleon_data.corpus.selection import copies_in_part
from chameleon_data.corpus.survey import Part
from chameleon_data.errors import InputError
from chameleon_data.hashing import fingerprint
from chameleon_data.pipelines.ray_cluster import Progress, run_tasks
from chameleon_data.shards.exchange import (
    ShardSpec,
    encode_indexes,
    read_run_lists,
    spill,
    write_shards,
)
from chameleon_data.shards.lay_out import build_digest
from chameleon_data.shards.receipts import Receipt, read_receipts
from chameleon_data.store.paths import BuildFolder
from chameleon_data.store.store import Store

GROUP_BYTES = 256 * 2**20
MOST_RANGES = 2**20
"""100 GB in shards of 64 MiB. An object store answers some 5,000 requests a second."""


def write_shards_on_cluster(
    store: Store, job: ShardSpec, copies: pa.Table, parts: Sequence[Part], progress: Progress
) -> tuple[list[Receipt], int]:
    """Write the shards that are not finished yet, and what lists them; returns all receipts in order, and how many were there.

    `copies` are those of all parts (`selection.COPIES_SCHEMA`); a worker gets its part's.
    """
    import ray

    build = build_folder(job, parts)
    missing = _missing(store, build)
    if missing:
        shared = ray.put(job)
        spill_parts(store, build, shared, copies, parts, spill, progress)

        try:
            runs = read_run_lists(store, build, parts)
            groups = group_shards(missing, shards_per_task(len(runs), build.shards, job.recipe.shards.size))

            def write_group(number: int) -> None:
                write_shards(store, build, ray.get(shared), parts, runs, groups[number])

            run_tasks(
                "write", range(len(groups)), write_group, progress, build.shards - len(missing), [len(group) for group in groups]
            )
        except InputError:
            if _missing(store, build):  # else another build of the same plan wrote them meanwhile, and took the runs away
                raise
    receipts = list(read_receipts(store, build).values())
    for path, data in encode_indexes(job, receipts).items():
        store.write_new(build.file(path), data)
    return receipts, build.shards - len(missing)


def shards_per_task(runs: int, shards: int, size: int) -> int:
    """Shards of one task. One, until the ranges to read, one for each run and task, are more than `MOST_RANGES`; then so many
    that they are not, as far as memory goes."""
    return max(1, min(-(-runs * shards // MOST_RANGES), GROUP_BYTES // size))


def group_shards(missing: Sequence[int], most: int) -> list[range]:
    """Shards that follow each other, and are read together."""
    groups: list[range] = []
    for shard in missing:
        if groups and groups[-1].stop == shard and len(groups[-1]) < most:
            groups[-1] = range(groups[-1].start, shard + 1)
        else:
            groups.append(range(shard, shard + 1))
    return groups


def spill_parts(
    store: Store,
    build: BuildFolder,
    job: Any,
    copies: pa.Table,
    parts: Sequence[Part],
    spill: Callable[..., None],
    progress: Progress,
) -> None:
    """Spill every part whose runs are not there yet; `job` is a reference to it, and `copies` are those of all parts."""
    import ray

    here = store.list(build.runs)
    todo = [number for number, part in enumerate(parts) if build.run_list(part.key) not in here]
    mine = {number: ray.put(copies_in_part(copies, number)) for number in todo}

    def spill_one(number: int) -> None:
        spill(store, build, ray.get(job), number, parts[number], ray.get(mine[number]))

    run_tasks("read", todo, spill_one, progress, done=len(parts) - len(todo))


def build_folder(job: ShardSpec, parts: Sequence[Part]) -> BuildFolder:
    """Where this plan of this corpus is built."""
    plans = [layout.plan for layout in job.layouts]
    return BuildFolder(build_digest(plans), sum(plan.shards for plan in plans), fingerprint([p.key for p in parts])[:16])


def _missing(store: Store, build: BuildFolder) -> list[int]:
    done = read_receipts(store, build)
    return [shard for shard in range(build.shards) if shard not in done]
