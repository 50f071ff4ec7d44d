"""Runs an experiment by its name: builds and evaluates a recipe, or calls a module's `measure`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chameleon_data.errors import InputError
from chameleon_data.jobs.experiments import aims, cost, families, settings, tasks
from chameleon_data.pipelines.build import build_recipe
from chameleon_data.pipelines.engine import Engine
from chameleon_data.pipelines.evaluate import evaluate_version
from chameleon_data.pipelines.local_engine import local_engine
from chameleon_data.recipe import Evaluate, Recipe
from chameleon_data.recipe_file import parse_recipe
from chameleon_data.store.store import Store
from chameleon_data.versions.records import describe_record

_FOLDER = Path(__file__).resolve().parent  # the package links to `jobs`, and `out` is beside it
MODULES: dict[str, Callable[[], dict[str, Any]]] = {
    "cost": cost.measure_cost,
}
"""Experiments without a recipe of their own."""
RECIPES = ("pretraining", "from_scratch", "left_out", "finetuning", "like", "demo")
COMPARED_ON_TASKS = {"finetuning": tasks.compare_on_tasks, "like": tasks.compare_on_aims}
"""Experiment -> what compares its mixtures on the tasks that they are made for."""
OF_PRETRAINING = ("families", "settings")
"""Experiments with the recipe of pretraining."""
EXPERIMENTS = (*MODULES, *RECIPES, *OF_PRETRAINING, "aims")


def run_experiment(name: str, corpora: Path | None, judge: str | None = None, seeds: int | None = None) -> str:
    """The results, as the text of a JSON document."""
    if name in MODULES:
        found = MODULES[name]()
    elif name == "aims":
        recipes = read_experiment("pretraining", corpora), read_experiment("finetuning", corpora)
        with local_engine() as engine:
            found = aims.aim_mixtures(engine, corpora or Path(), *recipes, _show_nothing)
    else:
        changes = {key: value for key, value in (("judge", judge), ("seeds", seeds)) if value is not None}
        with local_engine() as engine:
            recipe = read_experiment("pretraining" if name in OF_PRETRAINING else name, corpora)
            asked = Evaluate.model_validate({**recipe.evaluate.model_dump(by_alias=True), **changes})
            evaluate = _evaluator(engine, recipe)
            if name == "families":
                found = families.compare_judges(asked, evaluate, Store(recipe.out))
            elif name == "settings":
                shares = settings.weigh_settings(engine, recipe, _show_nothing)
                found = settings.compare_settings(shares, asked, evaluate, Store(recipe.out))
            else:
                found = evaluate(asked)
                if name in COMPARED_ON_TASKS:
                    found = {**found, "tasks": COMPARED_ON_TASKS[name](Store(recipe.out), found["plan"])}
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def read_experiment(name: str, corpora: Path | None) -> Recipe:
    """The recipe of an experiment, with ${CORPORA} in it replaced. Raises InputError where the folder is needed and not given."""
    file = _FOLDER / f"{name}.yaml"
    text = file.read_text(encoding="utf-8")
    if "${CORPORA}" in text:
        if corpora is None:
            raise InputError(f"{name}: this experiment needs text; name a folder of one folder for each domain: --corpora FOLDER")
        text = text.replace("${CORPORA}", str(corpora.absolute()))
    return parse_recipe(text, _FOLDER, str(file))


def _evaluator(engine: Engine, recipe: Recipe) -> Callable[[Evaluate], dict[str, Any]]:
    """Builds the recipe, and returns what evaluates its version."""
    built = build_recipe(recipe, engine, _show_nothing, datetime.now(UTC).isoformat(timespec="seconds"))

    def evaluate(asked: Evaluate) -> Mapping[str, Any]:
        found = evaluate_version(engine, Store(recipe.out), built.version, built.manifest, asked, _show_nothing)
        return describe_record(found)

    return evaluate  # type: ignore[return-value]


def _show_nothing(name: str, done: int, total: int) -> None:
    pass
