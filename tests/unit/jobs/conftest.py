"""Datasets for the verbs that read one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chameleon_data.hashing import fingerprint
from chameleon_data.store.store import Store
from chameleon_data.versions.versions import commit_version, delete_version, tag_version
from tests.support.words import HOSTILE_NAMES
from tests.unit.versions.test_diff import publish


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    """A store with one version, whose domains have names that look like markup."""
    domain = {
        "weight": 0.2,
        "weight_interval": None,
        "available_tokens": 10,
        "tokens": 10,
        "rows": 2,
        "epochs": 1.0,
        "quarantined": 0,
    }
    manifest: dict[str, Any] = {
        "format": 1,
        "name": "[/name]",
        "build": "builds/x",
        "plan_digest": "a" * 64,
        "digest": "b" * 64,
        "content_digest": "c" * 64,
        "shard_count": 1,
        "seed": 0,
        "unit": "bytes",
        "domains": dict.fromkeys(HOSTILE_NAMES, domain),
    }
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
        inputs = [{"source": "s", "url": f"/{i}", "row_group": None, "bytes": 7, "identity": "i"}]
        manifest = publish(store, plan, [rows[i], rows[0]], provenance={"inputs": inputs, "packages": {"numpy": str(i)}})
        more = {"weight_interval": None, "available_tokens": 9, "quarantined": 0}
        manifest |= {
            "format": 1, "name": f"set {i}", "build": f"builds/{plan}", "plan_digest": plan, "digest": fingerprint([i]),
            "content_digest": "c", "shard_count": 2, "seed": 0, "unit": "bytes", "recipe": {"mix": {"budget": i}},
            "domains": {name: {**d, **more} for name, d in manifest["domains"].items()},
            "weights": {"origin": "computed", "embedder": {"model": "m", "revision": "r1"}},
        }  # fmt: skip
        made.append(commit_version(store, manifest, f"2026-01-0{i + 1}"))
    tag_version(store, made[1], "prod", "then")
    tag_version(store, made[0], "prod", "later")
    tag_version(store, made[1], "old", "once")
    delete_version(store, made[1], "2026-02-02")
    return store.url
