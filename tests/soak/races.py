"""Builds of one plan and of several into one folder, and taggers of one tag, at once; a seed draws how long each operation takes.

One winner each, nothing lost: every plan ends as one version, numbers have no gap, each version is proved from its bytes while
others still write, every tagger's generation is there, and no build leaves a run behind.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from chameleon_data.recipe import Recipe
from chameleon_data.store import store as storage
from chameleon_data.store.store import Store
from chameleon_data.versions.versions import list_versions, tag_history, tag_version
from tests.soak.alone import alone, build, kept, readable
from tests.soak.crash import Fate, Fated

T = TypeVar("T")
BUDGETS = (20_000, 30_000)
WRITERS = 4


class Slow(Fate):
    """Nobody dies; everything takes a while."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._chance, self._longest = random.Random(seed), random.Random(seed).choice([0.0, 0.002, 0.01])

    def meet(self, name: str, act: Callable[[], T], half: Callable[[], None] = lambda: None) -> T:
        time.sleep(self._chance.uniform(0, self._longest))
        return act()


def clean(recipe: Recipe) -> tuple[dict[int, str], dict[str, int]]:
    """Digests of the budgets' builds, one after the other, and what all of them leave."""
    with alone():
        digests = {budget: str(build(_of(recipe, budget)).digest) for budget in BUDGETS}
    return digests, kept(Store(recipe.out))


def _of(recipe: Recipe, budget: int) -> Recipe:
    return recipe.model_copy(update={"mix": recipe.mix.model_copy(update={"budget": budget})})


def race(recipe: Recipe, seed: int, digests: dict[int, str], files: dict[str, int]) -> int:
    """Two builds of each budget at once, a reader and two taggers beside them; returns how many raced.

    `digests` and `files` are of `clean`.
    """
    store, real, done = Store(recipe.out), storage._backend, threading.Event()
    chance, slow = random.Random(seed), Slow(seed)
    budgets = [*BUDGETS, *(chance.choice(BUDGETS) for _ in range(WRITERS - len(BUDGETS)))]
    gate = threading.Barrier(WRITERS)

    def write(budget: int) -> str:
        gate.wait()
        return str(build(_of(recipe, budget)).digest)

    def read() -> int:
        looks = 0
        while not looks or not done.is_set():
            readable(store)
            looks += 1
        return looks

    def tag(name: str) -> int:
        tagged = 0
        while not done.is_set() or (not tagged and list_versions(store)):
            for version in list_versions(store):
                tag_version(store, version, name)
                tagged += 1
        return tagged

    with alone(), pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(WRITERS + 3) as pool:
        patch.setattr(storage, "_backend", lambda *key: Fated(real(*key), slow))
        beside = [pool.submit(read), pool.submit(tag, "prod"), pool.submit(tag, "prod")]
        try:
            found = list(pool.map(write, budgets))
        finally:
            done.set()
        for one in beside:
            assert one.result() > 0, seed
    assert found == [digests[budget] for budget in budgets], seed
    versions = list_versions(store)
    assert [v.number for v in versions] == [1, 2], seed
    assert {m.digest for m in readable(store)} == set(digests.values()), seed
    assert kept(store) == files, seed
    history = tag_history(store, "prod")
    assert [t.generation for t in history] == list(range(1, len(history) + 1)), seed
    return WRITERS + len(beside)
