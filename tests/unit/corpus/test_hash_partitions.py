"""Rows in ranges of their hashes: all of them, each range once, in any order and any number of ranges."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chameleon_data.corpus import hash_partitions as module
from chameleon_data.corpus.hash_partitions import partition_by_hash, select_repeated_hashes

KIND = np.dtype([("lo", "<u8"), ("number", "<i4")])


def rows_of(lo: list[int], first: int = 0) -> module.HashedRows:
    return np.array([(h, first + n) for n, h in enumerate(lo)], KIND)


@given(
    st.lists(st.lists(st.integers(0, 2**64 - 1), max_size=20), max_size=6),
    st.sampled_from([1, 3, 1000]),
    st.sampled_from([1, 5, 99]),
)
def test_equal_hashes_meet_in_one_range_and_no_row_is_lost(adds: list[list[int]], at_once: int, waiting: int) -> None:
    total = sum(map(len, adds))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BUFFERED_ROWS", waiting)
        with partition_by_hash(total, at_once) as partitions:
            for number, lo in enumerate(adds):
                partitions.add(rows_of(lo, 100 * number))
            found = list(partitions.read(KIND))
    everything = sorted((h, 100 * number + n) for number, lo in enumerate(adds) for n, h in enumerate(lo))
    assert sorted((int(h), int(n)) for rows in found for h, n in rows) == everything
    ends = [(int(rows["lo"].min()), int(rows["lo"].max())) for rows in found]
    assert all(before[1] < after[0] for before, after in pairwise(ends))
    bits = max(0, (total - 1) // at_once).bit_length()
    assert all(first >> (64 - bits) == last >> (64 - bits) for first, last in ends if bits)


@given(st.lists(st.integers(0, 9), max_size=20))
def test_repeated_rows_are_those_whose_hash_is_there_twice(lo: list[int]) -> None:
    found = select_repeated_hashes(rows_of(lo))
    assert found["lo"].tolist() == sorted(h for h in lo if lo.count(h) > 1)
    assert sorted(found["number"].tolist()) == [n for n, h in enumerate(lo) if lo.count(h) > 1]
