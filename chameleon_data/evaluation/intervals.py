"""What a number of paired differences says: intervals, tests, and how many more would settle it.

t interval        mean ± t₀.₉₇₅ s / √n, over seeds, or over domains that were left out in turn
Holm              p-values of all mixtures, multiplied by the tests not yet rejected (Holm 1979)
equivalence       two one-sided tests at .05 against a band fixed before the trial (Schuirmann 1987)
number to settle  n at which the difference found, or its place in the band, would be shown with power .8
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf, isfinite, sqrt

import numpy as np
import scipy

from chameleon_data.arrays import F64, I64

LEVEL, POWER = 0.05, 0.8
MOST_NEEDED = 10_000
"""More seeds than this are not worth naming."""


@dataclass(frozen=True)
class PairedTest:
    """What n paired differences say of their mean."""

    mean: float
    error: float | None
    """Standard error. None: of one difference."""
    interval: tuple[float, float] | None
    """95 %."""
    p: float | None
    """Two-sided, that the mean is not zero."""
    p_inside: float | None
    """p of the equivalence test, whose claim is that the mean lies inside the band."""
    needed: int | None
    """Pairs that would settle it with power .8. None: more than can be said, or one difference."""


def compare_pairs(differences: Sequence[float] | F64, band: float) -> PairedTest:
    """The t tests of some paired differences against zero and against ± `band`."""
    x = np.asarray(differences, np.float64)
    n, mean = len(x), float(np.mean(x))
    if n < 2:
        return PairedTest(mean, None, None, None, None, None)
    error = float(x.std(ddof=1) / sqrt(n))
    if error == 0:
        inside = 0.0 if abs(mean) < band else 1.0
        return PairedTest(mean, 0.0, (mean, mean), 0.0 if mean else 1.0, inside, n)
    reach = float(scipy.special.stdtrit(n - 1, 1 - LEVEL / 2)) * error
    p = 2 * float(scipy.special.stdtr(n - 1, -abs(mean) / error))
    p_inside = float(scipy.special.stdtr(n - 1, -(band - abs(mean)) / error))
    return PairedTest(mean, error, (mean - reach, mean + reach), p, p_inside, pairs_needed(mean, error * sqrt(n), band))


def pairs_needed(mean: float, spread: float, band: float) -> int | None:
    """Pairs with which, if mean and standard deviation are these, one of both tests would succeed with power .8."""
    wanted = [_pairs_for(abs(mean) / spread, LEVEL / 2), _pairs_for((band - abs(mean)) / spread, LEVEL)]
    least = min(wanted)
    return int(least) if isfinite(least) and least <= MOST_NEEDED else None


def _pairs_for(effect: float, level: float) -> float:
    """n at which a t test of this level sees an effect, in standard deviations, with power .8."""
    if effect <= 0:
        return inf
    n = 2.0
    for _ in range(100):
        reach = float(scipy.special.stdtrit(n - 1, 1 - level)) + float(scipy.special.stdtrit(n - 1, POWER))
        wanted = max(2, ceil((reach / effect) ** 2))
        if wanted == n:
            break
        n = float(wanted) if wanted > n or n - wanted < 2 else (n + wanted) // 2
        if n > 100 * MOST_NEEDED:
            return inf
    return n


def resample_documents(documents: int, replicates: int, key: int) -> I64:
    """(replicates, documents) how often each document is drawn, with replacement."""
    rng = np.random.default_rng(key)
    drawn: I64 = rng.multinomial(documents, np.full(documents, 1 / documents), size=replicates)
    return drawn
