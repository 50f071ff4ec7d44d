"""The recipes that ship: they load, the template is complete, and the demo's corpus is what its recipe says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from chameleon_data.recipe import Recipe, Source
from chameleon_data.recipe_file import load_recipe
from tests.support.paths import RECIPES

DEMO = RECIPES / "demo"


def keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def test_the_template_shows_every_key_with_its_default() -> None:
    raw: dict[str, Any] = yaml.safe_load((RECIPES / "own.yaml").read_text())
    recipe = load_recipe(RECIPES / "own.yaml")
    assert list(raw) == keys(Recipe)
    assert set(raw["sources"]["web"]) == set(keys(Source))
    assert recipe.sources["web"] == Source(path=("s3://bucket/web/*.jsonl.zst",))
    least = Recipe(name="least", out="out", sources={"a": Source(path=("a",))})
    for name, field in Recipe.model_fields.items():
        default = getattr(least, name)
        if isinstance(default, BaseModel):
            assert list(raw[field.alias or name]) == keys(type(default)), name
            assert getattr(recipe, name) == default, name
    assert recipe.seed == least.seed


def test_the_demo_loads_and_its_files_are_there() -> None:
    recipe = load_recipe(DEMO / "demo.yaml")
    assert Path(recipe.out) != DEMO
    for name, source in recipe.sources.items():
        for path in source.path:
            place = Path(path)
            found = list(place.iterdir()) if place.is_dir() else list(place.parent.glob(place.name))
            assert found, f"{name}: {path} matches nothing"
    domains = {name for name, source in recipe.sources.items() if source.domain is None}
    assert len(domains | {name for source in recipe.sources.values() for name in source.rename.values()}) == 8


def test_the_demo_is_small_and_every_file_of_it_is_accounted_for() -> None:
    files = [file for file in (DEMO / "corpus").rglob("*") if file.is_file()]
    assert 2_000_000 < sum(file.stat().st_size for file in files) < 4_000_000
    notes = (DEMO / "LICENCES.md").read_text()
    for file in files:
        assert f"`{file.parent.name}/*{''.join(file.suffixes)}`" in notes, file
