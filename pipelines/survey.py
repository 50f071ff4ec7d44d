"""Pass 1: count the corpus and draw the samples, one task a part; parts that are recorded already are not read again."""

from __future__ import annotations

from dataclasses import replace

from chameleon_data.corpus.fragments import list_fragments
from chameleon_data.corpus.selection import Census, rules_of, take_census
from chameleon_data.corpus.survey import Part, Survey, read_survey, split_parts, survey_part, surveyed
from chameleon_data.corpus.tokens import load_counter
from chameleon_data.pipelines.ray_cluster import Progress, run
from chameleon_data.recipe import Recipe
from chameleon_data.store.store import Store


def find_parts(recipe: Recipe) -> tuple[Part, ...]:
    """List every source's files, and group them into tasks."""
    fragments = {name: list_fragments(name, source) for name, source in recipe.sources.items()}
    return split_parts(recipe, fragments, load_counter(recipe.tokens).fingerprint)


def census(store: Store, recipe: Recipe, corpus: Survey) -> Census:
    """What of the corpus may be written. On the driver, which reads 30 bytes a row."""
    return take_census(store, corpus, rules_of(recipe, load_counter(recipe.tokens)))


def survey(store: Store, recipe: Recipe, progress: Progress) -> Survey:
    """The survey of the recipe's corpus. Raises InputError for what cannot be read or holds too many bad rows."""
    parts, counter = find_parts(recipe), load_counter(recipe.tokens)
    done = surveyed(store, parts)
    todo = [number for number, part in enumerate(parts) if part.key not in done]
    run("survey", todo, lambda number: survey_part(store, parts[number], recipe, counter), progress, done=len(parts) - len(todo))
    return replace(read_survey(store, parts, recipe), recorded=len(done))
