"""Builds of one recipe that are started at once, as processes, as people and schedulers do by mistake.

All end well with the same digest, and there is one version. Ten of them took 143 s on 2 cores that many others used.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from chameleon_data.store.store import Store
from chameleon_data.versions.versions import list_versions
from tests.soak.crash import CleanBuild
from tests.soak.kills import TIME_LIMIT, write_recipe_for
from tests.support.paths import ROOT

START = "from chameleon_data.jobs.start import start_command; start_command()"


def start_at_once(clean: CleanBuild, folder: Path, builds: int, engine: str = "local") -> int:
    """Start so many builds of one recipe in a new folder, and wait for all. Returns how many there were."""
    options = ["--json", "--workers", "1", "--engine", engine]
    command = [sys.executable, "-c", START, "build", str(write_recipe_for(clean, folder)), *options]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=env)
        for _ in range(builds)
    ]
    try:
        ends = [(process, *process.communicate(timeout=TIME_LIMIT)) for process in started]
    finally:
        for process in started:
            process.kill()
    for process, answer, said in ends:
        assert process.returncode == 0, (process.returncode, answer[-2000:], said[-2000:])
        document = json.loads(answer)
        assert (document["version"], document["digest"]) == ("v1", clean.digest)
        assert "Traceback" not in said
    assert sum(json.loads(answer)["new"] for _, answer, _ in ends) == 1
    assert [version.number for version in list_versions(Store(str(folder / "out")))] == [1]
    clean.check(str(folder / "out"), "builds at once")
    return builds
