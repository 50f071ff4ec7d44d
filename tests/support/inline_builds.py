"""Whole builds in this process, by an engine that is a loop.

A fault of the store then meets every pass, and a build takes 0.1 s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from chameleon_data.pipelines import engine
from chameleon_data.pipelines.engine import Task
from chameleon_data.recipe import Recipe
from chameleon_data.recipe_file import load_recipe
from chameleon_data.store.paths import CATALOGUE
from chameleon_data.store.store import Store
from chameleon_data.versions.manifest import Manifest
from chameleon_data.versions.streaming import TableFunction
from chameleon_data.versions.verify import verify_version
from chameleon_data.versions.versions import list_versions, read_manifest
from tests.support.clocks import FakeClock
from tests.support.corpus import documents, lay_out, write_recipe

verified: Counter[str] = Counter()
"""How much `verify_versions` has verified in this process."""
CREATED = "2026-01-01T00:00:00+00:00"


class InlineEngine:
    """Passes run in this process, one task after the other, and a failed task is tried again at once; see `Engine`."""

    cpus: float = 1.0
    gpus = 0

    def sharing(self, *stores: Store) -> AbstractContextManager[object]:
        return nullcontext()

    def run(self, task: Task, numbers: Sequence[int]) -> Iterator[int]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine, "time", FakeClock())
            for number in numbers:
                engine.work_patiently(task.work, number)
                yield number

    def stream(self, make: Callable[[], TableFunction], tables: Sequence[pa.Table], on_gpus: bool = False) -> Iterator[pa.Table]:
        assert not on_gpus
        return map(make(), tables)


INLINE = InlineEngine()


def build(recipe: Recipe) -> Manifest:
    """Build a version and return its manifest."""
    from chameleon_data.pipelines.build import build_recipe

    return build_recipe(recipe, INLINE, lambda *_: None, CREATED).manifest


def write_small_recipe(folder: Path, out: str, budget: int = 30_000, **sections: Any) -> Recipe:
    """The recipe of twenty documents of three domains in four shards, with weights given; writes its corpus too."""
    corpus = {"legal": documents()["legal"][:8], "book": [t[:2500] for t in documents()["book"][:5]],
              "code": [t[:1500] for t in documents()["code"][:9]]}  # fmt: skip
    sources = lay_out(folder / "corpus", corpus, ["jsonl"], 1)
    mix, shards = {"budget": budget, "max_epochs": 8}, {"size": "8KB"}
    return load_recipe(write_recipe(folder / "recipe.yaml", sources, out=out, **{"mix": mix, "shards": shards, **sections}))


def verify_versions(store: Store) -> list[Manifest]:
    """The manifests of all versions, each proved from its stored bytes."""
    manifests = []
    for version in list_versions(store):
        manifest = read_manifest(store, version)
        proof = verify_version(store, manifest)
        assert proof.problems == (), version
        manifests.append(manifest)
        verified["versions verified"] += 1
        verified["documents in them"] += proof.rows
    return manifests


def list_outputs(store: Store) -> dict[str, int]:
    """Path -> bytes of everything outside `_chameleon`, but for the catalogue, which the command alone writes.

    Caches may differ between builds, and manifests hold timings.
    """
    return {path: size for path, size in store.list().items() if not path.startswith("_chameleon/") and path != CATALOGUE}
