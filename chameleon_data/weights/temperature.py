"""From leverage scores to a mixture: a softmax, and the temperature that says how sharp it is.

    pretrain: w ∝ exp(1 / (ŝ T))     finetune: w ∝ exp(ŝ / T)     ŝ = s / mean(s)

Pretraining gives more to what the other domains share, finetuning more to what only one of them holds. With ŝ a temperature means
the same at every k. `auto` is the lowest T, from the published ones up, at which the mixture is as spread out as .985 k equal
domains. Why: docs/decisions/045-temperature.md.
"""

from __future__ import annotations

from math import exp, log, sqrt
from typing import Literal

import numpy as np
import scipy

from chameleon_data.arrays import F64
from chameleon_data.errors import InputError
from chameleon_data.recipe import EffectiveDomains, Weights

Objective = Literal["pretrain", "finetune"]

LEAST_SCORE = 1e-3
"""ŝ counts as at least this: a domain at the centroid has ŝ = 0, and is to get the largest weight, not all of it."""
COLDEST = {"pretrain": 5 / 7, "finetune": 1.4}
"""Lowest temperature of `auto`: at seven domains the published 5 (on 1/s) and 0.2 (on s)."""
AUTO_EFFECTIVE_SHARE = 0.985
"""Perplexity of the mixture over k that `auto` asks for."""
LARGEST_EXPONENT = log(np.finfo(np.float64).max)


def choose_exponents(scores: F64, weights: Weights) -> tuple[F64, F64, float]:
    """(k) ŝ, (k) the exponents, whose softmax are the weights, and T, from (k) leverage scores."""
    scores = scores / scores.mean()
    clipped = np.maximum(scores, LEAST_SCORE)
    preference = 1.0 / clipped if weights.objective == "pretrain" else clipped
    if weights.temperature == "auto":
        temperature = temperature_for(preference, AUTO_EFFECTIVE_SHARE * len(preference), COLDEST[weights.objective])
    elif isinstance(weights.temperature, EffectiveDomains):
        temperature = temperature_for(preference, weights.temperature.effective_domains)
    else:
        temperature = weights.temperature
    return scores, preference / temperature, temperature


def temperature_for(preference: F64, effective: float, coldest: float = 0.0) -> float:
    """The smallest T, `coldest` or above, at which softmax(preference / T) has a perplexity of at least `effective`.

    Perplexity rises with T, from the number of domains that share the largest preference to k. The divergence from uniform is at
    most range² / (8 T²), by Hoeffding's lemma, which bounds T from above. Raises InputError where no T gives it.
    """
    k, width = len(preference), float(np.ptp(preference))
    if effective >= k:
        raise InputError(
            f"temperature: {effective:g} effective domains of {k}: there are no more than {k}, at an infinite temperature"
        )

    def missing(log_temperature: float) -> float:
        log_weights = scipy.special.log_softmax(preference / exp(log_temperature))
        return float(np.exp(log_weights) @ log_weights) + log(effective)

    if width == 0:  # equal at every temperature
        return coldest or 1.0
    low = log(coldest or width / LARGEST_EXPONENT)
    if missing(low) <= 0:
        return exp(low)
    high = log(width / sqrt(8 * log(k / effective))) + 1e-9
    return exp(scipy.optimize.brentq(missing, low, high, xtol=1e-14, rtol=1e-14))
