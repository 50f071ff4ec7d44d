"""Spill: the rows of one part of the corpus become *runs*, files whose rows lie in the order of the ranges of shards.

Bringing rows to shards is the one step in which every task needs data of every other. `spill` reads a part again, gives each row
its ranges (`plan/routing.py`) and writes them as runs of about 128 MiB (`runs.py`); `assemble.py` then reads each range out of
one run of each part. The list of a part's runs is written last, so a part that has a list is done. Runs lie in the build's folder
on the store, where any worker can read them, and are removed once the version is committed.

Cost: 1 GB of 195,000 rows spilled and assembled in 5.1 s on two cores. Why: docs/decisions/030-spilled-runs.md.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
import pyarrow as pa

from chameleon_data.arrays import I64, U64, byte_lengths
from chameleon_data.corpus.copies import CopyFilter
from chameleon_data.corpus.kept_columns import join_columns
from chameleon_data.corpus.parts import Part
from chameleon_data.corpus.readers.blocks import read_blocks
from chameleon_data.corpus.readers.rows import Block
from chameleon_data.corpus.selection import is_validation
from chameleon_data.corpus.survey import (
    columns_of_block,
    drop_rows_without_tokens,
    hash_documents,
    read_documents,
    read_part_summary,
)
from chameleon_data.errors import InputError
from chameleon_data.plan.routing import CopyCounter, route
from chameleon_data.shards.lay_out import ShardSpec
from chameleon_data.shards.rows import ROW_OVERHEAD
from chameleon_data.shards.runs import (
    RECORD_FILE_BYTES,
    RUN_BYTES,
    RUN_SCHEMA,
    cut_runs,
    drop_bodies,
    write_records,
    write_run,
    write_run_list,
)
from chameleon_data.store.checksummed import read_groups
from chameleon_data.store.paths import BuildFolder
from chameleon_data.store.slices import SlicedFile, map_table
from chameleon_data.store.store import Store

ROUTED_BYTES = 16 * 2**20
"""Bytes of rows, on their way to ranges, that are copied at once."""


def spill(store: Store, build: BuildFolder, spec: ShardSpec, number: int, part: Part, copies: pa.Table) -> None:
    """Read part `number` of the corpus again and write its rows as runs.

    `copies` are the part's (`copies.read_part_copies`). Memory: they, RUN_BYTES of rows, a file of records and a block; more rows
    lie in temporary files of this machine until all are read. Raises InputError where a row is not the one that was surveyed.
    """
    with _survey_removed_on_change(store, part), _RunWriter(store, build, spec, number, part, copies) as runs:
        surveyed = _SurveyedRows(store, part)
        for index, fragment in enumerate(part.fragments):
            for rows in read_blocks(fragment, part.read_as, spec.input.max_document):
                hi, lo = hash_documents(rows, spec.input.hash)
                tokens = surveyed.match(hi, lo, fragment.url)
                block, (hi, lo, tokens) = drop_rows_without_tokens(rows, tokens, [hi, lo, tokens])
                surveyed.count(block)
                code, names = pa.array(block.domain, pa.int32()), pa.array(block.names, pa.large_string())
                body = join_columns(block.text, columns_of_block(block)) if spec.columns else block.text
                runs.add(pa.DictionaryArray.from_arrays(code, names), hi, lo, tokens, block.rows, body, index)
        surveyed.finish(part)
        runs.finish()


def spill_records(store: Store, build: BuildFolder, spec: ShardSpec, number: int, part: Part, copies: pa.Table) -> None:
    """The same runs without texts, from the survey's record of the part. They still say which document stands where in a shard
    of texts; a shard of sequences needs the texts."""
    with _RunWriter(store, build, spec, number, part, copies) as runs:
        for documents in read_documents(store, part):
            names = documents["domain"].cast(pl.String).to_arrow().cast(pa.large_string()).dictionary_encode()
            hi, lo, tokens = (documents[name].to_numpy() for name in ("hi", "lo", "tokens"))
            no_text = pa.repeat(pa.scalar("", pa.large_string()), len(documents))
            if spec.columns:
                no_text = join_columns(no_text, no_text.cast(pa.large_binary()))
            runs.add(names, hi, lo, tokens, np.arange(len(documents)), no_text, 0)
        runs.finish()


@dataclass(frozen=True)
class _Documents:
    """Documents of one fragment in the order of reading, each (rows,)."""

    domain: I64
    """Index in the layout; -1 for a domain that was not surveyed."""
    hi: U64
    lo: U64
    tokens: I64
    row: I64
    """Number in the fragment."""
    text: pa.Array
    fragment: int

    def take(self, rows: I64) -> _Documents:
        """The documents at these indices, which ascend."""
        if len(rows) == len(self.hi):
            return self
        return _Documents(
            self.domain[rows],
            self.hi[rows],
            self.lo[rows],
            self.tokens[rows],
            self.row[rows],
            self.text.take(pa.array(rows)),
            self.fragment,
        )


class _RunWriter:
    """Collects the rows of one part, each with its range, and writes runs when it has all."""

    def __init__(self, store: Store, build: BuildFolder, spec: ShardSpec, number: int, part: Part, copies: pa.Table) -> None:
        self._store, self._spec, self._part = store, spec, number
        self._prefix, self._list = build.run_prefix(part.key), build.run_list(part.key)
        self._index = {s.domain.name: i for i, s in enumerate(spec.layouts[0].streams)}  # the same domains in every split
        self._counters = [CopyCounter(layout.slots.copies) for layout in spec.layouts]
        self._ranges, self._groups = spec.ranges, spec.domain_groups
        self._copies = CopyFilter(copies)
        self._pending: list[tuple[I64, pa.Table]] = []
        """Rows in memory, and the range of each, among those of all splits."""
        self._bytes = 0
        self._mapped: list[tuple[I64, pa.Table]] = []
        """Rows in temporary files, likewise."""
        self._range_bytes = np.zeros(self._ranges, np.int64)
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._pending_records: list[tuple[I64, pa.Table]] = []
        """Records that are in no file yet, and the slice of each; none where no range is divided."""
        self._record_bytes = 0
        self._records: list[str] = []

    def add(self, names: pa.DictionaryArray, hi: U64, lo: U64, tokens: I64, row: I64, text: pa.Array, fragment: int) -> None:
        """Take the usable rows of a block. Rows of domains that were not surveyed are left to `_SurveyedRows.finish`."""
        index = np.array([self._index.get(name, -1) for name in names.dictionary.to_pylist()], np.int64)
        documents = _Documents(index[names.indices.to_numpy()], hi, lo, tokens, row, text, fragment)
        kept = (documents.domain >= 0) & self._copies.mask(np.full(len(hi), self._part), documents.domain, hi, lo)
        held_out = is_validation(lo, self._spec.rules.threshold)
        for split, side in enumerate((kept & ~held_out, kept & held_out)):
            if side.any():
                self._route(split, documents.take(np.flatnonzero(side)))

    def _route(self, split: int, documents: _Documents) -> None:
        """Rows are copied in slices, because with many epochs a block is written many times over."""
        layout = self._spec.layouts[split]
        domain, hi, lo = documents.domain, documents.hi, documents.lo
        tokens = documents.tokens + 1 if layout.plan.packing else documents.tokens  # end-of-text
        copy = self._counters[split].number(np.full(len(hi), self._part), domain, hi, lo)
        for row, epoch, number in route(layout.slots, domain, hi, lo, copy):
            number = number + self._spec.first_range(split)
            body, body_of = documents.text, row
            if layout.plan.packing:
                needed, body_of = np.unique(row, return_inverse=True)
                body = self._token_ids(documents.text.take(pa.array(needed)), tokens[needed])
            slices = np.cumsum(byte_lengths(body)[body_of] + ROW_OVERHEAD) // ROUTED_BYTES
            for at in np.split(np.arange(len(row)), np.flatnonzero(np.diff(slices)) + 1) if len(row) else ():
                at = at[np.argsort(number[at], kind="stable")]
                r, n = row[at], len(at)
                columns = [
                    domain[r].astype(np.int32),
                    epoch[at].astype(np.uint32),
                    hi[r],
                    lo[r],
                    copy[r],
                    tokens[r],
                    np.full(n, self._part, np.int32),
                    np.full(n, documents.fragment, np.int32),
                    documents.row[r],
                    body.take(pa.array(body_of[at])).cast(pa.large_binary()),
                ]
                self._collect(number[at], pa.table(columns, schema=RUN_SCHEMA))

    def _token_ids(self, text: pa.Array, tokens: I64) -> pa.Array:
        """The ids of each text as bytes; `tokens` is how many the survey counted, end-of-text included."""
        ids = self._spec.counter.ids(text)
        if not np.array_equal(byte_lengths(ids), tokens * self._spec.counter.dtype.itemsize):
            raise InputError(
                "tokens.tokenizer: it gave a text another number of tokens than when it counted them; use a deterministic one"
            )
        return ids

    def _collect(self, number: I64, table: pa.Table) -> None:
        self._pending.append((number, table))
        self._bytes += table.nbytes  # all columns: beside a text of one word they are most of a row
        if self._groups:
            self._pending_records.append(drop_bodies(number, table, self._groups))
            self._record_bytes += self._pending_records[-1][1].nbytes
        sizes = byte_lengths(table["body"].chunk(0)) + ROW_OVERHEAD
        self._range_bytes += np.bincount(number, sizes, self._ranges).astype(np.int64)
        if self._bytes >= RUN_BYTES:
            self._map_pending()
        if self._record_bytes >= RECORD_FILE_BYTES:
            self._write_records()

    def _map_pending(self) -> None:
        """Put the rows in files of this machine, since memory shall hold no more of them."""
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="chameleon-")
        for number, table in self._pending:
            self._mapped.append((number, map_table(Path(self._scratch.name) / f"{len(self._mapped)}.arrow", table)))
        self._pending, self._bytes = [], 0

    def _write_records(self) -> None:
        path = f"{self._prefix}-{len(self._records)}.records"
        write_records(self._store, path, self._pending_records, self._ranges * self._groups)
        self._records.append(path)
        self._pending_records, self._record_bytes = [], 0

    def finish(self) -> None:
        """Write the runs, the records that are left, and the list of both."""
        runs, pending = list[SlicedFile](), [*self._mapped, *self._pending]
        for ranges in cut_runs(self._range_bytes) if pending else ():
            runs.append(SlicedFile(f"{self._prefix}-{len(runs)}.run", "", ranges.start, ranges.stop))
            write_run(self._store, runs[-1].path, pending, ranges)
        if self._pending_records:
            self._write_records()
        write_run_list(self._store, self._list, runs, self._records)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._mapped.clear()  # a mapped file is not removed everywhere
        if self._scratch is not None:
            self._scratch.cleanup()


@contextmanager
def _survey_removed_on_change(store: Store, part: Part) -> Iterator[None]:
    """A part that is not what its record says loses the record, so that the next build surveys it anew."""
    try:
        yield
    except InputError:
        store.remove([part.path("summary.json")])
        raise


class _SurveyedRows:
    """The survey's rows of a part, compared with a second reading of it, block by block."""

    def __init__(self, store: Store, part: Part) -> None:
        self._batches = read_groups(store, part.path("documents.parquet"), ["hi", "lo", "tokens"])
        tallies = read_part_summary(store, part).tallies
        self._rows = {name: tally.rows for name, tally in tallies.items() if tally.rows}
        """Domain -> usable rows of the survey."""
        self._again: Counter[str] = Counter()
        """Domain -> usable rows of the second reading."""
        self._ahead: list[Any] = [np.zeros(0, np.uint64), np.zeros(0, np.uint64), np.zeros(0, np.int64)]
        """Rows of the survey that the second reading has not reached: hashes, high and low, and tokens."""

    def _fill(self, rows: int) -> None:
        while len(self._ahead[0]) < rows:
            batch = next(self._batches, None)
            if batch is None:
                return
            self._ahead = [np.concatenate([a, c.to_numpy()]) for a, c in zip(self._ahead, batch.columns, strict=True)]

    def match(self, hi: U64, lo: U64, url: str) -> I64:
        """(rows,) tokens of the next rows, which must have these hashes. The survey counted them: a tokenizer is 30 times slower
        than a parser."""
        self._fill(len(hi))
        (known_hi, known_lo, tokens), self._ahead = [a[: len(hi)] for a in self._ahead], [a[len(hi) :] for a in self._ahead]
        if not (np.array_equal(known_hi, hi) and np.array_equal(known_lo, lo)):
            raise InputError(
                f"{url}: not the documents that the survey read; the file changed during the build. Build again once it rests"
            )
        return np.asarray(tokens, np.int64)

    def count(self, block: Block) -> None:
        """Count the usable rows of a block."""
        for name, rows in zip(block.names, np.bincount(block.domain, minlength=len(block.names)).tolist(), strict=True):
            if rows:
                self._again[name] += rows

    def finish(self, part: Part) -> None:
        """Raise InputError where the survey read more rows, or rows of other domains."""
        self._fill(1)
        if len(self._ahead[0]) or self._again != self._rows:
            raise InputError(
                f"{part.fragments[-1].url}: fewer documents, or in other domains, than the survey read; the file changed during "
                "the build. Build again once it rests"
            )
