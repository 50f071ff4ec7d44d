"""Manifests for tests: from a few keys, the rest made up; and from what a forger made of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from chameleon_data.hashing import canonical_json, fingerprint
from chameleon_data.versions.manifest import Manifest, decode_manifest, describe_manifest
from chameleon_data.weights.mixture import Mixture

NOTHING = fingerprint(None)
DOMAIN = {
    "weight": 0.5, "target_tokens": 10, "tokens": 10, "rows": 2, "epochs": 1.0, "available_tokens": 10, "available_rows": 2,
    "available_bytes": 10, "largest_document": 6, "multiset": "0" * 32, "rows_written_once": 2, "rows_not_selected": 0,
    "copies_written": 0, "most_copies": 1,
}  # fmt: skip
BOOKS = {"rows_read": 2, "held_out": 0, "copies_dropped": 0, "quarantined": 0, "score": None, "weight_interval": None}
SHARD = {
    "path": "builds/x/parquet/0", "format": "parquet", "split": "train", "shard": 0, "rows": 2, "tokens": 10, "bytes": 9,
    "sha256": NOTHING, "domain_tokens": {}, "domain_rows": {},
}  # fmt: skip
PROVENANCE = {
    "inputs": [], "files": {}, "tokenizer": "bytes", "packages": {}, "python": "3",
    "code": {"version": "0", "commit": None, "sources": NOTHING},
    "writer": {"formats": {}, "compression": "zstd", "level": 3, "tokens": "bytes", "ids": None},
}  # fmt: skip
LANDMARKS = {
    "kernel": {"name": "rbf", "bandwidth": 1.0, "degree": 2}, "digest": NOTHING, "landmarks": 1, "error": None, "residuals": {},
    "bounds": None, "recorded": False,
}  # fmt: skip
EMBEDDER = {"model": "m", "revision": None, "layer": None, "window": 256, "fingerprint": NOTHING}
WEIGHTS = {
    "origin": "computed", "objective": "pretrain", "preset": "default", "kernel": "linear", "level": "domain", "names": [],
    "unbounded": {}, "moved": [], "effective_domains": 1.0, "scores": {}, "intervals": {}, "rank_stability": {},
    "variance_of_mean": {}, "affinity": None, "ridge": None, "temperature": None, "clipped_mass": 0.0, "nystrom": None,
    "warnings": [],
}  # fmt: skip
RECIPE = {"name": "a", "out": "/out", "sources": {"s": {"path": ["/corpus"]}}}


def parse_manifest(plain: Mapping[str, Any]) -> Manifest:
    """The manifest that stands in plain JSON."""
    return decode_manifest(canonical_json(plain), "a test")


def example_manifest(name: str = "a", **changes: Any) -> Manifest:
    """The manifest of a build called `name`; `changes` are keys of its JSON. Each domain and shard, the recipe, the weights
    and the provenance need only the keys that matter."""
    recipe = {**RECIPE, **changes.get("recipe", {})}
    plain: dict[str, Any] = {
        "format": 1, "name": name, "plan_digest": fingerprint(name), "digest": fingerprint([name]), "content_digest": NOTHING,
        "build": f"builds/{fingerprint(name)}", "seed": 0, "budget": 10, "shard_count": 1, "shard_counts": {"train": 1},
        "unit": "bytes", "hash": "text", "map": {}, "domain_ids": {}, "quarantine": {}, "timings": {}, "reused": {},
        "priority": list(recipe["sources"]), **changes, "recipe": recipe,
        "domains": {n: {**DOMAIN, **BOOKS, **d} for n, d in changes.get("domains", {"s": {}}).items()},
        "validation": {n: {**DOMAIN, **d} for n, d in changes.get("validation", {}).items()},
        "shards": [{**SHARD, **shard} for shard in changes.get("shards", [])],
        "weights": {**WEIGHTS, **changes.get("weights", {})},
        "provenance": {**PROVENANCE, **changes.get("provenance", {})},
    }  # fmt: skip
    return parse_manifest(plain)


def forge(manifest: Manifest, change: Callable[[dict[str, Any]], object]) -> Manifest:
    """What a forger makes of a manifest by changing its JSON."""
    plain = describe_manifest(manifest)
    change(plain)
    return parse_manifest(plain)


def example_mixture() -> Mixture:
    """A mixture of which nothing is known but that the weights were given."""
    return Mixture({}, example_manifest().weights, {})
