"""Four builds of two plans, a reader and two taggers of one tag at once in one folder. A seed draws how long operations take.

Nothing is lost: every plan ends as one version, and numbers have no gap. Each version is proved from its stored bytes while
others still write. Every generation of the tag is there, and no build leaves a run behind.
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
from chameleon_data.versions.tags import tag_history, tag_version
from chameleon_data.versions.versions import list_versions
from tests.soak.crash import Fault, FaultyBackend
from tests.support.inline_builds import build, list_outputs, verify_versions

T = TypeVar("T")
BUDGETS = (20_000, 30_000)
WRITERS = 4


class Delay(Fault):
    """Every operation takes a while; none fails."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._chance, self._longest = random.Random(seed), random.Random(seed).choice([0.0, 0.002, 0.01])

    def perform(self, name: str, operate: Callable[[], T], operate_by_half: Callable[[], None] = lambda: None) -> T:
        time.sleep(self._chance.uniform(0, self._longest))
        return operate()


def build_in_turn(recipe: Recipe) -> tuple[dict[int, str], dict[str, int]]:
    """Budget -> digest of builds one after the other, and the files of all of them."""
    digests = {budget: str(build(_change_budget(recipe, budget)).digest) for budget in BUDGETS}
    return digests, list_outputs(Store(recipe.out))


def _change_budget(recipe: Recipe, budget: int) -> Recipe:
    return recipe.model_copy(update={"mix": recipe.mix.model_copy(update={"budget": budget})})


def race(recipe: Recipe, seed: int, digests: dict[int, str], files: dict[str, int]) -> int:
    """One race; returns how many raced. `digests` and `files` are those of `build_in_turn`."""
    store, real, done = Store(recipe.out), storage._backend, threading.Event()
    chance, delay = random.Random(seed), Delay(seed)
    budgets = [*BUDGETS, *(chance.choice(BUDGETS) for _ in range(WRITERS - len(BUDGETS)))]
    gate = threading.Barrier(WRITERS)

    def write(budget: int) -> str:
        gate.wait()
        return str(build(_change_budget(recipe, budget)).digest)

    def read() -> int:
        looks = 0
        while not looks or not done.is_set():
            verify_versions(store)
            looks += 1
        return looks

    def tag(name: str) -> int:
        tagged = 0
        while not done.is_set() or (not tagged and list_versions(store)):
            for version in list_versions(store):
                tag_version(store, version, name)
                tagged += 1
        return tagged

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(WRITERS + 3) as pool:
        patch.setattr(storage, "_backend", lambda *key: FaultyBackend(real(*key), delay))
        beside = [pool.submit(read), pool.submit(tag, "prod"), pool.submit(tag, "prod")]
        try:
            made = list(pool.map(write, budgets))
        finally:
            done.set()
        for one in beside:
            assert one.result() > 0, seed
    assert made == [digests[budget] for budget in budgets], seed
    versions = list_versions(store)
    assert [v.number for v in versions] == [1, 2], seed
    assert {m.digest for m in verify_versions(store)} == set(digests.values()), seed
    assert list_outputs(store) == files, seed
    history = tag_history(store, "prod")
    assert [t.generation for t in history] == list(range(1, len(history) + 1)), seed
    return WRITERS + len(beside)
