"""The parts of the soak: each is one way to go wrong, with its seeds and counts."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import get_args

from chameleon_data.store.store import Store
from tests.soak import cleaning, crash, kills, network, nodes, races, rot, starts, version_model
from tests.support import fuzz, hostile
from tests.support.inline_builds import verified, write_small_recipe

SEED = int(os.environ.get("SOAK_SEED", "1")) * 10_000
MINUTES = float(os.environ.get("SOAK_MINUTES", "60"))
"""Minutes of fuzzing."""
DRIVERS, WORKERS = (10, 3), (10, 2)
"""Builds, and kills in each."""
FLIPS, RUNS, RACES, GAMES, STARTS = 300, 200, 200, 100, 10
BATCH, AT_ONCE = 5, 4
"""Runs through a failing network in one process, and processes at once."""
SLICE = 50
"""Seconds that the fuzzer gives a reader at a time."""

Figures = Iterator[Counter[str]]
"""What a part has counted since it last reported."""


def crash_builds(folder: Path) -> Figures:
    """Every operation of a build is hit in every way, in memory and on a disk."""
    for place in (f"memory://{uuid.uuid4().hex}", str(folder)):
        for kind in crash.FAULT_KINDS:
            if kind != "half" or "memory" not in place:
                hits = crash.crash_at_every_step(folder, lambda name, place=place: f"{place}/{name}", kind)
                yield Counter({"operations failed" if kind == "fail" else "crashes at a step survived": len(hits)})


def flip_bits(folder: Path) -> Figures:
    """Bits of records and runs are flipped, at rest and in flight."""
    root = f"memory://{uuid.uuid4().hex}"
    clean = crash.build_clean(write_small_recipe(folder, f"{root}/clean"))
    steps = range(12, len(clean.operations) - 3)
    for seed in range(SEED, SEED + FLIPS):
        damaged, refused = rot.flip_in_flight(clean, f"{root}/flight-{seed}", seed)
        rot.flip_at_rest(clean, f"{root}/rest-{seed}", seed, steps[seed % len(steps)])
        Store(root).remove(path for path in Store(root).list() if not path.startswith("clean/"))
        yield Counter({"reads or files with flipped bits": damaged + 1, "builds that refused them": refused})


def race_builds(folder: Path) -> Figures:
    """Builds, readers and taggers of one folder."""
    for place in (f"memory://{uuid.uuid4().hex}", str(folder)):
        recipe = write_small_recipe(folder, f"{place}/clean")
        digests, files = races.build_in_turn(recipe)
        for seed in range(SEED, SEED + RACES // 2):
            racers = races.race(crash.change_out(recipe, f"{place}/{seed}"), seed, digests, files)
            Store(f"{place}/{seed}").remove(Store(f"{place}/{seed}").list())
            yield Counter({"racers": racers, "races run": 1})


def start_builds(folder: Path) -> Figures:
    """Ten processes that build one recipe are started at once, and two, each of which starts a Ray."""
    clean = crash.build_clean(write_small_recipe(folder, f"{folder}/clean"))
    for number, (engine, builds) in enumerate((("local", STARTS), ("local", STARTS), ("ray", 2))):
        started = starts.start_at_once(clean, folder / f"at-once-{number}", builds, engine)
        yield Counter({f"builds started at once, {engine}": started})


def clean_beside_builds(folder: Path) -> Figures:
    """gc at every operation of a build that goes on, and a build at every operation of gc."""
    root = f"memory://{uuid.uuid4().hex}"
    clean = crash.build_clean(write_small_recipe(folder, f"{root}/clean"))
    for outer in get_args(cleaning.Outer):
        for killed_at in range(5, len(clean.operations), 10):
            at = 1
            while cleaning.clean_beside(clean, f"{root}/run", outer, killed_at, at):
                Store(f"{root}/run").remove(Store(f"{root}/run").list())
                yield Counter({"runs of gc beside a build": 1})
                at += 1


def play_versions(folder: Path) -> Figures:
    """Games of the version store against a dictionary."""
    for store, games in ((Store(f"memory://{uuid.uuid4().hex}/out"), GAMES), (Store(str(folder / "out")), -(-GAMES // 5))):
        version_model.play(store, games, steps=25)
        yield Counter({"games against a dictionary": games})


def try_hostile_inputs(folder: Path) -> Figures:
    """The table of bad inputs, and that of bad recipes. tests/system/test_hostile.py checks what is promised of each."""
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={folder / 'pytest'}", "tests/system/test_hostile.py"]
    subprocess.run([sys.executable, *command], check=True)  # pytest wants to be there before hypothesis, which other parts use
    yield Counter({"bad inputs tried": len(hostile.cases()), "bad recipes tried": len(hostile.RECIPES)})


def move_nodes(folder: Path) -> Figures:
    """The demo on a cluster whose nodes are lost, join, differ, or lose their driver; it ends in the digest of the README."""
    wanted = nodes.readme_digest()
    for scenario, words in (
        ("whole", []),
        ("lose", nodes.PASSES),
        ("add", nodes.PASSES),
        ("differ", ["refused"]),
        ("driver", []),
    ):
        said = nodes.run_scenario(nodes.write_demo(folder / scenario), scenario)
        assert said == [*words, wanted], (scenario, said)
        yield Counter({"nodes lost, added or refused, the digest is the README's": len(words), "clusters of nodes": 1})


def kill_drivers(folder: Path) -> Figures:
    """`chameleon-data build` is killed until it is let end."""
    return _kill(folder, "drivers killed", kills.kill_drivers, *DRIVERS)


def kill_workers(folder: Path) -> Figures:
    """Workers are killed while their driver goes on."""
    return _kill(folder, "workers killed", kills.kill_workers, *WORKERS)


def _kill(folder: Path, what: str, kill: Callable[..., int], builds: int, each: int) -> Figures:
    clean = kills.build_large(folder)
    for number in range(builds):
        engine = ("local", "ray")[number % 2]
        yield Counter({f"{what}, {engine}": kill(clean, folder / str(number), engine, SEED + number, each)})


def fail_network(_: Path) -> Figures:
    """Builds and commits through a failing network."""
    batches = [range(at, at + BATCH) for at in range(SEED, SEED + RUNS, BATCH)]
    with ProcessPoolExecutor(AT_ONCE, multiprocessing.get_context("spawn")) as pool:  # mostly they wait
        for injected, their_verified in pool.map(network.run_seeds, batches):
            verified.update(their_verified)
            counts = Counter({"runs through a failing network": BATCH, "network faults injected": injected.total()})
            yield counts + Counter({f"  {fault}": count for fault, count in injected.most_common()})


def fuzz_readers(folder: Path) -> Figures:
    """The fuzzer, in rounds of a slice for each reader, so that a defect of any shows in the first round. What others write by
    hand or by programs of their own has two slices."""
    turns = [*fuzz.TARGETS, "jsonl", "mds_shard", "manifest", "recipe"]
    rounds = max(1, round(MINUTES * 60 / len(turns) / SLICE))
    seconds = max(1, round(MINUTES * 60 / len(turns) / rounds))
    for _ in range(rounds):
        for target in turns:
            yield Counter({"inputs made by the fuzzer": fuzz.run(target, seconds, folder / target), "seconds fuzzed": seconds})


PARTS: dict[str, Callable[[Path], Figures]] = {
    "crash": crash_builds, "flip": flip_bits, "race": race_builds, "starts": start_builds, "gc": clean_beside_builds,
    "versions": play_versions,
    "hostile": try_hostile_inputs, "nodes": move_nodes, "drivers": kill_drivers,
    "workers": kill_workers, "network": fail_network, "fuzz": fuzz_readers,
}  # fmt: skip
