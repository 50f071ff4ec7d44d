"""Error bars of weights: the delete-a-group jackknife, on the scale of log w, with Student's t.

    error² = (g - 1) / g Σ_j (log w₍ⱼ₎ - log w)²,   interval = exp(log w ± t₍g-1, .95₎ error)

w₍ⱼ₎ are the weights without group j, and g is 20. The intervals are over other samples of the same domains; they do not cover the
choice of embedder, kernel or temperature. Why: docs/decisions/048-jackknife-intervals.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy

from chameleon_data.arrays import F64, I64

CONFIDENCE = 0.9


def jackknife_intervals(log_weights: F64, replicates: Sequence[F64]) -> tuple[F64, F64, F64]:
    """(k) lower and (k) upper ends of the 90 % intervals, and (k) the share of replicates in which a domain keeps its rank.

    `replicates` are (k) log weights, each with one group left out. NaN where there are fewer than two.
    """
    g = len(replicates)
    if g < 2:
        nothing = np.full(len(log_weights), np.nan)
        return nothing, nothing, nothing
    held = np.isfinite(log_weights)  # a domain without a share in the centre has none in any replicate
    deviations = np.where(held, np.stack(replicates), 0.0) - np.where(held, log_weights, 0.0)  # (g, k)
    error = np.sqrt((g - 1) / g * np.square(deviations).sum(axis=0))
    reach = scipy.special.stdtrit(g - 1, (1 + CONFIDENCE) / 2) * error
    ranks = _ranks(log_weights)
    stability = np.mean([_ranks(replicate) == ranks for replicate in replicates], axis=0)
    return np.exp(log_weights - reach), np.exp(np.minimum(log_weights + reach, 0.0)), stability


def _ranks(values: F64) -> I64:
    """(k) number of domains with a larger value."""
    return np.searchsorted(np.sort(-values), -values).astype(np.int64)
