"""Sensitivity: the mixture at other ridges and temperatures, from the same affinity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from chameleon_data.errors import InputError
from chameleon_data.recipe import Leverage
from chameleon_data.weights.affinity import affinity, debias_fraction
from chameleon_data.weights.domain_statistics import DomainStatistics, merge_statistics, moments
from chameleon_data.weights.estimate import estimate_mixture, refuse_overflow
from chameleon_data.weights.leverage import perplexity
from chameleon_data.weights.tilt import Tilt
from chameleon_data.weights.weigh import weigh

RIDGE_FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)
TEMPERATURE_FACTORS = (0.5, 0.7, 1.0, 1.4, 2.0)


@dataclass(frozen=True)
class Setting:
    """The mixture at one ridge and temperature."""

    ridge: float
    temperature: float
    weights: dict[str, float] | None
    """Domain -> weight. None: the formula gives none, or there are too many domains to record them."""
    effective_domains: float | None
    """Perplexity of the mixture."""
    moved: float | None
    """Share of the mixture that differs from the one in use: half the sum of the absolute differences."""
    refused: str = ""
    """Why the formula gives no mixture; empty where it does."""


def sensitivity_table(
    statistics: DomainStatistics,
    leverage: Leverage,
    tilt: Tilt,
    ridges: Sequence[float] | None = None,
    temperatures: Sequence[float] | None = None,
) -> tuple[Setting, ...]:
    """The mixture that the recipe would give at each ridge (λ) and temperature (T) of a grid, ridge by ridge; no error bars.

    By default the grid is .1 to 10 times the ridge and .5 to 2 times the temperature in use. Raises InputError for leverage of
    samples, for a single domain and where the centre is not tilted.
    """
    if leverage.level == "sample":
        raise InputError("a sensitivity table is made of leverage of domains; 'leverage.level' is 'sample'")
    together = merge_statistics(replace(statistics, group=np.zeros_like(statistics.group)))  # one group: no jackknife
    used = weigh(together, leverage, tilt)
    if used.ridge is None or used.temperature is None:
        raise InputError("a single domain has all the weight at every ridge and temperature, and 'kl: 0' is the centre at each")
    whole = moments(statistics)
    fraction = 0.0 if leverage.preset == "reference" else debias_fraction(leverage.debias, whole)
    kernel = affinity(whole, debias=fraction, centre=leverage.centre)
    settings = []
    for ridge in ridges if ridges is not None else [f * used.ridge for f in RIDGE_FACTORS]:
        for temperature in temperatures if temperatures is not None else [f * used.temperature for f in TEMPERATURE_FACTORS]:
            asked = leverage.model_copy(update={"ridge": ridge})
            try:
                best = estimate_mixture(kernel, asked, replace(tilt, temperature=temperature))
                refuse_overflow(best, statistics.names, asked)
            except InputError as reason:
                settings.append(Setting(ridge, temperature, None, None, None, str(reason)))
                continue
            shares = np.exp(best.log_weights)
            moved = float(np.abs(shares - np.array([used.weights[name] for name in statistics.names])).sum()) / 2
            given = dict(zip(statistics.names, shares.tolist(), strict=True))
            settings.append(Setting(ridge, temperature, given, perplexity(shares), moved))
    return tuple(settings)
