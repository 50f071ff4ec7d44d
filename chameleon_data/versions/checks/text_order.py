"""The order of one domain's documents, where rows are texts: hashes decide it, and every epoch holds the same documents.

All copies of a text lie in one bucket of the hash, and a bucket is one stretch of an epoch's stream. So rows are checked by whole
buckets, and the rows of the last bucket wait for the next shard. A bucket holds some few rows: the plan's buckets may be coarser.
Which of several identical rows is which copy does not matter to their order. Memory for each domain: 8 bytes a bucket (32 MB at
most) and the hashes of one bucket.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from chameleon_data.arrays import I64, U64
from chameleon_data.hashing import MODULUS, key64, mix64, multiset_hash
from chameleon_data.plan.copies import number_copies
from chameleon_data.plan.order import RANK_BITS, largest_depth, order_keys, rank_buckets
from chameleon_data.plan.streams import bucket_of
from chameleon_data.versions.checks.counts import check_copies_written, check_domain_totals, check_largest_document
from chameleon_data.versions.manifest import SplitRecord

FEWEST_BUCKETS = 64
"""So that the bucket that the quota cuts is no large part of a small domain."""


class DocumentRows(NamedTuple):
    """(rows,) columns of some rows of one domain."""

    hi: U64
    lo: U64
    epoch: I64
    tokens: I64

    def slice(self, begin: int, end: int | None) -> DocumentRows:
        return DocumentRows(self.hi[begin:end], self.lo[begin:end], self.epoch[begin:end], self.tokens[begin:end])


@dataclass
class _EpochSeen:
    """Sums over the rows of one epoch."""

    rows: int = 0
    tokens: int = 0
    bytes: int | None = 0
    """None where the rows do not hold their text."""
    multiset: int = 0
    """Sum of the documents' hashes modulo 2^128."""
    buckets: int = 0
    """Buckets that have a document in it."""

    def add(self, rows: DocumentRows, sizes: I64 | None) -> None:
        self.rows += len(rows.hi)
        self.tokens += int(rows.tokens.sum())
        self.bytes = None if sizes is None or self.bytes is None else self.bytes + int(sizes.sum())
        self.multiset = (self.multiset + multiset_hash(rows.hi, rows.lo)) % MODULUS


class TextOrderCheck:
    """Takes the domain's rows in output order, shard by shard, and says at the end what is wrong with them."""

    def __init__(self, name: str, record: SplitRecord, seed: int) -> None:
        self._name, self._record, self._seed = name, record, seed
        self._depth = largest_depth(max(record.available_rows, FEWEST_BUCKETS))
        self._problems: list[str] = []
        self._epochs: dict[int, _EpochSeen] = {}
        self._largest = 0
        """Tokens of the largest document."""
        self._copies, self._most_copies = 0, 1
        """In the first epoch: rows that repeat an earlier one, and the most copies of one document."""
        self._first_epoch = np.zeros(1 << self._depth, np.uint64)
        """(buckets,) sums of a hash of the documents of epoch 0."""
        self._last_bucket = (-1, -1)
        """Epoch and rank of the last bucket that was checked."""
        no_hash, no_count = np.zeros(0, np.uint64), np.zeros(0, np.int64)
        self._waiting = DocumentRows(no_hash, no_hash, no_count, no_count)
        """Rows of the last bucket, which may go on in the next shard."""

    def add(self, path: str, rows: DocumentRows, sizes: I64 | None) -> None:
        """The domain's rows in the next shard; at least one. `sizes` are (rows,) bytes, where the rows hold their text."""
        for epoch in np.unique(rows.epoch).tolist():
            at = rows.epoch == epoch
            part = DocumentRows(*(column[at] for column in rows))
            self._epochs.setdefault(epoch, _EpochSeen()).add(part, None if sizes is None else sizes[at])
        self._largest = max(self._largest, int(rows.tokens.max()))
        rows = DocumentRows(*(np.concatenate(both) for both in zip(self._waiting, rows, strict=True)))
        bucket = bucket_of(rows.hi, self._depth)
        before = np.flatnonzero((bucket != bucket[-1]) | (rows.epoch != rows.epoch[-1]))
        whole = int(before[-1]) + 1 if len(before) else 0
        self._waiting = rows.slice(whole, None)
        if whole:
            self._check_buckets(path, rows.slice(0, whole))

    def _check_buckets(self, path: str, rows: DocumentRows, cut: bool = False) -> None:
        """Rows of whole buckets; or, with `cut`, of one that the quota cuts, so that some of its rows are missing."""
        bucket, copy = bucket_of(rows.hi, self._depth), number_copies(rows.epoch, rows.hi, rows.lo)
        self._check_repeats(path, rows.epoch, copy)
        self._check_order(path, rows, copy, cut)
        self._check_same_documents(path, rows, bucket, cut)

    def _check_repeats(self, path: str, epoch: I64, copy: I64) -> None:
        """No later epoch holds a document more often than the first; of a cut bucket that is all that can be told."""
        first = copy[epoch == 0]
        self._copies += int((first > 0).sum())
        self._most_copies = max(self._most_copies, int(first.max(initial=0)) + 1)
        if copy[epoch > 0].max(initial=0) >= self._most_copies:
            self._problems.append(f"{path}: a later epoch of domain {self._name!r} holds a document more often than its first")

    def _check_order(self, path: str, rows: DocumentRows, copy: I64, cut: bool) -> None:
        """Rows go by epoch, key and tie. Where copies may be missing, their numbers are not known; then by epoch and rank."""
        key, tie = np.empty(len(copy), np.uint64), np.empty(len(copy), np.uint64)
        for epoch in np.unique(rows.epoch).tolist():
            at = rows.epoch == epoch
            key[at], tie[at] = order_keys(rows.hi[at], rows.lo[at], copy[at], self._salt(epoch))
        rank = (key >> np.uint64(64 - RANK_BITS)).astype(np.int64)
        order = np.lexsort((rank, rows.epoch) if cut else (tie, key, rows.epoch))
        moved = any((column[order] != column).any() for column in (rows.epoch, rows.hi, rows.lo))
        first, last = ((int(rows.epoch[i]), int(rank[i]) >> (RANK_BITS - self._depth)) for i in (0, -1))
        if first <= self._last_bucket or moved:
            self._problems.append(f"{path}: the documents of domain {self._name!r} are not in the order of their hashes")
        self._last_bucket = last

    def _check_same_documents(self, path: str, rows: DocumentRows, bucket: I64, cut: bool) -> None:
        """A bucket holds the same documents in every epoch."""
        begins = np.flatnonzero(np.append(True, (np.diff(bucket) != 0) | (np.diff(rows.epoch) != 0)))
        sums = np.add.reduceat(mix64([rows.hi, rows.lo, rows.tokens], 0), begins)
        slot, epoch = bucket[begins], rows.epoch[begins]
        np.add.at(self._first_epoch, slot[epoch == 0], sums[epoch == 0])
        for number, buckets in zip(*np.unique(epoch, return_counts=True), strict=True):
            self._epochs[int(number)].buckets += int(buckets)
        other = np.flatnonzero((epoch > 0) & (self._first_epoch[slot] != sums))
        if len(other) and not cut:
            self._problems.append(
                f"{path}: epoch {epoch[other[0]]} of domain {self._name!r} holds other documents than its first epoch"
            )

    def _salt(self, epoch: int) -> int:
        return key64(self._seed, self._name, "epoch", epoch)

    def end(self) -> list[str]:
        """All that is wrong with the domain, once every shard was added."""
        last = max(self._epochs, default=0)
        last_is_whole = self._epochs.get(last, _EpochSeen()).rows >= self._record.available_rows
        if len(self._waiting.hi):
            self._check_buckets("the last shard", self._waiting, cut=not last_is_whole)
        seen = self._epochs.values()
        rows, tokens = sum(epoch.rows for epoch in seen), sum(epoch.tokens for epoch in seen)
        once, every_document = self._epochs.get(0, _EpochSeen()).rows, last > 0 or last_is_whole
        return [
            *self._problems,
            *([] if last_is_whole else self._check_cut_epoch(last)),
            *self._check_quota(last),
            *self._check_whole_epochs(last, last_is_whole),
            *check_largest_document(self._name, self._record, self._largest, every_document),
            *(check_copies_written(self._name, self._record, self._copies, self._most_copies) if every_document else []),
            *check_domain_totals(self._name, self._record, rows, tokens, once, packed=False),
        ]

    def _check_cut_epoch(self, last: int) -> list[str]:
        """A last epoch that is not whole holds every bucket of the first one that comes before its end."""
        if not last:
            return []
        begun = rank_buckets(self._depth, self._salt(last))[np.flatnonzero(self._first_epoch)] <= self._last_bucket[1]
        if self._epochs[last].buckets == begun.sum():
            return []
        return [f"domain {self._name!r}: its last epoch leaves out documents before its end"]

    def _check_quota(self, last: int) -> list[str]:
        """The last epoch begins before the quota ends."""
        if last * self._record.available_tokens < self._record.target_tokens:
            return []
        return [f"domain {self._name!r}: epoch {last} begins after its {self._record.target_tokens:,} tokens"]

    def _check_whole_epochs(self, last: int, last_is_whole: bool) -> list[str]:
        """Each whole epoch is every document that the survey counted, once."""
        record, problems = self._record, []
        counted = (record.available_rows, record.available_tokens, record.available_bytes, int(record.multiset, 16))
        numbers = {*self._epochs, *range(min(last, len(self._epochs)))} - (set() if last_is_whole else {last})
        for number in sorted(numbers):
            epoch = self._epochs.get(number, _EpochSeen())
            size = record.available_bytes if epoch.bytes is None else epoch.bytes
            if (epoch.rows, epoch.tokens, size, epoch.multiset) != counted:
                problems.append(
                    f"domain {self._name!r}: epoch {number} is not each of its {record.available_rows:,} documents once"
                )
        return problems
