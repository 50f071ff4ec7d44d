"""Experiments read without a model: their recipes, where they write, and what `families` asks of each judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chameleon_data.errors import InputError
from chameleon_data.evaluation.plan_record import EvaluationPlan, list_trials
from chameleon_data.evaluation.trial_record import SetBits, TrialRecord
from chameleon_data.jobs.experiments import families, settings
from chameleon_data.jobs.experiments.run import RECIPES, read_experiment
from chameleon_data.jobs.experiments.tasks import compare_on_aims
from chameleon_data.recipe import Evaluate
from chameleon_data.store.paths import evaluation_plan_path, trial_record_path
from chameleon_data.store.store import Store
from chameleon_data.versions.records import encode_record

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("name", RECIPES)
def test_each_recipe_reads_and_writes_beside_the_package(name: str, tmp_path: Path) -> None:
    recipe = read_experiment(name, tmp_path)
    assert Path(recipe.out).parent == ROOT / "out/experiments"
    for mixture in recipe.evaluate.mixtures:
        if isinstance(mixture, str) and mixture.endswith(".json"):
            assert Path(mixture).is_file(), f"{name}: {mixture}"


def test_text_that_is_needed_is_asked_for() -> None:
    with pytest.raises(InputError, match="--corpora FOLDER"):
        read_experiment("like", None)


def test_families_asks_every_judge_with_the_seeds_that_were_given(local_store: Store) -> None:
    """Five mixtures in rising order, but the last of three seeds of every model has them falling."""
    asked: list[Evaluate] = []
    shares = {name: {"a": 0.5, "b": 0.5 + number} for number, name in enumerate(["uniform", "m1", "m2", "m3", "m4", "m5"])}

    def evaluate(section: Evaluate) -> dict[str, Any]:
        asked.append(section)
        judge = {"judge": section.judge, "width": section.model.width, "layers": section.model.layers}
        plan = EvaluationPlan(1, "m" * 64, "p" * 64, judge, shares, section.seeds, 0.005, (), ("c",))
        local_store.write(evaluation_plan_path(plan.digest), encode_record(plan))
        for trial in list_trials(plan):
            worse = [*shares].index(trial.mixture.name) * (1 if trial.seed < 2 else -0.1)
            sets = {name: SetBits(((2.0 + worse) * 10,), (10,)) for name in "abc"}
            record = TrialRecord(trial.key, trial.seed, None, trial.mixture.shares, sets)
            local_store.write(trial_record_path(trial.key), encode_record(record))
        sign = -1 if section.judge == "ngram" else 1
        mixtures = [{"name": "uniform", "differences": {}, "chosen": False, "means": {"trained": 2.0}}]
        for number in range(1, 6):
            differences = {"trained": {"mean": sign * 0.01 * number}}
            mixtures.append({"name": f"m{number}", "differences": differences, "chosen": False, "means": {}})
        return {"mixtures": mixtures, "plan": plan.digest}

    found = families.compare_judges(Evaluate(seeds=3), evaluate, local_store)
    assert [section.seeds for section in asked] == [3] * len(families.MODEL_SHAPES)
    assert found["ranks"]["masked"]["trained"]["all"] == pytest.approx(1.0)
    assert found["ranks"]["ngram"]["trained"]["all"] == pytest.approx(-1.0)
    assert found["by_seed"].keys() == found["ranks"].keys() - {"ngram"}
    for by_metric in found["by_seed"].values():
        assert by_metric == {metric: pytest.approx([1.0, 1.0, -1.0]) for metric in ("trained", "worst", "unseen")}


def test_a_mixture_that_is_aimed_at_a_task_is_compared_on_it_alone(local_store: Store) -> None:
    """Three seeds: the aimed one gains .1 on its task and loses elsewhere; Holm doubles the smaller p of two."""
    shares = {"uniform": {"a": 0.5, "b": 0.5}, "like-x.json": {"a": 1.0, "b": 0.0}, "like-0.3-y.json": {"a": 0.0, "b": 1.0}}
    plan = EvaluationPlan(1, "m" * 64, "p" * 64, {}, shares, 3, 0.005, (), ("x", "y"))
    local_store.write(evaluation_plan_path(plan.digest), encode_record(plan))
    for trial in list_trials(plan):
        gain = {"like-x.json": {"x": -0.1, "y": 0.2}, "like-0.3-y.json": {"x": 0.3, "y": 0.01}}.get(trial.mixture.name, {})
        noise = 0.001 * trial.seed if gain else 0.0
        sets = {name: SetBits(((2.0 + gain.get(name, 0.0) + noise) * 10,), (10,)) for name in "xy"}
        record = TrialRecord(trial.key, trial.seed, None, trial.mixture.shares, sets)
        local_store.write(trial_record_path(trial.key), encode_record(record))
    y, x = sorted(compare_on_aims(local_store, plan.digest), key=lambda row: row["mixture"])
    assert (x["mixture"], x["task"], x["mean"]) == ("like-x.json", "x", pytest.approx(-0.099))
    assert (y["mixture"], y["task"], y["mean"]) == ("like-0.3-y.json", "y", pytest.approx(0.011))
    assert x["p_holm"] == pytest.approx(2 * x["p"])


def test_settings_are_compared_with_the_defaults_seed_by_seed(local_store: Store) -> None:
    """The samples' mixture is .02 worse than the defaults' on trained domains and .1 better on the unseen one."""
    off = {"defaults.json": (0.0, 0.0), "samples.json": (0.02, -0.1), "uniform": (0.3, 0.0)}

    def evaluate(section: Evaluate) -> dict[str, Any]:
        names = {str(mixture): Path(str(mixture)).name for mixture in section.mixtures}
        shares = {
            name: json.loads(Path(path).read_text()) if name != path else {"a": 0.5, "b": 0.5} for path, name in names.items()
        }
        plan = EvaluationPlan(1, "m" * 64, "p" * 64, {}, shares, section.seeds, 0.005, (), ("c",))
        local_store.write(evaluation_plan_path(plan.digest), encode_record(plan))
        for trial in list_trials(plan):
            trained, unseen = off[trial.mixture.name]
            noise = 0.001 * trial.seed * (trial.mixture.name == "samples.json")
            bits = {"a": 2.0 + trained + noise, "b": 3.0 + trained + noise, "c": 4.0 + unseen + 0.7 * trial.seed}
            sets = {name: SetBits((of_set * 10,), (10,)) for name, of_set in bits.items()}
            record = TrialRecord(trial.key, trial.seed, None, trial.mixture.shares, sets)
            local_store.write(trial_record_path(trial.key), encode_record(record))
        return {"plan": plan.digest}

    shares = {"defaults": {"b": 0.25, "a": 0.75}, "samples": {"a": 0.65, "b": 0.35}}
    found = settings.compare_settings(shares, Evaluate(seeds=3), evaluate, local_store)
    uniform, samples = found["rows"]
    assert (uniform["setting"], uniform["total_variation"]) == ("uniform", 0.25)
    assert (samples["setting"], samples["total_variation"]) == ("samples", 0.1)
    assert samples["trained"]["mean"] == pytest.approx(0.021)
    assert samples["trained"]["p_holm"] < 0.01
    assert samples["unseen"]["mean"] == pytest.approx(-0.1)
    assert uniform["trained"]["mean"] == pytest.approx(0.3)
    assert found["shares"] == shares


@pytest.mark.parametrize("name", settings.SETTINGS)
def test_each_setting_is_one_that_a_recipe_may_have(name: str, tmp_path: Path) -> None:
    recipe = read_experiment("pretraining", tmp_path)
    changed = settings.change_sections(recipe, settings.SETTINGS[name])
    assert (changed == recipe) == (settings.SETTINGS[name] == {})
