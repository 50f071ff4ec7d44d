"""What a plan will write, for a person to see before anything is written: tokens and rows by domain, shards, bytes, warnings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from chameleon_data.plan.layout import Layout
from chameleon_data.plan.plan import shard_spread
from chameleon_data.shards.lay_out import folder_digests, plan_digest

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
class PlannedFolder:
    """Stages that lie in one folder."""

    digest: str
    """Names the folder."""
    stages: int
    shards: int
    """Shards of all splits in it."""


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
    folders: tuple[PlannedFolder, ...]
    """Where the stages lie, in their order."""
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


def summarise_plan(layouts: Sequence[Sequence[Layout]], shard_bytes: int) -> PlanSummary:
    """`layouts` are those of each folder, train first; `shard_bytes` is `shards.size` of the recipe."""
    trains, (_, *held_out) = [train for train, *_ in layouts], layouts[0]
    digests = folder_digests([[layout.plan for layout in of_folder] for of_folder in layouts])
    stages = [[_summarise_stage(train, stage) for stage in range(len(train.plan.stage_shards))] for train in trains]
    folders = zip(digests, stages, layouts, strict=True)
    return PlanSummary(
        plan_digest(digests),
        {layout.plan.split: layout.plan.named_shards for layout in (trains[-1], *held_out)},
        shard_bytes,
        _summarise_domains(trains),
        tuple(stage for of_folder in stages for stage in of_folder),
        tuple(PlannedFolder(digest, len(own), sum(one.plan.shards for one in of)) for digest, own, of in folders),
        sum(int(layout.tokens.sum()) for layout in held_out),
        sum(map(planned_bytes, layouts)),
        tuple(_warn(trains, shard_bytes)),
    )


def describe_finished(folders: Sequence[PlannedFolder], finished: Sequence[int]) -> str:
    """Which stages need not be written, as stages before an added one are there; empty where none is. `finished`: shards of each
    folder that are there."""
    ends = tuple(accumulate((folder.stages for folder in folders), initial=0))
    there, missing = list[str](), list[str]()
    for (first, end), folder, shards in zip(pairwise(ends), folders, finished, strict=True):
        (there if shards == folder.shards else missing).extend(str(number) for number in range(first + 1, end + 1))
    if len(folders) == 1 or not there:
        return ""
    are = f"{_name_stages(there)} {'is' if len(there) == 1 else 'are'} there already"
    return f"{are}; only {_name_stages(missing)} {'is' if len(missing) == 1 else 'are'} written" if missing else are


def _name_stages(numbers: Sequence[str]) -> str:
    return f"stage {numbers[0]}" if len(numbers) == 1 else f"stages {', '.join(numbers[:-1])} and {numbers[-1]}"


def planned_bytes(layouts: Sequence[Layout]) -> int:
    """Estimated bytes of text (or token ids) in the shards of these layouts, before compression."""
    return sum(s.domain.quota * s.domain.bytes // s.domain.tokens for layout in layouts for s in layout.streams)


def _summarise_domains(trains: Sequence[Layout]) -> dict[str, PlannedDomain]:
    domains = {}
    for of_folders in zip(*(train.streams for train in trains), strict=True):
        domain, packing = of_folders[0].domain, of_folders[0].packing
        tokens = sum(int(stream.tokens.sum()) for stream in of_folders)
        rows = -(-tokens // packing.length) if packing else sum(int(stream.delivered.sum()) for stream in of_folders)
        quota = sum(stream.domain.quota for stream in of_folders)
        domains[domain.name] = PlannedDomain(quota, tokens, rows, tokens / domain.tokens)
    return domains


def _summarise_stage(train: Layout, stage: int) -> PlannedStage:
    here, plan = train.stages == stage, train.plan
    shares = {
        s.domain.name: PlannedShare(s.domain.quotas[stage], int(s.tokens[here].sum()))
        for s in train.streams
        if s.domain.quotas[stage]
    }
    return PlannedStage(plan.stage_shards[stage], shares)


def _warn(trains: Sequence[Layout], shard_bytes: int) -> list[str]:
    plan = trains[0].plan
    warnings, spread = [], shard_spread(plan)
    if trains[-1].plan.named_shards > 1 and spread > LARGEST_SHARD_SPREAD * shard_bytes:
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
