"""The parts of the soak, each a way to go wrong, with its seeds and counts."""

from __future__ import annotations

import multiprocessing
import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import get_args

from chameleon_data.store.store import Store
from tests.soak import cleaning, crash, kills, network, races, rot, version_model
from tests.soak.alone import proved, small_recipe
from tests.support import fuzz, hostile

SEED = int(os.environ.get("SOAK_SEED", "1")) * 10_000
MINUTES = float(os.environ.get("SOAK_MINUTES", "60"))
DRIVERS, WORKERS, NODES = (10, 3), (10, 5), 2
"""Builds, and kills in each; builds that lose a node."""
FLIPS, RUNS, RACES, GAMES = 300, 200, 200, 100
BATCH, AT_ONCE = 5, 4
"""Runs through a failing network of one process, and processes."""
SLICE = 50
"""Seconds that the fuzzer gives a reader at a time."""

Figures = Iterator[Counter[str]]
"""What a part has counted since it last told."""


def crashes(folder: Path) -> Figures:
    """Every operation of a build, struck in every way, in memory and on a disk."""
    for kind in (f"memory://{uuid.uuid4().hex}", str(folder)):
        for how in crash.HOWS:
            if how != "half" or "memory" not in kind:
                struck = crash.crash_at_every_step(folder, lambda name, kind=kind: f"{kind}/{name}", how)
                yield Counter({"operations failed" if how == "fail" else "crashes at a step survived": len(struck)})


def flips(folder: Path) -> Figures:
    """Bits of records and runs, at rest and in flight."""
    root = f"memory://{uuid.uuid4().hex}"
    recipe = small_recipe(folder, f"{root}/clean")
    digest, files, log = rot.clean(recipe)
    steps = range(12, len(log) - 3)
    for seed in range(SEED, SEED + FLIPS):
        lies, refused = rot.flipped_in_flight(rot.elsewhere(recipe, f"{root}/flight-{seed}"), seed, digest, files)
        rot.flipped_at_rest(rot.elsewhere(recipe, f"{root}/rest-{seed}"), seed, steps[seed % len(steps)], digest, files)
        Store(root).remove(path for path in Store(root).list() if not path.startswith("clean/"))
        yield Counter({"reads or files with flipped bits": lies + 1, "builds that refused them": refused})


def nodes(folder: Path) -> Figures:
    """One raylet of two, killed while it works."""
    clean = kills.clean(folder)
    for number in range(NODES):
        kills.lose_a_node(clean, folder / f"node-{number}", SEED + number)
        yield Counter({"nodes lost, the build went on": 1})


def drivers(folder: Path) -> Figures:
    """`chameleon-data build`, by SIGKILL, until it is let end."""
    return _killed(folder, "drivers killed", kills.kill_drivers, *DRIVERS)


def workers(folder: Path) -> Figures:
    """Ray's workers below it, by SIGKILL, while it goes on."""
    return _killed(folder, "workers killed", kills.kill_workers, *WORKERS)


def vitals(folder: Path) -> Figures:
    """Each of Ray's own processes without which there is no Ray."""
    clean = kills.clean(folder)
    for number, vital in enumerate(kills.VITALS):
        kills.kill_a_vital(clean, folder / str(number), vital)
        yield Counter({"Ray's own processes killed": 1})


def _killed(folder: Path, what: str, kill: Callable[..., int], builds: int, each: int) -> Figures:
    clean = kills.clean(folder)
    for number in range(builds):
        yield Counter({what: kill(clean, folder / str(number), SEED + number, each)})


def troubled(_: Path) -> Figures:
    """Seeds of a failing network: half of them builds, half of them writers of one version store."""
    batches = [range(at, at + BATCH) for at in range(SEED, SEED + RUNS, BATCH)]
    with ProcessPoolExecutor(AT_ONCE, multiprocessing.get_context("spawn")) as pool:  # they wait, mostly
        for injected, theirs in pool.map(network.seeds, batches):
            proved.update(theirs)
            counts = Counter({"runs through a failing network": BATCH, "network faults injected": injected.total()})
            yield counts + Counter({f"  {fault}": count for fault, count in injected.most_common()})


def raced(folder: Path) -> Figures:
    """Builds, readers and taggers of one folder."""
    for kind in (f"memory://{uuid.uuid4().hex}", str(folder)):
        recipe = small_recipe(folder, f"{kind}/clean")
        digests, files = races.clean(recipe)
        for seed in range(SEED, SEED + RACES // 2):
            racers = races.race(rot.elsewhere(recipe, f"{kind}/{seed}"), seed, digests, files)
            Store(f"{kind}/{seed}").remove(Store(f"{kind}/{seed}").list())
            yield Counter({"racers": racers, "races run": 1})


def cleaned(folder: Path) -> Figures:
    """gc at every operation of a build that goes on, and a build at every operation of gc."""
    root = f"memory://{uuid.uuid4().hex}"
    recipe = small_recipe(folder, f"{root}/clean")
    digest, files, log = rot.clean(recipe)
    for outer in get_args(cleaning.Outer):
        for killed_at in range(5, len(log), 10):
            at = 1
            while cleaning.clean_beside(rot.elsewhere(recipe, f"{root}/run"), outer, killed_at, at, digest, files):
                Store(f"{root}/run").remove(Store(f"{root}/run").list())
                yield Counter({"runs of gc beside a build": 1})
                at += 1


def modelled(folder: Path) -> Figures:
    """Games of the version store against a dictionary."""
    for store, games in ((Store(f"memory://{uuid.uuid4().hex}/out"), GAMES), (Store(str(folder / "out")), GAMES // 5)):
        version_model.play(store, games, steps=25)
        yield Counter({"games against a dictionary": games})


def hostile_inputs(folder: Path) -> Figures:
    """The table of bad inputs, and of bad recipes; tests/system/test_hostile.py holds each to its promise."""
    import pytest

    assert pytest.main(["-q", "-p", "no:cacheprovider", f"--basetemp={folder / 'pytest'}", "tests/system/test_hostile.py"]) == 0
    yield Counter({"bad inputs tried": len(hostile.cases()), "bad recipes tried": len(hostile.RECIPES)})


def fuzzed(folder: Path) -> Figures:
    """The readers, for SOAK_MINUTES in all, in rounds of a slice each, so that a defect of any shows in the first; what others
    write by hand or by programs of their own has two slices."""
    turns = [*fuzz.TARGETS, "jsonl", "mds_shard", "manifest", "recipe"]
    rounds = max(1, round(MINUTES * 60 / len(turns) / SLICE))
    seconds = max(1, round(MINUTES * 60 / len(turns) / rounds))
    for _ in range(rounds):
        for target in turns:
            yield Counter({"inputs made by the fuzzer": fuzz.run(target, seconds, folder / target), "seconds fuzzed": seconds})


PARTS = {
    part.__name__: part
    for part in (
        crashes, flips, raced, cleaned, modelled, hostile_inputs, nodes, vitals, drivers, workers, troubled, fuzzed,
    )
}  # fmt: skip
