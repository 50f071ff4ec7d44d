"""Run a command to its end and print what it took, with all processes that it started, as one line of JSON.

    python -m tests.support.whole_process LOG COMMAND…

It is a process of its own, so that its children are those of the command alone. It adopts whatever the command leaves behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
"""prctl: orphans below this process become its children, so that their time is counted."""
INTERVAL = 0.25
"""Seconds between two looks at the processes, or nine times what a look takes, which is long for large ones."""
LARGEST_SHARE = 0.9
"""Share of the machine's memory above which the command is killed, before the kernel kills something else."""
PATIENCE = 30.0
"""Seconds that processes have to end by themselves once the command has ended."""
TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Run:
    """What one run of a command took."""

    seconds: float
    """From the start of the command's process to its end."""
    core_seconds: float
    """User and system time of all its processes."""
    memory: float
    """Bytes: the largest sum, over all processes of a moment, of what each holds alone and its share of what they hold together
    (PSS)."""
    load: float
    """Cores that other processes of the machine kept busy meanwhile, on average."""
    failure: str
    """The last line it wrote, where it failed; else empty."""


def measure(log: Path, *command: str, cwd: Path | None = None) -> Run:
    """Run a command in a measuring process. `log` gets what the command writes."""
    measuring = [sys.executable, "-m", "tests.support.whole_process", str(log), *command]
    return Run(**json.loads(subprocess.run(measuring, check=True, stdout=subprocess.PIPE, cwd=cwd).stdout))


def _run(log: Path, command: list[str]) -> Run:
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    limit = LARGEST_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    times: dict[tuple[int, str], float] = {}
    most, failure, busy = 0.0, "", _busy()
    with log.open("w") as file:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=file, stderr=file)
        ended = False
        while not ended:
            looked = time.perf_counter()
            held = _look(times)
            most = max(most, held)
            if held > limit:
                failure = f"killed at {held / 1e9:.1f} GB, more than {LARGEST_SHARE:.0%} of the machine's memory"
                _kill_all()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(INTERVAL, 9 * (time.perf_counter() - looked)))
                ended = True
        seconds = time.perf_counter() - start
    _end_rest(times)
    elapsed, own = time.perf_counter() - start, _core_seconds(resource.RUSAGE_SELF)
    # The times of a process whose parent does not wait for it are in no parent's sum; those that were seen are here.
    core_seconds = max(_core_seconds(resource.RUSAGE_CHILDREN), sum(times.values()))
    if process.returncode and not failure:
        lines = log.read_text(errors="replace").strip().splitlines()
        failure = lines[-1] if lines else f"exit status {process.returncode}"
    return Run(seconds, core_seconds, most, max(0.0, (_busy() - busy - core_seconds - own) / elapsed), failure)


def _core_seconds(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def _end_rest(times: dict[tuple[int, str], float]) -> None:
    """Wait for what the command left behind; kill what does not end."""
    until = time.perf_counter() + PATIENCE
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            return
        _look(times)
        if time.perf_counter() > until:
            _kill_all()
        time.sleep(0.05)


def _kill_all() -> None:
    for pid in _descendants():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _look(times: dict[tuple[int, str], float]) -> float:
    """Sum of the memory of all processes below this one, in bytes. Keeps the time that each has used."""
    total = 0.0
    for pid, fields in _descendants().items():
        times[pid, fields[19]] = (int(fields[11]) + int(fields[12])) / TICK
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
        except (OSError, StopIteration):  # ended meanwhile
            continue
    return total


def _descendants() -> dict[int, list[str]]:
    """Process id -> its fields in /proc/…/stat behind the name: state, parent, …; 11 and 12 are times, 19 is its start."""
    children: dict[int, list[int]] = {}
    fields: dict[int, list[str]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            pid, stat = int(folder.name), (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # ended meanwhile
            continue
        fields[pid] = stat
        children.setdefault(int(stat[1]), []).append(pid)
    found, waiting = {}, [os.getpid()]
    while waiting:
        for pid in children.get(waiting.pop(), []):
            found[pid] = fields[pid]
            waiting.append(pid)
    return found


def _busy() -> float:
    """Core-seconds that the machine has spent on anything since it started."""
    user, nice, system, _idle, _waiting, *others = map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9])
    return (user + nice + system + sum(others)) / TICK


if __name__ == "__main__":
    print(json.dumps(asdict(_run(Path(sys.argv[1]), sys.argv[2:]))))  # noqa: T201
