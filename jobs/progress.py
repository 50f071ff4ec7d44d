"""Progress on stderr: bars in a terminal, lines elsewhere, and with `--progress json` one JSON object a line.

Passes tell how far they are (`engine.Progress`). Here it is said in units that a person knows, with a rate and the time left.
What takes longer than two seconds is named, and what stands still is told.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import inf, isfinite
from typing import Any, Protocol

from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from chameleon_data.jobs.screen import SILENT_SECONDS, err, knows_unicode

PASSES = {
    "survey": ("survey the corpus", "bytes"),
    "sort": ("sort the records of rows", "groups"),
    "copies": ("find copies", "ranges"),
    "ranges": ("choose the documents", "ranges"),
    "cut": ("find the bounds of ranges", "ranges"),
    "divide": ("divide large ranges", "ranges"),
    "exchange": ("sort further", "ranges"),
    "embed": ("embed the samples", "documents"),
    "assign": ("embed the texts and assign them to domains", "bytes"),
    "read": ("read and sort", "bytes"),
    "write": ("write shards", "bytes"),
    "tables": ("add up the shards", "groups"),
    "make": ("make the shards again", "shards"),
    "verify": ("verify", "bytes"),
    "push": ("push", "shards"),
    "compare": ("compare documents", "shards"),
    "remove": ("remove files", "files"),
    "branch": ("train what all share", "checkpoints"),
    "judge": ("train and judge", "trials"),
}
"""Name of a pass, as the passes report it -> what a person reads, and what is counted."""
WORKS = {
    "list": "looking at the files",
    "pool": "reading the pool",
    "count": "counting n-grams",
    "select": "choosing the documents",
    "model": "looking at the model",
    "cluster": "finding clusters",
    "weigh": "computing the weights",
    "plan": "planning the shards",
    "commit": "committing the version",
}
"""The same for work that is not counted."""
BEFORE_THE_FIRST = {"embed": "loading the model", "assign": "loading the model"}
"""Name of a pass -> what is done before the first of what it counts."""
LINE_SECONDS, JSON_SECONDS, STALL_SECONDS = 10.0, 1.0, 30.0
"""Time between two lines for a person and for a program; and without progress, until that is told."""
WATCH_SECONDS = 0.25
WIDE_ENOUGH = 100
"""Characters of a terminal in which bars have room."""


@dataclass(frozen=True)
class Standing:
    """How far a pass is, or for how long other work has been done."""

    name: str
    started: float
    """Seconds on the clock of `time.monotonic`, as all times here."""
    moved: float
    """When something was finished last."""
    first: int = 0
    """What was done before it started."""
    done: int = 0
    total: int = 0
    """0: it is not counted."""

    @property
    def ended(self) -> bool:
        return 0 < self.total <= self.done

    def move(self, now: float, done: int, total: int) -> Standing:
        return replace(self, moved=now, done=done, total=total) if (done, total) != (self.done, self.total) else self

    def rate(self, now: float) -> float | None:
        """What is done in a second, by this run."""
        seconds = (self.moved if self.ended else now) - self.started
        return (self.done - self.first) / seconds if self.done > self.first and seconds > 0 else None

    def describe(self, now: float) -> dict[str, Any]:
        """The standing as plain JSON."""
        plain: dict[str, Any] = {"pass": self.name, "title": self.title, "seconds": round(now - self.started, 1)}
        if self.name in PASSES:
            rate = self.rate(now)
            plain |= {
                "unit": PASSES[self.name][1],
                "done": self.done,
                "total": self.total,
                "rate": rate and round(rate, 3),
                "seconds_left": rate and round((self.total - self.done) / rate, 1),
                "seconds_still": round(now - self.moved, 1),
            }
        return plain

    @property
    def title(self) -> str:
        return WORKS[self.name] if self.name in WORKS else PASSES[self.name][0]

    def place(self) -> str:
        """Title, and how much of it is done."""
        return f"'{self.title}'" + ("" if self.name in WORKS else f" ({self.amount()})")

    def amount(self) -> str:
        unit = PASSES[self.name][1]
        whole = format_amount(self.total, unit)
        return whole if self.done == self.total else f"{format_amount(self.done, unit, self.total).split()[0]} of {whole}"

    def say(self, now: float) -> str:
        """What a person reads of a pass, but for its title."""
        rate, still, unit = self.rate(now), now - self.moved, PASSES[self.name][1]
        if self.ended and self.first == self.done:
            return f"{self.amount()}, done before"
        facts = [self.amount()]
        if self.ended:
            facts[0] += f" in {format_seconds(self.moved - self.started)}"
        if rate:
            facts.append(f"{format_amount(rate, unit)}/s")
        if rate and not self.ended:
            facts.append(f"{format_seconds((self.total - self.done) / rate)} left")
        if self.done == self.first and self.name in BEFORE_THE_FIRST and still >= SILENT_SECONDS:
            facts.append(BEFORE_THE_FIRST[self.name])
        if not self.ended and still > STALL_SECONDS:
            facts.append(f"nothing finished for {format_seconds(still)}")
        return ", ".join(facts)


class Display(Protocol):
    """Where standings are shown."""

    def show(self, standing: Standing, now: float) -> None:
        """Called when a standing changes, and some times a second."""

    def note(self, sentence: str) -> None:
        """Say something that happened."""


class PassProgress:
    """What passes call, see `engine.Progress`; total 0 means that work has begun which is not counted."""

    def __init__(self, display: Display) -> None:
        self._display, self._lock = display, threading.RLock()
        self.standing: Standing | None = None

    def __call__(self, name: str, done: int, total: int) -> None:
        now = time.monotonic()
        with self._lock:
            if self.standing is None or self.standing.name != name or done < self.standing.done:
                self.standing = Standing(name, now, now, first=done, done=done, total=total)
            else:
                self.standing = self.standing.move(now, done, total)
            self._display.show(self.standing, now)

    def note(self, sentence: str) -> None:
        with self._lock:
            self._display.note(sentence)

    def look(self) -> None:
        """Show how far it is though nothing was finished."""
        with self._lock:
            if self.standing and not self.standing.ended:
                self._display.show(self.standing, time.monotonic())


class Lines:
    """A line at the start of a pass, at its end, and now and then; within it never the same one twice on end."""

    def __init__(self, seconds: float, write: Callable[[Standing, float], str], write_note: Callable[[str], str]) -> None:
        """`seconds` lie between two lines; `write` makes one of a standing and the time, `write_note` of a sentence."""
        self._seconds, self._write, self._write_note = seconds, write, write_note
        self._started: float | None = None
        self._due = 0.0
        """When the next line is to be printed."""
        self._last = ""

    def show(self, standing: Standing, now: float) -> None:
        counted = standing.name in PASSES
        if self._started != standing.started:
            self._started, self._last = standing.started, ""
            self._due = now if counted else now + SILENT_SECONDS
        if now < self._due and not (standing.ended and isfinite(self._due)):
            return
        if (line := self._write(standing, now)) != self._last:
            err.print(line, soft_wrap=True)
            self._last = line
        if standing.ended or not counted:
            self._due = inf
        elif now == standing.started and standing.name in BEFORE_THE_FIRST:
            self._due = now + SILENT_SECONDS
        else:
            self._due = now + self._seconds

    def note(self, sentence: str) -> None:
        err.print(self._write_note(sentence), soft_wrap=True)


def lines_for_people() -> Lines:
    def write(standing: Standing, now: float) -> str:
        return f"{standing.title} …" if standing.name in WORKS else f"{standing.title}: {standing.say(now)}"

    return Lines(LINE_SECONDS, write, str)


def lines_for_programs() -> Lines:
    return Lines(JSON_SECONDS, lambda standing, now: json.dumps(standing.describe(now)), lambda note: json.dumps({"note": note}))


class Drawing:
    """A line of a terminal for each pass, drawn anew."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._rows: dict[str, TaskID] = {}

    def show(self, standing: Standing, now: float) -> None:
        uncounted = standing.name in WORKS
        for name, row in self._rows.items():
            if name in WORKS and name != standing.name:
                self._bars.update(row, visible=False)
        if uncounted and now - standing.started < SILENT_SECONDS:
            return
        if standing.name not in self._rows:
            self._rows[standing.name] = self._bars.add_task(standing.title, total=None, said="")
        row = self._rows[standing.name]
        if uncounted:
            self._bars.update(row, visible=True)
        else:
            self._bars.update(row, completed=standing.done, total=standing.total, said=standing.say(now))

    def note(self, sentence: str) -> None:
        err.print(sentence, soft_wrap=True)


@contextmanager
def show_progress(form: str | None = None) -> Iterator[PassProgress]:
    """Progress in the form `json`, or in the one that suits stderr."""
    if form == "json":
        with _watched(PassProgress(lines_for_programs())) as progress:
            yield progress
    elif err.is_terminal and not err.is_dumb_terminal:
        spinner = SpinnerColumn("dots" if knows_unicode(err.file) else "line")
        bar = [BarColumn(20)] if err.width >= WIDE_ENOUGH else []
        with (
            Bars(spinner, TextColumn("{task.description}"), *bar, TextColumn("{task.fields[said]}"), console=err) as bars,
            _watched(PassProgress(Drawing(bars))) as progress,
        ):
            yield progress
    else:
        with _watched(PassProgress(lines_for_people())) as progress:
            yield progress


@contextmanager
def _watched(progress: PassProgress) -> Iterator[PassProgress]:
    """Meanwhile a thread looks at it, so that time goes on where nothing else does."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(WATCH_SECONDS):
            progress.look()

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield progress
    finally:
        ended.set()
        watcher.join()


def format_amount(number: float, unit: str, whole: float = 0.0) -> str:
    """3.2 MB, 145 documents. Of a `whole` it is in the same multiple of the unit."""
    if unit == "bytes":
        for size, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
            if max(number, whole) >= size:
                return f"{number / size:.1f} {name}"
        return f"{number:.0f} bytes"
    return f"{number:,.1f} {unit}" if number < 10 and number != int(number) else f"{number:,.0f} {unit}"


def format_seconds(seconds: float) -> str:
    """0.4 s, 12 s, 3 min 20 s, 5 h 10 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3_600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3_600} h {whole % 3_600 // 60} min"
