"""Leverage scores against the published inverse, and the automatic ridge against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from chameleon_data.errors import InputError
from chameleon_data.weights.affinity import Affinity, affinity
from chameleon_data.weights.domain_statistics import domain_statistics, moments
from chameleon_data.weights.leverage import leverage_scores, perplexity, ridge_for


def from_means(means: np.ndarray, centre: bool = True) -> Affinity:
    return affinity(moments(domain_statistics({f"d{i:04d}": row[None] for i, row in enumerate(means)})), centre=centre)


@settings(deadline=None)
@given(k=st.integers(3, 40), p=st.integers(1, 40), seed=st.integers(0, 999), r=st.floats(1e-3, 1e3), centre=st.booleans())
def test_scores_are_those_of_the_published_inverse(k: int, p: int, seed: int, r: float, centre: bool) -> None:
    means = np.random.default_rng(seed).normal(size=(k, p))
    centring = np.eye(k) - centre * np.ones((k, k)) / k
    matrix = centring @ means @ means.T @ centring
    expected = np.diag(matrix @ np.linalg.inv(matrix + r * np.eye(k)))
    assert_allclose(leverage_scores(from_means(means, centre), r), expected, rtol=1e-9, atol=1e-11)


@given(st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=50))
def test_the_ridge_leaves_half_the_effective_rank(values: list[float]) -> None:
    eigenvalues = np.array(values)
    r = ridge_for(eigenvalues)
    shares = eigenvalues / eigenvalues.sum()
    assert_allclose((eigenvalues / (eigenvalues + r)).sum(), np.exp(-(shares * np.log(shares)).sum()) / 2, rtol=1e-9)


@given(st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=50), st.floats(0.001, 0.999))
def test_a_dimension_that_is_asked_for_is_reached(values: list[float], share: float) -> None:
    eigenvalues = np.array(values)
    r = ridge_for(eigenvalues, share * len(values))
    assert_allclose((eigenvalues / (eigenvalues + r)).sum(), share * len(values), rtol=1e-9)


@pytest.mark.parametrize("dimension", [3.0, 3.5])
def test_a_dimension_that_no_ridge_leaves_is_refused(dimension: float) -> None:
    with pytest.raises(InputError, match="not below 3,"):
        ridge_for(np.array([3.0, 2.0, 1.0]), dimension)


@pytest.mark.parametrize("m", [1, 2, 7, 384])
def test_equal_eigenvalues_are_their_own_ridge(m: int) -> None:
    assert_allclose(ridge_for(np.full(m, 3.5)), 3.5, rtol=1e-9)


@given(st.floats(-30, 30))
def test_the_ridge_scales_with_the_affinity(power: float) -> None:
    eigenvalues = np.array([5.0, 2.0, 0.3, 1e-9])
    assert_allclose(ridge_for(eigenvalues * 10**power), ridge_for(eigenvalues) * 10**power, rtol=1e-9)


def test_the_ridge_is_continuous_in_a_vanishing_eigenvalue() -> None:
    with_it, without = ridge_for(np.array([3.0, 2.0, 1.0, 1e-14])), ridge_for(np.array([3.0, 2.0, 1.0]))
    assert_allclose(with_it, without, rtol=1e-9)


def test_more_domains_than_dimensions_make_no_matrix_of_domains() -> None:
    means = np.random.default_rng(0).normal(size=(20_000, 8))
    kernel = from_means(means)  # 3 GB as k × k
    scores = leverage_scores(kernel, 1e5)
    assert kernel.coordinates.shape == (20_000, 8)
    assert_allclose(scores.sum(), (kernel.eigenvalues / (kernel.eigenvalues + 1e5)).sum(), rtol=1e-9)


def test_perplexity_counts_equal_shares() -> None:
    assert_allclose(perplexity(np.full(7, 1 / 7)), 7)
    assert perplexity(np.array([1.0, 0.0])) == 1.0
