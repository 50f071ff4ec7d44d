"""The choice of landmarks: a function of the samples and the seed alone."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from chameleon_data import domain_weights
from chameleon_data.weights.kernels.kernel import Kernel
from chameleon_data.weights.kernels.landmarks import choose_landmarks, draw_balanced_pool, draw_samples
from tests.support.embeddings import as_array, unit_clusters

RBF = Kernel("rbf", 1.2)


def test_the_choice_is_a_function_of_the_samples_and_the_seed() -> None:
    samples = unit_clusters(4, 200)
    found = choose_landmarks(samples, RBF, 12, seed=3)
    shuffled = {name: np.random.default_rng(0).permutation(samples[name]) for name in reversed(samples)}
    assert choose_landmarks(shuffled, RBF, 12, seed=3).digest == found.digest
    assert choose_landmarks(samples, RBF, 12, seed=4).digest != found.digest
    assert found.points.shape == (12, 12)
    assert found.points.dtype == np.float32


def test_another_process_finds_the_same_landmarks() -> None:
    code = (
        "from chameleon_data.weights.kernels.kernel import Kernel\n"
        "from chameleon_data.weights.kernels.landmarks import choose_landmarks\n"
        "from tests.support.embeddings import unit_clusters\n"
        "print(choose_landmarks(unit_clusters(3, 300), Kernel('rbf', 1.2), 16).digest)"
    )
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert again == choose_landmarks(unit_clusters(3, 300), RBF, 16).digest


def test_threads_of_faiss_are_left_as_they_were() -> None:
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(before + 1)
    choose_landmarks(unit_clusters(3, 100), RBF, 8)
    assert faiss.omp_get_max_threads() == before + 1
    faiss.omp_set_num_threads(before)


@pytest.mark.parametrize("gpus", [0, 2])
def test_kmeans_runs_on_a_gpu_where_faiss_sees_one(gpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import faiss

    real, asked = faiss.Kmeans, []

    def kmeans(*sizes: int, gpu: bool, **options: object) -> object:
        asked.append(gpu)
        return real(*sizes, gpu=False, **options)

    monkeypatch.setattr(faiss, "get_num_gpus", lambda: gpus, raising=False)
    monkeypatch.setattr(faiss, "Kmeans", kmeans)
    assert len(choose_landmarks(unit_clusters(3, 100), RBF, 8).points) == 8
    assert asked == [gpus > 0]


def test_fewer_distinct_samples_than_landmarks() -> None:
    samples = {f"d{i}": np.repeat(x[:5], 20, axis=0) for i, x in enumerate(unit_clusters(3, 5).values())}
    assert len(choose_landmarks(samples, RBF, 64).points) == 15
    assert len(choose_landmarks(samples, RBF, 15).points) == 15
    assert 1 <= len(choose_landmarks(samples, RBF, 14).points) <= 14
    assert len(choose_landmarks(samples, RBF, 1).points) == 1
    result = domain_weights(samples, kernel="rbf")
    assert np.isfinite(as_array(result.weights)).all()


def test_the_pool_holds_as_many_samples_of_a_small_domain() -> None:
    x = unit_clusters(2, 10_000)
    samples = {"large": x["d0"], "small": x["d1"][:200]}
    pool = {row.tobytes() for row in draw_balanced_pool(samples, 300, 0, "landmarks")}
    drawn = [sum(row.tobytes() in pool for row in rows) for rows in samples.values()]
    assert drawn == [150, 150]


def test_held_out_samples_are_others_than_the_pool() -> None:
    samples = unit_clusters(3, 400)
    pool = {row.tobytes() for row in draw_balanced_pool(samples, 600, 7, "landmarks")}
    held = draw_samples(samples, 600, 7, "landmarks", last=True)
    for other in (draw_samples(samples, 600, 8, "landmarks", last=True), draw_samples(samples, 600, 7, "bandwidth", last=True)):
        assert not np.array_equal(other["d0"], held["d0"])
    assert all(row.tobytes() not in pool for x in held.values() for row in x)
    assert [len(x) for x in held.values()] == [200, 200, 200]


def test_a_digest_names_points_and_kernel() -> None:
    landmarks = choose_landmarks(unit_clusters(3, 50), RBF, 8)
    others = [replace(landmarks, kernel=kernel) for kernel in (Kernel("rbf", 1.3), Kernel("laplacian", 1.2))]
    others += [replace(landmarks, points=points) for points in (landmarks.points[::-1], landmarks.points.reshape(16, 6))]
    assert len({landmarks.digest, *(other.digest for other in others)}) == 5
    assert len(landmarks.digest) == 64
