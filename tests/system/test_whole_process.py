"""What the bench measures of a command: all its processes, those that it leaves behind included."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.whole_process import measure

pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory is read from /proc")

BURN = "import time\nwhile time.process_time() < 0.5: pass"
HOLD = "import time\nheld = b'x' * 100_000_000\ntime.sleep(2)"


def start(code: str, times: int) -> str:
    """A program that starts another one some times, and ends without waiting for it."""
    one = f"subprocess.Popen([sys.executable, '-c', {code!r}], start_new_session=True)"
    return f"import subprocess, sys\nfor _ in range({times}): {one}"


def python(tmp_path: Path, code: str):
    return measure(tmp_path / "log", sys.executable, "-c", code, cwd=ROOT)


def test_the_time_of_processes_that_outlive_the_command_is_counted(tmp_path: Path) -> None:
    run = python(tmp_path, start(BURN, 2))
    assert run.core_seconds >= 1.0
    assert run.failure == ""


def test_memory_is_the_sum_of_all_processes(tmp_path: Path) -> None:
    run = python(tmp_path, start(HOLD, 2) + "\nimport time\ntime.sleep(2)")
    assert 200e6 < run.memory < 400e6


def test_a_command_that_fails_says_its_last_line(tmp_path: Path) -> None:
    assert python(tmp_path, "print('before')\nraise SystemExit('no more memory')").failure == "no more memory"
    assert python(tmp_path, "raise SystemExit(3)").failure == "exit status 3"
