"""What a plan will write, for a person to see before anything is written: tokens and rows by domain, shards, bytes, warnings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chameleon_data.plan.layout import Layout
from chameleon_data.plan.plan import Plan, shard_spread
from chameleon_data.shards.lay_out import build_digest

LARGEST_SHARD_SPREAD = 0.5
"""Share of the size asked for; a plan whose shards may be further off warns of it."""


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
class PlannedShare:
    """What the plan gives a domain in a stage."""

    target_tokens: int
    """Quota: weight × budget of the stage, in tokens."""
    tokens: int
    """Tokens of the rows that are written."""


@dataclass(frozen=True)
class PlannedStage:
    """What the plan writes in a stage."""

    shards: int
    domains: dict[str, PlannedShare]
    """Domain -> what it gets; one that is absent has no key."""

    @property
    def tokens(self) -> int:
        """Tokens of the stage."""
        return sum(share.tokens for share in self.domains.values())


@dataclass(frozen=True)
class PlanSummary:
    """What the layouts of all splits come to."""

    plan_digest: str
    shard_counts: dict[str, int]
    """Split -> shards."""
    shard_bytes: int
    """Bytes of a shard that were asked for."""
    domains: dict[str, PlannedDomain]
    """Domain -> what the train split gives it."""
    stages: tuple[PlannedStage, ...]
    """The same by stage."""
    validation_tokens: int
    """Tokens of the validation split."""
    bytes: int
    """Estimated bytes of text (or token ids) in all shards, before compression."""
    warnings: tuple[str, ...]
    """Sentences for a person."""

    @property
    def tokens(self) -> int:
        """Tokens of the train split."""
        return sum(domain.tokens for domain in self.domains.values())

    @property
    def rows(self) -> int:
        """Rows of the train split."""
        return sum(domain.rows for domain in self.domains.values())


def summarise_plan(layouts: Sequence[Layout], shard_bytes: int) -> PlanSummary:
    """`layouts` are those of all splits, train first; `shard_bytes` is `shards.size` of the recipe."""
    train, *rest = layouts
    return PlanSummary(
        build_digest([layout.plan for layout in layouts]),
        {layout.plan.split: layout.plan.shards for layout in layouts},
        shard_bytes,
        _summarise_domains(train),
        tuple(_summarise_stage(train, stage) for stage in range(len(train.plan.stage_shards))),
        sum(int(layout.tokens.sum()) for layout in rest),
        planned_bytes(layouts),
        tuple(_warn(train.plan, shard_bytes)),
    )


def planned_bytes(layouts: Sequence[Layout]) -> int:
    """Estimated bytes of text (or token ids) in the shards of all splits, before compression."""
    return sum(s.domain.quota * s.domain.bytes // s.domain.tokens for layout in layouts for s in layout.streams)


def _summarise_domains(train: Layout) -> dict[str, PlannedDomain]:
    domains = {}
    for stream in train.streams:
        domain, tokens = stream.domain, int(stream.tokens.sum())
        rows = -(-tokens // stream.packing.length) if stream.packing else int(stream.delivered.sum())
        domains[domain.name] = PlannedDomain(domain.quota, tokens, rows, tokens / domain.tokens)
    return domains


def _summarise_stage(train: Layout, stage: int) -> PlannedStage:
    here, plan = train.stages == stage, train.plan
    shares = {
        s.domain.name: PlannedShare(s.domain.quotas[stage], int(s.tokens[here].sum()))
        for s in train.streams
        if s.domain.quotas[stage]
    }
    return PlannedStage(plan.stage_shards[stage], shares)


def _warn(plan: Plan, shard_bytes: int) -> list[str]:
    warnings, spread = [], shard_spread(plan)
    if plan.shards > 1 and spread > LARGEST_SHARD_SPREAD * shard_bytes:
        largest = "sequence" if plan.packing else "document"
        warnings.append(
            f"a shard may be {spread:,} bytes off its {shard_bytes:,}, the sum of one largest {largest} a domain; a larger "
            "'shards.size' makes them more even"
        )
    if plan.packing and plan.packing.whole:  # two documents that follow each other may both be longer than half a sequence
        warnings.append(
            "whole documents leave sequences half empty at worst: there may be twice as many as stand here, in shards of twice "
            "the size; 'shards.packing: cross' pads nothing"
        )
    return warnings
