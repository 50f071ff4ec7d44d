"""Where each row of the corpus goes, and where it stands there: what workers look up in a layout.

`route` gives every row its range of shards in each epoch, whatever the order of reading. `locate` gives the rows of one range
their places in the streams, and `order_rows` makes the final order from those. Rows of all domains are one array operation.

Cost on one core: 60 million rows a second routed, 7 million where a bound cuts every slot; 4.5 million put in order.
Why: docs/decisions/031-rows-of-all-domains-at-once.md, docs/decisions/100-order-by-digits.md.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from chameleon_data.arrays import I64, U64, Mask
from chameleon_data.errors import InputError
from chameleon_data.plan.copies import number_copies
from chameleon_data.plan.layout import CutCopies, Layout, Segments, Slots
from chameleon_data.plan.plan import Plan
from chameleon_data.plan.streams import SEVERAL_RANGES, stream_offsets

DELIVERIES_AT_ONCE = 2**22


def route(slots: Slots, domain: I64, hi: U64, lo: U64, copy: I64) -> Iterator[tuple[I64, I64, I64]]:
    """(row, epoch, range) of all deliveries of these rows, about 4 million at a time.

    A row is delivered once an epoch, or to several ranges where it is packed across bounds, or not at all behind the quota.
    `copy` numbers identical documents, see `CopyCounter`.
    """
    times = slots.epochs[domain]
    if not len(times) or times.max() == 1:
        yield route_epochs(slots, np.arange(len(hi)), np.zeros(len(hi), np.int64), domain, hi, lo, copy)
        return
    for rows in np.split(np.arange(len(hi)), np.flatnonzero(np.diff(np.cumsum(times) // DELIVERIES_AT_ONCE)) + 1):
        row = np.repeat(rows, times[rows])
        epoch = np.arange(len(row)) - np.repeat(np.cumsum(times[rows]) - times[rows], times[rows])
        yield route_epochs(slots, row, epoch, domain[row], hi[row], lo[row], copy[row])


def route_epochs(slots: Slots, row: I64, epoch: I64, domain: I64, hi: U64, lo: U64, copy: I64) -> tuple[I64, I64, I64]:
    """(row, epoch, range) of the deliveries of each (row, epoch)."""
    slot = slots.slot(domain, epoch, hi)
    number = slots.range[slot].astype(np.int64)
    cut, repeated = np.flatnonzero(number == SEVERAL_RANGES), np.zeros(0, np.int64)
    if len(cut):
        _, key, tie = slots.keys(domain[cut], epoch[cut], hi[cut], lo[cut], np.maximum(copy[cut], 0))
        segment = _find_segment(slots.segments, slot[cut], key, tie)
        number[cut] = slots.segments.first_range[segment]
        repeated = np.repeat(cut, slots.segments.last_range[segment] - number[cut])
    if not len(repeated) and (number >= 0).all():
        return row, epoch, number
    kept = np.append(np.flatnonzero(number >= 0), repeated)
    further = number[repeated] + 1 + np.arange(len(repeated)) - np.searchsorted(repeated, repeated)
    return row[kept], epoch[kept], np.append(number[number >= 0], further)


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
    """Numbers the identical documents of each part as they are read, on from the number at which the parts before it end.

    Only documents at a cut (`CutCopies`) need their number here. All copies of any other document meet in one range, where
    `locate` numbers them.
    """

    def __init__(self, copies: CutCopies) -> None:
        self._copies, self._next = copies, copies.first_number.copy()

    def number(self, part: I64, domain: I64, hi: U64, lo: U64) -> I64:
        """(rows,) the number of each of the next rows; -1 for a row that needs none."""
        copy = np.full(len(hi), -1, np.int64)
        if len(self._next) and len(rows := np.flatnonzero(np.isin(hi, self._copies.hi))):
            entry, known = self._find(part[rows], domain[rows], hi[rows], lo[rows])
            rows, entry = rows[known], entry[known]
            copy[rows] = self._next[entry] + number_copies(entry)
            np.add.at(self._next, entry, 1)
        return copy

    def _find(self, part: I64, domain: I64, hi: U64, lo: U64) -> tuple[I64, Mask]:
        """(rows,) the last entry at or before each row, and whether it is the row's."""
        copies, columns = self._copies, (lo, domain, part)
        known = (copies.lo, copies.domain, copies.part)
        left = np.searchsorted(copies.hi, hi, "left")
        right = np.searchsorted(copies.hi, hi, "right")
        while (wide := right - left > 1).any():
            middle = (left + right) // 2
            passed, same = np.zeros(len(hi), bool), np.ones(len(hi), bool)
            for entry, column in zip(known, columns, strict=True):
                passed |= same & (entry[middle] < column)
                same &= entry[middle] == column
            passed = wide & (passed | same)
            left = np.where(passed, middle, left)
            right = np.where(wide & ~passed, middle, right)
        return left, np.all([entry[left] == column for entry, column in zip(known, columns, strict=True)], axis=0)


def locate(
    layout: Layout, number: int, domain: I64, epoch: I64, hi: U64, lo: U64, copy: I64, tokens: I64, among: Mask | None = None
) -> tuple[I64, I64]:
    """Offset in its domain's stream, and number among identical documents, of every document that one range is made from.

    All arrays are (rows,). `among` is (domains,) the domains whose documents these are; None: all. Raises InputError where rows
    or tokens are not what the layout expects.
    """
    _check_delivered(layout, number, domain, tokens, among)
    slots, segments = layout.slots, layout.slots.segments
    slot = slots.slot(domain, epoch, hi)
    base, cut = slots.start[slot], slots.range[slot] == SEVERAL_RANGES
    if cut.any():
        here = np.flatnonzero((segments.first_range <= number) & (number <= segments.last_range))
        base[cut] = segments.offset[here[np.searchsorted(segments.slot[here], slot[cut])]]
    open_ = np.flatnonzero(copy < 0)
    copy = copy.copy()
    copy[open_] = number_copies(domain[open_], epoch[open_], hi[open_], lo[open_])
    order = _stream_order(*slots.keys(domain, epoch, hi, lo, copy))
    offset = np.empty(len(hi), np.int64)
    offset[order] = stream_offsets(domain[order], base[order], tokens[order])
    return offset, copy


def _check_delivered(layout: Layout, number: int, domain: I64, tokens: I64, among: Mask | None) -> None:
    rows, sums = np.zeros((2, len(layout.streams)), np.int64)
    np.add.at(rows, domain, 1)
    np.add.at(sums, domain, tokens)
    for index, (stream, held, total) in enumerate(zip(layout.streams, rows.tolist(), sums.tolist(), strict=True)):
        expected = stream.delivered[number], stream.delivered_tokens[number]
        if (held, total) != expected and (among is None or among[index]):
            first, last = layout.begins[number], layout.begins[number + 1] - 1
            raise InputError(
                f"shards {first} to {last}: domain {stream.domain.name!r} has {held:,} documents with {total:,} tokens where the "
                f"plan says {expected[0]:,} with {expected[1]:,}; the corpus changed during the build, build again"
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


def order_rows(plan: Plan, stage: int, domain: I64, anchor: I64) -> I64:
    """The rows of one shard of a stage in their final order: by p / Q, then by domain, then by stream. All arrays are (rows,); p
    counts from the beginning of the stage.

    The quotient is a float64, which is exact while quotas are below 2^26. Above, rows of two domains that are closer than 2^-53
    may trade places, which moves a bound by Q 2^-53 tokens (.001 at 10^13).
    """
    begins, quotas = np.array([(d.begins[stage], d.quotas[stage]) for d in plan.domains], np.int64).T
    quotient = (anchor - begins[domain]) / quotas[domain]
    order: I64 = np.argsort(quotient)
    if not np.diff(quotient[order]).all():  # rows at one place: their domains decide
        order = np.lexsort((anchor, domain, quotient))
    return order
