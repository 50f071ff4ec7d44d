"""Pass 4: the exchange. Every part of the corpus to sorted runs, then every shard from all runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chameleon_data.errors import InputError
from chameleon_data.exchange import Build, finished, spill, write_shards
from chameleon_data.hashing import fingerprint
from chameleon_data.place import Stream
from chameleon_data.plan import Plan
from chameleon_data.recipe import Recipe
from chameleon_data.storage import Store
from chameleon_data.survey import Part
from pipelines.cluster import Progress, run


def write(
    store: Store, recipe: Recipe, plan: Plan, parts: Sequence[Part], streams: Sequence[Stream], progress: Progress
) -> list[dict[str, Any]]:
    """Write the shards that are not finished yet; returns all receipts in order."""
    import ray

    build = build_of(plan, parts)
    missing = _missing(store, build)
    if missing:
        shared, here = ray.put(tuple(streams)), store.list(build.runs)
        todo = [number for number, part in enumerate(parts) if build.run(part) not in here]
        run(
            "read",
            todo,
            lambda n: spill(store, build, n, parts[n], recipe, ray.get(shared)),
            progress,
            done=len(parts) - len(todo),
        )

        def write_one(shard: int) -> None:
            write_shards(store, build, parts, [shard], recipe, ray.get(shared))

        try:
            run("write", missing, write_one, progress, done=plan.shards - len(missing))
        except InputError:
            if _missing(store, build):  # else another build of the same plan wrote them meanwhile, and took the runs away
                raise
    return [receipt for _, receipt in sorted(finished(store, build).items())]


def build_of(plan: Plan, parts: Sequence[Part]) -> Build:
    """Where this plan of this corpus is built."""
    return Build(plan.digest, plan.shards, fingerprint([p.key for p in parts])[:16])


def _missing(store: Store, build: Build) -> list[int]:
    done = finished(store, build)
    return [shard for shard in range(build.shards) if shard not in done]
