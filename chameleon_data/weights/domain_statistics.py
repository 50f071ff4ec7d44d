"""Statistics of sampled embeddings: all that the weights need to know of the samples, as sums that merge.

For domain i with n_i sampled feature vectors x, and for each jackknife group: n, Σ x and Σ ‖x‖². From these follow the mean μ_i
and v_i / n_i, the expected squared distance of μ_i from the true mean, where v_i = Σ ‖x - μ_i‖² / (n_i - 1).

Sums merge, so a new domain costs only its own samples. Cost on two cores, p = 384: 60 µs a domain and 1 µs a sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from chameleon_data.arrays import F64, I64, Floats
from chameleon_data.errors import InputError

FeatureArrays = Mapping[str, npt.ArrayLike]
"""Domain -> (n_i, p) samples."""
Number = TypeVar("Number", np.int64, np.float64)

JACKKNIFE_GROUPS = 20
"""20 groups give an interval 19 degrees of freedom and cost 20 sums a domain."""
SAMPLES_AT_ONCE = 2_048
"""Samples that are in float64 at a time."""


@dataclass(frozen=True)
class DomainStatistics:
    """A table with a row for each domain and jackknife group that holds samples, in that order.

    `merge_statistics` is associative and commutative, to rounding.
    """

    names: tuple[str, ...]
    """(k) domains, in byte order."""
    domain: I64
    """(rows) index into `names`."""
    group: I64
    """(rows) 0 to 19."""
    count: I64
    """(rows) number of samples."""
    total: F64
    """(rows, p) sum of the feature vectors."""
    squares: F64
    """(rows) sum of the squared norms of the feature vectors."""


def domain_statistics(
    features: FeatureArrays,
    groups: Mapping[str, npt.ArrayLike] | None = None,
    phi: Callable[[npt.NDArray[Any]], npt.NDArray[Any]] | None = None,
) -> DomainStatistics:
    """Statistics of (n_i, p) real arrays, one a domain; memory-mapped arrays are read in blocks.

    `groups`: domain -> (n_i) jackknife groups, integers from 0 to 19; best a document's hash mod 20, so that all its windows are
    in one group. The default is the index mod 20. `phi` maps a block of samples to their features. Sums are float64 and follow
    the order of the rows: a million samples of 384 numbers take 30 MB beside themselves. Raises InputError, with the domain's
    name, for samples that are absent, NaN, infinite, all zero or not two-dimensional.
    """
    if not features:
        raise InputError("there is no domain; give embeddings of at least one")
    without = [name for name in features if groups is not None and name not in groups]
    if without:
        raise InputError(f"domain {without[0]!r} has embeddings but no jackknife groups; give groups of every domain, or of none")
    return merge_statistics(
        *(_one_domain(name, x, None if groups is None else groups[name], phi) for name, x in features.items())
    )


def _one_domain(
    name: str,
    values: npt.ArrayLike,
    groups: npt.ArrayLike | None,
    phi: Callable[[npt.NDArray[Any]], npt.NDArray[Any]] | None,
) -> DomainStatistics:
    given = np.asarray(values)
    if given.dtype.kind not in "fiu" or given.ndim != 2:
        found = f"shape {given.shape} of {given.dtype}"
        raise InputError(f"domain {name!r}: embeddings must be a (samples, dimensions) array of real numbers, not {found}")
    n, dimensions = given.shape
    if n == 0 or dimensions == 0:
        raise InputError(f"domain {name!r} has no embeddings (shape {given.shape}); give it a sample or take it out")
    group = np.arange(n) % JACKKNIFE_GROUPS if groups is None else np.asarray(groups)
    if group.shape != (n,) or group.dtype.kind not in "iu" or group.min() < 0 or group.max() >= JACKKNIFE_GROUPS:
        raise InputError(f"domain {name!r}: groups must be {n} whole numbers from 0 to {JACKKNIFE_GROUPS - 1}, one a sample")
    whole: DomainStatistics | None = None
    for at in range(0, n, SAMPLES_AT_ONCE):
        block = given[at : at + SAMPLES_AT_ONCE]
        x = (block if phi is None else phi(block)).astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            squares = np.einsum("ij,ij->i", x, x)
            fits = np.isfinite((squares.sum() + (0.0 if whole is None else whole.squares.sum())) * n)
        if not fits:
            bad = np.flatnonzero(~np.isfinite(squares))
            where = f"row {at + bad[0]} of {n}" if len(bad) else "their sum"
            raise InputError(f"domain {name!r}: an embedding is NaN, infinite or too large to square ({where}); embed it again")
        member = group[at : at + SAMPLES_AT_ONCE].astype(np.int64)
        part = _sum_rows((name,), np.zeros(len(x), np.int64), member, np.ones(len(x), np.int64), x, squares)
        whole = part if whole is None else merge_statistics(whole, part)
    if whole is None or not whole.squares.any():
        raise InputError(f"domain {name!r}: every embedding is zero; look at what the embedder returned for it")
    return whole


def merge_statistics(*parts: DomainStatistics) -> DomainStatistics:
    """The statistics of all samples together. The parts may be of other domains, or of other samples of the same domains."""
    for part in parts:
        if part.total.shape[1] != parts[0].total.shape[1]:
            (a, p), (b, q) = ((s.names[0], s.total.shape[1]) for s in (parts[0], part))
            raise InputError(f"domain {a!r} has embeddings of {p} dimensions and domain {b!r} of {q}; embed all with one model")
    names = tuple(sorted({name for part in parts for name in part.names}))
    code = {name: i for i, name in enumerate(names)}
    domain = np.concatenate([np.array([code[name] for name in part.names], np.int64)[part.domain] for part in parts])
    columns = (np.concatenate([getattr(part, column) for part in parts]) for column in ("group", "count", "total", "squares"))
    return _sum_rows(names, domain, *columns)


def _sum_rows(names: tuple[str, ...], domain: I64, group: I64, count: I64, total: F64, squares: F64) -> DomainStatistics:
    """One row a (domain, group), from rows in any order."""
    key = domain * JACKKNIFE_GROUPS + group
    if (key[1:] < key[:-1]).any():
        order = np.argsort(key, kind="stable")
        key, count, total, squares = key[order], count[order], total[order], squares[order]
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    return DomainStatistics(
        names, key[starts] // JACKKNIFE_GROUPS, key[starts] % JACKKNIFE_GROUPS,
        _add_runs(count, starts), _add_runs(total, starts), _add_runs(squares, starts),
    )  # fmt: skip


def _add_runs(values: npt.NDArray[Number], starts: I64) -> npt.NDArray[Number]:
    """Sum over each run of rows, in order. `reduceat` takes 10 ns a number, so it is spared where every run is one row."""
    return values if len(starts) == len(values) else np.add.reduceat(values, starts, axis=0)


@dataclass(frozen=True)
class Moments:
    """First and second moments of k domains."""

    count: I64
    """(k) samples."""
    mean: F64
    """(k, p) mean feature vectors."""
    variance_of_mean: F64
    """(k) v_i / n_i: expected squared distance of the mean from the true mean. NaN for a single sample."""


def moments(statistics: DomainStatistics) -> Moments:
    """Means over all samples, and the variances of these means."""
    return _moments(*_totals(statistics))


def jackknife(statistics: DomainStatistics) -> Iterator[Moments]:
    """The moments with one group left out, for each group in turn that holds samples.

    A domain whose samples all lie in that group keeps them, since it would have no mean without.
    """
    s = statistics
    n, total, squares = _totals(s)
    for group in np.unique(s.group):
        rows = np.flatnonzero((s.group == group) & (s.count < n[s.domain]))
        left_out = s.domain[rows]
        count, rest, rest_squares = n.copy(), total.copy(), squares.copy()
        count[left_out] -= s.count[rows]
        rest[left_out] -= s.total[rows]
        rest_squares[left_out] -= s.squares[rows]
        yield _moments(count, rest, rest_squares)


def keep_groups(statistics: DomainStatistics, kept: npt.NDArray[np.bool_]) -> Moments:
    """The moments of the samples in these of the 20 jackknife groups, given as (20) flags.

    A domain that has no sample in them keeps all of its own.
    """
    s, k = statistics, len(statistics.names)
    rows = kept[s.group] | ~np.isin(np.arange(k), s.domain[kept[s.group]])[s.domain]
    part = DomainStatistics(s.names, s.domain[rows], s.group[rows], s.count[rows], s.total[rows], s.squares[rows])
    return _moments(*_totals(part))


def _totals(s: DomainStatistics) -> tuple[I64, F64, F64]:
    starts = np.flatnonzero(np.diff(s.domain, prepend=-1))
    return _add_runs(s.count, starts), _add_runs(s.total, starts), _add_runs(s.squares, starts)


def _moments(n: I64, total: F64, squares: F64) -> Moments:
    mean = total / n[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = (squares / n - np.einsum("ij,ij->i", mean, mean)) / (n - 1)
    return Moments(n, mean, np.where(n > 1, np.maximum(variance, 0.0), np.nan))


def check_features(features: FeatureArrays, groups: Mapping[str, npt.ArrayLike] | None) -> dict[str, tuple[Floats, I64]]:
    """Domain -> (n_i, p) samples, (n_i) jackknife groups; in byte order of name. Refuses what `domain_statistics` refuses."""
    checked: dict[str, tuple[Floats, I64]] = {}
    for name, values in sorted(features.items()):
        given = np.asarray(values)
        group = (
            np.arange(len(given) if given.ndim else 0) % JACKKNIFE_GROUPS if groups is None else np.asarray(groups.get(name, ()))
        )
        sound = given.dtype.kind in "fiu" and given.ndim == 2 and given.size > 0 and group.dtype.kind in "iu"
        sound = sound and group.shape == (len(given),) and group.min() >= 0 and group.max() < JACKKNIFE_GROUPS
        if not sound or not 0 < float(np.vdot(given, given)) < np.inf:
            domain_statistics({name: values}, groups)  # raises with the reason; float16 may only have overflowed here
        checked[name] = as_floating(given), group.astype(np.int64)
        first, (samples, _) = next(iter(checked.items()))
        if samples.shape[1] != given.shape[1]:
            p, q = samples.shape[1], given.shape[1]
            raise InputError(
                f"domain {first!r} has embeddings of {p} dimensions and domain {name!r} of {q}; embed all with one model"
            )
    if not checked:
        domain_statistics({})
    return checked


def as_floating(x: npt.NDArray[Any]) -> Floats:
    """float32 for float16 and float32, which embeddings are; float64 for all else."""
    return x.astype(np.float32 if x.dtype in (np.float16, np.float32) else np.float64, copy=False)
