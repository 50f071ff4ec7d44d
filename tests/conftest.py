"""Stores to test against: a folder, fsspec's memory, and S3 servers of this session on 127.0.0.1."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from chameleon_data.store.store import Store
from tests.soak import servers

settings.register_profile("unhurried", deadline=None)  # how long an example takes says how busy the machine is
settings.load_profile("unhurried")

BUCKET = servers.BUCKET


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


@pytest.fixture(params=["local", "memory", "s3", "ministack"])
def store(request: pytest.FixtureRequest) -> Store:
    """An empty store of each kind."""
    return request.getfixturevalue(f"{request.param}_store")
