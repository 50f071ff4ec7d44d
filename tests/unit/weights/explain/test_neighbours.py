"""Neighbours against leaving a domain out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from chameleon_data import InputError, domain_weights
from chameleon_data.weights.explain.neighbours import find_neighbours, lowered_by
from tests.support.embeddings import plain_clusters


def leverage(matrix: np.ndarray, r: float) -> np.ndarray:
    return np.diag(matrix @ np.linalg.inv(matrix + r * np.eye(len(matrix))))


@settings(deadline=None, max_examples=40)
@given(k=st.integers(1, 12), p=st.integers(1, 15), seed=st.integers(0, 999), r=st.floats(1e-3, 1e3), centred=st.booleans())
def test_lowered_by_is_leaving_a_domain_out(k: int, p: int, seed: int, r: float, centred: bool) -> None:
    x = np.random.default_rng(seed).normal(size=(k, p))
    x -= centred * x.mean(axis=0)
    matrix = x @ x.T
    lowered = lowered_by(matrix, r)
    whole = leverage(matrix, r)
    for j in range(k):
        rest = [i for i in range(k) if i != j]
        assert_allclose(lowered[rest, j], leverage(matrix[np.ix_(rest, rest)], r) - whole[rest], atol=1e-9)
    assert (lowered >= 0).all()
    assert (np.diag(lowered) == 0).all()


def test_the_twin_is_what_lowers_a_domain_most() -> None:
    x = np.random.default_rng(0).normal(size=(8, 300))
    x[5] = x[2] + 0.1 * np.random.default_rng(1).normal(size=300)
    names = [f"d{i}" for i in range(8)]
    found = find_neighbours(names, x @ x.T, 30.0, most=3)
    assert found["d2"][0].domain == "d5"
    assert found["d5"][0].domain == "d2"
    assert found["d2"][0].lowers > 5 * found["d2"][1].lowers
    assert found["d2"][0].cosine > 0.95
    assert all(len(near) == 3 and near[0].lowers >= near[1].lowers >= near[2].lowers for near in found.values())
    assert all(name not in {n.domain for n in near} for name, near in found.items())
    without = leverage(np.delete(np.delete(x @ x.T, 5, 0), 5, 1), 30.0)[2]
    assert found["d2"][0].lowers == pytest.approx(1 - leverage(x @ x.T, 30.0)[2] / without)


def test_neighbours_of_computed_weights() -> None:
    result = domain_weights(plain_clusters(6, 40, 16))
    assert result.affinity is not None
    found = find_neighbours(list(result.weights), result.affinity, result.ridge * 6)
    assert list(found) == list(result.weights)
    assert all(len(near) == 5 for near in found.values())


def test_a_domain_at_the_centre_has_neighbours_that_lower_nothing() -> None:
    x = np.array([[1.0, 0], [-1, 0], [0, 0]])
    found = find_neighbours("abc", x @ x.T, 1.0)
    assert [(n.lowers, n.cosine) for n in found["c"]] == [(0.0, 0.0), (0.0, 0.0)]
    assert found["a"][0].domain == "b"
    assert found["a"][0].cosine == pytest.approx(-1)


@pytest.mark.parametrize(("matrix", "r"), [(np.eye(2), 0.0), (np.full((2, 2), np.nan), 1.0), (np.ones((2, 3)), 1.0)])
def test_an_affinity_without_meaning_is_refused(matrix: np.ndarray, r: float) -> None:
    with pytest.raises(InputError, match="affinity"):
        lowered_by(matrix, r)
