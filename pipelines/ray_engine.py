"""Runs passes on a Ray cluster.

A pass over files is a list of tasks, each a number. A task reads and writes files on the store. Only its number goes in and only
its outcome comes out. So Ray's object store stays empty, and the tasks of a lost worker run again. The driver works 6 to 10 ms
for each task; Ray Data keeps the account of them, and no row of the corpus goes through it. Where data does stream, in embedding,
columns of texts go through Ray Data to a pool of actors. Nodes that differ from the driver are refused (`nodes.py`).
What needs no GPU runs on nodes without one, where there are such.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from chameleon_data.errors import DefectError, InputError, explaining, first_line, list_some, say_install
from chameleon_data.pipelines.engine import (
    COUNTERS,
    DEATHS_OF_A_TASK,
    STRAGGLER_TASKS,
    Amount,
    Stragglers,
    Task,
    Tell,
    actors_on,
    call_at_count,
    call_at_retry,
    explain_deaths,
    keep_silent,
    pack_table,
    unpack_table,
    work_patiently,
)
from chameleon_data.pipelines.nodes import Common, common_to_nodes, explain_differences
from chameleon_data.store.store import Store
from chameleon_data.versions.streaming import TableFunction

CONNECT_SECONDS = 10.0
"""How long to wait for a host that does not answer. Ray itself would wait for minutes."""
ANSWER_SECONDS = 180.0
"""How long to wait for every node to say what it runs. A worker process starts in a second, on a busy machine in thirty."""
START_SECONDS = 180.0
"""How long to wait for the processes of a Ray that is started here."""
ASK_SECONDS = 0.5
STRAGGLER_LOOK_SECONDS = 5.0
"""Time between two looks at how long the tasks of a pass have run."""
EXTENSION_TYPES = (
    "ray.data.arrow_tensor", "ray.data.arrow_tensor_v2", "ray.data.arrow_variable_shaped_tensor", "ray.data.arrow_pickled_object",
    "pandas.period", "pandas.interval",
)  # fmt: skip
"""Arrow extension types that `import ray.data` registers. Arrow hands the metadata of such a column to their Python code, and
one environment variable lets Ray unpickle it. No column here has these types, so they are unregistered again."""
OFF_GPU_NODES: dict[str, Any] = {"scheduling_strategy": "DEFAULT"}
"""Where Ray puts work that asks for no GPU: on nodes without one while they have room. Ray Data would spread it over all."""
ANSWER = ("table", "seconds", "error", "defect", "packed")
"""Columns of what an actor answers."""
ADDRESS_ADVICE = "start a cluster with 'ray start --head', correct the address, or run it on this machine with --engine local"
METHODS_WITHOUT_TOKEN = {"": "/ray.rpc.NodeInfoGcsService/CheckAlive", "ray": "/ray.rpc.RayletDriver/ClusterInfo"}
"""Scheme of an address -> a method that a cluster with token authentication refuses to callers without a token."""


@contextmanager
def ray_engine(
    address: str | None = None,
    workers: int | None = None,
    allow_open: bool = False,
    tell: Tell = keep_silent,
    gpu_share: float = 1.0,
) -> Iterator[RayEngine]:
    """The Ray cluster at `address`, or one that is started here with `workers` CPUs; it is left or ended afterwards.

    Ray is started, or the cluster joined, when the engine is first used, so that what is wrong with a recipe is found before.
    Ray listens on all interfaces, even without its dashboard. So a cluster started here answers only to a random token. A
    cluster without token authentication runs any code that is sent to its port, so it is joined only with `allow_open`. Raises
    InputError where no cluster can be started or joined. `tell` is called where a task is tried again. An actor on GPUs takes
    `gpu_share` of one, at most 1.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_task_oom_retries", str(DEATHS_OF_A_TASK - 1))  # else a task that needs too much runs for ever
    if address is None:
        os.environ["RAY_AUTH_MODE"] = "token"  # replaces a mode that was set for another cluster
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    else:
        _refuse_unreachable(address)
        if not allow_open and address != "auto":
            _refuse_open_cluster(address)
    with ExitStack() as stack:
        start = partial(_running_ray, address, workers, allow_open, tell)
        yield RayEngine(lambda: stack.enter_context(start()), tell, address is not None, gpu_share)


@contextmanager
def _running_ray(address: str | None, workers: int | None, allow_open: bool, tell: Tell) -> Iterator[RaysLog]:
    """A cluster that this process has joined, and what Ray has to say meanwhile."""
    tell("starting Ray …" if address is None else f"joining the Ray cluster at {address} …")
    with _quiet_core() as log:
        import ray
        import ray.data

        log.take_over_loggers()  # what they say at ERROR is said here too
        _start(workers, log) if address is None else _join(address, allow_open, log)
        log.take_over_loggers()  # Ray has set them up anew
        _forget_extension_types()
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.op_resource_reservation_enabled = False  # why: docs/decisions/090-ray-data-reservation.md
        context.max_errored_blocks = -1  # a task that is given up is missing in the end, and the others are done
        try:
            yield log
        finally:
            ray.shutdown()


class RaysLog:
    """What Ray's core and its loggers write in this process. The file goes at the end, unless a message has named it."""

    def __init__(self) -> None:
        first, name = tempfile.mkstemp(prefix="chameleon-data-ray-", suffix=".log")
        os.close(first)
        self.path, self._named = Path(name), False
        self.descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)  # as the core and the loggers take turns
        self._handler = logging.FileHandler(self.path, encoding="utf-8")

    def take_over_loggers(self) -> None:
        """From now on Ray's loggers of this process write here alone."""
        for name in ("ray", "ray.data"):
            logger = logging.getLogger(name)
            for handler in list(logger.handlers):
                logger.removeHandler(handler)
            logger.addHandler(self._handler)
            logger.propagate = False

    def name(self) -> str:
        """Where to read what Ray said, for the end of a message; the file stays then. Empty where it said nothing."""
        if not self.path.stat().st_size:
            return ""
        self._named = True
        return f"; what Ray itself said is in {self.path}"

    def end(self) -> None:
        for name in ("ray", "ray.data"):
            logging.getLogger(name).removeHandler(self._handler)
        self._handler.close()
        os.close(self.descriptor)
        if not self._named:
            self.path.unlink(missing_ok=True)


@contextmanager
def _quiet_core() -> Iterator[RaysLog]:
    """Meanwhile Ray's C++ core writes to a file, and its threads in Python to stderr.

    The core writes to descriptor 2 whatever is configured, over the progress; some of it is no error (Ray issue 53727). The
    threads print to stdout, where only the command's answer belongs.
    """
    sys.stderr.flush()
    python, saved, log = sys.stderr, os.dup(2), RaysLog()
    with os.fdopen(saved, "w", buffering=1, encoding=python.encoding, errors=python.errors) as sys.stderr:
        os.dup2(log.descriptor, 2)
        try:
            with redirect_stdout(sys.stderr):
                yield log
        finally:
            os.dup2(saved, 2)
            log.end()
            sys.stderr = python


QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}


def _start(workers: int | None, log: RaysLog) -> None:
    import ray

    try:
        with _keep_sigterm_handler(), _more_time_to_start():
            ray.init(address="local", num_cpus=workers, include_dashboard=False, **QUIET)
    except Exception as error:
        if type(error) not in (Exception, RuntimeError, ConnectionError):  # Ray raises these when a process does not come up
            raise
        raise InputError(
            f"Ray did not start here ({first_line(error)}); try again when the machine is less busy, join a cluster with "
            f"--address, or say --engine local{log.name()}"
        ) from error


def _join(address: str, allow_open: bool, log: RaysLog) -> None:
    import ray

    faults = (ConnectionError, ValueError, RuntimeError)
    with _explaining_address(address, faults, "no Ray cluster can be joined there", log.name), _keep_sigterm_handler():
        ray.init(address=address, **QUIET)
    if address == "auto" and not allow_open:  # only Ray knows the address
        try:
            _refuse_open_cluster(ray.get_runtime_context().gcs_address)
        except InputError:
            ray.shutdown()
            raise


@contextmanager
def _keep_sigterm_handler() -> Iterator[None]:
    """Start or join Ray without its handlers of SIGTERM: those in Python exit with 1, the one in C++ aborts 3 s later.

    `ray.init` has no argument for it. In another thread it would set none, but then Ctrl-C could not end a start that hangs.
    """
    from ray._private import utils

    rays_own, handler = utils.set_sigterm_handler, signal.getsignal(signal.SIGTERM)
    utils.set_sigterm_handler = lambda _: None
    try:
        yield
    finally:
        utils.set_sigterm_handler = rays_own
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


@contextmanager
def _more_time_to_start() -> Iterator[None]:
    """Start Ray with more time for its processes than the 30 s that it gives them, which are too few on a busy machine.

    Those seconds are a number in Ray's code; no argument or variable sets them.
    """
    from ray._private import services

    os.environ.setdefault("RAY_gcs_server_port_wait_time_s", f"{START_SECONDS:.0f}")
    get_node, end = services.get_node, time.monotonic() + START_SECONDS

    def wait_for_node(*where: Any) -> Any:
        while True:
            try:
                return get_node(*where)  # type: ignore[no-untyped-call]
            except RuntimeError:
                if time.monotonic() > end:
                    raise
                time.sleep(ASK_SECONDS)

    services.get_node = wait_for_node
    try:
        yield
    finally:
        services.get_node = get_node


def _forget_extension_types() -> None:
    """Unregister Ray's extension types. Readers then see a hostile column as plain storage with a type name, and refuse it."""
    for name in EXTENSION_TYPES:
        with suppress(pa.ArrowKeyError):
            pa.unregister_extension_type(name)


def _refuse_unreachable(address: str) -> None:
    """Raise InputError unless something listens at HOST:PORT or ray://HOST:PORT. Ray itself finds `auto`."""
    if address == "auto":
        return
    match = re.fullmatch(r"(?:ray://)?\[?([^\s/\[\]@]+?)\]?:([0-9]{1,5})", address)
    if not match:
        if "@" in address:  # a password may stand before it
            address = "…@" + address.rpartition("@")[2]
        raise InputError(f"--address {address}: is not HOST:PORT, ray://HOST:PORT or auto; {ADDRESS_ADVICE}")
    kinds = (OSError, OverflowError, UnicodeError)  # the last two: a port above 65535, a name that is too long
    with _explaining_address(address, kinds, "nothing answers there"):
        socket.create_connection((match[1], int(match[2])), timeout=CONNECT_SECONDS).close()


def _explaining_address(
    address: str, kinds: tuple[type[BaseException], ...], what: str, end: Callable[[], str] = str
) -> AbstractContextManager[None]:
    return explaining(f"--address {address}", {kinds: lambda error: f"{what} ({first_line(error)}); {ADDRESS_ADVICE}{end()}"})


def _refuse_open_cluster(address: str) -> None:
    """Raise InputError for a cluster that answers a caller without a token. With TLS it asks for a certificate instead."""
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        return
    try:
        import grpc
    except ImportError as error:
        raise InputError(f"--address needs grpcio; {say_install('cluster')}") from error
    scheme, _, target = address.rpartition("://")
    with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(METHODS_WITHOUT_TOKEN[scheme])(b"", timeout=CONNECT_SECONDS)
        except grpc.RpcError as refusal:
            code = refusal.code()
            if code == grpc.StatusCode.UNAUTHENTICATED:
                return
            if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise InputError(
                    f"--address {address}: no Ray cluster answers there ({code.name}); {ADDRESS_ADVICE}"
                ) from refusal
    raise InputError(
        f"--address {address}: this cluster asks for no token, so whoever reaches it can run code on it and read what it reads; "
        "start it with RAY_AUTH_MODE=token and RAY_AUTH_TOKEN, or say --open-cluster if its network is closed to others"
    )


def _working_nodes() -> list[dict[str, Any]]:
    """Nodes of the cluster that may get tasks."""
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in nodes if node["Alive"] and {"CPU", "GPU"} & node["Resources"].keys()]


def _name_node(node: Mapping[str, Any]) -> str:
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}, {node['NodeID'][:8]})"


class RayEngine:
    """The cluster that this process has joined; see `Engine`."""

    def __init__(self, start: Callable[[], RaysLog | None], tell: Tell, has_nodes: bool = True, gpu_share: float = 1.0) -> None:
        """`start` starts Ray or joins the cluster. `has_nodes`: it may have other machines than this one."""
        self._start, self._tell, self._has_nodes, self._running = start, tell, has_nodes, False
        self._gpu_share = gpu_share
        self._log: RaysLog | None = None
        self._common: Common | None = None
        """What nodes must have in common with this process; None where nobody asks."""
        self._asked: set[str] = set()
        """Ids of the nodes that were asked and do not differ."""
        self._passes = 0
        """Passes whose tasks say that they run."""
        self._running_tasks: Any = None
        """The actor that knows which tasks run; None before the first pass that needs it."""

    def _resources(self) -> dict[str, float]:
        """What the cluster has; it is started or joined if that was not done yet."""
        if not self._running:
            self._log = self._start()
            self._running = True
        import ray

        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        return resources

    def _name_log(self) -> str:
        return self._log.name() if self._log else ""

    @property
    def cpus(self) -> float:
        return self._resources().get("CPU", 1.0)

    @property
    def gpus(self) -> int:
        return int(self._resources().get("GPU", 0))

    @contextmanager
    def sharing(self, *stores: Store) -> Iterator[None]:
        if not self._has_nodes:
            yield
            return
        with common_to_nodes(stores) as self._common:
            try:
                yield
            finally:
                self._common = None
                self._asked.clear()

    def _ask_nodes(self) -> Callable[[], str]:
        """Raise InputError for the nodes that differ from this process, of those that were not asked yet.

        Returns what workers ask themselves, for nodes that join later.
        """
        import ray
        from ray.exceptions import RayError
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        common = self._common
        if common is None:
            return _make_question(None)
        nodes = {node["NodeID"]: node for node in _working_nodes() if node["NodeID"] not in self._asked}
        find = ray.remote(_make_long_question(common))
        answers = {
            find.options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(): node
            for node in nodes
        }
        answered, silent = ray.wait(list(answers), num_returns=len(answers), timeout=ANSWER_SECONDS) if answers else ([], [])
        found: dict[str, tuple[Sequence[str], Sequence[str]]] = {}
        for answer in answered:
            with suppress(RayError):  # it left the cluster; if not, it is asked again before the next pass, and by its workers
                found[answers[answer]] = ray.get(answer)
        there = {node["NodeID"] for node in _working_nodes()}
        if lost := [_name_node(nodes[answers[answer]]) for answer in silent if answers[answer] in there]:
            raise InputError(
                f"node {list_some(lost)}: no process has started there in {ANSWER_SECONDS:.0f} s, so nobody knows what it would "
                "write; look at its logs (ray status), or take it out of the cluster"
            )
        if message := explain_differences({_name_node(nodes[node]): faults for node, faults in found.items()}):
            raise InputError(message)
        self._asked |= found.keys()
        return _make_question(common)

    def run(self, task: Task, numbers: Sequence[int]) -> Iterator[int]:
        if not numbers:
            return
        self._resources()
        import ray
        import ray.data

        pass_, differs = ray.put((task.work, np.array(numbers, np.int64))), self._ask_nodes()
        running = self._know_running_tasks(len(numbers))

        def do(table: pa.Table) -> pa.Table:
            if fault := differs():
                told = pa.array([[]], pa.list_(pa.string()))
                return pa.table({"number": [-1], "seconds": [0.0], "error": [fault], "defect": [""], "told": told})
            from chameleon_data.pipelines.ray_engine import _do_number  # by name: a node with other code gets no further

            return _do_number(pass_, running, table)

        data = ray.data.range(len(numbers), override_num_blocks=len(numbers))  # not blocks in the object store
        with warnings.catch_warnings():  # for a task that kills its process, Ray Data has no other way than this older one
            warnings.simplefilter("ignore", DeprecationWarning)
            how: dict[str, Any] = {"memory": task.memory, "max_retries": DEATHS_OF_A_TASK - 1, **OFF_GPU_NODES}
            outcomes = data.map_batches(do, batch_size=None, batch_format="pyarrow", **how)
        missing, stragglers = set(numbers), Stragglers(self._tell)
        with _looking(running, task.about, stragglers):
            for row in outcomes.iter_rows():
                for sentence in row["told"]:
                    self._tell(f"{task.about(row['number'])}: {sentence}")
                _raise_fault(row["error"], row["defect"])
                missing.remove(row["number"])
                stragglers.taken.append(row["seconds"])
                yield row["number"]
        if missing:
            advice = "if memory ran out, give its nodes more, or fewer CPUs; or leave that file out"
            raise explain_deaths(task.about(min(missing)), advice + self._name_log())

    def _know_running_tasks(self, tasks: int) -> RunningPass | None:
        """Whom the tasks of a new pass tell that they run: an actor, which takes the memory of a process and no CPU.

        None where they are few, and on a Ray that was started here: its start is some 4 s of a small build on one machine.
        """
        import ray

        if not self._has_nodes or tasks <= STRAGGLER_TASKS:
            return None
        if self._running_tasks is None:
            how: dict[str, Any] = {"num_cpus": 0, "max_restarts": -1, **OFF_GPU_NODES}
            self._running_tasks = ray.remote(RunningTasks).options(**how).remote()
        self._passes += 1
        return RunningPass(self._running_tasks, self._passes)

    def stream(self, make: Callable[[], TableFunction], tables: Sequence[pa.Table], on_gpus: bool = False) -> Iterator[pa.Table]:
        if not tables:
            return
        self._resources()
        import ray
        import ray.data

        # At most half of the CPUs: a pool that takes every one leaves none to feed it, and the job waits for ever.
        if on_gpus:
            room = actors_on(self.gpus, self._gpu_share)
            pool: dict[str, Any] = {"num_gpus": self._gpu_share, "num_cpus": min(0.5, self.cpus / 2 / room)}
            pool["concurrency"] = (1, min(room, len(tables)))
        else:
            pool = {"num_cpus": 0.5, "concurrency": min(max(1, int(self.cpus)), len(tables))}

        made, differs = ray.put(make), self._ask_nodes()
        running = self._know_running_tasks(len(tables))

        class Actor:
            """Ray Data makes one in each process, so that a model is loaded once."""

            def __init__(self) -> None:
                self._fault, self._function = differs(), None
                if not self._fault:
                    from chameleon_data.pipelines.ray_engine import count_on_ray  # by name, as in `run`

                    count_on_ray()
                    self._function = ray.get(made)()

            def __call__(self, row: pa.Table) -> pa.Table:
                error, defect, answer, began = self._fault, "", None, time.monotonic()
                if running:
                    running.begin(row["table"][0].as_py())
                try:
                    if self._function:
                        from chameleon_data.pipelines.engine import pack_table, unpack_table  # by name, as in `run`

                        answer = pack_table(self._function(unpack_table(row["packed"][0].as_buffer()))).to_pybytes()
                except InputError as wrong:
                    error = str(wrong)
                except Exception:  # noqa: BLE001 - Ray Data would leave it out
                    defect = traceback.format_exc()
                if running:
                    running.end(row["table"][0].as_py())
                packed, seconds = pa.array([answer], pa.large_binary()), [time.monotonic() - began]
                outcome = {"table": row["table"], "seconds": seconds, "error": [error], "defect": [defect]}
                return pa.table({**outcome, "packed": packed})

        # Each table is one row, as Ray Data would join small tables for an actor that has a GPU.
        packed = (pa.array([pack_table(table).to_pybytes()], pa.large_binary()) for table in tables)
        rows = ray.data.from_arrow([pa.table({"table": [at], "packed": column}) for at, column in enumerate(packed)])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # as in `run`
            answers = rows.map_batches(Actor, batch_size=1, batch_format="pyarrow", **pool, **OFF_GPU_NODES)
        missing, stragglers = set(range(len(tables))), Stragglers(self._tell)
        batches: Iterator[Any] = iter(answers.iter_batches(batch_size=None, batch_format="pyarrow"))
        with _looking(running, lambda _: f"one of {len(tables):,} tables", stragglers):
            for batch in batches:
                for number, seconds, error, defect, answer in zip(*(batch[name] for name in ANSWER), strict=True):
                    _raise_fault(error.as_py(), defect.as_py())
                    missing.discard(number.as_py())
                    stragglers.taken.append(seconds.as_py())
                    yield unpack_table(answer.as_buffer())
        if missing:
            about = f"{len(missing):,} of {len(tables):,} tables"
            raise explain_deaths(about, f"if memory ran out, give its nodes more{self._name_log()}")


class RunningTasks:
    """Knows which tasks of a pass run, since when and at which file. Ray tells a driver nothing of a task before its end.

    It lives in a process of its own on the cluster. Cost: two messages a task and one a file that is opened.
    """

    def __init__(self) -> None:
        self._pass = 0
        """The newest pass that was heard of. What is said of an earlier one comes late and counts for nothing."""
        self._running: dict[int, tuple[float, str]] = {}
        """Number -> when it began, by this process' clock; the file that it opened last."""

    def begin(self, pass_: int, number: int) -> None:
        if pass_ > self._pass:
            self._pass, self._running = pass_, {}
        if pass_ == self._pass:
            self._running[number] = (time.monotonic(), "")

    def open(self, pass_: int, number: int, url: str) -> None:
        if pass_ == self._pass and number in self._running:
            self._running[number] = (self._running[number][0], url)

    def end(self, pass_: int, number: int) -> None:
        if pass_ == self._pass:
            self._running.pop(number, None)

    def find(self, pass_: int) -> list[tuple[int, float, str]]:
        """(number, seconds since it began, the file that it opened last) of each."""
        running, now = self._running if pass_ == self._pass else {}, time.monotonic()
        return [(number, now - began, reading) for number, (began, reading) in running.items()]


@dataclass(frozen=True)
class RunningPass:
    """One pass, as its tasks tell of themselves. Messages of different processes come in any order, so each names its pass."""

    actor: Any
    """Refers to RunningTasks."""
    number: int

    def begin(self, task: int) -> None:
        self.actor.begin.remote(self.number, task)

    def open(self, task: int, url: str) -> None:
        self.actor.open.remote(self.number, task, url)

    def end(self, task: int) -> None:
        self.actor.end.remote(self.number, task)

    def find(self) -> list[tuple[int, float, str]]:
        """As RunningTasks says them. Raises RayError where it has no answer within a second."""
        import ray

        found: list[tuple[int, float, str]] = ray.get(self.actor.find.remote(self.number), timeout=1.0)
        return found


@contextmanager
def _looking(running: RunningPass | None, about: Callable[[int], str], stragglers: Stragglers) -> Iterator[None]:
    """Meanwhile a thread tells of stragglers; where `running` is None, nobody looks. `about` says what a task reads."""
    if running is None:
        yield
        return
    from ray.exceptions import RayError

    ended = threading.Event()

    def look() -> None:
        while not ended.wait(STRAGGLER_LOOK_SECONDS):
            with suppress(RayError):  # its node is gone, or it has no answer yet; Ray starts it again
                stragglers.look((number, seconds, reading or about(number)) for number, seconds, reading in running.find())

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _do_number(pass_: Any, running: RunningPass | None, table: pa.Table) -> pa.Table:
    """Do the work of the number that stands at a place in the list of a pass. `pass_` refers to (work, numbers); `running` is
    told that it runs."""
    from chameleon_data.corpus.fragments import call_at_opening

    work, numbers = _fetch(pass_)
    number, error, defect, told = int(numbers[table["id"][0].as_py()]), "", "", list[str]()
    _forget_extension_types()
    call_at_retry(told.append)
    count_on_ray()
    if running:
        running.begin(number)
    call_at_opening(partial(running.open, number) if running else lambda url: None)
    began = time.monotonic()
    try:
        work_patiently(work, number)
    except InputError as wrong:
        error = str(wrong)
    except Exception:  # noqa: BLE001 - Ray Data would leave it out
        defect = traceback.format_exc()
    finally:
        if running:
            running.end(number)
    outcome = {"number": [number], "seconds": [time.monotonic() - began], "error": [error], "defect": [defect]}
    return pa.table({**outcome, "told": pa.array([told], pa.list_(pa.string()))})


def counter_name(amount: Amount) -> str:
    """Name of a counter, as Ray knows it. Prometheus sees `ray_` before it, and `_total` behind it."""
    return f"chameleon_data_{amount}"


@lru_cache(maxsize=1)
def _counters() -> dict[Amount, Any]:
    """Amount -> Ray's counter of this process."""
    from ray.util.metrics import Counter

    return {amount: Counter(counter_name(amount), about, tag_keys=("pass",)) for amount, about in COUNTERS.items()}


def count_on_ray() -> None:
    """From now on put what tasks of this process count on Ray's counters."""
    call_at_count(_count)


def _count(name: str, amount: Amount, number: int) -> None:
    _counters()[amount].inc(number, {"pass": name})


def _make_question(common: Common | None) -> Callable[[], str]:
    """What a worker asks itself before it works: how its node differs from the driver, as a message; empty where it does not.

    It is sent by value, with plain values alone, as the node may have any version of this code.
    """
    versions, folders = (common.versions, common.folders) if common else ((), ())

    def differs() -> str:
        if not versions:
            return ""
        try:
            from chameleon_data.pipelines.nodes import Common, find_own_differences
        except ImportError as error:
            fault = f"this code is missing or another one ({error}); send it along with jobs/cluster/submit"
        else:
            fault = find_own_differences(Common(versions, folders))
        import socket

        import ray

        return fault and f"node {socket.gethostname()} ({ray.util.get_node_ip_address()}): {fault}"  # type: ignore[no-untyped-call]

    return differs


def _make_long_question(common: Common) -> Callable[[], tuple[list[str], list[str]]]:
    """The same for a task that does nothing else: what of the versions and of the folders differs."""
    versions, folders = common.versions, common.folders

    def find() -> tuple[list[str], list[str]]:
        try:
            from chameleon_data.pipelines.nodes import Common, find_differences
        except ImportError as error:
            return [f"this code is missing or another one ({error})"], []
        return find_differences(Common(versions, folders))

    return find


@lru_cache(maxsize=1)
def _fetch(reference: Any) -> Any:
    """What a reference refers to, fetched once in each process."""
    import ray

    return ray.get(reference)


def _raise_fault(error: str, defect: str) -> None:
    if error:
        raise InputError(error)
    if defect:
        raise DefectError(f"a task failed on the cluster\n{defect}")
