"""The survey's records of rows, as arrays, and as ranges of hashes, so that whatever is asked of all rows is asked range by
range.

A corpus of few rows is one range, and its records are read part by part as the survey left them. The records of a larger one are
first *sorted*: tasks read the parts of one group each and write a sliced file (`store/slices.py`) with a slice for each range. A
task of a range then reads its slice of every group. Rows with equal hashes are in one range, and in it by part and in the order
of reading, as in one reading of the whole corpus.

    bits       2^bits ranges: 1, 64 or 1,024. All are depths at which buckets end (`plan/order.py`), so no bucket lies in two
    half       ranges are of the high half of the hash, which decides places; copies of texts that have ids share the low half
    alone

Cost: 2^24 rows are sorted in some 5 s on one core, in 40 bytes a row; 3 × 10^10 rows take 1.8 million requests.
Why: docs/decisions/140-selection-by-ranges-of-hashes.md.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from chameleon_data.arrays import I64, U64
from chameleon_data.corpus.parts import Part
from chameleon_data.corpus.survey import ROW_RECORD_SCHEMA
from chameleon_data.store.checksummed import read_groups
from chameleon_data.store.paths import SelectionFolder
from chameleon_data.store.slices import SlicedFile, map_table, read_slices, write_slices
from chameleon_data.store.store import Store

ROWS_ON_DRIVER = 1 << 20
"""Rows of a corpus that is one range, which the driver looks at: 80 MB."""
ROWS_IN_RANGE = 1 << 24
"""Rows of a range, where there are few enough."""
ROWS_IN_GROUP, MOST_ROWS_IN_GROUP = 1 << 20, 1 << 24
"""Rows of a group of parts: a 64th of the corpus, within these bounds, unless it is one part."""
ROWS_SORTED = 1 << 22
"""Rows that are sorted at once: 400 MB."""
RANGE_BITS = (6, 10)
"""log2 of the numbers of ranges, where there are several."""
READ_ROWS = 1 << 20
"""Rows that are read at once."""
Half = Literal["hi", "lo"]

RECORD_SCHEMA = pa.schema(
    [
        ("part", pa.int32()),
        ("domain", pa.int32()),
        ("hi", pa.uint64()),
        ("lo", pa.uint64()),
        ("tokens", pa.int64()),
        ("bytes", pa.int64()),
    ]
)
"""A row as the tasks of ranges read it."""


@dataclass(frozen=True)
class RowRecords:
    """Usable rows, by part and in the order of reading; each array is (rows,)."""

    part: npt.NDArray[np.int32]
    """Number of the part in the corpus."""
    domain: npt.NDArray[np.int32]
    """Place of the domain's name, in byte order, among those of the domains that have rows."""
    hi: U64
    lo: U64
    tokens: I64
    bytes: I64

    def __len__(self) -> int:
        return len(self.hi)

    def take(self, rows: npt.NDArray[Any]) -> RowRecords:
        """The rows at some indices, or where a mask says so."""
        return RowRecords(*(getattr(self, field.name)[rows] for field in fields(self)))

    def table(self) -> pa.Table:
        """Schema RECORD_SCHEMA."""
        return pa.table([getattr(self, name) for name in RECORD_SCHEMA.names], schema=RECORD_SCHEMA)

    @classmethod
    def of(cls, table: pa.Table) -> RowRecords:
        """A table of RECORD_SCHEMA."""
        return cls(*(table[field.name].to_numpy() for field in fields(cls)))

    @classmethod
    def concatenate(cls, several: Sequence[RowRecords]) -> RowRecords:
        tables = [one.table() for one in several] or [RECORD_SCHEMA.empty_table()]
        return cls.of(pa.concat_tables(tables).combine_chunks())


def range_bits(rows: int) -> int:
    """log2 of the number of ranges for a corpus of so many rows."""
    if rows <= ROWS_ON_DRIVER:
        return 0
    return next((bits for bits in RANGE_BITS if rows <= ROWS_IN_RANGE << bits), RANGE_BITS[-1])


def group_parts(part_rows: Sequence[int]) -> tuple[int, ...]:
    """The first part of each group, and the number of parts."""
    most = min(max(sum(part_rows) >> RANGE_BITS[0], ROWS_IN_GROUP), MOST_ROWS_IN_GROUP)
    begins, rows = [0], 0
    for number, of_part in enumerate(part_rows):
        if rows and rows + of_part > most:
            begins.append(number)
            rows = 0
        rows += of_part
    return *begins, len(part_rows)


def read_part_records(store: Store, number: int, part: Part, domains: Sequence[str]) -> Iterator[RowRecords]:
    """The usable rows of a part, a million at a time; `domains` are those that have rows, in byte order of name."""
    codes = {name: code for code, name in enumerate(domains)}
    for rows in read_groups(store, part.path("documents.parquet"), ROW_RECORD_SCHEMA.names, READ_ROWS):
        named = rows["domain"].combine_chunks()
        places = np.array([codes.get(name, -1) for name in named.dictionary.to_pylist()], np.int32)
        domain = places[named.indices.to_numpy()] if len(places) else np.zeros(0, np.int32)
        columns = [rows[name].to_numpy() for name in ("hi", "lo", "tokens", "bytes")]
        records = RowRecords(np.full(len(rows), number, np.int32), domain, *columns)
        yield records if (records.tokens > 0).all() else records.take(records.tokens > 0)


def read_corpus_records(store: Store, parts: Sequence[Part], domains: Sequence[str]) -> Iterator[RowRecords]:
    """The usable rows of all parts."""
    for number, part in enumerate(parts):
        yield from read_part_records(store, number, part, domains)


def sort_records(
    store: Store, folder: SelectionFolder, bits: int, group: int, records: Iterator[RowRecords], halves: Sequence[Half]
) -> None:
    """Write the rows of a group with a slice for each range, of these halves of the hash.

    Memory: `ROWS_SORTED` rows, twice over, however many rows a group has: what is sorted lies in files until all is.
    """
    with tempfile.TemporaryDirectory(prefix="chameleon-") as scratch:
        pending: dict[Half, list[tuple[I64, pa.Table]]] = {half: [] for half in halves}
        for place, rows in enumerate(_join_records(records)):
            for half, tables in pending.items():
                number = (getattr(rows, half) >> np.uint64(64 - bits)).astype(np.int64)
                order = np.argsort(number, kind="stable")
                numbered = rows.take(order).table().append_column("number", pa.array(number[order]))
                table = map_table(Path(scratch) / f"{half}-{place}.arrow", numbered)
                tables.append((table["number"].to_numpy(), table.drop_columns(["number"])))
        for half, tables in pending.items():
            write_slices(store, folder.records(half, group), RECORD_SCHEMA, tables, range(1 << bits))


def _join_records(records: Iterator[RowRecords]) -> Iterator[RowRecords]:
    """The same rows, `ROWS_SORTED` or a few more at a time; at least once."""
    held, rows = list[RowRecords](), 0
    for some in records:
        held.append(some)
        rows += len(some)
        if rows >= ROWS_SORTED:
            yield RowRecords.concatenate(held)
            held, rows = [], 0
    yield RowRecords.concatenate(held)


def read_range_records(store: Store, folder: SelectionFolder, groups: int, half: Half, number: int) -> Iterator[RowRecords]:
    """The rows of a range, group by group."""
    for group in range(groups):
        file = SlicedFile(folder.records(half, group))
        for table in read_slices(store, [file], range(number, number + 1))[0]:
            yield RowRecords.of(table)
