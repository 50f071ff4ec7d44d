"""The n-gram judge against counts kept in dictionaries, and its searches against the mixtures that they must beat."""

from __future__ import annotations

from collections import Counter
from math import log2

import numpy as np
import pytest

from chameleon_data.evaluation.ngram import (
    CONCENTRATION,
    best_left_out,
    best_mixture,
    best_of_models,
    count_ngrams,
    without_domain,
)
from chameleon_data.evaluation.pool import PADDING
from tests.support.small_pools import small_pool

POOL = small_pool(unseen=True)
TOKENS = 20_000
JUDGE = count_ngrams(POOL, TOKENS, seed=0)
OWN = {name: JUDGE.sets[name] for name in POOL.names}
SHARES = np.array([0.5, 0.3, 0.2])


def naive_bits(name: str, shares: np.ndarray) -> list[float]:
    """Bits of each scored token, by mixed counts in dictionaries."""
    k1, k2, k3 = CONCENTRATION
    counts = [Counter[tuple[int, ...]]() for _ in range(5)]
    for share, windows in zip(shares, POOL.windows.values(), strict=True):
        scale = share * TOKENS / windows.size
        for row in windows.tolist():
            for i, word in enumerate(row):
                counts[4][word,] += scale
                if i + 1 < len(row):
                    counts[3][word,] += scale
                    counts[2][tuple(row[i : i + 2])] += scale
                if i + 2 < len(row):
                    counts[1][tuple(row[i : i + 2])] += scale
                    counts[0][tuple(row[i : i + 3])] += scale
    found = []
    for row in POOL.sets[name].windows.tolist():
        ids = [i for i in row if i != PADDING]
        for u, v, w in zip(ids, ids[1:], ids[2:], strict=False):
            p1 = (counts[4][w,] + k1 / len(POOL.vocabulary)) / (TOKENS + k1)
            p2 = (counts[2][v, w] + k2 * p1) / (counts[3][v,] + k2)
            found.append(-log2((counts[0][u, v, w] + k3 * p2) / (counts[1][u, v] + k3)))
    return found


@pytest.mark.parametrize("name", ["d1", "new"])
def test_bits_are_those_of_naive_counts(name: str) -> None:
    assert all(windows.size <= TOKENS for windows in POOL.windows.values())  # all are counted
    assert JUDGE.token_bits(JUDGE.sets[name], SHARES) == pytest.approx(naive_bits(name, SHARES), rel=1e-5)


def test_probabilities_sum_to_one() -> None:
    """Over every next id, after a context that was seen."""
    from chameleon_data.evaluation.pool import HeldOutSet, Pool

    u, v = POOL.windows["d0"][0, 5:7].tolist()
    size = len(POOL.vocabulary)
    windows = np.full((size, POOL.context), PADDING, np.int32)
    windows[:, 0], windows[:, 1], windows[:, 2] = u, v, np.arange(size)
    every = HeldOutSet(windows, np.arange(size, dtype=np.int64))
    judge = count_ngrams(Pool(POOL.vocabulary, POOL.windows, {"every": every}, {}), TOKENS, 0)
    # A context is counted where something follows it, so that what follows sums to what it is.
    assert float(np.exp2(-judge.token_bits(judge.sets["every"], SHARES)).sum()) == pytest.approx(1, abs=2e-3)


def test_slopes_are_derivatives() -> None:
    _, slope = JUDGE.slope(OWN["d0"], SHARES)
    for number in range(3):
        step = np.eye(3)[number] * 1e-3
        above, below = (JUDGE.bits_per_byte(OWN["d0"], SHARES + sign * step) for sign in (1, -1))
        assert slope[number] == pytest.approx((above - below) / 2e-3, rel=1e-2, abs=1e-5)


def mean_bits(shares: np.ndarray) -> float:
    return float(np.mean([JUDGE.bits_per_byte(counts, shares) for counts in OWN.values()]))


def left_out_bits(shares: np.ndarray) -> float:
    return float(np.mean([JUDGE.bits_per_byte(OWN[n], without_domain(shares, i)) for i, n in enumerate(POOL.names)]))


GRID = [np.array([a, b, 10 - a - b]) / 10 for a in range(11) for b in range(11 - a)]


def test_searches_beat_a_grid() -> None:
    assert mean_bits(best_mixture(JUDGE, OWN, 0)) <= min(map(mean_bits, GRID)) + 1e-4
    assert left_out_bits(best_left_out(JUDGE, OWN, 0)) <= min(left_out_bits(s) for s in GRID if s.max() < 1) + 1e-4


def test_the_mixture_of_models_beats_a_grid_by_its_own_measure() -> None:
    def bits(shares: np.ndarray) -> float:
        found = []
        for counts in OWN.values():
            chances = np.stack([np.exp2(-JUDGE.token_bits(counts, np.eye(3)[d])) for d in range(3)], axis=1)
            found.append(-np.log2(chances @ shares).sum() / counts.bytes.sum())
        return float(np.mean(found))

    assert bits(best_of_models(JUDGE, OWN)) <= min(map(bits, GRID)) + 1e-4


def test_a_domain_is_left_out_and_the_others_keep_their_proportions() -> None:
    assert without_domain(SHARES, 0).tolist() == pytest.approx([0, 0.6, 0.4])
    assert without_domain(np.array([1.0, 0, 0]), 0).tolist() == [0, 0.5, 0.5]
