"""The order of the documents of every domain, where rows are texts: hashes decide it, and every epoch holds the same documents.

Rows are looked at in stretches of shards, each by itself, and what was found joins with what was found in the next stretch.

    order      a domain's rows go by epoch and by the rank of their hash. Rows of one rank are a group: nearly always one document
               and its copies, whose order is told by their keys. The first and the last group of a stretch may go on in the next
               one, so their rows are kept until they are joined.
    epochs     sums over the documents of each epoch. Of whole epochs they are those that the survey counted. The last epoch may
               be cut by the quota: then its documents before the last row's rank are those that the first epoch has below it.

So a stretch must know where the last epoch of each domain ends (`find_cuts`). Which of several identical rows is which copy does
not matter to their order. Memory: some 100 bytes for each domain and epoch, and the rows of two groups a domain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from chameleon_data.arrays import I64, U64
from chameleon_data.hashing import MODULUS, mix64
from chameleon_data.plan.copies import number_copies
from chameleon_data.plan.order import order_keys, rank_hashes
from chameleon_data.versions.checks.counts import check_copies_written, check_domain_totals, check_largest_document
from chameleon_data.versions.checks.problems import ProblemList
from chameleon_data.versions.checks.split_facts import SplitFacts
from chameleon_data.versions.manifest import name_tokens

_Rows = npt.NDArray[Any]
"""(rows,) of OPEN or SUMS."""
OPEN = np.dtype([("domain", "<i8"), ("epoch", "<i8"), ("rank", "<u8"), ("hi", "<u8"), ("lo", "<u8"), ("rows", "<i8"),
                 ("shard", "<i8")])  # fmt: skip
"""Rows of groups that may go on: `rows` identical ones that follow each other, the first of them in `shard`."""
SUMS = np.dtype([("domain", "<i8"), ("epoch", "<i8"), ("rows", "<i8"), ("tokens", "<i8"), ("bytes", "<i8"),
                 ("hashes", "<u8", (4,)), ("mixed", "<u8"), ("before", "<i8"), ("mixed_before", "<u8")])  # fmt: skip
"""Of one domain in one epoch: `hashes` are sums of the four quarters of the documents' hashes; `mixed` of a hash of hash and
tokens, modulo 2^64; `before` and `mixed_before` count the documents before the place where the last epoch is cut."""


class DocumentRows(NamedTuple):
    """(rows,) columns of the rows of a shard, in their order."""

    domain: I64
    """Index among the domains of the split."""
    hi: U64
    lo: U64
    epoch: I64
    tokens: I64

    def take(self, at: npt.NDArray[Any]) -> DocumentRows:
        """Some rows, by their places or by a mask."""
        return DocumentRows(self.domain[at], self.hi[at], self.lo[at], self.epoch[at], self.tokens[at])


@dataclass
class Cuts:
    """Where the last epoch of each domain ends. Arrays are (domains,)."""

    epoch: I64
    """The last epoch; -1 where nobody looked."""
    rank: U64
    """Rank of the last row in it."""

    @classmethod
    def unknown(cls, domains: int) -> Cuts:
        return cls(np.full(domains, -1, np.int64), np.zeros(domains, np.uint64))


def find_cuts(facts: SplitFacts, rows: DocumentRows, cuts: Cuts) -> None:
    """Note in `cuts` where the last epoch of each domain ends by these rows, which are the domain's last ones."""
    for index in np.unique(rows.domain).tolist():
        last = np.flatnonzero(rows.domain == index)[-1:]
        epoch = int(rows.epoch[last[0]])
        cuts.epoch[index], cuts.rank[index] = epoch, rank_hashes(rows.hi[last], facts.salt(index, epoch))[0]


@dataclass
class TextFound:
    """What was found in a stretch of shards. Arrays are (domains,), unless they say otherwise."""

    sums: _Rows
    """(domains and epochs,) SUMS, by domain, then epoch."""
    open: _Rows
    """(rows,) OPEN: those of the first and the last group of each domain, by domain, in their order."""
    largest: I64
    """Tokens of the largest document."""
    copies: I64
    """Rows of the first epoch that repeat an earlier row of their domain."""
    most_first: I64
    """The most copies of one document in the first epoch, and in any later one."""
    most_later: I64
    texts: bool
    """Whether every row held its text, so that its bytes are known."""

    @classmethod
    def nothing(cls, domains: int) -> TextFound:
        zeros = np.zeros(domains, np.int64)
        return cls(np.zeros(0, SUMS), np.zeros(0, OPEN), zeros, zeros.copy(), zeros.copy(), zeros.copy(), True)

    def join(self, facts: SplitFacts, later: TextFound, problems: ProblemList) -> None:
        """Take what was found in the next stretch."""
        self.sums = _add_sums(self.sums, later.sums)
        self.largest, self.copies = np.maximum(self.largest, later.largest), self.copies + later.copies
        self.most_first, self.most_later = (np.maximum(getattr(self, n), getattr(later, n)) for n in ("most_first", "most_later"))
        self.texts &= later.texts
        self.open = self.close_groups(facts, np.concatenate([self.open, later.open]), problems)

    def close_groups(self, facts: SplitFacts, rows: _Rows, problems: ProblemList) -> _Rows:
        """Check groups that cannot go on, and return the rows of those that can: the first and the last group of each domain.

        `rows` are OPEN, by domain in their order once they are sorted by domain.
        """
        rows = rows[np.argsort(rows["domain"], kind="stable")]
        if not len(rows):
            return rows
        new_domain = np.append(True, rows["domain"][1:] != rows["domain"][:-1])
        after, same = rows[1:], ~new_domain[1:]
        behind = (after["epoch"] < rows["epoch"][:-1]) | (
            (after["epoch"] == rows["epoch"][:-1]) & (after["rank"] < rows["rank"][:-1])
        )
        problems.add("order", (_misplaced(facts, row) for row in after[same & behind]))
        begins = new_domain | np.append(True, (after["epoch"] != rows["epoch"][:-1]) | (after["rank"] != rows["rank"][:-1]))
        group = np.cumsum(begins) - 1
        first, last = group[new_domain], group[np.append(new_domain[1:], True)]
        closed = np.ones(group[-1] + 1, bool)
        closed[first] = closed[last] = False
        self.check_groups(facts, rows[closed[group]], problems)
        still_open: _Rows = rows[~closed[group]]
        return still_open

    def check_groups(self, facts: SplitFacts, rows: _Rows, problems: ProblemList, cut: bool = False) -> None:
        """Count the copies in whole groups and check the order in them; with `cut`, copies may be missing, so not the order."""
        if not len(rows):
            return
        keys = rows["domain"], rows["epoch"], rows["rank"]
        begins = np.append(True, np.any([key[1:] != key[:-1] for key in keys], axis=0))
        group = np.cumsum(begins) - 1
        several = np.flatnonzero(np.bincount(group)[group] > 1)  # rows of one rank that are not all the same document
        self._count_copies(np.delete(rows, several))
        if len(several):
            runs, of = rows[several], group[several]
            places, inverse = np.unique(runs[["domain", "epoch", "hi", "lo"]], return_inverse=True)
            total = np.zeros(len(places), OPEN)
            for name in ("domain", "epoch"):
                total[name] = places[name]
            np.add.at(total["rows"], inverse, runs["rows"])
            self._count_copies(total)
            if not cut:
                problems.add("order", _find_moved_copies(facts, runs, of))

    def _count_copies(self, rows: _Rows) -> None:
        """Count the rows of each document, which stand in one row each."""
        first = rows["epoch"] == 0
        np.add.at(self.copies, rows["domain"][first], rows["rows"][first] - 1)
        np.maximum.at(self.most_first, rows["domain"][first], rows["rows"][first])
        np.maximum.at(self.most_later, rows["domain"][~first], rows["rows"][~first])


def _misplaced(facts: SplitFacts, row: np.void) -> str:
    name = facts.names[int(row["domain"])]
    return f"{facts.path(int(row['shard']))}: the documents of domain {name!r} are not in the order of their hashes"


def _find_moved_copies(facts: SplitFacts, runs: _Rows, group: I64) -> list[str]:
    """Documents that share a rank go by key and tie, which depend on the number of the copy."""
    at = np.repeat(np.arange(len(runs)), runs["rows"])
    rows, of = runs[at], group[at]
    pairs, inverse = np.unique(rows[["domain", "epoch"]], return_inverse=True)
    salts = np.array([facts.salt(int(d), int(e)) for d, e in pairs], np.uint64)
    copy = number_copies(of, rows["hi"], rows["lo"])
    key, tie = order_keys(rows["hi"], rows["lo"], copy, salts[inverse])
    order = np.lexsort((tie, key, of))
    moved = (rows["hi"][order] != rows["hi"]) | (rows["lo"][order] != rows["lo"])
    return [_misplaced(facts, rows[index]) for index in np.flatnonzero(moved)[:1]]


def _add_sums(*sums: _Rows) -> _Rows:
    """SUMS of the same domain and epoch, added up."""
    rows = np.concatenate(sums)
    keys, inverse = np.unique(rows[["domain", "epoch"]], return_inverse=True)
    total = np.zeros(len(keys), SUMS)
    total["domain"], total["epoch"] = keys["domain"], keys["epoch"]
    for name in ("rows", "tokens", "bytes", "hashes", "mixed", "before", "mixed_before"):
        np.add.at(total[name], inverse, rows[name])
    return total


class TextOrderCheck:
    """Takes the rows of a stretch of shards in output order, one shard after the other."""

    def __init__(self, facts: SplitFacts, cuts: Cuts, problems: ProblemList) -> None:
        self._facts, self._cuts, self._problems = facts, cuts, problems
        self.found = TextFound.nothing(len(facts.names))

    def add(self, shard: int, rows: DocumentRows, sizes: I64 | None) -> None:
        """The rows of the next shard; at least one. `sizes` are (rows,) bytes, where the rows hold their text."""
        facts, found = self._facts, self.found
        order = np.argsort(rows.domain, kind="stable")
        rows = rows.take(order)
        np.maximum.at(found.largest, rows.domain, rows.tokens)
        epochs = int(rows.epoch.max()) + 1
        pairs, inverse = np.unique(rows.domain * epochs + rows.epoch, return_inverse=True)
        domain, epoch = pairs // epochs, pairs % epochs
        salts = np.array([facts.salt(d, e) for d, e in zip(domain.tolist(), epoch.tolist(), strict=True)], np.uint64)
        rank = rank_hashes(rows.hi, salts[inverse])
        found.sums = _add_sums(found.sums, self._sum(rows, rank, None if sizes is None else sizes[order], domain, epoch, inverse))
        found.texts &= sizes is not None
        again = np.append(False, (np.diff(inverse) == 0) & (rows.hi[1:] == rows.hi[:-1]) & (rows.lo[1:] == rows.lo[:-1]))
        starts = np.flatnonzero(~again)
        runs = np.empty(len(starts), OPEN)
        for name, column in (("domain", rows.domain), ("epoch", rows.epoch), ("rank", rank), ("hi", rows.hi), ("lo", rows.lo)):
            runs[name] = column[starts]
        runs["rows"], runs["shard"] = np.diff(np.append(starts, len(again))), shard
        found.open = found.close_groups(facts, np.concatenate([found.open, runs]), self._problems)

    def _sum(self, rows: DocumentRows, rank: U64, sizes: I64 | None, domain: I64, epoch: I64, inverse: I64) -> _Rows:
        """SUMS of the rows of a shard."""
        sums = np.zeros(len(domain), SUMS)
        sums["domain"], sums["epoch"] = domain, epoch
        mixed, low = mix64([rows.hi, rows.lo, rows.tokens], 0), np.uint64(0xFFFFFFFF)
        before = self._find_before(rows, rank)
        quarters = np.stack([rows.lo & low, rows.lo >> np.uint64(32), rows.hi & low, rows.hi >> np.uint64(32)], axis=1)
        columns: dict[str, Any] = {
            "rows": 1, "tokens": rows.tokens, "bytes": 0 if sizes is None else sizes, "hashes": quarters, "mixed": mixed,
            "before": before.astype(np.int64), "mixed_before": np.where(before, mixed, np.uint64(0)),
        }  # fmt: skip
        for name, values in columns.items():
            np.add.at(sums[name], inverse, values)
        return sums

    def _find_before(self, rows: DocumentRows, rank: U64) -> npt.NDArray[np.bool_]:
        """(rows,) whether a document comes before the place where the last epoch of its domain is cut: rows of that epoch, and
        of the first one, whose documents that epoch repeats."""
        cut, until = self._cuts.epoch[rows.domain], self._cuts.rank[rows.domain]
        before: npt.NDArray[np.bool_] = (cut > 0) & (rows.epoch == cut) & (rank < until)
        repeated = np.flatnonzero((cut > 0) & (rows.epoch == 0))
        if len(repeated):
            domains, inverse = np.unique(rows.domain[repeated], return_inverse=True)
            salts = np.array([self._facts.salt(d, int(self._cuts.epoch[d])) for d in domains.tolist()], np.uint64)
            before[repeated] = rank_hashes(rows.hi[repeated], salts[inverse]) < until[repeated]
        return before


def conclude_texts(facts: SplitFacts, cuts: Cuts, found: TextFound, problems: ProblemList) -> None:
    """Say what is wrong with the order and the epochs of each domain, once every shard was looked at."""
    records = list(facts.records.values())
    available = np.array([record.available_rows for record in records], np.int64)
    of_domain = np.searchsorted(found.sums["domain"], np.arange(len(records) + 1))
    last = np.zeros(len(records), np.int64)
    whole = np.zeros(len(records), bool)
    for index, (begin, end) in enumerate(zip(of_domain[:-1].tolist(), of_domain[1:].tolist(), strict=True)):
        if end > begin:
            last[index] = found.sums["epoch"][end - 1]
            whole[index] = found.sums["rows"][end - 1] >= available[index]
        else:
            whole[index] = available[index] <= 0
    rows = found.open
    ends = np.append(rows["domain"][1:] != rows["domain"][:-1], True) if len(rows) else np.zeros(0, bool)
    final = rows[ends]
    place = np.zeros(len(records), OPEN)
    place[final["domain"]] = final
    at_end = (rows["epoch"] == place["epoch"][rows["domain"]]) & (rows["rank"] == place["rank"][rows["domain"]])
    cut = at_end & ~whole[rows["domain"]]
    found.check_groups(facts, rows[~cut], problems)
    found.check_groups(facts, rows[cut], problems, cut=True)
    for index, (begin, end) in enumerate(zip(of_domain[:-1].tolist(), of_domain[1:].tolist(), strict=True)):
        sums = {int(one["epoch"]): one for one in found.sums[begin:end]}
        _conclude_domain(facts, cuts, found, index, sums, int(last[index]), bool(whole[index]), problems)


def _conclude_domain(
    facts: SplitFacts, cuts: Cuts, found: TextFound, index: int, sums: dict[int, Any], last: int, whole: bool,
    problems: ProblemList,
) -> None:  # fmt: skip
    name, unit = facts.names[index], name_tokens(facts.manifest.unit)
    record = facts.records[name]
    rows, tokens = (sum(int(one[column]) for one in sums.values()) for column in ("rows", "tokens"))
    once, every_document = int(sums[0]["rows"]) if 0 in sums else 0, last > 0 or whole
    most = max(1, int(found.most_first[index]))
    if found.most_later[index] > most:
        problems.add("copies", [f"a later epoch of domain {name!r} holds a document more often than its first"])
    if last and not whole and cuts.epoch[index] == last:
        problems.add("epochs", _check_cut_epoch(name, last, sums))
    if last * record.available_tokens >= record.target_tokens:
        problems.add("epochs", [f"domain {name!r}: epoch {last} begins after its {record.target_tokens:,} {unit}"])
    counted = (record.available_rows, record.available_tokens, record.available_bytes, int(record.multiset, 16))
    problems.add("epochs", _check_whole_epochs(name, counted, sums, last, whole, found.texts))
    problems.add("largest documents", check_largest_document(name, record, int(found.largest[index]), every_document, unit))
    if every_document:
        problems.add("copies", check_copies_written(name, record, int(found.copies[index]), most))
    problems.add("totals of domains", check_domain_totals(name, record, rows, tokens, once, packed=False, unit=unit))


def _check_cut_epoch(name: str, last: int, sums: dict[int, Any]) -> list[str]:
    """A last epoch that is not whole holds every document of the first one that comes before its end."""
    first, cut = (sums.get(epoch, np.zeros((), SUMS)) for epoch in (0, last))
    if cut["before"] < first["before"]:
        return [f"domain {name!r}: its last epoch leaves out documents before its end"]
    if (cut["before"], cut["mixed_before"]) != (first["before"], first["mixed_before"]):
        return [f"epoch {last} of domain {name!r} holds other documents than its first epoch"]
    return []


def _check_whole_epochs(
    name: str, counted: tuple[int, int, int, int], sums: dict[int, Any], last: int, whole: bool, texts: bool
) -> list[str]:
    """Each whole epoch is every document that the survey counted, once: (rows, tokens, bytes, sum of hashes)."""
    problems = []
    numbers = {*sums, *range(min(last, len(sums)))} - (set() if whole else {last})
    for number in sorted(numbers):
        one = sums.get(number, np.zeros((), SUMS))
        size = int(one["bytes"]) if texts else counted[2]
        multiset = sum(int(quarter) << (32 * n) for n, quarter in enumerate(one["hashes"])) % MODULUS
        if (int(one["rows"]), int(one["tokens"]), size, multiset) != counted:
            problems.append(f"domain {name!r}: epoch {number} is not each of its {counted[0]:,} documents once")
        elif 0 in sums and one["mixed"] != sums[0]["mixed"]:
            problems.append(f"epoch {number} of domain {name!r} holds other documents than its first epoch")
    return problems
