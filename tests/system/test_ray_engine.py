"""Clusters that are not there, that ask for no token, and that are joined."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from chameleon_data.errors import InputError
from chameleon_data.pipelines import engine
from chameleon_data.pipelines import ray_engine as engines
from chameleon_data.pipelines.engine import COUNTERS, Task
from chameleon_data.pipelines.ray_engine import CONNECT_SECONDS, ray_engine
from chameleon_data.pipelines.verify import verify_on_engine
from chameleon_data.store.store import Store
from tests.support.inline_builds import INLINE, build, write_small_recipe
from tests.support.paths import ROOT


@pytest.fixture(autouse=True)
def token_mode(monkeypatch):
    """Ray reads its mode once in a process; other tests of this one start clusters that ask for a token."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")


@pytest.fixture
def closed_port():
    """A port that is taken, so that nobody else gets it, and where nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield int(taken.getsockname()[1])


@pytest.mark.parametrize(
    "address", ["127.0.0.1:{port}", "ray://127.0.0.1:{port}", "nonsense", "127.0.0.1:99999", "http://127.0.0.1:1/x"]
)
def test_an_address_without_a_cluster_is_refused_at_once(address, closed_port):

    address, start = address.format(port=closed_port), time.monotonic()
    with pytest.raises(InputError, match=re.escape(f"--address {address}: ") + ".*--engine local"), ray_engine(address):
        pass
    assert time.monotonic() - start < 5


def test_an_address_with_a_password_is_not_repeated():

    with (
        pytest.raises(InputError, match=r"--address …@host:1: is not HOST:PORT") as refusal,
        ray_engine("ray://me:secret@host:1"),
    ):
        pass
    assert "secret" not in str(refusal.value)


def test_a_host_that_does_not_answer_is_given_up(monkeypatch):

    def silent(where: tuple[str, int], timeout: float) -> None:
        assert (where, timeout) == (("127.0.0.1", 6379), CONNECT_SECONDS)
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", silent)
    with pytest.raises(InputError, match=r"timed out.*--engine local"), ray_engine("127.0.0.1:6379"):
        pass


@pytest.mark.parametrize("fault", [ConnectionError("none found"), ValueError("bad"), RuntimeError("version 2.0 against 2.60")])
def test_what_ray_says_about_an_address_is_one_message(monkeypatch, fault):
    import ray

    def refuse(**_: Any) -> None:
        raise fault

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(InputError, match=rf"--address auto: .*{fault}.*--engine local"), ray_engine("auto") as engine:
        assert engine.cpus


def test_what_rays_core_writes_stays_off_the_screen_and_in_a_file_that_the_message_names(monkeypatch, tmp_path, capfd):
    import ray

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def fail(**_: Any) -> None:
        os.write(2, b"*** a dump of the core ***\n")
        logging.getLogger("ray").error("a dump of a logger")
        raise ConnectionError("none found")

    monkeypatch.setattr(ray, "init", fail)
    with (
        pytest.raises(InputError, match=r"none found.*what Ray itself said is in (\S+\.log)$") as refusal,
        ray_engine("auto") as e,
    ):
        assert e.cpus
    (log,) = tmp_path.iterdir()
    assert str(refusal.value).endswith(str(log))
    assert log.read_text().splitlines() == ["*** a dump of the core ***", "a dump of a logger"]
    log.unlink()

    monkeypatch.setattr(ray, "init", lambda **_: os.write(2, b"a word that nobody asked for\n"))
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 3.0})
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with ray_engine("auto", allow_open=True) as engine:
        assert engine.cpus == 3.0
    assert list(tmp_path.iterdir()) == []
    assert "dump" not in capfd.readouterr().err


# A cluster that lets in whoever comes


@pytest.fixture
def answering():
    """Start a server that answers every question with this status code; returns its HOST:PORT."""
    grpc = pytest.importorskip("grpc")
    with ExitStack() as running:

        def start(code: str | None) -> str:
            def answer(_: bytes, context: Any) -> bytes:
                if code is not None:
                    context.abort(grpc.StatusCode[code], "no")
                return b""

            class Any_(grpc.GenericRpcHandler):
                def service(self, _: Any) -> Any:
                    return grpc.unary_unary_rpc_method_handler(answer)

            server = grpc.server(running.enter_context(ThreadPoolExecutor(1)), handlers=[Any_()])
            port = server.add_insecure_port("127.0.0.1:0")
            server.start()
            running.callback(lambda: server.stop(None).wait())
            return f"127.0.0.1:{port}"

        yield start


class Joined(Exception):
    """In place of a cluster."""


@pytest.fixture
def joining(monkeypatch):
    """`ray.init` raises Joined, and nothing of the environment is left."""
    import ray

    def join(**_: Any) -> None:
        raise Joined

    monkeypatch.setattr(ray, "init", join)
    monkeypatch.delenv("RAY_USE_TLS", raising=False)


@pytest.mark.parametrize("scheme", ["", "ray://"])
@pytest.mark.parametrize("code", [None, "NOT_FOUND", "INTERNAL"])
def test_an_open_cluster_is_joined_only_where_that_is_said(answering, joining, scheme, code):

    address = scheme + answering(code)
    with pytest.raises(InputError, match=rf"--address {address}: .*asks for no token.*--open-cluster"), ray_engine(address):
        pass
    with pytest.raises(Joined), ray_engine(address, allow_open=True) as engine:
        assert engine.cpus


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_cluster_that_asks_for_a_token_is_joined(answering, joining, scheme):

    with pytest.raises(Joined), ray_engine(scheme + answering("UNAUTHENTICATED")) as engine:
        assert engine.cpus


def test_what_is_no_cluster_is_not_joined(answering, joining):

    with pytest.raises(InputError, match="no Ray cluster answers there"), ray_engine(answering("UNAVAILABLE")):
        pass


def test_the_cluster_that_auto_finds_is_asked_before_anything_runs_on_it(answering, monkeypatch):
    import ray

    left: list[str] = []
    found = SimpleNamespace(gcs_address=answering(None))
    monkeypatch.setattr(ray, "init", lambda **_: None)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: found)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 3.0, "GPU": 1.0})
    monkeypatch.setattr(ray, "shutdown", lambda: left.append("left"))
    with pytest.raises(InputError, match="--open-cluster"), ray_engine("auto") as engine:
        left.append(f"used {engine.cpus}")
    assert left == ["left"]
    with ray_engine("auto", allow_open=True) as engine:
        left.append(f"used {engine.cpus}")
    found.gcs_address = answering("UNAUTHENTICATED")
    with ray_engine("auto") as engine:
        left.append(f"used {engine.gpus}")
    assert left == ["left", "used 3.0", "left", "used 1", "left"]


# A Ray that is started here


def test_ray_starts_when_the_engine_is_first_used_and_it_is_said(monkeypatch):
    import ray

    happened: list[str] = []
    monkeypatch.setattr(ray, "init", lambda **_: happened.append("init"))
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 3.0})
    monkeypatch.setattr(ray, "shutdown", lambda: happened.append("shutdown"))
    with ray_engine(tell=happened.append):
        pass
    assert happened == []
    with ray_engine(tell=happened.append) as engine:
        assert (engine.cpus, engine.cpus) == (3.0, 3.0)
    assert happened == ["starting Ray …", "init", "shutdown"]


@pytest.mark.parametrize(("answers_after", "comes_up"), [(3, True), (999, False)])
def test_a_ray_that_is_slow_to_come_up_is_waited_for(monkeypatch, answers_after, comes_up):
    import ray
    from ray._private import services

    asked: list[str] = []

    def get_node(address: str, node: str) -> str:
        asked.append(address)
        if len(asked) <= answers_after:
            raise RuntimeError("the node is not there yet")
        return node

    def init(**_: Any) -> None:
        try:
            assert services.get_node("address", "node") == "node"
        except RuntimeError:
            raise Exception("The current node timed out during startup.") from None  # as Ray does

    monkeypatch.setattr(services, "get_node", get_node)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 3.0})
    monkeypatch.setattr(engines, "ASK_SECONDS", 0.01)
    monkeypatch.setattr(engines, "START_SECONDS", 30.0 if comes_up else 0.1)
    refused = pytest.raises(InputError, match=r"did not start here .*less busy")
    with nullcontext() if comes_up else refused, ray_engine() as engine:
        assert engine.cpus == 3.0
    assert len(asked) == 4 if comes_up else len(asked) > 1
    assert services.get_node is get_node


# Nodes with GPUs


@pytest.mark.ray
def test_work_without_a_gpu_keeps_off_gpu_nodes_and_more_gpus_than_cpus_do_not_hang():
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.gpu_nodes", "all-MiniLM-L6-v2"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["on gpus"] == [found["gpu node"]]
    assert found["gpu node"] not in found["tasks"] + found["on cpus"]
    assert "is given a GPU, and torch cannot use it" in found["said"]


# What a watcher of the cluster sees


def test_the_dashboard_asks_for_the_counters_and_no_others():
    board = json.loads((ROOT / "jobs/cluster/grafana.json").read_text())
    asked = {name for panel in board["panels"] for t in panel["targets"] for name in re.findall(r"ray_[a-z_]+", t["expr"])}
    assert asked == {f"ray_{engines.counter_name(amount)}_total" for amount in COUNTERS}


def test_tasks_count_their_work_on_rays_counters(monkeypatch, tmp_path):
    from ray.util import metrics

    counted: dict[tuple[str, str], float] = {}

    class Counter:
        def __init__(self, name: str, about: str, tag_keys: tuple[str, ...]) -> None:
            assert (about, tag_keys) == (COUNTERS[name.removeprefix("chameleon_data_")], ("pass",))
            self._name = name

        def inc(self, number: float, tags: dict[str, str]) -> None:
            counted[self._name, tags["pass"]] = counted.get((self._name, tags["pass"]), 0) + number

    monkeypatch.setattr(metrics, "Counter", Counter)
    monkeypatch.setattr(engine, "_counting", [engines._count])
    engines._counters.cache_clear()
    manifest = build(write_small_recipe(tmp_path, str(tmp_path / "out")))
    domains = manifest.domains.values()
    assert counted["chameleon_data_rows", "survey"] == sum(d.rows_read for d in domains)
    assert counted["chameleon_data_tokens", "survey"] == sum(d.available_tokens for d in domains)
    assert counted["chameleon_data_bytes", "survey"] == sum(d.available_bytes for d in domains)
    assert counted["chameleon_data_rows", "write"] == sum(d.rows for d in domains)
    assert counted["chameleon_data_tokens", "write"] == sum(d.tokens for d in domains)
    assert counted["chameleon_data_bytes", "write"] == sum(sums.bytes for sums in manifest.formats.values())
    monkeypatch.setattr("chameleon_data.versions.verify.PROOF_RANGE_BYTES", 1)
    assert verify_on_engine(INLINE, Store(manifest.recipe.out), manifest, lambda *_: None).ok
    for amount in ("rows", "tokens", "bytes"):
        assert counted[f"chameleon_data_{amount}", "verify"] == counted[f"chameleon_data_{amount}", "write"]
    assert ("chameleon_data_retries", "all") not in counted
    with pytest.raises(InputError, match=r"failed \d+ times"):
        list(INLINE.run(Task(_lose_network, str), [1]))
    assert engines._counters.cache_info().currsize == 1
    engines._counters.cache_clear()
    assert counted["chameleon_data_retries", "all"] > 10


def _lose_network(_: int) -> None:
    raise ConnectionError("the network is gone")
