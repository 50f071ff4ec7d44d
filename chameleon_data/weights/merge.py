"""Domains that are one: they are scored as one, and split its weight by tokens (`leverage.merge: auto`).

Inverse leverage rewards slicing: two random halves of a domain get some twice what it had. So domains are merged where the
samples show that they are one, and not merely where they do not show that they are two: with 8 samples, six in ten distinct pairs
are nearer than their noise. Let d²_ij = ‖μ_i - μ_j‖² - v_i / n_i - v_j / n_j, free of bias. i and j are alike where the upper end
of its one-sided 95 % interval, by the jackknife, lies below a tenth of its median over all pairs. Groups are made by complete
linkage: in a group every pair is alike. Why: docs/decisions/117-merged-domains.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy

from chameleon_data.arrays import F64
from chameleon_data.errors import InputError
from chameleon_data.weights.domain_statistics import DomainStatistics, Moments, jackknife, merge_statistics, moments

ALIKE = 0.1
"""Share of the median distance between domains below which two are one."""
CONFIDENCE_ALIKE = 0.95
MOST_DOMAINS_MERGED = 2_000
"""Domains up to which every pair is looked at: 20 matrices of so many squared."""


@dataclass(frozen=True)
class Units:
    """What is scored: domains, or groups of domains that are one."""

    members: dict[str, dict[str, float]]
    """Unit -> domain -> part of the unit's weight, parts summing to one; units in byte order of name."""

    @property
    def merged(self) -> tuple[tuple[str, ...], ...]:
        """The groups of more than one domain."""
        return tuple(tuple(parts) for parts in self.members.values() if len(parts) > 1)

    def unit_of(self) -> dict[str, str]:
        """Domain -> its unit, in byte order of the domain."""
        return dict(sorted((domain, unit) for unit, parts in self.members.items() for domain in parts))

    def split(self, weights: Mapping[str, float]) -> dict[str, float]:
        """Domain -> its part of the weight of its unit."""
        return {domain: weights[unit] * self.members[unit][domain] for domain, unit in self.unit_of().items()}


def name_unit(domains: Sequence[str]) -> str:
    """The name of a unit: its domain, or its domains with + between."""
    return " + ".join(sorted(domains))


def find_alike(statistics: DomainStatistics) -> tuple[tuple[str, ...], ...]:
    """Groups of domains that are one, each in byte order; all domains are in one group, most of them alone.

    Raises InputError for more than 2,000 domains.
    """
    names, k = statistics.names, len(statistics.names)
    if k > MOST_DOMAINS_MERGED:
        raise InputError(f"leverage.merge: looks at every pair, of at most {MOST_DOMAINS_MERGED:,} domains; there are {k:,}")
    if k < 3:
        return tuple((name,) for name in names)
    whole, pairs = squared_distances(moments(statistics)), np.triu_indices(k, 1)
    groups, squares = 0, np.zeros((k, k))
    for rest in jackknife(statistics):
        groups, squares = groups + 1, squares + np.square(squared_distances(rest) - whole)
    if groups < 2:
        return tuple((name,) for name in names)
    upper = whole + scipy.special.stdtrit(groups - 1, CONFIDENCE_ALIKE) * np.sqrt((groups - 1) / groups * squares)
    lone = np.bincount(statistics.domain) == 1  # all its samples in one jackknife group, so nothing tells its error
    upper[lone, :] = upper[:, lone] = np.finfo(np.float64).max
    limit = ALIKE * float(np.median(np.maximum(whole[pairs], 0.0)))
    tree = scipy.cluster.hierarchy.linkage(np.maximum(upper[pairs], 0.0), "complete")
    labels = scipy.cluster.hierarchy.fcluster(tree, limit, "distance")
    alike: dict[int, list[str]] = {}
    for name, label in zip(names, labels.tolist(), strict=True):
        alike.setdefault(label, []).append(name)
    return tuple(sorted(tuple(group) for group in alike.values()))


def squared_distances(m: Moments) -> F64:
    """(k, k) d², free of the bias of the samples; that of a domain of one sample is not known and stays."""
    x = m.mean - m.mean.mean(axis=0)
    squares = np.einsum("ij,ij->i", x, x) - np.nan_to_num(m.variance_of_mean)
    distances: F64 = squares[:, None] + squares - 2 * (x @ x.T)
    return distances


def merge_domains(statistics: DomainStatistics, units: Units) -> DomainStatistics:
    """The statistics of units: the samples of their domains together."""
    if not units.merged:
        return statistics
    code = {unit: i for i, unit in enumerate(units.members)}
    unit_of = units.unit_of()
    domain = np.array([code[unit_of[name]] for name in statistics.names], np.int64)[statistics.domain]
    return merge_statistics(replace(statistics, names=tuple(units.members), domain=domain))
