"""The job: survey, embed, weigh, plan, write, commit. Each step reads the record of the one before and leaves its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from chameleon_data.formats import FORMATS
from chameleon_data.manifest import corpus_fingerprints, make_manifest, packages, writer
from chameleon_data.place import Stream, cut_buckets, place
from chameleon_data.plan import Plan, certain_shards, make_plan
from chameleon_data.recipe import Recipe
from chameleon_data.shards import TRAIN
from chameleon_data.storage import Store
from chameleon_data.survey import cut_documents
from chameleon_data.tokens import load_counter
from chameleon_data.versions import Version, commit, list_versions, load_manifest
from pipelines.cluster import Progress
from pipelines.survey import survey
from pipelines.weigh import Weighed, weigh_corpus
from pipelines.write import build_of, write

ENCODED = 60e6
"""Bytes of text a second that one core of two sorts, encodes in both formats, compresses and hashes (88 when it is alone)."""


@dataclass(frozen=True)
class Planned:
    weighed: Weighed
    plan: Plan
    streams: tuple[Stream, ...]
    timings: dict[str, float]
    """Pass -> seconds."""
    shard_bytes: int
    cpus: float
    """Of the cluster."""

    @property
    def expected_seconds(self) -> float:
        """Of the write pass: the corpus read as the survey read it, and the shards encoded at `ENCODED` a core."""
        return (self.weighed.survey.seconds + self.bytes / ENCODED) / self.cpus

    @property
    def bytes(self) -> int:
        """Of text in the shards, about."""
        return sum(s.domain.quota * s.domain.bytes // s.domain.tokens for s in self.streams)

    def describe(self) -> dict[str, Any]:
        """What `plan --json` prints."""
        about = self.weighed.describe()
        for stream in self.streams:
            domain = stream.domain
            tokens = int(stream.tokens.sum())
            about["domains"][domain.name] |= {"target_tokens": domain.quota, "tokens": tokens, "rows": int(stream.rows.sum()),
                                              "epochs": tokens / domain.tokens}  # fmt: skip
        return {
            **about, "plan_digest": self.plan.digest, "shard_count": self.plan.shards, "shard_bytes": self.shard_bytes,
            "tokens": sum(int(s.tokens.sum()) for s in self.streams), "rows": sum(int(s.rows.sum()) for s in self.streams),
            "bytes": self.bytes, "expected_seconds": round(self.expected_seconds, 1), "timings": self.timings,
        }  # fmt: skip


@dataclass(frozen=True)
class Built:
    manifest: dict[str, Any]
    version: Version
    new: bool


@contextmanager
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    timings[name] = round(time.monotonic() - start, 2)


def weigh_recipe(recipe: Recipe, progress: Progress) -> Weighed:
    """Survey and weights; nothing but caches is written."""
    return _weigh(_open(recipe), recipe, progress, {})


def plan_recipe(recipe: Recipe, progress: Progress) -> Planned:
    """And the plan; still nothing but caches is written."""
    return _plan(_open(recipe), recipe, progress)


def build_recipe(recipe: Recipe, progress: Progress, created: str) -> Built:
    """Everything, ending in a version. `created` is the time that the version carries."""
    store = _open(recipe)
    planned = _plan(store, recipe, progress)
    plan, build, timings = planned.plan, build_of(planned.plan, planned.weighed.survey.parts), dict(planned.timings)
    with _timed(timings, "write"):
        receipts = write(store, recipe, plan, planned.weighed.survey.parts, planned.streams, progress)
        for format in recipe.shards.formats:
            entries = [f["entry"] for r in receipts for f in r["files"] if f["format"] == format]
            for name, data in FORMATS[format].index(TRAIN, entries).items():
                store.write_new(f"{build.folder}/{format}/{name}", data)
    mixture, corpus = planned.weighed.mixture, planned.weighed.survey
    provenance = {
        "inputs": corpus_fingerprints(corpus),
        "tokenizer": load_counter(recipe.tokens).fingerprint,
        "packages": packages(),
    }
    manifest = make_manifest(
        recipe, corpus, mixture.description, planned.weighed.budget, plan, planned.streams, receipts, provenance
    )
    manifest |= {"map": mixture.map, "timings": timings, "reused": planned.weighed.reused}
    before = {v.number for v in list_versions(store)}
    version = commit(store, manifest, created)
    store.remove(list(store.list(f"{build.folder}/runs")))
    return Built(load_manifest(store, version), version, version.number not in before)


def _open(recipe: Recipe) -> Store:
    store = Store(recipe.out)
    store.probe()
    return store


def _weigh(store: Store, recipe: Recipe, progress: Progress, timings: dict[str, float]) -> Weighed:
    with _timed(timings, "survey"):
        corpus = survey(store, recipe, progress)
    with _timed(timings, "embed and weigh"):
        return weigh_corpus(store, recipe, corpus, progress)


def _plan(store: Store, recipe: Recipe, progress: Progress) -> Planned:
    import ray

    timings: dict[str, float] = {}
    weighed = _weigh(store, recipe, progress, timings)
    with _timed(timings, "plan"):
        counts, mix = weighed.survey.counts, recipe.mix
        plan = make_plan(
            counts, weighed.mixture.decimals, budget=weighed.budget, max_epochs=mix.max_epochs, exhausted=mix.exhausted,
            shard_bytes=recipe.shards.size, seed=recipe.seed, hash=recipe.input.hash,
            writer=writer(recipe, load_counter(recipe.tokens).fingerprint),
        )  # fmt: skip
        streams = _place(store, weighed, plan)
        while not sum(s.rows for s in streams).all():  # documents so long that a shard would be empty: fewer shards
            plan = replace(plan, shards=max(certain_shards(plan.domains), plan.shards * 3 // 4))
            streams = _place(store, weighed, plan)
    return Planned(weighed, plan, streams, timings, recipe.shards.size, ray.cluster_resources().get("CPU", 1.0))


def _place(store: Store, weighed: Weighed, plan: Plan) -> tuple[Stream, ...]:
    counts = weighed.survey.counts
    histograms = {c.name: c.histogram for c in counts}
    cut = {d.name: cut_buckets(plan, d, histograms[d.name]) for d in plan.domains}
    documents = cut_documents(store, weighed.survey.parts, cut, {d.name: d.bits for d in plan.domains})
    return place(plan, counts, documents)
