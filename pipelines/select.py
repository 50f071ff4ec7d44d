"""The selection: a corpus of few rows is counted here, and a larger one by tasks over ranges of hashes, whose counts add up.

    sort      a task a group of parts: its records, by range of their hashes
    copies    a task a range of the low half, where copies share it alone (`hash: id`): which copies go
    ranges    a task a range: copies, sides, sums, histograms

What a task left is not done again.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial

import numpy as np
import pyarrow as pa

from chameleon_data.corpus.copies import COPIES_SCHEMA, find_copies, write_range_copies
from chameleon_data.corpus.parts import PartList, write_part_list
from chameleon_data.corpus.row_records import Half, read_corpus_records, read_part_records, read_range_records, sort_records
from chameleon_data.corpus.selection import (
    RangedCorpus,
    Selection,
    SelectionRules,
    count_records,
    range_corpus,
    read_corpus,
    read_counts,
    sum_counts,
    write_corpus,
)
from chameleon_data.corpus.survey import Survey
from chameleon_data.pipelines.engine import Engine, Progress, Task, run_pass
from chameleon_data.store.paths import SelectionFolder
from chameleon_data.store.slices import SlicedFile, read_slices, write_slices
from chameleon_data.store.store import Store


def select_rows(
    engine: Engine, store: Store, survey: Survey, rules: SelectionRules, priority: Sequence[str], progress: Progress
) -> Selection:
    """Find the copies and count the rows of each split; `priority` are the sources in the recipe's order.

    Raises InputError for a domain that has no row in one of the splits.
    """
    corpus, folder = range_corpus(survey, rules, priority)
    if corpus.bits == 0:
        progress("select", 0, 0)
        copies = COPIES_SCHEMA.empty_table()
        if rules.dedup != "none":
            records = read_corpus_records(store, survey.parts, corpus.domains)
            copies = find_copies(records, rules.dedup, rules.same, corpus.source_rank)
            write_range_copies(store, folder, 0, copies, corpus.groups)
        counts = count_records(read_corpus_records(store, survey.parts, corpus.domains), copies, rules, corpus, 0)
        return sum_counts(survey, rules, corpus, folder, [(0, counts)])
    write_corpus(store, folder, corpus)
    here = store.list(folder.folder)
    halves: tuple[Half, ...] = ("hi", "lo") if rules.dedup != "none" and rules.by_id else ("hi",)
    groups = [group for group in range(len(corpus.groups) - 1) if any(folder.records(half, group) not in here for half in halves)]
    parts = write_part_list(store, survey.parts)
    task = Task(partial(_sort, store, folder, parts, halves), lambda group: f"parts from {corpus.groups[group]:,} on")
    run_pass(engine, "sort", task, groups, progress, len(corpus.groups) - 1 - len(groups))
    ranges = range(corpus.ranges)
    if len(halves) > 1:
        missing = [number for number in ranges if folder.low_copies(number) not in here]
        task = Task(partial(_find_low_copies, store, folder, rules), lambda number: f"range {number} of hashes")
        run_pass(engine, "copies", task, missing, progress, len(ranges) - len(missing))
    missing = [number for number in ranges if any(folder.counts(number, split) not in here for split in rules.splits)]
    task = Task(partial(_count, store, folder, rules), lambda number: f"range {number} of hashes")
    run_pass(engine, "ranges", task, missing, progress, len(ranges) - len(missing))
    counted = ((number, read_counts(store, folder, rules, corpus, number)) for number in ranges)
    return sum_counts(survey, rules, corpus, folder, counted)


def _sort(store: Store, folder: SelectionFolder, parts: PartList, halves: Sequence[Half], group: int) -> None:
    corpus = _corpus(store, folder)
    numbers = range(*corpus.groups[group : group + 2])
    records = (rows for number in numbers for rows in read_part_records(store, number, parts.read(number), corpus.domains))
    sort_records(store, folder, corpus.bits, group, records, halves)


def _find_low_copies(store: Store, folder: SelectionFolder, rules: SelectionRules, number: int) -> None:
    corpus = _corpus(store, folder)
    records = read_range_records(store, folder, len(corpus.groups) - 1, "lo", number)
    copies = find_copies(records, rules.dedup, rules.same, corpus.source_rank)
    of_range = (copies["hi"].to_numpy() >> np.uint64(64 - corpus.bits)).astype(np.int64)
    order = np.argsort(of_range, kind="stable")
    write_slices(store, folder.low_copies(number), COPIES_SCHEMA, [(of_range[order], copies.take(order))], range(corpus.ranges))


def _count(store: Store, folder: SelectionFolder, rules: SelectionRules, number: int) -> None:
    corpus = _corpus(store, folder)
    groups, copies = len(corpus.groups) - 1, COPIES_SCHEMA.empty_table()
    if rules.dedup != "none":
        if rules.by_id:
            files = [SlicedFile(folder.low_copies(other)) for other in range(corpus.ranges)]
            found = read_slices(store, files, range(number, number + 1))[0]
            copies = pa.concat_tables([copies, *found]).sort_by([(name, "ascending") for name in ("part", "domain", "hi", "lo")])
        else:
            copies = find_copies(
                read_range_records(store, folder, groups, "hi", number), rules.dedup, rules.same, corpus.source_rank
            )
        write_range_copies(store, folder, number, copies, corpus.groups)
    counts = count_records(read_range_records(store, folder, groups, "hi", number), copies, rules, corpus, number)
    for split, of_split in counts.items():
        of_split.write(store, folder, split, number)


@lru_cache(maxsize=1)
def _corpus(store: Store, folder: SelectionFolder) -> RangedCorpus:
    return read_corpus(store, folder)
