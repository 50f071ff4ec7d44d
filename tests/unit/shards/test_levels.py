"""Whole builds at several levels of zstd: other bytes and another plan digest, the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chameleon_data.recipe_file import load_recipe
from chameleon_data.versions.manifest import Manifest
from chameleon_data.versions.verify import verify_version
from tests.support.corpus import documents, lay_out, write_recipe
from tests.support.in_process import ready


def build(folder: Path, **shards: Any) -> Manifest:
    sources = lay_out(folder / "corpus", documents(), ["jsonl"], 1)
    options = {"formats": ["parquet", "mds", "arrow", "jsonl", "litdata"], "size": "200KB", **shards}
    recipe = write_recipe(folder / "recipe.yaml", sources, mix={"budget": 300_000, "max_epochs": 8}, shards=options)
    made = ready(load_recipe(recipe))
    manifest = made.manifest()
    assert verify_version(made.store, manifest).problems == ()
    return manifest


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return build(tmp_path_factory.mktemp("usual"))


@pytest.mark.parametrize("shards", [{"level": 1}, {"level": 9}, {"compression": "none"}], ids=str)
def test_another_level_gives_other_bytes_another_plan_digest_and_the_same_content(
    tmp_path: Path, usual: Manifest, shards: dict[str, Any]
) -> None:
    other = build(tmp_path, **shards)
    assert other.content_digest == usual.content_digest
    assert other.plan_digest != usual.plan_digest
    assert other.digest != usual.digest
    assert (other.provenance.writer.level, usual.provenance.writer.level) == (shards.get("level"), 3)


def test_a_level_that_is_spelled_out_is_the_same_plan_and_the_same_bytes(tmp_path: Path, usual: Manifest) -> None:
    other = build(tmp_path, level=3)
    assert (other.plan_digest, other.digest) == (usual.plan_digest, usual.digest)
