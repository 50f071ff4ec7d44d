"""A plan laid out: the streams of all domains side by side, so that rows of any number of domains are one array operation.

The slots, segments and copies of all domains lie behind one another in `Slots`. `routing.py` looks every row up in them.

A layout sends rows to ranges of shards, 256 at most. Where a range is too large for one task it is laid out again, by its own
rows: then a slot is an epoch of a domain (`cuts.divide_range`). The shards of a document follow from its offset alone, so how the
ranges lie changes no byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from chameleon_data.arrays import I64, U64
from chameleon_data.plan.order import order_keys
from chameleon_data.plan.plan import DomainCount, Plan
from chameleon_data.plan.streams import Stream, place_slots


@dataclass(frozen=True)
class Segments:
    """The segments of all cut slots, by (slot, key, tie); each array is (segments,)."""

    slot: I64
    key: U64
    tie: U64
    """What orders the first document, see `order_keys`."""
    offset: I64
    """Token offset of the first document in the stream."""
    first_range: I64
    last_range: I64
    """They differ only for a document that is packed across a bound; NO_RANGE behind the quota."""


@dataclass(frozen=True)
class CutCopies:
    """Documents that the corpus holds several times and whose rank a segment begins with, by (hi, lo, domain, part); each array
    is (documents,). Of the copies of any other document, the rank alone says that they go to one range."""

    part: I64
    domain: I64
    hi: U64
    lo: U64
    first_number: I64
    """The number of the part's first copy among the copies of all parts."""


@dataclass(frozen=True)
class Slots:
    """The slots of all streams of a layout."""

    begin: I64
    """(domains,) number of each domain's first slot; its slots are numbered on from there, epoch * buckets + bucket."""
    depth: I64
    """(domains,) bits of the hash that tell the domain's buckets apart."""
    epochs: I64
    """(domains,)"""
    first_salt: I64
    """(domains,) index into `salts` of the domain's first epoch."""
    salts: U64
    """(epochs of all domains,) by domain and epoch."""
    start: I64
    """(slots,) token offset in the domain's stream."""
    range: npt.NDArray[np.int32]
    """(slots,) the one range of each, or NO_RANGE, or SEVERAL_RANGES."""
    segments: Segments
    """With the numbers of slots as here."""
    copies: CutCopies

    def slot(self, domain: I64, epoch: I64, hi: U64) -> I64:
        """(rows,) the slot that each document is in."""
        domain, epoch = _one_if_equal(domain), _one_if_equal(epoch)
        depth = self.depth[domain]
        bucket = (hi >> np.minimum(64 - depth, 63).astype(np.uint64)).astype(np.int64)
        return bucket * (depth > 0) + (self.begin[domain] + (epoch << depth))

    def keys(self, domain: I64, epoch: I64, hi: U64, lo: U64, copy: I64) -> tuple[I64, U64, U64]:
        """(rows,) what orders documents: number of their domain and epoch, key and tie (`order_keys`).

        The number is one for all rows where they have one domain and epoch.
        """
        salt = self.first_salt[_one_if_equal(domain)] + _one_if_equal(epoch)
        return salt, *order_keys(hi, lo, copy, self.salts[salt])


@dataclass(frozen=True)
class Layout:
    """A plan, or a range of one, and the stream of each of its domains, in its order."""

    plan: Plan
    begins: I64
    """(ranges + 1,) first shard of each range, and the shard behind the last one."""
    streams: tuple[Stream, ...]
    slots: Slots

    @property
    def ranges(self) -> int:
        return len(self.begins) - 1

    @property
    def bounds(self) -> I64:
        """(domains, ranges + 1) where the ranges begin, see `DomainPlan.bounds`."""
        plan, begins = self.plan, self.begins.tolist()
        return np.array([domain.bounds(plan.stage_shards, plan.packing, begins) for domain in plan.domains], np.int64)

    @property
    def stages(self) -> I64:
        """(ranges,) the stage of each; no range of a whole plan lies in two."""
        return np.searchsorted(np.cumsum(self.plan.stage_shards), self.begins[:-1], "right")

    @property
    def phases(self) -> I64:
        """(domains,)"""
        return np.array([domain.phase for domain in self.plan.domains], np.int64)

    @property
    def tokens(self) -> I64:
        """(ranges,) of all domains."""
        return np.asarray(np.sum([s.tokens for s in self.streams], axis=0), np.int64)


_NONE, _NO_HASHES = np.zeros(0, np.int64), np.zeros(0, np.uint64)
NO_SEGMENTS = Segments(_NONE, _NO_HASHES, _NO_HASHES, _NONE, _NONE, _NONE)
NO_COPIES = CutCopies(_NONE, _NONE, _NO_HASHES, _NO_HASHES, _NONE)


def sketch_layout(plan: Plan, counts: Sequence[DomainCount], begins: Sequence[int]) -> Layout:
    """The layout as far as histograms say it: without the documents of cut slots, which `cuts.py` adds.

    `begins` are the first shards of the ranges, and the number of shards.
    """
    by_name = {c.name: c.histogram for c in counts}
    streams, sizes, epochs, all_salts, starts, places = [], list[int](), list[int](), list[int](), list[I64](), list[Any]()
    for domain in plan.domains:
        histogram = by_name[domain.name]
        salts, start, place = place_slots(plan, domain, begins, histogram)
        totals = np.zeros((2, len(begins) - 1), np.int64)
        for epoch in range(len(salts)):
            whole = place[epoch] >= 0
            for sums, values in zip(totals, histogram[whole].T, strict=True):
                np.add.at(sums, place[epoch][whole], values)
        rows, tokens = totals
        streams.append(Stream(domain, plan.packing, rows, tokens, tokens, int(histogram[place[0] >= 0, 0].sum())))
        sizes.append(start.size)
        epochs.append(len(salts))
        all_salts += salts
        starts.append(start.reshape(-1))
        places.append(place.reshape(-1))
    size, number = np.array(sizes, np.int64), np.array(epochs, np.int64)
    slots = Slots(
        begin=np.cumsum(size) - size,
        depth=np.array([len(by_name[domain.name]).bit_length() - 1 for domain in plan.domains], np.int64),
        epochs=number,
        first_salt=np.cumsum(number) - number,
        salts=np.array(all_salts, np.uint64),
        start=np.concatenate(starts),
        range=np.concatenate(places),
        segments=NO_SEGMENTS,
        copies=NO_COPIES,
    )
    return Layout(plan, np.array(begins, np.int64), tuple(streams), slots)


def concatenate_segments(several: Sequence[Segments]) -> Segments:
    """The segments of all, sorted by slot, key and tie."""
    columns = {
        field.name: np.concatenate([getattr(one, field.name) for one in (NO_SEGMENTS, *several)]) for field in fields(Segments)
    }
    order = np.lexsort((columns["tie"], columns["key"], columns["slot"]))
    return Segments(**{name: column[order] for name, column in columns.items()})


def concatenate_copies(several: Sequence[CutCopies]) -> CutCopies:
    """The copies of all, sorted by hash, domain and part."""
    columns = {
        field.name: np.concatenate([getattr(one, field.name) for one in (NO_COPIES, *several)]) for field in fields(CutCopies)
    }
    order = np.lexsort((columns["part"], columns["domain"], columns["lo"], columns["hi"]))
    return CutCopies(**{name: column[order] for name, column in columns.items()})


def _one_if_equal(column: I64) -> I64:
    """One value where all are equal: with one domain and epoch, which is often, that saves two thirds of the time."""
    return column[:1] if len(column) and (column == column[0]).all() else column
