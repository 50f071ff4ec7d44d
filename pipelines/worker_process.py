"""The processes of the local engine's workers, and their start before the command knows whether it needs them.

A worker takes .4 s of one core to import what it needs, and the command as long to import itself. So the command starts the
workers first of all (`start_ahead`), and its engine takes those that are there (`start_worker`). This module imports nothing that
takes time.
Why: docs/decisions/103-workers-started-ahead.md.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from socket import socketpair

import chameleon_data
from chameleon_data.pipelines.machine import usable_cpus, usable_memory

WORKER_BYTES = 640 * 2**20
"""Memory that a worker is expected to need; where there is less, fewer are started."""
DRIVER_BYTES = 512 * 2**20
"""Memory that the driver is expected to need."""
SHARE_OF_MEMORY = 0.9
"""How much of the machine's memory the processes may hold together, unless the user says how much."""
WARM_MODULES = ("chameleon_data.corpus.survey", "chameleon_data.shards.spill", "chameleon_data.shards.assemble")
"""What workers import at their start: what a build's passes over the corpus need."""
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "POLARS_MAX_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
LONGEST_REASON = 200


class WorkerProcess:
    """A process that runs `local_worker`, and this end of its connection."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        ours, theirs = socketpair()
        self.environment = dict(environment)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - it stays open as long as the process
        with theirs:
            # -P: a file in the user's folder must not stand for a module
            command = [sys.executable, "-P", "-m", "chameleon_data.pipelines.local_worker", str(theirs.fileno()), *WARM_MODULES]
            self.process = subprocess.Popen(  # noqa: S603 - our own module
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=[theirs.fileno()],
                env=self.environment,
            )
        self.connection = Connection(ours.detach())

    def end(self) -> str:
        """End the process, and return the last line that it wrote, which may say why it died."""
        if self._log.closed:
            return ""
        self.connection.close()
        self.process.kill()
        self.process.wait()
        with self._log:
            self._log.seek(0)
            lines = self._log.read().decode(errors="replace").split("\n")
        return next((line.strip()[:LONGEST_REASON] for line in reversed(lines) if line.strip()), "")


def worker_environment() -> dict[str, str]:
    """The environment of a worker: this process', with one thread, and with this code ahead of what is installed."""
    source = str(Path(chameleon_data.__file__).parent.parent)
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    return {**os.environ, **ONE_THREAD, "PYTHONPATH": path}


def memory_of_all(memory: int | None) -> int:
    """Bytes that all processes may hold together, where the user says `memory` or nothing."""
    return memory or int(usable_memory() * SHARE_OF_MEMORY)


def number_of_workers(memory: int) -> int:
    """One a processor, or as many as have room in so many bytes."""
    return max(1, min(usable_cpus(), (memory - DRIVER_BYTES) // WORKER_BYTES))


_ahead: list[WorkerProcess] = []
"""Processes that were started ahead and that no engine has taken."""


def start_ahead() -> None:
    """Start the workers that an engine without options will want. They end with this process, if not before.

    Where one cannot be started nothing is said: an engine that needs it will say it.
    """
    atexit.register(end_ahead)
    environment = worker_environment()
    with suppress(OSError):
        for _ in range(number_of_workers(memory_of_all(None))):
            _ahead.append(WorkerProcess(environment))


def start_worker(environment: Mapping[str, str]) -> WorkerProcess:
    """A process with this environment: one that was started ahead, or a new one."""
    for process in _ahead:
        if process.environment == environment:
            _ahead.remove(process)
            return process
    return WorkerProcess(environment)


def end_ahead() -> None:
    """End those that no engine has taken."""
    while _ahead:
        _ahead.pop().end()
