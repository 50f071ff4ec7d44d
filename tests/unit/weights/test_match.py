"""Weights towards a target's samples: against a solver of somebody else, and on targets whose answer is known."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import scipy
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from chameleon_data import InputError, domain_weights
from chameleon_data.weights.domain_statistics import domain_statistics, keep_groups, moments
from chameleon_data.weights.match import (
    gradient_width,
    match_at,
    match_path,
    rho_within,
    squared_distance,
    target_coordinates,
)
from tests.support.embeddings import as_array

K, P = 6, 24


def clouds(seed: int, n: int = 200, noise: float = 2.0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = 5 + rng.normal(size=(K, P))
    return {f"d{i}": centres[i] + noise * rng.normal(size=(n, P)) for i in range(K)}, centres


def draw(mean: np.ndarray, n: int, seed: int, noise: float = 2.0) -> np.ndarray:
    return mean + noise * np.random.default_rng([9, seed]).normal(size=(n, P))


@settings(deadline=None)
@given(k=st.integers(2, 7), m=st.integers(1, 7), seed=st.integers(0, 999), factor=st.sampled_from([10.0, 1.0, 0.1, 0.01]))
def test_it_is_the_minimum_that_another_solver_finds(k: int, m: int, seed: int, factor: float) -> None:
    rng = np.random.default_rng(seed)
    c, base = rng.normal(size=(k, m)), scipy.special.log_softmax(rng.normal(size=k))
    rho = factor * gradient_width(c, base)

    def value(w: np.ndarray) -> float:
        return float(np.square(c.T @ w).sum() + rho * scipy.special.rel_entr(w, np.exp(base)).sum())

    found = np.exp(match_at(c, base, rho))
    assert found.sum() == pytest.approx(1, abs=1e-12)
    solved = scipy.optimize.minimize(
        lambda z: value(scipy.special.softmax(z)), base, method="BFGS", options={"gtol": 1e-10, "maxiter": 1000}
    )
    assert value(found) <= solved.fun + 1e-9 * max(1.0, abs(solved.fun))


@settings(deadline=None)
@given(seed=st.integers(0, 999), kl=st.floats(1e-4, 0.6))
def test_the_divergence_falls_with_rho_and_stays_within_what_is_asked(seed: int, kl: float) -> None:
    rng = np.random.default_rng(seed)
    c, base = rng.normal(size=(5, 4)), scipy.special.log_softmax(rng.normal(size=5))
    width = gradient_width(c, base)
    path = match_path(c, base, [width * f for f in (10, 1, 0.1, 0.01)])
    apart = [float((np.exp(w) * (w - base)).sum()) for w in path]
    assert all(a <= b + 1e-12 for a, b in pairwise(apart))
    found = match_at(c, base, rho_within(c, base, kl))
    assert (np.exp(found) * (found - base)).sum() <= kl + 1e-9


def test_the_target_that_is_a_domain_goes_to_that_domain_as_rho_falls() -> None:
    embeddings, centres = clouds(0)
    for i in range(K):
        target = draw(centres[i], 2000, i)
        shares = [
            domain_weights(embeddings, like=target, temperature=rho).weights[f"d{i}"] for rho in (1e4, 100.0, 10.0, 1.0, 0.1)
        ]
        assert shares == sorted(shares)
        assert shares[0] == pytest.approx(1 / K, abs=0.01), shares
        assert shares[-1] > 0.9


def test_a_mixture_of_domains_is_found_again_by_folds_within_its_intervals() -> None:
    truth = np.array([0.5, 0.3, 0.2, 0, 0, 0])
    inside, nearer = [], []
    for seed in range(8):
        embeddings, centres = clouds(seed)
        found = domain_weights(embeddings, like=draw(truth @ centres, 200, seed))
        assert_allclose(as_array(found.weights), truth, atol=0.12)
        ends = as_array(found.intervals)[:3]
        inside += [low <= t <= high for (low, high), t in zip(ends, truth, strict=False)]
        nearer.append(found.match.from_weights / found.match.from_centre)
    assert np.mean(inside) > 0.7
    assert np.mean(nearer) < 0.05


def test_without_nats_and_without_a_difference_it_is_the_centre() -> None:
    embeddings, centres = clouds(1)
    shares = {name: i + 1.0 for i, name in enumerate(embeddings)}
    found = domain_weights(embeddings, like=draw(centres[0], 100, 0), centre_shares=shares, temperature={"kl": 0})
    assert_allclose(as_array(found.weights), np.arange(1, K + 1) / 21, rtol=1e-12)
    assert found.temperature is None
    same = dict.fromkeys("abc", embeddings["d0"])
    assert_allclose(as_array(domain_weights(same, like=draw(centres[1], 100, 0)).weights), 1 / 3, rtol=1e-9)
    assert domain_weights({"a": embeddings["d0"]}, like=embeddings["d1"]).weights == {"a": 1.0}


def test_an_origin_does_not_matter_and_a_domain_without_a_share_in_the_centre_gets_none() -> None:
    embeddings, centres = clouds(2)
    target = draw(centres[:2].mean(axis=0), 300, 0)
    shares = {name: float(name != "d0") for name in embeddings}
    plain = domain_weights(embeddings, like=target, centre_shares=shares, temperature={"kl": 0.3})
    moved = domain_weights(
        {name: x - 7 for name, x in embeddings.items()}, like=target - 7, centre_shares=shares, temperature={"kl": 0.3}
    )
    assert_allclose(as_array(moved.weights), as_array(plain.weights), rtol=1e-6)
    assert plain.weights["d0"] == 0
    assert plain.intervals["d0"] == (0, 0)
    assert plain.kl == pytest.approx(0.3)


def test_the_diagonal_is_free_of_the_noise_of_means() -> None:
    """On average over draws, wᵀ A w is the squared distance of the true means, and so is `squared_distance`."""
    w, values, distances = np.full(K, 1 / K), [], []
    for seed in range(60):
        _, centres = clouds(0)
        rng = np.random.default_rng([1, seed])
        drawn = {f"d{i}": centres[i] + 2 * rng.normal(size=(40, P)) for i in range(K)}
        domains, target = (moments(domain_statistics(x)) for x in (drawn, {"t": draw(centres[0], 40, seed)}))
        coordinates = target_coordinates(domains, target, 1.0)
        values.append(np.square(coordinates.T @ w).sum() - target.variance_of_mean[0])
        distances.append(squared_distance(w, domains, target))
    truth = np.square(w @ centres - centres[0]).sum()
    assert np.mean(values) == pytest.approx(truth, rel=0.05)
    assert np.mean(distances) == pytest.approx(truth, rel=0.05)


@pytest.mark.parametrize("kernel", ["cosine", "rbf", "polynomial", "laplacian"])
def test_every_kernel_finds_the_domain_that_the_target_is(kernel: str) -> None:
    embeddings, centres = clouds(3)
    target = draw(centres[4], 400, 0)
    found = domain_weights(embeddings, like=target, kernel=kernel, landmarks=128)
    assert max(found.weights, key=lambda name: found.weights[name]) == "d4"
    assert found.weights["d4"] > 0.6


def test_moments_of_some_groups_are_those_of_their_samples() -> None:
    rng = np.random.default_rng(0)
    x, groups = {"a": rng.normal(size=(50, 3)), "b": rng.normal(size=(9, 3))}, {"a": np.arange(50) % 20, "b": np.full(9, 7)}
    kept = np.arange(20) % 3 != 1
    found = keep_groups(domain_statistics(x, groups), kept)
    inside = x["a"][kept[groups["a"]]]
    assert_allclose(found.mean, [inside.mean(axis=0), x["b"].mean(axis=0)])  # all of b lies in a group that is left out
    assert found.count.tolist() == [len(inside), 9]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"like": np.ones((49, P))}, "49 samples; their mean is too unsure to aim at, give at least 50"),
        ({"like": np.ones((60, P)), "level": "sample"}, "matches the means"),
        ({"like": np.ones((60, P)), "preset": "reference"}, "matches the means"),
        ({"like": np.full((60, P), np.nan)}, "'like': an embedding is NaN"),
        ({"like": np.ones(60)}, "'like': embeddings must be"),
    ],
)
def test_a_target_that_says_too_little_is_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        domain_weights(clouds(0)[0], **options)


def test_a_target_that_no_mixture_comes_near_is_told() -> None:
    embeddings, _ = clouds(4)
    found = domain_weights(embeddings, like=draw(np.full(P, -40.0), 100, 0))
    assert any("hardly nearer" in warning for warning in found.warnings)
    one = domain_weights(embeddings, like=embeddings["d3"], temperature=0.01)
    assert any("'d3' takes" in warning for warning in one.warnings)
