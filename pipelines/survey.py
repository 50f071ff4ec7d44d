"""Pass 1: count the corpus and draw the samples, one task a part; parts that are recorded already are not read again."""

from __future__ import annotations

from dataclasses import replace

from chameleon_data.corpus.fragments import list_fragments
from chameleon_data.corpus.selection import Selection, select_rows, selection_rules
from chameleon_data.corpus.survey import Part, Survey, find_recorded_parts, read_survey, split_parts, survey_part
from chameleon_data.corpus.tokens import load_token_counter
from chameleon_data.pipelines.ray_cluster import Progress, run_tasks
from chameleon_data.recipe import Recipe
from chameleon_data.store.store import Store


def find_parts(recipe: Recipe) -> tuple[Part, ...]:
    """List every source's files, and group them into tasks."""
    fragments = {name: list_fragments(name, source) for name, source in recipe.sources.items()}
    return split_parts(recipe, fragments, load_token_counter(recipe.tokens).fingerprint)


def select_corpus(store: Store, recipe: Recipe, corpus: Survey) -> Selection:
    """What of the corpus may be written. On the driver, which reads 30 bytes a row."""
    return select_rows(store, corpus, selection_rules(recipe, load_token_counter(recipe.tokens)))


def survey_corpus(store: Store, recipe: Recipe, progress: Progress) -> Survey:
    """The survey of the recipe's corpus. Raises InputError for what cannot be read or holds too many bad rows."""
    parts, counter = find_parts(recipe), load_token_counter(recipe.tokens)
    done = find_recorded_parts(store, parts)
    todo = [number for number, part in enumerate(parts) if part.key not in done]
    run_tasks(
        "survey", todo, lambda number: survey_part(store, parts[number], recipe, counter), progress, done=len(parts) - len(todo)
    )
    return replace(read_survey(store, parts, recipe), recorded=len(done))
