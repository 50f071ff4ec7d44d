"""Where each row of the corpus goes, and where it stands there: the side of `streams.py` that workers use.

`route` gives every row its destination in each epoch, in any order of reading; `locate` gives the rows of one shard their
places in the streams, from which `order_rows` makes the final order. Rows of all domains are one array operation. Cost: routing
50 million rows a second on one core, arranging 8 million. Of 2,000 domains .8 s for 200,000 rows, where a call for each domain
and block took 9.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from chameleon_data.arrays import I64, U64
from chameleon_data.errors import InputError
from chameleon_data.plan.streams import SEVERAL_SHARDS, CutSegments, Layout, Slots, stream_offsets

DELIVERIES_AT_ONCE = 2**22


def route(slots: Slots, domain: I64, hi: U64, lo: U64, copy: I64) -> Iterator[tuple[I64, I64, I64]]:
    """(row, epoch, shard) of all deliveries of these rows, some 4 million at a time: one an epoch, or several where a row is
    packed across bounds.

    `copy` numbers identical documents, see `CopyCounter`.
    """
    times = slots.epochs[domain]
    if not len(times) or times.max() == 1:
        yield _routed(slots, np.arange(len(hi)), np.zeros(len(hi), np.int64), domain, hi, lo, copy)
        return
    for rows in np.split(np.arange(len(hi)), np.flatnonzero(np.diff(np.cumsum(times) // DELIVERIES_AT_ONCE)) + 1):
        row = np.repeat(rows, times[rows])
        epoch = np.arange(len(row)) - np.repeat(np.cumsum(times[rows]) - times[rows], times[rows])
        yield _routed(slots, row, epoch, domain[row], hi[row], lo[row], copy[row])


def _routed(slots: Slots, row: I64, epoch: I64, domain: I64, hi: U64, lo: U64, copy: I64) -> tuple[I64, I64, I64]:
    """(row, epoch, shard) of deliveries that may be none, or several."""
    slot = slots.slot(domain, epoch, hi)
    target = slots.shard[slot].astype(np.int64)
    cut, more = np.flatnonzero(target == SEVERAL_SHARDS), np.zeros(0, np.int64)
    if len(cut):
        key = slots.key(domain[cut], epoch[cut], hi[cut], lo[cut], copy[cut])
        piece = _find_piece(slots.pieces, slot[cut], key, lo[cut])
        target[cut] = slots.pieces.shard[piece]
        more = np.repeat(cut, slots.pieces.last[piece] - target[cut])
    if not len(more) and (target >= 0).all():
        return row, epoch, target
    kept = np.append(np.flatnonzero(target >= 0), more)
    further = target[more] + 1 + np.arange(len(more)) - np.searchsorted(more, more)
    return row[kept], epoch[kept], np.append(target[target >= 0], further)


def _find_piece(pieces: CutSegments, slot: I64, key: U64, lo: U64) -> I64:
    """Last piece of each row's slot that starts at or before the row: a binary search over (key, lo)."""
    left: I64 = np.searchsorted(pieces.slot, slot, "left")
    right: I64 = np.searchsorted(pieces.slot, slot, "right")
    while (wide := right - left > 1).any():
        middle = (left + right) // 2
        passed = wide & ((pieces.key[middle] < key) | ((pieces.key[middle] == key) & (pieces.lo[middle] <= lo)))
        left = np.where(passed, middle, left)
        right = np.where(wide & ~passed, middle, right)
    return left


class CopyCounter:
    """Numbers the identical documents of one part as they are read, from where the parts before it end.

    Only documents of cut buckets need a number here; in a whole bucket all copies meet in one shard and `locate` counts them.
    """

    def __init__(self, slots: Slots, part: int) -> None:
        mine = slice(*np.searchsorted(slots.pieces.part, [part, part + 1]))
        self._hi, self._lo = slots.pieces.hi_of_copies[mine], slots.pieces.lo_of_copies[mine]
        self._domain = slots.domain_of_copies[mine]
        self._next = slots.pieces.first_copy[mine].copy()

    def number(self, domain: I64, hi: U64, lo: U64) -> I64:
        """(rows,)"""
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
        order = np.argsort(entry, kind="stable")
        entries, first, count = np.unique(entry[order], return_index=True, return_counts=True)
        copy[rows[order]] = np.repeat(self._next[entries] - first, count) + np.arange(len(order))
        self._next[entries] += count
        return copy


def locate(
    layout: Layout, shard: int, domain: I64, epoch: I64, hi: U64, lo: U64, copy: I64, tokens: I64
) -> tuple[I64, I64]:  # fmt: skip
    """Offset in its domain's stream, and number among identical documents, of all documents that one shard is made from.

    All arrays are (rows,). Raises InputError where rows or tokens are not what the plan says.
    """
    _check_delivered(layout, shard, domain, tokens)
    slots, pieces = layout.slots, layout.slots.pieces
    slot = slots.slot(domain, epoch, hi)
    base, cut = slots.start[slot], slots.shard[slot] == SEVERAL_SHARDS
    if cut.any():
        mine = np.flatnonzero((pieces.shard <= shard) & (shard <= pieces.last))
        base[cut] = pieces.offset[mine[np.searchsorted(pieces.slot[mine], slot[cut])]]
    copy = np.where(cut, copy, _counted(domain, epoch, hi, lo))
    key = slots.key(domain, epoch, hi, lo, copy)
    offset = np.empty(len(hi), np.int64)
    for group in slots.groups:
        if len(group) == len(layout.streams):
            rows = np.arange(len(hi))
        else:
            rows = np.flatnonzero((group[0] <= domain) & (domain <= group[-1]))
        order = rows[_by_base(domain[rows], slot[rows], base[rows], key[rows], lo[rows])]
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


def _by_base(domain: I64, slot: I64, base: I64, key: U64, lo: U64) -> I64:
    """The rows in the order of their streams: by domain, base, key, and low hash. Rows of one slot have one domain and base.

    One sort instead of three: by the rank of the base in the top bits and the key in the others; where two rows then look alike
    (of a billion keys in 44 bits, one pair in 35,000) all three decide.
    """
    if not len(slot):
        return slot
    first, last = int(slot.min()), int(slot.max())
    base_of = np.full(last - first + 1, -1, np.int64)
    base_of[slot - first] = base
    present = np.flatnonzero(base_of >= 0)
    domain_of = np.empty(last - first + 1, np.int64)
    domain_of[slot - first] = domain
    rank_of = np.empty(len(base_of), np.uint64)
    rank_of[present[np.lexsort((base_of[present], domain_of[present]))]] = np.arange(len(present), dtype=np.uint64)
    bits = max(1, (len(present) - 1).bit_length())
    joined = rank_of[slot - first] << np.uint64(64 - bits) | key >> np.uint64(bits)
    order: I64 = np.argsort(joined)
    if not np.diff(joined[order]).all():
        order = np.lexsort((lo, key, base, domain))
    return order


def _counted(domain: I64, epoch: I64, hi: U64, lo: U64) -> I64:
    """(rows,) a running number among the identical documents of a domain and epoch, from 0."""
    copy = np.zeros(len(hi), np.int64)
    mixed = hi ^ lo ^ (epoch | domain << 32).astype(np.uint64)
    seen = np.sort(mixed)
    again = seen[1:][seen[1:] == seen[:-1]]
    if not len(again):
        return copy
    rows = np.flatnonzero(np.isin(mixed, again))
    order = rows[np.lexsort((lo[rows], hi[rows], epoch[rows], domain[rows]))]
    new = np.ones(len(order), bool)
    new[1:] = np.any([np.diff(column[order]) != 0 for column in (domain, epoch, hi, lo)], axis=0)
    begins = np.flatnonzero(new)
    copy[order] = np.arange(len(order)) - np.repeat(begins, np.diff(np.append(begins, len(order))))
    return copy


def order_rows(domain: I64, anchor: I64, quotas: Sequence[int]) -> I64:
    """The rows of one shard in their final order: by p / Q, then by domain, then by stream; all arrays are (rows,).

    The quotient is a float64: exact while quotas are below 2^26; above, two domains' rows closer than 2^-53 may
    trade places, which moves a bound by Q 2^-53 tokens (.001 at 10^13).
    """
    quotient = anchor / np.array(quotas, np.int64)[domain]
    order: I64 = np.argsort(quotient)
    if not np.diff(quotient[order]).all():  # rows of one place: their domains decide
        order = np.lexsort((anchor, domain, quotient))
    return order
