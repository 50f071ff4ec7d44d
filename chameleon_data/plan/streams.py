"""Where each document goes: the order of a domain's stream, and the shard of every row.

The stream of domain d in epoch e: its buckets (the top bits of the content hash) in the order of a key of (seed, domain, epoch,
bucket), and in a bucket the documents in the order of a key of (hash, copy, seed, domain, epoch), `copy` numbering identical
texts so that they spread. The histogram alone gives the token offset at which every bucket starts, so no row needs to know of
another one, except in the buckets that a bound of two shards (or the quota) cuts. For those, `_resolve` takes the hashes and
tokens of their documents and returns *pieces*: from which key on a bucket's documents go to which shard.

The `Slots` of all streams are what `routing.py` gives every row its destination by. A document that is packed into sequences has
a *reach*, from its first piece (or token) to its last, and goes to every shard in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from chameleon_data.arrays import I64, U64
from chameleon_data.errors import InputError
from chameleon_data.hashing import key64, mix64
from chameleon_data.plan.plan import PHASE_BITS, DomainCount, DomainPlan, Packing, Plan

NO_SHARD = -1
SEVERAL_SHARDS = -2
SLOTS_PER_GROUP = 2**18
"""Of domains whose rows are put in order together, 4 MB of tables."""

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
"""What `place_stream` reads: for each part of the corpus and each distinct document in it, how many copies there are."""


@dataclass(frozen=True)
class CutSegments:
    """The cut buckets of one domain. A piece is the documents of one bucket, in one epoch, that go to the same shards."""

    slot: I64
    """(pieces,) epoch * buckets + bucket, ascending."""
    key: U64
    lo: U64
    """(pieces,) order key and low hash of the piece's first document; ascending within a slot."""
    offset: I64
    """(pieces,) token offset of the first document."""
    shard: I64
    last: I64
    """(pieces,) first and last shard; NOWHERE behind the quota. They differ only for a document that is packed across a bound."""
    part: I64
    hi_of_copies: U64
    lo_of_copies: U64
    first_copy: I64
    """(duplicates,) by (part, hi, lo): the number that the first of a part's identical documents has among all of them."""


@dataclass(frozen=True)
class Stream:
    """One domain laid out in tokens."""

    domain: DomainPlan
    packing: Packing | None
    bounds: I64
    """(shards + 1,) see `DomainPlan.bounds`."""
    delivered: I64
    """(shards,) documents that each shard is made from; all of them, but for those packed across a bound, stand in it alone."""
    delivered_tokens: I64
    tokens: I64
    """(shards,) what each shard will hold of this domain."""
    first_epoch_rows: int
    """Documents that are written at least once."""


@dataclass(frozen=True)
class PlacedStream:
    """A stream, and where its documents go."""

    stream: Stream
    salts: tuple[int, ...]
    """One an epoch."""
    start: I64
    """(epochs, buckets) token offset."""
    shard: npt.NDArray[np.int32]
    """(epochs, buckets) the one shard of a bucket, or NOWHERE, or CUT."""
    pieces: CutSegments


def bucket_of(hi: U64, bits: int) -> I64:
    """Bucket of each hash: its top bits."""
    return (hi >> np.uint64(64 - bits)).astype(np.int64) if bits else np.zeros(len(hi), np.int64)


def place_stream(plan: Plan, domain: DomainPlan, histogram: npt.NDArray[np.int64], documents: pa.Table) -> PlacedStream:
    """The stream of one domain.

    `histogram` is (2^bits, 2) rows and tokens; `documents` (schema DOCUMENTS) holds at least this domain's documents of
    the cut buckets (`cut_buckets` names them). Raises InputError where the quota is less than any first document.
    """
    salts, start, shard = _whole_buckets(plan, domain, histogram)
    sums = _Sums(plan.shards)
    for epoch in range(len(salts)):
        whole = shard[epoch] >= 0
        sums.add(shard[epoch][whole], histogram[whole, 0], histogram[whole, 1])
    once = int(histogram[shard[0] >= 0, 0].sum())
    bounds = domain.bounds(plan.shards, plan.packing)
    pieces, cut_once = _resolve(plan, domain, bounds, salts, start, shard, documents, sums)
    if plan.packing and not plan.packing.whole:
        sums.tokens[:] = np.diff(bounds)
    if not sums.tokens.sum():
        raise InputError(
            f"domain {domain.name!r} would get no document: its quota is {domain.quota:,} tokens and its first document "
            f"alone passes that (its largest holds {domain.largest:,}); raise 'mix.budget' or set 'weights.floor'"
        )
    stream = Stream(domain, plan.packing, bounds, sums.delivered, sums.delivered_tokens, sums.tokens, once + cut_once)
    return PlacedStream(stream, salts, start, shard, pieces)


class _Sums:
    """(shards,) documents and their tokens that are delivered to each shard, and the tokens that it will hold."""

    def __init__(self, shards: int) -> None:
        self.delivered, self.delivered_tokens, self.tokens = (np.zeros(shards, np.int64) for _ in range(3))

    def add(self, shard: npt.NDArray[Any], rows: I64, tokens: I64) -> None:
        np.add.at(self.delivered, shard, rows)
        np.add.at(self.delivered_tokens, shard, tokens)
        np.add.at(self.tokens, shard, tokens)


def cut_buckets(plan: Plan, domain: DomainPlan, histogram: npt.NDArray[np.int64]) -> I64:
    """The buckets whose documents `place_stream` needs to see: about one a shard and epoch."""
    shard = _whole_buckets(plan, domain, histogram)[2]
    return np.flatnonzero((shard == SEVERAL_SHARDS).any(axis=0)).astype(np.int64)


def _whole_buckets(
    plan: Plan, domain: DomainPlan, histogram: npt.NDArray[np.int64]
) -> tuple[tuple[int, ...], I64, npt.NDArray[np.int32]]:
    rows, tokens = histogram[:, 0], histogram[:, 1]
    epochs = -(-domain.quota // domain.tokens)
    salts = tuple(key64(plan.seed, domain.name, "epoch", e) for e in range(epochs))
    bounds = domain.bounds(plan.shards, plan.packing)
    start = np.empty((epochs, len(rows)), np.int64)
    shard = np.empty((epochs, len(rows)), np.int32)
    numbers = np.arange(len(rows))
    for epoch, salt in enumerate(salts):
        order = np.argsort(mix64([numbers], salt), kind="stable")
        ends = epoch * domain.tokens + np.cumsum(tokens[order])
        start[epoch, order] = ends - tokens[order]
        first = np.searchsorted(bounds, start[epoch], "right") - 1
        last = np.searchsorted(bounds, start[epoch] + tokens - 1, "right") - 1
        shard[epoch] = np.where(first == last, first, SEVERAL_SHARDS)
        shard[epoch, (rows == 0) | (first >= plan.shards)] = NO_SHARD
    return salts, start, shard


def span_of(phase: int | I64, packing: Packing | None, offset: I64, tokens: I64) -> tuple[I64, I64]:
    """Where documents begin and end to belong, in the measure of the bounds: one anchor, or those of the first and last piece,
    or, where sequences are cut from the stream, the first and last token. `phase` as in `anchors`."""
    if packing is None:
        anchor = anchors(phase, offset, tokens)
        return anchor, anchor
    if not packing.whole:
        return offset, offset + tokens - 1
    before = (tokens - 1) // packing.length * packing.length
    first = anchors(phase, offset, np.minimum(tokens, packing.length))
    return first, anchors(phase, offset + before, tokens - before)


def _resolve(
    plan: Plan, domain: DomainPlan, bounds: I64, salts: Sequence[int], start: I64, shard: npt.NDArray[np.int32],
    documents: pa.Table, sums: _Sums,
) -> tuple[CutSegments, int]:  # fmt: skip
    hi, lo, tokens, part, copies = (documents[c].to_numpy() for c in ("hi", "lo", "tokens", "part", "copies"))
    order = np.lexsort((part, lo, hi))
    hi, lo, tokens, part, copies = hi[order], lo[order], tokens[order], part[order], copies[order]
    new = np.ones(len(hi), bool)
    new[1:] = (hi[1:] != hi[:-1]) | (lo[1:] != lo[:-1])
    before = np.cumsum(copies) - copies
    first_copy = before - np.repeat(before[new], np.diff(np.append(np.flatnonzero(new), len(hi))))
    total = np.add.reduceat(copies, np.flatnonzero(new)) if len(hi) else copies
    several = np.repeat(total > 1, np.diff(np.append(np.flatnonzero(new), len(hi))))
    by_part = np.lexsort((lo[several], hi[several], part[several]))
    duplicates = [column[several][by_part] for column in (part, hi, lo, first_copy)]

    each_hi, each_lo, each_tokens = (np.repeat(c[new], total) for c in (hi, lo, tokens))
    copy = np.arange(len(each_hi)) - np.repeat(np.cumsum(total) - total, total)
    bucket, buckets = bucket_of(each_hi, domain.bits), start.shape[1]
    found: list[tuple[npt.NDArray[np.generic], ...]] = []
    once = 0
    for epoch, salt in enumerate(salts):
        rows = np.flatnonzero(shard[epoch][bucket] == SEVERAL_SHARDS)
        key = mix64([each_hi[rows], each_lo[rows], copy[rows]], salt)
        order = np.lexsort((each_lo[rows], key, bucket[rows]))
        rows, key = rows[order], key[order]
        size = each_tokens[rows]
        offset = stream_offsets(bucket[rows], start[epoch][bucket[rows]], size)
        first, last = (np.searchsorted(bounds, at, "right") - 1 for at in span_of(domain.phase, plan.packing, offset, size))
        nowhere = first >= plan.shards
        last = np.where(nowhere, NO_SHARD, np.minimum(last, plan.shards - 1))
        first = np.where(nowhere, NO_SHARD, first)
        kept = np.flatnonzero(~nowhere)
        _add_cut(sums, plan.packing, domain, bounds, first[kept], last[kept], offset[kept], size[kept])
        once += len(kept) if epoch == 0 else 0
        begins = np.ones(len(rows), bool)
        begins[1:] = np.any([np.diff(column) != 0 for column in (bucket[rows], first, last)], axis=0)
        found.append((epoch * buckets + bucket[rows][begins], key[begins], each_lo[rows][begins], offset[begins], first[begins],
                      last[begins]))  # fmt: skip
    slot, key, low, offset, first, last = (np.concatenate([f[i] for f in found]) for i in range(6))
    return CutSegments(slot, key, low, offset, first, last, *duplicates), once


def _add_cut(
    sums: _Sums, packing: Packing | None, domain: DomainPlan, bounds: I64, first: I64, last: I64, offset: I64, tokens: I64
) -> None:
    """Count documents of cut buckets, each in every shard that it reaches; what the shards hold of it, by its pieces."""
    if packing is None:
        sums.add(first, np.ones_like(first), tokens)
        return
    each = np.repeat(np.arange(len(first)), last - first + 1)
    shard = first[each] + np.arange(len(each)) - np.searchsorted(each, each)
    np.add.at(sums.delivered, shard, 1)
    np.add.at(sums.delivered_tokens, shard, tokens[each])
    if packing.whole:
        _, size, anchor = cut_into_pieces(domain, packing, offset, tokens)
        at = np.searchsorted(bounds, anchor, "right") - 1
        inside = at < len(sums.tokens)
        np.add.at(sums.tokens, at[inside], size[inside])


def cut_into_pieces(domain: DomainPlan, packing: Packing, offset: I64, tokens: I64) -> tuple[I64, I64, I64]:
    """The pieces of documents, of at most a sequence each: (pieces,) index of the document, tokens, and anchor."""
    count = -(-tokens // packing.length)
    each = np.repeat(np.arange(len(tokens)), count)
    before = (np.arange(len(each)) - np.repeat(np.cumsum(count) - count, count)) * packing.length
    size = np.minimum(tokens[each] - before, packing.length)
    return each, size, anchors(domain.phase, offset[each] + before, size)


def stream_offsets(of: I64, base: I64, tokens: I64) -> I64:
    """Token offset of rows that are sorted by stream order; rows of one (of, base) follow each other without a gap."""
    before = np.cumsum(tokens) - tokens
    new = np.ones(len(base), bool)
    new[1:] = (base[1:] != base[:-1]) | (of[1:] != of[:-1])
    return base + before - np.repeat(before[new], np.diff(np.append(np.flatnonzero(new), len(base))))


def anchors(phase: int | I64, offset: I64, tokens: I64) -> I64:
    """p = o + floor(phase * t): what every rule of the plan compares; `phase` of the domain, or of each row's."""
    return offset + ((tokens * phase) >> PHASE_BITS)


@dataclass(frozen=True)
class Slots:
    """All streams of a layout side by side, so that rows of any number of domains are one array operation."""

    begin: I64
    """(domains,) first slot of each. The slots of a domain are epoch * buckets + bucket, as in its pieces."""
    bits: I64
    epochs: I64
    first_salt: I64
    """(domains,)"""
    salts: U64
    """(epochs of all domains,)"""
    start: I64
    """(slots,) token offset in the domain's stream."""
    shard: npt.NDArray[np.int32]
    """(slots,) the one shard of a bucket, or NOWHERE, or CUT."""
    pieces: CutSegments
    """With these slots; duplicates by (part, hi, lo, domain)."""
    domain_of_copies: I64
    groups: tuple[I64, ...]
    """Domains that follow each other, of some `SLOTS_PER_GROUP` slots together or a single one."""

    @classmethod
    def of(cls, laid: Sequence[PlacedStream]) -> Slots:
        sizes = np.array([one.start.size for one in laid], np.int64)
        begin = np.cumsum(sizes) - sizes
        epochs = np.array([len(one.start) for one in laid], np.int64)
        columns = {field.name: [getattr(one.pieces, field.name) for one in laid] for field in fields(CutSegments)}
        columns["slot"] = [slot + first for slot, first in zip(columns["slot"], begin, strict=True)]
        joined = {name: np.concatenate(column) for name, column in columns.items()}
        domain = np.repeat(np.arange(len(laid)), [len(one.pieces.part) for one in laid])
        order = np.lexsort((domain, joined["lo_of_copies"], joined["hi_of_copies"], joined["part"]))
        for name in ("part", "hi_of_copies", "lo_of_copies", "first_copy"):
            joined[name] = joined[name][order]
        ends = np.flatnonzero(np.diff(begin // SLOTS_PER_GROUP)) + 1
        return cls(
            begin, np.array([one.stream.domain.bits for one in laid], np.int64), epochs, np.cumsum(epochs) - epochs,
            np.concatenate([np.array(one.salts, np.uint64) for one in laid]),
            np.concatenate([one.start.reshape(-1) for one in laid]), np.concatenate([one.shard.reshape(-1) for one in laid]),
            CutSegments(**joined), domain[order], tuple(np.split(np.arange(len(laid)), ends)),
        )  # fmt: skip

    def slot(self, domain: I64, epoch: I64, hi: U64) -> I64:
        """(rows,)"""
        domain, epoch = _even(domain), _even(epoch)
        bits = self.bits[domain]
        bucket = (hi >> np.minimum(64 - bits, 63).astype(np.uint64)).astype(np.int64)
        return bucket * (bits > 0) + (self.begin[domain] + (epoch << bits))

    def key(self, domain: I64, epoch: I64, hi: U64, lo: U64, copy: I64) -> U64:
        """(rows,) what orders the documents of a bucket."""
        return mix64([hi, lo, copy], self.salts[self.first_salt[_even(domain)] + _even(epoch)])


def _even(column: I64) -> I64:
    """One value where all are the same: with one domain and epoch, as often, that is a third of the time."""
    return column[:1] if len(column) and (column == column[0]).all() else column


def histogram_of(hi: U64, tokens: I64, bits: int) -> npt.NDArray[np.int64]:
    """(2^bits, 2) rows and tokens a bucket. Sums of the histograms of parts are the histogram of the whole."""
    bucket = bucket_of(hi, bits)
    out = np.zeros((1 << bits, 2), np.int64)
    np.add.at(out[:, 0], bucket, 1)
    np.add.at(out[:, 1], bucket, tokens)
    return out


@dataclass(frozen=True)
class Layout:
    """A plan, and the stream of each of its domains, in its order."""

    plan: Plan
    streams: tuple[Stream, ...]
    slots: Slots

    @property
    def tokens(self) -> I64:
        """(shards,) of all domains."""
        return np.asarray(np.sum([s.tokens for s in self.streams], axis=0), np.int64)


def place_streams(plan: Plan, counts: Sequence[DomainCount], documents: pa.Table) -> Layout:
    """All streams of a plan; `documents` as in `place_stream`, of all domains."""
    by_name = {c.name: c for c in counts}
    dictionary = documents["domain"].combine_chunks().dictionary_encode()
    code_of = {name: code for code, name in enumerate(dictionary.dictionary.to_pylist())}
    code = dictionary.indices.to_numpy()
    order = np.argsort(code, kind="stable")  # once for all domains
    ends = np.searchsorted(code[order], np.arange(len(code_of) + 1))
    laid = []
    for domain in plan.domains:
        at = code_of.get(domain.name)
        rows = order[:0] if at is None else order[ends[at] : ends[at + 1]]
        laid.append(place_stream(plan, domain, by_name[domain.name].histogram, documents.take(rows)))
    return Layout(plan, tuple(one.stream for one in laid), Slots.of(laid))
