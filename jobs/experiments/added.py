"""A domain that is added later to the demo's corpora: recomputed for the price of its own samples, against everything anew."""

from __future__ import annotations

import time
from typing import Any

from chameleon_data.jobs.experiments.stability import demo_recipe
from chameleon_data.pipelines.build import weigh_recipe
from chameleon_data.pipelines.local_engine import local_engine
from chameleon_data.recipe import Recipe

ADDED = "legal"


def measure_added() -> dict[str, Any]:
    """Seconds of both ways, what was embedded, and whether the weights are the same."""
    whole = demo_recipe("added")
    before = whole.model_copy(update={"sources": {n: s for n, s in whole.sources.items() if n != ADDED}})
    anew = demo_recipe("anew")
    with local_engine() as engine:

        def weigh(recipe: Recipe) -> tuple[float, dict[str, float], str]:
            start = time.monotonic()
            found = weigh_recipe(recipe, engine, lambda *_: None)
            return time.monotonic() - start, found.mixture.description.unbounded, found.reused.get("embed", "")

        first, _, _ = weigh(before)
        later, grown, embedded = weigh(whole)
        everything, fresh, _ = weigh(anew)
    return {
        "added": ADDED, "seconds_before": round(first, 1), "seconds_added": round(later, 1), "seconds_anew": round(everything, 1),
        "embedded": embedded, "same_weights": grown == fresh,
    }  # fmt: skip
