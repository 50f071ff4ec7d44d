"""Parts one after the other, and lanes of them side by side, each lane in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import psutil

from tests.soak.parts import PARTS
from tests.support import fuzz
from tests.support.inline_builds import verified

REPORT_SECONDS, STOP_SECONDS = 30, 40
"""Between two lines of progress; and until a part that was interrupted is killed."""


def run_parts(names: Iterable[str]) -> Counter[str]:
    """The figures of these parts, one after the other in this process."""
    figures = Counter[str]()
    for name in names:
        with tempfile.TemporaryDirectory(dir=fuzz.FOLDER, prefix="soak-") as folder, _report_figures(name) as figures_of_part:
            for more in PARTS[name](Path(folder)):
                figures_of_part.update(more)
        figures.update(figures_of_part)
    return figures + verified


@contextmanager
def _report_figures(name: str) -> Iterator[Counter[str]]:
    """Figures for the body to add to; they are printed as they grow."""
    began, figures, done = time.monotonic(), Counter[str](), threading.Event()

    def report(state: str) -> None:
        listed = ", ".join(f"{count:,} {what}" for what, count in list(figures.items()) if not what.startswith(" "))
        say(f"{time.strftime('%H:%M:%S')} {name}: {time.monotonic() - began:,.0f} s{state} {listed}")

    def keep_reporting() -> None:
        while not done.wait(REPORT_SECONDS):
            report(" ...")

    reporter = threading.Thread(target=keep_reporting)
    reporter.start()
    try:
        yield figures
    finally:
        done.set()
        reporter.join()
    report(", done:")


def run_lanes(lanes: Sequence[Sequence[str]]) -> Counter[str]:
    """Run lanes of parts, each in a process of its own, and add up their figures. The first to fail ends all, as does Ctrl-C."""
    spawn = multiprocessing.get_context("spawn")
    figures = spawn.SimpleQueue()
    running = [spawn.Process(target=_run_lane, args=(names, figures)) for names in lanes]
    try:
        for one in running:
            one.start()
        while left := [one for one in running if one.exitcode is None]:
            wait([one.sentinel for one in left])
            if any(one.exitcode for one in running):
                sys.exit("a part of the soak has failed; what it said is above")
        return sum((figures.get() for _ in running), Counter[str]())
    finally:
        _stop(running)


def _run_lane(names: Sequence[str], figures: Any) -> None:
    os.setpgid(0, 0)  # so that Ctrl-C reaches the parent alone, which passes it on once to this whole group
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "fuzz" in names:
        os.nice(5)  # Ray's processes must start in 30 s; the fuzzer lets an input take as long
    try:
        figures.put(run_parts(names))
    except KeyboardInterrupt:  # the parent says why
        sys.exit(130)


def _stop(running: Sequence[Any]) -> None:
    """Interrupt the lanes that still run, so that they remove their processes and folders; kill what is left after a while."""
    below = [process for one in running if one.is_alive() for process in psutil.Process(one.pid).children(recursive=True)]
    for one in running:
        if one.is_alive():
            with suppress(ProcessLookupError):
                os.killpg(one.pid, signal.SIGINT)
    for one in running:
        if one.pid:
            one.join(STOP_SECONDS)
            one.kill()
    for process in below:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
