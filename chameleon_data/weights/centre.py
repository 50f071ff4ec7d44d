"""The centre: the mixture that leverage tilts, which says what a domain gets where leverage says nothing.

    uniform    c = 1 / k            natural^a    c ∝ tokens^a, natural for a = 1            or a file's, or a version's shares

`prior` multiplies it. Small decoders moved ten times more with the centre than with the tilt: see `evidence.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from chameleon_data.errors import InputError
from chameleon_data.weights.bounds import values_by_domain


def natural_shares(tokens: Mapping[str, int], exponent: float) -> dict[str, float]:
    """Domain -> share ∝ tokens^exponent, in byte order of name. `tokens` are positive; an exponent of 0 is uniform."""
    names = sorted(tokens)
    counts = np.array([tokens[name] for name in names], np.float64)
    powers = (counts / counts.max()) ** exponent
    return dict(zip(names, (powers / powers.sum()).tolist(), strict=True))


def multiply_prior(shares: Mapping[str, float], prior: Mapping[str, float]) -> dict[str, float]:
    """Domain -> share × factor, summing to one, in byte order of name. A domain without a factor has 1.

    Raises InputError for a factor of an unknown domain, and where nothing is left.
    """
    names = sorted(shares)
    products = np.array([shares[name] for name in names]) * values_by_domain("prior", prior, names, 1.0)
    if not products.any():
        raise InputError("weights.prior: no domain that has a share has a factor above zero; raise one")
    return dict(zip(names, (products / products.sum()).tolist(), strict=True))
