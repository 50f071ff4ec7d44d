"""Levels: a range of shards that is too large for one task is divided, by its own rows, and they are sent further.

    divide      a task a range and group of domains: the records of the rows (no texts) are put in order, and bounds are found
    exchange    a task a range and group of parts: rows that were spilled to the range are sent to the smaller ones within

Rows that are kept are not sent: whoever needs them finds them by the intervals of the range of the first level. Ranges are
divided again until each is small enough. Levels change no byte. Why: docs/decisions/141-ranges-in-levels.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from chameleon_data.arrays import I64, U64
from chameleon_data.corpus.kept_rows import KeptFile, KeptPart
from chameleon_data.hashing import fingerprint
from chameleon_data.plan.cuts import Documents, divide_range, finish_range, sketch_range, sum_cuts
from chameleon_data.plan.layout import CutCopies, Layout
from chameleon_data.plan.routing import CopyCounter, route_epochs
from chameleon_data.shards.delivered import Delivered
from chameleon_data.shards.grouping import divide_shards
from chameleon_data.shards.lay_out import ShardSpec
from chameleon_data.shards.layout_files import read_cuts, read_layout, write_cuts, write_layout
from chameleon_data.shards.runs import (
    RUN_SCHEMA,
    PartRuns,
    drop_bodies,
    read_records,
    read_runs,
    records_path,
    write_records,
    write_run,
)
from chameleon_data.store.checksummed import column_sums, read_record, read_table, write_record, write_table
from chameleon_data.store.paths import BuildFolder
from chameleon_data.store.slices import SlicedFile
from chameleon_data.store.store import Store

EXCHANGED_BYTES = 512 * 2**20
"""Bytes of rows of a range that one task sends further, about."""
EXCHANGING_BYTES = 4 * EXCHANGED_BYTES
"""Memory of that task, beside Python and its libraries: the rows in two orders, and what a distant store is sent, twice."""


@dataclass(frozen=True)
class Place:
    """A range of shards, by its number at each level."""

    split: int
    """Place of the split among the layouts."""
    path: tuple[int, ...]

    @property
    def above(self) -> Place:
        """The range that this one is part of; no number is the whole split."""
        return Place(self.split, self.path[:-1])


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


@dataclass(frozen=True)
class RowSource:
    """Where the rows of a build's shards are."""

    runs: tuple[PartRuns, ...]
    """Those of each part whose rows are not kept. They lie in the build's store."""
    kept: KeptCorpus | None
    """The other parts; None where there are none."""
    groups: int = 1
    """Groups of parts whose rows one task sends further."""

    def of_group(self, group: int) -> list[SlicedFile]:
        """The runs of a group of parts."""
        first, end = (len(self.runs) * number // self.groups for number in (group, group + 1))
        return [run for of_part in self.runs[first:end] for run in of_part.runs]


def list_places(spec: ShardSpec) -> tuple[list[Place], list[list[Place]]]:
    """The ranges that are small enough, in the order of their shards; and those that are not, by level."""
    small, large = list[Place](), list[list[Place]]()

    def look(place: Place, begins: Sequence[int]) -> None:
        for number, (first, end) in enumerate(pairwise(begins)):
            inner = Place(place.split, (*place.path, number))
            if (divided := divide_shards(first, end, spec.shards.size)) is None:
                small.append(inner)
                continue
            while len(large) < len(inner.path):
                large.append([])
            large[len(inner.path) - 1].append(inner)
            look(inner, divided)

    for split, layout in enumerate(spec.layouts):
        look(Place(split, ()), layout.begins.tolist())
    return small, large


def shards_of(spec: ShardSpec, place: Place) -> range:
    """The shards of a range, in their split."""
    begins: Sequence[int] = spec.layouts[place.split].begins.tolist()
    for level, number in enumerate(place.path):
        found = range(begins[number], begins[number + 1])
        if level + 1 < len(place.path):
            begins = divide_shards(found.start, found.stop, spec.shards.size) or ()
    return found


def numbers_of(spec: ShardSpec, place: Place) -> range:
    """The shards of a range, among those of all splits."""
    shards, first = shards_of(spec, place), spec.first_shard(place.split)
    return range(first + shards.start, first + shards.stop)


def find_layout(store: Store, build: BuildFolder, spec: ShardSpec, place: Place) -> Layout:
    """The layout of a range that was divided, or of a split."""
    if not place.path:
        return spec.layouts[place.split]
    return _read_divided(store, build, _Kept(spec), place)


class _Kept:
    """A value that is as good as any other one of its kind in a cache, which goes by the other arguments."""

    def __init__(self, spec: ShardSpec) -> None:
        self.spec = spec

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Kept)

    def __hash__(self) -> int:
        return 0


@lru_cache(maxsize=3)
def _read_divided(store: Store, build: BuildFolder, kept: _Kept, place: Place) -> Layout:
    spec = kept.spec
    sketch = _sketch(store, build, spec, place)
    cuts = [read_cuts(store, build.divided(place.split, place.path, group)) for group in range(spec.domain_groups)]
    return finish_range(sketch, sum_cuts(sketch, cuts))


def _sketch(store: Store, build: BuildFolder, spec: ShardSpec, place: Place) -> Layout:
    shards = shards_of(spec, place)
    begins = divide_shards(shards.start, shards.stop, spec.shards.size) or ()
    return sketch_range(find_layout(store, build, spec, place.above), begins)


def send_further(layout: Layout, columns: Mapping[str, npt.NDArray[Any]]) -> tuple[I64, I64, I64]:
    """(row, range, number among identical documents) of deliveries to the smaller ranges of a range.

    `columns` (DELIVERED_COLUMNS) hold all rows that some parts have in the range.
    """
    domain, epoch, part = (columns[name].astype(np.int64) for name in ("domain", "epoch", "part"))
    copy = _number(layout.slots.copies, part, domain, epoch, columns["hi"], columns["lo"], columns["copy"])
    row, _, number = route_epochs(layout.slots, np.arange(len(copy)), epoch, domain, columns["hi"], columns["lo"], copy)
    return row, number, copy[row]


def _number(copies: CutCopies, part: I64, domain: I64, epoch: I64, hi: U64, lo: U64, copy: I64) -> I64:
    """The numbers that documents have, and those that a division gives to copies at its bounds, in each epoch."""
    copy = copy.copy()
    open_ = np.flatnonzero((copy < 0) & np.isin(hi, copies.hi))
    for of_epoch in np.unique(epoch[open_]).tolist():
        rows = open_[epoch[open_] == of_epoch]
        copy[rows] = CopyCounter(copies).number(part[rows], domain[rows], hi[rows], lo[rows])
    return copy


def exchange_rows(store: Store, build: BuildFolder, spec: ShardSpec, source: RowSource, place: Place, group: int) -> None:
    """Send the rows that a group of parts spilled to a range to the smaller ranges within. Memory: EXCHANGING_BYTES."""
    layout = find_layout(store, build, spec, place)
    number, sent = _sort_spilled(store, build, spec, source, place, group, layout)
    path = build.exchanged(place.split, place.path, group)
    write_run(store, path, [(number, sent)], range(layout.ranges))
    records = drop_bodies(number, sent, spec.domain_groups)
    write_records(store, records_path(path), [records], layout.ranges * spec.domain_groups)


def _sort_spilled(
    store: Store, build: BuildFolder, spec: ShardSpec, source: RowSource, place: Place, group: int, layout: Layout
) -> tuple[I64, pa.Table]:
    """The smaller ranges of the rows that a group of parts spilled to a range, ascending, and these rows (RUN_SCHEMA)."""
    (rows,) = read_spilled(store, build, spec, source, place, [group])
    spilled = Delivered.of_runs(rows)
    row, number, copy = send_further(layout, spilled.columns)
    order = np.argsort(number, kind="stable")
    sent = spilled.take(row[order])
    columns = {**sent.columns, "copy": copy[order], "body": sent.bodies.gather()}
    return number[order], pa.table([pa.array(columns[field.name], field.type) for field in RUN_SCHEMA], schema=RUN_SCHEMA)


def read_spilled(
    store: Store, build: BuildFolder, spec: ShardSpec, source: RowSource, place: Place, groups: Sequence[int]
) -> list[pa.Table]:
    """The rows that were spilled to a range; a table for each of these groups of parts (RUN_SCHEMA)."""
    number = _number_of(spec, place)
    return [read_runs(store, _list_runs(build, source, place, group), number) for group in groups]


def _number_of(spec: ShardSpec, place: Place) -> int:
    """The number by which the files of rows know a range."""
    return place.path[-1] + (spec.first_range(place.split) if len(place.path) == 1 else 0)


def _list_runs(build: BuildFolder, source: RowSource, place: Place, group: int) -> list[SlicedFile]:
    """The runs in which a group of parts has its rows of a range."""
    if len(place.path) == 1:
        return source.of_group(group)
    return [SlicedFile(build.exchanged(place.split, place.path[:-1], group))] if source.runs else []


def _list_records(build: BuildFolder, source: RowSource, place: Place) -> list[SlicedFile]:
    """The files of records in which all parts have theirs of a range."""
    if len(place.path) == 1:
        return [file for of_part in source.runs for file in of_part.records]
    runs = [run for group in range(source.groups) for run in _list_runs(build, source, place, group)]
    return [SlicedFile(records_path(run.path)) for run in runs]


def divide_place(
    store: Store, build: BuildFolder, spec: ShardSpec, source: RowSource, kept: Delivered, place: Place, group: int
) -> None:
    """Find the bounds of the smaller ranges of a range, in the streams of a group of domains. `kept` are the kept rows of the
    range."""
    records = _list_records(build, source, place)
    spilled = read_records(store, records, _number_of(spec, place) * spec.domain_groups + group)
    layout = find_layout(store, build, spec, place.above)
    among = np.arange(len(layout.streams)) % spec.domain_groups == group
    mine = among[kept.columns["domain"]]
    names = ("part", "domain", "hi", "lo", "tokens", "epoch", "copy")
    columns = {name: np.concatenate([spilled[name].to_numpy(), kept.columns[name][mine]]) for name in names}
    order = np.argsort(columns["part"], kind="stable")
    signed = {name: columns[name][order].astype(np.int64) for name in ("part", "domain", "tokens", "epoch", "copy")}
    documents = Documents(signed["part"], signed["domain"], columns["hi"][order], columns["lo"][order], signed["tokens"])
    begins = _sketch(store, build, spec, place).begins.tolist()
    cuts = divide_range(layout, place.path[-1], begins, documents, signed["epoch"], signed["copy"], among)
    write_cuts(store, build.divided(place.split, place.path, group), cuts)


@dataclass(frozen=True)
class StoredWork:
    """What the tasks of a build share, on its store: values that grow with the corpus do not travel with a task."""

    build: BuildFolder
    spec: ShardSpec
    """Without its layouts, and without the names of domains."""
    splits: int
    source: str = ""
    """Digest of where the rows are; empty before `store_source`."""

    def read(self, store: Store) -> tuple[ShardSpec, RowSource]:
        return self.read_spec(store), _read_source(store, self.build, self.source)

    def read_spec(self, store: Store) -> ShardSpec:
        """The first alone."""
        alone = tuple(_read_held_out_alone(store, self.build))
        return replace(self.spec, layouts=_read_layouts(store, self.build, self.splits), held_out_alone=alone)


def store_spec(store: Store, build: BuildFolder, spec: ShardSpec) -> StoredWork:
    for split, layout in enumerate(spec.layouts):
        write_layout(store, build.layout(split), layout)
    write_record(store, build.held_out_alone, {"names": spec.held_out_alone})
    return StoredWork(build, replace(spec, layouts=(), held_out_alone=()), len(spec.layouts))


RUNS, RECORDS, KEPT = range(3)
_SOURCE_SCHEMA = pa.schema(
    [
        ("part", pa.int64()),  # of kept rows, in the corpus; of the others, among the parts that are not kept
        ("kind", pa.int8()),  # RUNS, RECORDS or KEPT
        ("path", pa.large_string()),
        ("listed", pa.large_string()),
        ("bytes", pa.int64()),
        ("rows", pa.int64()),
        ("first", pa.int64()),  # the ranges of a run, or files of records
        ("behind", pa.int64()),
    ]
)


def store_source(store: Store, work: StoredWork, source: RowSource) -> StoredWork:
    """Leave where the rows are for the tasks."""
    kept = source.kept
    sliced = (
        (n, kind, files) for n, part in enumerate(source.runs) for kind, files in ((RUNS, part.runs), (RECORDS, part.records))
    )
    runs = [
        (number, kind, file.path, file.listed, 0, 0, file.first, file.behind) for number, kind, files in sliced for file in files
    ]
    files = [(p.number, KEPT, f.path, f.listed, f.bytes, f.rows, 0, 0) for p in (kept.parts if kept else ()) for f in p.files]
    columns = list(zip(*runs, *files, strict=True)) or [()] * len(_SOURCE_SCHEMA)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _SOURCE_SCHEMA, strict=True)]
    about = [len(source.runs), source.groups, kept.store.url if kept else None, kept.copies if kept else ()]
    table = pa.table(arrays, schema=_SOURCE_SCHEMA).replace_schema_metadata({"about": json.dumps(about)})
    digest = fingerprint([column_sums(table), about])[:16]  # a worker that made another part of this build may have read another
    write_table(store, work.build.source(digest), table)
    return replace(work, source=digest)


@lru_cache(maxsize=1)
def _read_source(store: Store, build: BuildFolder, digest: str) -> RowSource:
    table = read_table(store, build.source(digest))
    spilled, groups, url, copies = json.loads(table.schema.metadata[b"about"])
    sliced: dict[int, list[list[SlicedFile]]] = {kind: [[] for _ in range(spilled)] for kind in (RUNS, RECORDS)}
    parts: dict[int, list[KeptFile]] = {}
    for part, kind, path, listed, size, rows, first, behind in zip(*table.to_pydict().values(), strict=True):
        if kind == KEPT:
            parts.setdefault(part, []).append(KeptFile(path, size, rows, listed))
        else:
            sliced[kind][part].append(SlicedFile(path, listed, first, behind))
    runs = tuple(PartRuns(tuple(of), tuple(records)) for of, records in zip(sliced[RUNS], sliced[RECORDS], strict=True))
    of_parts = tuple(KeptPart(number, tuple(files)) for number, files in parts.items())
    corpus = KeptCorpus(Store(url), of_parts, tuple(copies)) if url else None
    return RowSource(runs, corpus, groups)


@lru_cache(maxsize=1)
def _read_held_out_alone(store: Store, build: BuildFolder) -> list[str]:
    names: list[str] = read_record(store, build.held_out_alone)["names"]
    return names


@lru_cache(maxsize=1)
def _read_layouts(store: Store, build: BuildFolder, splits: int) -> tuple[Layout, ...]:
    return tuple(read_layout(store, build.layout(split)) for split in range(splits))
