"""How alike domains are: the affinity matrix, from statistics of their samples.

    K_ij = ⟨μ_i, μ_j⟩ - f δ_ij v_i / n_i,   then centred on both sides,   then projected on the positive semi-definite

A domain's similarity with itself counts every sample against itself, and is v_i / n_i too large; f is the share of that which is
taken off. With f = 1 the diagonal is the U-statistic over distinct samples. Why: docs/decisions/047-debiasing.md.

What follows needs K only as K = C Cᵀ, and C is (k, p) at most: with more domains than dimensions no k × k matrix is made.
Cost of C on two cores, p = 384: .3 ms for 10 domains, 25 ms for 385, .2 s for 10,000.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from chameleon_data.arrays import F64
from chameleon_data.errors import InputError
from chameleon_data.weights.domain_statistics import Moments

FULL_DEBIAS = 100
"""Samples of a domain. Where any has so many, the full correction has the smaller error. Why: docs/decisions/047-debiasing.md"""
ROUNDING_SHARE = 1e-12
"""Share of the uncentred trace below which what centring leaves is rounding."""


@dataclass(frozen=True)
class Affinity:
    """K = C Cᵀ, after debiasing, centring and projection; the columns of C are orthogonal."""

    coordinates: F64
    """(k, m) C; m is the rank."""
    eigenvalues: F64
    """(m) of K, positive, falling."""
    clipped_mass: float
    """Sum of the negative eigenvalues that the projection removed, over the sum of those it kept."""

    def matrix(self) -> F64:
        """(k, k)"""
        return self.coordinates @ self.coordinates.T


def can_debias(domains: int, dimensions: int) -> bool:
    """Whether the diagonal can be corrected. Beyond k - 1 = p the correction has rank k and K only p: most would be clipped."""
    return domains - 1 <= dimensions


def debias_fraction(debias: float | Literal["auto"], statistics: Moments) -> float:
    """f, the share of v_i / n_i to take off the diagonal. Raises InputError for a share that cannot work."""
    k, p = statistics.mean.shape
    if debias == "auto":
        return 0.0 if not can_debias(k, p) else 1.0 if statistics.count.max() >= FULL_DEBIAS else 0.5
    if debias > 0 and not can_debias(k, p):
        raise InputError(f"debias: {debias:g} cannot work for {k} domains in {p} dimensions; leave it at 'auto' or set it to 0")
    return debias


def affinity(statistics: Moments, *, debias: float = 0.0, centre: bool = True) -> Affinity:
    """The affinity of k domains, by the eigenvectors of the smaller of k × k and p × p. `debias` is f of `debias_fraction`.

    A domain of one sample has no variance, and its diagonal is not corrected. Raises InputError where nothing tells the domains
    apart.
    """
    k, p = statistics.mean.shape
    x = statistics.mean - statistics.mean.mean(axis=0) if centre else statistics.mean
    plain = float(np.einsum("ij,ij->", x, x))
    if plain <= ROUNDING_SHARE * np.einsum("ij,ij->", statistics.mean, statistics.mean):
        raise InputError(f"all {k} domains have the same mean embedding; nothing tells them apart, so give the weights yourself")
    excess = debias * np.nan_to_num(statistics.variance_of_mean)
    if not can_debias(k, p):
        eigenvalues, vectors = np.linalg.eigh(x.T @ x)
        coordinates = x @ vectors
    else:
        gram = x @ x.T - np.diag(excess)
        if centre:  # x is centred already, which loses less to rounding: only the correction is left to centre
            gram += (excess[:, None] + excess) / k - excess.sum() / k**2
        eigenvalues, vectors = np.linalg.eigh(gram)
        coordinates = vectors * np.sqrt(np.maximum(eigenvalues, 0.0))
    rounding = (plain + excess.sum()) * np.finfo(np.float64).eps * max(k, p)
    rank = int(np.count_nonzero(eigenvalues > rounding))
    if not rank:
        raise InputError(f"the {k} domains cannot be told apart from the noise of their samples; embed more, or set 'debias: 0'")
    largest_first = slice(None, -rank - 1, -1)
    kept = eigenvalues[largest_first]
    return Affinity(coordinates[:, largest_first], kept, float(-eigenvalues[eigenvalues < -rounding].sum() / kept.sum()) + 0.0)
