"""Domains added later: their weights for the price of their own samples, against everything anew.

    python -m chameleon_data.jobs.experiments.weights_added        (a minute on two cores; the demo's corpora and model)

The demo's domains without `medical` are weighed, then with it, then all of them in another folder. What is embedded each time,
and do the last two agree?
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from chameleon_data.jobs.experiments.weights_results import DEMO, keep_results
from chameleon_data.pipelines.build import weigh_recipe
from chameleon_data.pipelines.local_engine import local_engine
from chameleon_data.pipelines.weigh import Weighed
from chameleon_data.recipe_file import load_recipe

LATER = "medical"


def weigh_demo(folder: Path, without: str | None = None) -> tuple[Weighed, float]:
    """The demo weighed into a folder, and the seconds it took, the start of the workers included."""
    recipe = load_recipe(DEMO)
    sources = {name: source for name, source in recipe.sources.items() if name != without}
    started = time.monotonic()
    with local_engine() as engine:
        found = weigh_recipe(recipe.model_copy(update={"out": str(folder), "sources": sources}), engine, lambda *_: None)
    return found, time.monotonic() - started


if __name__ == "__main__":
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as here:
        before, first = weigh_demo(Path(here, "grown"), LATER)
        grown, second = weigh_demo(Path(here, "grown"))
        anew, third = weigh_demo(Path(here, "anew"))
    apart = max(abs(w - anew.mixture.description.unbounded[n]) for n, w in grown.mixture.description.unbounded.items())
    rows = [
        {"weighed": said, "work": found.reused["embed"], "seconds": round(seconds, 1), "differs from anew": off}
        for said, found, seconds, off in (
            (f"all but {LATER}", before, first, None), (f"{LATER} added", grown, second, apart), ("all anew", anew, third, 0.0),
        )
    ]  # fmt: skip
    keep_results("weights_added", "weights_added", "What does a domain cost that is added later?", rows, began)
