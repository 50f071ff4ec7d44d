"""How well landmarks stand for the exact kernel: the error of weights, measured; bounds of leverage, proved; and drift.

The error is measured where the exact kernel can be afforded: on at most 1,024 samples of at most 64 domains, with every one of
them a landmark. The samples are others than those that chose the landmarks, where there are enough. It is no bound.

Leverage has bounds. With δ = Σ_i ‖μ_i - P μ_i‖², in the order of operators K̃ ≤ K ≤ K̃ + δ I, and centring keeps that. Since
K (K + r I)⁻¹ rises with K, a score s lies between s̃ and the score of K̃ + δ I.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from chameleon_data.arrays import F64
from chameleon_data.errors import InputError
from chameleon_data.hashing import key64
from chameleon_data.weights.affinity import Affinity
from chameleon_data.weights.domain_statistics import SAMPLES_AT_ONCE, FeatureArrays
from chameleon_data.weights.kernels.kernel import Kernel, evaluate_kernel, kernel_diagonal, squared_norms
from chameleon_data.weights.kernels.landmarks import Landmarks, choose_landmarks, draw_samples
from chameleon_data.weights.kernels.nystrom import nystrom_features
from chameleon_data.weights.leverage import leverage_scores

FEWEST_LANDMARKS, MOST_LANDMARKS = 64, 4_096
"""Between which `landmarks: auto` doubles."""
HELD_OUT = 1_024
"""Samples on which the error is measured against the exact kernel, whose cost is their third power (1 s)."""
HELD_OUT_DOMAINS = 64
LARGEST_PAIRS = 2**26
"""Pairs of samples of a domain, over all domains, up to which `leverage_bounds` looks at each (a few seconds)."""
DRIFT_FACTOR = 0.5
"""Recorded landmarks that see less than this share of a new domain, as compared with the others, are to be chosen again."""


@dataclass(frozen=True)
class FittedLandmarks:
    landmarks: Landmarks
    error: float | None
    """Largest difference of a weight from the exact kernel's, measured on held-out samples. None: it could not be measured."""


def fit_landmarks(
    features: FeatureArrays,
    kernel: Kernel,
    mixture: Callable[[FeatureArrays, Landmarks], F64],
    *,
    count: int | Literal["auto"] = 256,
    tolerance: float = 0.005,
    seed: int = 0,
    recorded: Landmarks | None = None,
) -> FittedLandmarks:
    """Landmarks for these domains, or `recorded` ones of an earlier run, and the error of the weights through them.

    `mixture` gives (k) weights of samples through landmarks. With `count="auto"` their number doubles from 64, or from the
    number of domains so that debiasing can work, to 4,096 until the error is within `tolerance`.
    """
    names = sorted(sorted(features), key=lambda name: key64(seed, "held out", name))[:HELD_OUT_DOMAINS]
    held_out = draw_samples({name: features[name] for name in names}, HELD_OUT, seed, "landmarks", last=True)
    everything = Landmarks(kernel, np.unique(np.concatenate(list(held_out.values())), axis=0))
    if recorded is not None:
        count = len(recorded.points)
    if count == "auto":
        doublings = [FEWEST_LANDMARKS * 2**i for i in range((MOST_LANDMARKS // FEWEST_LANDMARKS).bit_length())]
        sizes = [size for size in doublings if size >= min(len(features), MOST_LANDMARKS)]
    else:
        sizes = [count]
    try:
        exact = mixture(held_out, everything)
    except InputError:
        if count == "auto":
            raise
        return FittedLandmarks(recorded or choose_landmarks(features, kernel, sizes[0], seed), None)
    for size in sizes:
        landmarks = recorded or choose_landmarks(features, kernel, size, seed)
        error = float(np.abs(mixture(held_out, landmarks) - exact).max())
        if error <= tolerance or len(landmarks.points) < size:
            break
    return FittedLandmarks(landmarks, error)


def has_drifted(residuals: Mapping[str, float], new: str) -> bool:
    """Whether recorded landmarks no longer fit now that domain `new` is there.

    They do not fit where they see less than half as much of its samples, 1 - residual, as of the other domains' on average.
    """
    others = [1.0 - residual for name, residual in residuals.items() if name != new]
    return bool(others) and 1.0 - residuals[new] < DRIFT_FACTOR * float(np.mean(others))


def leverage_bounds(features: FeatureArrays, landmarks: Landmarks, plain: Affinity, r: float) -> tuple[F64, F64]:
    """(k), (k): bounds of the exact kernel's leverage scores at the same r, without debiasing, centred or not.

    `plain` is the affinity of ψ with `debias=0`, domains in byte order of name. δ is exact up to 2^26 pairs of samples. Beyond
    these it is the mean residual of the samples, which is no smaller (Jensen). The bounds are of scores, not of weights, which
    divide scores by their mean.
    """
    lower = leverage_scores(plain, r)
    pairs = sum(len(np.asarray(x)) ** 2 for x in features.values())
    delta = sum(_missed(np.asarray(x, np.float64), landmarks, exact=pairs <= LARGEST_PAIRS) for x in features.values())
    return lower, 1.0 - r / (r + delta) * (1.0 - leverage_scores(plain, r + delta))


def _missed(x: F64, landmarks: Landmarks, *, exact: bool) -> float:
    """‖μ - P μ‖² of the mean of a domain's samples, or an upper bound."""
    kernel, psi = landmarks.kernel, nystrom_features(x, landmarks)
    if not exact:
        return max(0.0, float((kernel_diagonal(kernel, x) - squared_norms(psi)).mean()))
    inner = sum(float(evaluate_kernel(kernel, x[at : at + SAMPLES_AT_ONCE], x).sum()) for at in range(0, len(x), SAMPLES_AT_ONCE))
    return max(0.0, inner / len(x) ** 2 - float(np.square(psi.mean(axis=0)).sum()))
