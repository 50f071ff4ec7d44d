"""Pass 4: the exchange. Every part of the corpus to sorted runs, then every shard from all runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from chameleon_data.census import copies_of
from chameleon_data.errors import InputError
from chameleon_data.exchange import Build, Job, finished, indexes, spill, write_shards
from chameleon_data.hashing import fingerprint
from chameleon_data.layout import build_digest
from chameleon_data.storage import Store
from chameleon_data.survey import Part
from pipelines.cluster import Progress, run


def write(
    store: Store, job: Job, copies: pa.Table, parts: Sequence[Part], progress: Progress
) -> tuple[list[dict[str, Any]], int]:  # fmt: skip
    """Write the shards that are not finished yet, and what lists them; returns all receipts in order, and how many were there.

    `copies` are those of all parts (`census.COPIES`); a worker gets its part's.
    """
    import ray

    build = build_of(job, parts)
    missing = _missing(store, build)
    if missing:
        shared = ray.put(job)
        read_parts(store, build, shared, copies, parts, spill, progress)

        def write_one(shard: int) -> None:
            write_shards(store, build, ray.get(shared), parts, [shard])

        try:
            run("write", missing, write_one, progress, done=build.shards - len(missing))
        except InputError:
            if _missing(store, build):  # else another build of the same plan wrote them meanwhile, and took the runs away
                raise
    receipts = [receipt for _, receipt in sorted(finished(store, build).items())]
    for path, data in indexes(job, receipts).items():
        store.write_new(f"{build.folder}/{path}", data)
    return receipts, build.shards - len(missing)


def read_parts(
    store: Store, build: Build, job: Any, copies: pa.Table, parts: Sequence[Part], spill: Callable[..., None], progress: Progress
) -> None:  # fmt: skip
    """Spill every part whose runs are not there yet; `job` is a reference to it, and `copies` are those of all parts."""
    import ray

    here = store.list(build.runs)
    todo = [number for number, part in enumerate(parts) if build.run(part) not in here]
    mine = {number: ray.put(copies_of(copies, number)) for number in todo}

    def spill_one(number: int) -> None:
        spill(store, build, ray.get(job), number, parts[number], ray.get(mine[number]))

    run("read", todo, spill_one, progress, done=len(parts) - len(todo))


def build_of(job: Job, parts: Sequence[Part]) -> Build:
    """Where this plan of this corpus is built."""
    plans = [layout.plan for layout in job.layouts]
    return Build(build_digest(plans), sum(plan.shards for plan in plans), fingerprint([p.key for p in parts])[:16])


def _missing(store: Store, build: Build) -> list[int]:
    done = finished(store, build)
    return [shard for shard in range(build.shards) if shard not in done]
