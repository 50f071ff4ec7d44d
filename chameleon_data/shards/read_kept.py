"""The rows of some shards out of kept rows (`corpus/kept_rows.py`), found by their hashes.

The slots of the shards are intervals of hashes (`plan/intervals.py`), which every file of kept rows is searched for. The rows
that are found are filtered, numbered and routed as `spill` does with all rows of a part: all copies of a document lie in one
interval, so each task sees the same ones in the same order. Memory: columns of the rows found; texts stay in the map.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from chameleon_data.arrays import I64, Mask
from chameleon_data.corpus.bodies import Bodies
from chameleon_data.corpus.copies import COPIES_SCHEMA, CopyFilter, copies_in_part, read_range_copies
from chameleon_data.corpus.kept_rows import KeptFile, KeptPart, KeptRows, check_kept_rows, open_kept_file
from chameleon_data.corpus.selection import is_validation
from chameleon_data.plan.intervals import HashIndex, HashIntervals, find_intervals
from chameleon_data.plan.layout import Layout
from chameleon_data.plan.plan import VALIDATION
from chameleon_data.plan.routing import CopyCounter, route
from chameleon_data.shards.delivered import Delivered
from chameleon_data.shards.lay_out import ShardSpec
from chameleon_data.store.paths import SelectionFolder
from chameleon_data.store.store import Store


@dataclass(frozen=True)
class KeptCorpus:
    """The parts of a corpus of which all rows are kept."""

    store: Store
    """A folder of this machine."""
    parts: tuple[KeptPart, ...]
    copies: tuple[str, ...]
    """Paths of the files of copies of each range of hashes (`write_kept_copies`); none where no copy is dropped."""

    @property
    def files(self) -> int:
        """Files of all parts."""
        return sum(len(part.files) for part in self.parts)


def write_kept_copies(
    store: Store, selection: SelectionFolder, groups: int, domains: int, kept: Store, path: str, number: int
) -> None:
    """Put the copies of a range beside the kept rows, as an Arrow file that can be mapped, so that tasks look up those that they
    need: sorted by (domain, hi), where each domain begins is in its metadata."""
    copies = read_range_copies(store, selection, number, groups)
    domain = copies["domain"].to_numpy()
    order = np.lexsort((copies["hi"].to_numpy(), domain))
    begin = np.searchsorted(domain[order], np.arange(domains + 1))
    table = copies.take(order).combine_chunks().replace_schema_metadata({"begin": json.dumps(begin.tolist())})
    with kept.writing(path) as file, pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def _find_copies(kept: KeptCorpus, wanted: HashIntervals, index: dict[str, int]) -> pa.Table:
    """The copies in the intervals, by part."""
    found = [COPIES_SCHEMA.empty_table()]
    for path in kept.copies:
        with pa.memory_map(str(kept.store.local(path))) as file:
            copies = pa.ipc.open_file(file).read_all()
        begin = np.array(json.loads(copies.schema.metadata[b"begin"]), np.int64)
        of_copies = HashIndex(tuple(index), begin, copies["hi"].to_numpy())
        found.append(copies.take(of_copies.find(wanted, index)[0]).replace_schema_metadata(None))
    return pa.concat_tables(found).sort_by("part")


def read_kept_rows(kept: KeptCorpus, spec: ShardSpec, shards: range) -> list[Delivered]:
    """The rows of each of these shards, which are numbered through all splits. Raises InputError for a damaged file."""
    delivered, before = list[Delivered](), 0
    for layout in spec.layouts:
        here = range(max(shards.start - before, 0), min(shards.stop - before, layout.plan.shards))
        if here:
            delivered += _read_split(kept, layout, spec.rules.threshold, here)
        before += layout.plan.shards
    return delivered


def _read_split(kept: KeptCorpus, layout: Layout, threshold: int, shards: range) -> list[Delivered]:
    """The rows of some shards of one split."""
    wanted = find_intervals(layout.slots, shards)
    index = {stream.domain.name: number for number, stream in enumerate(layout.streams)}
    copies = _find_copies(kept, wanted, index)
    found, files = list[_Found](), list[tuple[KeptFile, KeptRows]]()
    for part in kept.parts:
        found += _find_in_part(kept.store, part, copies_in_part(copies, part.number), layout, threshold, wanted, index, files)
    if not found:
        return [Delivered.concatenate([]) for _ in shards]
    columns = {name: np.concatenate([one[name] for one in found]) for name in found[0]}
    domain, hi, lo, copy = (columns[name] for name in ("domain", "hi", "lo", "copy"))
    deliveries = []
    for row, epoch, shard in route(layout.slots, domain, hi, lo, copy):
        ours = np.flatnonzero((shards.start <= shard) & (shard < shards.stop))
        deliveries.append((row[ours], epoch[ours], shard[ours]))
    row, epoch, shard = (np.concatenate(column) for column in zip(*deliveries, strict=True))
    order = np.argsort(shard, kind="stable")
    row, epoch, shard = row[order], epoch[order], shard[order]
    _check(kept.store, files, columns["file"], columns["place"], row)
    tokens = columns["tokens"] + 1 if layout.plan.packing else columns["tokens"]  # end-of-text
    begin, size = columns["begin"][row], columns["size"][row]
    bodies = Bodies(tuple(rows.bodies for _, rows in files), columns["file"][row], begin, size)
    delivered = Delivered(
        {
            "domain": domain[row].astype(np.int32),
            "epoch": epoch.astype(np.uint32),
            "hi": hi[row],
            "lo": lo[row],
            "copy": copy[row],
            "tokens": tokens[row],
            **{name: columns[name][row] for name in ("part", "fragment", "row")},
        },
        bodies,
    )
    ends = np.searchsorted(shard, [*shards, shards.stop])
    return [delivered.take(np.arange(a, b)) for a, b in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)]


_Found = dict[str, npt.NDArray[Any]]
"""Columns of rows in the intervals, as in DELIVERED_COLUMNS; besides the number of the file, the row in it, and the place of the
body."""


def _find_in_part(
    store: Store,
    part: KeptPart,
    copies: pa.Table,
    layout: Layout,
    threshold: int,
    wanted: HashIntervals,
    index: dict[str, int],
    files: list[tuple[KeptFile, KeptRows]],
) -> Iterator[_Found]:
    """The rows of one part that lie in the intervals and belong to this split, file by file. A file with such rows is appended
    to `files`."""
    copy_filter = CopyFilter(copies)
    counter = CopyCounter(layout.slots, part.number)
    for file in part.files:
        rows = open_kept_file(store, file)
        place, domain = rows.index.find(wanted, index)
        hi, lo = rows.index.hi[place], rows.lo[place]
        side: Mask = is_validation(lo, threshold) == (layout.plan.split == VALIDATION)
        side &= copy_filter.mask(np.full(len(hi), part.number), domain, hi, lo)
        if not side.any():
            continue
        place, domain, hi, lo = place[side], domain[side], hi[side], lo[side]
        begin = rows.offset[place]
        yield {
            "domain": domain,
            "hi": hi,
            "lo": lo,
            "copy": counter.number(domain, hi, lo),
            "tokens": rows.tokens[place],
            "part": np.full(len(place), part.number, np.int32),
            "fragment": rows.fragment[place],
            "row": rows.row[place],
            "file": np.full(len(place), len(files)),
            "place": place,
            "begin": begin,
            "size": rows.offset[place + 1] - begin,
        }
        files.append((file, rows))


def _check(store: Store, files: list[tuple[KeptFile, KeptRows]], number: I64, place: I64, delivered: I64) -> None:
    """Prove each row that is delivered; `number` and `place` say where each row that was found lies."""
    wanted = np.zeros(len(number), bool)
    wanted[delivered] = True
    needed = np.flatnonzero(wanted)
    ends = np.searchsorted(number[needed], np.arange(len(files) + 1))
    for (file, rows), begin, end in zip(files, ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        check_kept_rows(store, file, rows, place[needed[begin:end]])
