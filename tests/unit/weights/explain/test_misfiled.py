"""Misfiled documents by hand, and planted strangers."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from chameleon_data.weights.explain.misfiled import find_misfiled
from tests.support.embeddings import plain_clusters


def nearest_by_hand(vectors: dict[str, np.ndarray], m: int = 5) -> list[tuple[str, int, str, float]]:
    centre = np.mean([x.mean(axis=0) for x in vectors.values()], axis=0)
    unit = {name: (x - centre) / np.linalg.norm(x - centre, axis=1, keepdims=True) for name, x in vectors.items()}
    found = []
    for name, x in unit.items():
        for row, v in enumerate(x):
            near = {d: np.sort(np.delete(y, row, 0) @ v if d == name else y @ v)[-m:].mean() for d, y in unit.items()}
            own = near.pop(name)
            best = max(near, key=near.get)
            if near[best] > own:
                found.append((name, row, best, near[best] - own))
    return sorted(found, key=lambda f: -f[3])


def test_misfiled_documents_are_those_found_by_hand() -> None:
    vectors = {name: x.astype(np.float32) for name, x in plain_clusters(4, 25, 6, spread=2.0).items()}
    vectors["d03"] = vectors["d03"][:3]  # fewer than are compared with
    expected = nearest_by_hand(vectors)
    found = find_misfiled(vectors, most=1000)
    assert len(expected) > 10
    assert [(f.domain, f.row, f.nearest) for f in found] == [e[:3] for e in expected]
    assert_allclose([f.margin for f in found], [e[3] for e in expected], atol=1e-5)
    assert find_misfiled(vectors, most=7) == found[:7]


def test_planted_strangers_head_the_list() -> None:
    vectors = {name: x.astype(np.float32) for name, x in plain_clusters(6, 50, 32, spread=0.6).items()}
    planted = {("d01", 7): "d04", ("d02", 0): "d05", ("d05", 49): "d00"}
    for (domain, row), home in planted.items():
        vectors[domain][row] = vectors[home][20] + 0.01
    found = find_misfiled(vectors)
    assert {(f.domain, f.row): f.nearest for f in found[:3]} == planted
    assert found[2].margin > 0.3


def test_a_bounded_search_finds_planted_strangers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chameleon_data.weights.explain.misfiled.REFERENCE_DOCUMENTS", 60)
    vectors = {name: x.astype(np.float32) for name, x in plain_clusters(6, 50, 32, spread=0.6).items()}
    vectors["d01"][40] = vectors["d04"][20] + 0.01
    assert [(f.domain, f.row, f.nearest) for f in find_misfiled(vectors)[:1]] == [("d01", 40, "d04")]


def test_lone_samples_and_zero_vectors_are_no_trouble() -> None:
    vectors = {name: x.astype(np.float32) for name, x in plain_clusters(3, 10, 8).items()}
    vectors["d00"][4] = np.mean([x.mean(axis=0) for x in vectors.values()], axis=0)
    assert all(f.domain != "lone" != f.nearest for f in find_misfiled({**vectors, "lone": vectors["d00"][:1]}))
    assert find_misfiled({"only": vectors["d00"]}) == ()
    assert find_misfiled({}) == ()
