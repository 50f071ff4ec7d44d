"""Landmarks: the points that stand for all samples where a kernel has no finite features.

They are the centres of k-means on a pool with as many samples of each domain. Why: docs/decisions/049-landmarks-by-k-means.md.
Every choice is a hash of (seed, purpose) and of a vector itself, so the order of domains and of samples does not matter.
Cost on one core, p = 384: .3 s for 1,024 landmarks.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from chameleon_data.arrays import F32, U64, Floats
from chameleon_data.errors import InputError
from chameleon_data.hashing import canonical_json, key64, mix64
from chameleon_data.weights.domain_statistics import SAMPLES_AT_ONCE, FeatureArrays
from chameleon_data.weights.kernels.faiss_library import choose_faiss_device, import_faiss
from chameleon_data.weights.kernels.kernel import Kernel

POOL_PER_LANDMARK = 8
"""Samples of the pool for each landmark. The time of k-means is in proportion."""
ITERATIONS = 5
"""Iterations of k-means, always all of them: a rule for stopping early would depend on rounding."""


@dataclass(frozen=True)
class Landmarks:
    """A kernel and its landmarks. They can be recorded, and domains that come later use the same ones."""

    kernel: Kernel
    points: npt.NDArray[np.float32]
    """(m, p), distinct, in byte order."""

    @property
    def digest(self) -> str:
        """sha256 of the kernel's settings, the shape and the points."""
        head = canonical_json({"kernel": vars(self.kernel), "shape": self.points.shape})
        return hashlib.sha256(head + self.points.astype("<f4").tobytes()).hexdigest()


def draw_samples(features: FeatureArrays, size: int, seed: int, purpose: str, *, last: bool = False) -> dict[str, F32]:
    """About `size` distinct samples in all, as many of each domain, by domain in byte order.

    Drawn are the samples with the smallest keys, or with the largest if `last`. A key is a hash of (seed, purpose) and of the
    vector. A domain with fewer samples gives all it has; every domain gives at least one.
    """
    each, salt = max(1, size // len(features)), key64(seed, purpose)
    drawn = {}
    for name, x in sorted(features.items()):
        with np.errstate(over="ignore"):
            rows = np.ascontiguousarray(x, np.float32)
        if not all(np.isfinite(rows[at : at + SAMPLES_AT_ONCE]).all() for at in range(0, len(rows), SAMPLES_AT_ONCE)):
            raise InputError(f"domain {name!r}: an embedding is NaN or beyond float32, which landmarks are; embed it again")
        _, order = np.unique(hash_vectors(rows, salt), return_index=True)
        drawn[name] = rows[(order[::-1] if last else order)[:each]]
    return drawn


def draw_balanced_pool(features: FeatureArrays, size: int, seed: int, purpose: str) -> F32:
    """(about size, p) the samples of `draw_samples`, of all domains together, in the order of their keys."""
    pool = np.unique(np.concatenate(list(draw_samples(features, size, seed, purpose).values())), axis=0)
    return pool[np.argsort(hash_vectors(pool, key64(seed, purpose)), kind="stable")]


def hash_vectors(rows: Floats, salt: int) -> U64:
    """(n) a hash of each vector: its words times fixed odd numbers, summed and mixed."""
    bits = np.ascontiguousarray(rows).view(np.uint32 if rows.dtype == np.float32 else np.uint64)
    odd = mix64([np.arange(bits.shape[1])], key64("words")) | np.uint64(1)
    sums = np.empty(len(bits), np.uint64)
    for at in range(0, len(bits), SAMPLES_AT_ONCE):
        sums[at : at + SAMPLES_AT_ONCE] = np.einsum("ij,j->i", bits[at : at + SAMPLES_AT_ONCE].astype(np.uint64), odd)
    return mix64([sums], salt)


def choose_landmarks(features: FeatureArrays, kernel: Kernel, count: int, seed: int = 0) -> Landmarks:
    """At most `count` landmarks for (n_i, p) samples of domains; all of the pool where it holds no more.

    k-means is faiss's, on a GPU where faiss sees one. Raises InputError where faiss is needed and missing.
    """
    pool = draw_balanced_pool(features, count * POOL_PER_LANDMARK, seed, "landmarks")
    points = pool if len(pool) <= count else _kmeans_centres(pool, kernel, count, seed)
    return Landmarks(kernel, np.unique(points, axis=0))


def _kmeans_centres(pool: F32, kernel: Kernel, count: int, seed: int) -> F32:
    """(count, p)"""
    faiss = import_faiss(f"leverage.kernel: {kernel.name}")
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # the order of sums, and so the centres, changes with their number
    try:
        clusters = faiss.Kmeans(
            pool.shape[1], count, niter=ITERATIONS, seed=key64(seed, "kmeans") % 2**31, min_points_per_centroid=1,
            max_points_per_centroid=len(pool), gpu=choose_faiss_device(faiss) == "gpu",
        )  # fmt: skip
        unit = np.float32(2.0 ** np.floor(np.log2(np.abs(pool).max())))  # squares beyond float32 end the process in faiss
        clusters.train(pool / unit)
    finally:
        faiss.omp_set_num_threads(threads)
    centres: F32 = np.array(clusters.centroids, np.float32) * unit
    return centres
