"""Would weights by other numbers than the defaults train better models? Each setting's mixture beside that of the defaults.

The recipe is that of pretraining. Only what decides its weights is changed, one setting at a time; the mixtures are trained and
judged as any others, and compared with the mixture of the defaults, seed by seed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from chameleon_data.evaluation.intervals import compare_pairs
from chameleon_data.evaluation.plan_record import EvaluationPlan
from chameleon_data.jobs.experiments.families import read_metrics
from chameleon_data.pipelines.build import weigh_recipe
from chameleon_data.pipelines.engine import Engine, Progress
from chameleon_data.recipe import Evaluate, Recipe
from chameleon_data.store.paths import evaluation_plan_path
from chameleon_data.store.store import Store
from chameleon_data.versions.records import load_record
from chameleon_data.weights.many_tests import holm
from chameleon_data.weights.tfidf import TFIDF

DEFAULTS = "defaults"
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    DEFAULTS: {"embed": {"also": [TFIDF]}},
    "samples-64": {"embed": {"samples": 64}},
    "samples-1024": {"embed": {"samples": 1024}},
    "window-64": {"embed": {"window": 64}},
    "ridge-small": {"leverage": {"ridge": {"effective_dimension": 4.5}}},
    "ridge-large": {"leverage": {"ridge": {"effective_dimension": 1.0}}},
    "debias-none": {"leverage": {"debias": 0.0}},
    "rbf": {"leverage": {"kernel": "rbf"}},
    "level-sample": {"leverage": {"level": "sample"}},
    "kl-0.06": {"weights": {"temperature": {"kl": 0.06}}},
    "kl-0.24": {"weights": {"temperature": {"kl": 0.24}}},
    "preset-reference": {"leverage": {"preset": "reference"}},
}
"""Name -> section -> what is changed in it. TF-IDF's vectors are weighed by beside the defaults, and are one more setting."""
SHARE_DECIMALS = 6


def change_sections(recipe: Recipe, sections: Mapping[str, Mapping[str, Any]]) -> Recipe:
    """The recipe with some keys of its sections changed."""
    update = {
        section: type(own := getattr(recipe, section)).model_validate(own.model_dump(by_alias=True) | keys)
        for section, keys in sections.items()
    }
    return recipe.model_copy(update=update)


def weigh_settings(engine: Engine, recipe: Recipe, progress: Progress) -> dict[str, dict[str, float]]:
    """Setting -> domain -> share, before any bound."""
    shares: dict[str, dict[str, float]] = {}
    for name, sections in SETTINGS.items():
        found = weigh_recipe(change_sections(recipe, sections), engine, progress).mixture.description
        by_embedder = {name: found.unbounded, **{other.name: other.weights for other in found.other_embedders}}
        shares |= {of: {domain: round(share, SHARE_DECIMALS) for domain, share in own.items()} for of, own in by_embedder.items()}
    return shares


def compare_settings(
    shares: Mapping[str, Mapping[str, float]], asked: Evaluate, evaluate: Callable[[Evaluate], dict[str, Any]], store: Store
) -> dict[str, Any]:
    """The shares, and for each setting its difference from the defaults by metric, paired over seeds.

    Holm's p is over the settings of a metric. `store` is that of the evaluated dataset.
    """
    paths = dict[str, str]()
    for name, own in shares.items():
        store.write(f"settings/{name}.json", json.dumps(own).encode())
        paths[f"{name}.json"] = f"{store.url}/settings/{name}.json"
    found = evaluate(Evaluate.model_validate({**asked.model_dump(by_alias=True), "mixtures": ["uniform", *paths.values()]}))
    plan = load_record(store, evaluation_plan_path(found["plan"]), EvaluationPlan)
    compared = ["uniform", *(name for name in paths if name != f"{DEFAULTS}.json")]
    default = plan.mixtures[f"{DEFAULTS}.json"]
    rows: list[dict[str, Any]] = []
    for name in compared:
        moved = sum(abs(share - default[domain]) for domain, share in plan.mixtures[name].items()) / 2
        rows.append({"setting": name.removesuffix(".json"), "total_variation": round(moved, 4)})
    values = read_metrics(store, found["plan"], [f"{DEFAULTS}.json", *compared])
    for metric, (of_defaults, *of_settings) in ((metric, by_seed.T) for metric, by_seed in values.items()):
        tests = [compare_pairs(by_seed - of_defaults, plan.band) for by_seed in of_settings]
        for row, test, p in zip(rows, tests, holm(np.array([test.p or 0.0 for test in tests])).tolist(), strict=True):
            said = {key: getattr(test, key) for key in ("mean", "error", "interval", "p_inside")}
            row[metric] = {**said, "p_holm": p}
    return {"shares": shares, "seeds": plan.seeds, "band": plan.band, "rows": rows, "plan": found["plan"]}
