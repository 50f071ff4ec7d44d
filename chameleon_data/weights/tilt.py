"""From leverage scores to a mixture: a centre, tilted by a softmax, and the temperature that says how far.

    inverse: w ∝ c · exp(1 / (ŝ T))     direct: w ∝ c · exp(ŝ / T)     ŝ = s / mean(s)

Inverse gives more to what the other domains share, direct to what only one of them holds. With ŝ a temperature means the same at
every k. The tilt is measured by KL(w ‖ c), in nats: it falls as T rises, from -log c of the most preferred domain to 0, and is at
most range² / (8 T²), by Hoeffding's lemma. `{kl: 0.015}` is the lowest T that stays within .015 nats of the centre. `auto` stays
within .0151 and, for leverage of domains, no colder than the published temperatures; with uniform as the centre the mixture is
then as spread out as .985 k equal domains. Why: docs/decisions/045-temperature.md and 115-centre-and-tilt.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, inf, log, sqrt
from typing import Literal

import numpy as np
import scipy

from chameleon_data.arrays import F64
from chameleon_data.recipe import Divergence, Weights
from chameleon_data.weights.evidence import Aim, aimed_at

Objective = Literal["pretrain", "finetune"]
Direction = Literal["inverse", "direct"]

DIRECTIONS: dict[Aim, Direction] = {"unseen": "inverse", "trained": "direct", "like": "inverse"}
"""The tilt for each target. `like` is none of leverage (`match.py`), so its direction is not used."""
LEAST_SCORE = 1e-3
"""ŝ counts as at least this: a domain at the centroid has ŝ = 0, and is to get the largest weight, not all of it."""
COLDEST: dict[Direction, float] = {"inverse": 5 / 7, "direct": 1.4}
"""Lowest temperature of `auto` for leverage of domains: at seven domains the published 5 (on 1/s) and 0.2 (on s). Leverage of
samples has none, as its scores lie nearer to each other: docs/decisions/119-auto-tilt-of-samples.md."""
AUTO_KL = -log(0.985)
"""Nats from the centre that `auto` stays within."""
LARGEST_EXPONENT = log(np.finfo(np.float64).max)


@dataclass(frozen=True)
class Tilt:
    """How scores move a mixture away from its centre."""

    direction: Direction
    temperature: Literal["auto"] | float | Divergence = "auto"
    log_centre: F64 | None = None
    """(k) log of c times k, in byte order of name; -inf where c is zero. None: uniform."""


def make_tilt(weights: Weights, centre: Mapping[str, float] | None = None) -> Tilt:
    """The tilt that a recipe asks for. `centre`: domain (or unit) -> share, up to a factor; None: uniform."""
    log_centre = None
    if centre is not None:
        with np.errstate(divide="ignore"):
            log_centre = np.log(np.array([centre[name] for name in sorted(centre)]) * len(centre))
    return Tilt(DIRECTIONS[aimed_at(weights)], weights.temperature, log_centre)


def choose_exponents(scores: F64, tilt: Tilt, *, of_samples: bool = False) -> tuple[F64, F64, float]:
    """(k) ŝ, (k) the exponents, whose softmax are the weights, and T, from (k) leverage scores, of domains or of samples.

    T is infinite without a tilt.
    """
    scores = scores / scores.mean()
    clipped = np.maximum(scores, LEAST_SCORE)
    preference = 1.0 / clipped if tilt.direction == "inverse" else clipped
    if tilt.temperature == "auto":
        temperature = temperature_for(preference, AUTO_KL, tilt.log_centre, 0.0 if of_samples else COLDEST[tilt.direction])
    elif isinstance(tilt.temperature, Divergence):
        temperature = temperature_for(preference, tilt.temperature.kl, tilt.log_centre)
    else:
        temperature = tilt.temperature
    return scores, tilt_exponents(preference / temperature, tilt), temperature


def tilt_exponents(preference: F64, tilt: Tilt) -> F64:
    """(k) the exponents of c · exp(preference)."""
    return preference if tilt.log_centre is None else preference + tilt.log_centre


def divergence_nats(shares: F64, centre: F64) -> float:
    """KL(w ‖ c) in nats, from (k) shares that sum to one each. It is infinite where c lacks what w holds."""
    return max(0.0, float(scipy.special.rel_entr(shares, centre).sum()))


def temperature_for(preference: F64, kl: float, log_centre: F64 | None = None, coldest: float = 0.0) -> float:
    """The smallest T, `coldest` or above, at which c · exp(preference / T) is at most `kl` nats from c; infinite for 0 nats."""
    base: F64 = scipy.special.log_softmax(np.zeros(len(preference)) if log_centre is None else log_centre)
    held = np.isfinite(base)
    preference, base = preference[held], base[held]
    width = float(np.ptp(preference))
    if kl == 0:
        return inf
    if width == 0:  # no tilt at any temperature
        return coldest or 1.0

    def excess(log_temperature: float) -> float:
        log_weights = scipy.special.log_softmax(base + preference / exp(log_temperature))
        return float(np.exp(log_weights) @ (log_weights - base)) - kl

    low, high = log(coldest or width / LARGEST_EXPONENT), log(width / sqrt(8 * kl)) + 1e-9
    if excess(low) <= 0:
        return exp(low)
    if excess(high) >= 0:  # so few nats that the sum rounds
        return exp(high)
    return exp(scipy.optimize.brentq(excess, low, high, xtol=1e-14, rtol=1e-14))
