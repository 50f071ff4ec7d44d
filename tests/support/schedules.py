"""Works that happen at once on one store: threads that start together, or an order that says who does the next operation."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from chameleon_data.store import store as storage
from chameleon_data.store.store import Store

Work = Callable[[], object]
REST = 1000
"""More operations than any work has."""


def at_once(work: Callable[[int], Any], threads: int = 8) -> list[Any]:
    """work(0), work(1), … in threads that start together."""
    gate = threading.Barrier(threads)

    def run(number: int) -> Any:
        gate.wait()
        return work(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


class Turns:
    """Lets two threads pass one at a time, in an order of 0 and 1; a turn of one that has ended is left out."""

    def __init__(self, order: Sequence[int]) -> None:
        self.order, self.ended, self.changed, self.done = list(order), [False, False], threading.Condition(), [0, 0]

    def wait(self, who: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self._next() in (who, None), 20)
            if self.order:
                self.order.pop(0)
            self.done[who] += 1
            if self._next() != who:
                self.changed.notify_all()

    def end(self, who: int) -> None:
        with self.changed:
            self.ended[who] = True
            self.changed.notify_all()

    def _next(self) -> int | None:
        while self.order and self.ended[self.order[0]]:
            self.order.pop(0)
        return self.order[0] if self.order else None


class OneByOne:
    """A backend whose operations wait for their turn, where they are of a thread that has a number."""

    def __init__(self, real: Any, turns: Turns, thread: threading.local) -> None:
        self._real, self._turns, self._thread = real, turns, thread

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        if not callable(found):
            return found

        def operation(*args: Any) -> Any:
            if hasattr(self._thread, "number"):
                self._turns.wait(self._thread.number)
            result = found(*args)
            return list(result) if name == "walk" else result

        return operation


def run_in_order(store: Store, order: Sequence[int], works: tuple[Work, Work]) -> list[int]:
    """Do both works, each in a thread, their operations in this order; returns how many each did. Raises what a work raises."""
    turns, thread, failures = Turns(order), threading.local(), list[BaseException]()

    def run(number: int) -> None:
        thread.number = number
        try:
            works[number]()
        except BaseException as error:  # noqa: BLE001 - raised again below
            failures.append(error)
        finally:
            turns.end(number)

    backend = OneByOne(store._backend, turns, thread)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "_backend", lambda *_: backend)
        threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    if failures:
        raise failures[0]
    return turns.done


def interruptions(store: Store, prepare: Work, works: tuple[Work, Work]) -> Iterator[tuple[int, int]]:
    """Every pair of moments (j, k): j operations of the first work, k of the second, the rest of the first, of the second.

    Before each, the store is emptied and prepared; each is yielded when it has happened.
    """
    j, k, done = 0, 0, [0, 0]
    while j <= done[0]:
        store.remove(store.list())
        prepare()
        done = run_in_order(store, [0] * j + [1] * k + [0] * REST, works)
        yield j, k
        j, k = (j + 1, 0) if k >= done[1] else (j, k + 1)


class Meanwhile:
    """A backend that lets something happen before its operation number `step`, counted from 1."""

    def __init__(self, real: Any, step: int, happens: Work) -> None:
        self.step, self.count, self._real, self._happens = step, 0, real, happens

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        if not callable(found):
            return found

        def operation(*args: Any) -> Any:
            self.count += 1
            if self.count == self.step:
                self._happens()
            result = found(*args)
            return list(result) if name == "walk" else result

        return operation


def run_at_each_step(store: Store, prepare: Work, outer: Work, inner: Work) -> Iterator[int]:
    """The inner work as a whole, before each operation of the outer one; yields each step when it has happened."""
    step, count = 1, 1
    while step <= count:
        store.remove(store.list())
        prepare()
        real = store._backend

        def undisturbed(real: Any = real) -> None:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(storage, "_backend", lambda *_: real)
                inner()

        backend = Meanwhile(real, step, undisturbed)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(storage, "_backend", lambda *_, backend=backend: backend)
            outer()
        count = backend.count
        yield step
        step += 1
