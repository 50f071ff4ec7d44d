"""Experiments read without a model: their recipes, where they write, and what `families` asks of each judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chameleon_data.errors import InputError
from chameleon_data.jobs.experiments import families
from chameleon_data.jobs.experiments.run import RECIPES, read_experiment
from chameleon_data.recipe import Evaluate

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


def test_families_asks_every_judge_with_the_seeds_that_were_given() -> None:
    asked: list[Evaluate] = []

    def evaluate(section: Evaluate) -> dict[str, Any]:
        asked.append(section)
        sign = -1 if section.judge == "ngram" else 1
        mixtures = [{"name": "uniform", "differences": {}, "chosen": False, "means": {"trained": 2.0}}]
        for number in range(1, 6):
            differences = {"trained": {"mean": sign * 0.01 * number}}
            mixtures.append({"name": f"m{number}", "differences": differences, "chosen": False, "means": {}})
        return {"mixtures": mixtures}

    found = families.compare_judges(Evaluate(seeds=3), evaluate)
    assert [section.seeds for section in asked] == [3] * len(families.MODEL_SHAPES)
    assert found["ranks"]["masked"]["trained"]["all"] == pytest.approx(1.0)
    assert found["ranks"]["ngram"]["trained"]["all"] == pytest.approx(-1.0)
