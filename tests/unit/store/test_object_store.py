"""Object stores without a server: what goes wrong on a network, what each cloud is asked, and that no secret gets out.

Most tests talk to `Cloud`, which stands for the fsspec package of a store. Some talk to the real package, whose requests end
before the network.
"""

from __future__ import annotations

import asyncio
import math
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import fsspec
import pyarrow as pa
import pytest
from aiobotocore.client import AioBaseClient
from botocore.exceptions import ClientError
from s3fs import S3FileSystem

from chameleon_data.errors import InputError, UnavailableError
from chameleon_data.store import object_store as remote
from chameleon_data.store import store as storage
from chameleon_data.store.backend import StoreError, Upload
from chameleon_data.store.object_store import RemoteFolder
from chameleon_data.store.store import NameTakenError, Store
from tests.support.secrets import CANARY, shown

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def answer(status: int, code: str) -> ClientError:
    """What botocore raises for such an answer of a server."""
    response = {"Error": {"Code": code, "Message": CANARY}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "PutObject")


class Answered(OSError):
    """Stands for what gcsfs and azure-core raise: an HTTP status in `code` or `status_code`."""

    def __init__(self, **answer: Any) -> None:
        super().__init__(CANARY)
        vars(self).update(answer)


class Cloud:
    """What RemoteFolder asks of the package of a store, over a dictionary."""

    def __init__(self, taken: BaseException, missing: BaseException) -> None:
        self.objects: dict[str, bytes] = {}
        self.times: dict[str, Any] = {}
        self.taken, self.missing = taken, missing
        self.faults: list[BaseException] = []
        """Raised by the next calls in the place of an answer, one each."""
        self.calls: list[str] = []
        self.loop = fsspec.asyn.get_loop()

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.faults:
            raise self.faults.pop(0)

    async def _pipe_file(self, path: str, data: bytes, mode: str = "overwrite", chunksize: int = 0) -> None:
        self._called("put")
        if mode == "create" and path in self.objects:
            raise self.taken
        self.objects[path] = data

    async def _cat_file(self, path: str, start: int, end: int) -> bytes:
        self._called("get")
        if path not in self.objects:
            raise self.missing
        return self.objects[path][start:end]

    async def _info(self, path: str) -> dict[str, Any]:
        self._called("head")
        if path not in self.objects:
            raise self.missing
        return {"type": "file", "size": len(self.objects[path])}

    async def _find(self, path: str, detail: bool) -> dict[str, Any]:
        self._called("list")
        facts = {"type": "file", **self.times}
        return {p: {**facts, "size": len(d)} for p, d in self.objects.items() if p.startswith(path)}

    async def _rm_file(self, path: str) -> None:
        self._called("delete")
        if self.objects.pop(path, None) is None:
            raise self.missing


@dataclass
class Clock:
    """Stands for the module `time`: nobody waits."""

    now: float = 1000.0

    def monotonic(self) -> float:
        return self.now

    def monotonic_ns(self) -> int:
        return int(self.now * 1e9)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(remote, "time", clock := Clock())
    return clock


@pytest.fixture
def over(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Cloud], None]]:
    """Lets every store of the test be over this cloud."""

    def use(cloud: Cloud) -> None:
        monkeypatch.setattr(remote, "url_to_fs", lambda url, **_: (cloud, "bucket/x"))
        storage._backend.cache_clear()

    yield use
    storage._backend.cache_clear()


@pytest.fixture
def cloud(over: Callable[[Cloud], None], clock: Clock) -> Cloud:
    """S3, as its package tells of it."""
    cloud = Cloud(answer(412, "PreconditionFailed"), FileNotFoundError("x"))
    over(cloud)
    return cloud


@pytest.fixture
def store(cloud: Cloud) -> Store:
    return Store("s3://bucket/x")


# A network


@pytest.mark.parametrize(
    "error",
    [
        answer(503, "SlowDown"), answer(500, "InternalError"), answer(200, "InternalError"),
        answer(409, "ConditionalRequestConflict"), answer(409, "409"),
        answer(503, "Other"), answer(400, "RequestTimeout"), ConnectionResetError(), TimeoutError(),
    ],
    ids=repr,
)  # fmt: skip
def test_what_passes_is_tried_again(store: Store, cloud: Cloud, error: BaseException) -> None:
    cloud.faults = [error, error]
    assert store.write_new("a", b"1")
    assert cloud.calls == ["put"] * 3
    cloud.faults = [error]
    assert store.read("a") == b"1"
    cloud.faults = [error]
    assert store.list() == {"a": 1}


def test_the_pauses_grow_up_to_twenty_seconds_and_end_with_the_deadline(store: Store, cloud: Cloud, clock: Clock) -> None:
    waits: list[float] = []
    clock.sleep = lambda seconds: (waits.append(seconds), setattr(clock, "now", clock.now + seconds))
    cloud.faults = [answer(503, "SlowDown")] * 1000
    with pytest.raises(UnavailableError, match="no good answer"):
        store.exists("a")
    assert all(0.1 * 2**i <= wait < 0.2 * 2**i for i, wait in enumerate(waits[:7]))
    assert all(10 <= wait < 20 for wait in waits[7:])
    assert sum(waits) < remote.DEADLINE < sum(waits) + 20


def test_every_operation_has_the_deadline(store: Store, cloud: Cloud, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "LISTING_DEADLINE", remote.DEADLINE)
    attempts: list[Callable[[], object]] = [
        lambda: store.write("a", b"1"), lambda: store.read("a"), store.list, lambda: store.exists("a"),
        lambda: store.remove(["a"]),
    ]  # fmt: skip
    for attempt in attempts:
        cloud.faults, start = [answer(503, "SlowDown")] * 1000, clock.now
        with pytest.raises(InputError, match=r"no good answer in 1[0-9]{2} s \(SlowDown\).*AWS_ENDPOINT_URL"):
            attempt()
        assert clock.now - start < remote.DEADLINE + remote.RANGE_BYTES / 2**20


def test_a_server_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_: Any, **__: Any) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(S3FileSystem, "_call_s3", hang)
    with pytest.raises(StoreError, match="no good answer in 0 s"):
        RemoteFolder("s3://bucket/x", 0.2).size("a")


def test_a_put_whose_answer_was_lost_counts(store: Store, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    put = Cloud._pipe_file

    async def lost(self: Cloud, path: str, data: bytes, mode: str = "overwrite", chunksize: int = 0) -> None:
        await put(self, path, data, mode)
        if len(self.calls) == 1:
            raise ConnectionResetError

    monkeypatch.setattr(Cloud, "_pipe_file", lost)
    assert store.write_new("a", b"mine") is False  # it cannot be told from a twin's
    assert (cloud.calls[:2], store.read("a")) == (["put", "put"], b"mine")


def test_a_lost_answer_does_not_hide_that_another_won(store: Store, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    put = Cloud._pipe_file

    async def late(self: Cloud, path: str, data: bytes, mode: str = "overwrite", chunksize: int = 0) -> None:
        if self.calls:
            return await put(self, path, data, mode)
        await put(self, path, b"theirs")
        raise ConnectionResetError

    monkeypatch.setattr(Cloud, "_pipe_file", late)
    with pytest.raises(NameTakenError):
        store.write_new("a", b"mine")
    assert store.read("a") == b"theirs"


@pytest.mark.parametrize("code", ["PreconditionFailed", "412", "Whatever"])
def test_412_means_that_the_name_is_taken_whatever_the_server_calls_it(store: Store, cloud: Cloud, code: str) -> None:
    store.write_new("a", b"theirs")
    cloud.faults = [answer(412, code)]
    with pytest.raises(NameTakenError):
        store.write_new("a", b"mine")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (answer(403, "AccessDenied"), r"access denied \(AccessDenied\).*AWS_PROFILE"),
        (answer(403, "InvalidAccessKeyId"), r"access denied \(InvalidAccessKeyId\)"),
        (answer(404, "NoSuchBucket"), r"no such bucket; create it, or correct the URL or the endpoint \(AWS_ENDPOINT_URL"),
        (
            answer(400, "AuthorizationHeaderMalformed"),
            r"the store refused \(AuthorizationHeaderMalformed\); check the URL, the region",
        ),
        (answer(501, "NotImplemented"), r"the store refused \(NotImplemented\)"),
    ],
)
def test_what_lasts_is_told_at_once(store: Store, cloud: Cloud, error: ClientError, text: str) -> None:
    cloud.faults = [error]
    with pytest.raises(InputError, match=text) as caught:
        store.write_new("a", b"1")
    assert cloud.calls == ["put"]
    assert CANARY not in shown(caught.value)


def test_a_range_behind_the_end_is_empty(store: Store, cloud: Cloud) -> None:
    for error in (answer(416, "InvalidRange"), answer(400, "InvalidRange")):
        cloud.faults = [error]
        assert store.read_range("a", 5, 9).size == 0


# The real package of S3


@pytest.fixture
def real_s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A client of its own, without configuration, credentials or somebody who listens."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setitem(fsspec.config.conf, "s3", {"endpoint_url": "http://127.0.0.1:1", "skip_instance_cache": True})
    storage._backend.cache_clear()
    yield
    storage._backend.cache_clear()


@pytest.mark.usefixtures("real_s3")
def test_an_endpoint_that_nobody_listens_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "made-up")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    monkeypatch.setattr(storage, "PROBE_DEADLINE", 0.5)
    with pytest.raises(InputError, match=r"s3://b-b/x: no good answer .*check the network and the endpoint"):
        Store("s3://b-b/x").probe()


@pytest.mark.usefixtures("real_s3")
def test_credentials_that_are_missing() -> None:
    with pytest.raises(InputError, match=r"no usable credentials.*set AWS_ACCESS_KEY_ID"):
        Store("s3://b-b/x").list()


@pytest.mark.usefixtures("real_s3")
def test_no_secret_gets_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, CANARY)
    answers: list[BaseException] = []

    async def call(*_: Any) -> dict[str, Any]:
        if answers:
            raise answers.pop(0)
        return {"ETag": "x", "VersionId": None}

    monkeypatch.setattr(AioBaseClient, "_make_api_call", call)
    store = Store("s3://b-b/x")
    store.write("a", b"1")
    assert CANARY in vars(storage._backend(store.url, 0, 1.0, False).fs.s3._request_signer._credentials).values()
    texts = [repr(store), str(store), repr(pickle.dumps(store))]
    for error in (answer(403, "SignatureDoesNotMatch"), OSError(CANARY), answer(400, "BadRequest"), answer(404, "NoSuchBucket")):
        answers = [error]
        with pytest.raises(InputError) as caught:
            store.write("a", b"1")
        texts.append(shown(caught.value))
    assert len(texts) == 7
    assert [text for text in texts if CANARY in text] == []


@pytest.mark.usefixtures("real_s3")
def test_a_large_body_goes_in_one_conditional_put(monkeypatch: pytest.MonkeyPatch) -> None:
    """With s3fs's own limit it would be a multipart upload, which a killed writer leaves behind."""
    calls: list[tuple[str, Any, int]] = []

    async def call(_: Any, method: str, *__: Any, **request: Any) -> dict[str, Any]:
        calls.append((method, request.get("IfNoneMatch"), len(request["Body"])))
        return {}

    monkeypatch.setattr(S3FileSystem, "_call_s3", call)
    body = pa.py_buffer(bytes(101 * 2**20))
    assert Store("s3://b-b/x").write_new("a", body)
    assert calls == [("put_object", "*", body.size)]


@pytest.mark.usefixtures("real_s3")
def test_uploads_of_many_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    async def pages(_: Any, method: str, **request: Any) -> dict[str, Any]:
        asked.append(request)
        n = len(asked)
        return {"Uploads": [{"Key": f"x/{n}", "UploadId": f"u{n}", "Initiated": NOON}], "IsTruncated": n < 3,
                "NextKeyMarker": f"k{n}", "NextUploadIdMarker": f"m{n}"}  # fmt: skip

    monkeypatch.setattr(S3FileSystem, "_call_s3", pages)
    assert Store("s3://b-b/x").uploads() == tuple(Upload(str(n), f"u{n}", NOON.timestamp()) for n in (1, 2, 3))
    assert [(r.get("KeyMarker"), r.get("UploadIdMarker")) for r in asked] == [(None, None), ("k1", "m1"), ("k2", "m2")]


# The other clouds


CLOUDS = {
    "gs://bucket/x": (Answered(code=412), FileNotFoundError("x")),
    "gcs://bucket/x": (Answered(code="412"), Answered(code=404)),
    "abfs://container@account.dfs.core.windows.net/x": (FileExistsError("x"), Answered(status_code=404)),
    "az://container/x": (Answered(status_code=412), FileNotFoundError("x")),
}
"""URL -> what its package raises where a name is taken, and where it is missing."""


@pytest.mark.parametrize("url", CLOUDS)
def test_google_and_azure(url: str, over: Callable[[Cloud], None], monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = Cloud(*CLOUDS[url])
    monkeypatch.setattr(remote, "library_errors", lambda _: (OSError,))
    over(cloud)
    store = Store(url)
    store.probe()
    assert cloud.objects == {}
    assert store.write_new("a", b"1")
    assert not store.write_new("a", b"1")
    with pytest.raises(NameTakenError):
        store.write_new("a", b"2")
    assert (store.read("a"), store.list(), store.exists("b"), store.open("a").read()) == (b"1", {"a": 1}, False, b"1")
    assert store.entries()["a"].modified == math.inf
    for cloud.times in ({"mtime": NOON}, {"last_modified": NOON}, {"updated": "2026-01-01T12:00:00Z"}):
        assert store.entries()["a"].modified == NOON.timestamp()
    assert store.uploads() == ()
    store.remove(["a", "b"])
    with pytest.raises(InputError, match="no such file"):
        store.read("a")
    cloud.taken = Answered(code=403)
    store.write("a", b"1")
    with pytest.raises(InputError, match="access denied") as caught:
        store.write_new("a", b"1")
    assert CANARY not in shown(caught.value)


def test_google_is_asked_for_generation_0(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request of the real gcsfs, small or large, and its real error."""
    gcsfs = pytest.importorskip("gcsfs")
    asked: list[tuple[str, Any]] = []

    async def call(_: Any, method: str, path: str, *__: Any, **kwargs: Any) -> Any:
        asked.append((kwargs.get("uploadType", method), kwargs.get("ifGenerationMatch")))
        raise gcsfs.retry.HttpError({"code": 412, "message": CANARY})

    async def ordinary(*_: Any) -> bool:
        return False

    monkeypatch.setitem(remote.FILE_SYSTEM_OPTIONS, "gcs", {"token": "anon", "skip_instance_cache": True})
    for kind in gcsfs.GCSFileSystem, gcsfs.extended_gcsfs.ExtendedGcsFileSystem:
        monkeypatch.setattr(kind, "_call", call)
    monkeypatch.setattr(gcsfs.extended_gcsfs.ExtendedGcsFileSystem, "_is_zonal_bucket", ordinary)
    folder = RemoteFolder("gs://bucket/x", 5)
    for size in (1, 60 * 2**20):
        with pytest.raises(FileExistsError):
            folder.create("a", pa.py_buffer(bytes(size)))
    with pytest.raises(FileExistsError):
        folder.replace("a", pa.py_buffer(b"1"))
    assert asked == [("multipart", "0"), ("multipart", "0"), ("multipart", None)]


def test_azure_is_told_not_to_overwrite(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call of the real adlfs, and the real error."""
    pytest.importorskip("adlfs")
    from azure.core.exceptions import ResourceExistsError
    from azure.storage.blob.aio import BlobClient

    asked: list[Any] = []

    async def upload(_: Any, *__: Any, overwrite: bool, **___: Any) -> Any:
        asked.append(overwrite)
        if not overwrite:
            raise ResourceExistsError(CANARY)

    key = "bWFkZSB1cA=="
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={key}")
    monkeypatch.setattr(BlobClient, "upload_blob", upload)
    folder = RemoteFolder("abfs://container/x", 5)
    with pytest.raises(FileExistsError):
        folder.create("a", pa.py_buffer(b"1"))
    folder.replace("a", pa.py_buffer(b"1"))
    assert asked == [False, True]


@pytest.mark.parametrize(
    ("url", "package"), [("s3://b/x", "s3fs.*\\[s3\\]"), ("gs://b/x", "gcsfs.*\\[gcs\\]"), ("az://b/x", "adlfs.*\\[azure\\]")]
)
def test_a_package_that_is_missing(url: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> Any:
        raise ImportError("Install it")

    monkeypatch.setattr(remote, "url_to_fs", missing)
    storage._backend.cache_clear()
    with pytest.raises(InputError, match=f"the package {package}"):
        Store(url).probe()
