"""Pass 4: parts whose rows are not kept are spilled to runs, then every shard is assembled from kept rows and runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pyarrow as pa

from chameleon_data.corpus.parts import Part, name_files, part_bytes
from chameleon_data.corpus.row_store import RowStore
from chameleon_data.corpus.selection import COPIES_SCHEMA, copies_in_part
from chameleon_data.errors import InputError
from chameleon_data.pipelines.engine import Engine, Progress, Task, run_pass
from chameleon_data.shards.assemble import RowSource, encode_indexes, write_shards
from chameleon_data.shards.grouping import group_shards, shards_per_task
from chameleon_data.shards.lay_out import ShardSpec, build_folder
from chameleon_data.shards.plan_summary import planned_bytes
from chameleon_data.shards.read_kept import find_kept_corpus
from chameleon_data.shards.receipts import Receipt, read_receipts
from chameleon_data.shards.runs import read_run_lists
from chameleon_data.shards.spill import spill
from chameleon_data.store.checksummed import read_table, write_table
from chameleon_data.store.paths import BuildFolder
from chameleon_data.store.store import Store

COPIES_AT_ONCE = 16
"""Files of copies that are written at once."""


def write_missing_shards(
    engine: Engine,
    store: Store,
    keep: RowStore | None,
    spec: ShardSpec,
    copies: pa.Table,
    parts: Sequence[Part],
    progress: Progress,
) -> tuple[list[Receipt], int]:
    """Write the shards that are not finished yet, then the index of each format.

    Returns all receipts in order, and the number of shards that were finished before. `copies` are those of all parts
    (`selection.COPIES_SCHEMA`); `keep` is where the survey kept their rows.
    """
    build = build_folder(spec.layouts, parts)
    missing = _missing_shards(store, build)
    if missing:
        try:
            source = gather_rows(engine, store, keep, build, spec, copies, parts, spill, progress)
            kept_files = source.kept.files if source.kept else 0
            most = shards_per_task(len(source.runs), kept_files, build.shards, spec.shards.size, spec.most_delivered, engine.cpus)
            groups = group_shards(missing, most)
            task = Task(
                partial(_write_group, store, build, spec, parts, source, groups),
                lambda number: f"shards {groups[number].start} to {groups[number].stop - 1}",
            )
            each = max(1, planned_bytes(spec.layouts) // build.shards)
            sizes = [each * len(group) for group in groups]
            run_pass(engine, "write", task, range(len(groups)), progress, each * (build.shards - len(missing)), sizes)
        except InputError:
            if _missing_shards(store, build):  # else another build of the same plan wrote them, and then removed the runs
                raise
        if keep:
            keep.store.remove([build.kept_copies])
    receipts = list(read_receipts(store, build).values())
    for path, data in encode_indexes(spec, receipts).items():
        store.write_new(build.file(path), data)
    return receipts, build.shards - len(missing)


def gather_rows(
    engine: Engine,
    store: Store,
    keep: RowStore | None,
    build: BuildFolder,
    spec: ShardSpec,
    copies: pa.Table,
    parts: Sequence[Part],
    spill: Callable[..., None],
    progress: Progress,
) -> RowSource:
    """Where the rows of all parts are: in `keep`, or in runs, which are written where they are not there yet.

    `spill` is that of `spill.py`, or `spill_records`. `copies` are those of all parts. A task that spills gets those of its part
    alone, from a file beside the runs.
    """
    kept = find_kept_corpus(keep, [part.key for part in parts], copies, build.kept_copies) if keep else None
    others = sorted({*range(len(parts))} - {part.number for part in (kept.parts if kept else ())})
    if others:
        _spill_parts(engine, store, build, spec, copies, parts, others, spill, progress)
    return RowSource(read_run_lists(store, [build.run_list(parts[number].key) for number in others]), kept)


def _spill_parts(
    engine: Engine,
    store: Store,
    build: BuildFolder,
    spec: ShardSpec,
    copies: pa.Table,
    parts: Sequence[Part],
    numbers: Sequence[int],
    spill: Callable[..., None],
    progress: Progress,
) -> None:
    here = store.list(build.runs)
    todo = [number for number in numbers if build.run_list(parts[number].key) not in here]
    repeated = frozenset(copies["part"].unique().to_pylist())
    with ThreadPoolExecutor(COPIES_AT_ONCE) as pool:
        of_part = {number: copies_in_part(copies, number) for number in todo if number in repeated}
        list(pool.map(lambda item: write_table(store, build.copies(parts[item[0]].key), item[1]), of_part.items()))
    task = Task(partial(_spill_number, spill, store, build, spec, repeated, parts), lambda number: name_files(parts[number]))
    left = [part_bytes(parts[number]) for number in todo]
    run_pass(engine, "read", task, todo, progress, sum(part_bytes(parts[number]) for number in numbers) - sum(left), left)


def _spill_number(
    spill: Callable[..., None],
    store: Store,
    build: BuildFolder,
    spec: ShardSpec,
    repeated: frozenset[int],
    parts: Sequence[Part],
    number: int,
) -> None:
    part = parts[number]
    copies = read_table(store, build.copies(part.key)) if number in repeated else COPIES_SCHEMA.empty_table()
    spill(store, build, spec, number, part, copies)


def _write_group(
    store: Store,
    build: BuildFolder,
    spec: ShardSpec,
    parts: Sequence[Part],
    source: RowSource,
    groups: Sequence[range],
    number: int,
) -> None:
    write_shards(store, build, spec, parts, source, groups[number])


def _missing_shards(store: Store, build: BuildFolder) -> list[int]:
    finished = read_receipts(store, build)
    return [shard for shard in range(build.shards) if shard not in finished]
