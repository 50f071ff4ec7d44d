"""How far the weights of the demo's corpora move with the seed of the sample, its size, and the kernel.

The largest movement of one weight, and the total variation between two mixtures, beside the .37 by which the two published runs
of DoReMi differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chameleon_data.pipelines.build import weigh_recipe
from chameleon_data.pipelines.local_engine import local_engine
from chameleon_data.recipe import Recipe
from chameleon_data.recipe_file import load_recipe

_DEMO = Path(__file__).parent.parent / "recipes/demo/demo.yaml"
_OUT = "out/experiments/stability"
DOREMI = 0.37
"""Total variation between the weights of DoReMi's two published runs (280M proxies; Xie et al. 2023, and its repository)."""


def demo_recipe(name: str, **sections: Any) -> Recipe:
    """The demo's recipe in a folder of its own."""
    recipe = load_recipe(_DEMO)
    plain = recipe.model_dump(by_alias=True)
    for section, changes in sections.items():
        plain[section] = {**plain[section], **changes} if isinstance(changes, dict) else changes
    return Recipe.model_validate({**plain, "out": str(Path(_OUT).absolute().parent / name)})


def _settings() -> Iterator[tuple[str, str, Recipe]]:
    for seed in (0, 1, 2):
        yield "seed", str(seed), demo_recipe("stability", seed=seed)
    for samples in (24, 48):
        yield "samples", str(samples), demo_recipe("stability", embed={"samples": samples})
    for kernel in ("linear", "cosine", "rbf", "laplacian"):
        yield "kernel", kernel, demo_recipe("stability", leverage={"kernel": kernel})


def measure_stability() -> dict[str, Any]:
    """Kind of change -> value -> weights before bounds, and the largest movement between any two."""
    weights: dict[str, dict[str, dict[str, float]]] = {}
    with local_engine() as engine:
        for kind, value, recipe in _settings():
            found = weigh_recipe(recipe, engine, lambda *_: None)
            weights.setdefault(kind, {})[value] = found.mixture.description.unbounded
    moved = {}
    for kind, by_value in weights.items():
        pairs = [(a, b) for i, a in enumerate(by_value.values()) for b in list(by_value.values())[:i]]
        moved[kind] = {
            "largest_movement": max(abs(a[name] - b[name]) for a, b in pairs for name in a),
            "total_variation": max(sum(abs(a[name] - b[name]) for name in a) / 2 for a, b in pairs),
        }
    return {"weights": weights, "moved": moved, "doremi_total_variation": DOREMI}
