"""Selects the rows of the corpus that may be written: copies are dropped, validation is held out, and the rest is counted.

It reads the survey's records of rows (hash, tokens, bytes), never text.

    dedup        Copies are found by content hash, out of core (`hash_partitions.py`). The copy that is kept is the first by
                 (source as the recipe orders them, domain, high half of the hash, part); `exact` does this in each domain.
    validation   A document is held out where the low half of its hash, which is always of its text, is below share * 2^64.

So equal texts are on the same side in every domain and every version, and a larger share holds all that a smaller one does.
Cost: 3.3 million rows a second on one core; `dedup` reads the records once more.
Why: docs/decisions/024-validation-by-hash.md, docs/decisions/025-dedup-out-of-core.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from chameleon_data.arrays import I64, U64, Mask
from chameleon_data.corpus.hash_partitions import HashedRows, partition_by_hash, select_repeated_hashes
from chameleon_data.corpus.parts import Part
from chameleon_data.corpus.survey import Survey, read_documents
from chameleon_data.corpus.tokens import TokenCounter
from chameleon_data.errors import DefectError, InputError
from chameleon_data.hashing import MODULUS, mix64
from chameleon_data.plan.plan import TRAIN, VALIDATION, DomainCount, Packing, histogram_depth
from chameleon_data.plan.streams import DOCUMENTS_SCHEMA
from chameleon_data.recipe import Input, Shards, Source
from chameleon_data.store.store import Store

DEDUP_ROWS_AT_ONCE = 1 << 24
"""Rows among which copies are sought in memory."""
_ROW = np.dtype([("lo", "<u8"), ("hi", "<u8"), ("bytes", "<i8"), ("domain", "<i4"), ("part", "<i4")])

COPIES_SCHEMA = pa.schema(
    [("part", pa.int64()), ("domain", pa.string()), ("hi", pa.uint64()), ("lo", pa.uint64()), ("kept", pa.bool_())]
)  # fmt: skip
"""Documents of which there are copies, each once for every part and domain that has it. `kept`: the first of them in this part
and domain is the copy that is kept."""


@dataclass(frozen=True)
class SelectionRules:
    """Which rows may be written, and in what unit they are counted."""

    dedup: str
    """none, exact or exact_across, as `input.dedup`."""
    by_id: bool
    """Whether the high half of a hash is of the document's id."""
    priority: tuple[str, ...]
    """Sources in the recipe's order; a copy in an earlier one is kept."""
    threshold: int
    """Documents whose low hash is below it are held out for validation; 0: none are."""
    packing: Packing | None
    """How sequences are packed; None where rows are texts."""
    token_bytes: int
    """Bytes of one token id in a sequence; 0 where rows are texts."""


@dataclass(frozen=True)
class Selection:
    """The rows that may be written, counted, and what tells them from the others."""

    rules: SelectionRules
    splits: dict[str, tuple[DomainCount, ...]]
    """Split -> its domains in byte order of name. `train`, and `validation` where some is held out."""
    copies: pa.Table
    """Schema COPIES_SCHEMA, sorted by (part, domain, hi, lo)."""
    dropped: dict[str, int]
    """Domain -> rows that are dropped as copies."""

    @property
    def counts(self) -> tuple[DomainCount, ...]:
        """Domains of the train split."""
        return self.splits[TRAIN]

    def held_out(self, name: str) -> int:
        """Rows of a domain that are held out for validation."""
        return next((c.rows for c in self.splits.get(VALIDATION, ()) if c.name == name), 0)


def copies_in_part(copies: pa.Table, part: int) -> pa.Table:
    """The rows of `copies` for one part, which is all that the worker of this part needs."""
    begin, end = np.searchsorted(copies["part"].to_numpy(), [part, part + 1])
    return copies.take(np.arange(begin, end))  # not a slice: its whole table would travel to the worker


class CopyFilter:
    """Finds the copies to drop among the rows of one part, which are given in order.

    If this part keeps a document, its first row passes. No row of another document with copies does. Memory: 29 bytes a
    copy, and 111 MB for a million while it sorts. Cost: 2 million rows a second, half of them copies.
    """

    def __init__(self, copies: pa.Table) -> None:
        """`copies` are those of the part (`copies_in_part`)."""
        self._names = pc.unique(copies["domain"].cast(pa.large_string()))
        hi, lo, domain = copies["hi"].to_numpy(), copies["lo"].to_numpy(), self._codes(copies["domain"])
        for salt in range(9):  # two of a million copies have the same key in one of 30 million parts
            self._salt, key = salt, mix64([hi, lo, domain], salt)
            if len(np.unique(key)) == len(key):
                break
        else:
            raise DefectError("a document of a part stands twice in its copies")
        order = np.argsort(key)
        self._key, self._hi, self._lo, self._domain = key[order], hi[order], lo[order], domain[order]
        self._open = copies["kept"].to_numpy()[order]
        """Whether the next row of the document passes."""

    def _codes(self, domain: pa.Array) -> I64:
        return np.asarray(pc.index_in(domain.cast(pa.large_string()), self._names).fill_null(-1), np.int32)

    def mask(self, domain: pa.Array, hi: U64, lo: U64) -> Mask:
        """(rows,) whether each of the next rows is kept; `domain` holds their domains' names."""
        if not len(self._key):
            return np.ones(len(hi), bool)
        code = self._codes(domain)
        key = mix64([hi, lo, code], self._salt)
        at = np.minimum(np.searchsorted(self._key, key), len(self._key) - 1)
        kept: Mask = (self._key[at] != key) | (self._hi[at] != hi) | (self._lo[at] != lo) | (self._domain[at] != code)
        copies = np.flatnonzero(~kept)
        documents, first = np.unique(at[copies], return_index=True)
        kept[copies[first]] = self._open[documents]
        self._open[documents] = False
        return kept


def make_selection_rules(
    sources: Mapping[str, Source], input: Input, validation: float, shards: Shards, counter: TokenCounter
) -> SelectionRules:
    """The rules of a recipe; `validation` is the share to hold out."""
    length = shards.sequence_length
    return SelectionRules(
        input.dedup,
        input.hash == "id",
        tuple(sources),
        round(validation * 2**64),
        None if length == "none" else Packing(length, shards.packing == "whole"),
        0 if length == "none" else counter.dtype.itemsize,
    )


def is_validation(lo: U64, threshold: int) -> Mask:
    """(rows,) whether a document with this low hash is held out."""
    return lo < np.uint64(threshold)


def select_rows(store: Store, survey: Survey, rules: SelectionRules) -> Selection:
    """Find the copies and count the rows of each split. Raises InputError for a domain that has no row in one of them."""
    copies = COPIES_SCHEMA.empty_table() if rules.dedup == "none" else find_copies(store, survey, rules)
    buckets = _Buckets({name: histogram_depth(t.rows) for name, t in survey.tallies.items() if t.rows})
    sums = {split: _Sums(buckets) for split in _splits(rules)}
    for number, part in enumerate(survey.parts):
        for split, documents in read_selected_documents(store, number, part, copies, rules):
            sums[split].add(documents, rules)
    splits = {split: sums[split].counts(rules) for split in sums}
    for split, counts in splits.items():
        if absent := sorted(set(buckets.names) - {c.name for c in counts}):
            raise InputError(_nothing_left(absent[0], split, survey, rules))
    kept = np.sum([s.rows for s in sums.values()], axis=0).tolist()
    dropped = {name: survey.tallies[name].rows - rows for name, rows in zip(buckets.names, kept, strict=True)}
    return Selection(rules, splits, copies, dropped)


def _splits(rules: SelectionRules) -> tuple[str, ...]:
    return (TRAIN, VALIDATION) if rules.threshold else (TRAIN,)


def read_selected_documents(
    store: Store, number: int, part: Part, copies: pa.Table, rules: SelectionRules
) -> Iterator[tuple[str, pl.DataFrame]]:
    """(split, documents) of one part in order, a million at a time and without copies.

    `tokens` counts end-of-text too, where rows are sequences.
    """
    copy_filter = CopyFilter(copies_in_part(copies, number)) if copies.num_rows else None
    for documents in read_documents(store, part):
        if copy_filter is not None:
            hi, lo = documents["hi"].to_numpy(), documents["lo"].to_numpy()
            documents = documents.filter(copy_filter.mask(documents["domain"].cast(pl.String).to_arrow(), hi, lo))
        if rules.packing:
            documents = documents.with_columns(pl.col("tokens") + 1)
        if not rules.threshold:
            yield TRAIN, documents
            continue
        held = is_validation(documents["lo"].to_numpy(), rules.threshold)
        yield TRAIN, documents.filter(~held)
        yield VALIDATION, documents.filter(held)


class _Buckets:
    """The buckets of all domains as one array of slots, so that a batch of any number of domains takes one array operation."""

    def __init__(self, depths: Mapping[str, int]) -> None:
        self.names = list(depths)
        self.depths = np.array(list(depths.values()), np.uint64)
        sizes = 1 << self.depths.astype(np.int64)
        self.ends = np.cumsum(sizes)
        self._starts = self.ends - sizes
        self._code = pl.DataFrame({"domain": self.names, "code": np.arange(len(self.names))})

    def slots(self, documents: pl.DataFrame) -> tuple[I64, I64]:
        """Two (rows,) arrays: each document's index into `names`, and its slot."""
        strings = documents.select(pl.col("domain").cast(pl.String))
        code = strings.join(self._code, on="domain", how="left", maintain_order="left")["code"].to_numpy()
        depth = self.depths[code]
        shifted = documents["hi"].to_numpy() >> np.minimum(np.uint64(64) - depth, np.uint64(63))
        return code, self._starts[code] + np.where(depth > 0, shifted, np.uint64(0)).astype(np.int64)


class _Sums:
    """The counts of one split by domain: rows, tokens, bytes, the largest document, histograms, and a sum for each of the four
    32-bit words of the hashes."""

    def __init__(self, buckets: _Buckets) -> None:
        self._buckets = buckets
        self.rows, self._tokens, self._bytes, self._largest = (np.zeros(len(buckets.names), np.int64) for _ in range(4))
        self._words = np.zeros((4, len(buckets.names)), np.uint64)
        self._flat = np.zeros((int(buckets.ends[-1]), 2), np.int64)

    def add(self, documents: pl.DataFrame, rules: SelectionRules) -> None:
        code, slot = self._buckets.slots(documents)
        tokens = documents["tokens"].to_numpy()
        np.add.at(self._flat[:, 0], slot, 1)
        np.add.at(self._flat[:, 1], slot, tokens)
        np.add.at(self.rows, code, 1)
        np.add.at(self._tokens, code, tokens)
        np.add.at(self._bytes, code, tokens * rules.token_bytes if rules.packing else documents["bytes"].to_numpy())
        np.maximum.at(self._largest, code, tokens)
        for word, (half, shift) in zip(self._words, (("lo", 0), ("lo", 32), ("hi", 0), ("hi", 32)), strict=True):
            np.add.at(word, code, documents[half].to_numpy() >> np.uint64(shift) & np.uint64(0xFFFFFFFF))

    def counts(self, rules: SelectionRules) -> tuple[DomainCount, ...]:
        """Domains that have a row in this split, in byte order of name."""
        counts = []
        for index, histogram in enumerate(np.split(self._flat, self._buckets.ends[:-1])):
            if rows := int(self.rows[index]):
                coarse = 1 << (int(self._buckets.depths[index]) - histogram_depth(rows))
                multiset = sum(int(word[index]) << (32 * i) for i, word in enumerate(self._words)) % MODULUS
                tokens, size, largest = (int(sums[index]) for sums in (self._tokens, self._bytes, self._largest))
                buckets = histogram.reshape(-1, coarse, 2).sum(axis=1)
                counts.append(DomainCount(self._buckets.names[index], rows, tokens, size, largest, multiset, buckets))
        return tuple(sorted(counts, key=lambda c: c.name.encode()))


def _nothing_left(name: str, split: str, survey: Survey, rules: SelectionRules) -> str:
    rows = survey.tallies[name].rows
    if rules.threshold:
        return (
            f"domain {name!r}: none of its {rows:,} documents falls on the {split} side at 'mix.validation: "
            f"{rules.threshold / 2**64:g}'; {'raise' if split == VALIDATION else 'lower'} it, or join the domain with another one"
        )
    return f"domain {name!r}: each of its {rows:,} documents is a copy from another domain; take it out, or use 'dedup: exact'"


def find_copies(store: Store, survey: Survey, rules: SelectionRules) -> pa.Table:
    """Documents that are there more than once, and which copy is kept; schema COPIES_SCHEMA.

    Two documents are copies where their hashes are equal. With `hash: id` half of the hash is of the id: then the other half and
    the length in bytes are compared.
    """
    same = ["lo", "bytes"] if rules.by_id else ["hi", "lo"]
    within = [*same, "domain"] if rules.dedup == "exact" else same
    names = sorted(survey.tallies, key=str.encode)
    rank = np.array([rules.priority.index(part.source) for part in survey.parts])
    tables = []
    with partition_by_hash(sum(t.rows for t in survey.tallies.values()), DEDUP_ROWS_AT_ONCE) as partitions:
        for number, part in enumerate(survey.parts):
            for documents in read_documents(store, part):
                partitions.add(_rows(documents, number, names))
        for rows in map(select_repeated_hashes, partitions.read(_ROW)):
            copies = pl.DataFrame({name: rows[name] for name in _ROW.names or ()}).filter(pl.len().over(within) > 1)
            if len(copies):
                copies = copies.unique(["part", "domain", "hi", "lo"])
                ranked = copies.with_columns(rank=rank[copies["part"].to_numpy()]).sort("rank", "domain", "hi", "part")
                first = ranked.group_by(within, maintain_order=True).first()
                kept = first.select("part", "domain", "hi", "lo", kept=pl.lit(True))
                tables.append(copies.join(kept, on=["part", "domain", "hi", "lo"], how="left"))
    if not tables:
        return COPIES_SCHEMA.empty_table()
    table = pl.concat(tables).with_columns(pl.col("kept").fill_null(False)).sort("part", "domain", "hi", "lo")
    named = table.with_columns(domain=pl.Series(names, dtype=pl.String).gather(table["domain"]))
    return named.select(COPIES_SCHEMA.names).to_arrow().cast(COPIES_SCHEMA)


def _rows(documents: pl.DataFrame, part: int, names: Sequence[str]) -> HashedRows:
    rows = np.empty(len(documents), _ROW)
    for name in ("lo", "hi", "bytes"):
        rows[name] = documents[name].to_numpy()
    rows["domain"] = documents["domain"].cast(pl.String).cast(pl.Enum(names)).to_physical().to_numpy()
    rows["part"] = part
    return rows


def read_cut_documents(store: Store, parts: Sequence[Part], selection: Selection, split: str, cut: Mapping[str, I64]) -> pa.Table:
    """Each distinct document of the cut buckets, by part, with its number of copies; schema DOCUMENTS_SCHEMA.

    `cut`: domain -> its buckets that a shard's bound cuts (`plan/streams.py`).
    """
    buckets = _Buckets({c.name: c.depth for c in selection.splits[split]})
    counts = {c.name: c for c in selection.splits[split]}
    wanted = np.concatenate([np.isin(np.arange(len(counts[name].histogram)), cut[name]) for name in buckets.names])
    tables = []
    for number, part in enumerate(parts):
        kept = [
            documents.filter(wanted[buckets.slots(documents)[1]])
            for side, documents in read_selected_documents(store, number, part, selection.copies, selection.rules)
            if side == split
        ]
        if kept:
            rows = pl.concat(kept).with_columns(pl.col("domain").cast(pl.String))
            distinct = rows.group_by("domain", "hi", "lo", "tokens").agg(copies=pl.len().cast(pl.Int64))
            columns = distinct.with_columns(part=pl.lit(number, pl.Int64)).select(DOCUMENTS_SCHEMA.names)
            tables.append(columns.to_arrow().cast(DOCUMENTS_SCHEMA))
    return pa.concat_tables(tables or [DOCUMENTS_SCHEMA.empty_table()])
