"""A cluster of several nodes. The soak has more of it: nodes that are lost or join in every pass, and a driver that moves."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak import kills, nodes


@pytest.mark.ray
def test_nodes_that_differ_are_refused_and_the_others_build_the_same(tmp_path: Path) -> None:
    clean = kills.build_large(tmp_path)
    recipe = kills.write_recipe_for(clean, tmp_path / "cluster")
    assert nodes.run_scenario(recipe, "differ") == ["refused", clean.digest]
    clean.check(str(tmp_path / "cluster/out"), "nodes")
