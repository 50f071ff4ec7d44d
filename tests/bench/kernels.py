"""Weights at the sizes where the mathematics costs something, beside what one would write without this project.

    python -m tests.bench.kernels        at full size
    python -m tests.bench.kernels 0.1    a tenth of it

Embeddings are synthetic: unit vectors about a few centres a domain, with a spectrum that falls as that of sentence embeddings.
Every peak of memory is that of a process of its own, less what the same process holds before it starts.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from chameleon_data import domain_weights
from chameleon_data.hashing import key64
from chameleon_data.weights.affinity import affinity
from chameleon_data.weights.domain_statistics import domain_statistics, moments
from chameleon_data.weights.kernels.kernel import Kernel, auto_bandwidth, evaluate_kernel, kernel_diagonal
from chameleon_data.weights.kernels.landmarks import (
    POOL_PER_LANDMARK,
    Landmarks,
    choose_landmarks,
    draw_balanced_pool,
    hash_vectors,
)
from chameleon_data.weights.kernels.nystrom import SMALLEST_EIGENVALUE, nystrom_statistics
from chameleon_data.weights.leverage import leverage_scores, ridge_for
from chameleon_data.weights.tilt import AUTO_KL, COLDEST, temperature_for
from tests.bench.figures import Figure, show

DIMENSIONS = 384
LANDMARKS = 1_024


def run(scale: float = 1.0) -> list[Figure]:
    return [
        *_many_domains(int(10_000 * scale)),
        *_many_samples(int(200_000 * scale)),
        *_weight_error(int(10_000 * scale), 256),
        *_samples_needed(),
    ]


def corpus(k: int, n: int, seed: int = 0) -> dict[str, np.ndarray]:
    """n float32 unit vectors of each of k domains."""
    rng = np.random.default_rng(seed)
    falling = 2 * np.exp(-np.arange(DIMENSIONS) / 60)
    found = {}
    for i in range(k):
        centres = 0.8 * rng.normal(size=(4 + i % 5, DIMENSIONS))
        x = centres[rng.integers(0, len(centres), n)] + rng.normal(size=(n, DIMENSIONS)) * falling
        found[f"d{i:05d}"] = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    return found


def _many_domains(k: int) -> list[Figure]:
    """Linear scores of k domains from their means: ours in p × p, the published k × k inverse."""
    means = np.concatenate(list(corpus(k, 1).values())).astype(np.float64)
    table = domain_statistics({f"d{i:05d}": mean[None] for i, mean in enumerate(means)})
    ours, scores = _timed(lambda: leverage_scores(affinity(moments(table)), 10.0 * k))
    theirs, published = _timed(lambda: _published(means))
    difference = float(np.abs(scores / scores.sum() / published - 1).max())
    sizes = f"{k:,} domains × {DIMENSIONS}"
    return [
        Figure(f"leverage of {sizes}, linear", theirs / ours, "×", 20.0, f"{ours:.2f} s; published formula {theirs:.1f} s"),
        Figure("its scores, largest relative difference", difference, "", 1e-9, "published formula", lower_is_better=True),
    ]


def _published(means: np.ndarray) -> np.ndarray:
    k = len(means)
    centring = np.eye(k) - 1 / k
    matrix = centring @ (means @ means.T) @ centring
    scores = np.diag(matrix @ np.linalg.inv(matrix + 10.0 * k * np.eye(k)))
    return scores / scores.sum()


def _many_samples(n: int) -> list[Figure]:
    """Statistics of 10 domains through landmarks, from samples to what the weights need."""
    ours, peak = _alone(_ours, n)
    theirs, their_peak = _alone(_scikit_learn, n)
    size = f"{n:,} samples, {LANDMARKS:,} landmarks, rbf"
    return [
        Figure(f"{size}: time", theirs / ours, "×", 3.0, f"{ours:.1f} s with k-means; Nystroem, then means: {theirs:.1f} s"),
        Figure(f"{size}: memory", their_peak / peak, "×", 3.0, f"{peak / 2**20:.0f} MiB; Nystroem: {their_peak / 2**20:.0f} MiB"),
    ]


def _ours(samples: dict[str, np.ndarray]) -> None:
    kernel = Kernel("rbf", auto_bandwidth("rbf", draw_balanced_pool(samples, 1_024, 0, "bandwidth")))
    nystrom_statistics(samples, choose_landmarks(samples, kernel, LANDMARKS))


def _scikit_learn(samples: dict[str, np.ndarray]) -> None:
    from sklearn.kernel_approximation import Nystroem

    x = np.concatenate(list(samples.values()))
    psi = Nystroem(kernel="rbf", gamma=0.25, n_components=LANDMARKS, random_state=0).fit_transform(x)
    bounds = np.cumsum([0, *(len(y) for y in samples.values())])
    for a, b in pairwise(bounds):
        psi[a:b].mean(axis=0)


def _alone(work: Callable[[dict[str, np.ndarray]], None], n: int) -> tuple[float, float]:
    """Seconds and bytes of the peak, in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (work, n))


def _measured(work: Callable[[dict[str, np.ndarray]], None], n: int) -> tuple[float, float]:
    samples = corpus(10, n // 10)
    work({name: x[:10] for name, x in samples.items()})  # what importing and starting costs
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = _peak()
    taken, _ = _timed(lambda: work(samples))
    return taken, _peak() - before


def _peak() -> float:
    """Bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024.0 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def _weight_error(n: int, landmarks: int) -> list[Figure]:
    """Weights of 10 domains through landmarks, and from all n² values of the kernel."""
    samples = corpus(10, n // 10)
    figures = []
    for name in ("rbf", "laplacian"):
        bandwidth = auto_bandwidth(name, draw_balanced_pool(samples, 1_024, 0, "bandwidth"))
        kernel = Kernel(name, bandwidth)
        exact = _exact_weights(samples, kernel)
        pool = draw_balanced_pool(samples, landmarks * POOL_PER_LANDMARK, 0, "landmarks")
        chosen = {
            "k-means": choose_landmarks(samples, kernel, landmarks),
            "BLESS": Landmarks(kernel, np.unique(_draw_by_leverage(pool, kernel, landmarks, 0), axis=0)),
            "uniform": Landmarks(kernel, np.unique(pool[:landmarks], axis=0)),  # in the order of their keys, which are hashes
        }
        for choice, points in chosen.items():
            result = domain_weights(samples, kernel=name, landmarks=points)
            error = max(abs(result.weights[domain] - exact[domain]) for domain in exact)
            said = f"exact kernel, n = {n:,}; said of itself: {result.nystrom.error:.2g}"
            aim = 0.005 if (name, choice) == ("rbf", "k-means") else None
            label = f"weight error, {name}, {landmarks} landmarks by {choice}"
            figures.append(Figure(label, error, "", aim, said, lower_is_better=True))
    return figures


# Other ways to choose landmarks, with which k-means is compared


OVERSAMPLE = 8.0
FEWEST = 16
"""Samples that a level keeps, about; where none is kept, all scores of the next are alike."""
LEVELS = 40
"""The ridge ends at 1e-12 of the largest κ(x, x) in any case."""


def _draw_by_leverage(pool: np.ndarray, kernel: Kernel, count: int, seed: int) -> np.ndarray:
    """`count` samples in proportion to their ridge leverage, without replacement (Efraimidis and Spirakis 2006)."""
    rows, scores, _ = bless_scores(pool, kernel, count, seed)
    return pool[rows[np.argsort(-np.log(_uniform_keys(pool[rows], seed, "draw", 0)) / scores, kind="stable")[:count]]]


def bless_scores(pool: np.ndarray, kernel: Kernel, count: int, seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Rows of a uniform part of the pool, their approximate ridge leverage, and the ridge λ at which `count` samples suffice.

    Bottom-up leverage sampling (BLESS, Rudi, Calandriello, Carratino and Rosasco 2018, algorithm 2): λ halves from κ². At each λ,
    a uniform part of about 8 κ²/λ samples is scored by the samples J that the λ before kept, each with probability A:

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
            seen = np.maximum(seen - np.einsum("ij,ji->i", cross, solved), SMALLEST_EIGENVALUE * top)
        scores: np.ndarray = np.minimum(seen / (ridge * n), 1.0)
        if len(chosen) and (2 * scores.mean() * n >= count or level == LEVELS - 1):
            break
        probable = np.minimum(max(OVERSAMPLE, FEWEST / scores.sum()) * scores, 1.0)
        keep = _uniform_keys(some.astype(np.float32), seed, "kept", level) < probable
        chosen, weight = rows[keep], probable[keep] * len(rows) / n
    return rows, scores, ridge


def _uniform_keys(rows: np.ndarray, seed: int, purpose: str, level: int) -> np.ndarray:
    """(n) numbers in (0, 1) by a hash of each vector."""
    found: np.ndarray = (hash_vectors(rows, key64(seed, "bless", purpose, level)).astype(np.float64) + 0.5) / 2.0**64
    return found


def _exact_weights(samples: dict[str, np.ndarray], kernel: Kernel) -> dict[str, float]:
    """By the affinity itself: features of k domains whose inner products are the block means of the kernel."""
    blocks = list(samples.values())
    k, matrix = len(blocks), np.zeros((len(blocks), len(blocks)))
    for i, x in enumerate(blocks):
        for j, y in enumerate(blocks):
            values = evaluate_kernel(kernel, x.astype(float), y.astype(float))
            n = len(x)
            matrix[i, j] = values.mean() if i != j else (values.sum() - np.trace(values)) / (n * (n - 1))
    centring = np.eye(k) - 1 / k
    values, vectors = np.linalg.eigh(centring @ matrix @ centring)
    values, vectors = values[values > 1e-12], vectors[:, values > 1e-12]
    scores = np.square(vectors) @ (values / (values + ridge_for(values)))
    preference = 1 / np.maximum(scores / scores.mean(), 1e-3)
    e = np.exp(preference / temperature_for(preference, AUTO_KL, coldest=COLDEST["inverse"]))
    return dict(zip(samples, (e / e.sum()).tolist(), strict=True))


def _samples_needed() -> list[Figure]:
    """Samples a domain from which the worst weight is, root mean square over 20 draws, within .01 of that of 10,000."""
    everything = corpus(10, 10_000)
    truth = np.array(list(domain_weights(everything).weights.values()))
    rng = np.random.default_rng(1)
    needed = {}
    ways: tuple[tuple[str, float | Literal["auto"]], ...] = (("debiased", "auto"), ("plain", 0.0))
    for what, debias in ways:
        for n in (5, 7, 10, 14, 20, 28, 40, 57, 80, 113, 160, 226, 320, 453, 640):
            errors = []
            for _ in range(20):
                drawn = {name: x[rng.choice(len(x), n, replace=False)] for name, x in everything.items()}
                found = np.array(list(domain_weights(drawn, debias=debias).weights.values()))
                errors.append(np.square(found - truth))
            needed[what] = n
            if np.sqrt(np.mean(errors, axis=0)).max() <= 0.01:
                break
    debiased, plain = needed["debiased"], needed["plain"]
    name = "samples a domain for weights within .01, debiased"
    return [Figure(name, debiased, "", plain, f"plain: {plain}", lower_is_better=True)]


def _timed(action: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = action()
    return time.perf_counter() - start, result


if __name__ == "__main__":
    show(run(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0))
