"""Datasets for the verbs that read one."""

from __future__ import annotations

from pathlib import Path

import pytest

from chameleon_data.hashing import fingerprint
from chameleon_data.store.store import Store
from chameleon_data.versions.tags import tag_version
from chameleon_data.versions.versions import commit_version, delete_version
from tests.support.manifests import EMBEDDER, example_manifest
from tests.support.published import publish
from tests.support.words import HOSTILE_NAMES


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    """A store with one version, whose domains have names that look like markup."""
    manifest = example_manifest("[/name]", build="builds/x", domains={name: {"weight": 0.2} for name in HOSTILE_NAMES})
    commit_version(Store(str(tmp_path / "out")), manifest, "2026-01-01")
    return str(tmp_path / "out")


@pytest.fixture
def three(tmp_path: Path) -> str:
    """Three versions, of which the second is deleted; `prod` was at the second and is at the first."""
    store = Store(str(tmp_path / "three"))
    rows = [[("x", f"text {i}", "train"), ("[/b]", "the same", "train")] for i in range(3)]
    made = []
    for i in range(3):
        plan = fingerprint(i)
        inputs = [
            {
                "source": "s",
                "url": f"/{i}",
                "format": "jsonl",
                "compression": "none",
                "bytes": 7,
                "identity": "i",
            }
        ]
        manifest = publish(
            store, plan, [rows[i], rows[0]], inputs=inputs, provenance={"packages": {"numpy": str(i)}},
            plan_digest=plan, digest=fingerprint([i]), recipe={"mix": {"budget": i + 1}},
            weights={"embedder": {**EMBEDDER, "model": "m", "revision": "r1"}},
        )  # fmt: skip
        made.append(commit_version(store, manifest, f"2026-01-0{i + 1}"))
    tag_version(store, made[1], "prod", "then")
    tag_version(store, made[0], "prod", "later")
    tag_version(store, made[1], "old", "once")
    delete_version(store, made[1], "2026-02-02")
    return store.url
