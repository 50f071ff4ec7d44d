"""What a pass asks of an engine, and what is alike on both.

    run      numbered tasks over files on a store: numbers in, outcomes out
    stream   columns through actors: tables in, tables out

`local_engine.py` runs them in worker processes of this machine, `ray_engine.py` on a Ray cluster. No pass knows which is at work,
and neither decides a byte. What is sent to a worker is a function of a module, bound by `functools.partial` to frozen values.

A pass's function and its values are sent once to each worker: through its pipe, or as one object in Ray's store. With a task
goes its number alone. So the values must not grow with the corpus: a list with an entry for each file, part, run or shard is put
on the store (`store/numbered_rows.py`), and the task reads the rows of its number. `pipelines/survey.py` is an example.
Why: docs/decisions/150-tasks-carry-numbers.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import median
from typing import Literal, Protocol

import pyarrow as pa

from chameleon_data.errors import OS_ERROR_REMEDIES, InputError, UnavailableError, explain_os_error
from chameleon_data.hashing import key64
from chameleon_data.store.store import Store
from chameleon_data.versions.streaming import TableFunction

Progress = Callable[[str, int, int], object]
"""Called with (pass, units done, units in all); with (work, 0, 0) where something begins that is not counted."""
Tell = Callable[[str], object]
"""Called with a sentence about what happened, for a person."""
STRAGGLER_TIMES, STRAGGLER_SECONDS, STRAGGLER_TASKS = 10, 60.0, 5
"""A task is told of that runs so many times as long as the median of its pass, and for so many seconds, once so many are done."""
TASK_BYTES = 640 * 2**20
"""Memory of a task that does not say what it takes."""
DEATHS_OF_A_TASK = 3
"""A task whose process died so many times is given up."""
FIRST_RETRY_SECONDS = 1.0
"""Wait before the second try of a task whose reading or writing failed; each wait is twice the one before."""
LONGEST_RETRY_SECONDS = 60.0
"""No wait is longer."""
RETRY_SPREAD = 0.5
"""Most of a wait that is left out."""
RETRY_DEADLINE_SECONDS = 600.0
"""Seconds after its first failure in which a task is tried again: a store that is restarted is back by then."""


@dataclass(frozen=True)
class Task:
    """What a pass does for each number."""

    work: Callable[[int], None]
    """Reads and writes files on the store. It may run again, after a process died in the middle of it."""
    about: Callable[[int], str]
    """What the work of a number reads, for the message where its process dies. It stays on the driver."""
    memory: int = TASK_BYTES
    """Bytes that the work of a number takes, about. On a cluster a node gets no more tasks than it has memory for."""


class Engine(Protocol):
    """Where passes run."""

    @property
    def cpus(self) -> float:
        """Tasks that run at one time."""
        ...

    @property
    def gpus(self) -> int: ...

    def sharing(self, *stores: Store) -> AbstractContextManager[object]:
        """In the body, no pass runs on a machine that would write other bytes, or that has other folders at these places.

        Raises InputError, there or from a pass, with the names of the machines and what differs.
        """
        ...

    def run(self, task: Task, numbers: Sequence[int]) -> Iterator[int]:
        """Do the work of every number, in any order, and yield the number once it is done.

        Raises the first InputError that a task raises, and one that says what was read where a task's process died three times.
        """
        ...

    def stream(self, make: Callable[[], TableFunction], tables: Sequence[pa.Table], on_gpus: bool = False) -> Iterator[pa.Table]:
        """Give each table to one of some actors, and yield what comes back, in any order.

        `make` is called once in each actor's process. With `on_gpus` an actor has a GPU, or the engine's share of one; else it
        has one CPU. Raises the first InputError that an actor raises.
        """
        ...


def actors_on(gpus: int, share: float) -> int:
    """How many actors have room on so many GPUs, each with this share of one."""
    return gpus * int(1 / share + 1e-9)


def pack_table(table: pa.Table) -> pa.Buffer:
    """A table as an Arrow stream, which holds its rows alone and not all that they are a slice of."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue()


def unpack_table(stream: pa.Buffer) -> pa.Table:
    return pa.ipc.open_stream(stream, options=pa.ipc.IpcReadOptions(use_threads=False)).read_all()


def run_pass(
    engine: Engine,
    name: str,
    task: Task,
    numbers: Sequence[int],
    progress: Progress,
    done: int = 0,
    sizes: Sequence[int] | None = None,
) -> None:
    """Run a task on an engine, and tell its progress.

    `sizes` are the units of progress of each number; by default each is one. `done` units were done before.
    """
    size_of = dict(zip(numbers, sizes or [1] * len(numbers), strict=True))
    total = done + sum(size_of.values())
    progress(name, done, total)
    for number in engine.run(task, numbers):
        done += size_of[number]
        progress(name, done, total)


def keep_silent(_: str) -> None:
    """Tell nobody."""


_retrying: list[Tell] = []


def call_at_retry(tell: Tell) -> None:
    """From now on call this in this process where a task's reading or writing failed and is tried again."""
    _retrying[:] = [tell]


Amount = Literal["rows", "bytes", "tokens", "quarantined", "retries"]
COUNTERS: dict[Amount, str] = {
    "rows": "Rows that a pass has read or written",
    "bytes": "Bytes of text that a pass has read, or of shards that it has read or written",
    "tokens": "Tokens that a pass has read or written",
    "quarantined": "Rows that a pass has set aside as unusable",
    "retries": "Tasks whose reading or writing failed and was tried again",
}
"""What workers count, for whoever watches a cluster -> what it is. A task that runs again counts again."""

_counting: list[Callable[[str, Amount, int], object]] = []


def call_at_count(count: Callable[[str, Amount, int], object]) -> None:
    """From now on call this in this process with (pass, amount, how many) where a task has counted its work."""
    _counting[:] = [count]


def count_work(name: str, amounts: Mapping[Amount, int]) -> None:
    """Say what a task of a pass has done. On one machine nobody listens."""
    for count in _counting:
        for amount, number in amounts.items():
            if number:
                count(name, amount, number)


def work_patiently(work: Callable[[int], None], number: int) -> None:
    """Do the work of a number, again and again for ten minutes where the store fails; then InputError. What a person can mend is
    refused at once.

    Part of each wait is left out, by a hash of the task and the try, so that tasks which failed together do not come back
    together. Why: docs/decisions/153-retries-for-minutes.md.
    """
    tries, failed_at, wait = 0, None, FIRST_RETRY_SECONDS
    while True:
        try:
            work(number)
            return
        except (OSError, UnavailableError) as fault:  # mostly the network
            why = explain_os_error(fault) if isinstance(fault, OSError) else str(fault)
            if isinstance(fault, OSError) and fault.errno in OS_ERROR_REMEDIES:
                raise InputError(why) from fault
            tries += 1
            now = time.monotonic()
            failed_at = now if failed_at is None else failed_at
            pause = wait * (1 - RETRY_SPREAD * key64(number, tries) / 2**64)
            if now + pause > failed_at + RETRY_DEADLINE_SECONDS:
                raise InputError(f"reading or writing failed {tries} times in {now - failed_at:,.0f} s: {why}") from fault
            count_work("all", {"retries": 1})
            for tell in _retrying:
                tell(f"reading or writing failed, and is tried again in {pause:.1f} s: {why}")
            time.sleep(pause)
            wait = min(2 * wait, LONGEST_RETRY_SECONDS)


def explain_straggler(seconds: float, taken: Sequence[float]) -> str:
    """What is said of a task that has run for so long, where others took these seconds; empty where that is not remarkable."""
    if seconds < STRAGGLER_SECONDS or len(taken) < STRAGGLER_TASKS:
        return ""
    usual = median(taken)
    if seconds < STRAGGLER_TIMES * usual:
        return ""
    return f"the task at work on it has run for {seconds:,.0f} s; half of the tasks of this pass took less than {usual:,.1f} s"


class Stragglers:
    """Tells of each task of a pass that takes far longer than others, once."""

    def __init__(self, tell: Tell) -> None:
        self.taken: list[float] = []
        """Seconds of the tasks that are done."""
        self._tell, self._told = tell, set[int]()

    def look(self, running: Iterable[tuple[int, float, str]]) -> None:
        """`running` are (number of the task, seconds since it began, what it reads)."""
        for number, seconds, about in running:
            if number not in self._told and (sentence := explain_straggler(seconds, self.taken)):
                self._told.add(number)
                self._tell(f"{about}: {sentence}")


def explain_deaths(about: str, reason: str) -> InputError:
    """What is said of a task whose process died `DEATHS_OF_A_TASK` times; `reason` says how and what to do."""
    return InputError(f"{about}: the process at work on it died {DEATHS_OF_A_TASK} times; {reason}")
