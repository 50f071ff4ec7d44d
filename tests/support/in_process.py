"""A whole build in one process, without Ray, by the functions that the passes call; weights are given."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from chameleon_data.corpus.fragments import list_fragments
from chameleon_data.corpus.selection import Selection, copies_in_part, select_rows, selection_rules
from chameleon_data.corpus.survey import Part, Survey, read_survey, split_parts, survey_part
from chameleon_data.corpus.tokens import load_token_counter
from chameleon_data.hashing import canonical_json
from chameleon_data.recipe import Recipe
from chameleon_data.shards.assemble import encode_indexes, write_shards
from chameleon_data.shards.lay_out import ShardSpec, build_folder, lay_out_splits
from chameleon_data.shards.receipts import Receipt, read_receipts
from chameleon_data.shards.runs import read_run_lists
from chameleon_data.shards.spill import spill
from chameleon_data.store.paths import BuildFolder
from chameleon_data.store.store import Store
from chameleon_data.versions.manifest import make_manifest, writer_fingerprint

WEIGHTS = {"legal": "0.5", "book": "0.3", "code": "0.2"}


def surveyed(recipe: Recipe) -> tuple[Store, tuple[Part, ...], Survey]:
    store, counter = Store(recipe.out), load_token_counter(recipe.tokens)
    parts = split_parts(recipe, {n: list_fragments(n, s) for n, s in recipe.sources.items()}, counter.fingerprint)
    for part in parts:
        survey_part(store, part, recipe, counter)
    return store, parts, read_survey(store, parts, recipe)


@dataclass(frozen=True)
class Ready:
    """A build that is planned; nothing is written yet."""

    recipe: Recipe
    store: Store
    parts: tuple[Part, ...]
    survey: Survey
    census: Selection
    budget: int
    job: ShardSpec
    build: BuildFolder

    def spill(self) -> None:
        for number, part in enumerate(self.parts):
            spill(self.store, self.build, self.job, number, part, copies_in_part(self.census.copies, number))

    def write_shards(self, shards: range) -> None:
        runs = read_run_lists(self.store, [self.build.run_list(part.key) for part in self.parts])
        write_shards(self.store, self.build, self.job, self.parts, runs, shards)

    def write(self) -> list[Receipt]:
        """All receipts in order."""
        self.spill()
        self.write_shards(range(self.build.shards))
        receipts = list(read_receipts(self.store, self.build).values())
        for path, data in encode_indexes(self.job, receipts).items():
            self.store.write_new(f"{self.build.folder}/{path}", data)
        return receipts

    def manifest(self) -> dict[str, Any]:
        """Of the written build, as the store would give it back."""
        about = {"scores": {}, "intervals": {}}
        manifest = make_manifest(self.recipe, self.survey, self.census, about, self.budget, self.job.layouts, self.write(), {})
        found: dict[str, Any] = json.loads(canonical_json(manifest))
        return found


def ready(recipe: Recipe, weights: dict[str, str] = WEIGHTS) -> Ready:
    store, parts, survey = surveyed(recipe)
    counter = load_token_counter(recipe.tokens)
    census = select_rows(store, survey, selection_rules(recipe, counter))
    budget = sum(c.tokens for c in census.counts) if recipe.mix.budget == "auto" else recipe.mix.budget
    writer = writer_fingerprint(recipe, counter)
    layouts = lay_out_splits(
        store, recipe.mix, recipe.shards, recipe.input.hash, recipe.seed, parts, census, weights, budget, writer
    )
    job = ShardSpec(layouts, census.rules, counter, recipe.sources, recipe.input, recipe.shards)
    return Ready(recipe, store, parts, survey, census, budget, job, build_folder(layouts, parts))
