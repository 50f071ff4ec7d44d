"""A clock for tests of waits."""

from __future__ import annotations


class FakeClock:
    """A clock in the place of the module `time`: to sleep takes no time, and moves it on."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
