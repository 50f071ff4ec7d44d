"""Starts or joins a Ray cluster, and runs a pass on it.

A pass is a list of task numbers, streamed through Ray Data as one block for each task. A task reads and writes files on the
store. Only its number goes in and only its outcome comes out. So Ray's object store stays empty, the tasks of a lost worker
run again, and nothing is pickled but functions. The driver works 6 to 10 ms for each task.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from chameleon_data.errors import InputError, explain_os_error, explaining, first_line

Progress = Callable[[str, int, int], None]
"""Called with (pass, units done, units in all)."""
RETRY_SECONDS = (1.0, 5.0)
"""Waits before the second and the third try of a task whose reading or writing failed."""
CONNECT_SECONDS = 10.0
"""How long to wait for a host that does not answer. Ray itself would wait for minutes."""
EXTENSION_TYPES = (
    "ray.data.arrow_tensor", "ray.data.arrow_tensor_v2", "ray.data.arrow_variable_shaped_tensor", "ray.data.arrow_pickled_object",
    "pandas.period", "pandas.interval",
)  # fmt: skip
"""Arrow extension types that `import ray.data` registers. Arrow hands the metadata of such a column to their Python code, and
one environment variable lets Ray unpickle it. No column here has these types, so they are unregistered again."""
VITAL_PROCESSES = ("raylet", "gcs_server")
"""A local cluster is dead when one of these processes ends."""
RAYLET_AGENTS = {
    "dashboard agent": (b"ray::DashboardAgent", b"dashboard/agent.py"),
    "runtime env agent": (b"ray::RuntimeEnvAgent", b"runtime_env/agent/main.py"),
}
"""Children of the raylet; it ends when one of them ends. Name -> command line once the agent is up, and while it starts."""
IDLE_PROCESSES = ("monitor", "log_monitor", "dashboard")
"""Processes that do nothing for a build: the autoscaler of a cluster that cannot grow, a log reader without a reader, a
dashboard that is off. Ray waits a second for the first of them when it shuts down."""
ADDRESS_ADVICE = "start a cluster with 'ray start --head', correct the address, or leave --address out"
METHODS_WITHOUT_TOKEN = {"": "/ray.rpc.NodeInfoGcsService/CheckAlive", "ray": "/ray.rpc.RayletDriver/ClusterInfo"}
"""Scheme of an address -> a method that a cluster with token authentication refuses to callers without a token."""


@contextmanager
def cluster(address: str | None = None, workers: int | None = None, allow_open: bool = False) -> Iterator[None]:
    """Join the Ray cluster at `address`, or start one here with `workers` CPUs; leave or end it afterwards.

    Ray listens on all interfaces, even without its dashboard. So a cluster started here answers only to a random token. A
    cluster without token authentication runs any code that is sent to its port, so it is joined only with `allow_open`. Raises
    InputError where no cluster can be started or joined.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address is not None:
        _refuse_unreachable(address)
        if not allow_open and address != "auto":
            _refuse_open_cluster(address)
    else:
        os.environ["RAY_AUTH_MODE"] = "token"  # replaces a mode that was set for another cluster
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    with _silence_native_output():
        yield from _connected(address, workers, allow_open)


def _connected(address: str | None, workers: int | None, allow_open: bool) -> Iterator[None]:
    import ray
    import ray.data

    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        try:
            with _keep_sigterm_handler():
                ray.init(address="local", num_cpus=workers, include_dashboard=False, **quiet)
        except Exception as error:
            if type(error) not in (Exception, RuntimeError, ConnectionError):  # Ray raises these when a process does not come up
                raise
            raise InputError(
                f"Ray did not start here ({first_line(error)}); try again when the machine is less busy, "
                "or join a cluster with --address"
            ) from error
    else:
        faults = (ConnectionError, ValueError, RuntimeError)
        with _explaining_address(address, faults, "no Ray cluster can be joined there"), _keep_sigterm_handler():
            ray.init(address=address, **quiet)
    if address == "auto" and not allow_open:  # only Ray knows the address
        try:
            _refuse_open_cluster(ray.get_runtime_context().gcs_address)
        except InputError:
            ray.shutdown()
            raise
    if address is None:
        _end_idle_processes()
    _forget_extension_types()
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    try:
        with _watch_processes() if address is None else nullcontext():
            yield
    finally:
        ray.shutdown()


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


def cluster_cpus() -> float:
    """CPUs of the cluster in use, 1 where it names none."""
    return _cluster_resources().get("CPU", 1.0)


def cluster_gpus() -> int:
    """GPUs of the cluster in use."""
    return int(_cluster_resources().get("GPU", 0))


def _cluster_resources() -> dict[str, float]:
    import ray

    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources


def _local_processes() -> dict[str, list[Any]]:
    """Kind -> processes of the cluster that was started here."""
    import ray

    node: Any = ray._private.worker._global_node
    return node.all_processes if node else {}


def _end_idle_processes() -> None:
    processes = _local_processes()
    for kind in IDLE_PROCESSES:
        for entry in processes.get(kind, ()):
            entry.process.kill()
            entry.process.wait()


@contextmanager
def _watch_processes() -> Iterator[None]:
    """Meanwhile the death of a process that the local cluster needs raises an InputError, in a thread of its own.

    Otherwise Ray's core would end this process with exit code 1 and no message, 15 s after the raylet's death and a minute after
    that of the GCS. The agents are watched too: the death of one ends its raylet, which says goodbye before it exits, so the
    core can end this process before the raylet is gone.
    """
    processes = _local_processes()
    if not processes or not hasattr(os, "pidfd_open"):  # Linux alone has pidfd_open
        yield
        return
    pids = {entry.process.pid: kind for kind in VITAL_PROCESSES for entry in processes.get(kind, ())}
    for raylet in [pid for pid, kind in pids.items() if kind == "raylet"]:
        pids |= _find_agents(raylet)
    watched = {os.pidfd_open(pid): kind for pid, kind in pids.items()}
    poll, stop = select.poll(), os.eventfd(0)
    for descriptor in (stop, *watched):
        poll.register(descriptor, select.POLLIN)

    def watch() -> None:
        died = [watched[descriptor] for descriptor, _ in poll.poll() if descriptor != stop]
        if died:
            raise InputError(f"Ray's {died[0]} died here, so the build cannot go on; the same command goes on from here")

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        os.eventfd_write(stop, 1)
        watcher.join()
        for descriptor in (stop, *watched):
            os.close(descriptor)


def _find_agents(raylet: int) -> dict[int, str]:
    """Process number -> its name in RAYLET_AGENTS, for the children of a raylet."""
    agents: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # the process ended meanwhile
            parent, command = (folder / "stat").read_text().rpartition(")")[2].split()[1], (folder / "cmdline").read_bytes()
            if int(parent) == raylet:
                agents |= {
                    int(folder.name): kind for kind, names in RAYLET_AGENTS.items() if any(name in command for name in names)
                }
    return agents


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


@contextmanager
def _silence_native_output() -> Iterator[None]:
    """Meanwhile Ray's C++ core writes to its logs alone, and `sys.stderr` to where file descriptor 2 led before.

    The core writes to descriptor 2 whatever Ray's Python side was configured to do. The Python side prints the death of a
    worker to stdout, where only the command's answer belongs; it goes to stderr instead.
    """
    sys.stderr.flush()
    python, saved = sys.stderr, os.dup(2)
    with Path(os.devnull).open("w") as nowhere, os.fdopen(saved, "w", buffering=1) as sys.stderr:
        os.dup2(nowhere.fileno(), 2)
        try:
            with redirect_stdout(sys.stderr):
                yield
        finally:
            os.dup2(saved, 2)
            sys.stderr = python


def run_tasks(
    name: str, tasks: Sequence[int], function: Callable[[int], None], progress: Progress, done: int = 0,
    sizes: Sequence[int] | None = None,
) -> None:  # fmt: skip
    """Call `function` with every task number on the cluster, in any order.

    `sizes` are the units of progress of each task; by default each is one. `done` units were done before. Raises the first
    InputError that a task raises, and stops the other tasks.
    """
    size_of = dict(zip(tasks, sizes or [1] * len(tasks), strict=True))
    total = done + sum(size_of.values())
    progress(name, done, total)
    for outcome in stream_tables(len(tasks), _guard_task(tasks, function)):
        if outcome["error"]:
            raise InputError(outcome["error"])
        done += size_of[outcome["task"]]
        progress(name, done, total)


def stream_tables(tables: Sequence[pa.Table] | int, function: Any, **resources: Any) -> Iterator[dict[str, Any]]:
    """Call `function` with each table, one task for each, and yield the rows of the results as tasks end.

    A class is called through actors. A number n stands for n tables with a single column `id` that holds the table's number;
    they are made on the workers. Ray Data's reservation of resources is off. Why: docs/decisions/090-ray-data-reservation.md.
    """
    import ray.data

    if tables:
        ray.data.DataContext.get_current().op_resource_reservation_enabled = False
        if isinstance(tables, int):
            data = ray.data.range(tables, override_num_blocks=tables)
        else:
            data = ray.data.from_arrow(list(tables))
        yield from data.map_batches(function, batch_size=None, batch_format="pyarrow", **resources).iter_rows()


def _guard_task(tasks: Sequence[int], function: Callable[[int], None]) -> Callable[[pa.Table], pa.Table]:
    """Runs one task: tries again where the store fails, and returns an InputError's message instead of raising it."""

    def outcome(table: pa.Table) -> pa.Table:
        ((at,), error) = table["id"].to_pylist(), ""
        task = tasks[at]
        _forget_extension_types()
        try:
            for wait in (*RETRY_SECONDS, None):
                try:
                    function(task)
                    break
                except OSError as fault:  # mostly the network; Ray repeats the tasks of a lost machine
                    if wait is None:
                        raise InputError(
                            f"reading or writing failed {len(RETRY_SECONDS) + 1} times: {explain_os_error(fault)}"
                        ) from fault
                    time.sleep(wait)
        except InputError as wrong:
            error = str(wrong)
        return pa.table({"task": [task], "error": [error]})

    return outcome
