"""SIGKILL to `chameleon-data build` as people run it, on Ray: to the driver, to workers, to Ray's own processes.

    drivers           killed after some time or some files; the same command then ends in the same digest
    workers           killed one after the other while their driver goes on, and the build ends by itself
    Ray's processes   killed, and the build ends in one message and exit code 2; the same command goes on

The corpus is that of tests/system/test_build.py: three domains, eight shards in two formats.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from chameleon_data.recipe_file import load_recipe
from chameleon_data.store.store import Store
from tests.soak.crash import CleanBuild, build_clean, change_out
from tests.support.corpus import documents, lay_out, write_recipe
from tests.support.inline_builds import verify_versions
from tests.support.paths import ROOT

RAY_DID_NOT_START = "Ray did not start here"
"""What a build says where Ray does not start in 30 s, as on a busy machine; the same command is then tried again."""
TIME_LIMIT = 400.0
"""Seconds after which a build that nobody kills has hung."""


def build_large(folder: Path) -> CleanBuild:
    """Write the corpus into `folder` and build it there in this process; the digest does not depend on who works."""
    clean = build_clean(load_recipe(write_recipe(folder / "recipe.yaml", lay_out(folder / "corpus", documents(), ["jsonl"], 2))))
    assert len(clean.files) > 20
    return clean


def write_recipe_for(clean: CleanBuild, folder: Path) -> Path:
    """Write the recipe into a new folder, with its `out` below it."""
    folder.mkdir(parents=True)
    path = folder / "recipe.yaml"
    path.write_text(change_out(clean.recipe, folder / "out").model_dump_json(by_alias=True))
    return path


@contextmanager
def run_driver(recipe: Path, engine: str) -> Iterator[subprocess.Popen[str]]:
    """A build in a process of its own. At the end that process is gone, and so are those below it."""
    command = [
        sys.executable,
        "-m",
        "chameleon_data.jobs.start",
        "build",
        str(recipe),
        "--json",
        "--workers",
        "2",
        "--engine",
        engine,
    ]
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
        _, alive = psutil.wait_procs(list(family.values()), timeout=20)  # they end by themselves
        for one in alive:
            with suppress(psutil.Error):
                one.kill()


def _check_end(process: subprocess.Popen[str], clean: CleanBuild, out: Path, where: object) -> bool:
    """Wait for the driver's end, and check what it made. Returns False where Ray did not start, so that it made nothing."""
    said, complained = process.communicate(timeout=TIME_LIMIT)
    if process.returncode == 2 and RAY_DID_NOT_START in said:
        return False
    assert process.returncode == 0, (where, process.returncode, said[-2000:], complained[-2000:])
    assert said.startswith("{"), (where, said[:1000])  # with --json one document, whatever Ray has to say
    assert json.loads(said)["digest"] == clean.digest, where
    clean.check(str(out), where)
    return True


def kill_drivers(clean: CleanBuild, folder: Path, engine: str, seed: int, kills: int) -> int:
    """Kill the driver so many times, each time at another moment, then let it end. Returns how many were killed."""
    chance, killed = random.Random(seed), 0
    recipe, out = write_recipe_for(clean, folder), folder / "out"
    while True:
        with run_driver(recipe, engine) as process:
            if killed < kills and _wait(process, out, chance):
                process.send_signal(signal.SIGKILL)
                process.wait()
                killed += 1
            elif _check_end(process, clean, out, ("drivers", seed)):  # it was let end, or ended before it was hit
                return killed
        seen = verify_versions(Store(str(out)))
        assert [m.digest for m in seen] in ([], [clean.digest]), ("drivers", seed)


def _wait(process: subprocess.Popen[str], out: Path, chance: random.Random) -> bool:
    """Wait for the moment to strike: some time, or some more files. Whether the process still runs then."""
    before, more = len(list(out.rglob("*"))), chance.randint(1, 30)
    end = time.monotonic() + (chance.uniform(0, 8) if chance.random() < 0.3 else 60)
    while process.poll() is None and time.monotonic() < end and len(list(out.rglob("*"))) < before + more:
        time.sleep(0.005)
    return process.poll() is None


def kill_workers(clean: CleanBuild, folder: Path, engine: str, seed: int, kills: int) -> int:
    """Kill up to so many working processes of one build. Returns how many were killed."""
    chance, killed = random.Random(seed), 0
    recipe, out = write_recipe_for(clean, folder), folder / "out"
    while True:
        with run_driver(recipe, engine) as process:
            while process.poll() is None and killed < kills:
                time.sleep(chance.uniform(0, 0.4))
                busy = _find_workers(process.pid)
                if busy:
                    with suppress(psutil.Error):
                        chance.choice(busy).send_signal(signal.SIGKILL)
                        killed += 1
            if _check_end(process, clean, out, ("workers", seed)):
                return killed


def _find_workers(driver: int) -> list[psutil.Process]:
    """The workers below a driver; of Ray's, those that have a task or an actor. Ray's agents are none."""
    found = []
    with suppress(psutil.Error):
        for one in psutil.Process(driver).children(recursive=True):
            with suppress(psutil.Error, IndexError):
                words = one.cmdline()
                ray = words[0].startswith("ray::") and "IDLE" not in words[0] and "Agent" not in words[0]
                if ray or "chameleon_data.pipelines.local_worker" in words:
                    found.append(one)
    return found
