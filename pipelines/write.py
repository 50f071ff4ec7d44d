"""Pass 4: parts whose rows are not kept are spilled to runs, ranges that are too large for one task are divided and their rows
sent further, and then the shards of every range are assembled from kept rows and runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from chameleon_data.corpus.copies import COPIES_SCHEMA, read_part_copies, write_copies_of_parts
from chameleon_data.corpus.kept_rows import read_kept_parts
from chameleon_data.corpus.parts import Part, PartList, name_files, part_bytes, write_part_list
from chameleon_data.corpus.row_store import RowStore
from chameleon_data.corpus.selection import Selection, read_corpus
from chameleon_data.errors import InputError
from chameleon_data.pipelines.engine import TASK_BYTES, Engine, Progress, Task, count_work, run_pass
from chameleon_data.shards.assemble import divide_large_range, encode_indexes, write_range
from chameleon_data.shards.lay_out import ShardSpec
from chameleon_data.shards.levels import (
    EXCHANGED_BYTES,
    EXCHANGING_BYTES,
    KeptCorpus,
    Place,
    RowSource,
    StoredWork,
    exchange_rows,
    list_places,
    numbers_of,
    store_source,
    store_spec,
)
from chameleon_data.shards.plan_summary import planned_bytes
from chameleon_data.shards.read_kept import write_kept_copies
from chameleon_data.shards.receipts import find_finished, read_receipts
from chameleon_data.shards.runs import read_run_lists
from chameleon_data.shards.spill import spill
from chameleon_data.store.paths import BuildFolder, SelectionFolder
from chameleon_data.store.store import NameTakenError, Store
from chameleon_data.versions.versions import list_versions, read_manifest


def write_missing_shards(
    engine: Engine,
    store: Store,
    keep: RowStore | None,
    build: BuildFolder,
    spec: ShardSpec,
    selection: Selection,
    parts: Sequence[Part],
    progress: Progress,
) -> int:
    """Write the shards of a folder that are not finished yet, then the index of each format; `read_receipts` then says what each
    holds.

    Returns the number of shards that were finished before. `keep` is where the survey kept the rows of the parts.
    """
    finished = find_finished(store, build)
    if not finished.all():
        try:
            work = send_rows(engine, store, keep, build, spec, selection, parts, spill, progress)
            places = list_places(spec)[0]
            missing = [number for number, place in enumerate(places) if not finished[_slice(numbers_of(spec, place))].all()]
            part_list = write_part_list(store, parts) if spec.shards.lineage else None
            task = Task(partial(_write_range, store, work, part_list), lambda number: describe_place(spec, places[number]))
            each = max(1, planned_bytes(spec.layouts) // build.shards)
            sizes = [each * len(numbers_of(spec, places[number])) for number in missing]
            run_pass(engine, "write", task, missing, progress, each * build.shards - sum(sizes), sizes)
        except InputError:
            if not find_finished(store, build).all():
                raise  # else another build of the same plan wrote them, and then removed the runs
        if keep:
            keep.store.remove([build.kept_copies(number) for number in range(selection.corpus.ranges)])
    for path, data in encode_indexes(spec, read_receipts(store, build)).items():
        _write_index(store, build, path, data)
    return int(finished.sum())


def _write_index(store: Store, build: BuildFolder, path: str, data: bytes) -> None:
    """Write a file beside the shards. Its bytes follow from the plan, so other bytes there are damaged. They are replaced, unless
    a version refers to the build: no file of a version is."""
    try:
        store.write_new(build.file(path), data)
    except NameTakenError:
        if any(build.folder in read_manifest(store, version).builds for version in list_versions(store)):
            raise
        store.write(build.file(path), data)


def _slice(numbers: range) -> slice:
    return slice(numbers.start, numbers.stop)


def send_rows(
    engine: Engine,
    store: Store,
    keep: RowStore | None,
    build: BuildFolder,
    spec: ShardSpec,
    selection: Selection,
    parts: Sequence[Part],
    spill: Callable[..., None],
    progress: Progress,
) -> StoredWork:
    """Bring rows to the ranges of shards that tasks write: those that are kept are found there, others are sent.

    What is there already is not done again. `spill` is that of `spill.py`, or `spill_records`.
    """
    work = store_spec(store, build, spec)
    source = _gather_rows(engine, store, keep, work, selection, parts, spill, progress)
    work, groups = store_source(store, work, source), spec.domain_groups
    for places in list_places(spec)[1]:
        here = store.list(build.runs)
        divided = [(place, group) for place in places for group in range(groups)]
        missing = [n for n, (place, group) in enumerate(divided) if build.divided(place.split, place.path, group) not in here]
        about = partial(_describe_part, spec, [place for place, _ in divided])
        memory = TASK_BYTES + spec.dividing_bytes
        task = Task(partial(_divide, store, work, len(places[0].path)), about, memory)
        run_pass(engine, "divide", task, missing, progress)
        if source.runs:
            sent = [(place, group) for place in places for group in range(source.groups)]
            missing = [n for n, (place, group) in enumerate(sent) if build.exchanged(place.split, place.path, group) not in here]
            about = partial(_describe_part, spec, [place for place, _ in sent])
            task = Task(partial(_exchange, store, work, len(places[0].path)), about, TASK_BYTES + EXCHANGING_BYTES)
            run_pass(engine, "exchange", task, missing, progress)
    return work


def _gather_rows(
    engine: Engine,
    store: Store,
    keep: RowStore | None,
    work: StoredWork,
    selection: Selection,
    parts: Sequence[Part],
    spill: Callable[..., None],
    progress: Progress,
) -> RowSource:
    """Where the rows of all parts are: in `keep`, or in runs, which are written where they are not there yet."""
    build, spec = work.build, work.read_spec(store)
    kept = _find_kept_corpus(engine, store, keep, build, selection, parts, progress) if keep else None
    others = sorted({*range(len(parts))} - {part.number for part in (kept.parts if kept else ())})
    if others:
        _spill_parts(engine, store, work, selection, parts, others, spill, progress)
    groups = count_part_groups(spec, len(others))
    return RowSource(read_run_lists(store, [build.run_list(parts[number].key) for number in others]), kept, groups)


def count_part_groups(spec: ShardSpec, unkept: int) -> int:
    """Groups of the parts that are not kept, of which one task each sends the rows of a range further."""
    each = planned_bytes(spec.layouts) // spec.ranges
    return max(1, min(unkept, -(-each // EXCHANGED_BYTES)))


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
    work: StoredWork,
    selection: Selection,
    parts: Sequence[Part],
    numbers: Sequence[int],
    spill: Callable[..., None],
    progress: Progress,
) -> None:
    here, build = store.list(work.build.runs), work.build
    todo = [number for number in numbers if build.run_list(parts[number].key) not in here]
    if selection.drops_copies:
        _spread_copies(engine, store, selection, todo, progress)
    folder = selection.folder if selection.drops_copies else None
    task = Task(
        partial(_spill_number, spill, store, work, folder, write_part_list(store, parts)),
        lambda number: name_files(parts[number]),
    )
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
        task = Task(partial(_spread_group, store, folder), lambda group: f"parts from {groups[group]:,} on")
        run_pass(engine, "copies", task, wanted, progress)


def _spread_group(store: Store, folder: SelectionFolder, group: int) -> None:
    corpus = read_corpus(store, folder)
    write_copies_of_parts(store, folder, corpus.ranges, group, range(*corpus.groups[group : group + 2]))


def _spill_number(
    spill: Callable[..., None],
    store: Store,
    work: StoredWork,
    selection: SelectionFolder | None,
    parts: PartList,
    number: int,
) -> None:
    """`selection` is where copies are that are dropped; None where none is."""
    copies = read_part_copies(store, selection, number) if selection else COPIES_SCHEMA.empty_table()
    spill(store, work.build, work.read_spec(store), number, parts.read(number), copies)


def _divide(store: Store, work: StoredWork, level: int, number: int) -> None:
    spec, source = work.read(store)
    place, group = list_places(spec)[1][level - 1][number // spec.domain_groups], number % spec.domain_groups
    divide_large_range(store, work.build, spec, source, place, group)


def _exchange(store: Store, work: StoredWork, level: int, number: int) -> None:
    spec, source = work.read(store)
    place = list_places(spec)[1][level - 1][number // source.groups]
    exchange_rows(store, work.build, spec, source, place, number % source.groups)


def _write_range(store: Store, work: StoredWork, parts: PartList | None, number: int) -> None:
    spec, source = work.read(store)
    receipts = write_range(store, work.build, spec, parts, source, list_places(spec)[0][number])
    size = sum(file.bytes for receipt in receipts for file in receipt.files)
    count_work("write", {"rows": sum(r.rows for r in receipts), "tokens": sum(r.tokens for r in receipts), "bytes": size})


def _describe_part(spec: ShardSpec, places: Sequence[Place], number: int) -> str:
    return describe_place(spec, places[number])


def describe_place(spec: ShardSpec, place: Place) -> str:
    """The place in words, for a message."""
    shards = numbers_of(spec, place)
    return f"shards {shards.start} to {shards.stop - 1}"
