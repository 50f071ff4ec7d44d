"""One mixture from one affinity: ridge, leverage, softmax. By the default preset, or by the published formula (`reference`).

    default      r = λ k    ŝ = s / mean(s)    w = softmax(log c + 1 / (ŝ T)), direct: softmax(log c + ŝ / T)
    reference    r = 10 k   s / Σ s            w = softmax(1 / (s 5)), direct: softmax(s / 0.2)

The jackknife makes one of these for each group that it leaves out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import scipy

from chameleon_data.arrays import F64
from chameleon_data.errors import InputError
from chameleon_data.recipe import Divergence, EffectiveDimension, Leverage
from chameleon_data.weights.affinity import Affinity
from chameleon_data.weights.leverage import leverage_scores, ridge_for
from chameleon_data.weights.tilt import LARGEST_EXPONENT, Direction, Tilt, choose_exponents, tilt_exponents

REFERENCE_RIDGE = 10.0
REFERENCE_TEMPERATURE: dict[Direction, float] = {"inverse": 5.0, "direct": 0.2}
REFERENCE_EPSILON = 1e-12
"""Not in the paper. Without it the published vectors come out 3e-9 (relative) off, with it 1e-13."""


@dataclass(frozen=True)
class Estimate:
    """One mixture, of all samples or with a jackknife group left out."""

    affinity: Affinity
    r: float
    scores: F64
    """(k) ŝ; of the reference preset s, sum one."""
    exponents: F64
    """(k) The weights are their softmax."""
    temperature: float

    @property
    def log_weights(self) -> F64:
        """(k)"""
        weights: F64 = scipy.special.log_softmax(self.exponents)
        return weights


def estimate_mixture(kernel: Affinity, leverage: Leverage, tilt: Tilt) -> Estimate:
    """The mixture of an affinity, at the ridge and temperature that the sections ask for."""
    if leverage.preset == "reference":
        return _estimate_reference(kernel, leverage, tilt)
    if isinstance(leverage.ridge, EffectiveDimension):
        r = ridge_for(kernel.eigenvalues, leverage.ridge.effective_dimension)
    else:
        r = ridge_for(kernel.eigenvalues) if leverage.ridge == "auto" else len(kernel.coordinates) * leverage.ridge
    return Estimate(kernel, r, *choose_exponents(leverage_scores(kernel, r), tilt))


def _estimate_reference(kernel: Affinity, leverage: Leverage, tilt: Tilt) -> Estimate:
    if isinstance(leverage.ridge, EffectiveDimension):
        raise InputError("the reference preset takes its ridge as a number; 'effective_dimension' is for the default one")
    if isinstance(tilt.temperature, Divergence):
        raise InputError("the reference preset takes its temperature as a number; 'kl' is for the default one")
    r = len(kernel.coordinates) * (REFERENCE_RIDGE if leverage.ridge == "auto" else leverage.ridge)
    scores = leverage_scores(kernel, r)
    scores = scores / scores.sum()
    preference = 1.0 / (scores + REFERENCE_EPSILON) if tilt.direction == "inverse" else scores
    temperature = REFERENCE_TEMPERATURE[tilt.direction] if tilt.temperature == "auto" else tilt.temperature
    return Estimate(kernel, r, scores, tilt_exponents(preference / temperature, tilt), temperature)


def refuse_overflow(best: Estimate, names: Sequence[str], leverage: Leverage) -> None:
    """Raises InputError where the published formula, in doubles, gives NaN."""
    if leverage.preset == "reference" and float(scipy.special.logsumexp(best.exponents)) > LARGEST_EXPONENT:
        raise InputError(
            f"the published formula overflows: 1/s over the temperature reaches {best.exponents.max():.0f} for "
            f"{names[int(best.exponents.argmax())]!r}, one of {len(names)} domains; use the default preset, or a higher "
            "temperature"
        )
