"""The recipe of two stages: every prefix of every stage is within the bounds, by a count that knows nothing of plans."""

from __future__ import annotations

from fractions import Fraction
from math import floor
from pathlib import Path

import pyarrow.parquet as pq

from chameleon_data.recipe_file import load_recipe
from chameleon_data.store.store import Store
from chameleon_data.versions.verify import verify_version
from tests.support.inline_builds import build
from tests.support.manifests import list_paths
from tests.support.paths import RECIPES


def test_every_prefix_of_the_recipe_of_two_stages_is_proved(tmp_path: Path) -> None:
    """After each row, one place x in the stage explains all domains: |tokens of d - x Q_d| <= the largest text of d, in exact
    fractions. So the places in which each domain keeps its bound have one in common, and it never goes back."""
    recipe = load_recipe(RECIPES / "stages/pretraining.yaml")
    embed = recipe.embed.model_copy(update={"samples": 8, "window": 64})
    manifest = build(recipe.model_copy(update={"out": str(tmp_path / "out"), "embed": embed}))
    store, rows = Store(str(tmp_path / "out")), 0
    paths = list_paths(store, manifest)
    assert len(manifest.stages) == 2
    assert sum(stage.budget for stage in manifest.stages) == 6_000_000
    assert manifest.stages[1].domains["github"].weight > 1.5 * manifest.stages[0].domains["github"].weight
    assert {"c4", "cc"} <= {*manifest.domains} - {*manifest.stages[1].domains}
    for stage in manifest.stages:
        own, paths = paths[: stage.shards], paths[stage.shards :]
        quotas = {name: floor(Fraction(str(d.weight)) * stage.budget) for name, d in stage.domains.items()}
        largest = {name: manifest.domains[name].largest_document for name in quotas}
        lowest = {name: Fraction(-largest[name], quota) for name, quota in quotas.items()}
        highest = {name: Fraction(largest[name], quota) for name, quota in quotas.items()}
        held, place = dict.fromkeys(quotas, 0), Fraction(0)
        for path in own:
            for row in pq.ParquetFile(tmp_path / "out" / path).read(["text", "domain"], use_threads=False).to_pylist():
                name, size = row["domain"], len(row["text"].encode())
                assert size <= largest[name]
                held[name] += size
                lowest[name] = Fraction(held[name] - largest[name], quotas[name])
                highest[name] = Fraction(held[name] + largest[name], quotas[name])
                place = max(place, *lowest.values())
                assert place <= min(highest.values()), (path, row["domain"])
                rows += 1
        assert all(abs(held[name] - quota) <= largest[name] for name, quota in quotas.items())
    assert not paths
    assert rows == sum(domain.rows for domain in manifest.domains.values()) > 1000
    proof = verify_version(store, manifest)
    assert proof.problems == ()
    assert proof.prefix.share <= 1
