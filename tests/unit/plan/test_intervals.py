"""Intervals of hashes that hold the documents of a range, against every slot and every document by itself."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chameleon_data.plan.intervals import HashIndex, HashIntervals, find_intervals
from chameleon_data.plan.streams import NO_RANGE, SEVERAL_RANGES

TOP = 2**64


def slots_of(domains: list[tuple[int, list[int]]], segments: list[tuple[int, int, int]]) -> Any:
    """`domains`: depth of the histogram, and the range of each slot; `segments`: slot, first and last range."""
    sizes = [len(shards) for _, shards in domains]
    slot, first, last = np.array(sorted(segments), np.int64).reshape(-1, 3).T
    return SimpleNamespace(
        begin=np.cumsum([0, *sizes])[:-1],
        depth=np.array([depth for depth, _ in domains]),
        range=np.array([number for _, numbers in domains for number in numbers], np.int32),
        segments=SimpleNamespace(slot=slot, first_range=first, last_range=last),
    )


@st.composite
def layouts(draw: Any) -> tuple[list[tuple[int, list[int]]], list[tuple[int, int, int]]]:
    domains, segments, at = [], [], 0
    for _ in range(draw(st.integers(1, 4))):
        depth, epochs = draw(st.integers(0, 3)), draw(st.integers(1, 3))
        shards = draw(st.lists(st.integers(SEVERAL_RANGES, 5), min_size=epochs << depth, max_size=epochs << depth))
        domains.append((depth, shards))
        for slot, shard in enumerate(shards, at):
            if shard == SEVERAL_RANGES:
                first = draw(st.integers(0, 4))
                segments += [(slot, first, first + draw(st.integers(0, 1))), (slot, NO_RANGE, NO_RANGE)]
        at += len(shards)
    return domains, segments


@given(layouts(), st.integers(0, 5))
def test_a_bucket_is_in_the_intervals_exactly_where_one_of_its_slots_has_rows_for_the_range(layout, number):
    domains, segments = layout
    shards, at = range(number, number + 1), 0
    found = find_intervals(slots_of(domains, segments), number)
    assert (np.lexsort((found.first, found.domain)) == np.arange(len(found.first))).all()
    for index, (depth, shard_of) in enumerate(domains):
        expected = set()
        for slot, shard in enumerate(shard_of, at):
            here = any((s == slot and first in shards) or (s == slot and last in shards) for s, first, last in segments)
            if shard in shards or here:
                expected.add((slot - at) % (1 << depth))
        at += len(shard_of)
        rows = np.flatnonzero(found.domain == index)
        ranges = [(int(found.first[i]), int(found.last[i])) for i in rows]
        width = TOP >> depth
        assert {bucket for bucket in range(1 << depth) for a, b in ranges if a <= bucket * width <= b} == expected
        assert all(a % width == 0 and (b + 1) % width == 0 for a, b in ranges)
        assert all(b + 1 < a for (_, b), (a, _) in pairwise(ranges)), "neighbours are one interval"


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 40)), max_size=60),
    st.lists(st.tuples(st.sampled_from("bcd"), st.integers(0, 40), st.integers(0, 6)), max_size=8),
)
def test_a_search_finds_what_a_look_at_every_row_finds(rows, wanted):
    rows.sort()
    names = tuple(sorted({name for name, _ in rows}))
    begin = np.searchsorted([name for name, _ in rows], [*names, "z"]) if rows else np.zeros(1, np.int64)
    index = HashIndex(names, begin.astype(np.int64), np.array([hi for _, hi in rows], np.uint64))
    code, apart = {"b": 0, "c": 1, "d": 2}, []
    for name, first, size in sorted(wanted):
        if not apart or apart[-1][0] != name or apart[-1][2] + 1 < first:
            apart.append((name, first, first + size))
    intervals = HashIntervals(
        np.array([code[name] for name, _, _ in apart], np.int64),
        np.array([first for _, first, _ in apart], np.uint64),
        np.array([last for _, _, last in apart], np.uint64),
    )
    found, domain = index.find(intervals, code)
    expected = [
        (i, code[name]) for i, (name, hi) in enumerate(rows) if any(n == name and a <= hi <= b for n, a, b in apart)
    ]  # fmt: skip
    assert list(zip(found.tolist(), domain.tolist(), strict=True)) == expected


@pytest.mark.parametrize("depth", [0, 1, 20])
def test_the_last_bucket_ends_at_the_largest_hash(depth):
    shards = [NO_RANGE] * (2**depth - 1) + [0]
    found = find_intervals(slots_of([(depth, shards)], []), 0)
    assert (found.first.tolist(), found.last.tolist()) == ([TOP - (TOP >> depth)], [TOP - 1])
