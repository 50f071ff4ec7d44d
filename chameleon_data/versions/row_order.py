"""What rows in output order must show of their plan, whoever wrote them: balance between domains, and order within each.

`BalanceCheck` follows the tokens of all domains and remembers where a bound of `plan.py` is closest to broken. `TextOrderCheck`
holds one domain's rows against the order that hashes decide (`streams.py`) and the documents that were counted.
`TokenOrderCheck` does what can be done where rows are packed sequences of ids: documents end where end-of-text stands, an epoch
is as many documents and tokens as were counted, every whole epoch is made of the same ids, and the documents named follow each
other bucket by bucket.

Memory: for each domain 8 bytes a bucket (8 MB at most) and the hashes of one bucket.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from chameleon_data.arrays import I64, U64
from chameleon_data.hashing import MODULUS, key64, mix64, multiset_hash
from chameleon_data.plan.copies import number_copies
from chameleon_data.plan.plan import Packing, bucket_bits, phase_of
from chameleon_data.plan.streams import anchors, bucket_of


@dataclass(frozen=True)
class Deviation:
    """The place where a bound is closest to broken."""

    domain: str
    where: str
    tokens: float
    """Distance from the target there."""
    bound: int
    """Tokens of the domain's largest document."""

    @property
    def share(self) -> float:
        return self.tokens / self.bound


class BalanceCheck:
    """Follows rows in output order and remembers the worst points. Everything is recomputed from (domain, tokens) and the seed.

    `largest` is the bound of each domain: its largest document, or a sequence. State: per domain the tokens so far. `add` takes
    one shard at a time.
    """

    def __init__(self, names: Sequence[str], quotas: Sequence[int], largest: Sequence[int], shards: int, seed: int) -> None:
        self.names, self.shards = list(names), shards
        self.quotas, self.largest = [max(1, q) for q in quotas], [max(1, m) for m in largest]  # a forged 0 is for `_check_plan`
        self._phase = [phase_of(seed, name) for name in names]
        self.so_far = [0] * len(names)
        self._last = (-1.0, -1)
        self.prefix = [Deviation(name, "the start", 0.0, m) for name, m in zip(names, self.largest, strict=True)]
        self.shard = Deviation(names[0], "shard 0", 0.0, self.largest[0])

    def add(self, number: int, domain: I64, tokens: I64, first: I64) -> str | None:
        """Take the rows of shard `number`; returns what is wrong with their order, if anything is.

        `first` is what each row's anchor is of: its tokens, or those of the first piece in a sequence.
        """
        quotient, ends = np.empty(len(domain)), {}
        for index, name in enumerate(self.names):
            rows = np.flatnonzero(domain == index)
            end = self.so_far[index] + np.cumsum(tokens[rows])
            quotient[rows] = anchors(self._phase[index], end - tokens[rows], first[rows]) / self.quotas[index]
            ends[index] = (rows, end)
            shard_off = abs(float(tokens[rows].sum()) - self.quotas[index] / self.shards)
            if shard_off / self.largest[index] > self.shard.share:
                self.shard = Deviation(name, f"shard {number}", shard_off, self.largest[index])
        for index, (rows, end) in ends.items():
            held = np.full(len(domain), self.so_far[index], np.int64)
            held[rows] = end
            held = np.maximum.accumulate(held)
            off = np.abs(held - quotient * self.quotas[index])
            at = int(off.argmax())
            if off[at] > self.prefix[index].tokens:
                self.prefix[index] = Deviation(
                    self.names[index], f"row {at:,} of shard {number}", float(off[at]), self.largest[index]
                )
            if len(end):
                self.so_far[index] = int(end[-1])
        steps_back = (quotient[1:] < quotient[:-1]) | ((quotient[1:] == quotient[:-1]) & (domain[1:] < domain[:-1]))
        opening, last = (float(quotient[0]), int(domain[0])), (float(quotient[-1]), int(domain[-1]))
        wrong = "its first row" if opening < self._last else f"row {int(steps_back.argmax()) + 1:,}" if steps_back.any() else None
        self._last = last
        return wrong

    @property
    def whole(self) -> Deviation:
        worst = [
            Deviation(n, "the whole", float(abs(s - q)), m)
            for n, s, q, m in zip(self.names, self.so_far, self.quotas, self.largest, strict=True)
        ]
        return max(worst, key=lambda w: w.share)


@dataclass
class _Epoch:
    rows: int = 0
    tokens: int = 0
    bytes: int | None = 0
    """None where the rows do not hold their text."""
    multiset: int = 0
    buckets: int = 0


class TextOrderCheck:
    """One domain's rows in output order, against the order that hashes decide and the documents that the survey counted.

    All copies of a text share a bucket, and a bucket is one stretch of the stream. So rows are judged by whole buckets, and those
    of the last one wait for the next shard. Which of several identical rows is which copy does not matter to their order.
    """

    def __init__(self, name: str, domain: Mapping[str, Any], seed: int) -> None:
        self._name, self._domain, self._seed = name, domain, seed
        self._bits = bucket_bits(domain["available_rows"])
        self._last = (-1, -1)
        """Epoch and key of the last bucket that was judged."""
        self._first_epoch = np.zeros(1 << self._bits, np.uint64)
        """(buckets,) sums of a hash of the documents of epoch 0."""
        self._waiting: list[npt.NDArray[Any]] = [np.zeros(0, np.uint64)] * 2 + [np.zeros(0, np.int64)] * 2
        self._epochs: dict[int, _Epoch] = {}
        self._largest = self._again = 0
        self._most = 1
        """Of the first epoch: rows that repeat another one, and the most copies of one document."""
        self._problems: list[str] = []

    def add(self, path: str, hi: U64, lo: U64, epoch: I64, tokens: I64, size: I64 | None) -> None:
        """The domain's rows in the next shard; at least one. `size` is in bytes, where the rows hold their text."""
        for e in np.unique(epoch).tolist():
            at, found = epoch == e, self._epochs.setdefault(e, _Epoch())
            found.rows += int(at.sum())
            found.tokens += int(tokens[at].sum())
            found.bytes = None if size is None or found.bytes is None else found.bytes + int(size[at].sum())
            found.multiset = (found.multiset + multiset_hash(hi[at], lo[at])) % MODULUS
        self._largest = max(self._largest, int(tokens.max()))
        rows = [np.concatenate(both) for both in zip(self._waiting, (hi, lo, epoch, tokens), strict=True)]
        bucket = bucket_of(rows[0], self._bits)
        others = np.flatnonzero((bucket != bucket[-1]) | (rows[2] != rows[2][-1]))
        end = int(others[-1]) + 1 if len(others) else 0
        self._waiting = [column[end:] for column in rows]
        if end:
            self._judge(path, [column[:end] for column in rows])

    def _judge(self, path: str, rows: Sequence[npt.NDArray[Any]], cut: bool = False) -> None:
        """Hashes (high, low), epoch and tokens of whole buckets; or `cut`, of one that lacks rows, so that nobody can tell which
        copies of a text are there."""
        hi, lo, epoch, tokens = rows
        bucket, copy = bucket_of(hi, self._bits), number_copies(epoch, hi, lo)
        bucket_key, key = np.empty(len(hi), np.uint64), np.empty(len(hi), np.uint64)
        for e in np.unique(epoch).tolist():
            at, salt = epoch == e, self._salt(e)
            bucket_key[at], key[at] = mix64([bucket[at]], salt), mix64([hi[at], lo[at], copy[at]], salt)
        order = np.lexsort((lo, key, bucket_key, epoch))
        moved = (epoch[order] != epoch) | (hi[order] != hi) | (lo[order] != lo)
        first, last = ((int(epoch[i]), int(bucket_key[i])) for i in (0, -1))
        self._again += int((copy[epoch == 0] > 0).sum())
        self._most = max(self._most, int(copy[epoch == 0].max(initial=0)) + 1)
        if copy[epoch > 0].max(initial=0) >= self._most:  # of a bucket that is cut, all that can be told
            self._problems.append(f"{path}: a later epoch of domain {self._name!r} holds a document more often than its first")
        if first <= self._last or (moved.any() and not cut):
            self._problems.append(f"{path}: the documents of domain {self._name!r} are not in the order of their hashes")
        self._last = last
        begins = np.flatnonzero(np.append(True, (np.diff(bucket) != 0) | (np.diff(epoch) != 0)))
        sums, slot, of = np.add.reduceat(mix64([hi, lo, tokens], 0), begins), bucket[begins], epoch[begins]
        np.add.at(self._first_epoch, slot[of == 0], sums[of == 0])
        for e, buckets in zip(*np.unique(of, return_counts=True), strict=True):
            self._epochs[int(e)].buckets += int(buckets)
        other = np.flatnonzero((of > 0) & (self._first_epoch[slot] != sums))
        if len(other) and not cut:
            self._problems.append(
                f"{path}: epoch {of[other[0]]} of domain {self._name!r} holds other documents than its first epoch"
            )

    def _salt(self, epoch: int) -> int:
        return key64(self._seed, self._name, "epoch", epoch)

    def end(self) -> list[str]:
        """All that is wrong with the domain, once every shard is there."""
        name, d = self._name, self._domain
        last = max(self._epochs, default=0)
        final = self._epochs.get(last, _Epoch())
        whole = final.rows >= d["available_rows"]
        if len(self._waiting[0]):
            self._judge("the last shard", self._waiting, cut=not whole)
        problems = self._problems
        if last > 0 and not whole:
            held = mix64([np.flatnonzero(self._first_epoch)], self._salt(last)) <= np.uint64(self._last[1])
            if final.buckets != held.sum():
                problems.append(f"domain {name!r}: its last epoch leaves out documents before its end")
        if last * d["available_tokens"] >= d["target_tokens"]:
            problems.append(f"domain {name!r}: epoch {last} begins after its {d['target_tokens']:,} tokens")
        counted = [d["available_rows"], d["available_tokens"], d["available_bytes"], int(d["multiset"], 16)]
        for epoch in sorted({*self._epochs, *range(min(last, len(self._epochs)))} - (set() if whole else {last})):
            e = self._epochs.get(epoch, _Epoch())
            if [e.rows, e.tokens, counted[2] if e.bytes is None else e.bytes, e.multiset] != counted:
                problems.append(f"domain {name!r}: epoch {epoch} is not each of its {d['available_rows']:,} documents once")
        if self._largest > d["largest_document"] or ((last > 0 or whole) and self._largest < d["largest_document"]):
            problems.append(
                f"domain {name!r}: its largest document has {self._largest:,} tokens, 'largest_document' is another number"
            )
        if (last > 0 or whole) and [d["copies_written"], d["most_copies"]] != [self._again, self._most]:
            problems.append(
                f"domain {name!r}: {self._again:,} rows of its first epoch are copies, at most {self._most:,} of one document, "
                f"where the manifest says {d['copies_written']:,} and {d['most_copies']:,}"
            )
        rows, tokens = sum(e.rows for e in self._epochs.values()), sum(e.tokens for e in self._epochs.values())
        once = self._epochs.get(0, _Epoch()).rows
        said = [d["rows"], d["tokens"], d["epochs"], d["rows_written_once"]]
        if said != [rows, tokens, tokens / d["available_tokens"], once]:
            problems.append(
                f"domain {name!r}: {rows:,} rows with {tokens:,} tokens, {once:,} documents written once, where the manifest "
                f"says {d['rows']:,}, {d['tokens']:,} and {d['rows_written_once']:,} in {d['epochs']} epochs"
            )
        return problems


class TokenOrderCheck:
    """One domain's packed sequences in output order. Its ids, without padding, are the stream of its documents."""

    def __init__(self, name: str, domain: Mapping[str, Any], seed: int, packing: Packing, end_of_text: int) -> None:
        self._name, self._domain, self._seed, self._packing, self._end = name, domain, seed, packing, end_of_text
        self._bits = bucket_bits(domain["available_rows"])
        self._ended, self._last = 0, (-1, 0, -1, 0, 0)
        """Documents that have ended; and of the last row, epoch, key of the bucket, number of the document, its hash."""
        self._at = self._begun = 0
        """Tokens so far, and where the document that they end in began."""
        self._rows = self._largest = self._once = 0
        self._epochs: dict[int, list[int]] = {}
        """Epoch -> documents that ended in it, and the sum of a hash of its ids."""
        self._problems: list[str] = []

    def first_pieces(self, ids: npt.NDArray[Any], tokens: I64) -> I64:
        """(sequences,) tokens of the first piece of each row of `ids` (sequences, L), which is what its anchor is of."""
        if not self._packing.whole:
            return tokens
        ended = ids == self._end
        return np.where(ended.any(axis=1), ended.argmax(axis=1) + 1, self._packing.length).astype(np.int64)

    def add(self, path: str, ids: npt.NDArray[Any], tokens: I64, epoch: I64, hi: U64, lo: U64) -> None:
        """The domain's rows in the next shard; at least one. `ids` is (sequences, L), `tokens` how many of them are no padding,
        and the hashes are those that `doc_id` says."""
        filled = np.arange(ids.shape[1]) < tokens[:, None]
        if (ids[~filled] != self._end).any():
            self._problems.append(f"{path}: what fills a sequence of domain {self._name!r} up is not end-of-text")
        per_epoch, starts = self._domain["available_tokens"], self._at + np.cumsum(tokens) - tokens
        if (epoch != starts // per_epoch).any():
            self._problems.append(f"{path}: a sequence of domain {self._name!r} says another epoch than its place in the stream")
        flat = ids[filled]
        ends = np.flatnonzero(flat == self._end) + 1
        self._name_documents(path, epoch, self._ended + np.searchsorted(ends, starts - self._at, "right"), hi, lo)
        self._ended += len(ends)
        lengths = np.diff(np.append(self._begun - self._at, ends))
        self._largest = max(self._largest, int(lengths.max(initial=0)))
        at, sums = self._at + np.arange(len(flat)), mix64([flat], 0)
        edges = np.searchsorted(at, np.arange(self._at // per_epoch + 1, (self._at + len(flat)) // per_epoch + 1) * per_epoch)
        for begin, end in zip([0, *edges.tolist()], [*edges.tolist(), len(flat)], strict=True):
            if end > begin:
                found = self._epochs.setdefault(int(at[begin]) // per_epoch, [0, 0])
                found[0] += int(((ends > begin) & (ends <= end)).sum())
                found[1] = (found[1] + int(sums[begin:end].sum(dtype=np.uint64))) % 2**64
        if len(flat) and (edges > 0).any() and (flat[edges[edges > 0] - 1] != self._end).any():
            self._problems.append(f"{path}: an epoch of domain {self._name!r} ends within a document")
        if len(ends):
            self._begun = self._at + int(ends[-1])
        self._at += len(flat)
        self._rows += len(ids)

    def _name_documents(self, path: str, epoch: I64, document: I64, hi: U64, lo: U64) -> None:
        """Rows that begin in one document name it alike, and the buckets of those named follow each other as hashes decide.

        `document` is (sequences,) the number of the document that each begins in.
        """
        bucket, bucket_key = bucket_of(hi, self._bits), np.empty(len(hi), np.uint64)
        for e in np.unique(epoch).tolist():
            at = epoch == e
            bucket_key[at] = mix64([bucket[at]], key64(self._seed, self._name, "epoch", e))
        e, key, number, high, low = (
            np.append(np.array([last], column.dtype), column)
            for last, column in zip(self._last, (epoch, bucket_key, document, hi, lo), strict=True)
        )
        self._last = int(e[-1]), int(key[-1]), int(number[-1]), int(high[-1]), int(low[-1])
        if ((np.diff(number) == 0) & ((high[1:] != high[:-1]) | (low[1:] != low[:-1]))).any():
            self._problems.append(f"{path}: sequences of domain {self._name!r} name one document by two hashes")
        if ((e[1:] == e[:-1]) & (key[1:] < key[:-1])).any():
            self._problems.append(f"{path}: the documents that domain {self._name!r} names are not in the order of their hashes")

    def end(self) -> list[str]:
        """All that is wrong with the domain, once every shard is there."""
        name, d, problems = self._name, self._domain, self._problems
        whole = self._at // d["available_tokens"]
        first = self._epochs.get(0, [0, 0])
        for epoch in range(whole):
            documents, ids = self._epochs[epoch]
            if documents != d["available_rows"]:
                problems.append(f"domain {name!r}: epoch {epoch} holds {documents:,} documents, not its {d['available_rows']:,}")
            elif ids != first[1]:
                problems.append(f"domain {name!r}: epoch {epoch} is made of other ids than its first epoch")
        if self._largest > d["largest_document"] or (whole and self._largest < d["largest_document"]):
            problems.append(
                f"domain {name!r}: its largest document has {self._largest:,} tokens, 'largest_document' is another number"
            )
        once = first[0] + (whole == 0 and self._begun < self._at)
        said = [d["rows"], d["tokens"], d["epochs"], d["rows_written_once"]]
        if said != [self._rows, self._at, self._at / d["available_tokens"], once]:
            problems.append(
                f"domain {name!r}: {self._rows:,} sequences with {self._at:,} tokens of {once:,} documents, where the manifest "
                f"says {d['rows']:,}, {d['tokens']:,} and {d['rows_written_once']:,} in {d['epochs']} epochs"
            )
        return problems
