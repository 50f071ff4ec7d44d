"""Which intervals of hashes hold all documents of a range of shards.

A slot is one bucket, so an interval of the high halves of hashes of one domain. The documents of a range lie in the slots that
it has whole and in the cut slots of which it has a segment. Who holds documents sorted by hash finds them by binary search.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chameleon_data.arrays import I64, U64
from chameleon_data.plan.layout import Slots
from chameleon_data.plan.search import expand_ranges, search_between


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
        begin = search_between(self.hi, left, right, intervals.first[number], inclusive=False)
        end = search_between(self.hi, begin, right, intervals.last[number], inclusive=True)
        rows, place = expand_ranges(begin, end)
        return rows, domain[here[place]]


def find_intervals(slots: Slots, number: int) -> HashIntervals:
    """The intervals of one range of a layout, in all epochs."""
    wanted = slots.range == number
    segments = slots.segments
    wanted[segments.slot[(segments.first_range <= number) & (number <= segments.last_range)]] = True
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


def _hash_of(bucket: I64, depth: I64) -> U64:
    """The first high half in a bucket; 0 for the one behind the last, as it is 2^64."""
    shifted: U64 = bucket.astype(np.uint64) << np.minimum(64 - depth, 63).astype(np.uint64)
    return np.where(depth > 0, shifted, np.uint64(0))
