"""Near-duplicate domains: pairs that embeddings do not tell apart.

    separation = (‖μ_i - μ_j‖² - v_i / n_i - v_j / n_j) / ½(v_i + v_j)

It is the squared distance of the true means, free of bias, in units of the spread of one domain. Two samples of one domain have
about 0. Why .04 is the limit: docs/decisions/053-near-duplicates-and-misfiled-documents.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from chameleon_data.arrays import F64, I64
from chameleon_data.errors import InputError
from chameleon_data.weights.domain_statistics import Moments
from chameleon_data.weights.kernels.faiss_library import import_faiss

NEAR_DUPLICATE = 0.04
"""Separation below which two domains count as one: halves of a domain lie below it, different domains above."""
MOST_DOMAINS_BY_PAIR = 10_000
"""Domains up to which every pair is looked at."""
NEAREST_DOMAINS = 5
"""Neighbours of each domain that are looked at where not every pair is."""
DOMAINS_AT_ONCE = 1_024
PAIRS_AT_ONCE = 2**22
"""Pairs of domains that are looked at together; a few arrays of as many doubles are in memory."""


@dataclass(frozen=True)
class Pair:
    """Two domains, `first` before `second` in byte order."""

    first: str
    second: str
    separation: float
    """Squared distance of the true means over the spread of one domain. About 0, or below, for two samples of one domain."""
    cosine: float
    """Cosine of the two mean embeddings, centred."""


def nearest_pairs(names: Sequence[str], moments: Moments, most: int = 20) -> tuple[Pair, ...]:
    """At most `most` pairs of domains that are least apart, the nearest pair first, from the (k, p) means and their variances.

    A domain of one sample has no spread and takes the other's. Two such domains are infinitely apart unless they are equal. Pairs
    are looked at in blocks, some 200 MB of memory. Beyond 10,000 domains only those pairs are looked at in which one is among the
    other's five nearest, as faiss finds them. Cost, p = 384, two cores: 1 ms for 10 domains, 9 s for 10,000.
    """
    k = len(names)
    if k != len(moments.mean):
        raise InputError(f"{k} names for the means of {len(moments.mean)} domains")
    x = moments.mean - moments.mean.mean(axis=0)
    squares = np.einsum("ij,ij->i", x, x)
    noise = np.nan_to_num(moments.variance_of_mean)
    spread = moments.variance_of_mean * moments.count  # NaN for a single sample

    def separation(i: I64, j: I64, products: F64) -> F64:
        apart = squares[i] + squares[j] - 2 * products - noise[i] - noise[j]
        a, b = spread[i], spread[j]
        between = np.where(np.isnan(a), b, np.where(np.isnan(b), a, 0.5 * (a + b)))
        nothing = np.where(apart > 4 * np.finfo(np.float64).eps * (squares[i] + squares[j]), np.inf, 0.0)
        scaled: F64 = np.divide(apart, between, out=nothing, where=between > 0)
        return scaled

    best: list[Pair] = []
    for i, j, products in _neighbouring_pairs(x) if k > MOST_DOMAINS_BY_PAIR else _all_pairs(x):
        scaled = np.where(i < j, separation(i, j, products), np.inf)
        flat, (firsts, seconds) = scaled.ravel(), np.broadcast_arrays(i, j)
        near = np.argpartition(flat, most - 1)[:most] if most < flat.size else np.arange(flat.size)
        for a, b, value, product in zip(*(v.ravel()[near].tolist() for v in (firsts, seconds, scaled, products)), strict=True):
            if a < b:
                length = float(np.sqrt(squares[a] * squares[b]))
                best.append(Pair(names[a], names[b], value, product / length if length > 0 else 0.0))
        best = sorted(best, key=lambda pair: (pair.separation, pair.first, pair.second))[:most]
    return tuple(best)


def _all_pairs(x: F64) -> Iterator[tuple[I64, I64, F64]]:
    """(rows, 1) and (columns) domains and their (rows, columns) products, in blocks that hold each pair with i < j once."""
    k = len(x)
    block = min(DOMAINS_AT_ONCE, max(1, PAIRS_AT_ONCE // k))
    for start in range(0, k, block):
        i, j = np.arange(start, min(start + block, k)), np.arange(start, k)
        yield i[:, None], j, x[i] @ x[j].T


def _neighbouring_pairs(x: F64) -> Iterator[tuple[I64, I64, F64]]:
    """(pairs) and (pairs) domains of which one is among the other's nearest, and their (pairs) products; each pair once."""
    rows = np.ascontiguousarray(x, np.float32)
    _, nearest = import_faiss(f"nearest of {len(x):,} domains").knn(rows, rows, NEAREST_DOMAINS + 1)
    i, j = np.repeat(np.arange(len(x)), NEAREST_DOMAINS + 1), nearest.ravel().astype(np.int64)
    pairs = np.unique(np.stack([np.minimum(i, j), np.maximum(i, j)], axis=1)[i != j], axis=0)
    for at in range(0, len(pairs), DOMAINS_AT_ONCE):
        i, j = pairs[at : at + DOMAINS_AT_ONCE].T
        yield i, j, np.einsum("ij,ij->i", x[i], x[j])


def warn_of_near_duplicates(pairs: Sequence[Pair], merged: Iterable[Collection[str]]) -> tuple[str, ...]:
    """A warning for each pair that embeddings do not tell apart. Domains in one of the `merged` groups are scored as one."""
    as_one = [frozenset(group) for group in merged]
    return tuple(
        f"{pair.first!r} and {pair.second!r} look like one domain: the squared distance of their means is "
        f"{max(pair.separation, 0.0):.3f} of a domain's spread; each lowers the leverage of the other; score them as one with "
        "'leverage.merge: auto', or drop one, unless they are meant to differ in what embeddings do not see"
        for pair in pairs
        if pair.separation < NEAR_DUPLICATE and not any({pair.first, pair.second} <= group for group in as_one)
    )
