"""Stores to test against: a folder, fsspec's memory, and an S3 server of this session on 127.0.0.1."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from chameleon_data.storage import Store

settings.register_profile("unhurried", deadline=None)  # how long an example takes says how busy the machine is
settings.load_profile("unhurried")

BUCKET = "chameleon-tests"


@pytest.fixture(scope="session")
def s3_bucket() -> Iterator[str]:
    """An empty bucket of moto's server; the environment names the endpoint and holds made-up credentials."""
    server = pytest.importorskip("moto.server", reason="moto is not installed: pip install 'moto[server]'")
    import boto3
    from s3fs import S3FileSystem

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "made-up",
            "AWS_SECRET_ACCESS_KEY": "made-up",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": "/nonexistent",
            "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        }.items():
            patch.setenv(name, value)
        patch.delenv("AWS_PROFILE", raising=False)
        S3FileSystem.clear_instance_cache()
        client = boto3.client("s3")
        client.create_bucket(Bucket=BUCKET)
        client.close()
        yield f"s3://{BUCKET}"
        S3FileSystem.clear_instance_cache()
    running.stop()


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


@pytest.fixture(params=["local", "memory", "s3"])
def store(request: pytest.FixtureRequest) -> Store:
    """An empty store of each kind."""
    return request.getfixturevalue(f"{request.param}_store")
