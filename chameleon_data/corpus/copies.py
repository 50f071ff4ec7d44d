"""Copies: documents with equal hashes, of which `input.dedup` keeps one.

The copy that is kept is the first by (source as the recipe orders them, domain, high half of the hash, part); `exact` does this
in each domain. All copies of a document are in one range of hashes (`row_records.py`), which says for each part whether the first
row of it passes. Whoever reads the rows of a part again, or takes them out of kept rows, drops the others by a `CopyFilter`. Why:
docs/decisions/025-dedup-out-of-core.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from chameleon_data.arrays import I64, U64, Mask
from chameleon_data.corpus.row_records import RowRecords
from chameleon_data.errors import DefectError
from chameleon_data.hashing import mix64
from chameleon_data.store.checksummed import read_table, write_table
from chameleon_data.store.paths import SelectionFolder
from chameleon_data.store.slices import SlicedFile, read_slices, write_slices
from chameleon_data.store.store import Store

COPIES_SCHEMA = pa.schema(
    [("part", pa.int32()), ("domain", pa.int32()), ("hi", pa.uint64()), ("lo", pa.uint64()), ("kept", pa.bool_())]
)  # fmt: skip
"""Documents of which there are copies, each once for every part and domain that has it; `part` and `domain` as in RowRecords.
`kept`: the first of them in this part and domain is the copy that is kept."""
Integers = npt.NDArray[np.int32] | I64


class CopyFilter:
    """Finds the copies to drop among rows, which are given by part and in the order of reading.

    If a part keeps a document, its first row passes. No row of another document with copies does. Memory: 33 bytes a copy, and
    some 130 MB for a million while it sorts. Cost: 2 million rows a second, half of them copies.
    """

    def __init__(self, copies: pa.Table) -> None:
        """`copies` (COPIES_SCHEMA) are those of the parts whose rows will come."""
        part, domain, hi, lo = (copies[name].to_numpy() for name in ("part", "domain", "hi", "lo"))
        for salt in range(9):  # two of a million copies have the same key in one of 30 million parts
            self._salt, key = salt, mix64([hi, lo, domain, part], salt)
            if len(np.unique(key)) == len(key):
                break
        else:
            raise DefectError("a document of a part stands twice in its copies")
        order = np.argsort(key)
        self._key, self._columns = key[order], [column[order] for column in (hi, lo, domain, part)]
        self._open = copies["kept"].to_numpy()[order]
        """Whether the next row of the document passes."""

    def mask(self, part: Integers, domain: Integers, hi: U64, lo: U64) -> Mask:
        """(rows,) whether each of the next rows is kept."""
        if not len(self._key):
            return np.ones(len(hi), bool)
        columns = [hi, lo, domain, part]
        key = mix64(columns, self._salt)
        at = np.minimum(np.searchsorted(self._key, key), len(self._key) - 1)
        kept: Mask = self._key[at] != key
        for known, column in zip(self._columns, columns, strict=True):
            kept |= known[at] != column
        copies = np.flatnonzero(~kept)
        documents, first = np.unique(at[copies], return_index=True)
        kept[copies[first]] = self._open[documents]
        self._open[documents] = False
        return kept


def find_copies(records: Iterable[RowRecords], dedup: str, same: Sequence[str], source_rank: I64) -> pa.Table:
    """The copies among rows that hold every row of their documents; COPIES_SCHEMA, by (part, domain, hi, lo).

    Two documents are copies where all columns of `same` are equal (`SelectionRules.same`). `source_rank` is (parts,)
    the place of each part's source in the recipe.
    """
    rows = RowRecords.concatenate(list(records))
    rows = rows.take(_repeated(rows.lo))
    within = [*same, "domain"] if dedup == "exact" else same
    copies = pl.DataFrame({name: getattr(rows, name) for name in ("part", "domain", "hi", "lo", "bytes")})
    copies = copies.with_columns(top=rows.hi >> np.uint64(32))
    copies = copies.filter(pl.len().over(within) > 1).unique(["part", "domain", "hi", "lo"])
    ranked = copies.with_columns(rank=source_rank[copies["part"].to_numpy()]).sort("rank", "domain", "hi", "part")
    first = ranked.group_by(within, maintain_order=True).first()
    kept = first.select("part", "domain", "hi", "lo", kept=pl.lit(True))
    table = copies.join(kept, on=["part", "domain", "hi", "lo"], how="left").with_columns(pl.col("kept").fill_null(False))
    return table.sort("part", "domain", "hi", "lo").select(COPIES_SCHEMA.names).to_arrow().cast(COPIES_SCHEMA)


def _repeated(lo: U64) -> I64:
    """The rows whose low half another row has too, ascending. Only they can be copies, and they are few."""
    order = np.argsort(lo)
    same, repeated = np.diff(lo[order]) == 0, np.zeros(len(lo), bool)
    repeated[1:] = same
    repeated[:-1] |= same
    return np.sort(order[repeated])


def copies_in_part(copies: pa.Table, part: int) -> pa.Table:
    """The rows of `copies`, which are by part, for one of them."""
    begin, end = np.searchsorted(copies["part"].to_numpy(), [part, part + 1])
    return copies.take(np.arange(begin, end))  # not a slice: its whole table would travel to a worker


def write_range_copies(store: Store, folder: SelectionFolder, number: int, copies: pa.Table, groups: tuple[int, ...]) -> None:
    """Write the copies of a range with a slice for each group of parts."""
    group = np.searchsorted(np.array(groups), copies["part"].to_numpy(), "right") - 1
    write_slices(store, folder.range_copies(number), COPIES_SCHEMA, [(group.astype(np.int64), copies)], range(len(groups) - 1))


def read_range_copies(store: Store, folder: SelectionFolder, number: int, groups: int) -> pa.Table:
    """The copies of a range, by part."""
    slices = read_slices(store, [SlicedFile(folder.range_copies(number))], range(groups))
    return pa.concat_tables([COPIES_SCHEMA.empty_table(), *(table for tables in slices for table in tables)]).combine_chunks()


def write_copies_of_parts(store: Store, folder: SelectionFolder, ranges: int, group: int, parts: range) -> None:
    """Write the copies of each part of a group, out of those of all ranges."""
    files = [SlicedFile(folder.range_copies(number)) for number in range(ranges)]
    copies = pa.concat_tables([COPIES_SCHEMA.empty_table(), *read_slices(store, files, range(group, group + 1))[0]])
    copies = copies.take(np.argsort(copies["part"].to_numpy(), kind="stable"))
    for part in parts:
        write_table(store, folder.part_copies(part), copies_in_part(copies, part))


def read_part_copies(store: Store, folder: SelectionFolder, part: int) -> pa.Table:
    """The copies of a part, which `write_copies_of_parts` wrote."""
    return read_table(store, folder.part_copies(part))
