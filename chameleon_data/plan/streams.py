"""One domain's stream: the order of its documents, and the shards of each.

    bucket    the documents of the domain whose content hashes have the same top bits, as many as the histogram's depth
    slot      a bucket in one epoch. `order.py` orders the documents of an epoch so that each of its slots is one stretch
    segment   documents of one slot that follow each other and go to the same shards
    piece     tokens of one document that stand in one sequence together (`packing.py`); it is never longer than a sequence
    span      where a document begins and ends, as the bounds of shards measure it: by anchors, or by tokens of the stream

The histogram alone gives the token offset at which every slot begins, so in a slot that lies within one shard no row needs to
know of another one. A slot that a bound of two shards or the quota falls into is *cut*. For cut slots, `_cut_slots` takes the
hashes and tokens of the documents and returns the segments: the key from which on documents go to which shards.

Four documents, phase 0, so that a document's anchor is its offset; two shards of a quota of 22, so bounds 0, 11 and 22. The
histogram's depth is 6, which is the first digit. Seed 94 and the domain's name, "a", permute 0 and 1 to 62 and 22 in epoch 0, and
to 7 and 46 in epoch 1. Within a bucket the next digits decide.

    documents   a of 3 tokens and b of 5, whose hashes begin with 00 and 01 (hexadecimal): bucket 0
                c of 4 tokens and d of 6, 04 and 05: bucket 1; 18 tokens an epoch
    epoch 0     slot of bucket 1   d at 0, c at 6      shard 0
                slot of bucket 0   a at 10, b at 13    cut at 11: segment a in shard 0, segment b in shard 1
    epoch 1     slot of bucket 0   b at 18, a at 23    cut at 22: segment b in shard 1, segment a in none
                slot of bucket 1   c at 26, d at 30    no shard
    written     d c a | b b, 13 and 10 tokens where 11 are meant, off by less than the 6 of the largest document
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from chameleon_data.arrays import I64, U64
from chameleon_data.errors import InputError
from chameleon_data.hashing import key64
from chameleon_data.plan.copies import number_copies
from chameleon_data.plan.order import order_keys, rank_buckets
from chameleon_data.plan.plan import PHASE_BITS, DomainPlan, Packing, Plan

NO_SHARD = -1
"""In the place of a slot's shard: it is empty, or lies behind the quota."""
SEVERAL_SHARDS = -2
"""In the place of a slot's shard: it is cut."""

DOCUMENTS_SCHEMA = pa.schema(
    [
        ("domain", pa.string()),
        ("hi", pa.uint64()),
        ("lo", pa.uint64()),
        ("tokens", pa.int64()),
        ("part", pa.int64()),
        ("copies", pa.int64()),
    ]
)
"""What `place_stream` reads: each distinct document of each part of the corpus, and how many copies the part holds."""


@dataclass(frozen=True)
class Segments:
    """The segments of all cut slots, by (slot, key, tie); each array is (segments,)."""

    slot: I64
    """epoch * buckets + bucket."""
    key: U64
    tie: U64
    """What orders the first document, see `order_keys`."""
    offset: I64
    """Token offset of the first document in the stream."""
    first_shard: I64
    last_shard: I64
    """They differ only for a document that is packed across a bound; NO_SHARD behind the quota."""


@dataclass(frozen=True)
class CutCopies:
    """Documents of cut buckets that the corpus holds several times, by (part, hi, lo); each array is (documents,)."""

    part: I64
    hi: U64
    lo: U64
    first_number: I64
    """The number of the part's first copy among the copies of all parts."""


@dataclass(frozen=True)
class Stream:
    """One domain laid out in tokens."""

    domain: DomainPlan
    packing: Packing | None
    bounds: I64
    """(shards + 1,) see `DomainPlan.bounds`."""
    delivered: I64
    """(shards,) documents that each shard is made from. A document that is packed across a bound counts in each of its shards."""
    delivered_tokens: I64
    """(shards,) tokens of those documents."""
    tokens: I64
    """(shards,) tokens that each shard will hold of this domain."""
    first_epoch_rows: int
    """Documents that are written at least once."""


@dataclass(frozen=True)
class PlacedStream:
    """A stream, and where its documents go."""

    stream: Stream
    salts: tuple[int, ...]
    """(epochs,) what keys of this domain and epoch are made with."""
    start: I64
    """(epochs, buckets) token offset of each slot."""
    shard: npt.NDArray[np.int32]
    """(epochs, buckets) the one shard of each slot, or NO_SHARD, or SEVERAL_SHARDS."""
    segments: Segments
    copies: CutCopies


def bucket_of(hi: U64, depth: int) -> I64:
    """(rows,) bucket of each hash: its top `depth` bits."""
    return (hi >> np.uint64(64 - depth)).astype(np.int64) if depth else np.zeros(len(hi), np.int64)


def histogram_of(hi: U64, tokens: I64, depth: int) -> npt.NDArray[np.int64]:
    """(2^depth, 2) rows and tokens of each bucket. Sums of the histograms of parts are the histogram of the whole."""
    bucket = bucket_of(hi, depth)
    histogram = np.zeros((1 << depth, 2), np.int64)
    np.add.at(histogram[:, 0], bucket, 1)
    np.add.at(histogram[:, 1], bucket, tokens)
    return histogram


def anchors(phase: int | I64, offset: I64, tokens: I64) -> I64:
    """p = o + floor(phase * t): what every rule of the plan compares. `phase` is the domain's, or that of each row's domain."""
    return offset + ((tokens * phase) >> PHASE_BITS)


def stream_offsets(domain: I64, base: I64, tokens: I64) -> I64:
    """(rows,) token offset of each row. Rows of one (domain, base) stand together, in the order of the stream and without a gap;
    the first of them begins at `base`."""
    before = np.cumsum(tokens) - tokens
    new = np.ones(len(base), bool)
    new[1:] = (base[1:] != base[:-1]) | (domain[1:] != domain[:-1])
    return base + before - np.repeat(before[new], np.diff(np.append(np.flatnonzero(new), len(base))))


def span_of(phase: int | I64, packing: Packing | None, offset: I64, tokens: I64) -> tuple[I64, I64]:
    """(rows,) where documents begin and end, as the bounds measure it.

    A row of text: its anchor, twice. Whole documents packed: the anchors of the first and the last piece. Packed across
    documents: the first and the last token. `phase` as in `anchors`.
    """
    if packing is None:
        anchor = anchors(phase, offset, tokens)
        return anchor, anchor
    if not packing.whole:
        return offset, offset + tokens - 1
    before = (tokens - 1) // packing.length * packing.length
    first = anchors(phase, offset, np.minimum(tokens, packing.length))
    return first, anchors(phase, offset + before, tokens - before)


def cut_into_pieces(domain: DomainPlan, packing: Packing, offset: I64, tokens: I64) -> tuple[I64, I64, I64]:
    """The pieces of documents: (pieces,) index of the document, tokens, and anchor."""
    count = -(-tokens // packing.length)
    document = np.repeat(np.arange(len(tokens)), count)
    before = (np.arange(len(document)) - np.repeat(np.cumsum(count) - count, count)) * packing.length
    size = np.minimum(tokens[document] - before, packing.length)
    return document, size, anchors(domain.phase, offset[document] + before, size)


def find_cut_buckets(plan: Plan, domain: DomainPlan, histogram: npt.NDArray[np.int64]) -> I64:
    """The buckets whose documents `place_stream` needs to see: about one for each shard and epoch."""
    shard = _place_slots(plan, domain, histogram)[2]
    return np.flatnonzero((shard == SEVERAL_SHARDS).any(axis=0)).astype(np.int64)


def place_stream(plan: Plan, domain: DomainPlan, histogram: npt.NDArray[np.int64], documents: pa.Table) -> PlacedStream:
    """The stream of one domain.

    `histogram` is (2^depth, 2) rows and tokens; no document's place depends on its depth, one of `DEPTHS`. `documents`
    (DOCUMENTS_SCHEMA) holds at least this domain's documents of the cut buckets (`find_cut_buckets`). Raises InputError where no
    document fits the quota.
    """
    salts, start, shard = _place_slots(plan, domain, histogram)
    totals = _ShardTotals(plan.shards)
    for epoch in range(len(salts)):
        whole = shard[epoch] >= 0
        totals.add(shard[epoch][whole], histogram[whole, 0], histogram[whole, 1])
    rows_of_whole = int(histogram[shard[0] >= 0, 0].sum())
    bounds = domain.bounds(plan.shards, plan.packing)
    segments, copies, rows_of_cut = _cut_slots(plan, domain, bounds, salts, start, shard, documents, totals)
    if plan.packing and not plan.packing.whole:
        totals.tokens[:] = np.diff(bounds)
    if not totals.tokens.sum():
        raise InputError(
            f"domain {domain.name!r} would get no document: its quota is {domain.quota:,} tokens and its first document "
            f"alone passes that (its largest holds {domain.largest:,}); raise 'mix.budget' or set 'weights.floor'"
        )
    stream = Stream(
        domain, plan.packing, bounds, totals.delivered, totals.delivered_tokens, totals.tokens, rows_of_whole + rows_of_cut
    )
    return PlacedStream(stream, salts, start, shard, segments, copies)


class _ShardTotals:
    """(shards,) documents and tokens that are delivered to each shard, and tokens that it will hold."""

    def __init__(self, shards: int) -> None:
        self.delivered, self.delivered_tokens, self.tokens = (np.zeros(shards, np.int64) for _ in range(3))

    def add(self, shard: npt.NDArray[Any], rows: I64, tokens: I64) -> None:
        np.add.at(self.delivered, shard, rows)
        np.add.at(self.delivered_tokens, shard, tokens)
        np.add.at(self.tokens, shard, tokens)


def _place_slots(
    plan: Plan, domain: DomainPlan, histogram: npt.NDArray[np.int64]
) -> tuple[tuple[int, ...], I64, npt.NDArray[np.int32]]:
    """`salts`, `start` and `shard` of the PlacedStream."""
    rows, tokens = histogram[:, 0], histogram[:, 1]
    epochs = -(-domain.quota // domain.tokens)
    salts = tuple(key64(plan.seed, domain.name, "epoch", e) for e in range(epochs))
    bounds = domain.bounds(plan.shards, plan.packing)
    start = np.empty((epochs, len(rows)), np.int64)
    shard = np.empty((epochs, len(rows)), np.int32)
    depth, in_order = len(rows).bit_length() - 1, np.empty_like(tokens)
    for epoch, salt in enumerate(salts):
        rank = rank_buckets(depth, salt)
        in_order[rank] = tokens
        start[epoch] = (epoch * domain.tokens + np.cumsum(in_order) - in_order)[rank]
        first = np.searchsorted(bounds, start[epoch], "right") - 1
        last = np.searchsorted(bounds, start[epoch] + tokens - 1, "right") - 1
        shard[epoch] = np.where(first == last, first, SEVERAL_SHARDS)
        shard[epoch, (rows == 0) | (first >= plan.shards)] = NO_SHARD
    return salts, start, shard


def _cut_slots(
    plan: Plan,
    domain: DomainPlan,
    bounds: I64,
    salts: Sequence[int],
    start: I64,
    shard: npt.NDArray[np.int32],
    documents: pa.Table,
    totals: _ShardTotals,
) -> tuple[Segments, CutCopies, int]:
    """Segments of the cut slots, the repeated documents in them, and how many documents the first epoch's cut slots write.

    What the cut slots deliver is added to `totals`.
    """
    hi, lo, size, number, copies = _expand_copies(documents)
    buckets = start.shape[1]
    bucket = bucket_of(hi, buckets.bit_length() - 1)
    by_epoch: list[tuple[npt.NDArray[np.generic], ...]] = []
    first_epoch_rows = 0
    for epoch, salt in enumerate(salts):
        rows = np.flatnonzero(shard[epoch][bucket] == SEVERAL_SHARDS)
        key, tie = order_keys(hi[rows], lo[rows], number[rows], salt)
        order = np.lexsort((tie, key, bucket[rows]))
        rows, key, tie = rows[order], key[order], tie[order]
        tokens = size[rows]
        offset = stream_offsets(bucket[rows], start[epoch][bucket[rows]], tokens)
        first, last = (np.searchsorted(bounds, at, "right") - 1 for at in span_of(domain.phase, plan.packing, offset, tokens))
        behind = first >= plan.shards
        last = np.where(behind, NO_SHARD, np.minimum(last, plan.shards - 1))
        first = np.where(behind, NO_SHARD, first)
        kept = np.flatnonzero(~behind)
        _add_cut_documents(totals, plan.packing, domain, bounds, first[kept], last[kept], offset[kept], tokens[kept])
        first_epoch_rows += len(kept) if epoch == 0 else 0
        begins = np.ones(len(rows), bool)
        begins[1:] = np.any([np.diff(column) != 0 for column in (bucket[rows], first, last)], axis=0)
        slot = epoch * buckets + bucket[rows]
        by_epoch.append(tuple(column[begins] for column in (slot, key, tie, offset, first, last)))
    return Segments(*(np.concatenate(column) for column in zip(*by_epoch, strict=True))), copies, first_epoch_rows


def _expand_copies(documents: pa.Table) -> tuple[U64, U64, I64, I64, CutCopies]:
    """Hashes (high, low), tokens and number of every copy of the documents, in the order of hashes and parts; and the documents
    that have several copies."""
    hi, lo, tokens, part, copies = (documents[name].to_numpy() for name in ("hi", "lo", "tokens", "part", "copies"))
    order = np.lexsort((part, lo, hi))
    hi, lo, tokens, part, copies = hi[order], lo[order], tokens[order], part[order], copies[order]
    row = np.repeat(np.arange(len(hi)), copies)
    number = number_copies(hi[row], lo[row])
    first_number = number[np.cumsum(copies) - copies]
    again = np.append(first_number > 0, False)  # a part before has the document too
    several = np.flatnonzero((copies > 1) | again[:-1] | again[1:])
    several = several[np.lexsort((lo[several], hi[several], part[several]))]
    repeated = CutCopies(part[several], hi[several], lo[several], first_number[several])
    return hi[row], lo[row], tokens[row], number, repeated


def _add_cut_documents(
    totals: _ShardTotals,
    packing: Packing | None,
    domain: DomainPlan,
    bounds: I64,
    first: I64,
    last: I64,
    offset: I64,
    tokens: I64,
) -> None:
    """Count documents of cut slots in every shard of their span; and what the shards hold of them, by their pieces."""
    if packing is None:
        totals.add(first, np.ones_like(first), tokens)
        return
    document = np.repeat(np.arange(len(first)), last - first + 1)
    shard = first[document] + np.arange(len(document)) - np.searchsorted(document, document)
    np.add.at(totals.delivered, shard, 1)
    np.add.at(totals.delivered_tokens, shard, tokens[document])
    if packing.whole:
        _, size, anchor = cut_into_pieces(domain, packing, offset, tokens)
        at = np.searchsorted(bounds, anchor, "right") - 1
        inside = at < len(totals.tokens)
        np.add.at(totals.tokens, at[inside], size[inside])
