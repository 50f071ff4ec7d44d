"""gc beside a whole build: one happens, all of it, before an operation of the other on the store.

The build goes on where another was killed a month ago. Afterwards the version is there with all its files, proved from its stored
bytes, and has the digest of a build that nothing happened to.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Literal, TypeVar

import pytest

from chameleon_data.errors import InputError
from chameleon_data.store import store as storage
from chameleon_data.store.paths import ACTIVE
from chameleon_data.store.store import Store
from chameleon_data.versions import active, gc
from chameleon_data.versions.gc import remove_garbage
from tests.soak.crash import CleanBuild, Fault, Killed, change_out, inject
from tests.support.inline_builds import build, verify_versions
from tests.support.small_builds import DAY, grow_old

T = TypeVar("T")
Outer = Literal["build", "gc"]
"""Which of the two is interrupted by the other."""


class Interruption(Fault):
    """Before operation number `at` something else happens on the store."""

    def __init__(self, at: int, happens: Callable[[], object]) -> None:
        super().__init__(at)
        self._happens, self._real = happens, storage._backend

    def perform(self, name: str, operate: Callable[[], T], operate_by_half: Callable[[], None] = lambda: None) -> T:
        with self._lock:
            self.count += 1
            now = self.count == self.at
        if now:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(storage, "_backend", self._real)
                self._happens()
        return operate()


def clean_beside(clean: CleanBuild, out: str, outer: Outer, killed_at: int, at: int) -> bool:
    """One build that goes on after a kill, and one gc; returns whether the outer one had an operation `at`."""
    store, recipe, where = Store(out), change_out(clean.recipe, out), (outer, killed_at, at)

    def build_unless_refused() -> None:
        try:
            assert build(recipe).digest == clean.digest, where
        except InputError as refusal:
            if "gc --delete" not in str(refusal):
                raise

    works = {"build": build_unless_refused, "gc": lambda: remove_garbage(store, caches=True)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(active, "WAIT", 0.0)
        patch.setattr(gc, "REMOVED_AT_ONCE", 1)
        kill = Fault(killed_at, "kill")
        with suppress(Killed), inject(kill):
            build(recipe)
        if not kill.dead:  # the clean build had to wait, so it had more operations than this one
            assert kill.count < killed_at, where
            return False
        grow_old(store, "", 30 * DAY)
        fault = Interruption(at, works["gc" if outer == "build" else "build"])
        with inject(fault):
            works[outer]()
        verify_versions(store)
        assert build(recipe).digest == clean.digest, where
        remove_garbage(store)
        clean.check(out, where)
    assert store.list(ACTIVE) == {}, where
    return fault.count >= at
