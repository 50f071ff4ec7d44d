"""Where each row of the corpus goes, and where it stands there: what workers look up in a layout.

`route` gives every row its shard in each epoch, whatever the order of reading. `locate` gives the rows of one shard their places
in the streams, and `order_rows` makes the final order from those. Rows of all domains are one array operation.

Cost on one core: 60 million rows a second routed, 7 million where a bound cuts every slot; 4.5 million put in order.
Why: docs/decisions/031-rows-of-all-domains-at-once.md, docs/decisions/100-order-by-digits.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from chameleon_data.arrays import I64, U64
from chameleon_data.errors import InputError
from chameleon_data.plan.copies import number_copies
from chameleon_data.plan.layout import Layout, Slots
from chameleon_data.plan.streams import SEVERAL_SHARDS, Segments, stream_offsets

DELIVERIES_AT_ONCE = 2**22


def route(slots: Slots, domain: I64, hi: U64, lo: U64, copy: I64) -> Iterator[tuple[I64, I64, I64]]:
    """(row, epoch, shard) of all deliveries of these rows, about 4 million at a time.

    A row is delivered once an epoch, or to several shards where it is packed across bounds, or not at all behind the quota.
    `copy` numbers identical documents, see `CopyCounter`.
    """
    times = slots.epochs[domain]
    if not len(times) or times.max() == 1:
        yield _route_slice(slots, np.arange(len(hi)), np.zeros(len(hi), np.int64), domain, hi, lo, copy)
        return
    for rows in np.split(np.arange(len(hi)), np.flatnonzero(np.diff(np.cumsum(times) // DELIVERIES_AT_ONCE)) + 1):
        row = np.repeat(rows, times[rows])
        epoch = np.arange(len(row)) - np.repeat(np.cumsum(times[rows]) - times[rows], times[rows])
        yield _route_slice(slots, row, epoch, domain[row], hi[row], lo[row], copy[row])


def _route_slice(slots: Slots, row: I64, epoch: I64, domain: I64, hi: U64, lo: U64, copy: I64) -> tuple[I64, I64, I64]:
    """(row, epoch, shard) of the deliveries of each (row, epoch)."""
    slot = slots.slot(domain, epoch, hi)
    shard = slots.shard[slot].astype(np.int64)
    cut, repeated = np.flatnonzero(shard == SEVERAL_SHARDS), np.zeros(0, np.int64)
    if len(cut):
        _, key, tie = slots.keys(domain[cut], epoch[cut], hi[cut], lo[cut], copy[cut])
        segment = _find_segment(slots.segments, slot[cut], key, tie)
        shard[cut] = slots.segments.first_shard[segment]
        repeated = np.repeat(cut, slots.segments.last_shard[segment] - shard[cut])
    if not len(repeated) and (shard >= 0).all():
        return row, epoch, shard
    kept = np.append(np.flatnonzero(shard >= 0), repeated)
    further = shard[repeated] + 1 + np.arange(len(repeated)) - np.searchsorted(repeated, repeated)
    return row[kept], epoch[kept], np.append(shard[shard >= 0], further)


def _find_segment(segments: Segments, slot: I64, key: U64, tie: U64) -> I64:
    """(rows,) the last segment of each row's slot that begins at or before the row: a binary search over (key, tie)."""
    left: I64 = np.searchsorted(segments.slot, slot, "left")
    right: I64 = np.searchsorted(segments.slot, slot, "right")
    while (wide := right - left > 1).any():
        middle = (left + right) // 2
        passed = wide & ((segments.key[middle] < key) | ((segments.key[middle] == key) & (segments.tie[middle] <= tie)))
        left = np.where(passed, middle, left)
        right = np.where(wide & ~passed, middle, right)
    return left


class CopyCounter:
    """Numbers the identical documents of one part as they are read, on from the number at which the parts before it end.

    Only documents of cut buckets need their number here. In any other slot all copies meet in one shard, where `locate` numbers
    them.
    """

    def __init__(self, slots: Slots, part: int) -> None:
        of_part = slice(*np.searchsorted(slots.copies.part, [part, part + 1]))
        self._hi, self._lo = slots.copies.hi[of_part], slots.copies.lo[of_part]
        self._domain = slots.copies_domain[of_part]
        self._next = slots.copies.first_number[of_part].copy()

    def number(self, domain: I64, hi: U64, lo: U64) -> I64:
        """(rows,) the number of each of the next rows; 0 for a row that needs none."""
        copy = np.zeros(len(hi), np.int64)
        if not len(self._hi):
            return copy
        rows = np.flatnonzero(np.isin(hi, self._hi))
        left = np.searchsorted(self._hi, hi[rows], "left")
        right = np.searchsorted(self._hi, hi[rows], "right")
        while (wide := right - left > 1).any():  # the last entry of this hi at or before (lo, domain)
            middle = (left + right) // 2
            before = self._lo[middle] < lo[rows]
            passed = wide & (before | ((self._lo[middle] == lo[rows]) & (self._domain[middle] <= domain[rows])))
            left = np.where(passed, middle, left)
            right = np.where(wide & ~passed, middle, right)
        known = (self._lo[left] == lo[rows]) & (self._domain[left] == domain[rows])
        rows, entry = rows[known], left[known]
        copy[rows] = self._next[entry] + number_copies(entry)
        np.add.at(self._next, entry, 1)
        return copy


def locate(layout: Layout, shard: int, domain: I64, epoch: I64, hi: U64, lo: U64, copy: I64, tokens: I64) -> tuple[I64, I64]:
    """Offset in its domain's stream, and number among identical documents, of every document that one shard is made from.

    All arrays are (rows,). Raises InputError where rows or tokens are not what the plan says.
    """
    _check_delivered(layout, shard, domain, tokens)
    slots, segments = layout.slots, layout.slots.segments
    slot = slots.slot(domain, epoch, hi)
    base, cut = slots.start[slot], slots.shard[slot] == SEVERAL_SHARDS
    if cut.any():
        here = np.flatnonzero((segments.first_shard <= shard) & (shard <= segments.last_shard))
        base[cut] = segments.offset[here[np.searchsorted(segments.slot[here], slot[cut])]]
    copy = np.where(cut, copy, number_copies(domain, epoch, hi, lo))
    order = _stream_order(*slots.keys(domain, epoch, hi, lo, copy))
    offset = np.empty(len(hi), np.int64)
    offset[order] = stream_offsets(domain[order], base[order], tokens[order])
    return offset, copy


def _check_delivered(layout: Layout, shard: int, domain: I64, tokens: I64) -> None:
    rows, sums = np.zeros((2, len(layout.streams)), np.int64)
    np.add.at(rows, domain, 1)
    np.add.at(sums, domain, tokens)
    for stream, held, total in zip(layout.streams, rows.tolist(), sums.tolist(), strict=True):
        if held != stream.delivered[shard] or total != stream.delivered_tokens[shard]:
            raise InputError(
                f"shard {shard}: domain {stream.domain.name!r} has {held:,} documents with {total:,} tokens where the plan says "
                f"{stream.delivered[shard]:,} with {stream.delivered_tokens[shard]:,}; the corpus changed during the build, "
                "build again"
            )


def _stream_order(number: I64, key: U64, tie: U64) -> I64:
    """The rows in the order of their streams: by number of the domain and epoch (one, or one for each row), key and tie.

    One sort instead of three: the number is in the top bits and the key in the others. Where two rows then look alike, all
    columns decide.
    """
    if not len(key):
        return np.zeros(0, np.int64)
    least = number.min()
    bits = max(1, int(number.max() - least).bit_length())
    joined = (number - least).astype(np.uint64) << np.uint64(64 - bits) | key >> np.uint64(bits)
    order: I64 = np.argsort(joined)
    if not np.diff(joined[order]).all():
        order = np.lexsort((tie, key, np.broadcast_to(number, len(key))))
    return order


def order_rows(domain: I64, anchor: I64, quotas: Sequence[int]) -> I64:
    """The rows of one shard in their final order: by p / Q, then by domain, then by stream. All arrays are (rows,).

    The quotient is a float64, which is exact while quotas are below 2^26. Above, rows of two domains that are closer than 2^-53
    may trade places, which moves a bound by Q 2^-53 tokens (.001 at 10^13).
    """
    quotient = anchor / np.array(quotas, np.int64)[domain]
    order: I64 = np.argsort(quotient)
    if not np.diff(quotient[order]).all():  # rows at one place: their domains decide
        order = np.lexsort((anchor, domain, quotient))
    return order
