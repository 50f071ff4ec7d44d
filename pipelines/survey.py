"""Pass 1: count the corpus and draw the samples, one task a part; parts that are recorded already are not read again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from chameleon_data.corpus.fragments import list_fragments
from chameleon_data.corpus.sample import SampleSpec
from chameleon_data.corpus.survey import Survey, find_recorded_parts, read_survey, split_parts, survey_part
from chameleon_data.corpus.tokens import TokenCounter
from chameleon_data.pipelines.ray_cluster import Progress, run_tasks
from chameleon_data.recipe import Input, Source
from chameleon_data.store.store import Store


def survey_corpus(
    store: Store,
    sources: Mapping[str, Source],
    input: Input,
    spec: SampleSpec,
    counter: TokenCounter,
    progress: Progress,
) -> Survey:
    """The survey of these sources. Raises InputError for what cannot be read or holds too many bad rows."""
    fragments = {name: list_fragments(name, source) for name, source in sources.items()}
    parts = split_parts(fragments, sources, input, spec, counter.fingerprint)
    recorded = find_recorded_parts(store, parts)
    todo = [number for number, part in enumerate(parts) if part.key not in recorded]

    def survey_one(number: int) -> None:
        part = parts[number]
        survey_part(store, part, sources[part.source], input, spec, counter)

    run_tasks("survey", todo, survey_one, progress, done=len(parts) - len(todo))
    survey = read_survey(store, parts, sources, input.max_bad, spec.samples)
    return replace(survey, recorded=len(recorded))
