"""Which intervals of hashes hold all documents of some shards.

A slot is one bucket, so an interval of the high halves of hashes of one domain. The documents of a shard lie in the slots that
it has whole and in the cut slots of which it has a segment. Who holds documents sorted by hash finds them by binary search.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from chameleon_data.arrays import I64, U64
from chameleon_data.plan.layout import Slots


@dataclass(frozen=True)
class HashIntervals:
    """Intervals of the high halves of hashes, by (domain, first); no two of a domain touch. Each array is (intervals,)."""

    domain: I64
    """Index in the layout."""
    first: U64
    last: U64
    """Both belong to the interval."""


@dataclass(frozen=True)
class HashIndex:
    """Documents sorted by (domain, high half of the hash), as their index."""

    names: tuple[str, ...]
    """Domains."""
    begin: I64
    """(domains + 1,) first row of each, and the number of rows."""
    hi: U64
    """(rows,)"""

    def find(self, intervals: HashIntervals, index: dict[str, int]) -> tuple[I64, I64]:
        """(rows,) the documents in the intervals, ascending, and the domain of each; `index` gives a domain's index by name."""
        domain = np.array([index.get(name, -1) for name in self.names], np.int64)
        left, right = (np.searchsorted(intervals.domain, domain, side) for side in ("left", "right"))
        number, here = expand_ranges(left, right)
        left, right = self.begin[here], self.begin[here + 1]
        begin = _search(self.hi, left, right, intervals.first[number], inclusive=False)
        end = _search(self.hi, begin, right, intervals.last[number], inclusive=True)
        rows, place = expand_ranges(begin, end)
        return rows, domain[here[place]]


def find_intervals(slots: Slots, shards: range) -> HashIntervals:
    """The intervals of these shards of a layout, in all epochs."""
    wanted = (shards.start <= slots.shard) & (slots.shard < shards.stop)
    segments = slots.segments
    wanted[segments.slot[(segments.first_shard < shards.stop) & (shards.start <= segments.last_shard)]] = True
    slot = np.flatnonzero(wanted)
    domain = np.searchsorted(slots.begin, slot, "right") - 1
    buckets = np.int64(1) << slots.depth
    place = np.cumsum(buckets + 1) - buckets  # one is left out before each domain, so that no two touch
    bucket = np.zeros(int((buckets + 1).sum()) + 1, bool)
    bucket[place[domain] + (slot - slots.begin[domain]) % buckets[domain]] = True
    first, last = np.flatnonzero(~bucket[:-1] & bucket[1:]) + 1, np.flatnonzero(bucket[:-1] & ~bucket[1:])
    domain = np.searchsorted(place, first, "right") - 1
    begin, end = (_hash_of(number - place[domain], slots.depth[domain]) for number in (first, last + 1))
    return HashIntervals(domain, begin, end - np.uint64(1))


def expand_ranges(begin: I64, end: I64) -> tuple[I64, I64]:
    """All numbers of the ranges one after the other, and for each the index of its range."""
    size = end - begin
    index = np.repeat(np.arange(len(size)), size)
    return np.arange(len(index)) + np.repeat(begin - (np.cumsum(size) - size), size), index


def _hash_of(bucket: I64, depth: I64) -> U64:
    """The first high half in a bucket; 0 for the one behind the last, as it is 2^64."""
    shifted: U64 = bucket.astype(np.uint64) << np.minimum(64 - depth, 63).astype(np.uint64)
    return np.where(depth > 0, shifted, np.uint64(0))


def _search(values: npt.NDArray[Any], left: I64, right: I64, wanted: npt.NDArray[Any], inclusive: bool) -> I64:
    """(searches,) the first place between `left` and `right` whose value is not before the one wanted, or `inclusive` not at it
    either. The values between the two are sorted; only some log2 of them are looked at."""
    while (open_ := left < right).any():
        middle = (left + right) // 2
        value = values[np.minimum(middle, len(values) - 1)]
        before = open_ & ((value <= wanted) if inclusive else (value < wanted))
        left = np.where(before, middle + 1, left)
        right = np.where(open_ & ~before, middle, right)
    return left
