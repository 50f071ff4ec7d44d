"""Pass 4: parts whose rows are not kept are spilled to runs, then every shard is assembled from kept rows and runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from chameleon_data.corpus.copies import COPIES_SCHEMA, read_part_copies, write_copies_of_parts
from chameleon_data.corpus.kept_rows import read_kept_parts
from chameleon_data.corpus.parts import Part, PartList, name_files, part_bytes, write_part_list
from chameleon_data.corpus.row_store import RowStore
from chameleon_data.corpus.selection import Selection
from chameleon_data.errors import InputError
from chameleon_data.pipelines.engine import Engine, Progress, Task, run_pass
from chameleon_data.shards.assemble import RowSource, encode_indexes, write_shards
from chameleon_data.shards.grouping import group_shards, shards_per_task
from chameleon_data.shards.lay_out import ShardSpec, build_folder
from chameleon_data.shards.plan_summary import planned_bytes
from chameleon_data.shards.read_kept import KeptCorpus, write_kept_copies
from chameleon_data.shards.receipts import Receipt, read_receipts
from chameleon_data.shards.runs import read_run_lists
from chameleon_data.shards.spill import spill
from chameleon_data.store.paths import BuildFolder, SelectionFolder
from chameleon_data.store.store import Store


def write_missing_shards(
    engine: Engine,
    store: Store,
    keep: RowStore | None,
    spec: ShardSpec,
    selection: Selection,
    parts: Sequence[Part],
    progress: Progress,
) -> tuple[list[Receipt], int]:
    """Write the shards that are not finished yet, then the index of each format.

    Returns all receipts in order, and the number of shards that were finished before. `keep` is where the survey kept the rows of
    the parts.
    """
    build = build_folder(spec.layouts, parts)
    missing = _missing_shards(store, build)
    if missing:
        try:
            source = gather_rows(engine, store, keep, build, spec, selection, parts, spill, progress)
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
            keep.store.remove([build.kept_copies(number) for number in range(selection.corpus.ranges)])
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
    selection: Selection,
    parts: Sequence[Part],
    spill: Callable[..., None],
    progress: Progress,
) -> RowSource:
    """Where the rows of all parts are: in `keep`, or in runs, which are written where they are not there yet.

    `spill` is that of `spill.py`, or `spill_records`.
    """
    kept = _find_kept_corpus(engine, store, keep, build, selection, parts, progress) if keep else None
    others = sorted({*range(len(parts))} - {part.number for part in (kept.parts if kept else ())})
    if others:
        _spill_parts(engine, store, build, spec, selection, parts, others, spill, progress)
    return RowSource(read_run_lists(store, [build.run_list(parts[number].key) for number in others]), kept)


def _find_kept_corpus(
    engine: Engine,
    store: Store,
    keep: RowStore,
    build: BuildFolder,
    selection: Selection,
    parts: Sequence[Part],
    progress: Progress,
) -> KeptCorpus | None:
    """What is kept of a corpus, or None. The copies to drop are put beside it."""
    kept = read_kept_parts(keep, [part.key for part in parts])
    if not kept:
        return None
    if not selection.drops_copies:
        return KeptCorpus(keep.store, kept, ())
    ranges = range(selection.corpus.ranges)
    groups, domains = len(selection.corpus.groups) - 1, len(selection.corpus.domains)
    work = partial(_write_kept_copies, store, selection.folder, groups, domains, keep.store, build)
    if len(ranges) == 1:
        work(0)
    else:
        run_pass(engine, "copies", Task(work, lambda number: f"range {number} of hashes"), ranges, progress)
    return KeptCorpus(keep.store, kept, tuple(map(build.kept_copies, ranges)))


def _write_kept_copies(
    store: Store, selection: SelectionFolder, groups: int, domains: int, kept: Store, build: BuildFolder, number: int
) -> None:
    write_kept_copies(store, selection, groups, domains, kept, build.kept_copies(number), number)


def _spill_parts(
    engine: Engine,
    store: Store,
    build: BuildFolder,
    spec: ShardSpec,
    selection: Selection,
    parts: Sequence[Part],
    numbers: Sequence[int],
    spill: Callable[..., None],
    progress: Progress,
) -> None:
    here = store.list(build.runs)
    todo = [number for number in numbers if build.run_list(parts[number].key) not in here]
    if selection.drops_copies:
        _spread_copies(engine, store, selection, todo, progress)
    folder = selection.folder if selection.drops_copies else None
    part_list = write_part_list(store, parts)
    task = Task(partial(_spill_number, spill, store, build, spec, folder, part_list), lambda number: name_files(parts[number]))
    left = [part_bytes(parts[number]) for number in todo]
    run_pass(engine, "read", task, todo, progress, sum(part_bytes(parts[number]) for number in numbers) - sum(left), left)


def _spread_copies(engine: Engine, store: Store, selection: Selection, numbers: Sequence[int], progress: Progress) -> None:
    """Let each of these parts find its copies: they lie by range of hashes."""
    groups, ranges, folder = selection.corpus.groups, selection.corpus.ranges, selection.folder
    here = store.list(folder.folder)
    missing = {number for number in numbers if folder.part_copies(number) not in here}
    wanted = [group for group in range(len(groups) - 1) if not missing.isdisjoint(range(*groups[group : group + 2]))]
    if ranges == 1:
        for group in wanted:
            write_copies_of_parts(store, folder, ranges, group, range(*groups[group : group + 2]))
    else:
        task = Task(partial(_spread_group, store, folder, ranges, groups), lambda group: f"parts from {groups[group]:,} on")
        run_pass(engine, "copies", task, wanted, progress)


def _spread_group(store: Store, folder: SelectionFolder, ranges: int, groups: tuple[int, ...], group: int) -> None:
    write_copies_of_parts(store, folder, ranges, group, range(*groups[group : group + 2]))


def _spill_number(
    spill: Callable[..., None],
    store: Store,
    build: BuildFolder,
    spec: ShardSpec,
    selection: SelectionFolder | None,
    parts: PartList,
    number: int,
) -> None:
    """`selection` is where copies are that are dropped; None where none is."""
    copies = read_part_copies(store, selection, number) if selection else COPIES_SCHEMA.empty_table()
    spill(store, build, spec, number, parts.read(number), copies)


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
