"""Features through landmarks against the exact kernel, what they are chosen from, error control, leverage of samples."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from chameleon_data import InputError, domain_weights
from chameleon_data.recipe import Leverage, Weights
from chameleon_data.weights import landmarks as module
from chameleon_data.weights.affinity import affinity, domain_statistics, merge_statistics, moments
from chameleon_data.weights.kernels import Kernel, auto_bandwidth, evaluate_kernel, kernel_diagonal
from chameleon_data.weights.landmarks import (
    ChunkSums,
    Landmarks,
    SampleChunk,
    bless_scores,
    choose_landmarks,
    draw_balanced_pool,
    draw_samples,
    feature_map,
    has_drifted,
    leverage_bounds,
    load_landmark_statistics,
    load_landmarks,
    nystrom_features,
    nystrom_statistics,
    whitening,
)
from chameleon_data.weights.leverage import leverage_scores
from chameleon_data.weights.sample_leverage import sample_leverage
from chameleon_data.weights.weigh import weigh

RBF = Kernel("rbf", 1.2)
KERNELS = [RBF, Kernel("laplacian", 6.0), Kernel("polynomial", 1.0, 2), Kernel("polynomial", 1.0, 3)]


def clusters(k: int, n: int, p: int = 12, seed: int = 0) -> dict[str, np.ndarray]:
    """Unit vectors about a few centres a domain, as sentence embeddings are."""
    rng = np.random.default_rng(seed)
    found = {}
    for i in range(k):
        centres = rng.normal(size=(2 + i % 3, p))
        x = centres[rng.integers(0, len(centres), n)] + 0.5 * rng.normal(size=(n, p))
        found[f"d{i}"] = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    return found


def values(mapping: dict[str, float]) -> np.ndarray:
    return np.array(list(mapping.values()))


# --- features


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: f"{k.name}{k.degree}")
def test_features_are_the_projection_on_the_landmarks(kernel: Kernel) -> None:
    x, z = (values(clusters(3, 20, seed=s)).reshape(-1, 12).astype(float) for s in (0, 1))
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
    x = values(clusters(2, 20, p=3)).reshape(-1, 3)
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
    monkeypatch.setattr(module, "SAMPLES_AT_ONCE", 7)
    samples = {name: x.astype(kind) for name, x in clusters(4, 45).items()}
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
    samples = clusters(4, 6_000)
    landmarks = choose_landmarks(samples, RBF, 16)
    quick = nystrom_statistics(samples, landmarks)
    monkeypatch.setattr(module, "NORMS", 10_000)
    whole = nystrom_statistics(samples, landmarks)
    assert_allclose(quick.statistics.total, whole.statistics.total, rtol=1e-4, atol=1e-3)
    assert (quick.statistics.squares != whole.statistics.squares).all()
    assert_allclose(quick.statistics.squares, whole.statistics.squares, rtol=0.05)
    a, b = (moments(fitted.statistics).variance_of_mean for fitted in (quick, whole))
    assert_allclose(a, b, atol=1e-6)
    assert_allclose(values(quick.residuals), values(whole.residuals), atol=0.01)


def test_parts_merge_and_a_new_domain_costs_only_its_own_samples() -> None:
    samples = clusters(4, 60)
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


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: f"{k.name}{k.degree}")
def test_with_every_sample_a_landmark_the_weights_are_exact(kernel: Kernel, centre: bool) -> None:
    samples = {name: x.astype(float) for name, x in clusters(5, 30).items()}
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
    assert_allclose(values(result.weights), e / e.sum(), rtol=1e-5)
    assert result.nystrom is not None
    assert len(result.nystrom.landmarks.points) == 150
    assert result.nystrom.error < 1e-6
    assert max(result.nystrom.residuals.values()) < 1e-5


@pytest.mark.parametrize("level", ["domain", "sample"])
def test_error_bars_follow_the_groups_that_are_given(level: str) -> None:
    samples = clusters(5, 60)
    landmarks = choose_landmarks(samples, RBF, 32)
    groups = {name: np.random.default_rng(i).integers(0, 20, 60) for i, name in enumerate(samples)}
    psi = {name: nystrom_features(x, landmarks) for name, x in samples.items()}
    expected = domain_weights(psi, groups=groups, level=level)
    options = {"kernel": "rbf", "bandwidth": 1.2, "landmarks": 32, "level": level}
    found = domain_weights(samples, groups=groups, **options)
    assert_allclose(values(found.intervals), values(expected.intervals), rtol=1e-4)
    assert np.abs(values(domain_weights(samples, **options).intervals) / values(expected.intervals) - 1).max() > 1e-3


def test_cosine_is_linear_on_unit_vectors() -> None:
    samples = {name: x * (1 + np.arange(len(x)))[:, None] for name, x in clusters(5, 50).items()}
    on_units = {name: x / np.linalg.norm(x, axis=1, keepdims=True) for name, x in samples.items()}
    result = domain_weights(samples, kernel="cosine")
    assert result.nystrom is None
    assert_allclose(values(result.weights), values(domain_weights(on_units).weights), rtol=1e-9)


# --- the choice of landmarks


@pytest.mark.parametrize("sampling", ["kmeans", "uniform", "bless"])
def test_the_choice_is_a_function_of_the_samples_and_the_seed(sampling: str) -> None:
    samples = clusters(4, 200)
    found = choose_landmarks(samples, RBF, 12, sampling, seed=3)
    shuffled = {name: np.random.default_rng(0).permutation(samples[name]) for name in reversed(samples)}
    assert choose_landmarks(shuffled, RBF, 12, sampling, seed=3).digest == found.digest
    assert choose_landmarks(samples, RBF, 12, sampling, seed=4).digest != found.digest
    assert found.points.shape == (12, 12)
    assert found.points.dtype == np.float32
    if sampling != "kmeans":
        rows = {row.tobytes() for x in samples.values() for row in x}
        assert all(point.tobytes() in rows for point in found.points)


def test_another_process_finds_the_same_landmarks() -> None:
    code = "from tests.unit.weights.test_landmarks import *; print(choose_landmarks(clusters(3, 300), RBF, 16).digest)"
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert again == choose_landmarks(clusters(3, 300), RBF, 16).digest


def test_threads_of_faiss_are_left_as_they_were() -> None:
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(before + 1)
    choose_landmarks(clusters(3, 100), RBF, 8)
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
    assert len(choose_landmarks(clusters(3, 100), RBF, 8).points) == 8
    assert asked == [gpus > 0]


@pytest.mark.parametrize("sampling", ["kmeans", "uniform", "bless"])
def test_fewer_distinct_samples_than_landmarks(sampling: str) -> None:
    samples = {f"d{i}": np.repeat(x[:5], 20, axis=0) for i, x in enumerate(clusters(3, 5).values())}
    assert len(choose_landmarks(samples, RBF, 64, sampling).points) == 15
    assert len(choose_landmarks(samples, RBF, 15, sampling).points) == 15
    assert 1 <= len(choose_landmarks(samples, RBF, 14, sampling).points) <= 14
    assert len(choose_landmarks(samples, RBF, 1, sampling).points) == 1
    result = domain_weights(samples, kernel="rbf", sampling=sampling)
    assert np.isfinite(values(result.weights)).all()


def test_the_pool_holds_as_many_samples_of_a_small_domain() -> None:
    x = clusters(2, 10_000)
    samples = {"large": x["d0"], "small": x["d1"][:200]}
    pool = {row.tobytes() for row in draw_balanced_pool(samples, 300, 0, "landmarks")}
    drawn = [sum(row.tobytes() in pool for row in rows) for rows in samples.values()]
    assert drawn == [150, 150]


def test_held_out_samples_are_others_than_the_pool() -> None:
    samples = clusters(3, 400)
    pool = {row.tobytes() for row in draw_balanced_pool(samples, 600, 7, "landmarks")}
    held = draw_samples(samples, 600, 7, "landmarks", last=True)
    for other in (draw_samples(samples, 600, 8, "landmarks", last=True), draw_samples(samples, 600, 7, "bandwidth", last=True)):
        assert not np.array_equal(other["d0"], held["d0"])
    assert all(row.tobytes() not in pool for x in held.values() for row in x)
    assert [len(x) for x in held.values()] == [200, 200, 200]


def test_bless_sees_the_rare_direction_that_uniform_misses() -> None:
    rng = np.random.default_rng(0)
    common = 0.02 * rng.normal(size=(300, 6)) + 1.0
    rare = rng.normal(size=(8, 6)) * 3
    samples = {"a": np.concatenate([common, rare]).astype(np.float32)}

    def rare_ones(sampling: str) -> int:
        chosen = [choose_landmarks(samples, Kernel("rbf", 1.0), 40, sampling, seed).points for seed in range(4)]
        return sum((np.linalg.norm(points - 1, axis=1) > 1).sum() for points in chosen)

    assert rare_ones("bless") >= 28 > 10 > rare_ones("uniform")


@pytest.mark.parametrize("kernel", [Kernel("rbf", 1.0), Kernel("laplacian", 3.0)], ids=lambda k: k.name)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_bless_scores_are_near_the_exact_leverage(kernel: Kernel, seed: int) -> None:
    """From .01 for the many that are alike to nearly one for the few that are not."""
    rng = np.random.default_rng(seed)
    pool = np.concatenate([0.02 * rng.normal(size=(300, 6)) + 1.0, rng.normal(size=(30, 6)) * 3]).astype(np.float32)
    for count in (15, 40):
        rows, scores, ridge = bless_scores(pool, kernel, count, seed)
        gram = evaluate_kernel(kernel, pool.astype(float), pool.astype(float))
        exact = np.diag(gram @ np.linalg.inv(gram + ridge * len(pool) * np.eye(len(pool))))[rows]
        assert exact.max() > 10 * exact.min()
        assert (scores / exact).min() > 1 / 4
        assert (scores / exact).max() < 4
        assert 2 * scores.mean() * len(pool) >= count


def test_a_digest_names_points_and_kernel() -> None:
    landmarks = choose_landmarks(clusters(3, 50), RBF, 8)
    others = [replace(landmarks, kernel=kernel) for kernel in (Kernel("rbf", 1.3), Kernel("laplacian", 1.2))]
    others += [replace(landmarks, points=points) for points in (landmarks.points[::-1], landmarks.points.reshape(16, 6))]
    assert len({landmarks.digest, *(other.digest for other in others)}) == 5
    assert len(landmarks.digest) == 64


# --- error control


def test_the_measured_error_is_near_the_error_and_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HELD_OUT", 400)
    samples = clusters(8, 100, p=24)
    exact = values(domain_weights(samples, kernel="rbf", landmarks=16_000).weights)
    for count in (8, 32, 128):
        result = domain_weights(samples, kernel="rbf", landmarks=count)
        error = np.abs(values(result.weights) - exact).max()
        assert error < 4 * result.nystrom.error + 1e-3
    assert error < 1e-3


def test_auto_landmarks_grow_until_the_tolerance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HELD_OUT", 400)
    samples = clusters(8, 150, p=24)
    sizes = []
    for tolerance in (0.05, 1e-3, 1e-4):
        result = domain_weights(samples, kernel="laplacian", landmarks="auto", tolerance=tolerance)
        assert result.nystrom.error <= tolerance
        sizes.append(len(result.nystrom.landmarks.points))
        smaller = domain_weights(samples, kernel="laplacian", landmarks=sizes[-1] // 2, tolerance=tolerance).nystrom
        assert sizes[-1] == 64 or smaller.error > tolerance
    assert sizes[0] == 64 < sizes[-1]


def test_a_tolerance_that_is_missed_is_said() -> None:
    result = domain_weights(clusters(6, 200), kernel="rbf", landmarks=2)
    assert result.nystrom.error > 0.005
    assert "above the tolerance of 0.005" in result.warnings[-1]


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 99), count=st.integers(1, 40), r=st.floats(1e-3, 10), centre=st.booleans())
def test_exact_scores_lie_between_their_bounds(seed: int, count: int, r: float, centre: bool) -> None:
    samples = {name: x.astype(float) for name, x in clusters(5, 40, seed=seed).items()}

    def plain(landmarks: Landmarks) -> np.ndarray:
        return affinity(moments(nystrom_statistics(samples, landmarks).statistics), centre=centre)

    everything = Landmarks(RBF, np.concatenate(list(samples.values())).astype(np.float32))
    exact = leverage_scores(plain(everything), r)
    landmarks = choose_landmarks(samples, RBF, count, "uniform")
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
        patch.setattr(module, "LARGEST_PAIRS", 0)
        assert (high <= leverage_bounds(samples, landmarks, plain(landmarks), r)[1] + 1e-12).all()
    low, high = leverage_bounds(samples, everything, plain(everything), r)
    assert_allclose(low, high, atol=1e-3)


@pytest.mark.parametrize("centre", [True, False])
def test_weights_come_with_bounds_of_the_exact_leverage(centre: bool) -> None:
    samples = {name: x.astype(float) for name, x in clusters(5, 40).items()}
    options = {"kernel": "rbf", "bandwidth": 3.0, "centre": centre, "ridge": 0.01, "debias": 0}
    used = domain_weights(samples, landmarks=12, **options).nystrom
    everything = Landmarks(Kernel("rbf", 3.0), np.concatenate(list(samples.values())).astype(np.float32))
    exact = leverage_scores(affinity(moments(nystrom_statistics(samples, everything).statistics), centre=centre), 0.05)
    low, high = np.array(list(used.bounds.values())).T
    assert (low <= exact + 1e-8).all()
    assert (exact <= high + 1e-8).all()
    assert (high - low).max() > 1e-3
    assert domain_weights(samples, landmarks=12, level="sample", kernel="rbf").nystrom.bounds is None


def test_what_landmarks_made_of_a_domain_is_kept_to_the_last_bit() -> None:
    samples = clusters(4, 60)
    landmarks = choose_landmarks(samples, RBF, 20)
    whole = nystrom_statistics(samples, landmarks)
    table = whole.table({"d1": "one", "d3": "three"})
    known = load_landmark_statistics(table, {"d1": "one", "d3": "three", "d2": "another"})
    assert sorted(known) == ["d1", "d3"]
    seen: list[SampleChunk] = []

    def watched(function: Callable[[SampleChunk], ChunkSums], chunks: Sequence[SampleChunk]) -> Iterable[ChunkSums]:
        seen.extend(chunks)
        return map(function, chunks)

    again = nystrom_statistics(samples, landmarks, None, watched, known)
    assert [chunk.x.tolist() for chunk in seen] == [samples[name].tolist() for name in ("d0", "d2")]
    assert again.residuals == whole.residuals
    for column in ("domain", "group", "count", "total", "squares"):
        assert_array_equal(getattr(again.statistics, column), getattr(whole.statistics, column))


def test_landmarks_that_no_longer_fit_are_told() -> None:
    samples = clusters(6, 200, p=24)
    kernel = Kernel("rbf", auto_bandwidth("rbf", draw_balanced_pool(samples, 500, 0, "bandwidth")))
    old = {name: x for name, x in samples.items() if name != "d5"}
    landmarks = choose_landmarks(old, kernel, 64)
    like = {**old, "new": clusters(1, 200, p=24, seed=0)["d0"] + np.float32(0.01)}
    far = {**old, "new": 3 * np.eye(24, dtype=np.float32)}
    assert not has_drifted(nystrom_statistics(like, landmarks).residuals, "new")
    assert has_drifted(nystrom_statistics(far, landmarks).residuals, "new")
    assert not has_drifted({"only": 0.9}, "only")


def test_recorded_landmarks_give_a_later_domain_its_weights() -> None:
    samples = clusters(6, 100, p=24)
    first = domain_weights({name: x for name, x in samples.items() if name != "d5"}, kernel="rbf", landmarks=64)
    table = first.nystrom.landmarks.table()
    recorded = load_landmarks(table)
    assert recorded.digest == first.nystrom.landmarks.digest
    later = domain_weights(samples, kernel="rbf", landmarks=recorded)
    assert later.nystrom.landmarks.digest == recorded.digest
    parts = [nystrom_statistics({name: x}, recorded).statistics for name, x in samples.items()]
    assert_allclose(values(later.weights), values(weigh(merge_statistics(*parts), Leverage(), Weights()).weights), rtol=1e-9)
    assert later.nystrom.error > 0
    far = domain_weights({**samples, "d5": 3 * np.eye(24, dtype=np.float32)}, kernel="rbf", landmarks=recorded)
    assert far.warnings[-1].startswith("d5: the recorded landmarks see less than half")
    for other in ("linear", "laplacian"):
        with pytest.raises(InputError, match=f"landmarks are of kernel 'rbf', not '{other}'"):
            domain_weights(samples, kernel=other, landmarks=recorded)


# --- what is refused

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
        domain_weights(clusters(3, 10), **options)


# --- leverage of samples


@pytest.mark.parametrize("centre", [True, False])
def test_leverage_of_samples_is_their_ridge_leverage_summed(centre: bool) -> None:
    samples = clusters(4, 25)
    x = np.concatenate(list(samples.values())).astype(float)
    x = x - x.mean(axis=0) if centre else x
    gram = x @ x.T
    scores = np.diag(gram @ np.linalg.inv(gram + 0.02 * 100 * np.eye(100))).reshape(4, 25)
    found = sample_leverage(samples, None, feature_map(Kernel("linear"), None), ridge=0.02, centre=centre)
    assert_allclose(found.scores, scores.sum(axis=1), rtol=1e-9)
    assert_allclose(list(found.jackknife())[3], np.delete(scores, [3, 23], axis=1).mean(axis=1) * 25, rtol=1e-9)


def test_leverage_of_samples_through_landmarks_is_the_kernels() -> None:
    samples = clusters(3, 20)
    x = np.concatenate(list(samples.values())).astype(float)
    gram = evaluate_kernel(RBF, x, x)
    scores = np.diag(gram @ np.linalg.inv(gram + 0.1 * 60 * np.eye(60))).reshape(3, 20).sum(axis=1)
    found = sample_leverage(samples, None, feature_map(RBF, Landmarks(RBF, x.astype(np.float32))), ridge=0.1, centre=False)
    assert_allclose(found.scores, scores, rtol=1e-4)


def test_a_domain_counts_once_however_many_samples_it_has() -> None:
    samples = clusters(4, 60)
    doubled = {**samples, "d1": np.concatenate([samples["d1"]] * 5)}
    before, after = (domain_weights(s, level="sample").weights for s in (samples, doubled))
    assert_allclose(values(after), values(before), rtol=1e-9)


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
    assert_allclose(values(means.scores) / 3, [0.61, 0.17, 0.22], atol=0.015)
    shares = values(spread.scores) / 3
    assert_allclose(shares, [0.23, 0.65, 0.12], atol=0.01)


def test_samples_can_tell_two_domains_apart_and_one_takes_all() -> None:
    rng = np.random.default_rng(0)
    wide, narrow = (scale * rng.normal(size=(200, 5)) for scale in (1.0, 0.1))
    scores = domain_weights({"wide": wide, "narrow": narrow}, level="sample").scores
    assert scores["wide"] > 1.5 > scores["narrow"]
    assert domain_weights({"only": wide}, level="sample").weights == {"only": 1.0}


@pytest.mark.parametrize("kernel", ["linear", "cosine", "rbf"])
def test_intervals_of_samples_hold_the_estimate(kernel: str) -> None:
    result = domain_weights(clusters(5, 100), kernel=kernel, level="sample")
    for name, weight in result.weights.items():
        low, high = result.intervals[name]
        assert low < weight < high
    assert result.affinity is None
    assert sum(result.weights.values()) == pytest.approx(1)


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
