"""Fixtures that many tests share, and which tests are marked `ray` and `server`.

The stores: a folder, a store in memory, and S3 servers of this session on 127.0.0.1. The engines: one of each kind for all tests
that need no more than some engine, so that a guarantee is tested on both. Tests that count or kill processes start their own.
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from _pytest.nodes import coerce_node_id
from hypothesis import settings

from chameleon_data.jobs.engine_options import EngineOptions
from chameleon_data.pipelines.engine import Engine
from chameleon_data.store.store import Store
from tests.soak import servers

settings.register_profile("unhurried", deadline=None)  # how long an example takes says how busy the machine is
settings.register_profile("quick", deadline=None, max_examples=20)  # what `make test-fast` asks for
settings.load_profile("unhurried")

BUCKET = servers.BUCKET
TESTS = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts Ray and what needs a server that the fast tests do without, and divide the tests among processes.

    `make test` runs two processes. All tests with Ray go to one of them, first and one after the other; of the others each file
    goes to one process, so that the fixtures of a module are made once.
    """
    for item in items:
        room = item.path.relative_to(TESTS).parts[0]
        callspec = getattr(item, "callspec", None)
        if "ray_engine" in item.fixturenames or (callspec and callspec.params.get("engine") == "ray"):
            item.add_marker(pytest.mark.ray)
        servers_used = _servers_of(item)
        if servers_used and (room == "unit" or "ministack" in servers_used):
            item.add_marker(pytest.mark.server)
        if os.environ.get("PYTEST_XDIST_WORKER"):  # xdist 3.8 puts the group where pytest 9.2 does not look
            group = "ray" if item.get_closest_marker("ray") else item.path.stem
            item._id = coerce_node_id(f"{item.nodeid}@{group}")
    items.sort(key=lambda item: not item.get_closest_marker("ray"))


def _servers_of(item: pytest.Item) -> set[str]:
    """Which S3 servers a test needs: s3 (moto's) or ministack."""
    asked = {name.partition("_")[0] for name in item.fixturenames if name.endswith("_endpoint")}
    callspec = getattr(item, "callspec", None)
    asked |= {str(callspec.params.get(name)) for name in ("store", "kind")} if callspec else set()
    return {"s3" if name == "moto" else name for name in asked} & {"s3", "ministack"}


@pytest.fixture(scope="session")
def ray_engine() -> Iterator[Engine]:
    """A Ray cluster of this session, with two CPUs."""
    from chameleon_data.pipelines.ray_engine import ray_engine

    with ray_engine(workers=2) as engine:
        assert engine.cpus == 2, "it starts when it is first used, which is not to be in the middle of a test"
        yield engine


@pytest.fixture(scope="session")
def local_engine() -> Iterator[Engine]:
    """Two worker processes of this session."""
    from chameleon_data.pipelines.local_engine import local_engine

    with local_engine(workers=2) as engine:
        yield engine


@pytest.fixture(scope="session", params=["local", "ray"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """An engine of each kind."""
    engine: Engine = request.getfixturevalue(f"{request.param}_engine")
    return engine


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    with servers.moto() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def ministack_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with servers.ministack(tmp_path_factory.mktemp("ministack")) as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def s3_bucket(moto_endpoint: str) -> Iterator[str]:
    """An empty bucket of moto's server; the environment names the endpoint and holds made-up credentials."""
    with servers.as_s3(moto_endpoint) as url:
        yield url


@pytest.fixture
def local_store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "out"))


@pytest.fixture
def memory_store() -> Iterator[Store]:
    store = Store(f"memory://{uuid.uuid4().hex}/out")
    yield store
    store.remove(store.list())


@pytest.fixture
def s3_store(s3_bucket: str) -> Store:
    return Store(f"{s3_bucket}/{uuid.uuid4().hex}/out")


@pytest.fixture
def ministack_store(ministack_endpoint: str) -> Iterator[Store]:
    with servers.as_s3(ministack_endpoint) as url:
        yield Store(f"{url}/{uuid.uuid4().hex}/out")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command `chameleon-data` in this process; returns its exit code, stdout and stderr."""
    from chameleon_data.jobs.cli import main

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["chameleon-data", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        seen = capsys.readouterr()
        return int(end.value.code or 0), seen.out, seen.err

    return run


@pytest.fixture
def command_on_engine(
    engine: Engine, command: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Runs the command with --json in this process, on an engine of each kind; returns its document."""
    monkeypatch.setattr(EngineOptions, "start", lambda *_: nullcontext((engine, lambda *_: None)))

    def run(*arguments: str, expect: int = 0) -> Any:
        code, answer, said = command(*arguments, "--json")
        assert code == expect, said
        return json.loads(answer)

    return run


@pytest.fixture(params=["local", "memory", "s3", "ministack"])
def store(request: pytest.FixtureRequest) -> Store:
    """An empty store of each kind."""
    return request.getfixturevalue(f"{request.param}_store")
