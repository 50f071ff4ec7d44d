"""One large file of JSON lines: what two workers make of it against one, in the survey and in a whole build."""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.build import GIGABYTE, recipe_for
from tests.bench.figures import Figure, show
from tests.support.corpus import demo_texts

AIM = 1.7
"""How much faster two workers should be than one."""


def make_file(path: Path, size: int) -> None:
    """About `size` bytes of the demo's texts as JSON lines, each copy of a text with a first line of its own."""
    texts = [text for texts in demo_texts().values() for text in texts]
    path.parent.mkdir(parents=True)
    written = copy = 0
    with path.open("wb") as file:
        while written < size:
            for text in texts:
                row = {"text": f"copy {copy}\n{text}"}
                written += file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            copy += 1


def take_seconds(folder: Path, corpus: Path, size: int, workers: int) -> tuple[float, float]:
    """Seconds of the survey, and of a whole build with workers that are up."""
    from chameleon_data.pipelines.build import build_recipe
    from chameleon_data.pipelines.local_engine import local_engine
    from chameleon_data.recipe_file import load_recipe

    shutil.rmtree(folder / "out", ignore_errors=True)
    with local_engine(workers=workers) as engine:
        start = time.perf_counter()
        built = build_recipe(load_recipe(recipe_for(folder, corpus, size)), engine, lambda *_: None, "bench")
        return built.manifest.timings["survey"], time.perf_counter() - start


def run(gigabytes: float = 4.0, repeats: int = 3, folder: Path | None = None) -> list[Figure]:
    """Both figures."""
    size = int(gigabytes * GIGABYTE)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        base = Path(name)
        make_file(base / "corpus/one/a.jsonl", size)
        taken: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
        for _ in range(repeats):
            for workers, seconds in taken.items():
                seconds.append(take_seconds(base, base / "corpus", size, workers))
    figures = []
    for place, what in enumerate(("survey", "whole build")):
        one, two = (statistics.median(seconds[place] for seconds in taken[workers]) for workers in (1, 2))
        peer = f"one worker {one:.1f} s, two {two:.1f} s"
        figures.append(Figure(f"{what} of one .jsonl of {gigabytes:g} GB, two workers", one / two, "×", AIM, peer))
    return figures


if __name__ == "__main__":
    show(run(float(sys.argv[1]) if len(sys.argv) > 1 else 4.0))
