"""The screen: consoles, progress, one JSON document, and the pieces that tables and sentences are made of.

Answers go to `out`, progress and messages to `err`. Names, paths and reasons come from strangers: none of it is read as markup
or sent to a terminal as a command. A terminal that lacks a character gets another for it, and what nobody reads any more is
dropped: how the work ended is said by the exit code.
"""

from __future__ import annotations

import codecs
import io
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

from chameleon_data.errors import InputError, escape_unprintable
from chameleon_data.jobs.start import asks_for_json_lines
from chameleon_data.recipe import parse_bytes
from chameleon_data.views.report.words import percent_digits

ESCAPED_IN_JSON = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""Characters that JSON may hold and a terminal may obey: control characters, and those that turn the direction of writing."""
SILENT_SECONDS = 2.0
"""Work that takes less time is not announced."""
SECONDS_OF = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
"""Unit of a duration -> seconds."""
NARROW_TEXT, WIDEST_TABLE = 24, 10_000
"""Characters of a line of text in a table that is too wide, and of the widest table that is measured."""
LONG_VALUE = 60
"""Characters that are shown of one value."""
LOG_WIDTH = None if sys.stdout is not None and sys.stdout.isatty() else 140  # a log file has no width
SPELLED = {"✓": "ok", "✗": "x", "→": "->", "←": "<-", "–": "-", "−": "-", "×": "x", "…": "..."}
"""Signs of our own sentences -> what a terminal shows that lacks them."""


class SafeConsole(Console):
    """Shows markup such as [/b] or :x: as it is, and what a terminal would obey as \\x1b."""

    def render_str(self, text: str, **how: Any) -> Text:
        return super().render_str(escape_unprintable(text), **how)

    def on_broken_pipe(self) -> None:
        drop_output(self.file)


def _spell(error: UnicodeError) -> tuple[str, int]:
    """What is written for characters that an encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(SPELLED.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lacking), error.end


codecs.register_error("spelled", _spell)


def prepare_streams() -> None:
    """Make stdout and stderr take any text, in any encoding. One that is closed becomes a file that nobody reads. What an earlier
    command of this process could not write is dropped."""
    for console in (out, err):
        console.begin_capture()
        console.end_capture()  # with what waits in its buffer
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - as long as the process
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="spelled")


def knows_unicode(stream: Any) -> bool:
    """Whether a stream's encoding has every character."""
    return (getattr(stream, "encoding", None) or "").lower().startswith("utf")


def drop_output(stream: Any) -> None:
    """From now on what is written to a stream goes nowhere, also what waits in its buffer."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


out = SafeConsole(highlight=False, markup=False, emoji=False, width=LOG_WIDTH)
err = SafeConsole(highlight=False, markup=False, emoji=False, stderr=True)


def delay_progress(progress: Callable[[str, int, int], object], name: str) -> Callable[[int, int], None]:
    """Progress of one pass that is silent for the first two seconds, within which most answers are there."""
    start, shown = time.monotonic(), False

    def report(done: int, total: int) -> None:
        nonlocal shown
        if shown or (time.monotonic() - start > SILENT_SECONDS and done < total):
            shown = True
            progress(name, done, total)

    return report


@contextmanager
def show_waiting(work: str) -> Iterator[None]:
    """Name the work that goes on, where it cannot be counted and takes more than two seconds; with a spinner in a terminal."""
    spinner = err.status(work, spinner="dots" if knows_unicode(err.file) else "line")
    say: Callable[[], None]
    if asks_for_json_lines(sys.argv[1:]):
        say = partial(err.print, json.dumps({"note": work}), soft_wrap=True)
    else:
        say = spinner.start if err.is_terminal else partial(err.print, f"{work} …")
    timer = threading.Timer(SILENT_SECONDS, say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        spinner.stop()


def drop_unwritten() -> None:
    """Drop what stdout cannot take, as its disk is full; Python would try again at its end, and change the exit code."""
    try:
        sys.stdout.flush()
    except OSError:
        drop_output(sys.stdout)


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
    print_text(text)


def print_text(text: str) -> None:
    """Print for programs: as it is, in one line of any length."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        drop_output(sys.stdout)


def make_table(*columns: str) -> Table:
    """An empty table for `print_table`. A column whose title begins with > holds numbers; one with ? is left out where there is
    little room."""
    table = _empty_table()
    for column in columns:
        number = column.lstrip("?").startswith(">")
        table.add_column(column.replace(">", "", 1), justify="right" if number else "left", overflow="fold", no_wrap=number)
    return table


def _empty_table(*columns: Column) -> Table:
    return Table(*columns, box=None, header_style="bold", pad_edge=False)


def print_table(table: Table) -> None:
    """Print a table. Where it is too wide, texts take more lines first, then columns are left out, the last one first."""
    texts = (column for column in table.columns if not column.no_wrap)
    for column in texts if _full_width(table) > out.width else ():
        column.max_width = NARROW_TEXT
    while _full_width(table) > out.width and (spare := [c for c in table.columns if str(c.header).startswith("?")]):
        narrower = _empty_table(*(column for column in table.columns if column is not spare[-1]))
        narrower.rows = table.rows
        table = narrower
    for column in table.columns:
        column.header = str(column.header).lstrip("?")
    width = out.width
    out.width = max(width, _full_width(table))
    out.print(table)
    out.width = width


def _full_width(table: Table) -> int:
    """Characters that a table takes if nothing is cut."""
    return Measurement.get(out, out.options.update(max_width=WIDEST_TABLE), table).maximum


def print_pairs(rows: list[tuple[str, str]]) -> None:
    """Print an empty line, then a line for each key and value."""
    out.print()
    for key, value in rows:
        out.print(Text(f"{key:>14}", style="dim"), value, sep="  ", soft_wrap=True)


def print_note(sentence: str, kind: str = "note") -> None:
    """Print a sentence that a person should not overlook."""
    out.print(Text(kind, style="yellow"), sentence, soft_wrap=True)


def print_aside(sentence: str) -> None:
    """Print a sentence on stderr, beside the answer; as a JSON object where stderr is for a program."""
    err.print(json.dumps({"note": sentence}) if asks_for_json_lines(sys.argv) else sentence, soft_wrap=True)


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
    """Seconds as words, in the largest unit of which there is at least one."""
    for unit, noun in (("d", "day"), ("h", "hour"), ("m", "minute")):
        if seconds >= SECONDS_OF[unit]:
            return count_noun(int(seconds // SECONDS_OF[unit]), noun)
    return "less than a minute"


def share_digits(domains: int) -> int:
    """Decimals of a share of so many domains, which tell two of them apart."""
    return 2 + percent_digits(domains)


def format_interval(ends: tuple[float, float] | list[float] | None, domains: int) -> str:
    """The ends of an interval of a share of so many domains."""
    digits = share_digits(domains) - 1
    return f"{ends[0]:.{digits}f} to {ends[1]:.{digits}f}" if ends else ""


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
