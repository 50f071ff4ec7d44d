"""The n-gram judge: trigrams with interpolation, of which any mixture is scored exactly from counts of each domain.

    P3 = (c(uvw) + κ P2) / (c(uv) + κ)    P2 = (c(vw) + κ P1) / (c(v) + κ)    P1 = (c(w) + κ / V) / (N + κ)
    c = Σ_d w_d (T / n_d) c_d

This is the hierarchical Dirichlet language model (MacKay and Peto 1995). c_d are counts of n_d tokens of domain d, and c what T
tokens of the mixture hold on average. Counts are looked up once, for the n-grams of the held-out text alone, as a (tokens,
domains) matrix for each of five counts; a mixture then costs five products. Bits are convex neither in w nor otherwise, because
counts are mixed, not probabilities: `best_mixture` starts from many places. `best_of_models` mixes the domains' own
probabilities, which is concave in w.
Cost, 10 domains of 300k tokens: 8 s to count and look up, .1 s a mixture. Why: docs/decisions/111-ngram-judge.md
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import scipy

from chameleon_data.arrays import F32, F64, I64
from chameleon_data.evaluation.pool import PADDING, HeldOutSet, Pool, window_order
from chameleon_data.evaluation.vocabulary import I32
from chameleon_data.hashing import key64

CONCENTRATION = (2.0, 16.0, 8.0)
"""κ of P1, P2 and P3: of eight triples, the one with the fewest held-out bits on seven domains of text."""
STARTS = 20
"""Starts of the search for a best mixture."""
SEARCHED_TOKENS = 4_000
"""Held-out tokens of a set by which a best mixture is searched; all are scored."""
EM_STEPS = 200


@dataclass(frozen=True)
class SetCounts:
    """What the domains count of the n-grams of one held-out set. Rows are its scored tokens."""

    counts: tuple[F32, F32, F32, F32, F32]
    """Five of (tokens, domains): c(uvw), c(uv), c(vw), c(v), c(w), each over n_d."""
    document: I64
    """(tokens) number of the document."""
    bytes: I64
    """(tokens)"""

    def first(self, tokens: int) -> SetCounts:
        """Some of its tokens, spread over the whole."""
        step = max(1, len(self.bytes) // tokens)
        five = cast("tuple[F32, F32, F32, F32, F32]", tuple(c[::step] for c in self.counts))
        return SetCounts(five, self.document[::step], self.bytes[::step])


@dataclass(frozen=True)
class NgramJudge:
    """Counts of each domain, looked up for the held-out sets."""

    names: tuple[str, ...]
    tokens: int
    """T, of a mixture."""
    vocabulary: int
    sets: dict[str, SetCounts]
    """Held-out set -> counts; those of the domains and those that are unseen."""

    def token_bits(self, counts: SetCounts, shares: F64) -> F64:
        """(tokens) bits of the scored tokens by a mixture, (domains) shares that sum to one."""
        bits, _ = self._bits_and_slopes(counts, shares, False)
        return bits

    def bits_per_byte(self, counts: SetCounts, shares: F64) -> float:
        return float(self.token_bits(counts, shares).sum() / counts.bytes.sum())

    def slope(self, counts: SetCounts, shares: F64) -> tuple[float, F64]:
        """Bits per byte, and (domains) its derivative by the shares, unconstrained."""
        bits, slopes = self._bits_and_slopes(counts, shares, True)
        size = float(counts.bytes.sum())
        return float(bits.sum()) / size, slopes / size

    def _bits_and_slopes(self, counts: SetCounts, shares: F64, slopes: bool) -> tuple[F64, F64]:
        k1, k2, k3 = CONCENTRATION
        scaled = (shares * self.tokens).astype(np.float32)
        uvw, uv, vw, v, w = ((c @ scaled).astype(np.float64) for c in counts.counts)
        p1 = (w + k1 / self.vocabulary) / (self.tokens + k1)
        p2 = (vw + k2 * p1) / (v + k2)
        top = uvw + k3 * p2
        bits: F64 = np.log2(uv + k3) - np.log2(top)
        if not slopes:
            return bits, np.zeros(0)
        by_p2 = -k3 / top
        parts = (-1 / top, 1 / (uv + k3), by_p2 / (v + k2), -by_p2 * p2 / (v + k2), by_p2 * k2 / (v + k2) / (self.tokens + k1))
        slope = sum(c.T @ part.astype(np.float32) for c, part in zip(counts.counts, parts, strict=True))
        return bits, np.asarray(slope, np.float64) * self.tokens / np.log(2)


def count_ngrams(pool: Pool, tokens: int, seed: int) -> NgramJudge:
    """The judge of a pool: counts of `tokens` tokens of each domain, or of as many as it has."""
    size = len(pool.vocabulary)
    places = {name: _ngrams_of(held_out, size) for name, held_out in pool.sets.items()}
    columns: dict[str, list[list[F32]]] = {name: [[] for _ in range(5)] for name in places}
    for name, windows in pool.windows.items():
        order = window_order(name, len(windows), seed, min(len(windows), -(-tokens // pool.context)))
        text = windows[np.sort(order)].astype(np.int64)
        inner = [_sorted_counts(keys) for keys in _keys(text, size)]
        total = text.size
        for held_out, (keys, _, _) in places.items():
            for column, wanted, counted in zip(columns[held_out], keys, inner, strict=True):
                column.append((_look_up(counted, wanted) / total).astype(np.float32))
    sets = {
        name: SetCounts(
            cast("tuple[F32, F32, F32, F32, F32]", tuple(np.stack(column, axis=1) for column in columns[name])),
            document,
            pool.vocabulary.bytes_of(last),
        )
        for name, (_, document, last) in places.items()
    }
    return NgramJudge(pool.names, tokens, size, sets)


def _keys(text: I64, size: int) -> tuple[I64, I64, I64, I64, I64]:
    """Keys of uvw, uv, vw, v and w of each place of (windows, context) ids; contexts where something follows."""
    u, v, w = text[:, :-2], text[:, 1:-1], text[:, 2:]
    pairs, singles = text[:, :-1] * size + text[:, 1:], text[:, :-1]
    five = ((u * size + v) * size + w, u * size + v, pairs, singles, text)
    return cast("tuple[I64, I64, I64, I64, I64]", tuple(key.ravel() for key in five))


def _sorted_counts(keys: I64) -> tuple[I64, I64]:
    found, counts = np.unique(keys, return_counts=True)
    return found, counts.astype(np.int64)


def _look_up(counted: tuple[I64, I64], wanted: I64) -> I64:
    """The count of each of some keys; 0 where it was not seen."""
    keys, counts = counted
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    found: I64 = np.where(keys[at] == wanted, counts[at], 0)
    return found


def _ngrams_of(held_out: HeldOutSet, size: int) -> tuple[tuple[I64, ...], I64, I32]:
    """Five keys, document and last id of each scored token: those with two before them in their window."""
    ids = held_out.windows.astype(np.int64)
    scored = ids[:, 2:] != PADDING
    u, v, w = ids[:, :-2][scored], ids[:, 1:-1][scored], ids[:, 2:][scored]
    document = np.broadcast_to(held_out.document[:, None], scored.shape)[scored]
    return ((u * size + v) * size + w, u * size + v, v * size + w, v, w), document, w.astype(np.int32)


def without_domain(shares: F64, number: int) -> F64:
    """The mixture without a domain: the others in their proportions, or alike where they had nothing."""
    rest = shares.copy()
    rest[number] = 0.0
    if rest.sum() <= 0:
        rest[:] = 1.0
        rest[number] = 0.0
    return np.asarray(rest / rest.sum())


def best_mixture(judge: NgramJudge, sets: Mapping[str, SetCounts], seed: int) -> F64:
    """The shares with the least mean bits per byte over some sets, of 20 starts. It saw them: a bound, no result."""

    def cost(shares: F64) -> tuple[float, F64]:
        found = [judge.slope(counts, shares) for counts in sets.values()]
        return float(np.mean([bits for bits, _ in found])), np.mean([slope for _, slope in found], axis=0)

    return _search(cost, len(judge.names), seed)


def best_left_out(judge: NgramJudge, sets: Mapping[str, SetCounts], seed: int) -> F64:
    """The shares with which the domains, each left out of the mixture in turn, have the least mean bits per byte."""

    def cost(shares: F64) -> tuple[float, F64]:
        total, slopes = 0.0, np.zeros(len(shares))
        for number, name in enumerate(judge.names):
            rest = max(1.0 - shares[number], 1e-9)
            without = without_domain(shares, number)
            bits, slope = judge.slope(sets[name], without)
            total += bits / len(shares)
            inner = (slope - slope @ without) / rest
            inner[number] = 0.0
            slopes += inner / len(shares)
        return total, slopes

    return _search(cost, len(judge.names), seed)


def _search(cost: Callable[[F64], tuple[float, F64]], domains: int, seed: int) -> F64:
    """The best of 20 descents over softmax(θ); the first starts at uniform."""

    def over_theta(theta: F64) -> tuple[float, F64]:
        shares = scipy.special.softmax(theta)
        value, slope = cost(shares)
        return value, shares * (slope - slope @ shares)

    rng = np.random.default_rng(key64(seed, "starts"))
    starts = [np.zeros(domains), *rng.normal(size=(STARTS - 1, domains))]
    ends = [
        scipy.optimize.minimize(over_theta, start, jac=True, method="L-BFGS-B", bounds=[(-8.0, 8.0)] * domains,
                                options={"maxiter": 40})
        for start in starts
    ]  # fmt: skip
    shares: F64 = scipy.special.softmax(min(ends, key=lambda end: float(end.fun)).x)
    return shares


def best_of_models(judge: NgramJudge, sets: Mapping[str, SetCounts]) -> F64:
    """The shares of the best mixture of the domains' own models, Σ w_d P_d, by expectation maximisation; it has one optimum."""
    k = len(judge.names)
    chances = [np.stack([np.exp2(-judge.token_bits(counts, np.eye(k)[d])) for d in range(k)], axis=1) for counts in sets.values()]
    sizes = [float(counts.bytes.sum()) for counts in sets.values()]
    shares = np.full(k, 1 / k)
    for _ in range(EM_STEPS):
        pulls = [(p * shares / (p @ shares)[:, None]).sum(axis=0) / size for p, size in zip(chances, sizes, strict=True)]
        shares = np.sum(pulls, axis=0)
        shares /= shares.sum()
    return cast(F64, shares)
