"""Selects the rows of the corpus that may be written: copies are dropped, validation is held out, and the rest is counted.

It reads the survey's records of rows (hash, tokens, bytes), never text, and by ranges of hashes (`row_records.py`): a corpus of
few rows is one range, which the driver counts; the ranges of a larger one are tasks (`pipelines/select.py`), whose counts add up.

    dedup        Copies are found by content hash (`copies.py`).
    validation   A document is held out where the low half of its hash, which is always of its text, is below share * 2^64.

So equal texts are on the same side in every domain and every version, and a larger share holds all that a smaller one does.
The driver holds numbers for each domain, and a histogram of 2^24 buckets in all, or of a bucket a range and domain.
Cost: 3.3 million rows a second on one core; `dedup` reads the records once more.
Why: docs/decisions/024-validation-by-hash.md, docs/decisions/140-selection-by-ranges-of-hashes.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa

from chameleon_data.arrays import I64, U64, Mask
from chameleon_data.corpus.copies import CopyFilter
from chameleon_data.corpus.row_records import RowRecords, group_parts, range_bits
from chameleon_data.corpus.survey import Survey
from chameleon_data.corpus.tokens import TokenCounter
from chameleon_data.errors import InputError
from chameleon_data.hashing import MODULUS, fingerprint
from chameleon_data.plan.order import DEPTHS
from chameleon_data.plan.plan import TRAIN, VALIDATION, DomainCount, Packing, histogram_depth
from chameleon_data.recipe import Input, Shards
from chameleon_data.store.adapters import type_adapter
from chameleon_data.store.checksummed import read_record, read_table, write_record, write_table
from chameleon_data.store.paths import SelectionFolder
from chameleon_data.store.store import Store

MOST_BUCKETS = 1 << 24
"""Buckets of all domains together, unless there is but one for each range and domain: 270 MB on the driver."""
SELECTION_FORMAT = 1
"""Part of the folder's name. Raise it when a file of a task changes."""
_COUNTED = ("rows", "tokens", "bytes", "largest", "word0", "word1", "word2", "word3")


@dataclass(frozen=True)
class SelectionRules:
    """Which rows may be written, and in what unit they are counted."""

    dedup: str
    """none, exact or exact_across, as `input.dedup`."""
    by_id: bool
    """Whether the high half of a hash is of the document's id."""
    columns: bool
    """Whether the low 32 bits of the high half also tell the kept columns apart."""
    threshold: int
    """Documents whose low hash is below it are held out for validation; 0: none are."""
    packing: Packing | None
    """How sequences are packed; None where rows are texts."""
    token_bytes: int
    """Bytes of one token id in a sequence; 0 where rows are texts."""

    @property
    def same(self) -> tuple[str, ...]:
        """The columns by which two rows are copies: `top` is the high half of the hash without its low 32 bits, in which kept
        columns are; where the high half is of an id, the low half and the length in bytes."""
        if self.by_id:
            return "lo", "bytes"
        return ("top", "lo") if self.columns else ("hi", "lo")

    @property
    def splits(self) -> tuple[str, ...]:
        return (TRAIN, VALIDATION) if self.threshold else (TRAIN,)


@dataclass(frozen=True)
class RangedCorpus:
    """What the tasks of ranges know of a corpus. It stands beside their files."""

    domains: tuple[str, ...]
    """Domains with usable rows, in byte order of name."""
    depths: tuple[int, ...]
    """(domains,) bits of the hash by which the rows of each are counted; at least `bits`."""
    bits: int
    """log2 of the number of ranges."""
    groups: tuple[int, ...]
    """The first part of each group, and the number of parts."""
    source_begins: tuple[int, ...]
    """First part of each source, in the order of parts."""
    source_ranks: tuple[int, ...]
    """Place of each of these sources in the recipe."""

    @property
    def ranges(self) -> int:
        return 1 << self.bits

    @property
    def source_rank(self) -> I64:
        """(parts,) place of each part's source in the recipe."""
        return np.repeat(np.array(self.source_ranks, np.int64), np.diff([*self.source_begins, self.groups[-1]]))


@dataclass(frozen=True)
class Selection:
    """The rows that may be written, counted, and what tells them from the others."""

    rules: SelectionRules
    corpus: RangedCorpus
    folder: SelectionFolder
    """Where the records and copies of ranges are."""
    splits: dict[str, tuple[DomainCount, ...]]
    """Split -> its domains in byte order of name. `train`, and `validation` where some is held out."""
    dropped: dict[str, int]
    """Domain -> rows that are dropped as copies."""

    @property
    def counts(self) -> tuple[DomainCount, ...]:
        """Domains of the train split."""
        return self.splits[TRAIN]

    @property
    def drops_copies(self) -> bool:
        return self.rules.dedup != "none"

    def held_out(self, name: str) -> int:
        """Rows of a domain that are held out for validation."""
        return next((c.rows for c in self.splits.get(VALIDATION, ()) if c.name == name), 0)


def make_selection_rules(input: Input, validation: float, shards: Shards, counter: TokenCounter, columns: bool) -> SelectionRules:
    """The rules of a recipe; `validation` is the share to hold out, `columns` says whether some are kept. Conversations are
    placed as documents are, and packed when a shard is assembled."""
    length = "none" if counter.chat else shards.sequence_length
    return SelectionRules(
        input.dedup,
        input.hash == "id",
        columns,
        round(validation * 2**64),
        None if length == "none" else Packing(length, shards.packing == "whole"),
        0 if length == "none" else counter.dtype.itemsize,
    )


def range_corpus(survey: Survey, rules: SelectionRules, priority: Sequence[str]) -> tuple[RangedCorpus, SelectionFolder]:
    """How a corpus is cut in ranges, and the folder of their tasks. `priority` are the sources in the recipe's order."""
    rows = {name: tally.rows for name, tally in survey.tallies.items() if tally.rows}
    domains = tuple(sorted(rows, key=str.encode))
    bits = range_bits(sum(rows.values()))
    wanted = [max(histogram_depth(rows[name]), bits) for name in domains]
    most = next(depth for depth in reversed(DEPTHS) if depth <= bits or sum(1 << min(d, depth) for d in wanted) <= MOST_BUCKETS)
    sources = [part.source for part in survey.parts]
    begins = [number for number, source in enumerate(sources) if number == 0 or source != sources[number - 1]]
    corpus = RangedCorpus(
        domains,
        tuple(min(depth, max(most, bits)) for depth in wanted),
        bits,
        group_parts(survey.part_rows),
        tuple(begins),
        tuple(priority.index(sources[number]) for number in begins),
    )
    keys = [part.key for part in survey.parts]
    return corpus, SelectionFolder(fingerprint([SELECTION_FORMAT, keys, asdict(rules), asdict(corpus)])[:32])


def write_corpus(store: Store, folder: SelectionFolder, corpus: RangedCorpus) -> None:
    """Leave it for the tasks."""
    write_record(store, folder.corpus, {"format": SELECTION_FORMAT, **asdict(corpus)})


def read_corpus(store: Store, folder: SelectionFolder) -> RangedCorpus:
    record = read_record(store, folder.corpus)
    del record["format"]  # it is part of the folder's name
    corpus: RangedCorpus = type_adapter(RangedCorpus).validate_python(record)
    return corpus


def is_validation(lo: U64, threshold: int) -> Mask:
    """(rows,) whether a document with this low hash is held out."""
    return lo < np.uint64(threshold)


def select_records(records: Iterable[RowRecords], copies: pa.Table, rules: SelectionRules) -> Iterator[tuple[str, RowRecords]]:
    """(split, rows) of records in order, without the copies that are dropped. `copies` (COPIES_SCHEMA) are those of the same
    parts and hashes. `tokens` counts end-of-text too, where rows are sequences."""
    copy_filter = CopyFilter(copies) if copies.num_rows else None
    for rows in records:
        if copy_filter is not None:
            rows = rows.take(copy_filter.mask(rows.part, rows.domain, rows.hi, rows.lo))
        if rules.packing:
            rows = RowRecords(rows.part, rows.domain, rows.hi, rows.lo, rows.tokens + 1, rows.bytes)
        if not rules.threshold:
            yield TRAIN, rows
            continue
        held = is_validation(rows.lo, rules.threshold)
        yield TRAIN, rows.take(~held)
        yield VALIDATION, rows.take(held)


class RowCounts:
    """The counts of one split by domain in one range of hashes: rows, tokens, bytes, the largest document, a sum for each of the
    four 32-bit words of the hashes, and histograms. Counts of several ranges add up."""

    def __init__(self, corpus: RangedCorpus, rules: SelectionRules, number: int) -> None:
        """`number` is the range's."""
        self._corpus, self._rules = corpus, rules
        self._depth = np.array(corpus.depths, np.int64)
        sizes = np.int64(1) << (self._depth - corpus.bits)
        self._start = np.cumsum(sizes) - sizes - number * sizes
        """(domains,) place of a domain's bucket 0, were it in this range."""
        self.table = np.zeros((len(_COUNTED), len(corpus.domains)), np.uint64)
        """As _COUNTED names them."""
        self.histogram = np.zeros((2, int(sizes.sum())), np.int64)
        """Rows and tokens of the range's buckets, by domain."""

    def add(self, rows: RowRecords) -> None:
        depth = self._depth[rows.domain]
        bucket = (rows.hi >> np.minimum(64 - depth, 63).astype(np.uint64)).astype(np.int64) * (depth > 0)
        slot = self._start[rows.domain] + bucket
        np.add.at(self.histogram[0], slot, 1)
        np.add.at(self.histogram[1], slot, rows.tokens)
        size = rows.tokens * self._rules.token_bytes if self._rules.packing else rows.bytes
        words = [half >> np.uint64(shift) & np.uint64(0xFFFFFFFF) for half in (rows.lo, rows.hi) for shift in (0, 32)]
        added = (np.ones(len(rows), np.uint64), rows.tokens.astype(np.uint64), size.astype(np.uint64), *words)
        for name, values in zip([name for name in _COUNTED if name != "largest"], added, strict=True):
            np.add.at(self.table[_COUNTED.index(name)], rows.domain, values)
        np.maximum.at(self.table[_COUNTED.index("largest")], rows.domain, rows.tokens.astype(np.uint64))

    def write(self, store: Store, folder: SelectionFolder, split: str, number: int) -> None:
        """Leave the counts of a range for the driver."""
        write_table(store, folder.histogram(number, split), pa.table(list(self.histogram), names=["rows", "tokens"]))
        write_table(store, folder.counts(number, split), pa.table(list(self.table), names=list(_COUNTED)))

    def read(self, store: Store, folder: SelectionFolder, split: str, number: int) -> None:
        """Take what `write` left."""
        for path, into in ((folder.histogram(number, split), self.histogram), (folder.counts(number, split), self.table)):
            for row, column in zip(into, read_table(store, path).columns, strict=True):
                row[:] = column.to_numpy()


def count_records(
    records: Iterable[RowRecords], copies: pa.Table, rules: SelectionRules, corpus: RangedCorpus, number: int
) -> dict[str, RowCounts]:
    """Split -> counts of the rows of one range; `copies` are those of the range."""
    counts = {split: RowCounts(corpus, rules, number) for split in rules.splits}
    for split, rows in select_records(records, copies, rules):
        counts[split].add(rows)
    return counts


class _Totals:
    """The counts of all ranges of one split."""

    def __init__(self, corpus: RangedCorpus) -> None:
        self._corpus = corpus
        self._depth = np.array(corpus.depths, np.int64)
        self._size = np.int64(1) << (self._depth - corpus.bits)
        self.table = np.zeros((len(_COUNTED), len(corpus.domains)), np.uint64)
        self._histogram = np.zeros((2, int((self._size << corpus.bits).sum())), np.int64)

    def add(self, number: int, table: Sequence[U64], histogram: Sequence[I64]) -> None:
        """Add the counts of a range; `table` and `histogram` as in `RowCounts`."""
        for name, sums, values in zip(_COUNTED, self.table, table, strict=True):
            (np.maximum if name == "largest" else np.add)(sums, values, out=sums)
        end = np.cumsum(self._size << self._corpus.bits)
        begin = end - (self._size << self._corpus.bits) + number * self._size
        place = np.repeat(begin - (np.cumsum(self._size) - self._size), self._size) + np.arange(int(self._size.sum()))
        for whole, buckets in zip(self._histogram, histogram, strict=True):
            whole[place] = buckets

    def counts(self) -> tuple[DomainCount, ...]:
        """Domains that have a row in this split."""
        counts, ends = [], np.cumsum(self._size << self._corpus.bits)
        for code, histogram in enumerate(np.split(self._histogram, ends[:-1], axis=1)):
            rows, tokens, size, largest, *words = (int(value) for value in self.table[:, code])
            if rows:
                depth = min(int(self._depth[code]), max(histogram_depth(rows), self._corpus.bits))
                buckets = histogram.reshape(2, 1 << depth, -1).sum(axis=2).T
                multiset = sum(word << (32 * i) for i, word in enumerate(words)) % MODULUS
                counts.append(DomainCount(self._corpus.domains[code], rows, tokens, size, largest, multiset, buckets))
        return tuple(counts)


def sum_counts(
    survey: Survey,
    rules: SelectionRules,
    corpus: RangedCorpus,
    folder: SelectionFolder,
    counts: Iterable[tuple[int, Mapping[str, RowCounts]]],
) -> Selection:
    """The selection, from the counts of all ranges by their numbers. Raises InputError for a domain that has no row in a
    split."""
    totals = {split: _Totals(corpus) for split in rules.splits}
    for number, of_range in counts:
        for split, total in totals.items():
            total.add(number, list(of_range[split].table), list(of_range[split].histogram))
    splits = {split: total.counts() for split, total in totals.items()}
    for split, found in splits.items():
        if absent := sorted(set(corpus.domains) - {c.name for c in found}):
            raise InputError(_nothing_left(absent[0], split, survey, rules))
    kept = sum(total.table[_COUNTED.index("rows")].astype(np.int64) for total in totals.values())
    dropped = {name: survey.tallies[name].rows - int(rows) for name, rows in zip(corpus.domains, kept, strict=True)}
    return Selection(rules, corpus, folder, splits, dropped)


def read_counts(
    store: Store, folder: SelectionFolder, rules: SelectionRules, corpus: RangedCorpus, number: int
) -> dict[str, RowCounts]:
    """Split -> counts of a range, as its task left them."""
    counts = {split: RowCounts(corpus, rules, number) for split in rules.splits}
    for split, of_split in counts.items():
        of_split.read(store, folder, split, number)
    return counts


def _nothing_left(name: str, split: str, survey: Survey, rules: SelectionRules) -> str:
    rows = survey.tallies[name].rows
    if rules.threshold:
        return (
            f"domain {name!r}: none of its {rows:,} documents falls on the {split} side at 'mix.validation: "
            f"{rules.threshold / 2**64:g}'; {'raise' if split == VALIDATION else 'lower'} it, or join the domain with another one"
        )
    return f"domain {name!r}: each of its {rows:,} documents is a copy from another domain; take it out, or use 'dedup: exact'"
