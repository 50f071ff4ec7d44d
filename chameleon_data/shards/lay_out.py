"""From the selected counts and the weights to the plan of every split, and what the tasks that write it must know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

from chameleon_data.corpus.parts import Part
from chameleon_data.corpus.selection import Selection, SelectionRules
from chameleon_data.corpus.tokens import TokenCounter
from chameleon_data.hashing import fingerprint
from chameleon_data.plan.layout import Layout
from chameleon_data.plan.plan import VALIDATION, Plan, StageTarget, divide_budget, divide_plan, make_plan, validation_plan
from chameleon_data.recipe import Input, Mix, Shards, Stage
from chameleon_data.shards.grouping import divide_shards
from chameleon_data.shards.rows import number_domains
from chameleon_data.store.paths import BuildFolder

ROWS_DIVIDED = 1 << 24
"""Records of rows of a range that a task puts in order, about."""
DIVIDED_ROW_BYTES = 200
"""Memory that a task takes for each of them."""


@dataclass(frozen=True)
class ShardSpec:
    """What a task needs to know, beside its part or its range: how to read again, where rows go, how to write them."""

    layouts: tuple[Layout, ...]
    """Those of one folder, one for each split; shards are numbered through all of them, and so are ranges."""
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
    held_out_alone: tuple[str, ...] = ()
    """Domains of the validation split that are in none of the layouts, as another folder holds that split."""

    @property
    def domain_ids(self) -> dict[str, int]:
        """Domain -> `domain_id`."""
        names = (stream.domain.name for layout in self.layouts for stream in layout.streams)
        return number_domains([*names, *self.held_out_alone])

    @property
    def _largest_divided(self) -> int:
        """Documents that go to the largest range that is too large for one task; 0 where none is."""
        divided = [
            int(np.sum([s.delivered[number] for s in layout.streams]))
            for layout in self.layouts
            for number, (first, end) in enumerate(pairwise(layout.begins.tolist()))
            if divide_shards(first, end, self.shards.size)
        ]
        return max(divided, default=0)

    @property
    def domain_groups(self) -> int:
        """Groups of domains by which a range that is too large for one task is divided; 0 where none is."""
        return -(-self._largest_divided // ROWS_DIVIDED)

    @property
    def dividing_bytes(self) -> int:
        """Memory of the task that divides a range in the streams of a group of domains, beside Python and its libraries."""
        return DIVIDED_ROW_BYTES * min(self._largest_divided, ROWS_DIVIDED)

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
) -> tuple[tuple[Plan, ...], ...]:
    """The plans of each folder: of `train`, and in the first one of `validation` too, where documents are held out.

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
    first, *later = divide_plan(train, stages_by_folder(mix.stages) or (len(stages),))
    if VALIDATION not in selection.splits:
        return (first,), *((plan,) for plan in later)
    counts = selection.splits[VALIDATION]
    held_out = validation_plan(counts, shard_bytes=shards.size, seed=seed, hash=hash, writer=writer, packing=packing)
    return (first, held_out), *((plan,) for plan in later)


def stage_budgets(stages: Sequence[Stage], budget: int) -> tuple[int, ...]:
    """Tokens of each stage, and of each small one of a ramp. Those that have a share divide `budget`."""
    shares = [Fraction(str(s.share)) / s.parts for s in stages if s.share is not None for _ in range(s.parts)]
    own = (divide_budget(s.budget, [Fraction(1)] * s.parts) for s in stages if s.budget is not None)
    return (*(divide_budget(budget, shares) if shares else ()), *(tokens for parts in own for tokens in parts))


def stages_by_folder(stages: Sequence[Stage]) -> tuple[int, ...]:
    """Stages in each folder, small ones of ramps too: those that have a share lie in one, and each other in its own."""
    shared = sum(stage.parts for stage in stages if stage.budget is None)
    return (*([shared] if shared else ()), *(stage.parts for stage in stages if stage.budget is not None))


def folder_digests(plans: Sequence[Sequence[Plan]]) -> tuple[str, ...]:
    """The name of each folder of a build: a hash of everything that decides the bytes of its shards, and of nothing else.

    `plans` are those of each folder. The names of the domains of all splits decide `domain_id`, so the plan of the validation
    split is part of each digest.
    """
    _, *held_out = plans[0]
    return tuple(_join_digests([plan.digest for plan in (train, *held_out)]) for train, *_ in plans)


def plan_digest(folders: Sequence[str]) -> str:
    """The digest of a plan, from those of its folders."""
    return _join_digests(folders)


def _join_digests(digests: Sequence[str]) -> str:
    return digests[0] if len(digests) == 1 else fingerprint(digests)


def build_folders(layouts: Sequence[Sequence[Layout]], parts: Sequence[Part]) -> tuple[BuildFolder, ...]:
    """Where the layouts of each folder of this corpus are built."""
    digests, keys = folder_digests([[layout.plan for layout in of] for of in layouts]), [part.key for part in parts]
    return tuple(
        BuildFolder(
            digest,
            sum(layout.plan.shards for layout in of_folder),
            fingerprint([keys, [layout.begins.tolist() for layout in of_folder]])[:16],
        )
        for digest, of_folder in zip(digests, layouts, strict=True)
    )


def make_shard_specs(
    layouts: Sequence[Sequence[Layout]],
    rules: SelectionRules,
    counter: TokenCounter,
    input: Input,
    shards: Shards,
    columns: Mapping[str, str],
    messages: Mapping[str, str],
) -> tuple[ShardSpec, ...]:
    """What tasks need to know of each folder, whose layouts these are."""
    named = [{s.domain.name for layout in of_folder for s in layout.streams} for of_folder in layouts]
    return tuple(
        ShardSpec(tuple(of_folder), rules, counter, input, shards, columns, messages, tuple(sorted(set.union(*named) - names)))
        for of_folder, names in zip(layouts, named, strict=True)
    )
