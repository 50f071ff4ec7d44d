"""Do other judges rank mixtures as the largest decoder does? Decoders of three sizes, encoder-decoder, masked, and n-grams."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import mean
from typing import Any

import numpy as np

from chameleon_data.arrays import F64
from chameleon_data.evaluation.plan_record import EvaluationPlan, list_trials
from chameleon_data.evaluation.trial_record import TrialRecord
from chameleon_data.recipe import Evaluate
from chameleon_data.store.paths import evaluation_plan_path, trial_record_path
from chameleon_data.store.store import Store
from chameleon_data.versions.records import load_record

MODEL_SHAPES: dict[str, dict[str, Any]] = {
    "decoder, width 64": {"judge": "decoder", "model": {"width": 64, "layers": 2}},
    "decoder, width 48": {"judge": "decoder", "model": {"width": 48, "layers": 2}},
    "decoder, width 32": {"judge": "decoder", "model": {"width": 32, "layers": 1}},
    "encoder-decoder": {"judge": "encoder_decoder", "model": {"width": 48, "layers": 2}},
    "masked": {"judge": "masked", "model": {"width": 48, "layers": 2}},
    "ngram": {"judge": "ngram", "model": {}},
}
"""Name -> judge and shape; the first is what the others are compared with."""
EXTREMES = 2
"""Mixtures furthest from uniform that are left out of the ranks, as any judge sees those."""


METRICS_OF_BITS: dict[str, Callable[[Mapping[str, float], EvaluationPlan], float]] = {
    "trained": lambda bits, plan: mean(bits[name] for name in _domains_of(plan)),
    "worst": lambda bits, plan: max(bits[name] for name in _domains_of(plan)),
    "unseen": lambda bits, plan: mean(bits[name] for name in plan.unseen),
}
"""Metric -> its value by the bits per byte of each held-out set, as `evaluation/comparison.py` has it."""


def compare_judges(asked: Evaluate, evaluate: Callable[[Evaluate], dict[str, Any]], store: Store) -> dict[str, Any]:
    """Three answers for each judge: `differences` from uniform by metric and mixture; `ranks`, Spearman's correlation of these
    with those of the first judge; and `by_seed`, the same of each of its seeds alone with the mean of the first judge's seeds.

    A seed of the first judge is compared with the mean of its other seeds, which is as much as any judge can agree. N-grams have
    no seeds. `store` is that of the evaluated dataset.
    """
    differences: dict[str, dict[str, dict[str, float]]] = {}
    seeds: dict[str, dict[str, F64]] = {}
    for name, changes in MODEL_SHAPES.items():
        shape = {**asked.model.model_dump(), "family": "auto", **changes["model"]}
        section = Evaluate.model_validate({**asked.model_dump(by_alias=True), "judge": changes["judge"], "model": shape})
        found = evaluate(section)
        compared = [m for m in found["mixtures"] if m["differences"] and not m["chosen"]]
        differences[name] = {
            metric: {m["name"]: m["differences"][metric]["mean"] for m in compared} for metric in found["mixtures"][0]["means"]
        }
        if changes["judge"] != "ngram":
            seeds[name] = read_metrics(store, found["plan"], [m["name"] for m in compared])
    first = next(iter(differences))
    return {
        "differences": differences,
        "ranks": {name: rank_against(differences[first], d) for name, d in differences.items()},
        "by_seed": {name: _rank_seeds(seeds[first], own, name == first) for name, own in seeds.items()},
    }


def _domains_of(plan: EvaluationPlan) -> list[str]:
    return list(next(iter(plan.mixtures.values())))


def read_metrics(store: Store, plan: str, mixtures: Sequence[str]) -> dict[str, F64]:
    """Metric -> (seeds, mixtures) its values."""
    planned = load_record(store, evaluation_plan_path(plan), EvaluationPlan)
    bits: dict[tuple[int, str], dict[str, float]] = {}
    for trial in list_trials(planned):
        sets = load_record(store, trial_record_path(trial.key), TrialRecord).sets
        bits[trial.seed, trial.mixture.name] = {name: found.per_byte for name, found in sets.items()}
    return {
        metric: np.array([[value(bits[seed, name], planned) for name in mixtures] for seed in range(planned.seeds)])
        for metric, value in METRICS_OF_BITS.items()
    }


def _rank_seeds(first: Mapping[str, F64], own: Mapping[str, F64], same: bool) -> dict[str, list[float]]:
    """Metric -> for each seed, the correlation of its ranks with those of the first judge's mean; where both are the `same`, the
    mean of the other seeds. Empty where there are none."""
    ranked: dict[str, list[float]] = {}
    for metric, values in own.items():
        of_first = [np.delete(first[metric], n, 0) if same else first[metric] for n in range(len(values))]
        pairs = [(row, others.mean(axis=0)) for row, others in zip(values, of_first, strict=True) if len(others)]
        ranked[metric] = [_spearman(row, reference) for row, reference in pairs]
    return ranked


def rank_against(reference: dict[str, dict[str, float]], other: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Metric -> Spearman's correlation over all mixtures, and without the two furthest from uniform."""
    return {
        metric: {
            "all": correlate_ranks(values, other[metric]),
            "without_extremes": correlate_ranks(
                dict(sorted(values.items(), key=lambda item: abs(item[1]))[:-EXTREMES]), other[metric]
            ),
        }
        for metric, values in reference.items()
        if metric in other
    }


def correlate_ranks(a: dict[str, float], b: dict[str, float]) -> float:
    """Spearman's correlation of the values of the keys of `a`; there are no ties."""
    return _spearman(np.array(list(a.values())), np.array([b[name] for name in a]))


def _spearman(a: F64, b: F64) -> float:
    x, y = (np.argsort(np.argsort(values)) for values in (a, b))
    return float(np.corrcoef(x, y)[0, 1])
