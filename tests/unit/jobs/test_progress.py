"""How far a pass is: in a person's units, with a rate and the time left; what stands still is told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress as Bars
from rich.progress import TextColumn

from chameleon_data.jobs import progress as shown
from chameleon_data.jobs import screen
from chameleon_data.jobs.progress import Drawing, PassProgress, Standing, format_amount, format_seconds, show_progress
from tests.support.paths import ROOT

MB = 1_000_000


@pytest.mark.parametrize(
    ("standing", "now", "said"),
    [
        (Standing("survey", 0, 0, 0, 0, 45 * MB), 0.0, "0.0 of 45.0 MB"),
        (Standing("survey", 0, 10, 0, 12 * MB, 45 * MB), 10.0, "12.0 of 45.0 MB, 1.2 MB/s, 28 s left"),
        (Standing("survey", 0, 10, 30 * MB, 42 * MB, 45 * MB), 10.0, "42.0 of 45.0 MB, 1.2 MB/s, 2.5 s left"),
        (Standing("survey", 0, 9, 0, 45 * MB, 45 * MB), 99.0, "45.0 MB in 9.0 s, 5.0 MB/s"),
        (Standing("survey", 0, 0, 45 * MB, 45 * MB, 45 * MB), 0.0, "45.0 MB, done before"),
        (
            Standing("survey", 0, 5, 0, 9 * MB, 45 * MB),
            45.0,
            "9.0 of 45.0 MB, 200.0 kB/s, 3 min 0 s left, nothing finished for 40 s",
        ),
        (Standing("embed", 0, 0, 0, 0, 365), 0.0, "0 of 365 documents"),
        (Standing("embed", 0, 0, 0, 0, 365), 5.0, "0 of 365 documents, loading the model"),
        (Standing("embed", 0, 0, 145, 145, 365), 5.0, "145 of 365 documents, loading the model"),
        (Standing("embed", 0, 8, 0, 128, 365), 8.0, "128 of 365 documents, 16 documents/s, 15 s left"),
        (Standing("write", 0, 0, 0, 0, 0), 0.0, "0 bytes"),
    ],
)
def test_what_is_said_of_a_pass(standing: Standing, now: float, said: str) -> None:
    assert standing.say(now) == said


def test_amounts_and_times_are_rounded_as_people_do() -> None:
    amounts = {0: "0 bytes", 999: "999 bytes", 1500: "1.5 kB", 2.5e9: "2.5 GB", 3e12: "3.0 TB"}
    assert {n: format_amount(n, "bytes") for n in amounts} == amounts
    assert [format_amount(n, "files") for n in (0.25, 3, 12345.6)] == ["0.2 files", "3 files", "12,346 files"]
    times = {
        0.04: "0.0 s",
        9.94: "9.9 s",
        59.4: "59 s",
        59.6: "1 min 0 s",
        3599: "59 min 59 s",
        3600: "1 h 0 min",
        90_000: "25 h 0 min",
    }
    assert {s: format_seconds(s) for s in times} == times


def test_every_pass_has_a_title_and_a_unit() -> None:
    """The names are those with which passes and verbs call their progress."""
    called = set[str]()
    for file in [*(ROOT / "pipelines").glob("*.py"), ROOT / "jobs/cli.py"]:
        text = file.read_text(encoding="utf-8")
        for call in ('progress("', ' show("', 'run_pass(engine, "', 'delay_progress(progress, "'):
            called |= {part.partition('"')[0] for part in text.split(call)[1:]}
    assert called == {*shown.PASSES, *shown.WORKS}


def test_work_that_ends_before_it_is_shown_is_never_shown(monkeypatch) -> None:
    """Else its first report would be its last, as that of a pass which an earlier run did."""
    told: list[tuple[str, int, int]] = []
    monkeypatch.setattr(screen, "SILENT_SECONDS", -1.0)
    screen.delay_progress(lambda *report: told.append(report), "remove")(5, 5)
    assert not told
    slow = screen.delay_progress(lambda *report: told.append(report), "remove")
    slow(1, 2)
    slow(2, 2)
    assert told == [("remove", 1, 2), ("remove", 2, 2)]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(shown.time, "monotonic", clock)
    return clock


def run_a_minute(progress: PassProgress, clock: Clock, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """A minute in which half of a survey is done, and then nothing; looked at every half second."""
    progress("survey", 0, 10 * MB)
    for tick in range(1, 120):
        clock.now += 0.5
        if tick <= 10:
            progress("survey", tick * MB // 2, 10 * MB)
        progress.look()
    return capsys.readouterr().err.splitlines()


def test_lines_come_at_the_start_at_the_end_and_every_ten_seconds(clock, capsys) -> None:
    progress = PassProgress(shown.lines_for_people())
    lines = run_a_minute(progress, clock, capsys)
    assert len(lines) == 6
    assert lines[0] == "survey the corpus: 0.0 of 10.0 MB"
    assert lines[1] == "survey the corpus: 5.0 of 10.0 MB, 500.0 kB/s, 10 s left"
    assert lines[-1].endswith("left, nothing finished for 45 s")
    progress("survey", 10 * MB, 10 * MB)
    progress("survey", 10 * MB, 10 * MB)
    clock.now += 100
    progress.look()
    assert capsys.readouterr().err == "survey the corpus: 10.0 MB in 1 min 0 s, 168.1 kB/s\n"


def test_work_that_is_not_counted_is_named_after_two_seconds_once(clock, capsys) -> None:
    progress = PassProgress(shown.lines_for_people())
    progress("plan", 0, 0)
    clock.now += 1.5
    progress.look()
    assert capsys.readouterr().err == ""
    for _ in range(99):
        clock.now += 0.5
        progress.look()
    assert capsys.readouterr().err == "planning the shards …\n"


def test_a_model_that_is_loaded_for_long_is_told_once(clock, capsys) -> None:
    progress = PassProgress(shown.lines_for_people())
    progress("embed", 0, 9)
    for _ in range(28):
        clock.now += 0.5
        progress.look()
    assert capsys.readouterr().err.splitlines() == [
        "embed the samples: 0 of 9 documents",
        "embed the samples: 0 of 9 documents, loading the model",
    ]


def test_a_pass_that_comes_again_is_counted_anew(clock, capsys) -> None:
    progress = PassProgress(shown.lines_for_people())
    for _ in range(2):
        progress("embed", 0, 64)
        clock.now += 1
        progress("embed", 64, 64)
        progress("weigh", 0, 0)
    assert capsys.readouterr().err.count("embed the samples: 64 documents in 1.0 s, 64 documents/s\n") == 2


def test_lines_for_programs_are_json_at_most_one_a_second(clock, capsys) -> None:
    progress = PassProgress(shown.lines_for_programs())
    lines = [json.loads(line) for line in run_a_minute(progress, clock, capsys)]
    assert len(lines) in (59, 60)
    assert (lines[0]["pass"], lines[0]["title"], lines[0]["unit"]) == ("survey", "survey the corpus", "bytes")
    assert (lines[0]["done"], lines[0]["total"], lines[0]["rate"], lines[0]["seconds_left"]) == (0, 10 * MB, None, None)
    assert (lines[3]["done"], lines[3]["rate"], lines[3]["seconds_left"]) == (3 * MB, 1_000_000.0, 7.0)
    assert lines[-1]["seconds_still"] > 50
    progress.note("a file: tried again")
    assert json.loads(capsys.readouterr().err) == {"note": "a file: tried again"}


def test_bars_tell_the_same(clock, capsys) -> None:
    console = Console(force_terminal=True, width=100, file=(written := screen.io.StringIO()))
    with Bars(TextColumn("{task.description}|{task.fields[said]}"), console=console, auto_refresh=False) as bars:
        progress = PassProgress(Drawing(bars))
        progress("list", 0, 0)
        clock.now += 1
        progress("survey", 0, 10 * MB)
        clock.now += 2
        progress("survey", 4 * MB, 10 * MB)
        bars.refresh()
        progress("select", 0, 0)
        clock.now += 3
        progress.look()
        bars.refresh()
    text = written.getvalue()
    assert "survey the corpus|4.0 of 10.0 MB, 2.0 MB/s, 3.0 s left" in text
    assert "choosing the documents|" in text
    assert "looking at the files" not in text, "it took a second"


def test_time_goes_on_where_nothing_else_does(monkeypatch, capsys) -> None:
    monkeypatch.setattr(shown, "SILENT_SECONDS", 0.02)
    monkeypatch.setattr(shown, "WATCH_SECONDS", 0.01)
    with show_progress() as progress:
        progress("plan", 0, 0)
        wait_until(lambda: "planning" in capsys.readouterr().err)
    assert not [thread for thread in threading.enumerate() if thread.name.endswith("(look)")]


def wait_until(true: Callable[[], Any]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)
