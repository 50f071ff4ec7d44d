"""From the selected counts and the weights to the plan of every split, and what the tasks that write it must know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from chameleon_data.corpus.parts import Part
from chameleon_data.corpus.selection import Selection, SelectionRules
from chameleon_data.corpus.tokens import TokenCounter
from chameleon_data.hashing import fingerprint
from chameleon_data.plan.layout import Layout
from chameleon_data.plan.plan import VALIDATION, Plan, StageTarget, make_plan, validation_plan
from chameleon_data.recipe import Input, Mix, Shards
from chameleon_data.shards.grouping import divide_shards
from chameleon_data.shards.rows import number_domains
from chameleon_data.store.paths import BuildFolder

ROWS_DIVIDED = 1 << 24
"""Records of rows of a range that a task puts in order, about: 3 GB."""


@dataclass(frozen=True)
class ShardSpec:
    """What a task needs to know, beside its part or its range: how to read again, where rows go, how to write them."""

    layouts: tuple[Layout, ...]
    """One for each split; shards are numbered through all of them, and so are ranges."""
    rules: SelectionRules
    """Which rows are held out, and how sequences are packed."""
    counter: TokenCounter
    """Makes the ids of packed rows, and of Megatron's format."""
    input: Input
    """Section of the recipe: what hashes are of, and the longest document."""
    shards: Shards
    """Section of the recipe: formats, compression and its level, lineage."""
    columns: Mapping[str, str]
    """Kept column -> its kind (`kept_columns.py`), in byte order of name."""
    messages: Mapping[str, str]
    """Field of the messages of conversations -> its kind (`conversations.py`); empty where documents are texts."""

    @property
    def domain_ids(self) -> dict[str, int]:
        """Domain -> `domain_id`."""
        return number_domains(stream.domain.name for layout in self.layouts for stream in layout.streams)

    @property
    def domain_groups(self) -> int:
        """Groups of domains by which a range that is too large for one task is divided; 0 where none is."""
        divided = [
            int(np.sum([s.delivered[number] for s in layout.streams]))
            for layout in self.layouts
            for number, (first, end) in enumerate(pairwise(layout.begins.tolist()))
            if divide_shards(first, end, self.shards.size)
        ]
        return -(-max(divided) // ROWS_DIVIDED) if divided else 0

    @property
    def ranges(self) -> int:
        """Ranges of all splits."""
        return sum(layout.ranges for layout in self.layouts)

    def first_shard(self, split: int) -> int:
        """Number, among the shards of all splits, of the first one of a split."""
        return sum(layout.plan.shards for layout in self.layouts[:split])

    def first_range(self, split: int) -> int:
        """Number, among the ranges of all splits, of the first one of a split."""
        return sum(layout.ranges for layout in self.layouts[:split])


def plan_splits(
    mix: Mix,
    shards: Shards,
    hash: str,
    seed: int,
    selection: Selection,
    stages: Sequence[StageTarget],
    writer: Mapping[str, object],
) -> tuple[Plan, ...]:
    """The plan of `train`, and of `validation` where documents are held out.

    `hash` is `input.hash` of the recipe. `writer` is what else decides the bytes (`versions.provenance.describe_writer`).
    """
    packing = selection.rules.packing
    train = make_plan(
        selection.counts,
        stages,
        max_epochs=mix.max_epochs,
        exhausted=mix.exhausted,
        shard_bytes=shards.size,
        seed=seed,
        hash=hash,
        writer=writer,
        packing=packing,
    )
    if VALIDATION not in selection.splits:
        return (train,)
    held_out = selection.splits[VALIDATION]
    return train, validation_plan(held_out, shard_bytes=shards.size, seed=seed, hash=hash, writer=writer, packing=packing)


def build_digest(plans: Sequence[Plan]) -> str:
    """The name of a build: a hash of everything that decides the bytes of its shards, and of nothing else."""
    digests = [plan.digest for plan in plans]
    return digests[0] if len(digests) == 1 else fingerprint(digests)


def build_folder(layouts: Sequence[Layout], parts: Sequence[Part]) -> BuildFolder:
    """Where these layouts of this corpus are built."""
    plans = [layout.plan for layout in layouts]
    begins = [layout.begins.tolist() for layout in layouts]
    division = fingerprint([[p.key for p in parts], begins])[:16]
    return BuildFolder(build_digest(plans), sum(plan.shards for plan in plans), division)
