"""The job: survey, embed, weigh, plan, write, commit. Each step reads the record of the one before and leaves its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from chameleon_data.corpus.sample import make_sample_spec
from chameleon_data.corpus.selection import make_selection_rules, select_rows
from chameleon_data.corpus.tokens import TokenCounter, load_token_counter
from chameleon_data.pipelines.ray_cluster import Progress, cluster_cpus
from chameleon_data.pipelines.survey import survey_corpus
from chameleon_data.pipelines.weigh import Weighed, weigh_corpus
from chameleon_data.pipelines.write import write_shards_on_cluster
from chameleon_data.plan.layout import Layout
from chameleon_data.plan.plan import shard_spread
from chameleon_data.recipe import Recipe
from chameleon_data.shards.lay_out import ShardSpec, build_digest, build_folder, lay_out_splits
from chameleon_data.store.store import Store
from chameleon_data.versions.active import OwnRecord, active_driver
from chameleon_data.versions.make_manifest import make_manifest
from chameleon_data.versions.manifest import Manifest
from chameleon_data.versions.provenance import describe_writer, gather_provenance
from chameleon_data.versions.versions import Version, commit_version, list_versions, read_manifest
from chameleon_data.weights.explain.exhaustion import Exhaustion, compare_exhaustion_rules, describe_exhaustion

ENCODED_BYTES_PER_SECOND = 60e6
"""Bytes of text a second that one core of two sorts, encodes in both formats, compresses and hashes (88 when it is alone)."""


LARGEST_SHARD_SPREAD = 0.5
"""Of the size asked for: a plan whose shards may be further off says so."""


@dataclass(frozen=True)
class PlannedDomain:
    """What the plan gives a domain."""

    target_tokens: int
    """Quota: weight × budget in tokens."""
    tokens: int
    """Tokens of the rows that are written."""
    rows: int
    """Documents, or sequences where documents are packed."""
    epochs: float
    """Tokens written over tokens available."""


@dataclass(frozen=True)
class Planned:
    weighed: Weighed
    layouts: tuple[Layout, ...]
    counter: TokenCounter
    timings: dict[str, float]
    """Pass -> seconds."""
    shard_bytes: int
    cpus: float
    """Of the cluster."""
    exhausted: Exhaustion
    """What each rule for exhausted domains would do."""

    @property
    def expected_seconds(self) -> float:
        """Of the write pass: the corpus read as the survey read it, and the shards encoded at
        `ENCODED_BYTES_PER_SECOND` a core."""
        return (self.weighed.survey.seconds + self.bytes / ENCODED_BYTES_PER_SECOND) / self.cpus

    @property
    def bytes(self) -> int:
        """Of text (or token ids) in the shards, about."""
        return sum(s.domain.quota * s.domain.bytes // s.domain.tokens for layout in self.layouts for s in layout.streams)

    @property
    def warnings(self) -> list[str]:
        """What a person should know before anything is written."""
        plan = self.layouts[0].plan
        spread, shards = shard_spread(plan), plan.shards
        found = []
        if shards > 1 and spread > LARGEST_SHARD_SPREAD * self.shard_bytes:
            found.append(
                f"a shard may be {spread:,} bytes off its {self.shard_bytes:,}, the sum of one largest "
                f"{'sequence' if plan.packing else 'document'} a domain; larger 'shards.size' makes them more even"
            )
        if plan.packing and plan.packing.whole:  # of two sequences that follow each other, the documents do not fit one
            found.append(
                "whole documents leave sequences half empty at worst: there may be twice as many as stand here, in shards of "
                "twice the size; 'shards.packing: cross' pads nothing"
            )
        return found

    @property
    def domains(self) -> dict[str, PlannedDomain]:
        """Domain -> what the train split gives it."""
        found = {}
        for stream in self.layouts[0].streams:
            domain, tokens = stream.domain, int(stream.tokens.sum())
            rows = -(-tokens // stream.packing.length) if stream.packing else int(stream.delivered.sum())
            found[domain.name] = PlannedDomain(domain.quota, tokens, rows, tokens / domain.tokens)
        return found

    @property
    def digest(self) -> str:
        """The plan digest."""
        return build_digest([layout.plan for layout in self.layouts])

    @property
    def shard_counts(self) -> dict[str, int]:
        """Split -> shards."""
        return {layout.plan.split: layout.plan.shards for layout in self.layouts}

    def describe(self) -> dict[str, Any]:
        """What `plan --json` prints."""
        about, domains = self.weighed.describe(), self.domains
        train, *rest = self.layouts
        for name, planned in domains.items():
            about["domains"][name] |= vars(planned)
        return {
            **about, "plan_digest": self.digest, "shard_count": train.plan.shards, "shard_counts": self.shard_counts,
            "shard_bytes": self.shard_bytes, "tokens": sum(d.tokens for d in domains.values()),
            "rows": sum(d.rows for d in domains.values()),
            "validation_tokens": sum(int(layout.tokens.sum()) for layout in rest),
            "exhausted": describe_exhaustion(self.exhausted), "warnings": self.warnings,
            "bytes": self.bytes, "expected_seconds": round(self.expected_seconds, 1),
            "timings": self.timings,
        }  # fmt: skip


@dataclass(frozen=True)
class Built:
    manifest: Manifest
    version: Version
    new: bool
    """Whether this run made the version."""
    written: int
    """Shards that this run wrote, and no earlier one."""


@contextmanager
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    timings[name] = round(time.monotonic() - start, 2)


def weigh_recipe(recipe: Recipe, progress: Progress, single_writer: bool = False) -> Weighed:
    """Survey and weights; nothing but caches is written. `single_writer` is of `Store`, here and below."""
    with active_driver(store := _open(recipe, single_writer)) as driver:
        return _weigh(store, recipe, load_token_counter(recipe.tokens), driver.keep_during(progress), {})


def plan_recipe(recipe: Recipe, progress: Progress, single_writer: bool = False) -> Planned:
    """And the plan; still nothing but caches is written."""
    with active_driver(store := _open(recipe, single_writer)) as driver:
        return _plan(store, recipe, driver.keep_during(progress))


def build_recipe(recipe: Recipe, progress: Progress, created: str, single_writer: bool = False) -> Built:
    """Everything, ending in a version. `created` is the time that the version carries."""
    with active_driver(store := _open(recipe, single_writer)) as driver:
        return _build(store, driver, recipe, driver.keep_during(progress), created)


def _build(store: Store, driver: OwnRecord, recipe: Recipe, progress: Progress, created: str) -> Built:
    planned = _plan(store, recipe, progress)
    weighed, timings = planned.weighed, dict(planned.timings)
    survey, mixture, selection = weighed.survey, weighed.mixture, weighed.selection
    job = ShardSpec(planned.layouts, selection.rules, planned.counter, recipe.sources, recipe.input, recipe.shards)
    build = build_folder(job.layouts, survey.parts)
    driver.use_plan(build.digest)
    with _timed(timings, "write"):
        receipts, there = write_shards_on_cluster(store, job, selection.copies, survey.parts, progress)
    reused = dict(weighed.reused)
    if there:
        reused["write"] = f"{there:,} of {build.shards:,} shards were there from an earlier run of the same plan"
    manifest = make_manifest(
        recipe,
        survey,
        selection,
        mixture,
        weighed.budget,
        planned.layouts,
        receipts,
        gather_provenance(survey, planned.counter, recipe.shards),
        timings,
        reused,
    )
    before = {v.number for v in list_versions(store)}
    version = commit_version(store, manifest, created, driver.check)
    store.remove(list(store.list(build.all_runs)))
    return Built(read_manifest(store, version), version, version.number not in before, build.shards - there)


def _open(recipe: Recipe, single_writer: bool) -> Store:
    store = Store(recipe.out, single_writer)
    store.probe()
    return store


def _weigh(
    store: Store, recipe: Recipe, counter: TokenCounter, progress: Progress, timings: dict[str, float]
) -> Weighed:  # fmt: skip
    with _timed(timings, "survey"):
        spec = make_sample_spec(recipe.embed, recipe.seed)
        survey = survey_corpus(store, recipe.sources, recipe.input, spec, counter, progress)
        rules = make_selection_rules(recipe.sources, recipe.input, recipe.mix.validation, recipe.shards, counter)
        selection = select_rows(store, survey, rules)
    with _timed(timings, "embed and weigh"):
        weighed = weigh_corpus(
            store, recipe.embed, recipe.leverage, recipe.weights, recipe.mix, recipe.seed, survey, selection, progress
        )
    if not survey.recorded:
        return weighed
    reused = f"{survey.recorded:,} of {len(survey.parts):,} parts of the corpus were counted by an earlier run"
    return replace(weighed, reused={"survey": reused, **weighed.reused})


def _plan(store: Store, recipe: Recipe, progress: Progress) -> Planned:
    timings: dict[str, float] = {}
    counter = load_token_counter(recipe.tokens)
    weighed = _weigh(store, recipe, counter, progress, timings)
    with _timed(timings, "plan"):
        layouts = lay_out_splits(
            store,
            recipe.mix,
            recipe.shards,
            recipe.input.hash,
            recipe.seed,
            weighed.survey.parts,
            weighed.selection,
            weighed.mixture.decimals,
            weighed.budget,
            describe_writer(recipe.shards, counter).describe(),
        )
        target = weighed.mixture.description.target
        exhausted = compare_exhaustion_rules(weighed.selection.counts, target, weighed.budget, recipe.mix, recipe.weights)
    return Planned(weighed, layouts, counter, timings, recipe.shards.size, cluster_cpus(), exhausted)
