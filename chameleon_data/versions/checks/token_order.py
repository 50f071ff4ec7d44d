"""The order of one domain's documents, where rows are packed sequences: their ids without padding are the domain's stream.

Proved are: documents end where end-of-text stands, and `doc_starts` says where the next begin; an epoch is as many documents and
tokens as were counted; every whole epoch is made of the same ids; the documents that rows name follow each other in the order of
their hashes. The ids do not say which document they are of. Sequences of whole conversations are proved likewise, by the
tokens that count (`turns.py`).

A stretch of shards is looked at by itself. Where it begins in the stream is told by the table of shards; whether a document
begins there is known when it joins with the stretch before. Memory for each domain: a few numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from chameleon_data.arrays import I64, U64
from chameleon_data.hashing import mix64
from chameleon_data.plan.order import rank_hashes
from chameleon_data.plan.plan import Packing
from chameleon_data.versions.checks.counts import check_domain_totals, check_largest_document
from chameleon_data.versions.checks.problems import ProblemList
from chameleon_data.versions.checks.split_facts import SplitFacts

_Ids = npt.NDArray[Any]
"""(sequences, length) or (tokens,) of uint16 or uint32."""


class NamedRow(NamedTuple):
    """A sequence at the edge of a stretch, by the document that it names."""

    epoch: int
    rank: int
    hi: int
    lo: int
    shard: int


@dataclass
class TokensFound:
    """What was found of one domain in a stretch of shards."""

    rows: int = 0
    tokens: int = 0
    documents: dict[int, int] = field(default_factory=dict)
    """Epoch -> documents that ended in it."""
    ids: dict[int, int] = field(default_factory=dict)
    """Epoch -> sum of a hash of its ids modulo 2^64."""
    ended: bool = False
    """Whether any document ended."""
    head: int = 0
    """Tokens up to the first end; all, where none ended."""
    tail: int = 0
    """Tokens behind the last end; all, where none ended."""
    largest: int = 0
    """Tokens of the largest document that lies between two ends."""
    begins: bool = True
    """Whether the first row says that a document begins with it."""
    first: NamedRow | None = None
    last: NamedRow | None = None
    last_ends: bool = False
    """Whether a document ends in the last row."""

    def join(self, facts: SplitFacts, index: int, later: TokensFound, problems: ProblemList) -> None:
        """Take what was found in the next stretch."""
        if later.first is None:
            return
        if self.first is None or self.last is None:
            self.__dict__.update(vars(later))
            return
        path, name = facts.path(later.first.shard), facts.names[index]
        if later.begins != (self.tail == 0):
            problems.add("document starts", [_wrong_starts(path, name)])
        problems.add("order", _compare_rows(path, name, self.last, later.first, self.last_ends))
        if self.ended and later.ended:
            self.largest = max(self.largest, self.tail + later.head)
        self.largest = max(self.largest, later.largest)
        self.head = self.head if self.ended else self.tokens + later.head
        self.tail = later.tail if later.ended else self.tail + later.tokens
        self.rows, self.tokens, self.ended = self.rows + later.rows, self.tokens + later.tokens, self.ended or later.ended
        self.last, self.last_ends = later.last, later.last_ends
        for epoch, count in later.documents.items():
            self.documents[epoch] = self.documents.get(epoch, 0) + count
            self.ids[epoch] = (self.ids.get(epoch, 0) + later.ids[epoch]) % 2**64


def _wrong_starts(path: str, name: str) -> str:
    return f"{path}: 'doc_starts' of domain {name!r} are not where its documents begin"


def _compare_rows(path: str, name: str, before: NamedRow, after: NamedRow, ends: bool) -> list[str]:
    """Two neighbours: rows of one document name it alike, and ranks only grow in an epoch. `ends`: a document ends between."""
    problems = []
    if not ends and (before.hi, before.lo) != (after.hi, after.lo):
        problems.append(f"{path}: sequences of domain {name!r} name one document by two hashes")
    if before.epoch == after.epoch and after.rank < before.rank:
        problems.append(f"{path}: the documents that domain {name!r} names are not in the order of their hashes")
    return problems


def count_first_pieces(packing: Packing, end_of_text: int, ids: _Ids, tokens: I64) -> I64:
    """(sequences,) tokens of the first piece of each row of `ids`, from which the row's anchor is computed."""
    if not packing.whole:
        return tokens
    ended = ids == end_of_text
    return np.where(ended.any(axis=1), ended.argmax(axis=1) + 1, packing.length).astype(np.int64)


class TokenOrderCheck:
    """Takes one domain's sequences in a stretch of shards, in output order, shard by shard."""

    def __init__(self, facts: SplitFacts, index: int, end_of_text: int, problems: ProblemList) -> None:
        """`index` is the domain's among those of the split."""
        self._facts, self._index, self._end, self._problems = facts, index, end_of_text, problems
        self._name = facts.names[index]
        self._record = facts.records[self._name]
        self.found = TokensFound()

    def add(self, shard: int, start: int, ids: _Ids, tokens: I64, epoch: I64, hi: U64, lo: U64, begun: I64, begins: I64) -> None:
        """The domain's rows in the next shard, before which it has `start` tokens; at least one. `ids` is (sequences, length),
        `tokens` counts those that are no padding, and the hashes are those of `doc_id`. `begun` and `begins` are
        the lengths and values of `doc_starts`."""
        path = self._facts.path(shard)
        filled = np.arange(ids.shape[1]) < tokens[:, None]
        flat, row_ends = ids[filled], np.cumsum(tokens)
        ends = np.flatnonzero(flat == self._end) + 1
        if (ids[~filled] != self._end).any():
            what = f"{path}: what fills a sequence of domain {self._name!r} up is not end-of-text"
            self._problems.add("padding", [what])
        if (epoch != (start + row_ends - tokens) // self._record.available_tokens).any():
            what = f"{path}: a sequence of domain {self._name!r} says another epoch than its place in the stream"
            self._problems.add("epochs", [what])
        part = TokensFound(len(ids), len(flat), begins=bool(begun[0] and begins[0] == 0))
        self._check_begins(path, row_ends, tokens, ends, begun, begins, part.begins)
        self._name_rows(path, shard, part, epoch, row_ends, ends, hi, lo)
        self._count_epochs(path, part, flat, ends, start)
        part.ended = bool(len(ends))
        part.head = int(ends[0]) if len(ends) else len(flat)
        part.tail = len(flat) - int(ends[-1]) if len(ends) else len(flat)
        part.largest = int(np.diff(ends).max(initial=0))
        self.found.join(self._facts, self._index, part, self._problems)

    def add_conversations(self, shard: int, start: int, row: I64, tokens: I64, sums: U64, epoch: I64, hi: U64, lo: U64) -> None:
        """The same of sequences that hold whole conversations: (conversations,) `row` the sequence of each, `tokens` what counts
        of it, `sums` a hash of that; (sequences,) the others."""
        path, per_epoch = self._facts.path(shard), self._record.available_tokens
        offset = start + np.cumsum(tokens) - tokens
        if (epoch != offset[np.flatnonzero(np.diff(row, prepend=-1))] // per_epoch).any():
            what = f"{path}: a sequence of domain {self._name!r} says another epoch than its place in the stream"
            self._problems.add("epochs", [what])
        if (offset % per_epoch + tokens > per_epoch).any():
            self._problems.add("epochs", [f"{path}: an epoch of domain {self._name!r} ends within a document"])
        part = TokensFound(len(epoch), int(tokens.sum()), ended=True, largest=int(tokens.max()))
        every = np.arange(1, len(epoch) + 1)
        self._name_rows(path, shard, part, epoch, every, every, hi, lo)
        of_epoch = offset // per_epoch
        for number in np.unique(of_epoch).tolist():
            part.documents[number] = int((of_epoch == number).sum())
            part.ids[number] = int(sums[of_epoch == number].sum(dtype=np.uint64))
        self.found.join(self._facts, self._index, part, self._problems)

    def _check_begins(self, path: str, row_ends: I64, tokens: I64, ends: I64, begun: I64, begins: I64, at_first: bool) -> None:
        """A document begins behind each end-of-text. Whether one does at the first token is checked where shards join."""
        at = ends[ends < row_ends[-1]]
        if at_first:
            at = np.append(0, at)
        row = np.searchsorted(row_ends, at, "right")
        expected = np.bincount(row, minlength=len(tokens)), at - (row_ends - tokens)[row]
        if not all(map(np.array_equal, expected, (begun, begins))):
            self._problems.add("document starts", [_wrong_starts(path, self._name)])

    def _name_rows(
        self, path: str, shard: int, part: TokensFound, epoch: I64, row_ends: I64, ends: I64, hi: U64, lo: U64
    ) -> None:
        """Rows that begin in one document name it alike, and the ranks of the documents only grow in an epoch."""
        rank = np.empty(len(hi), np.uint64)
        for number in np.unique(epoch).tolist():
            at = epoch == number
            rank[at] = rank_hashes(hi[at], self._facts.salt(self._index, number))
        ended = np.searchsorted(ends, row_ends, "right")
        between = np.diff(np.append(0, ended)) > 0  # a document ends in the row
        rows = [NamedRow(int(epoch[n]), int(rank[n]), int(hi[n]), int(lo[n]), shard) for n in (0, -1)]
        part.first, part.last, part.last_ends = rows[0], rows[1], bool(between[-1])
        said = []
        if ((~between[:-1]) & ((hi[1:] != hi[:-1]) | (lo[1:] != lo[:-1]))).any():
            said.append(f"{path}: sequences of domain {self._name!r} name one document by two hashes")
        if ((epoch[1:] == epoch[:-1]) & (rank[1:] < rank[:-1])).any():
            said.append(f"{path}: the documents that domain {self._name!r} names are not in the order of their hashes")
        self._problems.add("order", said)

    def _count_epochs(self, path: str, part: TokensFound, flat: _Ids, ends: I64, start: int) -> None:
        """Sum up the tokens by epoch; a document ends where an epoch does. `ends` are the places in `flat` behind end-of-text,
        and `start` is where `flat` begins in the stream."""
        per_epoch, sums = self._record.available_tokens, mix64([flat], 0)
        first, last = start // per_epoch, (start + len(flat)) // per_epoch
        edges = np.arange(first + 1, last + 1) * per_epoch - start
        begins, stops = [0, *edges.tolist()], [*edges.tolist(), len(flat)]
        for number, begin, end in zip(range(first, last + 1), begins, stops, strict=True):
            if end > begin:
                part.documents[number] = int(((ends > begin) & (ends <= end)).sum())
                part.ids[number] = int(sums[begin:end].sum(dtype=np.uint64))
        if (flat[edges - 1] != self._end).any():
            self._problems.add("epochs", [f"{path}: an epoch of domain {self._name!r} ends within a document"])


def conclude_tokens(facts: SplitFacts, index: int, found: TokensFound, problems: ProblemList) -> None:
    """Say what is wrong with a domain's sequences, once every shard was looked at."""
    name = facts.names[index]
    record = facts.records[name]
    whole = found.tokens // record.available_tokens
    if found.first is not None and not found.begins:
        problems.add("document starts", [_wrong_starts(facts.path(found.first.shard), name)])
    once = found.documents.get(0, 0) + (whole == 0 and found.tail > 0)  # the document that the end cuts counts as well
    largest = max(found.largest, found.head if found.ended else 0)
    problems.add("epochs", _check_whole_epochs(name, record.available_rows, found, whole))
    problems.add("largest documents", check_largest_document(name, record, largest, whole > 0, "tokens"))
    problems.add(
        "totals of domains", check_domain_totals(name, record, found.rows, found.tokens, once, packed=True, unit="tokens")
    )


def _check_whole_epochs(name: str, available: int, found: TokensFound, whole: int) -> list[str]:
    """Each whole epoch has as many documents as were counted, and the ids of the first one."""
    problems = []
    for number in range(whole):
        documents = found.documents.get(number, 0)
        if documents != available:
            problems.append(f"domain {name!r}: epoch {number} holds {documents:,} documents, not its {available:,}")
        elif found.ids.get(number) != found.ids.get(0):
            problems.append(f"domain {name!r}: epoch {number} is made of other ids than its first epoch")
    return problems
