"""What counts where a mixture is made for tasks: bits per byte on the tasks alone, paired over seeds.

In finetuning the others are compared with equal shares of the tasks; where a mixture is aimed at one task, with uniform.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

from chameleon_data.arrays import F64
from chameleon_data.evaluation.intervals import compare_pairs
from chameleon_data.evaluation.mixtures import UNIFORM
from chameleon_data.evaluation.plan_record import EvaluationPlan, list_trials
from chameleon_data.evaluation.trial_record import TrialRecord
from chameleon_data.store.paths import evaluation_plan_path, trial_record_path
from chameleon_data.store.store import Store
from chameleon_data.versions.records import load_record
from chameleon_data.weights.many_tests import holm

TASKS = "tasks.json"
"""The mixture that the others are compared with: its domains are the tasks, in equal shares."""
AIMED = "like-"
"""Start of the name of each mixture that is aimed at a task; it ends in the task's name."""


def compare_on_tasks(store: Store, plan: str) -> list[dict[str, Any]]:
    """A row for each other mixture of a plan, which is named by its digest. Holm's p is over these rows."""
    planned = load_record(store, evaluation_plan_path(plan), EvaluationPlan)
    tasks = sorted(name for name, share in planned.mixtures[TASKS].items() if share)
    bits = _read_bits(store, planned, tasks)
    equal = bits.pop(TASKS)
    rows: list[dict[str, Any]] = []
    for name, found in bits.items():
        differences = found - equal
        rows.append({"mixture": name, "seeds": planned.seeds, **_say(differences.mean(axis=1), planned.band)})
        rows[-1]["tasks"] = {task: _say(differences[:, n], planned.band) for n, task in enumerate(tasks)}
    return _adjust(rows)


def compare_on_aims(store: Store, plan: str) -> list[dict[str, Any]]:
    """A row for each mixture of a plan that is called like-TASK.json or like-NATS-TASK.json: its task's bits less uniform's.

    Holm's p is over these rows.
    """
    planned = load_record(store, evaluation_plan_path(plan), EvaluationPlan)
    tasks = {name: PurePath(name).stem.rsplit("-", 1)[-1] for name in planned.mixtures if name.startswith(AIMED)}
    rows: list[dict[str, Any]] = []
    for name, task in tasks.items():
        bits = _read_bits(store, planned, [task])
        rows.append({"mixture": name, "task": task, "seeds": planned.seeds})
        rows[-1] |= _say((bits[name] - bits[UNIFORM])[:, 0], planned.band)
    return _adjust(rows)


def _read_bits(store: Store, planned: EvaluationPlan, tasks: Sequence[str]) -> dict[str, F64]:
    """Mixture -> (seeds, tasks) bits per byte."""
    bits: dict[str, list[list[float]]] = {name: [] for name in planned.mixtures}
    for trial in list_trials(planned):
        sets = load_record(store, trial_record_path(trial.key), TrialRecord).sets
        bits[trial.mixture.name].append([sets[task].per_byte for task in tasks])
    return {name: np.array(found) for name, found in bits.items()}


def _adjust(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with Holm's p, over them all."""
    return [{**row, "p_holm": p} for row, p in zip(rows, holm(np.array([row["p"] or 0.0 for row in rows])).tolist(), strict=True)]


def _say(differences: Any, band: float) -> dict[str, Any]:
    found = compare_pairs(differences, band)
    return {
        "mean": found.mean,
        "error": found.error,
        "interval": found.interval,
        "p": found.p,
        "p_inside": found.p_inside,
    }
