"""Weights towards a target's own samples: the mixture of the domains whose mean embedding is nearest to the target's.

    min ‖Σ w_i μ_i - μ_t‖² + ρ KL(w ‖ c)   over Σ w = 1, w ≥ 0        (kernel mean matching, Gretton et al. 2009)

Since the weights sum to one, the first term is wᵀ A w with A_ij = ⟨μ_i - μ_t, μ_j - μ_t⟩, and no origin matters. A_ii counts the
noise of μ_i, v_i / n_i, which is taken off by the share f as in `affinity.py`, and A is projected on the positive semi-definite.
With A = C Cᵀ the dual is smooth and strongly convex in y, of as many numbers as A has rank:

    min_y ‖y‖² + ρ log Σ c_i exp(-2 (C y)_i / ρ),        w ∝ c · exp(-2 (C y) / ρ)

So the answer is a tilt of the centre, and ρ is its temperature, in squared units of the embeddings: KL(w ‖ c) falls as ρ rises.
`auto` judges the ρ of a grid by how near to the target their weights, from four fifths of the samples, lie in the last fifth,
free of bias; it takes the largest that is as good as the best within one standard error. Why:
docs/decisions/116-weights-towards-samples.md and 122-how-far-an-aim-goes.md. Cost with error bars: .4 s for 10 domains, 6 s for
385, p = 384.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log, sqrt

import numpy as np
import scipy

from chameleon_data.arrays import F64
from chameleon_data.errors import DefectError
from chameleon_data.weights.affinity import ROUNDING_SHARE, can_debias
from chameleon_data.weights.domain_statistics import JACKKNIFE_GROUPS, DomainStatistics, Moments, keep_groups, moments
from chameleon_data.weights.tilt import divergence_nats

FEWEST_TARGET_SAMPLES = 50
"""Samples of the target below which its mean is too unsure to aim at."""
FOLDS = 5
RHO_FACTORS = tuple(10.0 ** (-step / 2) for step in range(9))
"""Grid of ρ for `auto`, in units of the largest difference of two domains' gradients at the centre."""
SMALLEST_FACTOR = 1e-5
"""ρ in the same units below which the mixture no longer changes; a smaller ρ counts as this."""
PATH_STEP = 4.0
"""Factor from one ρ to the next on the way to a small one."""
CONVERGED = 1e-13
"""Half the squared Newton decrement over ρ at which the weights count as found, about the divergence from the answer in nats."""
ROUNDING = 1e-14
"""Relative change of the dual's value that double precision does not show."""


def target_coordinates(domains: Moments, target: Moments, debias: float) -> F64:
    """(k, m) C with A = C Cᵀ, from k domains and one target; `debias` is the share f."""
    x = domains.mean - target.mean
    k, p = x.shape
    if not can_debias(k, p):
        return x
    values, vectors = np.linalg.eigh(x @ x.T - np.diag(debias * np.nan_to_num(domains.variance_of_mean)))
    kept = values > np.finfo(np.float64).eps * k * max(float(values[-1]), 0.0)
    coordinates: F64 = vectors[:, kept] * np.sqrt(values[kept])
    return coordinates


def squared_distance(shares: F64, domains: Moments, target: Moments) -> float:
    """‖Σ w_i μ_i - μ_t‖² of the true means, free of bias; it may come out below zero."""
    apart = shares @ domains.mean - target.mean[0]
    noise = np.square(shares) @ np.nan_to_num(domains.variance_of_mean) + np.nan_to_num(target.variance_of_mean)[0]
    return float(apart @ apart - noise)


def gradient_width(coordinates: F64, log_centre: F64) -> float:
    """Largest difference between two domains' gradients at the centre: the unit of ρ. 0 where it is rounding.

    `log_centre` is normalised.
    """
    gradient = 2 * (coordinates @ (coordinates.T @ np.exp(log_centre)))[np.isfinite(log_centre)]
    width = float(np.ptp(gradient))
    return width if width > ROUNDING_SHARE * float(np.abs(gradient).max()) else 0.0


def match_path(coordinates: F64, log_centre: F64, rhos: Sequence[float]) -> list[F64]:
    """(k) log weights at each of the falling ρ. `log_centre` is (k), normalised, and -inf where the centre is zero."""
    y, found = np.zeros(coordinates.shape[1]), []
    for rho in rhos:
        y, log_weights = _solve(coordinates, log_centre, rho, y)
        found.append(log_weights)
    return found


def match_at(coordinates: F64, log_centre: F64, rho: float) -> F64:
    """(k) log weights at one ρ."""
    start = gradient_width(coordinates, log_centre)
    rhos = [max(rho, SMALLEST_FACTOR * start)]
    while rhos[-1] * PATH_STEP < start:
        rhos.append(rhos[-1] * PATH_STEP)
    return match_path(coordinates, log_centre, rhos[::-1])[-1]


def _solve(c: F64, base: F64, rho: float, y: F64) -> tuple[F64, F64]:
    """The dual's y and (k) log weights, from y of a ρ nearby."""

    def evaluate(y: F64) -> tuple[float, F64]:
        exponents = base - 2 * (c @ y) / rho
        return float(y @ y + rho * scipy.special.logsumexp(exponents)), scipy.special.log_softmax(exponents)

    value, log_weights = evaluate(y)
    for _ in range(200):
        w = np.exp(log_weights)
        mean = c.T @ w
        gradient = 2 * y - 2 * mean
        hessian = 2 * np.eye(len(y)) + 4 / rho * ((c.T * w) @ c - np.outer(mean, mean))
        step = scipy.linalg.solve(hessian, gradient, assume_a="pos")
        decrement = float(gradient @ step)
        if decrement <= 2 * CONVERGED * rho + ROUNDING * abs(value):
            return y, log_weights
        length = 1.0
        while length > 1e-12:
            moved, log_moved = evaluate(y - length * step)
            if moved <= value - 0.25 * length * decrement:
                break
            length /= 2
        else:  # the value no longer changes in double precision
            return y, log_weights
        y, value, log_weights = y - length * step, moved, log_moved
    raise DefectError("weights.target.like: Newton's method did not end")


def rho_within(coordinates: F64, log_centre: F64, kl: float) -> float:
    """The smallest ρ at which the weights are at most `kl` > 0 nats from the centre.

    KL(w ‖ c) ≤ width² / (2 ρ²), by Pinsker's inequality, which bounds ρ from above.
    """
    width, centre = gradient_width(coordinates, log_centre), np.exp(log_centre)

    def excess(log_rho: float) -> float:
        return divergence_nats(np.exp(match_at(coordinates, log_centre, exp(log_rho))), centre) - kl

    high = log(width / sqrt(2 * kl)) + 1e-9
    if excess(high) >= 0:  # so few nats that the sum rounds
        return exp(high)
    while excess(high - 1.0) <= 0:  # a small ρ costs many steps, so it is approached
        high -= 1.0
        if high < log(width * SMALLEST_FACTOR):
            return exp(high)
    return exp(scipy.optimize.brentq(excess, high - 1.0, high, xtol=1e-10, rtol=1e-12))


def rho_by_folds(statistics: DomainStatistics, target: DomainStatistics, debias: float, log_centre: F64) -> float:
    """The largest ρ of the grid that is no worse than the best by one standard error over folds (Breiman et al. 1984).

    A ρ is as good as its weights lie near to the target in documents that they were not made of.
    """
    whole = moments(statistics), moments(target)
    width = gradient_width(target_coordinates(*whole, debias), log_centre)
    rhos = [width * factor for factor in RHO_FACTORS]
    distances = np.zeros((FOLDS, len(rhos)))
    for fold in range(FOLDS):
        out = np.arange(JACKKNIFE_GROUPS) % FOLDS == fold
        path = match_path(target_coordinates(keep_groups(statistics, ~out), keep_groups(target, ~out), debias), log_centre, rhos)
        held_out = keep_groups(statistics, out), keep_groups(target, out)
        distances[fold] = [squared_distance(np.exp(log_weights), *held_out) for log_weights in path]
    worse = distances - distances[:, [distances.mean(axis=0).argmin()]]
    error = worse.std(axis=0, ddof=1) / sqrt(FOLDS)
    largest: float = rhos[int(np.flatnonzero(worse.mean(axis=0) <= error)[0])]
    return largest
