"""S3 servers for tests, each on 127.0.0.1 for as long as it is needed, with made-up credentials in the environment."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import fsspec
import pytest

from chameleon_data.store import store as storage

BUCKET = "chameleon-tests"
KEY = "made-up"


@contextmanager
def moto() -> Iterator[str]:
    """The endpoint of moto's server, in this process."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@contextmanager
def ministack(folder: Path) -> Iterator[str]:
    """The endpoint of ministack, which keeps its log in `folder`."""
    port = _free_port()
    settings = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "SERVICES": "s3", "LOG_LEVEL": "ERROR",
                "TMPDIR": str(folder), "S3_DATA_DIR": str(folder / "s3"), "DOCKER_HOST": "unix:///nonexistent"}  # fmt: skip
    with _served([_beside("ministack")], settings, port, folder / "ministack.log") as endpoint:
        yield endpoint


@contextmanager
def rclone(folder: Path) -> Iterator[str]:
    """The endpoint of `rclone serve s3` over a folder: a server that ignores If-None-Match."""
    port = _free_port()
    (folder / "served" / BUCKET).mkdir(parents=True)
    command = [_beside("rclone"), "serve", "s3", str(folder / "served"), "--addr", f"127.0.0.1:{port}",
               "--auth-key", f"{KEY},{KEY}", "--config", str(folder / "none.conf")]  # fmt: skip
    with _served(command, {}, port, folder / "rclone.log") as endpoint:
        yield endpoint


@contextmanager
def as_s3(endpoint: str) -> Iterator[str]:
    """The URL of a bucket there, made if need be; for as long as this lasts s3:// is this endpoint.

    The endpoint also stands in fsspec's configuration, which is part of the key of its cached file systems. So each server keeps
    its client (0.3 s to make), and clearing those of our own backends is enough.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(fsspec.config.conf, "s3", {"endpoint_url": endpoint})
        for name, value in {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": KEY,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": "/nonexistent",
            "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        }.items():
            patch.setenv(name, value)
        patch.delenv("AWS_PROFILE", raising=False)
        storage._backend.cache_clear()
        _make_bucket(endpoint)
        try:
            yield f"s3://{BUCKET}"
        finally:
            storage._backend.cache_clear()


@cache
def _make_bucket(endpoint: str) -> None:
    import boto3
    from botocore.exceptions import ClientError

    client = boto3.client("s3", endpoint_url=endpoint)
    with suppress(ClientError):
        client.create_bucket(Bucket=BUCKET)
    client.close()


@contextmanager
def _served(command: Sequence[str], settings: Mapping[str, str], port: int, log: Path) -> Iterator[str]:
    with log.open("w") as said:
        process = subprocess.Popen(command, env={**os.environ, **settings}, stdout=said, stderr=said)
    try:
        end = time.monotonic() + 60
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{command[0]} does not serve: {log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def _beside(name: str) -> str:
    """A command that pip has put beside this Python."""
    return str(Path(sys.executable).parent / name)
