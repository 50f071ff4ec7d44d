"""Cut slots: which of their documents go to which range of shards.

The documents of a cut slot are put in order, their offsets counted from the slot's, and their spans compared with the bounds of
the ranges. What comes of it is small, however many documents are looked at: a *segment* for each bound, the numbers of the copies
at a segment's beginning, and what each range is to expect. So the slots are cut by tasks over ranges of hashes, in which buckets
lie whole, and the driver adds up what they found.

A document is before or behind a bound by its rank alone, unless the segment behind the bound begins with the same rank. Only
there do copies of one text need their numbers before they are routed; and those copies all have that rank. They are few.

A range that is too large for one task is divided by its own documents in the same way (`divide_range`): all of them are at hand,
so their offsets are known, and an epoch of a domain is one slot. Why: docs/decisions/141-ranges-in-levels.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from chameleon_data.arrays import I64, U64, Mask
from chameleon_data.errors import InputError
from chameleon_data.hashing import mix64
from chameleon_data.plan.copies import number_copies
from chameleon_data.plan.layout import (
    NO_COPIES,
    NO_SEGMENTS,
    CutCopies,
    Layout,
    Segments,
    Slots,
    concatenate_copies,
    concatenate_segments,
)
from chameleon_data.plan.plan import PHASE_BITS, DomainCount
from chameleon_data.plan.routing import locate
from chameleon_data.plan.search import search_between
from chameleon_data.plan.streams import (
    NO_RANGE,
    SEVERAL_RANGES,
    Stream,
    anchors,
    cut_into_pieces,
    span_of,
    stream_offsets,
)

DOCUMENTS_CUT_AT_ONCE = 1 << 20
"""Documents of a group of domains, about."""
_NONE = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Documents:
    """Documents of a corpus by part, and in a part in the order of reading; each array is (documents,)."""

    part: I64
    domain: I64
    """Index in the layout."""
    hi: U64
    lo: U64
    tokens: I64

    def __len__(self) -> int:
        return len(self.hi)

    @classmethod
    def concatenate(cls, several: Sequence[Documents]) -> Documents:
        none = cls(_NONE, _NONE, _NONE.astype(np.uint64), _NONE.astype(np.uint64), _NONE)
        names = ("part", "domain", "hi", "lo", "tokens")
        return cls(*(np.concatenate([getattr(one, name) for one in (none, *several)]) for name in names))

    def take(self, rows: I64 | Mask) -> Documents:
        return Documents(self.part[rows], self.domain[rows], self.hi[rows], self.lo[rows], self.tokens[rows])


@dataclass(frozen=True)
class Expected:
    """What ranges are to expect of cut slots; each array is (pairs,), and a pair may come several times."""

    domain: I64
    range: I64
    delivered: I64
    """Documents that the range is made from."""
    delivered_tokens: I64
    tokens: I64
    """Tokens that the range will hold."""


@dataclass(frozen=True)
class SlotCuts:
    """What came of cutting some slots of a layout."""

    segments: Segments
    copies: CutCopies
    expected: Expected
    first_epoch_rows: I64
    """(domains,) documents that the first epoch's cut slots write."""


NO_EXPECTED = Expected(_NONE, _NONE, _NONE, _NONE, _NONE)


def in_cut_slots(slots: Slots, domain: I64, hi: U64) -> Mask:
    """(rows,) whether each document is in a bucket that is cut in an epoch."""
    found = np.zeros(len(hi), bool)
    rows, epoch = np.arange(len(hi)), 0
    while len(rows := rows[slots.epochs[domain[rows]] > epoch]):
        slot = slots.slot(domain[rows], np.full(len(rows), epoch), hi[rows])
        found[rows[slots.range[slot] == SEVERAL_RANGES]] = True
        epoch += 1
    return found


def cut_slots(layout: Layout, documents: Documents) -> SlotCuts:
    """Cut the slots whose documents these are: each cut slot has all of its documents here, or none.

    `layout` is that of `sketch_layout`. Documents of slots that are not cut do not matter. A slot is of one domain, so domains
    are looked at in groups. Memory: 350 bytes a document of a group.
    """
    groups = min(-(-len(documents) // DOCUMENTS_CUT_AT_ONCE), len(layout.streams))
    if groups < 2:
        return _cut_slots(layout, documents)
    group = documents.domain % groups
    return sum_cuts(layout, [_cut_slots(layout, documents.take(group == number)) for number in range(groups)])


def _cut_slots(layout: Layout, documents: Documents) -> SlotCuts:
    slots = layout.slots
    number = number_copies(documents.domain, documents.hi, documents.lo)
    found, at_cut = list[SlotCuts](), np.zeros(len(documents), bool)
    rows, epoch = np.arange(len(documents)), 0
    while len(rows := rows[slots.epochs[documents.domain[rows]] > epoch]):
        domain = documents.domain[rows]
        slot = slots.slot(domain, np.full(len(rows), epoch), documents.hi[rows])
        cut = np.flatnonzero(slots.range[slot] == SEVERAL_RANGES)
        some, domain, slot = rows[cut], domain[cut], slot[cut]
        _, key, tie = slots.keys(domain, np.full(len(some), epoch), documents.hi[some], documents.lo[some], number[some])
        order = np.lexsort((tie, key, slot))
        some, domain, slot, key, tie = some[order], domain[order], slot[order], key[order], tie[order]
        tokens = documents.tokens[some]
        offset = stream_offsets(slot, slots.start[slot], tokens)
        cuts, near = _cut(layout, domain, epoch == 0, slot, key, tie, offset, tokens)
        found.append(cuts)
        at_cut[some[near]] = True
        epoch += 1
    return replace(sum_cuts(layout, found), copies=_number_parts(documents, number, at_cut))


def _cut(
    layout: Layout, domain: I64, first_epoch: bool, slot: I64, key: U64, tie: U64, offset: I64, tokens: I64
) -> tuple[SlotCuts, Mask]:
    """Cut documents in the order of their slots; and (documents,) whether each has the slot and rank of a segment's first one."""
    packing, bounds, phase = layout.plan.packing, layout.bounds, layout.phases[domain]
    ends, width = bounds.reshape(-1), bounds.shape[1]

    left = domain * width

    def range_at(place: I64) -> I64:
        found: I64 = search_between(ends, left, left + width, place, inclusive=True) - left - 1
        return found

    first, last = (range_at(place) for place in span_of(phase, packing, offset, tokens))
    begun = first >= 0  # else it begins in a plan or a range before, and may reach into this one
    outside = (first >= layout.ranges) | (last < 0)
    last = np.where(outside, NO_RANGE, np.minimum(last, layout.ranges - 1))
    first = np.where(outside, NO_RANGE, np.maximum(first, 0))
    kept = np.flatnonzero(~outside)
    rows = np.bincount(domain[kept[begun[kept]]], minlength=len(layout.streams)).astype(np.int64) * first_epoch
    begins = np.ones(len(slot), bool)
    begins[1:] = (np.diff(slot) != 0) | (np.diff(first) != 0) | (np.diff(last) != 0)
    ranks = np.ones(len(slot), bool)
    ranks[1:] = (np.diff(slot) != 0) | (np.diff(key >> np.uint64(32)) != 0)
    group = np.cumsum(ranks) - 1
    near = np.zeros(int(ranks.sum()), bool)
    near[group[begins]] = True
    segments = Segments(slot[begins], key[begins], tie[begins], offset[begins], first[begins], last[begins])
    expected = _expect(layout, domain[kept], first[kept], last[kept], offset[kept], tokens[kept])
    return SlotCuts(segments, NO_COPIES, expected, rows), near[group]


def _expect(layout: Layout, domain: I64, first: I64, last: I64, offset: I64, tokens: I64) -> Expected:
    """Documents count in every range of their span; and what the ranges hold of them, by their pieces."""
    packing, ranges = layout.plan.packing, layout.ranges
    document = np.repeat(np.arange(len(first)), last - first + 1)
    number = first[document] + np.arange(len(document)) - np.searchsorted(document, document)
    pair, size = domain[document] * ranges + number, tokens[document]
    held_pair, held = pair, size
    if packing and packing.whole:
        of, held, anchor = cut_into_pieces(layout.phases[domain], packing, offset, tokens)
        shard = layout.plan.shards_of(domain[of], anchor)
        inside = np.flatnonzero((layout.begins[0] <= shard) & (shard < layout.begins[-1]))
        of, held, shard = of[inside], held[inside], shard[inside]
        held_pair = domain[of] * ranges + np.searchsorted(layout.begins, shard, "right") - 1
    pairs, at = np.unique(np.concatenate([pair, held_pair]), return_inverse=True)
    sums = np.zeros((3, len(pairs)), np.int64)
    np.add.at(sums[0], at[: len(pair)], 1)
    np.add.at(sums[1], at[: len(pair)], size)
    np.add.at(sums[2], at[len(pair) :], held)
    return Expected(pairs // ranges, pairs % ranges, *sums)


def _number_parts(documents: Documents, number: I64, at_cut: Mask) -> CutCopies:
    """The first number in each part of the documents that are at a cut and have copies."""
    keys = mix64([documents.domain, documents.hi, documents.lo], 0)
    rows = np.flatnonzero(at_cut)
    rows = rows[np.isin(keys[rows], np.unique(keys[rows[number[rows] > 0]]))]
    some = documents.take(rows)
    order = np.lexsort((number[rows], some.part, some.domain, some.lo, some.hi))
    some, first = some.take(order), number[rows][order]
    begins = np.ones(len(order), bool)
    begins[1:] = np.any([np.diff(column) != 0 for column in (some.hi, some.lo, some.domain, some.part)], axis=0)
    some = some.take(begins)
    return CutCopies(some.part, some.domain, some.hi, some.lo, first[begins])


def sum_cuts(layout: Layout, several: Sequence[SlotCuts]) -> SlotCuts:
    """What came of all of them."""
    expected = [NO_EXPECTED, *(cuts.expected for cuts in several)]
    names = ("domain", "range", "delivered", "delivered_tokens", "tokens")
    return SlotCuts(
        concatenate_segments([cuts.segments for cuts in several]),
        concatenate_copies([cuts.copies for cuts in several]),
        Expected(*(np.concatenate([getattr(one, name) for one in expected]) for name in names)),
        np.sum([np.zeros(len(layout.streams), np.int64), *(cuts.first_epoch_rows for cuts in several)], axis=0),
    )


def finish_layout(layout: Layout, cuts: SlotCuts) -> Layout:
    """A sketch with all of its cut slots. Raises InputError where no document of a domain fits its quota in a stage."""
    finished, streams = _add_expected(layout, cuts.expected), list[Stream]()
    for stream, rows in zip(finished.streams, cuts.first_epoch_rows.tolist(), strict=True):
        domain = stream.domain
        for stage, quota in enumerate(domain.quotas):
            if quota and not stream.tokens[finished.stages == stage].sum():
                where, absent = "", ""
                if len(domain.quotas) > 1 or layout.plan.first_stage is not None:
                    where, absent = (
                        f" in stage {(layout.plan.first_stage or 0) + stage + 1}",
                        ", or let it be absent by the stage's 'drop_below'",
                    )
                raise InputError(
                    f"domain {domain.name!r} would get no document{where}: its quota is {quota:,} tokens and its next document "
                    f"alone passes that (its largest holds {domain.largest:,}); raise 'mix.budget' or set 'weights.floor'{absent}"
                )
        streams.append(replace(stream, first_epoch_rows=stream.first_epoch_rows + rows))
    slots = replace(layout.slots, segments=cuts.segments, copies=cuts.copies)
    return replace(finished, streams=tuple(streams), slots=slots)


def divide_range(
    layout: Layout, number: int, begins: Sequence[int], documents: Documents, epoch: I64, copy: I64, among: Mask
) -> SlotCuts:
    """Cut one range of a layout into smaller ones, by the documents that were delivered to it.

    `begins` are the first shards of the smaller ranges, and the shard behind the last. `epoch` and `copy` are (documents,) as
    they were routed; `among` is (domains,) those whose documents these are. Memory: some 200 bytes a document.
    """
    offset, known = locate(layout, number, documents.domain, epoch, documents.hi, documents.lo, copy, documents.tokens, among)
    smaller = sketch_range(layout, begins)
    order = np.lexsort((offset, documents.domain))
    some, epoch, offset = documents.take(order), epoch[order], offset[order]
    slot = smaller.slots.slot(some.domain, epoch, some.hi)
    _, key, tie = smaller.slots.keys(some.domain, epoch, some.hi, some.lo, known[order])
    cuts, near = _cut(smaller, some.domain, False, slot, key, tie, offset, some.tokens)
    at_cut = np.zeros(len(documents), bool)
    at_cut[order[near]] = True
    return replace(cuts, copies=_number_parts(documents, known, at_cut & (copy < 0)))


def sketch_range(layout: Layout, begins: Sequence[int]) -> Layout:
    """The layout of a range of a layout in smaller ranges, before `divide_range` cuts it: an epoch of a domain is one slot."""
    above, none = layout.slots, np.zeros(len(begins) - 1, np.int64)
    slots = replace(
        above,
        begin=above.first_salt,
        depth=np.zeros_like(above.depth),
        start=np.zeros(len(above.salts), np.int64),
        range=np.full(len(above.salts), NO_RANGE, np.int32),
        segments=NO_SEGMENTS,
        copies=NO_COPIES,
    )
    streams = tuple(replace(stream, delivered=none, delivered_tokens=none, tokens=none) for stream in layout.streams)
    return Layout(layout.plan, np.array(begins, np.int64), streams, slots)


def finish_range(sketch: Layout, cuts: SlotCuts) -> Layout:
    """The layout of a range, from what came of `divide_range` for all of its domains."""
    place = sketch.slots.range.copy()
    place[cuts.segments.slot] = SEVERAL_RANGES
    finished = _add_expected(sketch, cuts.expected)
    return replace(finished, slots=replace(sketch.slots, range=place, segments=cuts.segments, copies=cuts.copies))


def _add_expected(layout: Layout, expected: Expected) -> Layout:
    sums = np.zeros((3, len(layout.streams), layout.ranges), np.int64)
    for total, added in zip(sums, (expected.delivered, expected.delivered_tokens, expected.tokens), strict=True):
        np.add.at(total, (expected.domain, expected.range), added)
    streams, packing = [], layout.plan.packing
    for stream, (rows, of_rows, tokens) in zip(layout.streams, sums.transpose(1, 0, 2), strict=True):
        tokens = stream.tokens + tokens
        if packing and not packing.whole:
            tokens = np.diff(stream.domain.bounds(layout.plan.stage_shards, packing, layout.begins.tolist()))
        streams.append(
            replace(stream, delivered=stream.delivered + rows, delivered_tokens=stream.delivered_tokens + of_rows, tokens=tokens)
        )
    return replace(layout, streams=tuple(streams))


def find_open_shards(layout: Layout, counts: Sequence[DomainCount]) -> Mask:
    """(shards,) whether histograms leave open that a shard holds a row: no slot with rows lies within it.

    `layout` is a sketch. Packed across documents, nothing is left open: which sequences a shard holds is known.
    """
    plan, slots = layout.plan, layout.slots
    found = np.ones(plan.shards, bool)
    places = zip(plan.domains, counts, slots.begin.tolist(), slots.epochs.tolist(), strict=True)
    for index, (domain, count, begin, epochs) in enumerate(places):
        if plan.packing and not plan.packing.whole:
            length = plan.packing.length
            first = domain.begin + np.arange(domain.quota // length) * length + (length * domain.phase >> PHASE_BITS)
            last = first
        else:
            rows, tokens = (np.tile(column, epochs) for column in count.histogram.T)
            first = slots.start[begin : begin + len(rows)]
            filled = (rows > 0) & (first >= domain.begin) & (first < domain.begins[-1])
            first, last = first[filled], (first + tokens - 1)[filled]
        shard, end = (plan.shards_of(np.full(len(place), index), place) for place in (first, last))
        found[shard[shard == end]] = False
        if not found.any():
            break
    return found


def in_open_slots(layout: Layout, open_: Mask, domain: I64, hi: U64) -> Mask:
    """(rows,) whether each document is in a slot that reaches into an open shard."""
    before, slot_ends = np.append(0, np.cumsum(open_)), _slot_ends(layout)
    found, rows, epoch = np.zeros(len(hi), bool), np.arange(len(hi)), 0
    while len(rows := rows[layout.slots.epochs[domain[rows]] > epoch]):
        slot = layout.slots.slot(domain[rows], np.full(len(rows), epoch), hi[rows])
        start = layout.slots.start[slot]
        ends = (start, np.maximum(start, slot_ends[slot] - 1))
        first, last = (np.clip(layout.plan.shards_of(domain[rows], end), 0, len(open_) - 1) for end in ends)
        found[rows[before[last + 1] > before[first]]] = True
        epoch += 1
    return found


def _slot_ends(layout: Layout) -> I64:
    """(slots,) token offset behind each slot: where the next one of its domain begins."""
    slots, ends = layout.slots, np.zeros_like(layout.slots.start)
    for domain, begin, epochs, depth in zip(layout.plan.domains, slots.begin, slots.epochs, slots.depth, strict=True):
        number = begin + np.arange(epochs << depth)
        start, place = np.unique(slots.start[number], return_inverse=True)  # a slot without tokens begins where the next one does
        ends[number] = np.append(start[1:], domain.tokens * epochs)[place]
    return ends


def find_filled_shards(layout: Layout, documents: Documents) -> Mask:
    """(shards,) whether one of these documents gives a shard a row. A slot has all of its documents here, or none."""
    slots, plan = layout.slots, layout.plan
    filled = np.zeros(plan.shards, bool)
    number = number_copies(documents.domain, documents.hi, documents.lo)
    rows, epoch = np.arange(len(documents)), 0
    while len(rows := rows[slots.epochs[documents.domain[rows]] > epoch]):
        domain, of_epoch = documents.domain[rows], np.full(len(rows), epoch)
        slot = slots.slot(domain, of_epoch, documents.hi[rows])
        _, key, tie = slots.keys(domain, of_epoch, documents.hi[rows], documents.lo[rows], number[rows])
        order = np.lexsort((tie, key, slot))
        domain, tokens = domain[order], documents.tokens[rows[order]]
        offset, phase = stream_offsets(slot[order], slots.start[slot[order]], tokens), layout.phases[domain]
        place = anchors(phase, offset, tokens)
        if plan.packing:
            document, _, place = cut_into_pieces(phase, plan.packing, offset, tokens)
            domain = domain[document]
        shard = plan.shards_of(domain, place)
        filled[shard[(shard >= 0) & (shard < plan.shards)]] = True
        epoch += 1
    return filled
