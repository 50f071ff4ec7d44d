"""Why a domain weighs what it does: who lowers its leverage, which domains are alike, which documents stand in the wrong one,
and what other settings would have given. Functions of arrays, for a notebook as for the report.

**Neighbours.** With H = K (K + r I)⁻¹, whose diagonal is the leverage s, let domain j be taken out of the centred affinity K (row
and column; centre and r stay). By the formula for the inverse without a row, with A = (K + r I)⁻¹,

    s_i without j  =  s_i + r A_ij² / A_jj   ≥   s_i

so that another domain can only lower a leverage, and all k² effects come from one inverse. What counts is what a domain
spans: one that lies opposite across the centre (cosine -1) lowers as much as one alongside (+1), and with few domains, which
centring puts on all sides of the centre, it is often the opposite one that shows. The effects do not add up: two domains that
are twins each lower a third by little, since the other is still there.

**Separation.** (‖μ_i - μ_j‖² - v_i/n_i - v_j/n_j) / ½(v_i + v_j): the squared distance of the true means, free of bias, in units
of the spread of one domain. Ten real domains, 60 MiniLM embeddings each: .100 for the nearest two (c4, wikipedia), median .31.
Two halves of one domain, 30 each: 99 in 100 below .039; two domains, 30 each: never below .061, in 100 draws.

**Misfiled.** A document is nearer to domain d the larger its mean cosine with the 5 nearest documents of d; itself does not
count. With 30 of those 600 documents put under another name, .81 of the first 30 found were these (nearest mean .73, 20 votes
.72). Of true labels 1 in 9 is nearer to another too, so only the head of the list tells: at a margin above .1, .88 of the
misplaced and .024 of the others; above .15, .76 and .006.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from chameleon_data.arrays import F64, I64
from chameleon_data.errors import InputError
from chameleon_data.recipe import Leverage, Weights
from chameleon_data.weights.affinity import DomainStatistics, Moments, affinity, debias_fraction, merge_statistics, moments
from chameleon_data.weights.landmarks import import_faiss
from chameleon_data.weights.leverage import perplexity
from chameleon_data.weights.weigh import estimate_mixture, refuse_overflow, weigh

NEAR_DUPLICATE = 0.04
"""Separation below which two domains count as one: halves of a domain lie below it, different domains above."""
NEAREST_DOCUMENTS = 5
"""Documents of a domain that a document is held against."""
REFERENCE_DOCUMENTS = 10_000
"""Documents to compare with, in all, the first of each domain: bounds the search at n × 10,000 products."""
DOMAINS_AT_ONCE = 1_024
PAIRS_AT_ONCE = 2**22
"""Pairs of domains that are looked at together; a few arrays of as many doubles are in memory."""
MOST_DOMAINS_BY_PAIR = 10_000
"""Domains up to which every pair is looked at."""
NEAREST_DOMAINS = 5
RIDGE_FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)
TEMPERATURE_FACTORS = (0.5, 0.7, 1.0, 1.4, 2.0)


@dataclass(frozen=True)
class Neighbour:
    """Another domain, as seen from one."""

    domain: str
    lowers: float
    """Share of the leverage which the one would have without this neighbour that the neighbour takes away; 0 to 1."""
    cosine: float
    """Of the two mean embeddings, centred as the affinity is."""


@dataclass(frozen=True)
class Pair:
    first: str
    second: str
    separation: float
    """Squared distance of the true means over the spread of one domain; about 0 for two samples of the same, may be below."""
    cosine: float
    """Of the two mean embeddings, centred."""


@dataclass(frozen=True)
class Misfiled:
    """A document that is nearer to another domain than to its own."""

    domain: str
    """Where it stands."""
    row: int
    """Which of the domain's samples."""
    nearest: str
    margin: float
    """Mean cosine with the nearest documents there, less that with those of its own domain."""


@dataclass(frozen=True)
class Setting:
    """The mixture at one ridge and temperature."""

    ridge: float
    temperature: float
    weights: dict[str, float] | None
    """None where the formula gives none; `refused` says why."""
    effective_domains: float | None
    moved: float | None
    """Share of the mixture that differs from the one in use: half the sum of the absolute differences."""
    refused: str = ""


def lowered_by(affinity: F64, r: float) -> F64:
    """(k, k) how much lower the leverage of i (row) is because of j (column); zero on the diagonal.

    `affinity`: (k, k) as `DomainWeights.affinity`. `r`: as `leverage_scores` takes it, `DomainWeights.ridge` times k.
    One inverse: .4 ms at k = 100, 20 ms at 500, .7 s at 2,000 on one core.
    """
    if affinity.ndim != 2 or affinity.shape[0] != affinity.shape[1]:
        raise InputError(f"the affinity has shape {affinity.shape}; it must be domains × domains")
    if not (np.isfinite(affinity).all() and np.isfinite(r) and r > 0):
        raise InputError("the affinity and the ridge must be finite, and the ridge above zero")
    inverse = _inverse(affinity, r)
    lowered: F64 = r * np.square(inverse) / np.diag(inverse)
    np.fill_diagonal(lowered, 0.0)
    return lowered


def _inverse(affinity: F64, r: float) -> F64:
    return np.asarray(np.linalg.inv(affinity + r * np.eye(len(affinity))), np.float64)


def find_neighbours(names: Sequence[str], affinity: F64, r: float, most: int = 5) -> dict[str, tuple[Neighbour, ...]]:
    """For each domain those that lower its leverage most, the strongest first. Arguments as for `lowered_by`."""
    lowered = lowered_by(affinity, r)
    if len(names) != len(affinity):
        raise InputError(f"{len(names)} names for an affinity of {len(affinity)} domains")
    scores = 1.0 - r * np.diag(_inverse(affinity, r))
    without = np.maximum(scores, 0.0)[:, None] + lowered
    shares = np.divide(lowered, without, out=np.zeros_like(lowered), where=without > 0)
    cosines = _cosines(affinity)
    found = {}
    for i, name in enumerate(names):
        order = [j for j in np.argsort(-shares[i], kind="stable").tolist() if j != i][:most]
        found[name] = tuple(Neighbour(names[j], float(shares[i, j]), float(cosines[i, j])) for j in order)
    return found


def _cosines(gram: F64) -> F64:
    length = np.sqrt(np.maximum(np.diag(gram), 0.0))
    both = np.outer(length, length)
    cosines: F64 = np.divide(gram, both, out=np.zeros_like(gram), where=both > 0)
    return cosines


def nearest_pairs(names: Sequence[str], moments: Moments, most: int = 20) -> tuple[Pair, ...]:
    """The domains that are least apart, the nearest pair first, from the (k, p) means and their variances.

    A domain of one sample has no spread of its own, and takes the other's; two of them are apart by infinity unless equal.
    In blocks of pairs, so that memory is some 200 MB. Beyond 10,000 domains only pairs are looked at of which one is among the
    other's five nearest, found by faiss. Cost, p = 384, two cores: 1 ms at k = 10, 9 s at 10,000; 100,000 took
    6 min and .9 GB on a machine with ten other jobs.
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
    for i, j, products in _near(x) if k > MOST_DOMAINS_BY_PAIR else _all_pairs(x):
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
    """(rows, 1) and (columns) domains and their (rows, columns) products: each pair once, in blocks, beside others."""
    k = len(x)
    block = min(DOMAINS_AT_ONCE, max(1, PAIRS_AT_ONCE // k))
    for start in range(0, k, block):
        i, j = np.arange(start, min(start + block, k)), np.arange(start, k)
        yield i[:, None], j, x[i] @ x[j].T


def _near(x: F64) -> Iterator[tuple[I64, I64, F64]]:
    """(pairs), (pairs) domains of which one is among the other's nearest, each pair once, and their (pairs) products."""
    faiss = import_faiss(f"{len(x):,} domains")
    rows = np.ascontiguousarray(x, np.float32)
    _, nearest = faiss.knn(rows, rows, NEAREST_DOMAINS + 1)
    i, j = np.repeat(np.arange(len(x)), NEAREST_DOMAINS + 1), nearest.ravel().astype(np.int64)
    pairs = np.unique(np.stack([np.minimum(i, j), np.maximum(i, j)], axis=1)[i != j], axis=0)
    for at in range(0, len(pairs), DOMAINS_AT_ONCE):
        i, j = pairs[at : at + DOMAINS_AT_ONCE].T
        yield i, j, np.einsum("ij,ij->i", x[i], x[j])


def warn_of_near_duplicates(pairs: Sequence[Pair]) -> tuple[str, ...]:
    """A sentence of warning for each pair that embeddings do not tell apart."""
    return tuple(
        f"{pair.first!r} and {pair.second!r} look like one domain: the squared distance of their means is "
        f"{max(pair.separation, 0.0):.3f} of a domain's spread; each lowers the leverage of the other, merge them or drop one, "
        "unless they are meant to differ in what embeddings do not see"
        for pair in pairs
        if pair.separation < NEAR_DUPLICATE
    )


def find_misfiled(
    vectors: Mapping[str, npt.NDArray[np.float32]], most: int = 50, nearest: int = NEAREST_DOCUMENTS
) -> tuple[Misfiled, ...]:
    """Documents nearer to another domain than to their own, the largest margin first, from (n_i, p) embeddings a domain.

    Embeddings are moved by the mean of the domains' means and brought to unit length. Each is compared with the first 10,000 / k
    documents of each domain; rows are sorted by hash, so these are a random choice. A domain with one sample has nothing to
    compare it with and is neither searched nor named.
    Cost on one core, p = 384: .1 s for 10 domains of 256 samples, 30 s for 385.
    """
    names = sorted(name for name, x in vectors.items() if len(x) > 1)
    if len(names) < 2:
        return ()
    centre = np.mean([np.mean(vectors[name], axis=0, dtype=np.float64) for name in names], axis=0)
    unit = {name: _unit(vectors[name] - centre) for name in names}
    share = max(nearest + 1, REFERENCE_DOCUMENTS // len(names))
    starts = np.cumsum([0, *(len(unit[name]) for name in names)])
    queries = np.concatenate([unit[name] for name in names])
    own, best = np.empty(len(queries)), np.full(len(queries), -np.inf)
    named = np.full(len(queries), -1, np.int64)
    for j, name in enumerate(names):
        documents, reference = slice(starts[j], starts[j + 1]), unit[name][:share]
        own[documents] = _mean_of_largest(unit[name], reference, min(nearest, len(reference) - 1), without_itself=True)
        others = _mean_of_largest(queries, reference, min(nearest, len(reference)))
        others[documents] = -np.inf
        better = others > best
        best[better], named[better] = others[better], j
    margin = best - own
    order = np.argsort(-margin, kind="stable")
    domain = np.searchsorted(starts, order, side="right") - 1
    return tuple(
        Misfiled(names[d], int(at - starts[d]), names[named[at]], round(float(margin[at]), 6))
        for d, at in zip(domain[:most].tolist(), order[:most].tolist(), strict=True)
        if margin[at] > 0
    )


def _unit(x: F64) -> npt.NDArray[np.float32]:
    """Rows of length one; zero stays zero."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.ascontiguousarray(np.divide(x, length, out=np.zeros_like(x), where=length > 0), np.float32)


def _mean_of_largest(
    queries: npt.NDArray[np.float32], reference: npt.NDArray[np.float32], most: int, without_itself: bool = False
) -> F64:
    """(n) mean of the `most` largest inner products of each of the (n, p) queries with the (m, p) rows of the reference.

    `without_itself`: the reference is the first m queries, and none is compared with itself.
    """
    means, block = np.empty(len(queries)), max(1, PAIRS_AT_ONCE // len(reference))
    for start in range(0, len(queries), block):
        products = queries[start : start + block] @ reference.T
        if without_itself:
            itself = np.arange(start, min(start + len(products), len(reference)))
            products[itself - start, itself] = -np.inf
        largest = np.partition(products, len(reference) - most, axis=1)[:, len(reference) - most :]
        means[start : start + block] = largest.mean(axis=1, dtype=np.float64)
    return means


def sensitivity_table(
    statistics: DomainStatistics,
    leverage: Leverage,
    weights: Weights,
    ridges: Sequence[float] | None = None,
    temperatures: Sequence[float] | None = None,
) -> tuple[Setting, ...]:
    """The mixture over a grid of ridge (λ) and temperature (T), ridge by ridge: what a person would get by asking for these.

    Without values the grid is .1 to 10 times the ridge and .5 to 2 times the temperature in use. Everything else is as in the
    recipe's sections; there are no error bars, and one affinity serves all settings.
    """
    if leverage.level == "sample":
        raise InputError("a sensitivity table is made of leverage of domains; 'leverage.level' is 'sample'")
    together = merge_statistics(replace(statistics, group=np.zeros_like(statistics.group)))  # one group: no jackknife
    used = weigh(together, leverage, weights)
    if used.ridge is None or used.temperature is None:
        raise InputError("a single domain has all the weight at every ridge and temperature")
    base, warmth = used.ridge, used.temperature
    whole = moments(statistics)
    fraction = 0.0 if leverage.preset == "reference" else debias_fraction(leverage.debias, whole)
    kernel = affinity(whole, debias=fraction, centre=leverage.centre)
    found = []
    for ridge in ridges if ridges is not None else [f * base for f in RIDGE_FACTORS]:
        for temperature in temperatures if temperatures is not None else [f * warmth for f in TEMPERATURE_FACTORS]:
            asked = leverage.model_copy(update={"ridge": ridge})
            try:
                best = estimate_mixture(kernel, asked, weights.model_copy(update={"temperature": temperature}))
                refuse_overflow(best, statistics.names, asked)
            except InputError as reason:
                found.append(Setting(ridge, temperature, None, None, None, str(reason)))
                continue
            shares = np.exp(best.log_weights)
            moved = float(np.abs(shares - np.array([used.weights[name] for name in statistics.names])).sum()) / 2
            given = dict(zip(statistics.names, shares.tolist(), strict=True))
            found.append(Setting(ridge, temperature, given, perplexity(shares), moved))
    return tuple(found)
