"""From the census and the weights to the layout of every split: quotas, streams, and the documents of cut buckets resolved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from chameleon_data.corpus.selection import Selection, cut_documents
from chameleon_data.corpus.survey import Part
from chameleon_data.errors import InputError
from chameleon_data.hashing import fingerprint
from chameleon_data.plan.plan import VALIDATION, Plan, largest_full_shard_count, make_plan, validation_plan
from chameleon_data.plan.streams import Layout, cut_buckets, place_streams
from chameleon_data.recipe import Recipe
from chameleon_data.store.store import Store

MOST_CUT_DOCUMENTS = 1 << 27
"""Documents of cut buckets that the driver holds, some 6 GB. A domain has a million buckets at most, so shards in the order of a
million cut them all."""


def lay_out_splits(
    store: Store, recipe: Recipe, parts: Sequence[Part], census: Selection, weights: Mapping[str, str], budget: int,
    writer: Mapping[str, object],
) -> tuple[Layout, ...]:  # fmt: skip
    """The layout of `train`, and of `validation` where some is held out. `weights` are decimals that sum to one, as recorded."""
    mix, packing = recipe.mix, census.rules.packing
    plans = [
        make_plan(
            census.counts, weights, budget=budget, max_epochs=mix.max_epochs, exhausted=mix.exhausted,
            shard_bytes=recipe.shards.size, seed=recipe.seed, hash=recipe.input.hash, writer=writer, packing=packing,
        )
    ]  # fmt: skip
    if VALIDATION in census.splits:
        plans.append(
            validation_plan(census.splits[VALIDATION], shard_bytes=recipe.shards.size, seed=recipe.seed, hash=recipe.input.hash,
                            writer=writer, packing=packing)
        )  # fmt: skip
    return tuple(_without_empty_shards(store, parts, census, plan) for plan in plans)


def build_digest(plans: Sequence[Plan]) -> str:
    """What names a build: of everything that decides the bytes of its shards, and of nothing else."""
    digests = [plan.digest for plan in plans]
    return digests[0] if len(digests) == 1 else fingerprint(digests)


def _without_empty_shards(store: Store, parts: Sequence[Part], census: Selection, plan: Plan) -> Layout:
    """Documents can be so long that a shard would be empty; then there are fewer shards."""
    layout = _place(store, parts, census, plan)
    while not layout.tokens.all():
        plan = replace(plan, shards=max(largest_full_shard_count(plan), plan.shards * 3 // 4))
        layout = _place(store, parts, census, plan)
    return layout


def _place(store: Store, parts: Sequence[Part], census: Selection, plan: Plan) -> Layout:
    counts = census.splits[plan.split]
    histograms = {c.name: c.histogram for c in counts}
    cut = {d.name: cut_buckets(plan, d, histograms[d.name]) for d in plan.domains}
    held = sum(int(histograms[name][buckets, 0].sum()) for name, buckets in cut.items())
    if held > MOST_CUT_DOCUMENTS:
        raise InputError(
            f"{plan.shards:,} shards cut buckets that hold {held:,} documents, more than the {MOST_CUT_DOCUMENTS:,} that are "
            "resolved at once; raise 'shards.size'"
        )
    return place_streams(plan, counts, cut_documents(store, parts, census, plan.split, cut))
