"""Everything that can go wrong, and how often it was borne.

    python -m tests.soak [PART ...]       SOAK_MINUTES: of fuzzing, 60 by default; SOAK_SEED: another one makes another soak

A broken promise ends the soak with the part and the seed. Otherwise the figures are printed, and written as JSON to the file
that SOAK_FIGURES names.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from chameleon_data.errors import InputError
from chameleon_data.storage import Store
from tests import fuzz, hostile
from tests.soak import crash, kills, network, races, rot
from tests.soak.alone import proved, small_recipe

SEED = int(os.environ.get("SOAK_SEED", "1")) * 10_000
MINUTES = float(os.environ.get("SOAK_MINUTES", "60"))
DRIVERS, WORKERS, NODES = (8, 3), (8, 5), 2
"""Builds, and kills in each; builds that lose a node."""
FLIPS, RUNS, RACES = 300, 200, 200
BATCH, AT_ONCE = 10, 4
"""Runs through a failing network of one process, and processes."""


def crashes(folder: Path) -> Counter[str]:
    """Every operation of a build, struck in every way, in memory and on a disk."""
    counts = Counter[str]()
    for kind in (f"memory://{uuid.uuid4().hex}", str(folder)):
        for how in crash.HOWS:
            if how != "half" or "memory" not in kind:
                struck = crash.crash_at_every_step(folder, lambda name, kind=kind: f"{kind}/{name}", how)
                counts["operations failed" if how == "fail" else "crashes at a step survived"] += len(struck)
    return counts


def flips(folder: Path) -> Counter[str]:
    """Bits of records and runs, at rest and in flight."""
    counts, root = Counter[str](), f"memory://{uuid.uuid4().hex}"
    recipe = small_recipe(folder, f"{root}/clean")
    digest, files, log = rot.clean(recipe)
    steps = range(12, len(log) - 3)
    for seed in range(SEED, SEED + FLIPS):
        lies, refused = rot.flipped_in_flight(rot.elsewhere(recipe, f"{root}/flight-{seed}"), seed, digest, files)
        rot.flipped_at_rest(rot.elsewhere(recipe, f"{root}/rest-{seed}"), seed, steps[seed % len(steps)], digest, files)
        counts.update({"reads or files with flipped bits": lies + 1, "builds that refused them": refused})
        Store(root).remove(path for path in Store(root).list() if not path.startswith("clean/"))
    return counts


def nodes(folder: Path) -> Counter[str]:
    """One raylet of two, killed while it works."""
    clean = kills.clean(folder)
    for number in range(NODES):
        kills.lose_a_node(clean, folder / f"node-{number}", SEED + number)
    return Counter({"nodes lost, the build went on": NODES})


def drivers(folder: Path) -> Counter[str]:
    """`chameleon-data build`, by SIGKILL, until it is let end."""
    return _killed(folder, "drivers killed", kills.kill_drivers, *DRIVERS)


def workers(folder: Path) -> Counter[str]:
    """Ray's workers below it, by SIGKILL, while it goes on."""
    return _killed(folder, "workers killed", kills.kill_workers, *WORKERS)


def _killed(folder: Path, what: str, kill: Callable[..., int], builds: int, each: int) -> Counter[str]:
    counts, clean = Counter[str](), kills.clean(folder)
    for number in range(builds):
        counts[what] += kill(clean, folder / str(number), SEED + number, each)
        _say(f"  {counts[what]} {what}")
    return counts


def troubled(_: Path) -> Counter[str]:
    """Seeds of a failing network: half of them builds, half of them writers of one version store."""
    counts, context = Counter[str](), multiprocessing.get_context("spawn")
    batches = [range(at, at + BATCH) for at in range(SEED, SEED + RUNS, BATCH)]
    with ProcessPoolExecutor(AT_ONCE, context) as pool:  # they wait, mostly
        for injected, theirs in pool.map(network.seeds, batches):
            counts["runs through a failing network"] += BATCH
            counts["network faults injected"] += injected.total()
            counts.update({f"  {fault}": count for fault, count in injected.most_common()})
            proved.update(theirs)
            _say(f"  {counts['runs through a failing network']} runs")
    return counts


def raced(folder: Path) -> Counter[str]:
    """Builds, readers and taggers of one folder."""
    counts = Counter[str]()
    for kind in (f"memory://{uuid.uuid4().hex}", str(folder)):
        recipe = small_recipe(folder, f"{kind}/clean")
        digests, files = races.clean(recipe)
        for seed in range(SEED, SEED + RACES // 2):
            counts["racers"] += races.race(rot.elsewhere(recipe, f"{kind}/{seed}"), seed, digests, files)
            counts["races run"] += 1
            Store(f"{kind}/{seed}").remove(Store(f"{kind}/{seed}").list())
    return counts


def hostile_inputs(folder: Path) -> Counter[str]:
    """The table of bad inputs, and of bad recipes; tests/test_hostile.py holds each to its promise."""
    import pytest

    assert pytest.main(["-q", "-p", "no:cacheprovider", f"--basetemp={folder / 'pytest'}", "tests/test_hostile.py"]) == 0
    return Counter({"bad inputs tried": len(hostile.cases()), "bad recipes tried": len(hostile.RECIPES)})


def fuzzed(_: Path) -> Counter[str]:
    """The readers, for SOAK_MINUTES in all."""
    counts = Counter[str]()
    for target in fuzz.TARGETS:
        started = time.monotonic()
        counts["inputs made by the fuzzer"] += fuzz.run(target, max(1, round(MINUTES * 60 / len(fuzz.TARGETS))))
        counts["seconds fuzzed"] += round(time.monotonic() - started)
    return counts


PARTS = {part.__name__: part for part in (crashes, flips, raced, hostile_inputs, nodes, drivers, workers, troubled, fuzzed)}


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(names: list[str]) -> None:
    figures = Counter[str]()
    for name in names or PARTS:
        started = time.monotonic()
        _say(f"{name} ...")
        with tempfile.TemporaryDirectory(dir=fuzz.FOLDER, prefix="soak-") as folder:
            figures.update(PARTS[name](Path(folder)))
        _say(f"{name}: {time.monotonic() - started:,.0f} s")
    figures.update({**proved, "documents lost": 0})  # whatever is lost, changed or twice there has ended the soak
    for what, count in figures.items():
        _say(f"{what:<36}{count:>12,}")
    if "SOAK_FIGURES" in os.environ:
        Path(os.environ["SOAK_FIGURES"]).write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except InputError as refusal:
        sys.exit(f"a refusal where none was promised: {refusal}")
