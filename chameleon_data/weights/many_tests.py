"""P-values of many tests at once.

Holm's correction keeps the chance that any true null is rejected below the level, whatever the dependence between the tests
(Holm, Scandinavian Journal of Statistics 6, 1979).
"""

from __future__ import annotations

import numpy as np

from chameleon_data.arrays import F64


def holm(p: F64) -> F64:
    """(n,) the adjusted p-values of a family of tests, in their order. One at most the level rejects its test."""
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return adjusted
