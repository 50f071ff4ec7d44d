"""The plan of an evaluation: what is compared, how often, and what counts as no difference. Written before the first trial.

Its digest names it, so that a plan with more seeds or another band is another file, and both stay to be seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue, with_config

from chameleon_data.evaluation.mixtures import NamedMixture
from chameleon_data.evaluation.trial_record import trial_key
from chameleon_data.hashing import fingerprint
from chameleon_data.versions.records import STRICT, describe_record

EVALUATION_PLAN_FORMAT = 1


@with_config(STRICT)
@dataclass(frozen=True)
class EvaluationPlan:
    """What is fixed before the first trial."""

    version: int
    manifest: str
    """sha256 of the version's manifest."""
    pool: str
    """Digest of the pool."""
    judge: dict[str, JsonValue]
    """Which judge, and all of its settings."""
    mixtures: dict[str, dict[str, float]]
    """Name -> domain -> share."""
    seeds: int
    band: float
    """Bits per byte inside which a difference is called none."""
    left_out: tuple[str, ...]
    """Domains that are left out of the training, each in turn; empty: none."""
    unseen: tuple[str, ...]
    """Held-out sets that no mixture holds."""
    format: int = EVALUATION_PLAN_FORMAT

    @property
    def digest(self) -> str:
        return fingerprint(describe_record(self))


@dataclass(frozen=True)
class PlannedTrial:
    """One trial of a plan."""

    mixture: NamedMixture
    seed: int
    without: str | None
    key: str


def list_branches(plan: EvaluationPlan) -> tuple[tuple[int, str | None], ...]:
    """(seed, domain that is left out) of each checkpoint that several trials may go on from."""
    return tuple((seed, without) for seed in range(plan.seeds) for without in (None, *plan.left_out))


def list_trials(plan: EvaluationPlan) -> tuple[PlannedTrial, ...]:
    """Every trial, seed by seed, so that a plan that is stopped has whole seeds behind it."""
    trials = []
    judge: dict[str, Any] = dict(plan.judge)
    for seed, without in list_branches(plan):
        for name, shares in plan.mixtures.items():
            key = trial_key(plan.pool, judge, shares, seed, without)
            trials.append(PlannedTrial(NamedMixture(name, shares), seed, without, key))
    return tuple(trials)
