"""A small dataset of two versions to export, with awkward names on purpose, and versions as small as registering needs."""

from __future__ import annotations

import gzip
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from chameleon_data.jobs.engine_options import EngineOptions
from chameleon_data.recipe_file import load_recipe
from chameleon_data.shards.formats import parquet
from chameleon_data.store.store import Store
from chameleon_data.versions.manifest import Manifest
from chameleon_data.versions.versions import Version, commit_version, list_versions, read_manifest
from chameleon_data.views.trainer_files import Blend
from tests.support.corpus import documents, lay_out
from tests.support.inline_builds import CREATED, INLINE
from tests.support.manifests import example_manifest

ODD = "a/b: c"
WEIGHTS = {"legal": 0.4, "book": 0.3, "code": 0.2, ODD: 0.1}


def build_two_versions(folder: Path) -> Blend:
    """Write a corpus and `out` into the folder; v1 and v2 differ in their budgets. Returns the mixture of a recipe not built."""
    from chameleon_data.jobs.cli import _weigh_blend
    from chameleon_data.pipelines.build import build_recipe

    corpus = documents()
    sources: dict[str, Any] = lay_out(folder / "corpus", {"legal": corpus["legal"]}, ["jsonl.zst", "csv"], 4)
    sources["book"] = f"{lay_out(folder / 'corpus', {'book': corpus['book']}, ['parquet'], 2)['book']}/*.parquet"
    web = [{"body": t, "meta": {"set": "Code"}} for t in corpus["code"]]
    web += [{"body": t, "meta": {"set": ODD}} for t in corpus["legal"][:20]]
    mixed = folder / "corpus/mixed.jsonl.gz"
    mixed.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in web).encode()))
    sources["web"] = {"path": str(mixed), "text": "body", "domain": "meta.set", "rename": {"Code": "code"}}
    (folder / "weights.json").write_text(json.dumps(WEIGHTS))
    recipe = {"name": "ways: out", "seed": 3, "sources": sources, "weights": {"from": str(folder / "weights.json")}}

    def write_recipe(out: str, budget: int, formats: list[str]) -> Path:
        shards = {"size": "100KB", "formats": formats}
        mix = {"budget": budget, "max_epochs": 8}
        (folder / "recipe.yaml").write_text(json.dumps(recipe | {"out": str(folder / out), "mix": mix, "shards": shards}))
        return folder / "recipe.yaml"

    for budget, formats in ((300_000, ["parquet", "mds"]), (500_000, ["parquet"])):
        build_recipe(load_recipe(write_recipe("out", budget, formats)), INLINE, lambda *_: None, CREATED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EngineOptions, "start", lambda *_: nullcontext((INLINE, lambda *_: None)))
        blend, _ = _weigh_blend(write_recipe("other", 500_000, ["mds"]), EngineOptions())
    return blend


def open_version(store: Store, number: int) -> tuple[Manifest, Version]:
    version = list_versions(store)[number - 1]
    return read_manifest(store, version), version


def make_packed_version(store: Store, name: str, kind: pa.DataType, rows: int) -> tuple[Manifest, Version]:
    """A version of packed rows, as small as registering needs."""
    ids, zeros = [[2**kind.bit_width - 1, i, 0] for i in range(rows)], pa.array([0] * rows, pa.uint32())
    table = pa.table({
        "input_ids": pa.array(ids, pa.list_(kind, 3)), "domain": ["a"] * rows, "domain_id": zeros,
        "doc_id": [f"{i:032x}" for i in range(rows)], "epoch": pa.array([2**32 - 1] * rows, pa.uint32()),
        "tokens": pa.array([3] * rows, pa.uint32()), "doc_starts": pa.array([[0, 2]] * rows, pa.list_(pa.uint32())),
    })  # fmt: skip
    ((file, body),) = parquet.encode(table, 0, 1, "train", 3).files.items()
    path = f"builds/{name}/parquet/{file}"
    store.write_new(path, body)
    shard = {"path": path, "format": "parquet", "split": "train", "bytes": body.size, "rows": rows}
    held = {**shard, "path": path.replace("train", "validation"), "split": "validation"}
    manifest = example_manifest(name, store, build=f"builds/{name}", shards=[shard, held])
    return manifest, commit_version(store, manifest, CREATED)
