"""One domain's stream: the order of its documents, and the range of shards of each.

    bucket    the documents of the domain whose content hashes have the same top bits, as many as the histogram's depth
    slot      a bucket in one epoch. `order.py` orders the documents of an epoch so that each of its slots is one stretch
    range     shards that follow each other. Here a document goes to a range; the task of the range finds the shards' bounds
    segment   documents of one slot that follow each other and go to the same ranges
    piece     tokens of one document that stand in one sequence together (`packing.py`); it is never longer than a sequence
    span      where a document begins and ends, as the bounds of ranges measure it: by anchors, or by tokens of the stream

The histogram alone gives the token offset at which every slot begins, so in a slot that lies within one range no row needs to
know of another one. A slot that a bound of two ranges or the quota falls into is *cut*: its documents are looked at (`cuts.py`).

Four documents, phase 0, so that a document's anchor is its offset; two ranges of one shard each of a quota of 22, so bounds 0, 11
and 22. The histogram's depth is 6, which is the first digit. Seed 94 and the domain's name, "a", permute 0 and 1 to 62 and 22 in
epoch 0, and to 7 and 46 in epoch 1. Within a bucket the next digits decide.

    documents   a of 3 tokens and b of 5, whose hashes begin with 00 and 01 (hexadecimal): bucket 0
                c of 4 tokens and d of 6, 04 and 05: bucket 1; 18 tokens an epoch
    epoch 0     slot of bucket 1   d at 0, c at 6      range 0
                slot of bucket 0   a at 10, b at 13    cut at 11: segment a in range 0, segment b in range 1
    epoch 1     slot of bucket 0   b at 18, a at 23    cut at 22: segment b in range 1, segment a in none
                slot of bucket 1   c at 26, d at 30    no range
    written     d c a | b b, 13 and 10 tokens where 11 are meant, off by less than the 6 of the largest document
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from chameleon_data.arrays import I64, U64
from chameleon_data.hashing import key64
from chameleon_data.plan.order import rank_buckets
from chameleon_data.plan.plan import PHASE_BITS, DomainPlan, Packing, Plan

NO_RANGE = -1
"""In the place of a slot's range: it is empty, or lies behind the quota."""
SEVERAL_RANGES = -2
"""In the place of a slot's range: it is cut."""


@dataclass(frozen=True)
class Stream:
    """One domain laid out in tokens."""

    domain: DomainPlan
    packing: Packing | None
    delivered: I64
    """(ranges,) documents that each range is made from. A document that is packed across a bound counts in each of its ranges."""
    delivered_tokens: I64
    """(ranges,) tokens of those documents."""
    tokens: I64
    """(ranges,) tokens that each range will hold of this domain."""
    first_epoch_rows: int
    """Documents that are written at least once."""


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


def cut_into_pieces(phase: int | I64, packing: Packing, offset: I64, tokens: I64) -> tuple[I64, I64, I64]:
    """The pieces of documents: (pieces,) index of the document, tokens, and anchor. `phase` as in `anchors`."""
    count = -(-tokens // packing.length)
    document = np.repeat(np.arange(len(tokens)), count)
    before = (np.arange(len(document)) - np.repeat(np.cumsum(count) - count, count)) * packing.length
    size = np.minimum(tokens[document] - before, packing.length)
    phases = phase if isinstance(phase, int) else phase[document]
    return document, size, anchors(phases, offset[document] + before, size)


def place_slots(
    plan: Plan, domain: DomainPlan, begins: Sequence[int], histogram: npt.NDArray[np.int64]
) -> tuple[tuple[int, ...], I64, npt.NDArray[np.int32]]:
    """The slots of a domain: (epochs,) salts that its keys are made with, (epochs, buckets) token offset of each slot, and the
    one range of each, or NO_RANGE, or SEVERAL_RANGES.

    `begins` are the first shards of the ranges, and the number of shards. `histogram` is (2^depth, 2) rows and tokens; no
    document's place depends on its depth, one of `DEPTHS`.
    """
    rows, tokens = histogram[:, 0], histogram[:, 1]
    epochs = domain.epochs
    salts = tuple(key64(plan.seed, domain.name, "epoch", e) for e in range(epochs))
    bounds = domain.bounds(plan.stage_shards, plan.packing, begins)
    start = np.empty((epochs, len(rows)), np.int64)
    found = np.empty((epochs, len(rows)), np.int32)
    depth, in_order = len(rows).bit_length() - 1, np.empty_like(tokens)
    for epoch, salt in enumerate(salts):
        rank = rank_buckets(depth, salt)
        in_order[rank] = tokens
        start[epoch] = (epoch * domain.tokens + np.cumsum(in_order) - in_order)[rank]
        first = np.searchsorted(bounds, start[epoch], "right") - 1
        last = np.searchsorted(bounds, start[epoch] + tokens - 1, "right") - 1
        found[epoch] = np.where(first == last, first, SEVERAL_RANGES)
        found[epoch, (rows == 0) | (first >= len(begins) - 1)] = NO_RANGE
    return salts, start, found
