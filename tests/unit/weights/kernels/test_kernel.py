"""Kernels against their two-line definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from chameleon_data.errors import InputError
from chameleon_data.weights.kernels.kernel import Kernel, auto_bandwidth, evaluate_kernel, kernel_diagonal, unit_rows

NAIVE = {
    "linear": lambda x, z, b, d: x @ z,
    "cosine": lambda x, z, b, d: x @ z / np.linalg.norm(x) / np.linalg.norm(z),
    "rbf": lambda x, z, b, d: np.exp(-np.sum((x - z) ** 2) / (2 * b**2)),
    "laplacian": lambda x, z, b, d: np.exp(-np.abs(x - z).sum() / b),
    "polynomial": lambda x, z, b, d: (1 + x @ z / b**2) ** d,
}


def points(n: int, p: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, p))


@pytest.mark.parametrize("name", NAIVE)
@pytest.mark.parametrize(("kind", "rtol"), [(np.float64, 1e-12), (np.float32, 2e-6)])
@pytest.mark.parametrize("degree", [2, 3])
def test_values_are_the_definition(name: str, kind: type, rtol: float, degree: int) -> None:
    x, z = points(7, 5).astype(kind), points(4, 5, 1).astype(kind)
    kernel = Kernel(name, 1.7, degree)
    expected = [[NAIVE[name](a.astype(float), b.astype(float), 1.7, degree) for b in z] for a in x]
    found = evaluate_kernel(kernel, x, z)
    assert found.dtype == kind
    assert_allclose(found, expected, rtol=rtol, atol=rtol)
    assert_allclose(
        kernel_diagonal(kernel, x), [NAIVE[name](a.astype(float), a.astype(float), 1.7, degree) for a in x], rtol=rtol
    )


@pytest.mark.parametrize("name", NAIVE)
def test_a_kernel_is_symmetric_and_positive(name: str) -> None:
    x = points(30, 4)
    matrix = evaluate_kernel(Kernel(name, 1.3, 3), x, x)
    assert_allclose(matrix, matrix.T, rtol=1e-12)
    assert np.linalg.eigvalsh(matrix).min() > -1e-9 * np.abs(matrix).sum()


def test_an_offset_of_all_embeddings_costs_rbf_no_digits() -> None:
    x, z = points(50, 8).astype(np.float32), points(20, 8, 1).astype(np.float32)
    far = np.float32(1024.0)  # 1/8192 is the spacing of float32 there
    x, z = np.round(x * 4096) / 4096, np.round(z * 4096) / 4096
    assert_allclose(evaluate_kernel(Kernel("rbf", 2.0), x + far, z + far), evaluate_kernel(Kernel("rbf", 2.0), x, z), rtol=1e-5)


@settings(deadline=None, max_examples=20)
@given(scale=st.floats(1e-25, 1e15), name=st.sampled_from(["rbf", "laplacian", "polynomial"]))
def test_the_automatic_bandwidth_follows_the_unit(scale: float, name: str) -> None:
    x = points(40, 6)
    small = (scale * x).astype(np.float32)
    before, after = (evaluate_kernel(Kernel(name, auto_bandwidth(name, y)), y, y[:9]) for y in (x, small))
    assert_allclose(after, before, rtol=1e-4, atol=1e-6)


def test_automatic_bandwidths_are_their_definitions() -> None:
    x = points(30, 6)
    away = [(x[i] - x[j]) for i in range(30) for j in range(i)]
    assert auto_bandwidth("rbf", x) == pytest.approx(np.median([np.linalg.norm(d) for d in away]))
    assert auto_bandwidth("laplacian", x) == pytest.approx(np.median([np.abs(d).sum() for d in away]))
    assert auto_bandwidth("polynomial", x) == pytest.approx(np.sqrt(np.mean([d @ d for d in x])))
    copies = np.concatenate([x, np.tile(x[:1], (500, 1))])
    assert auto_bandwidth("rbf", copies) == pytest.approx(auto_bandwidth("rbf", x))


def test_samples_that_are_all_the_same_have_no_bandwidth() -> None:
    with pytest.raises(InputError, match=r"all samples are the same.*leverage\.bandwidth"):
        auto_bandwidth("rbf", np.ones((9, 3)))


def test_cosine_with_nothing_is_nothing() -> None:
    x = np.array([[0.0, 0.0], [3.0, 4.0]])
    assert_allclose(unit_rows(x), [[0, 0], [0.6, 0.8]])
    assert_allclose(evaluate_kernel(Kernel("cosine"), x, x), [[0, 0], [0, 1]])
    assert_allclose(kernel_diagonal(Kernel("cosine"), x), [0, 1])
