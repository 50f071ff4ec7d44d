"""The screen: consoles, progress, one JSON document, and the pieces that tables and sentences are made of.

Answers go to `out`, progress and messages to `err`. Names, paths and reasons come from strangers: none of it is read as markup
or sent to a terminal as a command.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from chameleon_data.errors import InputError, escape_unprintable
from chameleon_data.recipe import parse_bytes

PASS_TITLES = {
    "survey": "survey the corpus",
    "embed": "embed the samples",
    "read": "read and sort",
    "write": "write shards",
    "make": "make the shards again",
    "verify": "verify",
    "compare": "compare documents",
    "remove": "remove files",
}
"""Name of a pass, as the passes report it -> what a person reads."""
ESCAPED_IN_JSON = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""Characters that JSON may hold and a terminal may obey: control characters, and those that turn the direction of writing."""
SILENT_SECONDS = 2.0
"""Work that takes less time is not announced."""
REPORT_SECONDS = 10.0
"""Time between two lines of progress where there is no terminal."""
SECONDS_OF = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
"""Unit of a duration -> seconds."""
LONG_VALUE = 60
"""Characters that are shown of one value."""
LOG_WIDTH = None if sys.stdout.isatty() else 140  # a log file has no width


class SafeConsole(Console):
    """Shows markup such as [/b] or :x: as it is, and what a terminal would obey as \\x1b."""

    def render_str(self, text: str, **how: Any) -> Text:
        return super().render_str(escape_unprintable(text), **how)


out = SafeConsole(highlight=False, markup=False, emoji=False, width=LOG_WIDTH)
err = SafeConsole(highlight=False, markup=False, emoji=False, stderr=True)


@contextmanager
def show_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show the progress of passes: bars in a terminal; elsewhere a line at the start, every ten seconds and at the end."""
    if err.is_terminal:
        columns = (SpinnerColumn(), TextColumn("{task.description:<18}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=err) as bars:
            tasks: dict[str, TaskID] = {}

            def draw(name: str, done: int, total: int) -> None:
                if name not in tasks:
                    tasks[name] = bars.add_task(PASS_TITLES[name], total=total)
                bars.update(tasks[name], completed=done, total=total)

            yield draw
        return
    started: dict[str, float] = {}
    printed: dict[str, float] = {}

    def write_line(name: str, done: int, total: int) -> None:
        now = time.monotonic()
        if name not in started or done == total or now - printed[name] > REPORT_SECONDS:
            seconds = now - started.setdefault(name, now)
            printed[name] = now
            err.print(f"{PASS_TITLES[name]}: {done:,} of {total:,} ({seconds:.1f} s)")

    yield write_line


def delay_progress(progress: Callable[[str, int, int], None], name: str) -> Callable[[int, int], None]:
    """Progress of one pass that is silent for the first two seconds, within which most answers are there."""
    start = time.monotonic()

    def report(done: int, total: int) -> None:
        if time.monotonic() - start > SILENT_SECONDS:
            progress(name, done, total)

    return report


@contextmanager
def show_waiting(work: str) -> Iterator[None]:
    """Name the work that goes on, where it cannot be counted and takes more than two seconds; with a spinner in a terminal."""
    spinner = err.status(work)
    timer = threading.Timer(SILENT_SECONDS, spinner.start if err.is_terminal else lambda: err.print(f"{work} …"))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        spinner.stop()


def print_answer(as_json: bool, document: Any, show: Callable[[], None]) -> None:
    """Print the answer of a verb: its document as JSON, or what `show` prints for a person."""
    if as_json:
        print_json(document)
    else:
        show()


def print_json(document: Any) -> None:
    """Write one JSON document to stdout."""
    text = json.dumps(document, ensure_ascii=False, indent=2)
    text = ESCAPED_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # the terminal knows few characters, or a path is not UTF-8
        text = json.dumps(document, indent=2)
    sys.stdout.write(text + "\n")


def make_table(*columns: str) -> Table:
    """An empty table; a column whose title begins with > holds numbers."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        number = column.startswith(">")
        table.add_column(column.lstrip(">"), justify="right" if number else "left", overflow="fold", no_wrap=number)
    return table


def print_pairs(rows: list[tuple[str, str]]) -> None:
    """Print an empty line, then a line for each key and value."""
    out.print()
    for key, value in rows:
        out.print(Text(f"{key:>14}", style="dim"), value, sep="  ", soft_wrap=True)


def print_note(sentence: str, kind: str = "note") -> None:
    """Print a sentence that a person should not overlook."""
    out.print(Text(kind, style="yellow"), sentence, soft_wrap=True)


def print_dim(sentence: str) -> None:
    """Print a sentence that explains."""
    out.print(Text(escape_unprintable(sentence), style="dim"), soft_wrap=True)


def count_noun(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def parse_duration(option: str, text: str) -> float:
    """The seconds that `0`, `90m`, `12h`, `7d` or `2w` mean; InputError, which names the option, for any other text."""
    match = re.fullmatch(r"(\d{1,6})([smhdw])", text, re.ASCII)
    if not match and text != "0":
        raise InputError(f"{option} {text}: is no duration; write 0, or a whole number and a unit: 30s, 90m, 12h, 7d, 2w")
    return float(match[1]) * SECONDS_OF[match[2]] if match else 0.0


def parse_size(option: str, text: str) -> int:
    """The bytes that `2GB`, `512MiB` or a whole number mean; InputError, which names the option, for any other text."""
    try:
        size = int(parse_bytes(text))
    except ValueError as error:
        raise InputError(f"{option}: {error}") from None
    if not size:
        raise InputError(f"{option}: 0 bytes are too few; write a size, say, 8GB")
    return size


def format_duration(seconds: float) -> str:
    """In the largest unit of which there is one."""
    for unit, noun in (("d", "day"), ("h", "hour"), ("m", "minute")):
        if seconds >= SECONDS_OF[unit]:
            return count_noun(int(seconds // SECONDS_OF[unit]), noun)
    return "less than a minute"


def format_interval(ends: tuple[float, float] | list[float] | None) -> str:
    return f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else ""


def format_decimal(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def format_facts(facts: dict[str, Any] | None) -> str:
    """Those of the facts that are known, in one line."""
    known: dict[str, Any] = {}
    for key, value in (facts or {}).items():
        known |= {k: v for k, v in (value if isinstance(value, dict) else {key: value}).items() if v is not None}
    return ", ".join(f"{key} {format_value(value)}" for key, value in known.items())


def format_value(value: Any) -> str:
    """A value of a recipe or manifest for a person: the beginning of a hash, both ends of a long path. --json shows all of it."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(format_value, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "–", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    text = f"{value:,}" if isinstance(value, int) else str(value)
    if re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", text):
        return f"{text[:12]}…"
    return text if len(text) <= LONG_VALUE else f"{text[:20]}…{text[20 - LONG_VALUE :]}"
