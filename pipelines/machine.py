"""What this machine lets this process use: processors and memory, of the machine or of its control group; and GPUs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
CONTROL_GROUPS = Path("/sys/fs/cgroup")
NO_DEVICES = ("", "-1", "NoDevFiles")
"""What CUDA_VISIBLE_DEVICES says where no GPU is to be used."""


def usable_cpus() -> int:
    """Processors that this process may use; a quota of its control group counts, rounded up."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for quota in _limits("cpu.max"):
        time, _, period = quota.partition(" ")
        if time.isdecimal() and period.isdecimal():
            allowed = min(allowed, -(-int(time) // int(period)))
    return max(1, allowed)


def usable_memory() -> int:
    """Bytes that this machine has, or that the control group of this process is allowed."""
    allowed = os.sysconf("SC_PHYS_PAGES") * PAGE_BYTES
    for limit in (*_limits("memory.max"), *_limits("memory/memory.limit_in_bytes")):
        if limit.isdecimal():
            allowed = min(allowed, int(limit))
    return allowed


def usable_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES must say for each GPU that this process may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [] if visible in NO_DEVICES else visible.split(",")
    return [file.name.removeprefix("nvidia") for file in sorted(Path("/dev").glob("nvidia[0-9]*"))]


def private_memory(process: int) -> int:
    """Bytes that a process holds and that are no copy of a file; 0 where it has ended, or where no one says."""
    with suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{process}/statm").read_text().split()
        return (int(fields[1]) - int(fields[2])) * PAGE_BYTES
    return 0


def _limits(name: str) -> Iterator[str]:
    """What the control group of this process says under a name, and the groups around it."""
    inside = Path("/")
    with suppress(OSError):
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        inside = next((Path(line.partition("::")[2]) for line in lines if line.startswith("0::")), inside)
    for group in (inside, *inside.parents):
        with suppress(OSError):
            yield (CONTROL_GROUPS / group.relative_to("/") / name).read_text().strip()
