"""The error that landmarks make: measured, bounded, and told when it grows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from chameleon_data import domain_weights
from chameleon_data.weights.affinity import affinity
from chameleon_data.weights.domain_statistics import (
    moments,
)
from chameleon_data.weights.kernels import landmark_error
from chameleon_data.weights.kernels.kernel import Kernel, auto_bandwidth, evaluate_kernel
from chameleon_data.weights.kernels.landmark_error import has_drifted, leverage_bounds
from chameleon_data.weights.kernels.landmarks import Landmarks, choose_landmarks, draw_balanced_pool
from chameleon_data.weights.kernels.nystrom import nystrom_features, nystrom_statistics
from chameleon_data.weights.leverage import leverage_scores
from tests.support.embeddings import as_array, unit_clusters

RBF = Kernel("rbf", 1.2)


def test_the_measured_error_is_near_the_error_and_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landmark_error, "HELD_OUT", 200)
    samples = unit_clusters(5, 60, p=24)
    exact = as_array(domain_weights(samples, kernel="rbf", landmarks=16_000).weights)
    for count in (8, 32, 128):
        result = domain_weights(samples, kernel="rbf", landmarks=count)
        error = np.abs(as_array(result.weights) - exact).max()
        assert error < 4 * result.nystrom.error + 1e-3
    assert error < 1e-3


def test_auto_landmarks_grow_until_the_tolerance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landmark_error, "HELD_OUT", 200)
    samples = unit_clusters(5, 80, p=24)
    sizes = []
    for tolerance in (0.05, 1e-3, 1e-4):
        result = domain_weights(samples, kernel="laplacian", landmarks="auto", tolerance=tolerance)
        assert result.nystrom.error <= tolerance
        sizes.append(len(result.nystrom.landmarks.points))
        smaller = domain_weights(samples, kernel="laplacian", landmarks=sizes[-1] // 2, tolerance=tolerance).nystrom
        assert sizes[-1] == 64 or smaller.error > tolerance
    assert sizes[0] == 64 < sizes[-1]


def test_a_tolerance_that_is_missed_is_said() -> None:
    result = domain_weights(unit_clusters(6, 200), kernel="rbf", landmarks=2)
    assert result.nystrom.error > 0.005
    assert "above the tolerance of 0.005" in result.warnings[-1]


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 99), count=st.integers(1, 40), r=st.floats(1e-3, 10), centre=st.booleans())
def test_exact_scores_lie_between_their_bounds(seed: int, count: int, r: float, centre: bool) -> None:
    samples = {name: x.astype(float) for name, x in unit_clusters(5, 40, seed=seed).items()}

    def plain(landmarks: Landmarks) -> np.ndarray:
        return affinity(moments(nystrom_statistics(samples, landmarks).statistics), centre=centre)

    everything = Landmarks(RBF, np.concatenate(list(samples.values())).astype(np.float32))
    exact = leverage_scores(plain(everything), r)
    landmarks = Landmarks(RBF, draw_balanced_pool(samples, 8 * count, 0, "landmarks")[:count])
    low, high = leverage_bounds(samples, landmarks, plain(landmarks), r)
    assert (low <= exact + 1e-8).all()
    assert (exact <= high + 1e-8).all()
    assert (high <= 1).all()
    psi, gap = {name: nystrom_features(x, landmarks) for name, x in samples.items()}, 0.0
    for name, x in samples.items():
        gap += evaluate_kernel(RBF, x, x).mean() - np.square(psi[name].mean(axis=0)).sum()
    wide = plain(landmarks).matrix() + gap * np.eye(5)
    assert_allclose(high, np.diag(wide @ np.linalg.inv(wide + r * np.eye(5))), rtol=1e-6, atol=1e-9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(landmark_error, "LARGEST_PAIRS", 0)
        assert (high <= leverage_bounds(samples, landmarks, plain(landmarks), r)[1] + 1e-12).all()
    low, high = leverage_bounds(samples, everything, plain(everything), r)
    assert_allclose(low, high, atol=1e-3)


@pytest.mark.parametrize("centre", [True, False])
def test_weights_come_with_bounds_of_the_exact_leverage(centre: bool) -> None:
    samples = {name: x.astype(float) for name, x in unit_clusters(5, 40).items()}
    options = {"kernel": "rbf", "bandwidth": 3.0, "centre": centre, "ridge": 0.01, "debias": 0}
    used = domain_weights(samples, landmarks=12, **options).nystrom
    everything = Landmarks(Kernel("rbf", 3.0), np.concatenate(list(samples.values())).astype(np.float32))
    exact = leverage_scores(affinity(moments(nystrom_statistics(samples, everything).statistics), centre=centre), 0.05)
    low, high = np.array(list(used.bounds.values())).T
    assert (low <= exact + 1e-8).all()
    assert (exact <= high + 1e-8).all()
    assert (high - low).max() > 1e-3
    assert domain_weights(samples, landmarks=12, level="sample", kernel="rbf").nystrom.bounds is None


def test_landmarks_that_no_longer_fit_are_told() -> None:
    samples = unit_clusters(6, 200, p=24)
    kernel = Kernel("rbf", auto_bandwidth("rbf", draw_balanced_pool(samples, 500, 0, "bandwidth")))
    old = {name: x for name, x in samples.items() if name != "d5"}
    landmarks = choose_landmarks(old, kernel, 64)
    like = {**old, "new": unit_clusters(1, 200, p=24, seed=0)["d0"] + np.float32(0.01)}
    far = {**old, "new": 3 * np.eye(24, dtype=np.float32)}
    assert not has_drifted(nystrom_statistics(like, landmarks).residuals, "new")
    assert has_drifted(nystrom_statistics(far, landmarks).residuals, "new")
    assert not has_drifted({"only": 0.9}, "only")
