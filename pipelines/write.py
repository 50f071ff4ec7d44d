"""Pass 4: the exchange. Every part of the corpus to sorted runs, then every shard from all runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chameleon_data.exchange import Build, receipts, spill, write_shards
from chameleon_data.place import Stream
from chameleon_data.plan import Plan
from chameleon_data.recipe import Recipe
from chameleon_data.storage import Store
from chameleon_data.survey import Part
from pipelines.cluster import Progress, run

SHARDS_A_TASK = 4  # at most: a task opens every run once


def write(
    store: Store, recipe: Recipe, plan: Plan, parts: Sequence[Part], streams: Sequence[Stream], progress: Progress
) -> list[dict[str, Any]]:
    """Write the shards that have no receipt yet; returns all receipts in order."""
    import ray

    build = Build(plan.digest, plan.shards)
    here = set(store.list(build.folder))
    missing = [s for s in range(plan.shards) if build.receipt(s) not in here]
    if missing:
        shared = ray.put(tuple(streams))
        todo = [number for number, part in enumerate(parts) if build.run(part) not in here]
        run(
            "read",
            todo,
            lambda n: spill(store, build, n, parts[n], recipe, ray.get(shared)),
            progress,
            done=len(parts) - len(todo),
        )

        some = max(1, min(SHARDS_A_TASK, len(missing) // 16))

        def write_some(task: int) -> None:
            write_shards(store, build, parts, missing[task : task + some], recipe, ray.get(shared))

        tasks = range(0, len(missing), some)
        run("write", tasks, write_some, progress)
    return sorted(receipts(store, build), key=lambda r: int(r["shard"]))
