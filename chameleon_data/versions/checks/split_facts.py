"""What a manifest says of one split, as arrays over its domains, in byte order of name: the checks of rows compare with it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np

from chameleon_data.arrays import I64
from chameleon_data.hashing import key64
from chameleon_data.plan.plan import TRAIN, Packing, phase_of
from chameleon_data.shards.formats.registry import FORMATS
from chameleon_data.versions.checks.books import read_packing
from chameleon_data.versions.manifest import Manifest, SplitRecord


@dataclass(frozen=True)
class SplitFacts:
    """One split of a version."""

    split: str
    manifest: Manifest

    @cached_property
    def records(self) -> Mapping[str, SplitRecord]:
        """Domain -> its record, in byte order of name."""
        return self.manifest.split_domains(self.split)

    @cached_property
    def names(self) -> list[str]:
        return list(self.records)

    @property
    def shards(self) -> int:
        """Shards of the split."""
        return self.manifest.shard_counts[self.split]

    @cached_property
    def first(self) -> int:
        """Number of its first shard among those of all splits."""
        counts = self.manifest.shard_counts
        return sum(counts[split] for split in list(counts)[: list(counts).index(self.split)])

    @cached_property
    def domain_ids(self) -> I64:
        """(domains,) `domain_id` of each."""
        return np.array([self.manifest.domain_ids.get(name, -1) for name in self.names], np.int64)

    @cached_property
    def packing(self) -> Packing | None:
        return read_packing(self.manifest.recipe)

    @property
    def length(self) -> int | None:
        """Tokens of a sequence; None where a row is a document."""
        length = self.manifest.recipe.shards.sequence_length
        return None if length == "none" else length

    @cached_property
    def stage_shards(self) -> tuple[int, ...]:
        """Shards of each stage; the validation split is one stage."""
        return tuple(stage.shards for stage in self.manifest.stages) if self.split == TRAIN else (self.shards,)

    def stage_of(self, shard: int) -> int:
        """The stage of a shard of the split."""
        return min(bisect_right(tuple(accumulate(self.stage_shards)), shard), len(self.stage_shards) - 1)

    @cached_property
    def quotas(self) -> I64:
        """(stages, domains) tokens; 0 where a domain is absent."""
        if self.split != TRAIN:
            return np.array([[d.target_tokens for d in self.records.values()]], np.int64)
        found = np.zeros((len(self.manifest.stages), len(self.names)), np.int64)
        for row, stage in zip(found, self.manifest.stages, strict=True):
            row[:] = [stage.domains[name].target_tokens if name in stage.domains else 0 for name in self.names]
        return found

    @cached_property
    def begins(self) -> I64:
        """(stages, domains) the anchors at which the stages begin."""
        return np.cumsum(self.quotas, axis=0) - self.quotas

    @cached_property
    def bounds(self) -> I64:
        """(domains,) tokens that a domain may be off its share; at least 1, as above."""
        return np.array([max(1, self.length or d.largest_document) for d in self.records.values()], np.int64)

    @cached_property
    def phases(self) -> I64:
        """(domains,) phases, over 2^32."""
        return np.array([phase_of(self.manifest.seed, name) for name in self.names], np.int64)

    def salt(self, domain: int, epoch: int) -> int:
        """What the order of a domain's documents in an epoch is made of."""
        return key64(self.manifest.seed, self.names[domain], "epoch", epoch)

    def path(self, shard: int) -> str:
        """The first file of a shard of the split, which stands for it in sentences."""
        shards, folders = self.manifest.recipe.shards, self.manifest.shards_by_build(self.split)
        folder, numbers = next((f, n) for f, n in folders.items() if shard < n.stop or n.stop == self.shards)
        (name, *_) = FORMATS[shards.formats[0]].names(shard, numbers.stop, self.split, shards.zstd_level)
        return f"{folder}/{shards.formats[0]}/{name}"
