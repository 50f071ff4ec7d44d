"""Features through landmarks against the exact kernel, and their statistics."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from numpy.testing import assert_allclose

from chameleon_data.weights.domain_statistics import (
    domain_statistics,
    merge_statistics,
    moments,
)
from chameleon_data.weights.kernels import nystrom
from chameleon_data.weights.kernels.kernel import Kernel, evaluate_kernel, kernel_diagonal
from chameleon_data.weights.kernels.landmarks import Landmarks, choose_landmarks
from chameleon_data.weights.kernels.nystrom import feature_map, nystrom_features, nystrom_statistics, whitening
from chameleon_data.weights.sample_leverage import sample_leverage
from tests.support.embeddings import as_array, unit_clusters

RBF = Kernel("rbf", 1.2)


KERNELS = [RBF, Kernel("laplacian", 6.0), Kernel("polynomial", 1.0, 2), Kernel("polynomial", 1.0, 3)]


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: f"{k.name}{k.degree}")
def test_features_are_the_projection_on_the_landmarks(kernel: Kernel) -> None:
    x, z = (as_array(unit_clusters(3, 20, seed=s)).reshape(-1, 12).astype(float) for s in (0, 1))
    landmarks = Landmarks(kernel, z[:25].astype(np.float32))
    z = landmarks.points.astype(float)
    cross = evaluate_kernel(kernel, x, z)
    expected = cross @ np.linalg.pinv(evaluate_kernel(kernel, z, z), rcond=1e-10, hermitian=True) @ cross.T
    psi = nystrom_features(x, landmarks)
    assert psi.shape == (60, 25)
    assert_allclose(psi @ psi.T, expected, rtol=1e-8, atol=1e-9)
    assert_allclose(nystrom_features(x.astype(np.float32), landmarks) @ psi.T, expected, rtol=1e-3, atol=1e-4)
    assert (np.einsum("ij,ij->i", psi, psi) <= kernel_diagonal(kernel, x) + 1e-9).all()


def test_repeated_landmarks_and_a_kernel_of_low_rank_are_pseudo_inverted() -> None:
    x = as_array(unit_clusters(2, 20, p=3)).reshape(-1, 3)
    kernel = Kernel("polynomial", 1.0, 2)  # of rank 10 in three dimensions
    landmarks = Landmarks(kernel, np.concatenate([x[:30], x[:5]]))
    root = whitening(landmarks)
    assert root.shape[1] <= 10
    assert np.isfinite(root).all()
    psi = nystrom_features(x.astype(float), landmarks)
    assert_allclose(psi @ psi.T, evaluate_kernel(kernel, x.astype(float), x.astype(float)), rtol=1e-6)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: f"{k.name}{k.degree}")
@pytest.mark.parametrize(("kind", "rtol"), [(np.float64, 1e-9), (np.float32, 3e-4)])
def test_statistics_are_those_of_the_features(kernel: Kernel, kind: type, rtol: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nystrom, "SAMPLES_AT_ONCE", 7)
    samples = {name: x.astype(kind) for name, x in unit_clusters(4, 45).items()}
    groups = {name: np.random.default_rng(i).integers(0, 20, 45) for i, name in enumerate(samples)}
    landmarks = choose_landmarks(samples, kernel, 16)
    psi = {name: nystrom_features(x.astype(float), landmarks) for name, x in samples.items()}
    expected, found = domain_statistics(psi, groups), nystrom_statistics(samples, landmarks, groups)
    for column in ("domain", "group", "count", "total", "squares"):
        assert_allclose(getattr(found.statistics, column), getattr(expected, column), rtol=rtol, atol=rtol, err_msg=column)
    for name, x in samples.items():
        seen = np.square(psi[name]).sum() / kernel_diagonal(kernel, x.astype(float)).sum()
        assert found.residuals[name] == pytest.approx(1 - seen, abs=10 * rtol)


def test_squared_norms_of_a_part_stand_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = unit_clusters(4, 6_000)
    landmarks = choose_landmarks(samples, RBF, 16)
    quick = nystrom_statistics(samples, landmarks)
    monkeypatch.setattr(nystrom, "SQUARED_NORMS", 10_000)
    whole = nystrom_statistics(samples, landmarks)
    assert_allclose(quick.statistics.total, whole.statistics.total, rtol=1e-4, atol=1e-3)
    assert (quick.statistics.squares != whole.statistics.squares).all()
    assert_allclose(quick.statistics.squares, whole.statistics.squares, rtol=0.05)
    a, b = (moments(fitted.statistics).variance_of_mean for fitted in (quick, whole))
    assert_allclose(a, b, atol=1e-6)
    assert_allclose(as_array(quick.residuals), as_array(whole.residuals), atol=0.01)


def test_parts_merge_and_a_new_domain_costs_only_its_own_samples() -> None:
    samples = unit_clusters(4, 60)
    landmarks = choose_landmarks(samples, RBF, 20)
    groups = {name: np.arange(60) % 20 for name in samples}
    whole = nystrom_statistics(samples, landmarks, groups).statistics

    def cut(parts: dict[str, np.ndarray], rows: slice) -> dict[str, np.ndarray]:
        return {name: part[rows] for name, part in parts.items()}

    ends = (slice(0, 25), slice(25, None))
    halves = [nystrom_statistics(cut(samples, r), landmarks, cut(groups, r)).statistics for r in ends]
    parts = [nystrom_statistics({n: x}, landmarks, groups).statistics for n, x in reversed(samples.items())]
    for other in (merge_statistics(*halves), merge_statistics(*parts)):
        assert_allclose(other.total, whole.total, rtol=1e-6, atol=1e-5)
        assert other.names == whole.names


def test_memory_does_not_grow_with_the_samples() -> None:
    peaks = []
    for n in (2_000, 40_000):
        samples = {name: np.random.default_rng(0).normal(size=(n, 16)).astype(np.float32) for name in "abc"}
        landmarks = choose_landmarks(samples, RBF, 32)
        tracemalloc.start()
        nystrom_statistics(samples, landmarks)
        sample_leverage(samples, None, feature_map(RBF, landmarks))
        peaks.append(tracemalloc.get_traced_memory()[1] - 3 * n * 8)  # groups: 8 bytes a sample
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0] + 2**20
