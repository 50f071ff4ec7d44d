"""Shards that one task writes together, and ranges that are divided."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chameleon_data.shards.grouping import (
    JOINED_ROWS,
    LARGEST_RANGE,
    MOST_RANGES,
    MOST_SLICES,
    begin_ranges,
    divide_shards,
    shards_per_range,
)

MEBIBYTE = 2**20


def test_shards_of_a_range_follow_each_other():
    assert begin_ranges(0, 10, 4) == (0, 4, 8, 10)
    assert begin_ranges(3, 5, 2) == (3, 5)


def test_shards_are_joined_only_where_there_are_too_many_files_to_look_at():
    assert shards_per_range(64, 160, 64 * MEBIBYTE, 9, 2) == 1
    assert shards_per_range(200, 200, 64 * MEBIBYTE, 9, 2) == 4
    assert shards_per_range(MOST_SLICES, 100, 64 * MEBIBYTE, 9, 2) == 4
    assert shards_per_range(MOST_SLICES, 100, 1024 * MEBIBYTE, 9, 2) == 1
    assert shards_per_range(200, 200, 64 * MEBIBYTE, JOINED_ROWS // 3, 2) == 3, "columns of all rows are held"


def test_no_processor_is_without_a_task_because_shards_are_joined():
    assert shards_per_range(800, 32, 64 * MEBIBYTE, 9, 4) == 2
    assert shards_per_range(800, 32, 64 * MEBIBYTE, 9, 64) == 1


@given(st.integers(1, 10**6))
def test_there_are_never_more_ranges_than_rows_are_sent_to_at_once(shards):
    each = shards_per_range(0, shards, 64 * MEBIBYTE, 9, 2)
    assert len(begin_ranges(0, shards, each)) - 1 <= MOST_RANGES


@pytest.mark.parametrize("shards", [1, 17, 256, 4096, 10**6])
@pytest.mark.parametrize("size", [2**20, 64 * MEBIBYTE, 2 * 2**30])
def test_ranges_are_divided_until_each_is_small_enough_or_one_shard(shards, size):
    ranges, levels = [range(shards)], 0
    while any(divide_shards(some.start, some.stop, size) for some in ranges):
        divided = [divide_shards(some.start, some.stop, size) or (some.start, some.stop) for some in ranges]
        assert all(len(begins) - 1 <= MOST_RANGES for begins in divided)
        ranges = [range(a, b) for begins in divided for a, b in pairwise(begins)]
        levels += 1
    assert [shard for some in ranges for shard in some] == list(range(shards))
    assert all(len(some) == 1 or len(some) * size <= LARGEST_RANGE for some in ranges)
    assert levels <= 3
