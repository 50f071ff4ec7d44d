"""From the selected counts and the weights to the layout of every split, and what the tasks that write it must know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from chameleon_data.corpus.parts import Part
from chameleon_data.corpus.selection import Selection, SelectionRules
from chameleon_data.corpus.tokens import TokenCounter
from chameleon_data.errors import InputError
from chameleon_data.hashing import fingerprint
from chameleon_data.plan.layout import Layout, place_streams
from chameleon_data.plan.plan import VALIDATION, Plan, largest_full_shard_count, make_plan, validation_plan
from chameleon_data.plan.streams import find_cut_buckets
from chameleon_data.recipe import Input, Mix, Shards, Source
from chameleon_data.shards.cut_documents import read_cut_documents
from chameleon_data.shards.rows import number_domains
from chameleon_data.store.paths import BuildFolder
from chameleon_data.store.store import Store

MOST_CUT_DOCUMENTS = 1 << 27
"""Documents of cut buckets that the driver holds, some 6 GB. A domain has at most 4 million buckets, so about 4 million shards
cut them all."""


@dataclass(frozen=True)
class ShardSpec:
    """What a task needs to know, beside its part or its shards: how to read again, where rows go, how to write them."""

    layouts: tuple[Layout, ...]
    """One for each split; shards are numbered through all of them."""
    rules: SelectionRules
    """Which rows are held out, and how sequences are packed."""
    counter: TokenCounter
    """Makes the ids of packed rows, and of Megatron's format."""
    sources: Mapping[str, Source]
    """Name -> section of the recipe, by which a part is read again."""
    input: Input
    """Section of the recipe: what hashes are of, and the longest document."""
    shards: Shards
    """Section of the recipe: formats, compression and its level, lineage."""

    @property
    def domain_ids(self) -> dict[str, int]:
        """Domain -> `domain_id`."""
        return number_domains(stream.domain.name for layout in self.layouts for stream in layout.streams)

    @property
    def most_delivered(self) -> int:
        """Documents that the largest shard is made from."""
        return max(int(np.sum([s.delivered for s in layout.streams], axis=0).max()) for layout in self.layouts)

    def locate(self, shard: int) -> tuple[Layout, int]:
        """The layout of the split that holds shard `shard` of all splits, and the shard's number in that split."""
        for layout in self.layouts:
            if shard < layout.plan.shards:
                return layout, shard
            shard -= layout.plan.shards
        raise IndexError(shard)


def lay_out_splits(
    store: Store,
    mix: Mix,
    shards: Shards,
    hash: str,
    seed: int,
    parts: Sequence[Part],
    selection: Selection,
    weights: Mapping[str, str],
    budget: int,
    writer: Mapping[str, object],
) -> tuple[Layout, ...]:
    """The layout of `train`, and of `validation` where documents are held out.

    `hash` is `input.hash` of the recipe. `weights` are decimals that sum to one, as recorded. `writer` is what else decides the
    bytes (`versions.provenance.describe_writer`).
    """
    packing = selection.rules.packing
    plans = [
        make_plan(
            selection.counts,
            weights,
            budget=budget,
            max_epochs=mix.max_epochs,
            exhausted=mix.exhausted,
            shard_bytes=shards.size,
            seed=seed,
            hash=hash,
            writer=writer,
            packing=packing,
        )
    ]
    if VALIDATION in selection.splits:
        held_out = selection.splits[VALIDATION]
        plans.append(
            validation_plan(held_out, shard_bytes=shards.size, seed=seed, hash=hash, writer=writer, packing=packing),
        )
    return tuple(_lay_out_full_shards(store, parts, selection, plan) for plan in plans)


def build_digest(plans: Sequence[Plan]) -> str:
    """The name of a build: a hash of everything that decides the bytes of its shards, and of nothing else."""
    digests = [plan.digest for plan in plans]
    return digests[0] if len(digests) == 1 else fingerprint(digests)


def build_folder(layouts: Sequence[Layout], parts: Sequence[Part]) -> BuildFolder:
    """Where these layouts of this corpus are built."""
    plans = [layout.plan for layout in layouts]
    return BuildFolder(build_digest(plans), sum(plan.shards for plan in plans), fingerprint([p.key for p in parts])[:16])


def _lay_out_full_shards(store: Store, parts: Sequence[Part], selection: Selection, plan: Plan) -> Layout:
    """The plan laid out, with fewer shards where documents are so long that a shard would be empty."""
    layout = _lay_out(store, parts, selection, plan)
    while not layout.tokens.all():
        plan = replace(plan, shards=max(largest_full_shard_count(plan), plan.shards * 3 // 4))
        layout = _lay_out(store, parts, selection, plan)
    return layout


def _lay_out(store: Store, parts: Sequence[Part], selection: Selection, plan: Plan) -> Layout:
    counts = selection.splits[plan.split]
    histograms = {c.name: c.histogram for c in counts}
    cut = {d.name: find_cut_buckets(plan, d, histograms[d.name]) for d in plan.domains}
    rows = sum(int(histograms[name][buckets, 0].sum()) for name, buckets in cut.items())
    if rows > MOST_CUT_DOCUMENTS:
        raise InputError(
            f"{plan.shards:,} shards cut buckets that hold {rows:,} documents, more than the {MOST_CUT_DOCUMENTS:,} that are "
            "resolved at once; raise 'shards.size'"
        )
    return place_streams(plan, counts, read_cut_documents(store, parts, selection, plan.split, cut))
