"""gc beside a whole build: one happens, all of it, before an operation of the other on the store.

The build goes on where an earlier one was killed a month ago. Afterwards the version is there with all its files, proved from its
bytes, in the digest of a build that nothing happened to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar

import pytest

from chameleon_data.errors import InputError
from chameleon_data.recipe import Recipe
from chameleon_data.store import store as storage
from chameleon_data.store.store import Store
from chameleon_data.versions import active, gc
from chameleon_data.versions.gc import remove_garbage
from tests.soak.alone import alone, build, kept, readable
from tests.soak.crash import Fate, Killed, fated
from tests.support.small_builds import DAY, grow_old

T = TypeVar("T")
Outer = Literal["build", "gc"]
"""Which of the two is interrupted by the other."""


class Interrupted(Fate):
    """Before operation number `at` something else happens on the store."""

    def __init__(self, at: int, happens: Callable[[], object]) -> None:
        super().__init__(at)
        self._happens, self._real = happens, storage._backend

    def meet(self, name: str, act: Callable[[], T], half: Callable[[], None] = lambda: None) -> T:
        with self._lock:
            self.count += 1
            now = self.count == self.at
        if now:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(storage, "_backend", self._real)
                self._happens()
        return act()


def clean_beside(recipe: Recipe, outer: Outer, killed_at: int, at: int, digest: str, files: dict[str, int]) -> bool:
    """One build and one gc; returns whether there was an operation `at`. `digest` and `files` are of an undisturbed build."""
    store, where = Store(recipe.out), (outer, killed_at, at)

    def build_unless_refused() -> None:
        try:
            assert build(recipe).digest == digest, where
        except InputError as refusal:
            if "gc --delete" not in str(refusal):
                raise

    works = {"build": build_unless_refused, "gc": lambda: remove_garbage(store, caches=True)}
    inner = works["gc" if outer == "build" else "build"]
    with alone(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(active, "WAIT", 0.0)
        patch.setattr(gc, "REMOVED_AT_ONCE", 1)
        with pytest.raises(Killed), fated(Fate(killed_at, "kill")):
            build(recipe)
        grow_old(store, "", 30 * DAY)
        fate = Interrupted(at, inner)
        with fated(fate):
            works[outer]()
        readable(store)
        assert build(recipe).digest == digest, where
        remove_garbage(store)
        assert [m.digest for m in readable(store)] == [digest], where
    assert kept(store) == files, where
    assert store.list("_chameleon/active") == {}, where
    return fate.count >= at
