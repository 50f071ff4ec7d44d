"""Which pairs of domains are closer, or farther apart, than their distances from the others and the samples' noise explain.

    u_ij = d²_ij - Σ_l d²_il / (k - 2) - Σ_l d²_lj / (k - 2) + Σ_lm d²_lm / ((k - 1)(k - 2))

d²_ij are the squared distances of the domains' true means, free of bias. A domain that is far from all others makes all its
distances large; u takes that out, and has the sum zero over the other domains. Equal distances, whatever they are, give u = 0.
So a negative u says that the pair is closer than its two domains' other distances let expect, a positive one that it is farther.
Source: U-centred distances, Székely and Rizzo, Annals of Statistics 42 (2014), section 3.

The error of u is the delete-a-group jackknife's (`uncertainty.py`), so it is over other samples of the same domains. u over its
error is held against Student's t with one degree less than there are groups. There are k (k - 1) / 2 pairs, and their errors
depend on one another. Holm's correction (`many_tests.py`) keeps the chance that noise marks any pair below 5 %.
Why: docs/decisions/194-pairs-beyond-noise.md.
Cost on one core, p = 384: 3 ms for 10 domains, .2 s for 100, 1.2 s for 300, beyond which no pairs are recorded.
"""

from __future__ import annotations

import numpy as np
import scipy

from chameleon_data.arrays import F64, I64
from chameleon_data.weights.domain_statistics import DomainStatistics, jackknife, moments
from chameleon_data.weights.many_tests import holm
from chameleon_data.weights.merge import squared_distances

FALSE_MARKS = 0.05
"""Largest chance that noise alone marks any pair."""
FEWEST_DOMAINS = 4
"""With three domains every u is zero, whatever the distances are."""
CLOSER, NOT_TOLD, FARTHER = 1, 0, -1


def mark_pairs(statistics: DomainStatistics) -> I64:
    """(k, k) CLOSER, FARTHER or NOT_TOLD for each pair of domains, in the order of the statistics' names; symmetric.

    A pair is NOT_TOLD where noise may explain it, and where all samples of one of its domains lie in one jackknife group.
    """
    k = len(statistics.names)
    marks = np.zeros((k, k), np.int64)
    if k < FEWEST_DOMAINS:
        return marks
    upper = np.triu_indices(k, 1)
    whole = centre_distances(squared_distances(moments(statistics)))[upper]
    groups, squares = 0, np.zeros(len(whole))
    for rest in jackknife(statistics):
        groups, squares = groups + 1, squares + np.square(centre_distances(squared_distances(rest))[upper] - whole)
    lone = np.bincount(statistics.domain) == 1
    known = ~(lone[upper[0]] | lone[upper[1]]) & (squares > 0)
    if groups < 2 or not known.any():
        return marks
    t = whole[known] / np.sqrt((groups - 1) / groups * squares[known])
    beyond = np.zeros(len(whole), np.bool_)
    beyond[known] = holm(2 * scipy.special.stdtr(groups - 1, -np.abs(t))) <= FALSE_MARKS
    marks[upper] = np.where(beyond, np.where(whole < 0, CLOSER, FARTHER), NOT_TOLD)
    return marks + marks.T


def centre_distances(distances: F64) -> F64:
    """(k, k) u of k > 2 domains from their squared distances; the diagonal means nothing."""
    k = len(distances)
    apart = distances - np.diag(np.diag(distances))
    sums = apart.sum(axis=1)
    centred: F64 = apart - (sums[:, None] + sums) / (k - 2) + sums.sum() / ((k - 1) * (k - 2))
    return centred
