"""The rows of a range of shards out of kept rows (`corpus/kept_rows.py`), found by their hashes.

The slots of the range are intervals of hashes (`plan/intervals.py`), which every file of kept rows is searched for. The rows
that are found are filtered, numbered and routed as `spill` does with all rows of a part: all copies of a document lie in one
interval, so each task sees the same ones in the same order. A range of a later level is found within its one of the first level.
Memory: columns of the rows found; texts stay in the map.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
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
from chameleon_data.shards.delivered import DELIVERED_COLUMNS, Delivered
from chameleon_data.shards.lay_out import ShardSpec
from chameleon_data.shards.levels import KeptCorpus, Place, find_layout, send_further
from chameleon_data.store.paths import BuildFolder, SelectionFolder
from chameleon_data.store.store import Store


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
            copies = pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(use_threads=False)).read_all()
        begin = np.array(json.loads(copies.schema.metadata[b"begin"]), np.int64)
        of_copies = HashIndex(tuple(index), begin, copies["hi"].to_numpy())
        found.append(copies.take(of_copies.find(wanted, index)[0]).replace_schema_metadata(None))
    return pa.concat_tables(found).sort_by("part")


def read_kept_rows(
    store: Store, build: BuildFolder, kept: KeptCorpus, spec: ShardSpec, place: Place, prove: bool = True
) -> Delivered:
    """The kept rows of a range; `prove` their sums, for which their bodies are read. Raises InputError for a damaged file."""
    layout, number = spec.layouts[place.split], place.path[0]
    wanted = find_intervals(layout.slots, number)
    index = {stream.domain.name: code for code, stream in enumerate(layout.streams)}
    copies = _find_copies(kept, wanted, index)
    found, files = list[_Found](), list[tuple[KeptFile, KeptRows]]()
    for part in kept.parts:
        of_part = copies_in_part(copies, part.number)
        found += _find_in_part(kept.store, part, of_part, layout, spec.rules.threshold, wanted, index, files)
    if not found:
        return Delivered.concatenate([])
    columns = {name: np.concatenate([one[name] for one in found]) for name in found[0]}
    deliveries = []
    for row, epoch, to in route(layout.slots, *(columns[name] for name in ("domain", "hi", "lo", "copy"))):
        ours = np.flatnonzero(to == number)
        deliveries.append((row[ours], epoch[ours]))
    row, epoch = (np.concatenate(column) for column in zip(*deliveries, strict=True))
    columns = {name: column[row] for name, column in columns.items()}
    columns["domain"], columns["epoch"] = columns["domain"].astype(np.int32), epoch.astype(np.uint32)
    for level in range(1, len(place.path)):
        divided = find_layout(store, build, spec, Place(place.split, place.path[:level]))
        row, to, copy = send_further(divided, columns)
        ours = np.flatnonzero(to == place.path[level])
        columns = {name: column[row[ours]] for name, column in columns.items()}
        columns["copy"] = copy[ours]
    if prove:
        _check(kept.store, files, columns["file"], columns["place"])
    bodies = Bodies(tuple(rows.bodies for _, rows in files), columns["file"], columns["begin"], columns["size"])
    if layout.plan.packing:
        columns["tokens"] = columns["tokens"] + 1  # end-of-text
    return Delivered({name: columns[name] for name in DELIVERED_COLUMNS}, bodies)


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
    counter = CopyCounter(layout.slots.copies)
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
            "copy": counter.number(np.full(len(hi), part.number), domain, hi, lo),
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


def _check(store: Store, files: list[tuple[KeptFile, KeptRows]], number: I64, place: I64) -> None:
    """Prove rows; `number` and `place` say where each lies. One that is delivered several times is proved once."""
    found = np.sort(number << 40 | place)
    found = found[np.diff(found, prepend=-1) > 0]  # np.unique takes ten times as long
    ends = np.searchsorted(found, np.arange(len(files) + 1) << 40)
    for (file, rows), begin, end in zip(files, ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        check_kept_rows(store, file, rows, found[begin:end] & ((1 << 40) - 1))
