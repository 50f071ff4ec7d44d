"""One large file of JSON lines: what two workers make of it against one, in the survey and in a whole build."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

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


@dataclass(frozen=True)
class Taken:
    """Seconds of one build."""

    survey: float
    whole: float
    """With workers that are up."""
    cores: float
    """Core-seconds of all its processes. Where other programs are at work they say what the build itself did."""


def take_seconds(folder: Path, corpus: Path, size: int, workers: int) -> Taken:
    from chameleon_data.pipelines.build import build_recipe
    from chameleon_data.pipelines.local_engine import local_engine
    from chameleon_data.recipe_file import load_recipe

    shutil.rmtree(folder / "out", ignore_errors=True)
    with local_engine(workers=workers) as engine:
        start, before = time.perf_counter(), core_seconds()
        built = build_recipe(load_recipe(recipe_for(folder, corpus, size)), engine, lambda *_: None, "bench")
        return Taken(built.manifest.timings["survey"], time.perf_counter() - start, core_seconds() - before)


def core_seconds() -> float:
    """Of this process and of those that it has started and that run."""
    this = psutil.Process()
    times = [process.cpu_times() for process in (this, *this.children())]
    return sum(one.user + one.system for one in times)


def run(gigabytes: float = 4.0, repeats: int = 3, folder: Path | None = None) -> list[Figure]:
    """Both figures. Beside them stands how busy the machine was: the core-seconds of a build are what it got of its cores."""
    size = int(gigabytes * GIGABYTE)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        base = Path(name)
        make_file(base / "corpus/one/a.jsonl", size)
        taken: dict[int, list[Taken]] = {1: [], 2: []}
        for _ in range(repeats):
            for workers, builds in taken.items():
                builds.append(take_seconds(base, base / "corpus", size, workers))
    figures = []
    load = f"load {os.getloadavg()[1]:.0f}"
    shares = [sum(build.cores for build in builds) / sum(build.whole for build in builds) for builds in taken.values()]
    for what, about in (("survey", "survey"), ("whole", "whole build")):
        one, two = (statistics.median(getattr(build, what) for build in taken[workers]) for workers in (1, 2))
        peer = f"one worker {one:.1f} s, two {two:.1f} s; they got {shares[0]:.1f} and {shares[1]:.1f} cores; {load}"
        figures.append(Figure(f"{about} of one .jsonl of {gigabytes:g} GB, two workers", one / two, "×", AIM, peer))
    return figures


if __name__ == "__main__":
    show(run(float(sys.argv[1]) if len(sys.argv) > 1 else 4.0, int(sys.argv[2]) if len(sys.argv) > 2 else 3))
