"""Kernels that have no finite features, through landmarks Z: the Nyström method (Williams and Seeger 2001).

    ψ(x) = κ(x, Z) R,   R Rᵀ = κ(Z, Z)⁺,   so that ⟨ψ(x), ψ(y)⟩ = ⟨P φ(x), P φ(y)⟩ with P the projection on the span of φ(Z)

Means, debiasing, centring and jackknife of ψ are then those of any features (`affinity.py`). Only two sums of ψ are needed:
that of the vectors, taken over κ(x, Z) and multiplied by R once a domain and group, and that of the squared norms, for which some
samples do. All products are numpy's: a triangular R takes half of them, but scipy brings a BLAS of its own, whose threads still
spin while numpy's begin (2.2 s in place of 1.7 for 200,000 samples on two cores).

k-means centres are the landmarks to use: largest weight error against the exact kernel on 10 synthetic domains of 1,000 samples,
p = 384, 256 landmarks, median of three seeds: k-means .0002, BLESS .003, uniform .007; laplacian .002, .010, .009.
The others are here so that the choice can be measured.
Cost on one core, p = 384, 1,024 landmarks: 7 µs a sample and 75 MB in all; choosing them by k-means .3 s, by BLESS .5 s.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from chameleon_data.arrays import F64, I64, U64, Floats
from chameleon_data.errors import InputError, explaining
from chameleon_data.hashing import canonical_json, key64, mix64
from chameleon_data.weights.affinity import (
    JACKKNIFE_GROUPS,
    SAMPLES_AT_ONCE,
    Affinity,
    DomainStatistics,
    domain_statistics,
    merge_statistics,
)
from chameleon_data.weights.kernels import Kernel, evaluate_kernel, kernel_diagonal, kernel_evaluator, squared_norms, unit_rows
from chameleon_data.weights.leverage import leverage_scores

Sampling = Literal["kmeans", "uniform", "bless"]
FeatureArrays = Mapping[str, npt.ArrayLike]

POOL_PER_LANDMARK = 8
"""Samples that choose a landmark. Worst of three seeds, rbf, 128 landmarks, with 4: .009, with 8 .0007, with 16 .0016.
Most of a choice is the time of k-means, which is in proportion."""
ITERATIONS = 5
"""Of k-means, always all of them: a rule for stopping early would depend on rounding. From 3 on, the error was the same."""
SAMPLES_PER_CHUNK = 65_536
"""Samples of a domain that are one task where there are workers: .5 s and, at p = 384, 100 MB."""
NORMS = 4_096
"""Samples of a domain whose squared norms are looked at."""
FLOOR = 1e-10
"""Times the largest eigenvalue of κ(Z, Z): below it a direction is rounding, and is left out."""
OVERSAMPLE = 8.0
FEWEST = 16
"""Of BLESS: samples that a level keeps, about; where none is kept, all scores of the next are alike."""
LEVELS = 40
"""Of BLESS: the ridge ends at 1e-12 of the largest κ(x, x) in any case."""
HELD_OUT = 1_024
"""Samples on which the error is measured against the exact kernel, whose cost is their third power (1 s)."""
HELD_OUT_DOMAINS = 64
LARGEST_PAIRS = 2**26
"""Pairs of samples of a domain, over all domains, up to which `leverage_bounds` looks at each (a few seconds)."""
DRIFT_FACTOR = 0.5
"""A domain of which the landmarks explain less than this share of what they explain of the others needs new ones."""


@dataclass(frozen=True)
class Landmarks:
    """What, with a kernel, makes features: an artefact that later domains may use, and that its digest names."""

    kernel: Kernel
    points: npt.NDArray[np.float32]
    """(m, p), distinct, in byte order."""

    @property
    def digest(self) -> str:
        """sha256 of the kernel's settings, the shape and the points."""
        head = canonical_json({"kernel": vars(self.kernel), "shape": self.points.shape})
        return hashlib.sha256(head + self.points.astype("<f4").tobytes()).hexdigest()

    def table(self) -> pa.Table:
        """To be kept: a row a point, the kernel in the metadata."""
        points = pa.FixedSizeListArray.from_arrays(pa.array(self.points.ravel()), self.points.shape[1])
        return pa.table({"point": points}).replace_schema_metadata({"kernel": canonical_json(vars(self.kernel))})


def load_landmarks(table: pa.Table) -> Landmarks:
    """What `Landmarks.table` gave."""
    points = table["point"].combine_chunks()
    return Landmarks(Kernel(**json.loads(table.schema.metadata[b"kernel"])), points.flatten().to_numpy().reshape(len(points), -1))


def draw_samples(
    features: FeatureArrays, size: int, seed: int, purpose: str, *, last: bool = False
) -> dict[str, npt.NDArray[np.float32]]:
    """`size` distinct samples, as many of each domain, by domain in byte order: those with the smallest keys, or the largest.

    A sample's key is a hash of (seed, purpose) and of the vector itself, so that neither the order of domains nor that of samples
    matters. A domain with fewer gives all it has, and each gives at least one.
    """
    each, salt = max(1, size // len(features)), key64(seed, purpose)
    found = {}
    for name, x in sorted(features.items()):
        with np.errstate(over="ignore"):
            rows = np.ascontiguousarray(x, np.float32)
        if not all(np.isfinite(rows[at : at + SAMPLES_AT_ONCE]).all() for at in range(0, len(rows), SAMPLES_AT_ONCE)):
            raise InputError(f"domain {name!r}: an embedding is NaN or beyond float32, which landmarks are; embed it again")
        _, order = np.unique(_keys(rows, salt), return_index=True)
        found[name] = rows[(order[::-1] if last else order)[:each]]
    return found


def draw_balanced_pool(features: FeatureArrays, size: int, seed: int, purpose: str) -> npt.NDArray[np.float32]:
    """(about size, p) distinct samples of all domains, as `draw_samples` has them, in the order of their keys."""
    pool = np.unique(np.concatenate(list(draw_samples(features, size, seed, purpose).values())), axis=0)
    return pool[np.argsort(_keys(pool, key64(seed, purpose)), kind="stable")]


def _keys(rows: Floats, salt: int) -> U64:
    """(n) a hash of each vector: its words times fixed odd numbers, summed and mixed. Equal vectors have equal ones."""
    bits = np.ascontiguousarray(rows).view(np.uint32 if rows.dtype == np.float32 else np.uint64)
    odd = mix64([np.arange(bits.shape[1])], key64("words")) | np.uint64(1)
    found = np.empty(len(bits), np.uint64)
    for at in range(0, len(bits), SAMPLES_AT_ONCE):
        found[at : at + SAMPLES_AT_ONCE] = np.einsum("ij,j->i", bits[at : at + SAMPLES_AT_ONCE].astype(np.uint64), odd)
    return mix64([found], salt)


def choose_landmarks(
    features: FeatureArrays, kernel: Kernel, count: int, sampling: Sampling = "kmeans", seed: int = 0
) -> Landmarks:
    """`count` landmarks for (n_i, p) samples of domains, from a pool of as many of each domain; all of the pool if it has fewer.

    kmeans: the centres of faiss k-means, on a GPU where there is one. uniform: samples. bless: samples in proportion to their
    approximate ridge leverage.
    """
    pool = draw_balanced_pool(features, count * POOL_PER_LANDMARK, seed, "landmarks")
    if len(pool) <= count:
        return Landmarks(kernel, np.unique(pool, axis=0))
    points = {"kmeans": _kmeans, "uniform": _uniform, "bless": _bless}[sampling](pool, kernel, count, seed)
    return Landmarks(kernel, np.unique(points, axis=0))


def import_faiss(purpose: str) -> Any:
    """The module faiss. Raises InputError where neither of the extras with it is installed."""
    with explaining(purpose, {ImportError: "needs faiss; pip install 'chameleon-data[cpu]', or [gpu] beside CUDA 12"}):
        import faiss
    return faiss


def _kmeans(pool: npt.NDArray[np.float32], kernel: Kernel, count: int, seed: int) -> npt.NDArray[np.float32]:
    faiss = import_faiss(f"leverage.kernel: {kernel.name}")
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # the order of sums, and so the centres, changes with their number
    try:
        clusters = faiss.Kmeans(
            pool.shape[1], count, niter=ITERATIONS, seed=key64(seed, "kmeans") % 2**31, min_points_per_centroid=1,
            max_points_per_centroid=len(pool), gpu=faiss.get_num_gpus() > 0,
        )  # fmt: skip
        unit = np.float32(2.0 ** np.floor(np.log2(np.abs(pool).max())))  # squares beyond float32 end the process in faiss
        clusters.train(pool / unit)
    finally:
        faiss.omp_set_num_threads(threads)
    return np.array(clusters.centroids, np.float32) * unit


def _uniform(pool: npt.NDArray[np.float32], kernel: Kernel, count: int, seed: int) -> npt.NDArray[np.float32]:
    return pool[:count]  # in the order of their keys, which are hashes


def _bless(pool: npt.NDArray[np.float32], kernel: Kernel, count: int, seed: int) -> npt.NDArray[np.float32]:
    """`count` samples in proportion to their scores, without replacement (Efraimidis and Spirakis 2006)."""
    rows, scores, _ = bless_scores(pool, kernel, count, seed)
    return pool[rows[np.argsort(-np.log(_uniform_keys(pool[rows], seed, "draw", 0)) / scores, kind="stable")[:count]]]


def bless_scores(pool: npt.NDArray[np.float32], kernel: Kernel, count: int, seed: int) -> tuple[I64, F64, float]:
    """Rows of a uniform part of the pool, their approximate ridge leverage, and the ridge λ at which `count` samples suffice.

    Bottom-up leverage sampling (BLESS, Rudi, Calandriello, Carratino and Rosasco 2018, algorithm 2): λ halves from κ²; at each,
    a uniform part of about 8 κ²/λ samples is scored by those that the λ before kept, J, each with probability A:

        ℓ(x) = (κ(x, x) - κ(x, J) (κ(J, J) + λ n A)⁻¹ κ(J, x)) / (λ n)

    and kept with probability min(1, 8 ℓ), 16 or more of them. It ends where twice the effective dimension, Σ ℓ, reaches `count`.
    """
    n, diag = len(pool), kernel_diagonal(kernel, pool.astype(np.float64))
    ridge, top = float(diag.max()), float(diag.max())
    chosen, weight = np.zeros(0, np.int64), np.zeros(0)
    for level in range(LEVELS):
        ridge /= 2
        share = min(OVERSAMPLE * top / (ridge * n), 1.0)
        keys = _uniform_keys(pool, seed, "part", level)
        rows = np.sort(np.argsort(keys, kind="stable")[: max(count, int((keys < share).sum()))])
        some, seen = pool[rows].astype(np.float64), diag[rows]
        if len(chosen):
            held = pool[chosen].astype(np.float64)
            cross = evaluate_kernel(kernel, some, held)
            solved = np.linalg.solve(evaluate_kernel(kernel, held, held) + np.diag(ridge * n * weight), cross.T)
            seen = np.maximum(seen - np.einsum("ij,ji->i", cross, solved), FLOOR * top)
        scores: F64 = np.minimum(seen / (ridge * n), 1.0)
        if len(chosen) and (2 * scores.mean() * n >= count or level == LEVELS - 1):
            break
        probable = np.minimum(max(OVERSAMPLE, FEWEST / scores.sum()) * scores, 1.0)
        keep = _uniform_keys(some.astype(np.float32), seed, "kept", level) < probable
        chosen, weight = rows[keep], probable[keep] * len(rows) / n
    return rows, scores, ridge


def _uniform_keys(rows: Floats, seed: int, purpose: str, level: int) -> F64:
    """(n) numbers in (0, 1) by a hash of each vector."""
    found: F64 = (_keys(rows, key64(seed, "bless", purpose, level)).astype(np.float64) + 0.5) / 2.0**64
    return found


def whitening(landmarks: Landmarks) -> F64:
    """(m, rank) R with R Rᵀ = κ(Z, Z)⁺."""
    points = landmarks.points.astype(np.float64)
    values, vectors = np.linalg.eigh(evaluate_kernel(landmarks.kernel, points, points))
    kept = values > FLOOR * values[-1]
    root: F64 = vectors[:, kept] / np.sqrt(values[kept])
    return root


def nystrom_features(x: npt.ArrayLike, landmarks: Landmarks) -> Floats:
    """(n, rank of κ(Z, Z)) ψ of (n, p) samples, all in memory; for many, see `nystrom_statistics`."""
    return feature_map(landmarks.kernel, landmarks)(_floating(np.asarray(x)))


def _floating(x: npt.NDArray[Any]) -> Floats:
    """float16 and float32 as float32, which is what embeddings have; all else as float64."""
    return x.astype(np.float32 if x.dtype in (np.float16, np.float32) else np.float64, copy=False)


@dataclass(frozen=True)
class LandmarkStatistics:
    """Samples as landmarks see them."""

    statistics: DomainStatistics
    """Of ψ."""
    residuals: dict[str, float]
    """Domain -> mean of κ(x, x) - ‖ψ(x)‖² over its samples, as a share of the mean of κ(x, x): what the landmarks do not see."""

    def table(self, keys: Mapping[str, str]) -> pa.Table:
        """To be kept, to the last bit: a row a domain and group, of the domains in `keys`, under the key that each has there."""
        s = self.statistics
        rows = np.flatnonzero([name in keys for name in s.names])
        rows = np.flatnonzero(np.isin(s.domain, rows))
        names = [s.names[i] for i in s.domain[rows].tolist()]
        total = pa.FixedSizeListArray.from_arrays(pa.array(s.total[rows].ravel()), s.total.shape[1])
        return pa.table({
            "key": [keys[name] for name in names], "residual": [self.residuals[name] for name in names], "group": s.group[rows],
            "count": s.count[rows], "squares": s.squares[rows], "total": total,
        })  # fmt: skip


def load_landmark_statistics(table: pa.Table, keys: Mapping[str, str]) -> dict[str, LandmarkStatistics]:
    """Of what `LandmarkStatistics.table` gave, each domain of `keys` that is there."""
    rows: dict[str, list[int]] = {}
    for i, key in enumerate(table["key"].to_pylist()):
        rows.setdefault(key, []).append(i)
    group, count, squares, residual = (table[c].to_numpy() for c in ("group", "count", "squares", "residual"))
    total = pc.list_flatten(table["total"]).to_numpy().reshape(table.num_rows, -1)
    found = {}
    for name, key in keys.items():
        if at := rows.get(key):
            own = DomainStatistics((name,), np.zeros(len(at), np.int64), group[at], count[at], total[at], squares[at])
            found[name] = LandmarkStatistics(own, {name: float(residual[at[0]])})
    return found


@dataclass(frozen=True)
class SampleChunk:
    """Samples of one domain that are looked at together, wherever that is."""

    x: Floats
    group: I64
    normed: npt.NDArray[np.bool_]
    """Whether a sample's squared norm is taken."""


@dataclass(frozen=True)
class ChunkSums:
    """What a chunk adds to its domain."""

    total: F64
    """(20, m) sum of κ(x, Z), by group."""
    squares: F64
    """(20) sum of ‖ψ(x)‖² of the normed samples, by group."""
    whole: float
    """Sum of their κ(x, x)."""


ChunkMap = Callable[[Callable[[SampleChunk], ChunkSums], Sequence[SampleChunk]], Iterable[ChunkSums]]
"""As the built-in `map`: results in the order of the chunks, wherever they were computed."""


def nystrom_statistics(
    features: FeatureArrays,
    landmarks: Landmarks,
    groups: Mapping[str, npt.ArrayLike] | None = None,
    mapped: ChunkMap = map,
    known: Mapping[str, LandmarkStatistics] | None = None,
) -> LandmarkStatistics:
    """What `domain_statistics` gives for ψ of (n_i, p) samples and (n_i) jackknife groups: one pass over chunks, whose sums add.

    `mapped` runs the chunks, here by default; `known` are domains that these landmarks have seen, whose kernel is not evaluated.
    float32 embeddings are multiplied in float32 and summed in float64: 1e-6 in the weights. The squared norms, which alone take
    m² products a sample, are those of at most 4,096 samples of a domain, by a hash of each, and scaled to all: what they correct
    is then a variance over 4,096 or more, and right to 1e-6 of κ(x, x).
    """
    root, found, known = whitening(landmarks), check_features(features, groups), known or {}
    found = {name: of for name, of in found.items() if name not in known}
    chunks, owner = [], []
    for name, (x, group) in found.items():
        if x.shape[1] != landmarks.points.shape[1]:
            p, q = x.shape[1], landmarks.points.shape[1]
            raise InputError(f"domain {name!r} has embeddings of {p} dimensions, the landmarks {q}; embed all with one model")
        normed = np.ones(len(x), np.bool_)
        if len(x) > NORMS:
            normed[np.argsort(_keys(x, 0), kind="stable")[NORMS:]] = False
        for at in range(0, len(x), SAMPLES_PER_CHUNK):
            chunks.append(
                SampleChunk(
                    x[at : at + SAMPLES_PER_CHUNK], group[at : at + SAMPLES_PER_CHUNK], normed[at : at + SAMPLES_PER_CHUNK]
                )
            )
            owner.append(name)
    sums: dict[str, ChunkSums] = {}
    for name, one in zip(owner, mapped(partial(sum_chunk, landmarks, root), chunks), strict=True):
        so_far = sums.get(name)
        both = (
            one if so_far is None else ChunkSums(so_far.total + one.total, so_far.squares + one.squares, so_far.whole + one.whole)
        )
        sums[name] = both
    parts, residuals = [], {}
    for name, (x, group) in found.items():
        squares, seen = sums[name].squares, float(sums[name].squares.sum())
        count = np.bincount(group, minlength=JACKKNIFE_GROUPS)
        if len(x) > NORMS:
            squares = count.astype(np.float64) * (seen / NORMS)
        held = np.flatnonzero(count)
        parts.append(DomainStatistics(
            (name,), np.zeros(len(held), np.int64), held, count[held], sums[name].total[held] @ root, squares[held]
        ))  # fmt: skip
        residuals[name] = max(0.0, 1.0 - seen / sums[name].whole)
    for name, of in known.items():
        parts.append(of.statistics)
        residuals[name] = of.residuals[name]
    return LandmarkStatistics(merge_statistics(*parts), dict(sorted(residuals.items())))


def sum_chunk(landmarks: Landmarks, root: F64, chunk: SampleChunk) -> ChunkSums:
    """In blocks of 2,048 samples, those with norms first."""
    total, squares, whole = np.zeros((JACKKNIFE_GROUPS, len(root))), np.zeros(JACKKNIFE_GROUPS), 0.0
    kind = chunk.x.dtype
    small, kappas = root.astype(kind), kernel_evaluator(landmarks.kernel, landmarks.points.astype(kind))
    for normed in (True, False):
        rows = np.flatnonzero(chunk.normed == normed)
        for at in range(0, len(rows), SAMPLES_AT_ONCE):
            some = rows[at : at + SAMPLES_AT_ONCE]
            block, member = chunk.x[some], chunk.group[some]
            kappa = kappas(block)
            total += (member == np.arange(JACKKNIFE_GROUPS)[:, None]).astype(kind) @ kappa  # in that type within a block alone
            if normed:
                squares += np.bincount(member, squared_norms(kappa @ small), JACKKNIFE_GROUPS)
                whole += float(kernel_diagonal(landmarks.kernel, block).sum())
    return ChunkSums(total, squares, whole)


def check_features(features: FeatureArrays, groups: Mapping[str, npt.ArrayLike] | None) -> dict[str, tuple[Floats, I64]]:
    """(n_i, p) samples and (n_i) jackknife groups by domain, in byte order. Refuses what `domain_statistics` does."""
    found: dict[str, tuple[Floats, I64]] = {}
    for name, values in sorted(features.items()):
        given = np.asarray(values)
        group = (
            np.arange(len(given) if given.ndim else 0) % JACKKNIFE_GROUPS if groups is None else np.asarray(groups.get(name, ()))
        )
        sound = given.dtype.kind in "fiu" and given.ndim == 2 and given.size > 0 and group.dtype.kind in "iu"
        sound = sound and group.shape == (len(given),) and group.min() >= 0 and group.max() < JACKKNIFE_GROUPS
        if not sound or not 0 < float(np.vdot(given, given)) < np.inf:
            domain_statistics({name: values}, groups)  # says what is wrong; float16 may only have overflowed here
        found[name] = _floating(given), group.astype(np.int64)
        first, (samples, _) = next(iter(found.items()))
        if samples.shape[1] != given.shape[1]:
            p, q = samples.shape[1], given.shape[1]
            raise InputError(
                f"domain {first!r} has embeddings of {p} dimensions and domain {name!r} of {q}; embed all with one model"
            )
    if not found:
        domain_statistics({})
    return found


def feature_map(kernel: Kernel, landmarks: Landmarks | None) -> Callable[[Floats], Floats]:
    """From a block of samples to its features: x, x / ‖x‖ or ψ(x). The result is a new array."""
    if landmarks is None:
        return unit_rows if kernel.name == "cosine" else np.copy
    root = whitening(landmarks)
    by_type = {kind: root.astype(kind) for kind in ("float32", "float64")}
    kappa = {kind: kernel_evaluator(kernel, landmarks.points.astype(kind)) for kind in by_type}
    return lambda x: kappa[x.dtype.name](x) @ by_type[x.dtype.name]


@dataclass(frozen=True)
class FittedLandmarks:
    landmarks: Landmarks
    error: float | None
    """Largest difference of a weight from the exact kernel's, measured on held-out samples. Not a bound. None: unknown."""


def fit_landmarks(
    features: FeatureArrays,
    kernel: Kernel,
    mixture: Callable[[FeatureArrays, Landmarks], F64],
    *,
    count: int | Literal["auto"] = 256,
    sampling: Sampling = "kmeans",
    tolerance: float = 0.005,
    seed: int = 0,
    recorded: Landmarks | None = None,
) -> FittedLandmarks:
    """Landmarks for these domains (or those of an earlier run), and the error of the weights that `mixture` makes through them.

    The error is measured where the exact kernel can be afforded: at most 1,024 samples of at most 64 domains, other samples
    than those that chose the landmarks where there are enough, with every one of them a landmark. `auto` doubles from 64 (and
    from the number of domains, so that debiasing can work) to 4,096 until that error is within the tolerance.
    """
    names = sorted(sorted(features), key=lambda name: key64(seed, "held out", name))[:HELD_OUT_DOMAINS]
    problem = draw_samples({name: features[name] for name in names}, HELD_OUT, seed, "landmarks", last=True)
    everything = Landmarks(kernel, np.unique(np.concatenate(list(problem.values())), axis=0))
    if recorded is not None:
        count = len(recorded.points)
    sizes = [64 * 2**i for i in range(7) if 64 * 2**i >= min(len(features), 4_096)] if count == "auto" else [count]
    try:
        exact = mixture(problem, everything)
    except InputError:
        if count == "auto":
            raise
        return FittedLandmarks(recorded or choose_landmarks(features, kernel, sizes[0], sampling, seed), None)
    for size in sizes:
        landmarks = recorded or choose_landmarks(features, kernel, size, sampling, seed)
        error = float(np.abs(mixture(problem, landmarks) - exact).max())
        if error <= tolerance or len(landmarks.points) < size:
            break
    return FittedLandmarks(landmarks, error)


def has_drifted(residuals: Mapping[str, float], new: str) -> bool:
    """Whether recorded landmarks no longer fit, now that domain `new` is there: choose them again, from all domains.

    They do not where they explain less than half as much of its samples, 1 - residual, as of the other domains' on average.
    """
    others = [1.0 - residual for name, residual in residuals.items() if name != new]
    return bool(others) and 1.0 - residuals[new] < DRIFT_FACTOR * float(np.mean(others))


def leverage_bounds(features: FeatureArrays, landmarks: Landmarks, plain: Affinity, r: float) -> tuple[F64, F64]:
    """(k), (k): bounds of the exact kernel's leverage scores at the same r, without debiasing, centred or not.

    `plain` is the affinity of ψ (`debias=0`, in byte order of name). K̃ ≤ K ≤ K̃ + δ I in the order of operators, with
    δ = Σ_i ‖μ_i - P μ_i‖², and centring keeps that; K (K + r I)⁻¹ rises with K, so s̃ ≤ s, and s is at most the score of K̃ + δ I.
    δ is exact up to 2^26 pairs of samples; beyond, the mean residual of the samples, which is no smaller (Jensen).
    They bound scores, not weights, which divide by their mean: for these there is a measured error.
    """
    lower = leverage_scores(plain, r)
    pairs = sum(len(np.asarray(x)) ** 2 for x in features.values())
    delta = sum(_missed(np.asarray(x, np.float64), landmarks, exact=pairs <= LARGEST_PAIRS) for x in features.values())
    return lower, 1.0 - r / (r + delta) * (1.0 - leverage_scores(plain, r + delta))


def _missed(x: F64, landmarks: Landmarks, *, exact: bool) -> float:
    """‖μ - P μ‖² of a domain's mean, or a bound."""
    kernel, psi = landmarks.kernel, nystrom_features(x, landmarks)
    if not exact:
        return max(0.0, float((kernel_diagonal(kernel, x) - squared_norms(psi)).mean()))
    inner = sum(float(evaluate_kernel(kernel, x[at : at + SAMPLES_AT_ONCE], x).sum()) for at in range(0, len(x), SAMPLES_AT_ONCE))
    return max(0.0, inner / len(x) ** 2 - float(np.square(psi.mean(axis=0)).sum()))
