"""Stability: how far weights move with the seed, the number of samples, the embedder, the kernel and the level.

    python -m chameleon_data.jobs.experiments.weights_stability        (some minutes on two cores; the demo's corpora and model)

Distances are total variation, half the sum of the absolute differences, from the default weights of the demo's eight domains,
before bounds; and the largest difference of one weight. The default lies .0151 nats from equal shares.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from typing import Any

from chameleon_data.jobs.experiments.settings import change_sections
from chameleon_data.jobs.experiments.weights_results import DEMO, keep_results
from chameleon_data.pipelines.build import weigh_recipe
from chameleon_data.pipelines.engine import Engine
from chameleon_data.pipelines.local_engine import local_engine
from chameleon_data.recipe_file import load_recipe
from chameleon_data.weights.mixture import MixtureDescription


def weigh_with(engine: Engine, folder: str, sections: Mapping[str, Mapping[str, Any]], seed: int = 0) -> MixtureDescription:
    """The demo's mixture with some keys of its sections changed."""
    recipe = change_sections(load_recipe(DEMO), sections).model_copy(update={"out": folder, "seed": seed})
    return weigh_recipe(recipe, engine, lambda *_: None).mixture.description


def compare(said: str, weights: Mapping[str, float], base: Mapping[str, float]) -> dict[str, object]:
    moved = {name: abs(share - base[name]) for name, share in weights.items()}
    return {
        "setting": said,
        "total variation": round(sum(moved.values()) / 2, 4),
        "largest difference": round(max(moved.values()), 4),
        "first domain": max(weights, key=lambda name: weights[name]),
    }


if __name__ == "__main__":
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, local_engine() as engine:
        about = weigh_with(engine, folder, {"embed": {"also": ["tfidf"]}})
        base = about.unbounded
        rows = [compare("equal shares", dict.fromkeys(base, 1 / len(base)), base)]
        rows += [compare("TF-IDF", other.weights, base) for other in about.other_embedders]
        for n in (12, 24):
            rows.append(compare(f"{n} samples a domain", weigh_with(engine, folder, {"embed": {"samples": n}}).unbounded, base))
        for kernel in ("cosine", "rbf", "polynomial", "laplacian"):
            rows.append(compare(f"kernel {kernel}", weigh_with(engine, folder, {"leverage": {"kernel": kernel}}).unbounded, base))
        rows.append(compare("level sample", weigh_with(engine, folder, {"leverage": {"level": "sample"}}).unbounded, base))
        rows.append(
            compare("published preset", weigh_with(engine, folder, {"leverage": {"preset": "reference"}}).unbounded, base)
        )
        for seed in (1, 2, 3):
            rows.append(compare(f"seed {seed}", weigh_with(engine, folder, {}, seed).unbounded, base))
    keep_results("weights_stability", "weights_stability", "How far do weights move?", rows, began)
