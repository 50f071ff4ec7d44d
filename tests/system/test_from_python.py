"""The package from Python: a recipe is planned and built, a version loaded, read, proved and compared."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import chameleon_data
from chameleon_data.plan.plan import Plan
from chameleon_data.versions.tags import tag_version
from tests.support.inline_builds import INLINE, write_small_recipe
from tests.support.paths import ROOT


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    write_small_recipe(tmp_path, str(tmp_path / "out"))
    return tmp_path / "recipe.yaml"


def test_a_recipe_is_planned_and_built_from_its_file_or_from_a_dictionary(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    planned = chameleon_data.plan(recipe, engine=INLINE, progress=lambda name, *_: told.append(name))
    built = chameleon_data.build(str(recipe), engine=INLINE)
    assert isinstance(planned, chameleon_data.Planned)
    assert isinstance(built, chameleon_data.Built)
    assert "survey" in told
    assert planned.summary.plan_digest == built.manifest.plan_digest
    monkeypatch.chdir(recipe.parent)
    plain = {**json.loads(recipe.read_text()), "out": "out", "sources": {n: Path("corpus", n) for n in ("legal", "book", "code")}}
    again = chameleon_data.build(plain, engine=INLINE)
    assert (again.name, again.new) == (built.name, False)


def test_a_version_is_loaded_by_any_name_and_says_where_its_shards_are(recipe: Path) -> None:
    built = chameleon_data.build(recipe, engine=INLINE)
    out = str(recipe.parent / "out")
    tag_version(chameleon_data.load(out).store, built.version, "prod", "now")
    for target in (out, f"{out}@1", f"{out}@v1", f"{out}@prod", f"{out}@latest", built.name):
        loaded = chameleon_data.load(target)
        assert isinstance(loaded, chameleon_data.LoadedVersion)
        assert (loaded.name, loaded.manifest) == (f"{out}@v1", built.manifest)
    assert Path(loaded.path("mds"), "index.json").is_file()
    assert len(list(Path(loaded.path("parquet")).glob("*.parquet"))) == built.manifest.shard_count
    with pytest.raises(chameleon_data.InputError, match="holds parquet and mds, no arrow"):
        loaded.path("arrow")
    assert repr(loaded).startswith(f"<{out}@v1: 3 domains, ")
    assert repr(loaded).endswith(" bytes>")


def test_a_version_is_proved_and_compared(recipe: Path) -> None:
    first = chameleon_data.build(recipe, engine=INLINE)
    recipe.write_text(recipe.read_text().replace("30000", "20000"))
    second = chameleon_data.build(recipe, engine=INLINE)
    old, new = chameleon_data.load(first.name), chameleon_data.load(second.name)
    assert old.verify().ok
    difference = old.diff(new)
    assert difference.recipe == {"mix.budget": [30_000, 20_000]}
    assert old.diff(second.name) == difference
    next(Path(new.path("parquet")).glob("*.parquet")).unlink()
    assert not new.verify().ok


def test_what_is_wrong_is_a_value_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="recipe: sources: this key is missing"):
        chameleon_data.plan({"name": "x", "out": str(tmp_path)}, engine=INLINE)
    with pytest.raises(ValueError, match="no such file"):
        chameleon_data.build(tmp_path / "nothing.yaml")
    with pytest.raises(ValueError, match="no dataset is there"):
        chameleon_data.load(str(tmp_path / "typo"))


def test_names_are_those_of_the_package_though_a_room_is_called_plan_too() -> None:
    assert Plan.__module__ == "chameleon_data.plan.plan"
    assert inspect.isfunction(chameleon_data.plan)
    assert dir(chameleon_data) == sorted(chameleon_data.__all__)
    assert set(chameleon_data.__all__) == {*chameleon_data._PLACES, "InputError", "__version__"}


SCRIPT = """
import sys, chameleon_data
built = chameleon_data.build(sys.argv[1])
print(chameleon_data.load(built.name).path("parquet"))
"""


def test_a_script_without_a_guard_builds_on_processes_of_its_own(recipe: Path) -> None:
    (recipe.parent / "script.py").write_text(SCRIPT)
    command: list[Any] = [sys.executable, recipe.parent / "script.py", recipe]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(done.stdout.strip()).is_dir()
