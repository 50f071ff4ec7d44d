"""The same from Python: plan and build a recipe, compare mixtures on a version.

    import chameleon_data
    chameleon_data.plan("recipe.yaml").summary
    built = chameleon_data.build({"name": "own", "out": "out/own", "sources": {"books": "books/*.parquet", "web": "web"}})
    chameleon_data.load(built.name).path("mds")

The passes run on worker processes of this machine, unless an engine is given: `ray_engine` in pipelines/ray_engine.py makes one.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chameleon_data.evaluation.comparison import Comparison
from chameleon_data.evaluation.mixtures import check_mixtures
from chameleon_data.jobs.lineage import tell_lineage
from chameleon_data.pipelines.build import Built, Planned, build_recipe, plan_recipe
from chameleon_data.pipelines.engine import Engine, Progress
from chameleon_data.pipelines.evaluate import evaluate_version
from chameleon_data.pipelines.local_engine import local_engine
from chameleon_data.recipe import Recipe
from chameleon_data.recipe_file import check_recipe, load_recipe
from chameleon_data.store.store import Store
from chameleon_data.versions.references import open_dataset, resolve_version, split_target
from chameleon_data.versions.versions import read_manifest
from chameleon_data.views.catalogue import refresh_catalogue


def plan(recipe: str | Path | Mapping[str, Any], *, engine: Engine | None = None, progress: Progress | None = None) -> Planned:
    """The weights and the plan of a recipe, which is a YAML file or a dictionary. No shard is written.

    Relative paths of a dictionary start at the current folder. `progress` is called with (pass, units done, units in all).
    Raises InputError, a ValueError, for whatever a person can mend.
    """
    with _given_or_own(engine) as runner:
        return plan_recipe(_recipe_of(recipe), runner, progress or _show_nothing)


def build(recipe: str | Path | Mapping[str, Any], *, engine: Engine | None = None, progress: Progress | None = None) -> Built:
    """Build a version of a recipe; see `plan` for the arguments. After a kill the same call goes on where it stopped."""
    wanted = _recipe_of(recipe)
    with tell_lineage(wanted, warnings.warn) as complete:
        with _given_or_own(engine) as runner:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            built = build_recipe(wanted, runner, progress or _show_nothing, now)
        complete(built)
    refresh_catalogue(Store(built.manifest.recipe.out), warnings.warn)
    return built


def evaluate(
    version: str,
    mixtures: Mapping[str, Mapping[str, float]] | None = None,
    settings: Mapping[str, Any] | None = None,
    *,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compare mixtures on the held-out text of a version, written OUT@V.

    `mixtures`: name -> {domain: share}, each compared with uniform; None: those of the settings. `settings`: as the section
    `evaluate` of a recipe; None: that of the version's recipe.
    """
    url, reference = split_target(version)
    store = open_dataset(url)
    found = resolve_version(store, reference)
    manifest = read_manifest(store, found)
    recipe = manifest.recipe
    if settings is not None:
        recipe = check_recipe({**recipe.model_dump(mode="json", by_alias=True), "evaluate": _spell_paths(settings)}, Path.cwd())
    given = None if mixtures is None else check_mixtures(sorted(manifest.domains), mixtures)
    with _given_or_own(engine) as runner:
        return evaluate_version(runner, store, found, manifest, recipe.evaluate, progress or _show_nothing, given)


def _recipe_of(recipe: str | Path | Mapping[str, Any]) -> Recipe:
    return check_recipe(_spell_paths(recipe), Path.cwd()) if isinstance(recipe, Mapping) else load_recipe(recipe)


def _spell_paths(value: Any) -> Any:
    """The same value with texts in the place of paths, as YAML would have it."""
    if isinstance(value, Mapping):
        return {key: _spell_paths(of_key) for key, of_key in value.items()}
    if isinstance(value, list | tuple):
        return [_spell_paths(item) for item in value]
    return str(value) if isinstance(value, Path) else value


@contextmanager
def _given_or_own(engine: Engine | None) -> Iterator[Engine]:
    if engine is not None:
        yield engine
        return
    with local_engine() as own:
        yield own


def _show_nothing(name: str, done: int, total: int) -> None:
    pass
