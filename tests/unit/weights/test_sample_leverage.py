"""Leverage of samples against the ridge leverage scores written out."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from chameleon_data import domain_weights
from chameleon_data.weights.kernels.kernel import Kernel, evaluate_kernel
from chameleon_data.weights.kernels.landmarks import Landmarks
from chameleon_data.weights.kernels.nystrom import feature_map
from chameleon_data.weights.sample_leverage import sample_leverage
from chameleon_data.weights.tilt import AUTO_KL
from tests.support.embeddings import as_array, unit_clusters

RBF = Kernel("rbf", 1.2)


@pytest.mark.parametrize("centre", [True, False])
def test_leverage_of_samples_is_their_ridge_leverage_summed(centre: bool) -> None:
    samples = unit_clusters(4, 25)
    x = np.concatenate(list(samples.values())).astype(float)
    x = x - x.mean(axis=0) if centre else x
    gram = x @ x.T
    scores = np.diag(gram @ np.linalg.inv(gram + 0.02 * 100 * np.eye(100))).reshape(4, 25)
    found = sample_leverage(samples, None, feature_map(Kernel("linear"), None), ridge=0.02, centre=centre)
    assert_allclose(found.scores, scores.sum(axis=1), rtol=1e-9)
    assert_allclose(list(found.jackknife())[3], np.delete(scores, [3, 23], axis=1).mean(axis=1) * 25, rtol=1e-9)


def test_leverage_of_samples_through_landmarks_is_the_kernels() -> None:
    samples = unit_clusters(3, 20)
    x = np.concatenate(list(samples.values())).astype(float)
    gram = evaluate_kernel(RBF, x, x)
    scores = np.diag(gram @ np.linalg.inv(gram + 0.1 * 60 * np.eye(60))).reshape(3, 20).sum(axis=1)
    found = sample_leverage(samples, None, feature_map(RBF, Landmarks(RBF, x.astype(np.float32))), ridge=0.1, centre=False)
    assert_allclose(found.scores, scores, rtol=1e-4)


def test_a_domain_counts_once_however_many_samples_it_has() -> None:
    samples = unit_clusters(4, 60)
    doubled = {**samples, "d1": np.concatenate([samples["d1"]] * 5)}
    before, after = (domain_weights(s, level="sample").weights for s in (samples, doubled))
    assert_allclose(as_array(after), as_array(before), rtol=1e-9)


def test_the_worked_example_of_the_two_levels() -> None:
    rng = np.random.default_rng(0)
    samples = {
        "A": [4, 0, 0] + 0.1 * rng.normal(size=(1_000, 3)),
        "B": [0, 0, 0] + 2.0 * rng.normal(size=(1_000, 3)),
        "C": [0, 1, 0] + 0.5 * rng.normal(size=(1_000, 3)),
    }
    means = domain_weights(samples, objective="finetune")
    spread = domain_weights(samples, objective="finetune", level="sample")
    assert max(means.scores, key=means.scores.get) == "A"
    assert max(spread.scores, key=spread.scores.get) == "B"
    assert_allclose(as_array(means.scores) / 3, [0.61, 0.17, 0.22], atol=0.015)
    shares = as_array(spread.scores) / 3
    assert_allclose(shares, [0.23, 0.65, 0.12], atol=0.01)


def test_samples_can_tell_two_domains_apart_and_one_takes_all() -> None:
    rng = np.random.default_rng(0)
    wide, narrow = (scale * rng.normal(size=(200, 5)) for scale in (1.0, 0.1))
    scores = domain_weights({"wide": wide, "narrow": narrow}, level="sample").scores
    assert scores["wide"] > 1.5 > scores["narrow"]
    assert domain_weights({"only": wide}, level="sample").weights == {"only": 1.0}


@pytest.mark.parametrize("kernel", ["linear", "cosine", "rbf"])
def test_intervals_of_samples_hold_the_estimate(kernel: str) -> None:
    result = domain_weights(unit_clusters(5, 100), kernel=kernel, level="sample")
    for name, weight in result.weights.items():
        low, high = result.intervals[name]
        assert low < weight < high
    assert result.affinity is None
    assert sum(result.weights.values()) == pytest.approx(1)


@pytest.mark.parametrize("objective", ["pretrain", "finetune"])
def test_the_automatic_tilt_takes_all_its_nats_though_scores_of_samples_are_near_each_other(objective: str) -> None:
    generator = np.random.default_rng(0)
    samples = {f"d{i}": (1 + i / 40) * generator.normal(size=(300, 8)) for i in range(6)}
    found = domain_weights(samples, level="sample", objective=objective)
    assert found.kl == pytest.approx(AUTO_KL, rel=1e-6)
    assert domain_weights(samples, level="sample", objective=objective, temperature=5 / 7).kl < 0.5 * AUTO_KL
