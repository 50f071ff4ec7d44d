"""The affinity of domains against the definitions written out."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from chameleon_data import InputError
from chameleon_data.weights.affinity import affinity, debias_fraction
from chameleon_data.weights.domain_statistics import (
    domain_statistics,
    moments,
)
from tests.support.embeddings import plain_clusters


def published(means: np.ndarray) -> np.ndarray:
    k = len(means)
    centring = np.eye(k) - np.ones((k, k)) / k
    return centring @ (means @ means.T) @ centring


@pytest.mark.parametrize(("k", "p"), [(5, 12), (12, 5), (9, 8), (10, 8)], ids=["k<p", "k>p", "k-1=p", "k-2=p"])
@pytest.mark.parametrize("centre", [True, False])
def test_plain_affinity_is_the_published_one_in_either_form(k: int, p: int, centre: bool) -> None:
    m = moments(domain_statistics(plain_clusters(k, 8, p, spread=1.0)))
    expected = published(m.mean) if centre else m.mean @ m.mean.T
    found = affinity(m, centre=centre)
    assert_allclose(found.matrix(), expected, atol=1e-12)
    positive = np.linalg.eigvalsh(expected)[::-1][: len(found.eigenvalues)]
    assert_allclose(found.eigenvalues, positive, rtol=1e-10)
    assert found.coordinates.shape == (k, min(k - centre, p))
    assert found.clipped_mass < 1e-12


def test_the_debiased_diagonal_is_the_mean_over_pairs_of_distinct_samples() -> None:
    features = plain_clusters(4, 200, 12, spread=1.0)
    m = moments(domain_statistics(features))
    plain = m.mean @ m.mean.T
    expected = plain.copy()
    for i, x in enumerate(features.values()):
        pairs = x @ x.T
        expected[i, i] = (pairs.sum() - np.trace(pairs)) / (200 * 199)
    centring = np.eye(4) - np.ones((4, 4)) / 4
    assert_allclose(affinity(m, debias=1.0, centre=False).matrix(), expected, atol=1e-12)
    assert_allclose(affinity(m, debias=0.5, centre=False).matrix(), (expected + plain) / 2, atol=1e-12)
    assert_allclose(affinity(m, debias=1.0).matrix(), centring @ expected @ centring, atol=1e-12)


def test_a_projection_clips_what_is_negative_and_says_how_much() -> None:
    m = moments(domain_statistics(plain_clusters(6, 3, 5, spread=1.0)))
    matrix = published(m.mean) - (c := np.eye(6) - 1 / 6) @ np.diag(m.variance_of_mean) @ c
    values, vectors = np.linalg.eigh(matrix)
    found = affinity(m, debias=1.0)
    assert_allclose(found.matrix(), (vectors * np.maximum(values, 0)) @ vectors.T, atol=1e-11)
    assert_allclose(found.clipped_mass, -values[values < 0].sum() / values[values > 0].sum(), rtol=1e-9)
    assert found.clipped_mass > 0.001


def test_debiasing_removes_the_bias() -> None:
    rng = np.random.default_rng(3)
    truth = rng.normal(size=(5, 30))
    drawn = [
        moments(domain_statistics({f"d{i}": truth[i] + 3 * rng.normal(size=(10, 30)) for i in range(5)})) for _ in range(300)
    ]
    trace = float(np.square(truth).sum())
    debiased = np.mean([np.square(m.mean).sum() - m.variance_of_mean.sum() for m in drawn])
    assert abs(debiased - trace) < 0.03 * trace
    assert np.mean([np.square(m.mean).sum() for m in drawn]) > 1.5 * trace


@pytest.mark.parametrize(
    ("counts", "p", "asked", "fraction"),
    [((100, 150, 200), 8, "auto", 1.0), ((9, 20, 100), 8, "auto", 1.0), ((9, 99, 99), 8, "auto", 0.5),
     ((100,) * 9, 8, "auto", 1.0),
     ((100,) * 10, 8, "auto", 0.0), ((5, 5, 5), 8, 0.25, 0.25), ((5,) * 10, 8, 0.0, 0.0)],
)  # fmt: skip
def test_how_much_is_debiased(counts: tuple[int, ...], p: int, asked: float, fraction: float) -> None:
    rng = np.random.default_rng(0)
    m = moments(domain_statistics({f"d{i}": rng.normal(size=(n, p)) for i, n in enumerate(counts)}))
    assert debias_fraction(asked, m) == fraction


def test_debiasing_more_domains_than_dimensions_is_refused() -> None:
    with pytest.raises(InputError, match="10 domains in 8 dimensions"):
        debias_fraction(1.0, moments(domain_statistics(plain_clusters(10, 3, 8, spread=1.0))))


def test_a_single_sample_is_not_debiased() -> None:
    m = moments(domain_statistics({"a": np.ones((1, 3)), "b": 5 * np.eye(3)[:2] + np.array([[0, 0, 9]])}))
    debiased = affinity(m, debias=1.0, centre=False).matrix()
    assert_allclose(debiased[0, 0], 3.0)
    assert_allclose(debiased[1, 1], 81.0)  # the product of the two distinct samples


@pytest.mark.parametrize("debias", [0.0, 1.0])
def test_identical_domains_are_refused(debias: float) -> None:
    x = np.random.default_rng(0).normal(size=(10, 4)) + 5
    with pytest.raises(InputError, match="all 3 domains have the same mean"):
        affinity(moments(domain_statistics(dict.fromkeys("abc", x))), debias=debias)


def test_domains_lost_in_their_noise_are_refused() -> None:
    x = np.array([[1.0], [-1.0]])
    with pytest.raises(InputError, match="cannot be told apart from the noise"):
        affinity(moments(domain_statistics({"a": x + 1e-3, "b": x - 1e-3})), debias=1.0)
