"""How long a task is tried again while the store fails, by a clock that waits for nobody."""

from __future__ import annotations

import errno
import itertools

import pytest

from chameleon_data.errors import InputError
from chameleon_data.pipelines import engine
from chameleon_data.store.backend import StoreError
from chameleon_data.store.memory import MemoryFolder
from chameleon_data.store.store import Store
from tests.support.clocks import FakeClock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    clock = FakeClock()
    monkeypatch.setattr(engine, "time", clock)
    return clock


def tries_until(clock: FakeClock, back: float, seconds: float = 0.0, number: int = 1) -> list[float]:
    """When the work is tried, with a store that answers after `back` seconds and takes `seconds` to fail."""
    tries: list[float] = []

    def work(_: int) -> None:
        tries.append(clock.now)
        if clock.now < back:
            clock.now += seconds
            raise ConnectionError("the store is restarted")

    engine.work_patiently(work, number)
    return tries


def test_waits_grow_and_then_stay(clock: FakeClock) -> None:
    tries = tries_until(clock, 500)
    waits = [after - before for before, after in itertools.pairwise(tries)]
    longest = [min(60.0, 2.0**i) for i in range(len(waits))]
    assert all(0.5 * most <= wait <= most for wait, most in zip(waits, longest, strict=True))
    assert 10 < len(tries) < 25


def test_a_store_that_is_away_for_minutes_costs_no_build(clock: FakeClock) -> None:
    assert tries_until(clock, 530)[-1] >= 530


@pytest.mark.parametrize("seconds", [0.0, 45.0])
def test_it_ends_after_ten_minutes_however_long_each_try_takes(clock: FakeClock, seconds: float) -> None:
    with pytest.raises(InputError, match=r"^reading or writing failed \d+ times in [3-6]\d\d s: the store is restarted"):
        tries_until(clock, 1e9, seconds)
    assert 500 < clock.now <= 600 + 2 * seconds


def test_tasks_that_failed_together_do_not_come_back_together(clock: FakeClock) -> None:
    seconds = []
    for number in range(20):
        clock.now = 0.0
        seconds.append(tries_until(clock, 0.1, number=number)[1])
    assert len(set(seconds)) == 20
    assert max(seconds) - min(seconds) > 0.25


def test_a_store_that_gave_up_on_a_request_is_asked_again(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryFolder, "read", away := AwayFor(3))
    told: list[str] = []
    monkeypatch.setattr(engine, "_retrying", [told.append])
    engine.work_patiently(read_away, 1)
    assert away.tries == 4
    assert all("memory://away/x: no good answer in 120 s" in sentence for sentence in told)
    monkeypatch.setattr(MemoryFolder, "read", AwayFor(99, transient=False))
    with pytest.raises(InputError, match=r"^memory://away/x: no good answer"):
        engine.work_patiently(read_away, 1)


def read_away(_: int) -> None:
    Store("memory://away").read("x")


class AwayFor:
    """A store's `read` that fails so many times."""

    def __init__(self, times: int, transient: bool = True) -> None:
        self._times, self._transient, self.tries = times, transient, 0

    def __call__(self, _: str) -> bytes:
        self.tries += 1
        if self.tries <= self._times:
            raise StoreError("no good answer in 120 s", 503, self._transient)
        return b"x"


@pytest.mark.parametrize("fault", [InputError("the disk is full"), OSError(errno.ENOSPC, "in other words")])
def test_what_a_person_has_to_mend_is_not_tried_again(clock: FakeClock, fault: Exception) -> None:
    def work(_: int) -> None:
        raise fault

    with pytest.raises(InputError, match=r"^the disk is full"):
        engine.work_patiently(work, 1)
    assert clock.now == 0


@pytest.mark.parametrize(
    ("seconds", "taken", "told"),
    [
        (59, [0.1] * 9, False),
        (61, [0.1] * 4, False),
        (61, [0.1] * 5, True),
        (200, [19, 30, 30, 30, 100], False),
        (301, [30] * 5, True),
    ],
)
def test_a_straggler_is_slow_beside_the_others_and_by_the_clock(seconds: float, taken: list[float], told: bool) -> None:
    assert bool(engine.explain_straggler(seconds, taken)) == told
