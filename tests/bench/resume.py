"""What a killed build saves: its driver is killed when half of the shards are there, and the same command goes on."""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.build import GIGABYTE, make_corpus, recipe_for
from tests.bench.figures import Figure, show


def _build(recipe: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "chameleon_data.jobs.start", "build", str(recipe)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def _receipts(out: Path) -> int:
    return len(list(out.glob("builds/*/receipts/*.parquet")))


def whole(recipe: Path, out: Path) -> tuple[float, int]:
    """Seconds of a build that nobody kills, and its shards."""
    shutil.rmtree(out, ignore_errors=True)
    start = time.perf_counter()
    if _build(recipe).wait():
        raise SystemExit("the build failed")
    return time.perf_counter() - start, _receipts(out)


def resumed(recipe: Path, out: Path, shards: int) -> float:
    """Seconds of the command that goes on from half of the shards."""
    shutil.rmtree(out, ignore_errors=True)
    process = _build(recipe)
    while _receipts(out) < shards // 2 and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(5)  # Ray's processes end by themselves
    start = time.perf_counter()
    if _build(recipe).wait():
        raise SystemExit("the build failed")
    return time.perf_counter() - start


def run(gigabytes: float = 1.0, repeats: int = 3) -> list[Figure]:
    """The time that the rest takes, as a share of the whole."""
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        size = int(gigabytes * GIGABYTE)
        make_corpus(base / "corpus", size)
        recipe = recipe_for(base, base / "corpus", size)
        full = [whole(recipe, base / "out") for _ in range(repeats)]
        shards = full[0][1]
        rest = statistics.median(resumed(recipe, base / "out", shards) for _ in range(repeats))
    seconds = statistics.median(taken for taken, _ in full)
    peer = f"{rest:.1f} s of {seconds:.1f} s, Ray's start in both; killed at {shards // 2} of {shards} shards"
    return [Figure("resumed after a kill at half", rest / seconds, "of a whole build", 0.6, peer, lower_is_better=True)]


if __name__ == "__main__":
    show(run(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0))
