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

from tests.soak.alone import proved
from tests.soak.parts import PARTS
from tests.support import fuzz

PULSE, PATIENCE = 30, 40
"""Seconds between lines of progress; and until a part that was interrupted is killed."""


def run(names: Iterable[str]) -> Counter[str]:
    """The figures of these parts, one after the other in this process."""
    figures = Counter[str]()
    for name in names:
        with tempfile.TemporaryDirectory(dir=fuzz.FOLDER, prefix="soak-") as folder, _told(name) as found:
            for more in PARTS[name](Path(folder)):
                found.update(more)
        figures.update(found)
    return figures + proved


@contextmanager
def _told(name: str) -> Iterator[Counter[str]]:
    """Figures that are printed as they grow."""
    began, found, done = time.monotonic(), Counter[str](), threading.Event()

    def tell(last: str) -> None:
        figures = ", ".join(f"{count:,} {what}" for what, count in list(found.items()) if not what.startswith(" "))
        say(f"{time.strftime('%H:%M:%S')} {name}: {time.monotonic() - began:,.0f} s{last} {figures}")

    def watch() -> None:
        while not done.wait(PULSE):
            tell(" ...")

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        done.set()
        watcher.join()
    tell(", done:")


def run_beside(lanes: Sequence[Sequence[str]]) -> Counter[str]:
    """The figures of lanes of parts, each lane in a process of its own. The first one to fail ends all, as does Ctrl-C."""
    spawn = multiprocessing.get_context("spawn")
    figures = spawn.SimpleQueue()
    going = [spawn.Process(target=_lane, args=(names, figures)) for names in lanes]
    try:
        for one in going:
            one.start()
        while left := [one for one in going if one.exitcode is None]:
            wait([one.sentinel for one in left])
            if any(one.exitcode for one in going):
                sys.exit("a part of the soak has failed; what it said is above")
        return sum((figures.get() for _ in going), Counter[str]())
    finally:
        _end(going)


def _lane(names: Sequence[str], figures: Any) -> None:
    os.setpgid(0, 0)  # Ctrl-C reaches the process above alone, which passes it on once to all that are here
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "fuzzed" in names:
        os.nice(5)  # Ray gives up what does not come up in 30 s, the fuzzer an input that takes as long
    try:
        figures.put(run(names))
    except KeyboardInterrupt:  # the process above says why
        sys.exit(130)


def _end(going: Sequence[Any]) -> None:
    """Interrupt what still goes on, which then takes its processes and folders away; kill what is left after a while."""
    below = [process for one in going if one.is_alive() for process in psutil.Process(one.pid).children(recursive=True)]
    for one in going:
        if one.is_alive():
            with suppress(ProcessLookupError):
                os.killpg(one.pid, signal.SIGINT)
    for one in going:
        if one.pid:
            one.join(PATIENCE)
            one.kill()
    for process in below:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
