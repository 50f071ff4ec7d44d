"""`domain_weights` by every kernel, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from chameleon_data import InputError, domain_weights
from chameleon_data.weights.kernels.kernel import Kernel, evaluate_kernel
from chameleon_data.weights.kernels.landmarks import choose_landmarks
from chameleon_data.weights.kernels.nystrom import nystrom_features
from tests.support.embeddings import as_array, unit_clusters

RBF = Kernel("rbf", 1.2)


KERNELS = [RBF, Kernel("laplacian", 6.0), Kernel("polynomial", 1.0, 2), Kernel("polynomial", 1.0, 3)]


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: f"{k.name}{k.degree}")
def test_with_every_sample_a_landmark_the_weights_are_exact(kernel: Kernel, centre: bool) -> None:
    samples = {name: x.astype(float) for name, x in unit_clusters(5, 30).items()}
    n = len(samples["d0"])
    pairs = [[evaluate_kernel(kernel, x, y) for y in samples.values()] for x in samples.values()]
    matrix = np.array([[block.mean() for block in row] for row in pairs])
    np.fill_diagonal(matrix, [(row[i].sum() - np.trace(row[i])) / (n * (n - 1)) for i, row in enumerate(pairs)])
    h = np.eye(5) - 1 / 5 if centre else np.eye(5)
    matrix = h @ matrix @ h
    s = np.diag(matrix @ np.linalg.inv(matrix + 0.05 * np.eye(5)))
    e = np.exp(1 / (s / s.mean()) / 3)
    result = domain_weights(
        samples, kernel=kernel.name, bandwidth=kernel.bandwidth, degree=kernel.degree, landmarks=1_000,
        ridge=0.01, temperature=3, debias=1, centre=centre,
    )  # fmt: skip
    assert_allclose(as_array(result.weights), e / e.sum(), rtol=1e-5)
    assert result.nystrom is not None
    assert len(result.nystrom.landmarks.points) == 150
    assert result.nystrom.error < 1e-6
    assert max(result.nystrom.residuals.values()) < 1e-5


@pytest.mark.parametrize("level", ["domain", "sample"])
def test_error_bars_follow_the_groups_that_are_given(level: str) -> None:
    samples = unit_clusters(5, 60)
    landmarks = choose_landmarks(samples, RBF, 32)
    groups = {name: np.random.default_rng(i).integers(0, 20, 60) for i, name in enumerate(samples)}
    psi = {name: nystrom_features(x, landmarks) for name, x in samples.items()}
    expected = domain_weights(psi, groups=groups, level=level)
    options = {"kernel": "rbf", "bandwidth": 1.2, "landmarks": 32, "level": level}
    found = domain_weights(samples, groups=groups, **options)
    assert_allclose(as_array(found.intervals), as_array(expected.intervals), rtol=1e-4)
    assert np.abs(as_array(domain_weights(samples, **options).intervals) / as_array(expected.intervals) - 1).max() > 1e-3


def test_cosine_is_linear_on_unit_vectors() -> None:
    samples = {name: x * (1 + np.arange(len(x)))[:, None] for name, x in unit_clusters(5, 50).items()}
    on_units = {name: x / np.linalg.norm(x, axis=1, keepdims=True) for name, x in samples.items()}
    result = domain_weights(samples, kernel="cosine")
    assert result.nystrom is None
    assert_allclose(as_array(result.weights), as_array(domain_weights(on_units).weights), rtol=1e-9)


WRONG = {
    "nan": ({"a": np.full((3, 2), np.nan), "b": np.ones((3, 2))}, "'a'.*NaN"),
    "zero": ({"a": np.ones((3, 2)), "b": np.zeros((3, 2))}, "'b': every embedding is zero"),
    "empty": ({"a": np.ones((3, 2)), "b": np.zeros((0, 2))}, "'b' has no embeddings"),
    "dimensions": ({"a": np.ones((3, 2)), "b": np.ones((3, 3))}, "'a' has embeddings of 2 dimensions.*'b' of 3"),
    "same": ({"a": np.ones((3, 2)), "b": np.ones((3, 2)), "c": np.ones((3, 2))}, "all samples are the same"),
    "huge": ({"a": np.full((3, 2), 1e50), "b": np.ones((3, 2)), "c": np.eye(2)}, "'a'.*beyond float32"),
    "text": ({"a": [["x", "y"]], "b": np.ones((3, 2))}, "'a'.*real numbers"),
    "two": ({"a": np.eye(2), "b": -np.eye(2)}, "mirror images"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_has_no_weights_is_refused(case: str) -> None:
    samples, reason = WRONG[case]
    with pytest.raises(InputError, match=reason):
        domain_weights(samples, kernel="rbf")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"preset": "reference", "kernel": "rbf"}, "reference preset"),
        ({"bandwidth": 2.0}, "linear kernel has no bandwidth"),
        ({"kernel": "gauss"}, "kernel"),
        ({"kernel": "rbf", "bandwidth": 0}, "bandwidth"),
        ({"kernel": "rbf", "landmarks": 0}, "landmarks"),
        ({"kernel": "rbf", "landmarks": 2.5}, "landmarks"),
        ({"kernel": "polynomial", "degree": 4}, "degree"),
        ({"level": "sample", "debias": 0.5}, "no diagonal to debias"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        domain_weights(unit_clusters(3, 10), **options)


@pytest.mark.parametrize(
    "arguments", [{"temperature": {"x": 1}}, {"ridge": [1]}, {"kernel": "lin"}, {"landmarks": "many"}, {"degree": 7}]
)
def test_what_is_refused_is_told_without_names_of_the_program(arguments) -> None:
    with pytest.raises(InputError, match=f"^{next(iter(arguments))}: ") as refusal:
        domain_weights({"a": [[1.0]]}, **arguments)
    assert not {"Input", "instance", "Extra", "EffectiveDimension", "Divergence"} & set(str(refusal.value).split())
