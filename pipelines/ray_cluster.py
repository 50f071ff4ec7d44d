"""Ray, started quietly or joined, and the one way in which a pass runs on it.

A pass is a list of task numbers, streamed through Ray Data one block a task. What a task reads and writes are files on the
store; only its number goes in and only its outcome comes out, so Ray's object store stays empty, a lost worker's tasks run
again, and nothing is pickled but functions.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from chameleon_data.errors import InputError
from chameleon_data.store.store import explain_os_error

Progress = Callable[[str, int, int], None]
"""Called with (pass, units done, units in all)."""
RETRY_SECONDS = (1.0, 5.0)
CONNECT_SECONDS = 10.0
"""Until a host that does not answer is given up; Ray itself would wait for minutes."""
EXTENSION_TYPES = (
    "ray.data.arrow_tensor", "ray.data.arrow_tensor_v2", "ray.data.arrow_variable_shaped_tensor", "ray.data.arrow_pickled_object",
    "pandas.period", "pandas.interval",
)  # fmt: skip
"""That `import ray.data` registers with Arrow: what a Parquet file says of such a column is then handed to their Python code,
whatever the reader is told, and one environment variable lets Ray unpickle it. Here no column is of these types."""
VITAL_PROCESSES = ("raylet", "gcs_server")
"""Processes of a local cluster without which it is dead."""
RAYLET_AGENTS = {"dashboard agent": (b"ray::DashboardAgent", b"dashboard/agent.py"),
          "runtime env agent": (b"ray::RuntimeEnvAgent", b"runtime_env/agent/main.py")}  # fmt: skip
"""The raylet's own children that it does not outlive -> what their command lines hold, once they are up and before."""
IDLE_PROCESSES = ("monitor", "log_monitor", "dashboard")
"""Those that do nothing for a build: an autoscaler of what cannot grow, a reader of logs for nobody, a dashboard that is off.
Ray would wait a second for the first of them when it shuts down."""
ADDRESS_ADVICE = "start a cluster with 'ray start --head', correct the address, or leave --address out"
METHODS_WITHOUT_TOKEN = {"": "/ray.rpc.NodeInfoGcsService/CheckAlive", "ray": "/ray.rpc.RayletDriver/ClusterInfo"}
"""Scheme of an address -> a method that a cluster with token authentication refuses to whoever has no token."""


@contextmanager
def cluster(address: str | None = None, workers: int | None = None, allow_open: bool = False) -> Iterator[None]:
    """A Ray cluster for the length of a build: the one at `address`, or one started here with `workers` CPUs.

    A local one answers only to a random token, since Ray listens on all interfaces even without its dashboard. One that answers
    without a token runs whatever code anybody who reaches its port sends, so it is joined only if `allow_open`.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address is not None:
        _refuse_unreachable(address)
        if not allow_open and address != "auto":
            _refuse_open_cluster(address)
    else:
        os.environ["RAY_AUTH_MODE"] = "token"  # whatever was set for other clusters
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    with _native_quiet():
        yield from _cluster(address, workers, allow_open)


def _cluster(address: str | None, workers: int | None, allow_open: bool) -> Iterator[None]:
    import ray
    import ray.data

    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        try:
            ray.init(address="local", num_cpus=workers, include_dashboard=False, **quiet)
        except Exception as error:
            if type(error) not in (Exception, RuntimeError, ConnectionError):  # what Ray says of processes that did not come up
                raise
            why = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise InputError(
                f"Ray did not start here ({why}); try again when the machine is less busy, or join a cluster with --address"
            ) from error
    else:
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            why = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise InputError(f"--address {address}: no Ray cluster can be joined there ({why}); {ADDRESS_ADVICE}") from error
    if address == "auto" and not allow_open:  # where it is, only Ray knows
        try:
            _refuse_open_cluster(ray.get_runtime_context().gcs_address)
        except InputError:
            ray.shutdown()
            raise
    if address is None:
        _dismiss_idle()
    _forget_extension_types()
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    try:
        with _alive() if address is None else nullcontext():
            yield
    finally:
        ray.shutdown()


def _dismiss_idle() -> None:
    """End what a local cluster does not need."""
    import ray

    node = ray._private.worker._global_node
    for kind in IDLE_PROCESSES if node else ():
        for one in node.all_processes.get(kind, ()):
            one.process.kill()
            one.process.wait()


@contextmanager
def _alive() -> Iterator[None]:
    """For as long as this lasts an InputError is raised, in a thread of its own, when a process dies without which Ray is dead.

    Ray's core ends this process by itself then, with exit code 1 and no word: 15 s after its raylet, a minute after its GCS. An
    agent takes its raylet with it, which takes its leave first, so that the core can be sooner than the raylet's end.
    """
    import ray

    node = ray._private.worker._global_node
    if node is None or not hasattr(os, "pidfd_open"):  # elsewhere than on Linux
        yield
        return
    pids = {one.process.pid: kind for kind, some in node.all_processes.items() if kind in VITAL_PROCESSES for one in some}
    for raylet in [pid for pid, kind in pids.items() if kind == "raylet"]:
        pids |= _agents(raylet)
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


def _agents(raylet: int) -> dict[int, str]:
    """Process -> one of AGENTS, of those below a raylet."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile
            parent, command = (folder / "stat").read_text().rpartition(")")[2].split()[1], (folder / "cmdline").read_bytes()
            if int(parent) == raylet:
                found |= {
                    int(folder.name): kind for kind, names in RAYLET_AGENTS.items() if any(name in command for name in names)
                }
    return found


def _forget_extension_types() -> None:
    """So that readers see a hostile column as what it is stored as, beside the name of its type, and refuse it."""
    for name in EXTENSION_TYPES:
        with suppress(pa.ArrowKeyError):
            pa.unregister_extension_type(name)


def _refuse_unreachable(address: str) -> None:
    """Raise InputError unless something listens at HOST:PORT or ray://HOST:PORT; `auto` is Ray's to find."""
    if address == "auto":
        return
    match = re.fullmatch(r"(?:ray://)?\[?([^\s/\[\]@]+?)\]?:([0-9]{1,5})", address)
    if not match:
        if "@" in address:  # perhaps with a password before it
            address = "…@" + address.rpartition("@")[2]
        raise InputError(f"--address {address}: is not HOST:PORT, ray://HOST:PORT or auto; {ADDRESS_ADVICE}")
    try:
        socket.create_connection((match[1], int(match[2])), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError, UnicodeError) as error:  # a name too long, or a port above 65535, besides the network
        raise InputError(f"--address {address}: nothing answers there ({error}); {ADDRESS_ADVICE}") from error


def _refuse_open_cluster(address: str) -> None:
    """Raise InputError for a cluster that answers a question without a token. One with TLS asks for a certificate instead."""
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
            code = refusal.code()  # type: ignore[attr-defined]
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
def _native_quiet() -> Iterator[None]:
    """Ray's C++ core writes on file descriptor 2 whatever its Python side is told, and into its logs. Ours goes where it went.

    Of a worker that died its Python side tells on stdout, where an answer is expected and nothing else: on stderr instead.
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

    `sizes` are the units of progress of each task, one where not given; `done` units were found done before. Raises the first
    InputError that a task raises, and stops the others.
    """
    size_of = dict(zip(tasks, sizes or [1] * len(tasks), strict=True))
    total = done + sum(size_of.values())
    progress(name, done, total)
    for outcome in stream_tables(len(tasks), _outcome_of(tasks, function)):
        if outcome["error"]:
            raise InputError(outcome["error"])
        done += size_of[outcome["task"]]
        progress(name, done, total)


def stream_tables(tables: Sequence[pa.Table] | int, function: Any, **resources: Any) -> Iterator[dict[str, Any]]:
    """Rows of what `function` (or, for a class, an actor of it) makes of each table; a table is a task, rows come as tasks end.

    A number stands for so many tables that hold their own number, `id`, and that nobody has to carry to the workers.

    Sixteen tasks of .4 s on two CPUs take 3.3 s; 4.9 where Ray Data reserves resources for what reads their rows, and so gives
    each out late. The driver has 6 to 10 ms of work for each.
    """
    import ray.data

    if tables:
        ray.data.DataContext.get_current().op_resource_reservation_enabled = False
        numbered = isinstance(tables, int)
        data = ray.data.range(tables, override_num_blocks=tables) if numbered else ray.data.from_arrow(list(tables))
        yield from data.map_batches(function, batch_size=None, batch_format="pyarrow", **resources).iter_rows()


def _outcome_of(tasks: Sequence[int], function: Callable[[int], None]) -> Callable[[pa.Table], pa.Table]:
    def outcome(table: pa.Table) -> pa.Table:
        ((at,), error) = table["id"].to_pylist(), ""
        task = tasks[at]
        _forget_extension_types()
        try:
            for wait in (*RETRY_SECONDS, None):
                try:
                    function(task)
                    break
                except OSError as fault:  # of the network, mostly; a lost machine is Ray's to mend
                    if wait is None:
                        raise InputError(
                            f"reading or writing failed {len(RETRY_SECONDS) + 1} times: {explain_os_error(fault)}"
                        ) from fault
                    time.sleep(wait)
        except InputError as wrong:
            error = str(wrong)
        return pa.table({"task": [task], "error": [error]})

    return outcome
