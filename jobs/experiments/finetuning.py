"""What counts in finetuning: bits per byte on the tasks alone, against equal shares of the tasks, paired over seeds."""

from __future__ import annotations

from typing import Any

import numpy as np

from chameleon_data.evaluation.intervals import compare_pairs, holm
from chameleon_data.evaluation.plan_record import EvaluationPlan, list_trials
from chameleon_data.evaluation.trial_record import TrialRecord
from chameleon_data.store.paths import evaluation_plan_path, trial_record_path
from chameleon_data.store.store import Store
from chameleon_data.versions.records import load_record

TASKS = "tasks.json"
"""The mixture that the others are compared with: its domains are the tasks, in equal shares."""


def compare_on_tasks(store: Store, plan: str) -> list[dict[str, Any]]:
    """A row for each other mixture of a plan, which is named by its digest. Holm's p is over these rows."""
    planned = load_record(store, evaluation_plan_path(plan), EvaluationPlan)
    tasks = sorted(name for name, share in planned.mixtures[TASKS].items() if share)
    bits: dict[str, list[list[float]]] = {name: [] for name in planned.mixtures}
    for trial in list_trials(planned):
        sets = load_record(store, trial_record_path(trial.key), TrialRecord).sets
        bits[trial.mixture.name].append([sets[task].per_byte for task in tasks])
    equal = np.array(bits.pop(TASKS))  # (seeds, tasks)
    rows: list[dict[str, Any]] = []
    for name, found in bits.items():
        differences = np.array(found) - equal
        rows.append({"mixture": name, "seeds": planned.seeds, **_say(differences.mean(axis=1), planned.band)})
        rows[-1]["tasks"] = {task: _say(differences[:, n], planned.band) for n, task in enumerate(tasks)}
    for row, p in zip(rows, holm([row["p"] or 0.0 for row in rows]), strict=True):
        row["p_holm"] = p
    return rows


def _say(differences: Any, band: float) -> dict[str, Any]:
    found = compare_pairs(differences, band)
    return {
        "mean": found.mean,
        "error": found.error,
        "interval": found.interval,
        "p": found.p,
        "p_inside": found.p_inside,
    }
