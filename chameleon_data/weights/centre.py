"""The centre: the mixture that leverage tilts, which says what a domain gets where leverage says nothing.

    uniform    c = 1 / k            natural^a    c ∝ tokens^a, natural for a = 1            or a file's, or a version's shares

`prior` multiplies it. Domains that are scored as one (`merge.py`) count as one in these formulas, and split their share by
tokens. Small decoders moved 4 to 20 times more with the centre than with the tilt: see `evidence.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from chameleon_data.errors import InputError
from chameleon_data.weights.bounds import values_by_domain
from chameleon_data.weights.merge import Units, name_unit


@dataclass(frozen=True)
class CentreRule:
    """What the centre follows from."""

    tokens: Mapping[str, float]
    """Domain -> its tokens, above zero."""
    exponent: float = 0.0
    """a of tokens^a; 0 is uniform."""
    given: Mapping[str, float] | None = None
    """Domain -> share of a file or version, in the place of tokens^a."""
    prior: Mapping[str, float] = field(default_factory=dict)
    """Domain -> factor; others have 1."""

    def units(self, groups: Sequence[Sequence[str]] | None = None) -> tuple[Units, dict[str, float]]:
        """The units of these groups of domains, by default each domain alone, and unit -> its share of the centre."""
        members = {name_unit(group): tuple(group) for group in groups or [(name,) for name in self.tokens]}
        if self.given is not None:
            shares = dict(self.given)
        else:
            sums = {unit: sum(self.tokens[name] for name in group) for unit, group in members.items()}
            powers = natural_shares(sums, self.exponent)
            shares = {n: powers[unit] * self.tokens[n] / sums[unit] for unit, group in members.items() for n in group}
        shares = multiply_prior(shares, self.prior)
        centre = {unit: sum(shares[name] for name in members[unit]) for unit in sorted(members)}
        parts = {
            unit: {name: shares[name] / centre[unit] if centre[unit] else 1 / len(members[unit]) for name in members[unit]}
            for unit in centre
        }
        return Units(parts), centre


def natural_shares(tokens: Mapping[str, float], exponent: float) -> dict[str, float]:
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
