"""A whole build in one process, without Ray, by the functions that the passes call; weights are given."""

from __future__ import annotations

from dataclasses import dataclass

from chameleon_data.corpus.fragments import list_fragments
from chameleon_data.corpus.kept_columns import kinds_of
from chameleon_data.corpus.parts import Part, split_parts
from chameleon_data.corpus.row_store import RowStore, choose_row_store
from chameleon_data.corpus.sample import make_sample_spec
from chameleon_data.corpus.selection import Selection, SelectionRules, make_selection_rules
from chameleon_data.corpus.survey import Survey, read_survey, survey_part
from chameleon_data.corpus.tokens import TokenCounter, load_token_counter
from chameleon_data.pipelines.lay_out import lay_out_plans
from chameleon_data.pipelines.select import select_rows
from chameleon_data.pipelines.write import send_rows, write_missing_shards
from chameleon_data.recipe import Recipe
from chameleon_data.shards.lay_out import ShardSpec, build_folders, make_shard_specs, plan_splits, stage_budgets
from chameleon_data.shards.levels import KeptCorpus, RowSource, StoredWork
from chameleon_data.shards.receipts import Receipt
from chameleon_data.shards.spill import spill
from chameleon_data.store.paths import BuildFolder
from chameleon_data.store.store import Store
from chameleon_data.versions.make_manifest import make_manifest
from chameleon_data.versions.manifest import Manifest
from chameleon_data.versions.provenance import describe_writer, gather_provenance
from chameleon_data.versions.streaming import StreamTables, stream_here
from chameleon_data.versions.written import gather_written
from chameleon_data.weights.mixture import WeighedStage
from tests.support.inline_builds import INLINE
from tests.support.manifests import example_mixture
from tests.support.receipts import list_receipts


def silent(*_: object) -> None:
    """Progress for nobody."""


WEIGHTS = {"legal": "0.5", "book": "0.3", "code": "0.2"}
STAGE_WEIGHTS = (WEIGHTS, {"legal": "0.1", "code": "0.9"}, WEIGHTS)
"""Those of the stages of a recipe that names several."""


def parts_of(recipe: Recipe, counter: TokenCounter) -> tuple[Part, ...]:
    fragments = {name: list_fragments(name, source).fragments for name, source in recipe.sources.items()}
    spec = make_sample_spec(recipe.embed, recipe.seed, recipe.is_chat)
    return split_parts(fragments, recipe.sources, recipe.input, spec, counter)


def record_part(store: Store, recipe: Recipe, part: Part, counter: TokenCounter, keep: RowStore | None = None) -> None:
    spec = make_sample_spec(recipe.embed, recipe.seed, recipe.is_chat)
    survey_part(store, part, recipe.input, spec, counter, keep)


def row_store_of(recipe: Recipe, counter: TokenCounter) -> RowStore | None:
    return choose_row_store(recipe.survey.keep, Store(recipe.out), None, recipe.packs_texts, counter, recipe.keeps_columns)


def surveyed(recipe: Recipe, counter: TokenCounter | None = None, keep: bool = False) -> tuple[Store, tuple[Part, ...], Survey]:
    store, counter = Store(recipe.out), counter or load_token_counter(recipe.tokens, recipe.is_chat, recipe.shards)
    parts = parts_of(recipe, counter)
    for part in parts:
        record_part(store, recipe, part, counter, row_store_of(recipe, counter) if keep else None)
    survey = read_survey(store, parts, recipe.sources, recipe.input, recipe.embed.drawn)
    return store, survey.parts, survey


def rules_of(recipe: Recipe, counter: TokenCounter) -> SelectionRules:
    return make_selection_rules(recipe.input, recipe.mix.validation, recipe.shards, counter, recipe.keeps_columns)


def selected(store: Store, survey: Survey, recipe: Recipe, counter: TokenCounter) -> Selection:
    return select_rows(INLINE, store, survey, rules_of(recipe, counter), tuple(recipe.sources), lambda *_: None)


@dataclass(frozen=True)
class Ready:
    """A build that is planned; nothing is written yet."""

    recipe: Recipe
    store: Store
    parts: tuple[Part, ...]
    survey: Survey
    selection: Selection
    stages: tuple[WeighedStage, ...]
    job: ShardSpec
    build: BuildFolder

    @property
    def kept(self) -> KeptCorpus | None:
        """Rows that the survey kept; None where it kept none."""
        return self.source().kept

    def source(self) -> RowSource:
        """Where rows are; parts whose rows are not kept are read again, unless they are spilled."""
        return self.send().read(self.store)[1]

    def send(self) -> StoredWork:
        """Bring the rows to where the tasks that write find them."""
        rows = row_store_of(self.recipe, self.job.counter)
        return send_rows(INLINE, self.store, rows, self.build, self.job, self.selection, self.parts, spill, silent)

    def write(self) -> list[Receipt]:
        """Write what is not there. All receipts in order."""
        rows = row_store_of(self.recipe, self.job.counter)
        write_missing_shards(INLINE, self.store, rows, self.build, self.job, self.selection, self.parts, silent)
        return list_receipts(self.store, self.build)

    def manifest(self, stream: StreamTables = stream_here) -> Manifest:
        """The manifest of the build, which is written first."""
        self.write()
        plans = [self.job.layouts[0].plan]
        written = gather_written(self.store, [self.build], plans, self.job.domain_ids, stream, silent)
        return make_manifest(
            self.store,
            self.recipe,
            self.survey,
            self.selection,
            self.stages,
            [self.job.layouts],
            written,
            gather_provenance(self.survey, self.job.counter, self.recipe.shards),
            {},
            {},
            {},
        )


def ready(recipe: Recipe, *weights: dict[str, str], keep: bool = False) -> Ready:
    """`weights` are those of each stage; by default STAGE_WEIGHTS."""
    counter = load_token_counter(recipe.tokens, recipe.is_chat, recipe.shards)
    store, parts, survey = surveyed(recipe, counter, keep)
    selection = selected(store, survey, recipe, counter)
    budget = sum(c.tokens for c in selection.counts) if recipe.mix.budget == "auto" else recipe.mix.budget
    writer = describe_writer(recipe.shards, counter, survey).describe()
    parts_of_budget = stage_budgets(recipe.stages, budget)
    stages = tuple(
        WeighedStage(part, example_mixture(of_stage))
        for part, of_stage in zip(parts_of_budget, weights or STAGE_WEIGHTS[: len(recipe.stages)], strict=True)
    )
    targets = [stage.target for stage in stages]
    plans = plan_splits(recipe.mix, recipe.shards, recipe.input.hash, recipe.seed, selection, targets, writer)
    layouts = lay_out_plans(INLINE, store, survey, selection, plans, recipe.shards.size, silent)
    columns = kinds_of(survey.columns)
    (job,) = make_shard_specs(layouts, selection.rules, counter, recipe.input, recipe.shards, columns, survey.messages)
    return Ready(recipe, store, parts, survey, selection, stages, job, *build_folders(layouts, parts))
