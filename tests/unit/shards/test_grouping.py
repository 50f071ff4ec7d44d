"""Shards that one task writes together."""

from __future__ import annotations

from chameleon_data.shards.grouping import GROUP_ROWS, MOST_RANGES, group_shards, shards_per_task

MEBIBYTE = 2**20


def test_shards_of_one_task_follow_each_other():
    assert group_shards([0, 1, 2, 4, 5, 9], 2) == [range(2), range(2, 3), range(4, 6), range(9, 10)]
    assert group_shards([], 3) == []


def test_shards_are_joined_only_where_there_are_too_many_ranges_of_runs():
    assert shards_per_task(800, 0, 1600, 64 * MEBIBYTE, 9, 2) == 2
    assert shards_per_task(100, 0, 1000, 64 * MEBIBYTE, 9, 2) == 1
    assert shards_per_task(MOST_RANGES, 0, 1000, 64 * MEBIBYTE, 9, 2) == 4
    assert shards_per_task(MOST_RANGES, 0, 1000, 1024 * MEBIBYTE, 9, 2) == 1


def test_shards_are_joined_where_there_are_many_files_of_kept_rows_to_search():
    assert shards_per_task(0, 64, 160, 64 * MEBIBYTE, 9, 2) == 1
    assert shards_per_task(0, 800, 1600, 64 * MEBIBYTE, 9, 2) == 13
    assert shards_per_task(0, 800, 1600, 64 * MEBIBYTE, GROUP_ROWS // 3, 2) == 3, "columns of all rows are held"
    assert shards_per_task(0, 800, 1600, 64 * MEBIBYTE, 2 * GROUP_ROWS, 2) == 1
    assert shards_per_task(1, 800, 1600, 64 * MEBIBYTE, 9, 2) == 4, "runs are held whole"


def test_no_processor_is_without_a_task_because_shards_are_joined():
    assert shards_per_task(0, 800, 80, 64 * MEBIBYTE, 9, 4) == 5
    assert shards_per_task(0, 800, 80, 64 * MEBIBYTE, 9, 64) == 1
