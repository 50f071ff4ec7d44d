"""Other mixtures to compare a computed one with: uniform, natural, tempered, and those of files.

natural_i = tokens_i / Σ tokens        natural^α_i ∝ tokens_i^α, which lifts the small domains
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

import numpy as np

from chameleon_data.errors import InputError, list_some
from chameleon_data.weights.centre import natural_shares

MULTILINGUAL_ALPHA = 0.7
"""Exponent of natural shares that lifts the small ones: multilingual BERT's for languages (XLM-R, Conneau et al. 2020: 0.3)."""


def comparison_mixtures(
    counts: Mapping[str, int],
    unbounded: Mapping[str, float] | None = None,
    extra: Mapping[str, Mapping[str, float]] | None = None,
    *,
    alpha: float = MULTILINGUAL_ALPHA,
) -> dict[str, dict[str, float]]:
    """Mixtures beside the computed one: name -> {domain: share}, each summing to one, domains in byte order of name.

    `counts`: domain -> tokens. There are always `uniform`, `natural` and `natural^0.7`. `unbounded` is the computed mixture
    before bounds; `extra` holds others by name, such as those of files. Raises InputError for other domains, for no tokens at
    all, and for a name that is taken.
    """
    names = sorted(counts)
    if not names or min(counts.values()) < 0 or not sum(counts.values()):
        raise InputError("there are no tokens to compare mixtures of; count them first")
    if not (isfinite(alpha) and alpha > 0):
        raise InputError(f"alpha is {alpha}; it must be a number above zero, 1 for the natural shares")
    exponents = {"uniform": 0.0, "natural": 1.0, f"natural^{alpha:g}": alpha}
    mixtures = {label: np.array(list(natural_shares(counts, exponent).values())) for label, exponent in exponents.items()}
    given = {**({"unbounded": unbounded} if unbounded is not None else {})}
    for label, mixture in (extra or {}).items():
        if label in mixtures or label in given:
            raise InputError(f"two mixtures to compare are called {label!r}; rename one")
        given[label] = mixture
    for label, mixture in given.items():
        if odd := sorted(mixture.keys() ^ counts.keys()):
            raise InputError(f"mixture {label!r}: {list_some(odd)} in it or in the corpus, not in both")
        shares = np.array([mixture[name] for name in names], np.float64)
        if not (np.isfinite(shares).all() and (shares >= 0).all() and shares.any()):
            raise InputError(f"mixture {label!r}: shares must be finite, nowhere negative and somewhere positive")
        mixtures[label] = shares / shares.sum()
    return {label: dict(zip(names, shares.tolist(), strict=True)) for label, shares in mixtures.items()}
