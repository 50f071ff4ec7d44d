"""The embedded engine: passes run in worker processes of this machine, with no server and no port.

Workers are up in a second, and stay until the command ends. Each has one thread, since every processor has a worker. A worker
that dies is replaced, and its task runs again when no other one does; a task that costs three workers is given up. When all
processes together need more memory than they may, the largest worker is ended, which is such a death.
Why: docs/decisions/102-embedded-engine.md.
"""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any, cast

import pyarrow as pa

from chameleon_data.errors import DefectError, InputError
from chameleon_data.pipelines.engine import (
    DEATHS_OF_A_TASK,
    Stragglers,
    Task,
    Tell,
    actors_on,
    explain_deaths,
    keep_silent,
    pack_table,
    unpack_table,
    work_patiently,
)
from chameleon_data.pipelines.machine import private_memory, usable_gpus
from chameleon_data.pipelines.worker_process import end_ahead, memory_of_all, number_of_workers, start_worker, worker_environment
from chameleon_data.store.store import Store
from chameleon_data.versions.streaming import TableFunction

LOOK_SECONDS = 0.1
"""Time between two looks at how much memory the workers hold."""


@contextmanager
def local_engine(
    workers: int | None = None, memory: int | None = None, tell: Tell = keep_silent, gpu_share: float = 1.0
) -> Iterator[LocalEngine]:
    """The engine with so many workers, one a processor by default, which may hold `memory` bytes together with this process.

    `tell` is called where a task is tried again. An actor on GPUs takes `gpu_share` of one, at most 1.
    """
    engine = LocalEngine(workers, memory, tell, gpu_share)
    try:
        yield engine
    finally:
        engine.end()


@dataclass
class _Call:
    """One argument on its way through the workers."""

    number: int
    argument: Any
    deaths: int = 0
    reading: str = ""
    """The file that it opened last."""
    too_large: bool = False
    """Whether its last worker was ended because memory ran short."""
    started: float = 0.0
    """When it was given to its last worker, by this process' clock."""


class _Worker:
    """A process, which is started again when it has ended; and the call it is at."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self.call: _Call | None = None
        self.making = False
        """Whether it makes the function that its call is for, which may load a model."""
        self._spawn()

    def _spawn(self) -> None:
        self._started = start_worker(self._environment)
        self.process, self.connection = self._started.process, self._started.connection
        self._made: object = None
        """What it was last told to make."""

    def start(self, make: Callable[[], Callable[[Any], Any]], call: _Call) -> None:
        """Give it a call. Where the process has died, its connection ends, as it does in the middle of a call."""
        if self.process.poll() is not None:
            self.end()
            self._spawn()
        self.call, call.too_large, call.started = call, False, time.monotonic()
        with suppress(OSError):
            if self._made is not make:
                self.connection.send(("make", make))
                self._made, self.making = make, True
            self.connection.send(("call", call.argument))

    def end(self) -> str:
        """End the process, and return the last line that it wrote, which may say why it died."""
        self.call = None
        return self._started.end()


class LocalEngine:
    """Workers of this machine; see `Engine`."""

    def __init__(
        self, workers: int | None = None, memory: int | None = None, tell: Tell = keep_silent, gpu_share: float = 1.0
    ) -> None:
        self._tell, self._gpu_share = tell, gpu_share
        self.memory = memory_of_all(memory)
        self.cpus: float = workers or number_of_workers(self.memory)
        self._gpus = usable_gpus()
        self.gpus = len(self._gpus)
        self._environment = worker_environment()
        self._workers = list[_Worker]()
        try:
            while len(self._workers) < self.cpus:
                self._workers.append(_Worker(self._environment))
        except OSError as error:
            self.end()
            raise InputError(
                f"{len(self._workers):,} of {self.cpus:,} worker processes could be started ({error.strerror}); ask for fewer "
                "with --workers, or allow more (ulimit -u)"
            ) from error
        finally:
            end_ahead()

    def end(self) -> None:
        """End every worker, whatever it is at."""
        for worker in self._workers:
            worker.end()

    def sharing(self, *stores: Store) -> AbstractContextManager[object]:
        return nullcontext()  # all workers are of this machine, and run what it runs

    def run(self, task: Task, numbers: Sequence[int]) -> Iterator[int]:
        make = partial(_give, partial(work_patiently, task.work))
        for at, _ in self._map(self._workers, make, numbers, lambda at: task.about(numbers[at])):
            yield numbers[at]

    def stream(self, make: Callable[[], TableFunction], tables: Sequence[pa.Table], on_gpus: bool = False) -> Iterator[pa.Table]:
        workers = self._workers
        if on_gpus:
            devices = (self._gpus * actors_on(1, self._gpu_share))[: len(tables)]
            threads = max(1, int(self.cpus) // len(devices))  # they tokenise while the GPU computes
            beside = {"RAYON_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false"}
            workers = [_Worker({**self._environment, **beside, "CUDA_VISIBLE_DEVICES": device}) for device in devices]
        try:
            packed, about = map(pack_table, tables), f"one of {len(tables):,} tables"
            for _, answer in self._map(workers, partial(_make_packed, make), packed, lambda _: about):
                yield unpack_table(answer)
        finally:
            if workers is not self._workers:
                for worker in workers:
                    worker.end()

    def _map(
        self,
        workers: Sequence[_Worker],
        make: Callable[[], Callable[[Any], Any]],
        arguments: Iterable[Any],
        about: Callable[[int], str],
    ) -> Iterator[tuple[int, Any]]:
        """(number of an argument, what the function that `make` makes returns for it), in any order.

        `about` says what the call with an argument reads.
        """
        waiting = (_Call(number, argument) for number, argument in enumerate(arguments))
        again = deque[_Call]()
        """Calls whose worker died; each is made when no other one is."""
        stragglers = Stragglers(self._tell)
        try:
            while True:
                _hand_out(workers, make, waiting, again)
                busy = {worker.connection: worker for worker in workers if worker.call}
                if not busy:
                    return
                for connection in wait(list(busy), LOOK_SECONDS):
                    worker = busy[cast(Connection, connection)]
                    call = cast(_Call, worker.call)
                    try:
                        kind, body = worker.connection.recv()
                    except (EOFError, OSError):
                        self._bury(worker, call, about)
                        again.append(call)
                        continue
                    if kind == "made":
                        worker.making, call.started = False, time.monotonic()
                        continue
                    if kind == "reading":
                        call.reading = body
                        continue
                    if kind == "told":
                        self._tell(f"{call.reading or about(call.number)}: {body}")
                        continue
                    worker.call = None
                    stragglers.taken.append(time.monotonic() - call.started)
                    if kind == "refused":
                        raise InputError(body)
                    if kind == "failed":
                        raise DefectError(f"a task failed in a worker process\n{body}")
                    yield call.number, body
                self._relieve(workers)
                calls, now = [worker.call for worker in workers if worker.call and not worker.making], time.monotonic()
                stragglers.look((call.number, now - call.started, call.reading or about(call.number)) for call in calls)
        finally:
            for worker in workers:
                if worker.call:
                    worker.end()

    def _bury(self, worker: _Worker, call: _Call, about: Callable[[int], str]) -> None:
        """Count the death of a worker. Raises InputError where its call has cost enough of them."""
        last_line = worker.end()
        call.deaths += 1
        if call.deaths < DEATHS_OF_A_TASK:
            why = "was ended, as memory ran short" if call.too_large else "died"
            self._tell(f"{call.reading or about(call.number)}: the process at work on it {why}; it is tried again")
            return
        code = worker.process.returncode
        if call.too_large:
            reason = (
                f"with no other task beside it, more than {self.memory / 1e9:.1f} GB of memory were needed; "
                "raise --memory, use a larger machine, or leave that file out"
            )
        elif code < 0:
            reason = f"{signal.Signals(-code).name} ended it; "
            reason += "if memory ran out, use a larger machine, or leave that file out" if code == -signal.SIGKILL else last_line
        else:
            reason = f"it ended with code {code}; {last_line}"
        raise explain_deaths(call.reading or about(call.number), reason)

    def _relieve(self, workers: Sequence[_Worker]) -> None:
        """End the largest worker where all processes together hold too much."""
        held = {worker.process.pid: private_memory(worker.process.pid) for worker in {*workers, *self._workers}}
        if sum(held.values()) + private_memory(os.getpid()) <= self.memory:
            return
        busy = [worker for worker in workers if worker.call]
        largest = max(busy, key=lambda worker: held[worker.process.pid], default=None)
        if largest is not None and largest.call:
            largest.call.too_large = True
            largest.process.kill()


def _hand_out(
    workers: Sequence[_Worker], make: Callable[[], Callable[[Any], Any]], waiting: Iterator[_Call], again: deque[_Call]
) -> None:
    """Give idle workers their next calls."""
    idle = [worker for worker in workers if not worker.call]
    if again:
        if len(idle) == len(workers):
            idle[0].start(make, again.popleft())
        return
    for worker, call in zip(idle, waiting, strict=False):
        worker.start(make, call)


def _give(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The function itself, for whoever asks for one that makes it."""
    return function


def _make_packed(make: Callable[[], TableFunction]) -> Callable[[pa.Buffer], pa.Buffer]:
    function = make()
    return lambda stream: pack_table(function(unpack_table(stream)))
