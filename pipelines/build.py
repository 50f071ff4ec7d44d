"""A build: survey, embed, weigh, plan, write, commit. Each pass reads the records of the passes before and leaves its own."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from chameleon_data.corpus.clusterings import Clustering, label_sources
from chameleon_data.corpus.kept_columns import kinds_of
from chameleon_data.corpus.kept_rows import KeptSummary, summarise_kept_rows
from chameleon_data.corpus.parts import part_bytes
from chameleon_data.corpus.row_store import RowStore, choose_row_store
from chameleon_data.corpus.sample import make_sample_spec
from chameleon_data.corpus.selection import make_selection_rules
from chameleon_data.corpus.tokens import DROPS_CHARACTERS, TokenCounter
from chameleon_data.errors import DefectError, InputError
from chameleon_data.pipelines.assign import assign_topics
from chameleon_data.pipelines.cost import (
    BuildSize,
    ExchangeSize,
    PassCost,
    Rates,
    SelectionSize,
    estimate_cost,
    read_rates,
    seconds_by_timed_pass,
)
from chameleon_data.pipelines.discover import discover_domains
from chameleon_data.pipelines.engine import Engine, Progress
from chameleon_data.pipelines.lay_out import lay_out_plans
from chameleon_data.pipelines.prepare import Prepared, prepare
from chameleon_data.pipelines.select import select_rows
from chameleon_data.pipelines.survey import sample_target, survey_corpus
from chameleon_data.pipelines.weigh import Weighed, weigh_corpus
from chameleon_data.pipelines.write import count_part_groups, write_missing_shards
from chameleon_data.plan.layout import Layout
from chameleon_data.plan.plan import TRAIN
from chameleon_data.recipe import Domains, Group, Recipe, Weights
from chameleon_data.shards.lay_out import ShardSpec, build_folders, make_shard_specs, plan_splits
from chameleon_data.shards.levels import list_places
from chameleon_data.shards.plan_summary import PlanSummary, describe_finished, summarise_plan
from chameleon_data.shards.receipts import find_finished
from chameleon_data.store.store import Store
from chameleon_data.versions.active import OwnRecord, active_driver
from chameleon_data.versions.make_manifest import make_manifest
from chameleon_data.versions.manifest import Manifest
from chameleon_data.versions.provenance import describe_writer, gather_provenance
from chameleon_data.versions.versions import Version, commit_version, is_version_of, list_numbers, read_manifest
from chameleon_data.versions.written import gather_written
from chameleon_data.weights.embedder import EmbedderKind, find_kind
from chameleon_data.weights.explain.exhaustion import Exhaustion, compare_exhaustion_rules, describe_exhaustion


@dataclass(frozen=True)
class Planned:
    """A plan, and all that is needed to write its shards."""

    weighed: Weighed
    layouts: tuple[tuple[Layout, ...], ...]
    """Those of each folder, train first."""
    counter: TokenCounter
    summary: PlanSummary
    timings: dict[str, float]
    """Pass -> seconds."""
    cpus: float
    """Tasks that the engine runs at one time."""
    exhausted: Exhaustion
    """What each rule for exhausted domains would do, where there is one stage."""
    keep: RowStore | None
    """Where the survey keeps rows."""
    kept: KeptSummary
    """The rows that it kept."""
    exchange: ExchangeSize
    """To how many ranges of shards rows go."""
    formats: tuple[str, ...]
    """Those of the recipe."""
    embedder: EmbedderKind
    """What embeds the sample."""
    cost: tuple[PassCost, ...] = ()
    """What the passes take, where nothing of them was done before."""
    finished: tuple[int, ...] = ()
    """Shards of each folder that are there already, where somebody looked."""

    @property
    def size(self) -> BuildSize:
        """What the cost of the build depends on."""
        survey, splits = self.weighed.survey, self.weighed.selection.splits.values()
        corpus = self.weighed.selection.corpus
        embedded = self.weighed.mixture.description.embedder is not None
        return BuildSize(
            stored=sum(part_bytes(part) for part in survey.parts),
            text=sum(count.bytes for counts in splits for count in counts),
            rows=sum(count.rows for counts in splits for count in counts),
            files=sum(len(part.fragments) for part in survey.parts),
            parts=len(survey.parts),
            kept_parts=self.kept.parts,
            windows=sum(len(windows) for windows in survey.sample["windows"].to_pylist()) if embedded else 0,
            embedder=self.embedder,
            shards=sum(self.summary.shard_counts.values()),
            selection=SelectionSize(len(corpus.groups) - 1, corpus.ranges, self.weighed.selection.rules.dedup != "none"),
            exchange=self.exchange,
            written=self.summary.bytes,
            formats=tuple(self.formats),
            tokenizer=self.weighed.unit != "bytes",
        )

    @property
    def stages_there(self) -> str:
        """Which stages are there already, where others were added to them; empty where none is, or nobody looked."""
        return describe_finished(self.summary.folders, self.finished) if self.finished else ""

    def describe(self) -> dict[str, Any]:
        """The plan as plain JSON, which `plan --json` prints."""
        plain, summary = self.weighed.describe(), self.summary
        for name, domain in summary.domains.items():
            plain["domains"][name] |= vars(domain)
        for described, planned in zip(plain["stages"], summary.stages, strict=True):
            described["shards"] = planned.shards
            for name, counts in planned.domains.items():
                described["domains"][name] |= vars(counts)
        return {
            **plain,
            "plan_digest": summary.plan_digest,
            "shard_count": summary.shard_counts[TRAIN],
            "shard_counts": summary.shard_counts,
            "shard_bytes": summary.shard_bytes,
            "tokens": summary.tokens,
            "rows": summary.rows,
            "validation_tokens": summary.validation_tokens,
            "exhausted": describe_exhaustion(self.exhausted),
            "warnings": list(summary.warnings),
            "bytes": summary.bytes,
            "folders": [asdict(folder) for folder in summary.folders],
            "finished": list(self.finished),
            "kept_rows": asdict(self.kept),
            "timings": self.timings,
        }


@dataclass(frozen=True)
class Built:
    """A version, and what this run did for it."""

    manifest: Manifest
    version: Version
    new: bool
    """Whether this run made the version."""
    beside: bool
    """Whether another run made it while this one was at work."""
    written: int
    """Shards that this run wrote; earlier runs wrote the others."""
    kept: KeptSummary
    """The rows of the corpus that are kept."""
    warnings: tuple[str, ...] = ()
    """The plan's."""

    @property
    def name(self) -> str:
        """OUT@vN."""
        return f"{self.manifest.recipe.out}@v{self.version.number}"


@contextmanager
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    timings[name] = round(time.monotonic() - start, 2)


def weigh_recipe(
    recipe: Recipe, engine: Engine, progress: Progress, single_writer: bool = False, scratch: Store | None = None
) -> Weighed:
    """Survey the corpus and compute the weights. Writes only caches.

    `single_writer` is passed to `Store`, here and below; `scratch` is where rows are kept, in the place of `out`.
    """
    prepared = prepare(recipe, single_writer, progress)
    recipe = prepared.recipe
    with active_driver(prepared.store) as driver, engine.sharing(*_folders(prepared.store, scratch)):
        keep = _choose_row_store(recipe, prepared, scratch)
        during = driver.keep_during(progress)
        _, read_as = _discover(engine, prepared, recipe, during)
        return _weigh(engine, prepared, keep, read_as, during, {})


def plan_recipe(
    recipe: Recipe,
    engine: Engine,
    progress: Progress,
    single_writer: bool = False,
    scratch: Store | None = None,
    rates: Rates | None = None,
) -> Planned:
    """Weigh, and plan. Writes only caches. `rates`: those of this machine; without them, those that come with this code."""
    prepared = prepare(recipe, single_writer, progress)
    recipe = prepared.recipe
    with active_driver(prepared.store) as driver, engine.sharing(*_folders(prepared.store, scratch)):
        during = driver.keep_during(progress)
        _, read_as = _discover(engine, prepared, recipe, during)
        planned = _plan(engine, prepared, scratch, read_as, during, rates or read_rates())
        builds = build_folders(planned.layouts, planned.weighed.survey.parts)
        driver.use_plans([build.digest for build in builds])
        return replace(planned, finished=tuple(int(find_finished(prepared.store, build).sum()) for build in builds))


def build_recipe(
    recipe: Recipe,
    engine: Engine,
    progress: Progress,
    created: str,
    single_writer: bool = False,
    scratch: Store | None = None,
    rates: Rates | None = None,
) -> Built:
    """Weigh, plan, write the shards and commit a version. `created` is the time that the version carries; `rates` as above."""
    prepared = prepare(recipe, single_writer, progress)
    recipe = prepared.recipe
    with active_driver(prepared.store) as driver, engine.sharing(*_folders(prepared.store, scratch)):
        return _build(engine, prepared, scratch, driver, recipe, driver.keep_during(progress), created, rates or read_rates())


def _build(
    engine: Engine,
    prepared: Prepared,
    scratch: Store | None,
    driver: OwnRecord,
    recipe: Recipe,
    progress: Progress,
    created: str,
    rates: Rates,
) -> Built:
    store = prepared.store
    live, _ = list_numbers(store)
    recipe, read_as = _discover(engine, prepared, recipe, progress)
    planned = _plan(engine, prepared, scratch, read_as, progress, rates)
    weighed, timings = planned.weighed, dict(planned.timings)
    survey, selection = weighed.survey, weighed.selection
    kinds = kinds_of(survey.columns)
    jobs = make_shard_specs(
        planned.layouts, selection.rules, planned.counter, recipe.input, recipe.shards, kinds, survey.messages
    )
    builds = build_folders(planned.layouts, survey.parts)
    driver.use_plans([build.digest for build in builds])
    with _timed(timings, "write"):
        finished = [
            write_missing_shards(engine, store, planned.keep, build, job, selection, survey.parts, progress)
            for build, job in zip(builds, jobs, strict=True)
        ]
    plans = [train.plan for train, *_ in planned.layouts]
    progress("commit", 0, 0)
    written = gather_written(store, builds, plans, jobs[0].domain_ids, engine.stream, lambda *done: progress("tables", *done))
    there, shards = sum(finished), sum(build.shards for build in builds)
    reused = dict(weighed.reused)
    if there:
        reused["write"] = f"{there:,} of {shards:,} shards were there from an earlier run of the same plan"
    if said := describe_finished(planned.summary.folders, finished):
        reused["write"] = said
    manifest = make_manifest(
        store,
        recipe,
        survey,
        selection,
        weighed.stages,
        planned.layouts,
        written,
        gather_provenance(survey, planned.counter, recipe.shards),
        timings,
        seconds_by_timed_pass(planned.cost),
        reused,
    )
    version = commit_version(store, manifest, created, driver.check)
    store.remove([path for build in builds for path in store.list(build.all_runs)])
    new = is_version_of(version, manifest, created)
    beside = not new and version.number not in live
    return Built(read_manifest(store, version), version, new, beside, shards - there, planned.kept, planned.summary.warnings)


def discover_recipe(recipe: Recipe, engine: Engine, progress: Progress, single_writer: bool = False) -> Clustering:
    """The clustering that a recipe's `domains` asks for, recorded if it is new. Raises InputError where it asks for none."""
    domains = recipe.domains
    if domains is None:
        raise InputError("this recipe discovers no domains; give it, say, 'domains: {discover: {clusters: 64}}'")
    prepared = prepare(recipe, single_writer, progress)
    with active_driver(prepared.store) as driver, engine.sharing(*_folders(prepared.store, None)):
        return _cluster(engine, prepared, prepared.recipe, domains, driver.keep_during(progress))


def _cluster(engine: Engine, prepared: Prepared, recipe: Recipe, domains: Domains, progress: Progress) -> Clustering:
    if prepared.embedder is None:
        raise DefectError("domains are to be discovered without an embedder")
    return discover_domains(
        engine,
        prepared.store,
        domains,
        recipe.embed,
        recipe.seed,
        prepared.fragments,
        recipe.sources,
        recipe.input,
        prepared.embedder,
        prepared.counter,
        progress,
    )


def _discover(engine: Engine, prepared: Prepared, recipe: Recipe, progress: Progress) -> tuple[Recipe, Recipe]:
    """The recipe with the number of its clustering, as a version records it; and as it is read, with topics for domains."""
    domains = recipe.domains
    if domains is None:
        return recipe, recipe
    clustering = _cluster(engine, prepared, recipe, domains, progress)
    recorded = recipe.model_copy(update={"domains": domains.model_copy(update={"clustering": clustering.number})})
    held = dict[str, Group]()
    for source, share in (domains.refine.hold if domains.refine else {}).items():
        topics = tuple(cluster.name for cluster in clustering.clusters if cluster.source == source)
        held[source] = Group(domains=topics, floor=share, cap=share)

    def hold(weights: Weights) -> Weights:
        return weights.model_copy(update={"groups": {**weights.groups, **held}})

    stages = tuple(stage.model_copy(update={"weights": hold(stage.weights)}) for stage in recipe.mix.stages)
    sources = label_sources(prepared.store, recipe.sources, clustering, domains)
    if domains.asked.assign == "embed":
        spec = make_sample_spec(recipe.embed, recipe.seed, recipe.is_chat)
        assign_topics(
            engine,
            prepared.store,
            recipe.embed,
            prepared.fragments,
            sources,
            recipe.input,
            spec,
            prepared.counter,
            prepared.embedder,
            progress,
        )
    update = {
        "sources": sources,
        "weights": hold(recipe.weights),
        "mix": recipe.mix.model_copy(update={"stages": stages}),
    }
    return recorded, recorded.model_copy(update=update)


def _folders(out: Store, scratch: Store | None) -> list[Store]:
    """The folders that all workers must see."""
    return [out, scratch] if scratch else [out]


def _choose_row_store(recipe: Recipe, prepared: Prepared, scratch: Store | None) -> RowStore | None:
    return choose_row_store(
        recipe.survey.keep, prepared.store, scratch, recipe.packs_texts, prepared.counter, recipe.keeps_columns
    )


def _weigh(
    engine: Engine,
    prepared: Prepared,
    keep: RowStore | None,
    recipe: Recipe,
    progress: Progress,
    timings: dict[str, float],
) -> Weighed:
    store, counter, input = prepared.store, prepared.counter, recipe.input
    with _timed(timings, "survey"):
        spec = make_sample_spec(recipe.embed, recipe.seed, recipe.is_chat)
        survey = survey_corpus(engine, store, keep, prepared.fragments, recipe.sources, input, spec, counter, progress)
        survey = replace(survey, files=prepared.files)
        rules = make_selection_rules(input, recipe.mix.validation, recipe.shards, counter, recipe.keeps_columns)
        selection = select_rows(engine, store, survey, rules, tuple(recipe.sources), progress)
        like = {
            target: sample_target(engine, store, files, target, input, spec, counter, progress)
            for target, files in prepared.targets.items()
        }
    with _timed(timings, "embed and weigh"):
        weighed = weigh_corpus(
            engine,
            store,
            recipe.embed,
            recipe.leverage,
            recipe.stages,
            recipe.mix,
            recipe.seed,
            survey,
            selection,
            progress,
            prepared.embedder,
            like,
        )
    weighed = replace(weighed, unit=recipe.tokens.tokenizer or "bytes")
    if not survey.recorded:
        return weighed
    reused = f"{survey.recorded:,} of {len(survey.parts):,} parts of the corpus were counted by an earlier run"
    return replace(weighed, reused={"survey": reused, **weighed.reused})


def _plan(engine: Engine, prepared: Prepared, scratch: Store | None, recipe: Recipe, progress: Progress, rates: Rates) -> Planned:
    timings: dict[str, float] = {}
    store, counter = prepared.store, prepared.counter
    keep = _choose_row_store(recipe, prepared, scratch)
    weighed = _weigh(engine, prepared, keep, recipe, progress, timings)
    with _timed(timings, "plan"):
        progress("plan", 0, 0)
        plans = plan_splits(
            recipe.mix,
            recipe.shards,
            recipe.input.hash,
            recipe.seed,
            weighed.selection,
            weighed.targets,
            describe_writer(recipe.shards, counter, weighed.survey).describe(),
        )
        layouts = lay_out_plans(engine, store, weighed.survey, weighed.selection, plans, recipe.shards.size, progress)
        exhausted: Exhaustion = {}
        if len(weighed.stages) == 1:
            target, (stage,) = weighed.mixture.description.unbounded, recipe.stages
            exhausted = compare_exhaustion_rules(weighed.selection.counts, target, weighed.budget, recipe.mix, stage.weights)
        summary = summarise_plan(layouts, recipe.shards.size)
        summary = replace(summary, warnings=(*summary.warnings, *weighed.survey.long_tasks))
        if counter.drops:
            summary = replace(summary, warnings=(*summary.warnings, DROPS_CHARACTERS))
    reason = weighed.survey.missing_room
    if keep is None and recipe.survey.keep:
        reason = f"{store.url} is not a folder of this machine; --scratch names one"
    kept = summarise_kept_rows(keep, [part.key for part in weighed.survey.parts], reason)
    specs = make_shard_specs(layouts, weighed.selection.rules, counter, recipe.input, recipe.shards, {}, {})
    exchange = _add_exchanges(specs, len(weighed.survey.parts) - kept.parts)
    planned = Planned(
        weighed, layouts, counter, summary, timings, engine.cpus, exhausted, keep, kept, exchange, tuple(recipe.shards.formats),
        find_kind(prepared.embedder),
    )  # fmt: skip
    return replace(planned, cost=estimate_cost(planned.size, rates, engine.cpus, engine.gpus))


def _add_exchanges(specs: Sequence[ShardSpec], unkept: int) -> ExchangeSize:
    """To how many ranges the rows of all folders go; `unkept` parts of the corpus are not kept."""
    sizes = []
    for spec in specs:
        small, large = list_places(spec)
        groups = count_part_groups(spec, unkept)
        sizes.append(ExchangeSize(spec.ranges, sum(map(len, large)), len(small), spec.domain_groups, groups))
    added = {name: sum(getattr(size, name) for size in sizes) for name in ("first", "divided", "small")}
    most = {name: max(getattr(size, name) for size in sizes) for name in ("domain_groups", "part_groups")}
    return ExchangeSize(**added, **most)
