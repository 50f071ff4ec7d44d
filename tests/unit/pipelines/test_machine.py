"""What a machine, or the control group of a process, lets it use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chameleon_data.pipelines import machine


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A group `job` in a group `pod`, in which this process is."""
    (tmp_path / "pod/job").mkdir(parents=True)
    read = Path.read_text

    def read_text(path: Path, *how: Any, **named: Any) -> str:
        return "0::/pod/job\n" if path == Path("/proc/self/cgroup") else read(path, *how, **named)

    monkeypatch.setattr(machine, "CONTROL_GROUPS", tmp_path)
    monkeypatch.setattr(Path, "read_text", read_text)
    return tmp_path


def test_the_smallest_memory_of_all_groups_counts(groups: Path) -> None:
    whole = machine.usable_memory()
    assert whole == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    (groups / "pod/job/memory.max").write_text("max\n")
    assert machine.usable_memory() == whole
    (groups / "pod/memory.max").write_text("3000000000\n")
    assert machine.usable_memory() == 3_000_000_000
    (groups / "pod/job/memory.max").write_text("2000000000\n")
    assert machine.usable_memory() == 2_000_000_000
    (groups / "memory").mkdir()
    (groups / "memory/memory.limit_in_bytes").write_text("1000000000\n")
    assert machine.usable_memory() == 1_000_000_000


def test_a_quota_of_processor_time_counts_rounded_up(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert machine.usable_cpus() == 64
    (groups / "pod/job/cpu.max").write_text("max 100000\n")
    assert machine.usable_cpus() == 64
    (groups / "pod/cpu.max").write_text("350000 100000\n")
    assert machine.usable_cpus() == 4
    (groups / "pod/job/cpu.max").write_text("20000 100000\n")
    assert machine.usable_cpus() == 1


@pytest.mark.parametrize(
    ("said", "devices"), [("", []), ("-1", []), ("0", ["0"]), ("1,3", ["1", "3"]), ("GPU-8f,MIG-2", ["GPU-8f", "MIG-2"])]
)
def test_gpus_are_those_that_cuda_may_see(monkeypatch: pytest.MonkeyPatch, said: str, devices: list[str]) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", said)
    assert machine.usable_gpus() == devices


def test_private_memory_counts_what_is_written_and_no_file_that_is_mapped(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(200 * 2**20))
    before = machine.private_memory(os.getpid())
    mapped = np.memmap(tmp_path / "file", np.uint8, "r")
    assert mapped.sum() == 0
    assert machine.private_memory(os.getpid()) - before < 50 * 2**20
    held = np.ones(200 * 2**20, np.uint8)
    assert machine.private_memory(os.getpid()) - before > 150 * 2**20
    assert held[0] == 1
    assert machine.private_memory(2**22 + 1) == 0
