"""The order of one domain's documents, where rows are packed sequences: their ids without padding are the domain's stream.

Proved are: documents end where end-of-text stands, and `doc_starts` says where the next begin; an epoch is as many documents and
tokens as were counted; every whole epoch is made of the same ids; the documents that rows name follow each other in the order of
their hashes. The ids do not say which document they are of. Memory for each domain: a few numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from chameleon_data.arrays import I64, U64
from chameleon_data.hashing import key64, mix64
from chameleon_data.plan.order import rank_hashes
from chameleon_data.plan.plan import Packing
from chameleon_data.versions.checks.counts import check_domain_totals, check_largest_document
from chameleon_data.versions.manifest import SplitRecord

_Ids = npt.NDArray[Any]
"""(sequences, length) or (tokens,) of uint16 or uint32."""


@dataclass
class _EpochEnded:
    """Sums over the tokens of one epoch."""

    documents: int = 0
    """Documents that ended in it."""
    ids: int = 0
    """Sum of a hash of its ids modulo 2^64."""


class TokenOrderCheck:
    """Takes the domain's sequences in output order, shard by shard, and says at the end what is wrong with them."""

    def __init__(self, name: str, record: SplitRecord, seed: int, packing: Packing, end_of_text: int) -> None:
        self._name, self._record, self._seed, self._packing, self._end = name, record, seed, packing, end_of_text
        self._problems: list[str] = []
        self._epochs: dict[int, _EpochEnded] = {}
        self._rows = self._tokens = 0
        """Sequences and tokens so far."""
        self._documents = 0
        """Documents that have ended."""
        self._begun = 0
        """Tokens before the document that goes on."""
        self._largest = 0
        """Tokens of the largest document."""
        self._last = (-1, 0, -1, 0, 0)
        """The last row: its epoch, the rank and the number of its document, that document's hash in two halves."""

    def count_first_piece(self, ids: _Ids, tokens: I64) -> I64:
        """(sequences,) tokens of the first piece of each row of `ids`, from which the row's anchor is computed."""
        if not self._packing.whole:
            return tokens
        ended = ids == self._end
        return np.where(ended.any(axis=1), ended.argmax(axis=1) + 1, self._packing.length).astype(np.int64)

    def add(self, path: str, ids: _Ids, tokens: I64, epoch: I64, hi: U64, lo: U64, begun: I64, begins: I64) -> None:
        """The domain's rows in the next shard; at least one. `ids` is (sequences, length), `tokens` counts those that are no
        padding, and the hashes are those of `doc_id`. `begun` and `begins` are the lengths and values of `doc_starts`."""
        filled = np.arange(ids.shape[1]) < tokens[:, None]
        starts, flat = self._tokens + np.cumsum(tokens) - tokens, ids[filled]
        ends = np.flatnonzero(flat == self._end) + 1
        self._check_padding(path, ids[~filled])
        self._check_begins(path, tokens, ends, begun, begins)
        self._check_epoch_numbers(path, epoch, starts)
        self._check_named_documents(path, epoch, self._documents + np.searchsorted(ends, starts - self._tokens, "right"), hi, lo)
        self._count_epochs(path, flat, ends)
        lengths = np.diff(np.append(self._begun - self._tokens, ends))
        self._largest = max(self._largest, int(lengths.max(initial=0)))
        self._documents += len(ends)
        if len(ends):
            self._begun = self._tokens + int(ends[-1])
        self._tokens += len(flat)
        self._rows += len(ids)

    def _check_padding(self, path: str, padding: _Ids) -> None:
        if (padding != self._end).any():
            self._problems.append(f"{path}: what fills a sequence of domain {self._name!r} up is not end-of-text")

    def _check_begins(self, path: str, tokens: I64, ends: I64, begun: I64, begins: I64) -> None:
        """A document begins behind each end-of-text, and where the stream does. `ends` are places in the ids of the shard."""
        row_ends = np.cumsum(tokens)
        at = ends[ends < row_ends[-1]]
        if self._begun == self._tokens:
            at = np.append(0, at)
        row = np.searchsorted(row_ends, at, "right")
        expected = np.bincount(row, minlength=len(tokens)), at - (row_ends - tokens)[row]
        if not all(map(np.array_equal, expected, (begun, begins))):
            self._problems.append(f"{path}: 'doc_starts' of domain {self._name!r} are not where its documents begin")

    def _check_epoch_numbers(self, path: str, epoch: I64, starts: I64) -> None:
        """A sequence says the epoch of its first token."""
        if (epoch != starts // self._record.available_tokens).any():
            self._problems.append(f"{path}: a sequence of domain {self._name!r} says another epoch than its place in the stream")

    def _check_named_documents(self, path: str, epoch: I64, document: I64, hi: U64, lo: U64) -> None:
        """Rows that begin in one document name it alike, and the ranks of the documents only grow in an epoch.

        `document` is (sequences,) the number of the document that each begins in.
        """
        rank = np.empty(len(hi), np.uint64)
        for number in np.unique(epoch).tolist():
            at = epoch == number
            rank[at] = rank_hashes(hi[at], key64(self._seed, self._name, "epoch", number))
        # The last row of the shard before stands in front, so that neighbours are compared across shards too.
        epochs, ranks, documents, high, low = (
            np.append(np.array([last], column.dtype), column)
            for last, column in zip(self._last, (epoch, rank, document, hi, lo), strict=True)
        )
        self._last = int(epochs[-1]), int(ranks[-1]), int(documents[-1]), int(high[-1]), int(low[-1])
        if ((np.diff(documents) == 0) & ((high[1:] != high[:-1]) | (low[1:] != low[:-1]))).any():
            self._problems.append(f"{path}: sequences of domain {self._name!r} name one document by two hashes")
        if ((epochs[1:] == epochs[:-1]) & (ranks[1:] < ranks[:-1])).any():
            self._problems.append(f"{path}: the documents that domain {self._name!r} names are not in the order of their hashes")

    def _count_epochs(self, path: str, flat: _Ids, ends: I64) -> None:
        """Sum up the tokens by epoch; a document ends where an epoch does. `ends` are the places in `flat` behind end-of-text."""
        per_epoch, sums = self._record.available_tokens, mix64([flat], 0)
        first, last = self._tokens // per_epoch, (self._tokens + len(flat)) // per_epoch
        edges = np.arange(first + 1, last + 1) * per_epoch - self._tokens
        begins, stops = [0, *edges.tolist()], [*edges.tolist(), len(flat)]
        for number, begin, end in zip(range(first, last + 1), begins, stops, strict=True):
            if end > begin:
                epoch = self._epochs.setdefault(number, _EpochEnded())
                epoch.documents += int(((ends > begin) & (ends <= end)).sum())
                epoch.ids = (epoch.ids + int(sums[begin:end].sum(dtype=np.uint64))) % 2**64
        if (flat[edges - 1] != self._end).any():
            self._problems.append(f"{path}: an epoch of domain {self._name!r} ends within a document")

    def end(self) -> list[str]:
        """All that is wrong with the domain, once every shard was added."""
        whole = self._tokens // self._record.available_tokens
        documents = self._epochs.get(0, _EpochEnded()).documents
        once = documents + (whole == 0 and self._begun < self._tokens)  # the document that the end cuts counts as well
        return [
            *self._problems,
            *self._check_whole_epochs(whole),
            *check_largest_document(self._name, self._record, self._largest, whole > 0),
            *check_domain_totals(self._name, self._record, self._rows, self._tokens, once, packed=True),
        ]

    def _check_whole_epochs(self, whole: int) -> list[str]:
        """Each whole epoch has as many documents as were counted, and the ids of the first one."""
        problems = []
        for number in range(whole):
            epoch = self._epochs[number]
            if epoch.documents != self._record.available_rows:
                problems.append(
                    f"domain {self._name!r}: epoch {number} holds {epoch.documents:,} documents, not its "
                    f"{self._record.available_rows:,}"
                )
            elif epoch.ids != self._epochs[0].ids:
                problems.append(f"domain {self._name!r}: epoch {number} is made of other ids than its first epoch")
        return problems
