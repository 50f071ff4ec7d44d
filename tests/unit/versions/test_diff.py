"""What changed between two versions beside their documents: recipe, sources, inputs, packages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chameleon_data.store.store import Store
from chameleon_data.versions.diff import InputChanges, diff_values, diff_versions
from tests.support.manifests import EMBEDDER
from tests.support.published import publish


def test_changes_of_nested_mappings() -> None:
    a: Mapping[str, Any] = {"mix": {"budget": 1, "max": 4}, "sources": {"x": {"path": ["a"]}, "a.b": 1}, "same": [1], "gone": {}}
    b: Mapping[str, Any] = {"mix": {"budget": 2, "max": 4}, "sources": {"x": {"path": ["a", "b"]}, "a": {"b": 1}}, "same": [1]}
    assert diff_values(a, b) == {
        "mix.budget": [1, 2], "sources.x.path": [["a"], ["a", "b"]], 'sources."a.b"': [1, None], "sources.a.b": [None, 1],
    }  # fmt: skip
    assert diff_values(a, a) == {}


def test_the_same_sources_in_another_order(memory_store: Store) -> None:
    rows = [[("x", "one", "train")]]
    ordered = [(memory_store, publish(memory_store, "a", rows, recipe={"sources": dict.fromkeys(names, "/x")}))
               for names in ("ab", "ba", "bc")]  # fmt: skip
    assert diff_versions(ordered[0], ordered[1]).recipe == {"sources": [["a", "b"], ["b", "a"]]}
    assert diff_versions(ordered[0], ordered[0]).recipe == {}
    assert "sources" not in diff_versions(ordered[0], ordered[2]).recipe, "those are other sources, not another order"


def test_inputs_and_packages_that_changed(memory_store: Store) -> None:
    def inputs(*files: tuple[str, str]) -> list[dict[str, Any]]:
        return [{"source": "s", "url": u, "format": "jsonl", "compression": "none", "bytes": 1, "identity": i} for u, i in files]

    rows = [[("x", "one", "train")]]
    before = {"numpy": "1", "ray": "2"}, inputs(("a", "1"), ("b", "1"), ("c", "1"))
    after = {"numpy": "2", "torch": "3"}, inputs(("b", "1"), ("c", "2"), ("d", "1"))
    weights = [{"embedder": {**EMBEDDER, "revision": revision}} for revision in "12"]
    found = diff_versions(*[(memory_store, publish(memory_store, "a", rows, provenance={"packages": p}, inputs=i,
                      weights=w, seed=0)) for (p, i), w in zip((before, after), weights, strict=True)])  # fmt: skip
    assert found.inputs == {"s": InputChanges(added=1, removed=1, changed=1, same=1)}
    assert found.lineage == {"packages.numpy": ["1", "2"], "packages.ray": ["2", None], "packages.torch": [None, "3"],
                             "embedder.revision": ["1", "2"]}  # fmt: skip
