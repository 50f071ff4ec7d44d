"""The layout of each split: what histograms leave open is looked up in the records of rows, by range of hashes.

A corpus of few rows is one range, which the driver looks at; those of a larger one are tasks (`pipelines/select.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np
import pyarrow as pa

from chameleon_data.arrays import Mask
from chameleon_data.corpus.copies import COPIES_SCHEMA, read_range_copies
from chameleon_data.corpus.parts import Part
from chameleon_data.corpus.row_records import RowRecords, read_corpus_records, read_range_records
from chameleon_data.corpus.selection import RangedCorpus, Selection, SelectionRules, read_corpus, select_records
from chameleon_data.corpus.survey import Survey
from chameleon_data.hashing import fingerprint
from chameleon_data.pipelines.engine import TASK_BYTES, Engine, Progress, Task, run_pass
from chameleon_data.plan.cuts import (
    Documents,
    cut_slots,
    find_filled_shards,
    find_open_shards,
    finish_layout,
    in_cut_slots,
    in_open_slots,
    sum_cuts,
)
from chameleon_data.plan.layout import Layout, sketch_layout
from chameleon_data.plan.plan import Plan, largest_full_shard_counts
from chameleon_data.plan.streams import SEVERAL_RANGES
from chameleon_data.shards.grouping import begin_stage_ranges, shards_per_range
from chameleon_data.shards.layout_files import read_cuts, read_layout, write_cuts, write_layout
from chameleon_data.store.checksummed import read_table, write_table
from chameleon_data.store.paths import LayoutFolder, SelectionFolder
from chameleon_data.store.store import Store

CUT_DOCUMENT_BYTES = 100
"""Memory that a task takes for each document in a slot that is cut."""
ROWS_FILE_BYTES = 128 * 2**20
"""About the bytes of rows in a file of kept rows, or in a run."""


def lay_out_plans(
    engine: Engine,
    store: Store,
    survey: Survey,
    selection: Selection,
    plans: Sequence[Sequence[Plan]],
    shard_bytes: int,
    progress: Progress,
) -> tuple[tuple[Layout, ...], ...]:
    """The layouts of the plans of each folder. One with so long documents that a shard would be empty gets fewer shards."""
    layouts, first = list[tuple[Layout, ...]](), 0
    for train, *rest in plans:
        numbered = replace(train, first_shard=first)
        of_folder = _lay_out_folder(engine, store, survey, selection, [numbered, *rest], shard_bytes, progress)
        first = of_folder[0].plan.named_shards
        layouts.append(of_folder)
    return tuple(layouts)


def _lay_out_folder(
    engine: Engine,
    store: Store,
    survey: Survey,
    selection: Selection,
    plans: Sequence[Plan],
    shard_bytes: int,
    progress: Progress,
) -> tuple[Layout, ...]:
    layouts = []
    for plan in plans:
        full = _without_empty_shards(engine, store, survey, selection, plan, progress)
        rows = sum(d.quota * d.rows // d.tokens for d in full.domains) // full.shards
        size = sum(tally.bytes for tally in survey.tallies.values())
        files = max(len(survey.parts), size // ROWS_FILE_BYTES)
        each = shards_per_range(files, full.shards, shard_bytes, rows, engine.cpus)
        begins = begin_stage_ranges(full.stage_shards, each)
        layouts.append(_lay_out(engine, store, survey, selection, full, begins, progress))
    return tuple(layouts)


def _lay_out(
    engine: Engine,
    store: Store,
    survey: Survey,
    selection: Selection,
    plan: Plan,
    begins: Sequence[int],
    progress: Progress,
) -> Layout:
    """The plan laid out in ranges."""
    sketch = sketch_layout(plan, selection.splits[plan.split], begins)
    folder = LayoutFolder(fingerprint([plan.digest, list(begins), selection.folder.digest])[:32])
    if selection.corpus.bits == 0:
        cuts = [cut_slots(sketch, _read_corpus_documents(store, survey.parts, selection, sketch, None))]
    else:
        write_layout(store, folder.sketch, sketch)
        here, ranges = store.list(folder.folder), range(selection.corpus.ranges)
        missing = [number for number in ranges if folder.cuts(number) not in here]
        task = Task(
            partial(_cut_range, store, selection.folder, selection.rules, folder),
            lambda number: f"range {number} of hashes",
            _cutting_bytes(sketch, selection),
        )
        run_pass(engine, "cut", task, missing, progress, len(ranges) - len(missing))
        cuts = [read_cuts(store, folder.cuts(number)) for number in ranges]
    return finish_layout(sketch, sum_cuts(sketch, cuts))


def _cutting_bytes(sketch: Layout, selection: Selection) -> int:
    """Memory of a task that cuts a range of hashes: it holds the documents of slots that are cut."""
    share = float(np.mean(sketch.slots.range == SEVERAL_RANGES))
    rows = sum(domain.rows for domain in sketch.plan.domains) // selection.corpus.ranges
    return TASK_BYTES + int(CUT_DOCUMENT_BYTES * share * rows)


def _without_empty_shards(
    engine: Engine, store: Store, survey: Survey, selection: Selection, plan: Plan, progress: Progress
) -> Plan:
    """The plan, with fewer shards where documents are so long that a shard would be empty."""
    counts = selection.splits[plan.split]
    while any(np.array(plan.stage_shards) > (full := np.array(largest_full_shard_counts(plan)))):
        sketch = sketch_layout(plan, counts, (0, plan.shards))
        empty = find_open_shards(sketch, counts)
        if empty.any() and not (plan.packing and not plan.packing.whole):
            empty &= ~_find_filled_shards(engine, store, survey, selection, sketch, empty, progress)
        if not empty.any():
            return plan
        counted = np.array(plan.stage_shards)
        of_stage = np.add.reduceat(empty, np.cumsum(counted) - counted) > 0
        fewer = np.where(of_stage, np.maximum(full, counted * 3 // 4), counted)
        plan = replace(plan, stage_shards=tuple(fewer.tolist()))
    return plan


def _find_filled_shards(
    engine: Engine, store: Store, survey: Survey, selection: Selection, sketch: Layout, empty: Mask, progress: Progress
) -> Mask:
    """(shards,) whether a document near the shards that histograms leave open gives a shard a row."""
    if selection.corpus.bits == 0:
        return find_filled_shards(sketch, _read_corpus_documents(store, survey.parts, selection, sketch, empty))
    plan = sketch.plan
    folder = LayoutFolder(fingerprint([plan.digest, "filled", selection.folder.digest])[:32])
    write_layout(store, folder.sketch, sketch)
    write_table(store, folder.open_shards, pa.table({"open": empty}))
    here, ranges = store.list(folder.folder), range(selection.corpus.ranges)
    missing = [number for number in ranges if folder.filled(number) not in here]
    task = Task(
        partial(_fill_range, store, selection.folder, selection.rules, folder), lambda number: f"range {number} of hashes"
    )
    run_pass(engine, "cut", task, missing, progress, len(ranges) - len(missing))
    filled = np.zeros(plan.shards, bool)
    for number in ranges:
        filled |= read_table(store, folder.filled(number))["filled"].to_numpy()
    return filled


def _read_corpus_documents(
    store: Store, parts: Sequence[Part], selection: Selection, layout: Layout, open_: Mask | None
) -> Documents:
    corpus, copies = selection.corpus, COPIES_SCHEMA.empty_table()
    if selection.drops_copies:
        copies = read_range_copies(store, selection.folder, 0, len(corpus.groups) - 1)
    return _gather(read_corpus_records(store, parts, corpus.domains), copies, selection.rules, layout, open_)


def _read_range_documents(
    store: Store, folder: SelectionFolder, rules: SelectionRules, number: int, layout: Layout, open_: Mask | None
) -> Documents:
    groups, copies = len(_corpus(store, folder).groups) - 1, COPIES_SCHEMA.empty_table()
    if rules.dedup != "none":
        copies = read_range_copies(store, folder, number, groups)
    return _gather(read_range_records(store, folder, groups, "hi", number), copies, rules, layout, open_)


def _gather(
    records: Iterator[RowRecords], copies: pa.Table, rules: SelectionRules, layout: Layout, open_: Mask | None
) -> Documents:
    """The documents of a layout's split that are in cut slots; or in those that reach into open shards."""
    found = list[Documents]()
    for split, rows in select_records(records, copies, rules):
        if split != layout.plan.split:
            continue
        domain = rows.domain.astype(np.int64)
        wanted = in_cut_slots(layout.slots, domain, rows.hi) if open_ is None else in_open_slots(layout, open_, domain, rows.hi)
        found.append(Documents(rows.part.astype(np.int64), domain, rows.hi, rows.lo, rows.tokens).take(wanted))
    return Documents.concatenate(found)


def _cut_range(store: Store, folder: SelectionFolder, rules: SelectionRules, layout: LayoutFolder, number: int) -> None:
    sketch = _sketch(store, layout)
    cuts = cut_slots(sketch, _read_range_documents(store, folder, rules, number, sketch, None))
    write_cuts(store, layout.cuts(number), cuts)


def _fill_range(store: Store, folder: SelectionFolder, rules: SelectionRules, layout: LayoutFolder, number: int) -> None:
    sketch, open_ = _sketch(store, layout), read_table(store, layout.open_shards)["open"].to_numpy(zero_copy_only=False)
    filled = find_filled_shards(sketch, _read_range_documents(store, folder, rules, number, sketch, open_))
    write_table(store, layout.filled(number), pa.table({"filled": filled}))


@lru_cache(maxsize=1)
def _sketch(store: Store, folder: LayoutFolder) -> Layout:
    return read_layout(store, folder.sketch)


@lru_cache(maxsize=1)
def _corpus(store: Store, folder: SelectionFolder) -> RangedCorpus:
    return read_corpus(store, folder)
