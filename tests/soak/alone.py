"""A whole build in this process, without Ray: what is faulty is then faulty for every pass, and a build takes .1 s.

`run` of `pipelines/ray_cluster.py` stays as it is; the stream of tasks under it is a loop here, and Ray's object
store is the object.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from chameleon_data.recipe import Recipe
from chameleon_data.recipe_file import load_recipe
from chameleon_data.store.store import Store
from chameleon_data.versions.manifest import Manifest, describe_manifest
from chameleon_data.versions.verify import verify_version
from chameleon_data.versions.versions import list_versions, read_manifest
from tests.support.corpus import documents, lay_out, write_recipe

proved: Counter[str] = Counter()
"""What `readable` has proved in this process."""
CREATED = "2026-01-01T00:00:00+00:00"


def _loop(tables: Sequence[pa.Table] | int, function: Any, **_: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tables, int):
        tables = [pa.table({"id": [number]}) for number in range(tables)]
    function = function() if isinstance(function, type) else function  # an actor
    return itertools.chain.from_iterable(function(table).to_pylist() for table in tables)


@contextmanager
def alone() -> Iterator[None]:
    """Passes run here, one task after the other, and a fault is not waited for."""
    import ray

    from chameleon_data.pipelines import embed
    from chameleon_data.pipelines import ray_cluster as cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "stream_tables", _loop)
        patch.setattr(embed, "stream_tables", _loop)
        patch.setattr(cluster, "RETRY_SECONDS", (0.0, 0.0))
        patch.setattr(cluster, "_forget_extension_types", lambda: None)
        patch.setattr(ray, "put", lambda value: value)
        patch.setattr(ray, "get", lambda value: value)
        patch.setattr(ray, "cluster_resources", lambda: {"CPU": 1.0})
        yield


def build(recipe: Recipe) -> Manifest:
    """The manifest that a build ends in; inside `alone()`."""
    from chameleon_data.pipelines.build import build_recipe

    return build_recipe(recipe, lambda *_: None, CREATED).manifest


def small_recipe(folder: Path, out: str, budget: int = 30_000, **sections: Any) -> Recipe:
    """Twenty documents of three domains in four shards, with weights given."""
    corpus = {"legal": documents()["legal"][:8], "book": [t[:2500] for t in documents()["book"][:5]],
              "code": [t[:1500] for t in documents()["code"][:9]]}  # fmt: skip
    sources = lay_out(folder / "corpus", corpus, ["jsonl"], 1)
    mix, shards = {"budget": budget, "max_epochs": 8}, {"size": "8KB"}
    return load_recipe(write_recipe(folder / "recipe.yaml", sources, out=out, **{"mix": mix, "shards": shards, **sections}))


def readable(store: Store) -> list[Manifest]:
    """The manifests of all versions, each proved from its bytes."""
    found = []
    for version in list_versions(store):
        manifest = read_manifest(store, version)
        proof = verify_version(store, describe_manifest(manifest))
        assert proof.problems == (), version
        found.append(manifest)
        proved["versions verified"] += 1
        proved["documents in them"] += proof.rows
    return found


def kept(store: Store) -> dict[str, int]:
    """Path -> bytes of everything but the caches and the versions' own records, whose sizes hold timings."""
    return {path: size for path, size in store.list().items() if not path.startswith("_chameleon/")}
