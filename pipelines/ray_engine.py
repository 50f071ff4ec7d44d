"""Runs passes on a Ray cluster, through Ray Data.

A pass over files is a column of task numbers, one block for each task. A task reads and writes files on the store. Only its
number goes in and only its outcome comes out. So Ray's object store stays empty, and the tasks of a lost worker run again. The
driver works 6 to 10 ms for each task. Columns of texts stream to a pool of actors that embed them.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import signal
import socket
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, redirect_stdout, suppress
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa

from chameleon_data.errors import DefectError, InputError, explaining, first_line
from chameleon_data.pipelines.engine import (
    DEATHS_OF_A_TASK,
    TableFunction,
    Task,
    Tell,
    call_at_retry,
    explain_deaths,
    keep_silent,
    work_patiently,
)

CONNECT_SECONDS = 10.0
"""How long to wait for a host that does not answer. Ray itself would wait for minutes."""
START_SECONDS = 180.0
"""How long to wait for the processes of a Ray that is started here."""
ASK_SECONDS = 0.5
EXTENSION_TYPES = (
    "ray.data.arrow_tensor", "ray.data.arrow_tensor_v2", "ray.data.arrow_variable_shaped_tensor", "ray.data.arrow_pickled_object",
    "pandas.period", "pandas.interval",
)  # fmt: skip
"""Arrow extension types that `import ray.data` registers. Arrow hands the metadata of such a column to their Python code, and
one environment variable lets Ray unpickle it. No column here has these types, so they are unregistered again."""
TASK_BYTES = 640 * 2**20
"""Memory that a task asks for. Where a node has less for each of its processors, fewer tasks run on it at a time."""
ADDRESS_ADVICE = "start a cluster with 'ray start --head', correct the address, or run it on this machine with --engine local"
METHODS_WITHOUT_TOKEN = {"": "/ray.rpc.NodeInfoGcsService/CheckAlive", "ray": "/ray.rpc.RayletDriver/ClusterInfo"}
"""Scheme of an address -> a method that a cluster with token authentication refuses to callers without a token."""


@contextmanager
def ray_engine(
    address: str | None = None, workers: int | None = None, allow_open: bool = False, tell: Tell = keep_silent
) -> Iterator[RayEngine]:
    """The Ray cluster at `address`, or one that is started here with `workers` CPUs; it is left or ended afterwards.

    Ray is started, or the cluster joined, when the engine is first used, so that what is wrong with a recipe is found before.
    Ray listens on all interfaces, even without its dashboard. So a cluster started here answers only to a random token. A
    cluster without token authentication runs any code that is sent to its port, so it is joined only with `allow_open`. Raises
    InputError where no cluster can be started or joined. `tell` is called where a task is tried again.
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
        yield RayEngine(lambda: stack.enter_context(_running_ray(address, workers, allow_open, tell)), tell)


@contextmanager
def _running_ray(address: str | None, workers: int | None, allow_open: bool, tell: Tell) -> Iterator[None]:
    tell("starting Ray …" if address is None else f"joining the Ray cluster at {address} …")
    with _quiet_core():
        import ray
        import ray.data

        for name in ("ray", "ray.data"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what it says at ERROR is said here too
        _start(workers) if address is None else _join(address, allow_open)
        _forget_extension_types()
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.op_resource_reservation_enabled = False  # why: docs/decisions/090-ray-data-reservation.md
        context.max_errored_blocks = -1  # a task that is given up is missing in the end, and the others are done
        try:
            yield
        finally:
            ray.shutdown()


@contextmanager
def _quiet_core() -> Iterator[None]:
    """Meanwhile Ray's C++ core writes to its logs alone, and its threads in Python to stderr.

    The core writes to descriptor 2 whatever is configured, over the progress; some of it is no error (Ray issue 53727). The
    threads print to stdout, where only the command's answer belongs.
    """
    sys.stderr.flush()
    python, saved, nowhere = sys.stderr, os.dup(2), os.open(os.devnull, os.O_WRONLY)
    with os.fdopen(saved, "w", buffering=1, encoding=python.encoding, errors=python.errors) as sys.stderr:
        os.dup2(nowhere, 2)
        try:
            with redirect_stdout(sys.stderr):
                yield
        finally:
            os.dup2(saved, 2)
            os.close(nowhere)
            sys.stderr = python


QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}


def _start(workers: int | None) -> None:
    import ray

    try:
        with _keep_sigterm_handler(), _more_time_to_start():
            ray.init(address="local", num_cpus=workers, include_dashboard=False, **QUIET)
    except Exception as error:
        if type(error) not in (Exception, RuntimeError, ConnectionError):  # Ray raises these when a process does not come up
            raise
        raise InputError(
            f"Ray did not start here ({first_line(error)}); try again when the machine is less busy, join a cluster with "
            "--address, or say --engine local"
        ) from error


def _join(address: str, allow_open: bool) -> None:
    import ray

    faults = (ConnectionError, ValueError, RuntimeError)
    with _explaining_address(address, faults, "no Ray cluster can be joined there"), _keep_sigterm_handler():
        ray.init(address=address, **QUIET)
    if address == "auto" and not allow_open:  # only Ray knows the address
        try:
            _refuse_open_cluster(ray.get_runtime_context().gcs_address)
        except InputError:
            ray.shutdown()
            raise


@contextmanager
def _keep_sigterm_handler() -> Iterator[None]:
    """Start or join Ray without its handlers of SIGTERM: those in Python exit with 1, the one in C++ aborts 3 s later."""
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
    """Start Ray with more time for its processes than the 30 s that it gives them, which are too few on a busy machine."""
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


def _explaining_address(address: str, kinds: tuple[type[BaseException], ...], what: str) -> AbstractContextManager[None]:
    return explaining(f"--address {address}", {kinds: lambda error: f"{what} ({first_line(error)}); {ADDRESS_ADVICE}"})


def _refuse_open_cluster(address: str) -> None:
    """Raise InputError for a cluster that answers a caller without a token. With TLS it asks for a certificate instead."""
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        return
    try:
        import grpc
    except ImportError as error:
        raise InputError("--address needs grpcio; install 'chameleon-data[cluster]'") from error
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


class RayEngine:
    """The cluster that this process has joined; see `Engine`."""

    def __init__(self, start: Callable[[], object], tell: Tell) -> None:
        """`start` starts Ray or joins the cluster."""
        self._start, self._tell, self._running = start, tell, False

    def _resources(self) -> dict[str, float]:
        """What the cluster has; it is started or joined if that was not done yet."""
        if not self._running:
            self._start()
            self._running = True
        import ray

        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        return resources

    @property
    def cpus(self) -> float:
        return self._resources().get("CPU", 1.0)

    @property
    def gpus(self) -> int:
        return int(self._resources().get("GPU", 0))

    def run(self, task: Task, numbers: Sequence[int]) -> Iterator[int]:
        if not numbers:
            return
        self._resources()
        import ray
        import ray.data

        do = partial(_do_number, ray.put((task.work, np.array(numbers, np.int64))))
        data = ray.data.range(len(numbers), override_num_blocks=len(numbers))  # not blocks in the object store
        with warnings.catch_warnings():  # for a task that kills its process, Ray Data has no other way than this older one
            warnings.simplefilter("ignore", DeprecationWarning)
            how: dict[str, Any] = {"memory": TASK_BYTES, "max_retries": DEATHS_OF_A_TASK - 1}
            outcomes = data.map_batches(do, batch_size=None, batch_format="pyarrow", **how)
        missing = set(numbers)
        for row in outcomes.iter_rows():
            for sentence in row["told"]:
                self._tell(f"{task.about(row['number'])}: {sentence}")
            _raise_fault(row["error"], row["defect"])
            missing.remove(row["number"])
            yield row["number"]
        if missing:
            advice = "if memory ran out, give its nodes more, or fewer CPUs; or leave that file out"
            raise explain_deaths(task.about(min(missing)), advice)

    def stream(self, make: Callable[[], TableFunction], tables: Sequence[pa.Table]) -> Iterator[pa.Table]:
        if not tables:
            return
        self._resources()
        import ray.data

        if self.gpus:
            pool: dict[str, Any] = {"num_gpus": 1, "concurrency": (1, min(self.gpus, len(tables)))}
        else:  # half a CPU each, since a pool that takes every CPU leaves none to feed it, and the job waits for ever
            pool = {"num_cpus": 0.5, "concurrency": min(max(1, int(self.cpus)), len(tables))}

        class Actor:
            """Ray Data makes one in each process, so that a model is loaded once."""

            def __init__(self) -> None:
                self._function = make()

            def __call__(self, table: pa.Table) -> pa.Table:
                number, error, defect = table["table"][0].as_py(), "", ""
                answer = pa.table({"nothing": [None]})
                try:
                    answer = self._function(table.drop_columns(["table"]))
                except InputError as wrong:
                    error = str(wrong)
                except Exception:  # noqa: BLE001 - Ray Data would leave it out
                    defect = traceback.format_exc()
                for name, value in (("table", number), ("error", error), ("defect", defect)):
                    answer = answer.append_column(name, pa.array([value] * len(answer)))
                return answer

        numbered = [table.append_column("table", pa.array([at] * len(table))) for at, table in enumerate(tables)]
        answers = ray.data.from_arrow(numbered).map_batches(Actor, batch_size=None, batch_format="pyarrow", **pool)
        missing = set(range(len(tables)))
        batches: Iterator[Any] = iter(answers.iter_batches(batch_size=None, batch_format="pyarrow"))
        for answer in batches:
            _raise_fault(answer["error"][0].as_py(), answer["defect"][0].as_py())
            missing.discard(answer["table"][0].as_py())
            yield answer.drop_columns(["table", "error", "defect"])
        if missing:
            about = f"{len(missing):,} of {len(tables):,} tables"
            raise explain_deaths(about, "if memory ran out, give its nodes more; the logs of the cluster may say why")


def _do_number(pass_: Any, table: pa.Table) -> pa.Table:
    """Do the work of the number that stands at a place in the list of a pass. `pass_` refers to (work, numbers)."""
    work, numbers = _fetch(pass_)
    number, error, defect, told = int(numbers[table["id"][0].as_py()]), "", "", list[str]()
    _forget_extension_types()
    call_at_retry(told.append)
    try:
        work_patiently(work, number)
    except InputError as wrong:
        error = str(wrong)
    except Exception:  # noqa: BLE001 - Ray Data would leave it out
        defect = traceback.format_exc()
    return pa.table({"number": [number], "error": [error], "defect": [defect], "told": pa.array([told], pa.list_(pa.string()))})


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
