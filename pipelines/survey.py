"""Pass 1: count the corpus, draw the samples and keep the rows, one task a part; parts that are recorded are not read again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import pyarrow as pa

from chameleon_data.corpus.fragments import Fragment
from chameleon_data.corpus.parts import PartList, name_files, part_bytes, split_parts, write_part_list
from chameleon_data.corpus.row_store import RowStore, explain_missing_room
from chameleon_data.corpus.sample import SampleSpec
from chameleon_data.corpus.survey import Survey, find_recorded_parts, read_survey, survey_part
from chameleon_data.corpus.tokens import TokenCounter
from chameleon_data.errors import locating
from chameleon_data.pipelines.engine import Engine, Progress, Task, count_work, run_pass
from chameleon_data.recipe import Input, Like, Source
from chameleon_data.store.store import Store
from chameleon_data.weights.domain_weights import TARGET_NAME


def survey_corpus(
    engine: Engine,
    store: Store,
    keep: RowStore | None,
    fragments: Mapping[str, Sequence[Fragment]],
    sources: Mapping[str, Source],
    input: Input,
    spec: SampleSpec,
    counter: TokenCounter,
    progress: Progress,
) -> Survey:
    """The survey of these sources, whose files `fragments` lists; their rows are kept in `keep` if it has room for all.

    Raises InputError for what cannot be read or holds too many bad rows.
    """
    parts = split_parts(fragments, sources, input, spec, counter, store)
    recorded = find_recorded_parts(store, parts)
    todo = [number for number, part in enumerate(parts) if part.key not in recorded]

    missing_room = explain_missing_room(keep, [f for number in todo for f in parts[number].fragments]) if keep else ""
    sizes = [part_bytes(part) for part in parts]
    left = [sizes[number] for number in todo]
    if todo:
        rows = None if missing_room else keep
        work = partial(_survey_number, store, rows, write_part_list(store, parts), input, spec, counter)
        task = Task(work, lambda number: name_files(parts[number]))
        run_pass(engine, "survey", task, todo, progress, sum(sizes) - sum(left), left)
    progress("select", 0, 0)
    survey = read_survey(store, parts, sources, input, spec.samples)
    return replace(survey, recorded=len(recorded), missing_room=missing_room)


def sample_target(
    engine: Engine,
    store: Store,
    fragments: Mapping[str, Sequence[Fragment]],
    target: Like,
    input: Input,
    spec: SampleSpec,
    counter: TokenCounter,
    progress: Progress,
) -> pa.Table:
    """The sample of a target's own files, drawn as a domain's is and recorded likewise, under the name `like`."""
    sources = {TARGET_NAME: Source(path=target.like, text=target.text)}
    plain = Input(max_bad=input.max_bad, max_blank=input.max_blank, max_document=input.max_document)
    with locating("weights.target"):
        return survey_corpus(engine, store, None, fragments, sources, plain, spec, counter, progress).sample


def _survey_number(
    store: Store,
    keep: RowStore | None,
    parts: PartList,
    input: Input,
    spec: SampleSpec,
    counter: TokenCounter,
    number: int,
) -> None:
    summary = survey_part(store, parts.read(number), input, spec, counter, keep)
    tallies = summary.tallies.values() if summary else ()
    count_work("survey", {
        "rows": sum(t.read for t in tallies), "bytes": sum(t.bytes for t in tallies), "tokens": sum(t.tokens for t in tallies),
        "quarantined": sum(t.quarantined for t in tallies),
    })  # fmt: skip
