"""Features of samples through landmarks Z: the Nyström method (Williams and Seeger 2001).

    ψ(x) = κ(x, Z) R,   R Rᵀ = κ(Z, Z)⁺,   so that ⟨ψ(x), ψ(y)⟩ = ⟨P φ(x), P φ(y)⟩, P the projection on the span of φ(Z)

Means, debiasing, centring and jackknife of ψ are those of any features (`domain_statistics.py`, `affinity.py`). They need two
sums for each domain and group: Σ ψ(x), which is Σ κ(x, Z) times R, and Σ ‖ψ(x)‖², for which a part of the samples suffices.
Why: docs/decisions/050-kernels-in-float32.md.
Cost on one core, p = 384, 1,024 landmarks: 7 µs a sample, and 75 MB in all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from chameleon_data.arrays import F64, I64, Floats
from chameleon_data.errors import InputError
from chameleon_data.weights.domain_statistics import (
    JACKKNIFE_GROUPS,
    SAMPLES_AT_ONCE,
    DomainStatistics,
    FeatureArrays,
    as_floating,
    check_features,
    merge_statistics,
)
from chameleon_data.weights.kernels.kernel import (
    Kernel,
    evaluate_kernel,
    kernel_diagonal,
    kernel_evaluator,
    squared_norms,
    unit_rows,
)
from chameleon_data.weights.kernels.landmarks import Landmarks, hash_vectors

SAMPLES_PER_CHUNK = 65_536
"""Samples of a domain that are one task where there are workers: .5 s and, at p = 384, 100 MB."""
SQUARED_NORMS = 4_096
"""Largest number of samples of a domain whose ‖ψ(x)‖² are computed; their sum is scaled to all."""
SMALLEST_EIGENVALUE = 1e-10
"""Share of the largest eigenvalue of κ(Z, Z) below which a direction is rounding, and is left out."""


def whitening(landmarks: Landmarks) -> F64:
    """(m, rank) R with R Rᵀ = κ(Z, Z)⁺."""
    points = landmarks.points.astype(np.float64)
    values, vectors = np.linalg.eigh(evaluate_kernel(landmarks.kernel, points, points))
    kept = values > SMALLEST_EIGENVALUE * values[-1]
    root: F64 = vectors[:, kept] / np.sqrt(values[kept])
    return root


def nystrom_features(x: npt.ArrayLike, landmarks: Landmarks) -> Floats:
    """(n, rank of κ(Z, Z)) ψ of (n, p) samples, all in memory. For many samples see `nystrom_statistics`."""
    return feature_map(landmarks.kernel, landmarks)(as_floating(np.asarray(x)))


def feature_map(kernel: Kernel, landmarks: Landmarks | None) -> Callable[[Floats], Floats]:
    """The function from a block of samples to their features: x, x / ‖x‖ or ψ(x). The features are a new array."""
    if landmarks is None:
        return unit_rows if kernel.name == "cosine" else np.copy
    root = whitening(landmarks)
    roots = {kind: root.astype(kind) for kind in ("float32", "float64")}
    kappas = {kind: kernel_evaluator(kernel, landmarks.points.astype(kind)) for kind in roots}
    return lambda x: kappas[x.dtype.name](x) @ roots[x.dtype.name]


@dataclass(frozen=True)
class LandmarkStatistics:
    """Statistics of samples as the landmarks see them."""

    statistics: DomainStatistics
    """Sums of ψ(x)."""
    residuals: dict[str, float]
    """Domain -> share of its samples, in squared norm, that the landmarks do not see: 1 - Σ ‖ψ(x)‖² / Σ κ(x, x)."""


@dataclass(frozen=True)
class SampleChunk:
    """Samples of one domain that one task takes."""

    x: Floats
    """(n, p)"""
    group: I64
    """(n) jackknife groups."""
    normed: npt.NDArray[np.bool_]
    """(n) whether ‖ψ(x)‖² is computed."""


@dataclass(frozen=True)
class ChunkSums:
    """What a chunk adds to its domain."""

    total: F64
    """(20, m) sum of κ(x, Z), by group."""
    squares: F64
    """(20) sum of ‖ψ(x)‖² of the samples that are `normed`, by group."""
    whole: float
    """Sum of their κ(x, x)."""

    def __add__(self, other: ChunkSums) -> ChunkSums:
        return ChunkSums(self.total + other.total, self.squares + other.squares, self.whole + other.whole)


ChunkMap = Callable[[Callable[[SampleChunk], ChunkSums], Sequence[SampleChunk]], Iterable[ChunkSums]]
"""As the built-in `map`: results in the order of the chunks, wherever they are computed."""


def nystrom_statistics(
    features: FeatureArrays,
    landmarks: Landmarks,
    groups: Mapping[str, npt.ArrayLike] | None = None,
    run_chunks: ChunkMap = map,
    known: Mapping[str, LandmarkStatistics] | None = None,
) -> LandmarkStatistics:
    """`domain_statistics` of ψ, for (n_i, p) samples and (n_i) jackknife groups: one pass over chunks, whose sums add.

    `run_chunks` computes the chunks, in this process by default. `known` holds domains that the same landmarks have seen; their
    samples are not looked at. Float32 embeddings are multiplied in float32 and summed in float64, which is right to 1e-6 in the
    weights.
    """
    root, samples, known = whitening(landmarks), check_features(features, groups), known or {}
    new = {name: sample for name, sample in samples.items() if name not in known}
    chunks, owners = [], []
    for name, (x, group) in new.items():
        if x.shape[1] != landmarks.points.shape[1]:
            p, q = x.shape[1], landmarks.points.shape[1]
            raise InputError(f"domain {name!r} has embeddings of {p} dimensions, the landmarks {q}; embed all with one model")
        normed = np.ones(len(x), np.bool_)
        if len(x) > SQUARED_NORMS:
            normed[np.argsort(hash_vectors(x, 0), kind="stable")[SQUARED_NORMS:]] = False
        for at in range(0, len(x), SAMPLES_PER_CHUNK):
            rows = slice(at, at + SAMPLES_PER_CHUNK)
            chunks.append(SampleChunk(x[rows], group[rows], normed[rows]))
            owners.append(name)
    sums: dict[str, ChunkSums] = {}
    for name, part in zip(owners, run_chunks(partial(sum_chunk, landmarks, root), chunks), strict=True):
        sums[name] = sums[name] + part if name in sums else part
    parts, residuals = [], {}
    for name, (x, group) in new.items():
        squares, seen = sums[name].squares, float(sums[name].squares.sum())
        count = np.bincount(group, minlength=JACKKNIFE_GROUPS)
        if len(x) > SQUARED_NORMS:
            squares = count.astype(np.float64) * (seen / SQUARED_NORMS)
        held = np.flatnonzero(count)
        parts.append(DomainStatistics(
            (name,), np.zeros(len(held), np.int64), held, count[held], sums[name].total[held] @ root, squares[held]
        ))  # fmt: skip
        residuals[name] = max(0.0, 1.0 - seen / sums[name].whole)
    for name, earlier in known.items():
        parts.append(earlier.statistics)
        residuals[name] = earlier.residuals[name]
    return LandmarkStatistics(merge_statistics(*parts), dict(sorted(residuals.items())))


def sum_chunk(landmarks: Landmarks, root: F64, chunk: SampleChunk) -> ChunkSums:
    """The sums over a chunk, in blocks of 2,048 samples; the blocks whose norms are computed come first."""
    total, squares, whole = np.zeros((JACKKNIFE_GROUPS, len(root))), np.zeros(JACKKNIFE_GROUPS), 0.0
    kind = chunk.x.dtype
    small, kappas = root.astype(kind), kernel_evaluator(landmarks.kernel, landmarks.points.astype(kind))
    for normed in (True, False):
        rows = np.flatnonzero(chunk.normed == normed)
        for at in range(0, len(rows), SAMPLES_AT_ONCE):
            block = rows[at : at + SAMPLES_AT_ONCE]
            x, member = chunk.x[block], chunk.group[block]
            kappa = kappas(x)
            total += (member == np.arange(JACKKNIFE_GROUPS)[:, None]).astype(kind) @ kappa  # in that type within a block alone
            if normed:
                squares += np.bincount(member, squared_norms(kappa @ small), JACKKNIFE_GROUPS)
                whole += float(kernel_diagonal(landmarks.kernel, x).sum())
    return ChunkSums(total, squares, whole)
