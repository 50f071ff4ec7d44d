"""`chameleon-data build` as people run it, on Ray, and SIGKILL: to the driver, to workers, to a whole node.

    drivers    killed when it has run for a while or when some more files are there; the same command then ends in the same digest
    workers    killed one after the other while their driver goes on: the build ends by itself
    vitals     a process of Ray's own is killed, without which there is no Ray: one message, exit 2; the same command goes on
    node       one of two raylets is killed while it works (python -m tests.soak.kills node FOLDER SEED, as Ray is one a process)

The corpus is that of tests/system/test_build.py: three domains, eight shards in two formats.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from chameleon_data.recipe import Recipe
from chameleon_data.recipe_file import load_recipe
from chameleon_data.store.store import Store
from tests.soak.alone import CREATED, alone, build, kept, readable
from tests.support.corpus import documents, lay_out, write_recipe
from tests.support.paths import ROOT

BUSY = "Ray did not start here"
"""What a build says on a machine on which Ray does not come up in its 30 s; the same command is then given again."""
LONGEST = 400.0
"""Seconds after which a build that nobody kills has hung."""


@dataclass(frozen=True)
class Clean:
    """A build that nothing happened to."""

    recipe: Recipe
    digest: str
    files: dict[str, int]

    def __post_init__(self) -> None:
        assert len(self.files) > 20


def clean(folder: Path) -> Clean:
    """Lays the corpus out in `folder` and builds it there, without Ray: a digest does not depend on who works."""
    recipe = load_recipe(write_recipe(folder / "recipe.yaml", lay_out(folder / "corpus", documents(), ["jsonl"], 2)))
    with alone():
        digest = build(recipe).digest
    return Clean(recipe, digest, kept(Store(recipe.out)))


def recipe_for(clean: Clean, folder: Path) -> Path:
    """The recipe with `out` in this folder."""
    folder.mkdir(parents=True)
    path = folder / "recipe.yaml"
    path.write_text(clean.recipe.model_copy(update={"out": str(folder / "out")}).model_dump_json(by_alias=True))
    return path


@contextmanager
def driver(recipe: Path) -> Iterator[subprocess.Popen[str]]:
    """A build in a process of its own; its Ray is gone when this ends."""
    command = [sys.executable, "-m", "chameleon_data.jobs.cli", "build", str(recipe), "--json", "--workers", "2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
                               env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True)  # fmt: skip
    family: dict[int, psutil.Process] = {}
    watching = threading.Event()

    def watch() -> None:
        while not watching.wait(0.2):
            with suppress(psutil.Error):
                family.update({p.pid: p for p in psutil.Process(process.pid).children(recursive=True)})

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield process
    finally:
        watching.set()
        watcher.join()
        process.kill()
        process.communicate()
        _, alive = psutil.wait_procs(list(family.values()), timeout=20)  # Ray's own end by themselves
        for one in alive:
            with suppress(psutil.Error):
                one.kill()


def _ended(process: subprocess.Popen[str], clean: Clean, out: Path, where: object) -> bool:
    """The driver ended by itself, and what it should have made is there, and nothing else. False: it never began."""
    said, complained = process.communicate(timeout=LONGEST)
    if process.returncode == 2 and BUSY in said:
        return False
    assert process.returncode == 0, (where, process.returncode, said[-2000:], complained[-2000:])
    assert said.startswith("{"), (where, said[:1000])  # with --json one document, whatever Ray has to say
    assert json.loads(said)["digest"] == clean.digest, where
    store = Store(str(out))
    assert [m.digest for m in readable(store)] == [clean.digest], where
    assert kept(store) == clean.files, where
    return True


def kill_drivers(clean: Clean, folder: Path, seed: int, kills: int) -> int:
    """Kill the driver so many times, each time further on or not, then let it end. Returns how many were killed."""
    chance, killed = random.Random(seed), 0
    recipe, out = recipe_for(clean, folder), folder / "out"
    while True:
        with driver(recipe) as process:
            if killed < kills and _wait(process, out, chance):
                process.send_signal(signal.SIGKILL)
                process.wait()
                killed += 1
            elif _ended(process, clean, out, ("drivers", seed)):  # it was let end, or did before it was struck
                return killed
        seen = readable(Store(str(out)))
        assert [m.digest for m in seen] in ([], [clean.digest]), ("drivers", seed)


def _wait(process: subprocess.Popen[str], out: Path, chance: random.Random) -> bool:
    """Wait for the moment to strike: some time, or some more files. Whether the process still runs then."""
    before, more = len(list(out.rglob("*"))), chance.randint(1, 30)
    end = time.monotonic() + (chance.uniform(0, 8) if chance.random() < 0.3 else 60)
    while process.poll() is None and time.monotonic() < end and len(list(out.rglob("*"))) < before + more:
        time.sleep(0.005)
    return process.poll() is None


def kill_workers(clean: Clean, folder: Path, seed: int, kills: int) -> int:
    """Kill up to so many working processes of one build. Returns how many were killed."""
    chance, killed = random.Random(seed), 0
    recipe, out = recipe_for(clean, folder), folder / "out"
    while True:
        with driver(recipe) as process:
            while process.poll() is None and killed < kills:
                time.sleep(chance.uniform(0, 0.4))
                busy = _workers(process.pid)
                if busy:
                    with suppress(psutil.Error):
                        chance.choice(busy).send_signal(signal.SIGKILL)
                        killed += 1
            if _ended(process, clean, out, ("workers", seed)):
                return killed


def _workers(driver: int) -> list[psutil.Process]:
    """Ray's worker processes below a driver that have a task or an actor; its agents, without which a node dies, are none."""
    found = []
    with suppress(psutil.Error):
        for one in psutil.Process(driver).children(recursive=True):
            with suppress(psutil.Error, IndexError):
                title = one.cmdline()[0]
                if title.startswith("ray::") and "IDLE" not in title and "Agent" not in title:
                    found.append(one)
    return found


VITALS = ("raylet/raylet", "gcs/gcs_server", "ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""How the command lines begin, or their first words end, of the processes without which Ray on one machine is dead."""


def kill_a_vital(clean: Clean, folder: Path, vital: str) -> None:
    """Kill one of VITALS in the middle of a build, then let the same command end."""
    recipe, out = recipe_for(clean, folder), folder / "out"
    with driver(recipe) as process:
        while process.poll() is None and len(list(out.rglob("*"))) < 25:
            time.sleep(0.005)
        below = psutil.Process(process.pid).children(recursive=True)
        (found,) = (one for one in below if one.cmdline() and one.cmdline()[0].endswith(vital))
        found.kill()
        said, complained = process.communicate(timeout=LONGEST)
    assert process.returncode == 2, (vital, process.returncode, said, complained[-2000:])
    assert "died here, so the build cannot go on; the same command goes on" in json.loads(said)["error"], (vital, said)
    for _ in range(3):
        with driver(recipe) as process:
            if _ended(process, clean, out, vital):
                return
    raise AssertionError(f"{vital}: Ray did not start")


def lose_a_node(clean: Clean, folder: Path, seed: int) -> None:
    """In a process of its own: two raylets, of which one is killed while the build runs."""
    recipe = recipe_for(clean, folder)
    command = [sys.executable, "-m", "tests.soak.kills", "node", str(recipe), str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
                          env={**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "token",
                               "RAY_AUTH_TOKEN": secrets.token_hex(32)}) as process:  # fmt: skip
        said, complained = process.communicate(timeout=LONGEST)
    assert process.returncode == 0, (seed, complained[-3000:])
    assert said.split()[-2:] == ["lost", clean.digest], (seed, said[-300:])
    store = Store(str(folder / "out"))
    assert [m.digest for m in readable(store)] == [clean.digest], seed
    assert kept(store) == clean.files, seed


def _build_on_two_nodes(recipe: Recipe, seed: int) -> str:
    """Whether the node was lost before the end, and the digest."""
    import ray
    from ray.cluster_utils import Cluster

    from chameleon_data.pipelines.build import build_recipe

    chance, out = random.Random(seed), Path(recipe.out)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = cluster.add_node(num_cpus=2)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    lost: list[bool] = []
    done = threading.Event()
    more = chance.randint(1, 30)

    def kill() -> None:
        while len(list(out.rglob("*"))) < more and not done.wait(0.005):
            pass
        lost.append(not done.is_set())
        cluster.remove_node(second, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        digest = build_recipe(recipe, lambda *_: None, CREATED).manifest.digest
    finally:
        done.set()
        killer.join()
        ray.shutdown()
        cluster.shutdown()
    return f"{'lost' if lost[0] else 'late'} {digest}"


if __name__ == "__main__":
    sys.stdout.write(_build_on_two_nodes(load_recipe(Path(sys.argv[2])), int(sys.argv[3])) + "\n")
