"""The digits of hashes and their permutations, against the definition in plain Python."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chameleon_data.hashing import key64
from chameleon_data.plan.order import DEPTHS, DIGIT_WIDTHS, largest_depth, order_keys, rank_buckets, rank_hashes
from chameleon_data.plan.streams import bucket_of
from tests.support import orders

words = st.integers(0, 2**64 - 1)


@settings(deadline=None)
@given(st.lists(words, min_size=1, max_size=20), words)
def test_ranks_are_those_of_the_definition(hi: list[int], salt: int) -> None:
    expected = [orders.rank(h, salt) for h in hi]
    assert rank_hashes(np.array(hi, np.uint64), salt).tolist() == expected
    assert rank_hashes(np.array(hi, np.uint64), np.full(len(hi), salt, np.uint64)).tolist() == expected


def test_ranks_are_the_same_for_ever() -> None:
    """Any machine and any version of a library has these; other numbers change the bytes of every build."""
    hi = np.array([0, 1, 2**63, 0x0123456789ABCDEF, 2**64 - 1], np.uint64)
    assert rank_hashes(hi, key64(0, "a", "epoch", 0)).tolist() == [
        4179155558, 4179155558, 167644824, 4167285174, 3949795579,
    ]  # fmt: skip


@pytest.mark.parametrize("depth", DEPTHS[:5])
def test_buckets_of_every_depth_are_stretches_of_the_order(depth: int) -> None:
    rank = rank_buckets(depth, 7)
    assert sorted(rank.tolist()) == list(range(1 << depth))
    hi = np.random.default_rng(depth).integers(0, 2**64, 5000, dtype=np.uint64)
    assert (rank[bucket_of(hi, depth)] == (rank_hashes(hi, 7) >> np.uint64(32 - depth)).astype(np.int64)).all()


@settings(deadline=None)
@given(words, st.sampled_from(range(len(DIGIT_WIDTHS))), words)
def test_each_digit_is_permuted_under_the_digits_before_it(hi: int, level: int, salt: int) -> None:
    """All values of one digit, with the other bits as they are: the ranks share what comes before and differ in this digit."""
    before, width = sum(DIGIT_WIDTHS[:level]), DIGIT_WIDTHS[level]
    shift = 64 - before - width
    mask = ((1 << width) - 1) << shift
    values = np.array([hi & ~mask | digit << shift for digit in range(1 << width)], np.uint64)
    rank = rank_hashes(values, salt)
    assert len(np.unique(rank >> np.uint64(32 - before))) == 1
    digits = rank >> np.uint64(32 - before - width) & np.uint64((1 << width) - 1)
    assert sorted(digits.tolist()) == list(range(1 << width))


def test_permutations_differ_between_the_nodes_of_a_level() -> None:
    """The digit behind 64 different first digits: were it permuted alike everywhere, a stretch would be one pattern repeated."""
    hi = (np.arange(64, dtype=np.uint64)[:, None] << np.uint64(58) | np.arange(16, dtype=np.uint64) << np.uint64(54)).reshape(-1)
    second = (rank_hashes(hi, 3) >> np.uint64(22) & np.uint64(15)).reshape(64, 16)
    assert len(np.unique(second, axis=0)) == 64


@settings(deadline=None)
@given(words, words, words, st.lists(st.integers(0, 2**40), min_size=1, max_size=20))
def test_copies_never_tie(hi: int, lo: int, salt: int, copies: list[int]) -> None:
    """The number of the copy can be read back from key and tie, so two numbers never give the same."""
    n = len(copies)
    key, tie = order_keys(np.full(n, hi, np.uint64), np.full(n, lo, np.uint64), np.array(copies), salt)
    state = orders.mix([hi, lo], salt)
    for k, t, copy in zip(key.tolist(), tie.tolist(), copies, strict=True):
        assert orders.mix([copy], state) == (k & 0xFFFFFFFF) << 32 | t >> 32
        assert _undo((k & 0xFFFFFFFF) << 32 | t >> 32, state) == copy
        assert (k >> 32, t & 0xFFFFFFFF) == (orders.rank(hi, salt), lo >> 32)


def _undo(mixed: int, state: int) -> int:
    """The last value that was mixed into the state."""

    def unshift(x: int, by: int) -> int:
        y = x
        for _ in range(64 // by + 1):
            y = x ^ y >> by
        return y

    x = unshift(mixed, 31) * pow(0x94D049BB133111EB, -1, 2**64) % 2**64
    x = unshift(x, 27) * pow(0xBF58476D1CE4E5B9, -1, 2**64) % 2**64
    return (unshift(x, 30) - 0x9E3779B97F4A7C15) % 2**64 ^ state


@pytest.mark.parametrize(
    ("buckets", "depth"), [(0, 0), (1, 0), (63, 0), (64, 6), (1023, 6), (1024, 10), (2**18, 18), (2**22, 22), (2**60, 22)]
)
def test_the_largest_depth_with_so_many_buckets(buckets: int, depth: int) -> None:
    assert largest_depth(buckets) == depth
