"""Create-only under races, crashes and lost answers; what readers see; what people are told; and that no secret gets out."""

from __future__ import annotations

import asyncio
import errno
import math
import os
import pickle
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import ClientError
from fsspec.implementations.memory import MemoryFileSystem
from s3fs import S3FileSystem

from chameleon_data.errors import InputError
from chameleon_data.store import object_store as remote
from chameleon_data.store import store as storage
from chameleon_data.store.object_store import Upload
from chameleon_data.store.store import TEMPORARY_PREFIX, NameTakenError, Store
from tests.soak import servers
from tests.support.schedules import at_once

CANARY = "wJalrXUtnFEMI-K7MDENG-canary"


def said(error: BaseException) -> str:
    """All that an exception shows anywhere, its causes and its pickle too."""
    return "".join(traceback.format_exception(error)) + repr(error) + repr(pickle.dumps(error))


# -- what every store does --


def test_bytes_come_back(store: Store) -> None:
    assert store.write_new("a/b/one.bin", b"\x00\xffone")
    store.write("a/two.bin", pa.py_buffer(b"two"))
    assert (store.read("a/b/one.bin"), store.read("a/two.bin")) == (b"\x00\xffone", b"two")
    assert [store.exists(p) for p in ("a/b/one.bin", "a/b", "a/three.bin")] == [True, False, False]


def test_the_list_is_sorted_recursive_and_of_that_folder_alone(store: Store) -> None:
    assert store.list() == store.list("a") == {}
    for path in ("b/z", "a/2", "a/10/x", "ab/1", "top"):
        store.write_new(path, path.encode())
    assert list(store.list().items()) == [("a/10/x", 6), ("a/2", 3), ("ab/1", 4), ("b/z", 3), ("top", 3)]
    assert store.list("a") == store.list("a/") == {"a/10/x": 6, "a/2": 3}
    assert store.list("nothing") == {}


def test_the_list_is_never_an_old_one(store: Store) -> None:
    """fsspec caches listings; another process, here another client, writes and removes meanwhile."""
    store.write_new("a/1", b"1")
    assert list(store.list("a")) == ["a/1"]
    fs, root = fsspec.url_to_fs(store.url, skip_instance_cache=True)
    fs.pipe_file(f"{root}/a/2", b"22")
    assert store.list("a") == {"a/1": 1, "a/2": 2}
    assert store.exists("a/2")
    fs.rm_file(f"{root}/a/1")
    assert store.list() == {"a/2": 2}
    assert not store.exists("a/1")
    fs.pipe_file(f"{root}/a/2", b"333")
    assert store.list() == {"a/2": 3}
    assert store.read("a/2") == b"333"


def test_the_same_bytes_again_are_fine_and_others_are_refused(store: Store) -> None:
    assert store.write_new("x", b"first") is True
    assert store.write_new("x", pa.py_buffer(b"first")) is False
    for other in (b"second", b"first ", b"firs"):
        with pytest.raises(NameTakenError, match="other bytes are there already"):
            store.write_new("x", other)
    assert store.read("x") == b"first"
    store.write("x", b"third")
    assert store.read("x") == b"third"


def test_of_eight_writers_one_wins(store: Store) -> None:
    body = [bytes([i]) * 50_000 for i in range(8)]

    def write(i: int) -> str:
        try:
            return "won" if store.write_new("race", body[i]) else "same"
        except NameTakenError:
            return "lost"

    results = at_once(write)
    assert sorted(results) == ["lost"] * 7 + ["won"]
    assert store.read("race") == body[results.index("won")]
    assert list(store.list()) == ["race"]


def test_in_memory_nobody_comes_between_looking_and_writing(memory_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    look = MemoryFileSystem.isfile

    def slow(self: MemoryFileSystem, path: str) -> bool:
        found = look(self, path)
        time.sleep(0.005)
        return bool(found)

    monkeypatch.setattr(MemoryFileSystem, "isfile", slow)
    assert sorted(at_once(lambda _: memory_store.write_new("race", b"the same"))) == [False] * 7 + [True]


def test_a_file_that_is_filled_is_seen_whole_or_not_at_all(store: Store) -> None:
    store.write("a/x", b"old")
    with store.writing("a/x") as file:
        file.write_bytes(b"new one")
        assert (store.read("a/x"), store.list()) == (b"old", {"a/x": 3})
    assert store.read("a/x") == b"new one"

    def die() -> None:
        with store.writing("a/x") as file:
            file.write_bytes(b"half")
            raise Killed

    with pytest.raises(Killed):
        die()
    assert (store.read("a/x"), list(store.entries())) == (b"new one", ["a/x"])


def test_of_eight_writers_of_the_same_bytes_none_fails(store: Store) -> None:
    results = at_once(lambda _: store.write_new("race", b"the same"))
    assert sorted(results) == [False] * 7 + [True]


def test_readers_see_whole_files_while_they_are_replaced(store: Store) -> None:
    bodies = {bytes([i]) * 200_000 for i in range(4)}
    store.write("x", min(bodies))
    stop = threading.Event()

    def replace() -> None:
        while not stop.is_set():
            for body in bodies:
                store.write("x", body)

    writer = threading.Thread(target=replace)
    writer.start()
    try:
        assert all(store.read("x") in bodies for _ in range(30))
    finally:
        stop.set()
        writer.join()


def test_remove(store: Store) -> None:
    for path in ("a", "b/c", "d"):
        store.write_new(path, b"1")
    store.remove(["a", "b/c", "gone/already"])
    store.remove([])
    assert list(store.list()) == ["d"]
    assert store.write_new("a", b"2")


def test_open_reads_and_seeks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "READ_AHEAD_BYTES", 1000)
    monkeypatch.setattr(remote, "RANGE_BYTES", 3000)
    body = bytes(range(256)) * 40
    store.write_new("x", body)
    with store.open("x") as file, store.open("x") as other:
        assert (file.read(5), other.read(1), file.tell()) == (body[:5], body[:1], 5)
        assert file.seek(-7, 2) == len(body) - 7
        assert (file.read(100), file.read(10)) == (body[-7:], b"")
        file.seek(1234)
        assert file.read(5000) == body[1234:6234]
        assert file.seekable()
        with pytest.raises((ValueError, OSError)):
            file.seek(-1)
    assert store.read("x") == body


def test_parquet_is_read_from_any_store(store: Store) -> None:
    table = pa.table({"a": range(200_000), "b": [str(i) for i in range(200_000)]})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=50_000)
    store.write_new("t.parquet", sink.getvalue())
    assert pq.ParquetFile(store.open("t.parquet")).read_row_group(2, ["b"]) == table.slice(100_000, 50_000).select(["b"])
    assert pq.read_table(store.open("t.parquet")) == table


def test_what_is_not_there(store: Store) -> None:
    for attempt in (store.read, store.open):
        with pytest.raises(InputError, match="no such file; was the folder copied whole"):
            attempt("a/b")


@pytest.mark.parametrize("path", ["", "/a", "../a", "a/../b", "a/..", "a//b", "./a", "a/", "a\\b", "a\0b"])
def test_paths_stay_inside(local_store: Store, path: str) -> None:
    for attempt in (
        local_store.read, local_store.open, local_store.exists, local_store.local, lambda p: local_store.remove([p]),
        lambda p: local_store.write(p, b"1"), lambda p: local_store.write_new(p, b"1"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="no path inside the store"):
            attempt(path)
    assert not Path(local_store.url).exists()


def test_unfinished_files_can_be_removed_and_nothing_else(local_store: Store) -> None:
    for attempt in (local_store.read, local_store.open, local_store.exists, lambda p: local_store.write(p, b"1")):
        with pytest.raises(ValueError, match="no path inside the store"):
            attempt(f"a/{TEMPORARY_PREFIX}1")
    file = Path(local_store.url, "a", f"{TEMPORARY_PREFIX}1")
    file.parent.mkdir(parents=True)
    file.write_bytes(b"half")
    assert (local_store.list(), list(local_store.entries("a"))) == ({}, [f"a/{TEMPORARY_PREFIX}1"])
    local_store.remove([f"a/{TEMPORARY_PREFIX}1"])
    assert not file.exists()


def test_entries_have_the_stores_time(store: Store) -> None:
    store.write("a/x", b"1")
    before = store.entries()
    assert {path: entry.bytes for path, entry in before.items()} == {"a/x": 1}
    time.sleep(1.1)  # S3 tells seconds
    store.write("a/y", b"22")
    after = store.entries("a")
    assert list(after) == ["a/x", "a/y"]
    assert after["a/x"] == before["a/x"]
    assert 1 <= after["a/y"].modified - after["a/x"].modified < 30
    store.write("a/x", b"1")
    assert store.entries()["a/x"].modified > before["a/x"].modified


def test_dangling_uploads_are_listed_and_ended(s3_store: Store, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3

    client, bucket = boto3.client("s3"), s3_bucket.removeprefix("s3://")
    root = s3_store.url.removeprefix(f"{s3_bucket}/")
    begun = [client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
             for key in (f"{root}/a/x", f"{root}/a/x", f"{root}/y", f"{root}-other/z")]  # fmt: skip
    client.upload_part(Bucket=bucket, Key=f"{root}/y", UploadId=begun[2], PartNumber=1, Body=b"half")
    s3_store.write("whole", b"1")
    found = s3_store.uploads()
    assert sorted((u.path, u.id) for u in found) == sorted([("a/x", begun[0]), ("a/x", begun[1]), ("y", begun[2])])
    assert all(u.begun <= s3_store.entries()["whole"].modified for u in found)  # moto says 2010 of every upload
    for upload in found[:2]:
        s3_store.abort(upload)
        s3_store.abort(upload)
    assert s3_store.uploads() == found[2:]
    s3_store.abort(found[2])
    assert (s3_store.uploads(), list(s3_store.list())) == ((), ["whole"])
    left = client.list_multipart_uploads(Bucket=bucket, Prefix=f"{root}-other/")["Uploads"]
    assert [u["UploadId"] for u in left] == [begun[3]], "another folder's uploads are not ours"
    client.abort_multipart_upload(Bucket=bucket, Key=f"{root}-other/z", UploadId=begun[3])
    client.close()


def test_uploads_of_many_pages(s3_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from s3fs import S3FileSystem

    when = datetime(2026, 1, 1, tzinfo=UTC)
    root = s3_store.url.removeprefix("s3://").partition("/")[2]
    asked: list[dict[str, Any]] = []

    async def pages(self: Any, method: str, **request: Any) -> dict[str, Any]:
        asked.append(request)
        n = len(asked)
        return {"Uploads": [{"Key": f"{root}/{n}", "UploadId": f"u{n}", "Initiated": when}], "IsTruncated": n < 3,
                "NextKeyMarker": f"k{n}", "NextUploadIdMarker": f"m{n}"}  # fmt: skip

    monkeypatch.setattr(S3FileSystem, "_call_s3", pages)
    assert s3_store.uploads() == tuple(Upload(str(n), f"u{n}", when.timestamp()) for n in (1, 2, 3))
    assert [(r.get("KeyMarker"), r.get("UploadIdMarker")) for r in asked] == [(None, None), ("k1", "m1"), ("k2", "m2")]


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_other_stores_have_no_uploads(kind: str, request: pytest.FixtureRequest) -> None:
    assert request.getfixturevalue(f"{kind}_store").uploads() == ()


def test_empty_and_huge_bodies_are_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "LARGEST_PUT", 100)
    for write in (store.write, store.write_new):
        with pytest.raises(ValueError, match="an empty file"):
            write("x", b"")
        with pytest.raises(InputError, match="use smaller shards"):
            write("x", bytes(101))
    assert store.list() == {}


def test_a_store_is_its_url(store: Store) -> None:
    store.write_new("x", b"1")
    store.probe()
    assert vars(store) == {"url": store.url, "single_writer": False}
    assert pickle.loads(pickle.dumps(store)) == store
    assert len(pickle.dumps(store)) < 220 + len(store.url)
    assert hash(store) == hash(Store(store.url))
    with pytest.raises(AttributeError):
        store.url = "elsewhere"  # type: ignore[misc]


def test_unfinished_files_are_no_data(store: Store) -> None:
    store.write_new("a/x", b"1")
    fs, root = fsspec.url_to_fs(store.url)
    fs.pipe_file(f"{root}/a/{TEMPORARY_PREFIX}0123", b"half of some")
    assert list(store.list()) == list(store.list("a")) == ["a/x"]


def test_the_probe_leaves_nothing(store: Store) -> None:
    store.probe()
    fs, root = fsspec.url_to_fs(store.url, use_listings_cache=False)
    assert fs.find(root) == []


# -- local folders --


def test_local_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url in ("out", str(tmp_path / "out"), f"file://{tmp_path}/out"):
        assert Store(url).local("a/b") == tmp_path / "out/a/b"
    relative = pickle.dumps(Store("out"))
    monkeypatch.chdir("/")
    assert pickle.loads(relative).local("a") == tmp_path / "out/a"  # a worker's folder is another one
    assert Store("memory://x").local("a") is Store("s3://b/x").local("a") is None


class Killed(BaseException):
    """The process died here."""


CALLS = ("mkdir", "open", "fsync", "link", "replace", "unlink", "close")


def die_at(step: int, after: bool, patch: pytest.MonkeyPatch, owner: Any, names: tuple[str, ...]) -> list[str]:
    """Let the call number `step` of these functions be the last thing that this process does. Returns the log of calls."""
    log: list[str] = []

    def wrap(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            log.append(name)
            if len(log) > step or (len(log) == step and not after):
                raise Killed
            result = call(*args, **kwargs)
            if len(log) == step:
                raise Killed
            return result

        return wrapped

    for name in names:
        patch.setattr(owner, name, wrap(name, getattr(owner, name)))
    return log


@pytest.mark.parametrize("write", ["write", "write_new"])
@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_system_call_the_file_is_there_whole_or_not_at_all(tmp_path: Path, write: str, after: bool) -> None:
    step = 0
    while True:
        step += 1
        store = Store(str(tmp_path / f"{step}"))
        with pytest.MonkeyPatch.context() as patch:
            log = die_at(step, after, patch, os, CALLS)
            try:
                getattr(store, write)("a/b/x", b"whole")
                finished = True
            except Killed:
                finished = False
        assert store.list() in ({}, {"a/b/x": 5})
        getattr(store, write)("a/b/x", b"whole")
        assert store.list() == {"a/b/x": 5}
        assert store.read("a/b/x") == b"whole"
        if finished:
            break
    assert step > 10
    assert log.index("fsync", log.index("unlink") - 3) < log.index({"write": "replace", "write_new": "link"}[write])


def test_the_bytes_are_safe_before_the_name_and_the_name_before_we_return(
    local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = die_at(10**6, False, monkeypatch, os, CALLS)
    for expected in (
        ["fsync", "link", "unlink", "open", "fsync", "close"],
        ["fsync", "link", "open", "fsync", "close", "unlink"],
    ):
        local_store.write_new("x", b"1")
        assert log[-len(expected) :] == expected


@pytest.mark.parametrize(
    ("number", "call", "text"),
    [
        (errno.ENOSPC, "fsync", "disk is full"), (errno.EDQUOT, "fsync", "quota"), (errno.EROFS, "mkdir", "read-only"),
        (errno.EACCES, "mkdir", "access denied"), (errno.EMFILE, "open", "too many open files"),
        (errno.EPERM, "link", "hard links"), (errno.EOPNOTSUPP, "link", "hard links"), (errno.EIO, "fsync", "cannot be used"),
    ],
)  # fmt: skip
def test_a_person_is_told_what_to_do(
    local_store: Store, monkeypatch: pytest.MonkeyPatch, number: int, call: str, text: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(InputError, match=text) as caught:
            local_store.write_new("x", b"1")
    assert local_store.url in str(caught.value)
    assert list(Path(local_store.url).rglob("*")) == []  # nothing half-written stays


def test_a_file_where_a_folder_is_needed(local_store: Store) -> None:
    local_store.write_new("a", b"1")
    for attempt in (local_store.write, local_store.write_new):
        with pytest.raises(InputError, match="a file stands where a folder is needed"):
            attempt("a/b", b"1")


def test_folders_that_cannot_be_listed_are_an_error(local_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    local_store.write_new("a/b", b"1")
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("/a"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match="access denied"):
        local_store.list()


def test_a_circle_of_links_is_not_followed(local_store: Store) -> None:
    local_store.write_new("a/b", b"1")
    Path(local_store.url, "a/loop").symlink_to(local_store.url)
    assert list(local_store.list()) == ["a/b"]


# -- S3, and what goes wrong on a network --


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A deadline that a test can wait for."""
    monkeypatch.setattr(remote, "DEADLINE", 1.0)
    monkeypatch.setattr(storage, "PROBE_DEADLINE", 1.0)
    monkeypatch.setattr(remote, "LISTING_DEADLINE", 1.0)
    storage._backend.cache_clear()
    yield
    storage._backend.cache_clear()


def answer(status: int, code: str) -> ClientError:
    response = {"Error": {"Code": code, "Message": CANARY}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "PutObject")  # type: ignore[arg-type]


def before(patch: pytest.MonkeyPatch, method: str, *errors: BaseException | None) -> list[str]:
    """The next calls of a method of s3fs raise these instead (None: go through), later ones go through. Returns the log."""
    real, pending, log = getattr(S3FileSystem, method), list(errors), []

    async def faulty(self: Any, *args: Any, **kwargs: Any) -> Any:
        error = pending.pop(0) if pending else None
        log.append(type(error).__name__)
        if error is not None:
            raise error
        return await real(self, *args, **kwargs)

    patch.setattr(S3FileSystem, method, faulty)
    return log


@pytest.mark.parametrize(
    "error",
    [
        answer(503, "SlowDown"), answer(500, "InternalError"), answer(200, "InternalError"),
        answer(409, "ConditionalRequestConflict"), answer(409, "409"),
        answer(503, "Other"), answer(400, "RequestTimeout"), ConnectionResetError(), TimeoutError(),
    ],
    ids=repr,
)  # fmt: skip
def test_what_passes_is_tried_again(s3_store: Store, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    log = before(monkeypatch, "_call_s3", error, error)
    assert s3_store.write_new("x", b"1")
    assert len(log) == 3
    before(monkeypatch, "_call_s3", error)
    assert s3_store.read("x") == b"1"
    before(monkeypatch, "_find", error)
    assert s3_store.list() == {"x": 1}


def test_a_put_whose_answer_was_lost_counts(s3_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real, puts = S3FileSystem._pipe_file, []

    async def lost(self: Any, *args: Any, **kwargs: Any) -> Any:
        puts.append(1)
        result = await real(self, *args, **kwargs)
        if len(puts) == 1:
            raise ConnectionResetError
        return result

    monkeypatch.setattr(S3FileSystem, "_pipe_file", lost)
    assert s3_store.write_new("x", b"mine") is False  # it cannot be told from a twin's
    assert (len(puts), s3_store.read("x")) == (2, b"mine")


def test_a_lost_answer_does_not_hide_that_another_won(s3_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real, puts = S3FileSystem._pipe_file, []

    async def late(self: Any, path: str, *args: Any, **kwargs: Any) -> Any:
        puts.append(1)
        if len(puts) > 1:
            return await real(self, path, *args, **kwargs)
        await real(self, path, b"theirs")
        raise ConnectionResetError

    monkeypatch.setattr(S3FileSystem, "_pipe_file", late)
    with pytest.raises(NameTakenError):
        s3_store.write_new("x", b"mine")
    assert s3_store.read("x") == b"theirs"


@pytest.mark.parametrize("code", ["PreconditionFailed", "412", "Whatever"])
def test_412_means_that_the_name_is_taken_whatever_the_server_calls_it(
    s3_store: Store, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    s3_store.write_new("x", b"theirs")
    before(monkeypatch, "_pipe_file", answer(412, code))
    with pytest.raises(NameTakenError):
        s3_store.write_new("x", b"mine")


@pytest.mark.usefixtures("short")
def test_a_deadline_of_our_own(s3_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = [answer(503, "SlowDown")] * 1000
    for method, attempt in (
        ("_pipe_file", lambda: s3_store.write("x", b"1")), ("_cat_file", lambda: s3_store.read("x")),
        ("_find", s3_store.list), ("_info", lambda: s3_store.exists("x")), ("_rm_file", lambda: s3_store.remove(["x"])),
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            before(patch, method, *busy)
            monkeypatch.setattr(remote, "RANGE_BYTES", 1)
            start = time.monotonic()
            with pytest.raises(InputError, match=r"no good answer in 1 s \(SlowDown\).*AWS_ENDPOINT_URL"):
                attempt()
            assert time.monotonic() - start < 1.5


@pytest.mark.usefixtures("short")
def test_a_server_that_never_answers(s3_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_: Any, **__: Any) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(S3FileSystem, "_call_s3", hang)
    start = time.monotonic()
    with pytest.raises(InputError, match="no good answer"):
        s3_store.write_new("x", b"1")
    assert time.monotonic() - start < 3


@pytest.mark.usefixtures("short", "s3_bucket")
def test_an_endpoint_that_nobody_listens_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    S3FileSystem.clear_instance_cache()
    try:
        with pytest.raises(InputError, match=r"s3://b-b/x: no good answer .*check the network and the endpoint"):
            Store("s3://b-b/x").probe()
    finally:
        S3FileSystem.clear_instance_cache()
        storage._backend.cache_clear()


@pytest.mark.usefixtures("s3_bucket")
def test_a_bucket_that_is_not_there() -> None:
    store = Store("s3://nobody-made-this/x")
    for attempt in (
        store.probe, store.list, lambda: store.exists("a"), lambda: store.read("a"), lambda: store.open("a"),
        lambda: store.write_new("a", b"1"), lambda: store.write("a", b"1"), lambda: store.remove(["a"]),
    ):  # fmt: skip
        with pytest.raises(InputError, match=r"s3://nobody-made-this/x.*: no such bucket; create it, or correct"):
            attempt()


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (answer(403, "AccessDenied"), r"access denied \(AccessDenied\).*AWS_PROFILE"),
        (answer(403, "InvalidAccessKeyId"), r"access denied \(InvalidAccessKeyId\)"),
        (
            answer(400, "AuthorizationHeaderMalformed"),
            r"the store refused \(AuthorizationHeaderMalformed\); check the URL, the region",
        ),
        (answer(501, "NotImplemented"), r"the store refused \(NotImplemented\)"),
    ],
)
def test_what_lasts_is_told_at_once(s3_store: Store, monkeypatch: pytest.MonkeyPatch, error: ClientError, text: str) -> None:
    log = before(monkeypatch, "_call_s3", error)
    with pytest.raises(InputError, match=text) as caught:
        s3_store.write_new("x", b"1")
    assert len(log) == 1
    assert CANARY not in said(caught.value)


def test_credentials_that_are_missing(s3_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    S3FileSystem.clear_instance_cache()
    storage._backend.cache_clear()
    try:
        with pytest.raises(InputError, match=r"no usable credentials.*set AWS_ACCESS_KEY_ID"):
            s3_store.probe()
    finally:
        S3FileSystem.clear_instance_cache()
        storage._backend.cache_clear()


def test_the_probe_refuses_a_store_that_ignores_conditions(s3_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real = S3FileSystem._pipe_file

    async def careless(self: Any, path: str, data: bytes, mode: str = "overwrite", **kwargs: Any) -> Any:
        return await real(self, path, data, **kwargs)

    monkeypatch.setattr(S3FileSystem, "_pipe_file", careless)
    with pytest.raises(InputError, match="ignores conditional writes"):
        s3_store.probe()
    assert list(s3_store._backend.walk("")) == []


def test_the_probe_refuses_a_store_that_says_no_and_writes(s3_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real = S3FileSystem._pipe_file

    async def lying(self: Any, path: str, data: bytes, mode: str = "overwrite", **kwargs: Any) -> Any:
        await real(self, path, data, **kwargs)
        raise answer(412, "PreconditionFailed")

    monkeypatch.setattr(S3FileSystem, "_pipe_file", lying)
    with pytest.raises(InputError, match="and yet makes it"):
        s3_store.probe()


@pytest.fixture
def rclone_bucket(tmp_path: Path) -> Iterator[str]:
    with servers.rclone(tmp_path) as endpoint, servers.as_s3(endpoint) as url:
        yield url


def test_a_server_that_ignores_conditions_wants_a_promise(rclone_bucket: str) -> None:
    with pytest.raises(InputError, match=r"s3://.*/out: this store ignores conditional writes .* or say --single-writer"):
        Store(f"{rclone_bucket}/out").probe()
    store = Store(f"{rclone_bucket}/out", single_writer=True)
    store.probe()
    assert store.list() == {}
    assert store.write_new("a/x", b"first")
    assert not store.write_new("a/x", b"first")
    with pytest.raises(NameTakenError):
        store.write_new("a/x", b"other")
    assert store.read("a/x") == store.open("a/x").read() == b"first"
    assert pickle.loads(pickle.dumps(store)).single_writer


def test_a_large_body_goes_in_one_conditional_put(s3_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below s3fs's own limit it would be a multipart upload, which a killed writer leaves behind."""
    calls: list[tuple[str, Any]] = []
    real = S3FileSystem._call_s3

    async def watched(self: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        calls.append((method, kwargs.get("IfNoneMatch")))
        return await real(self, method, *args, **kwargs)

    monkeypatch.setattr(S3FileSystem, "_call_s3", watched)
    body = pa.py_buffer(bytes(101 * 2**20))
    assert s3_store.write_new("x", body)
    assert calls == [("put_object", "*")]
    assert s3_store.list() == {"x": body.size}


def test_an_object_that_shrinks_while_it_is_read(s3_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "READ_AHEAD_BYTES", 10)
    s3_store.write("x", bytes(100))
    file = s3_store.open("x")
    assert file.read(10) == bytes(10)
    s3_store.write("x", bytes(15))
    with pytest.raises(InputError, match="removed or changed while it was read"):
        file.read(50)
    s3_store.remove(["x"])
    with pytest.raises(InputError, match="removed or changed while it was read"):
        file.read(50)


# -- the other clouds, at the seam --


class Answered(OSError):
    """Stands for what gcsfs and azure-core raise: an HTTP status in `code` or `status_code`."""

    def __init__(self, **answer: Any) -> None:
        super().__init__(CANARY)
        vars(self).update(answer)


class Cloud:
    """What RemoteFolder asks of gcsfs or adlfs, over a dictionary; `refusal` is how it says that a name is taken."""

    def __init__(self, refusal: BaseException, missing: BaseException) -> None:
        self.objects: dict[str, bytes] = {}
        self.times: dict[str, Any] = {}
        self.refusal, self.missing = refusal, missing
        self.loop = fsspec.asyn.get_loop()

    async def _pipe_file(self, path: str, data: bytes, mode: str = "overwrite", chunksize: int = 0) -> None:
        if mode == "create" and path in self.objects:
            raise self.refusal
        self.objects[path] = data

    async def _cat_file(self, path: str, start: int, end: int) -> bytes:
        if path not in self.objects:
            raise self.missing
        return self.objects[path][start:end]

    async def _info(self, path: str) -> dict[str, Any]:
        if path not in self.objects:
            raise self.missing
        return {"type": "file", "size": len(self.objects[path])}

    async def _find(self, path: str, detail: bool) -> dict[str, Any]:
        facts = {"type": "file", **self.times}
        return {p: {**facts, "size": len(d)} for p, d in self.objects.items() if p.startswith(path)}

    async def _rm_file(self, path: str) -> None:
        if self.objects.pop(path, None) is None:
            raise self.missing


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
CLOUDS = {
    "gs://bucket/x": (Answered(code=412), FileNotFoundError("x")),
    "gcs://bucket/x": (Answered(code="412"), Answered(code=404)),
    "abfs://container@account.dfs.core.windows.net/x": (FileExistsError("x"), Answered(status_code=404)),
    "az://container/x": (Answered(status_code=412), FileNotFoundError("x")),
}


@pytest.mark.parametrize("url", CLOUDS)
def test_google_and_azure(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = Cloud(*CLOUDS[url])
    monkeypatch.setattr(remote, "url_to_fs", lambda url, **_: (cloud, "bucket/x"))
    monkeypatch.setattr(remote, "library_errors", lambda _: (OSError,))
    storage._backend.cache_clear()
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
    cloud.refusal = Answered(code=403)
    store.write("a", b"1")
    with pytest.raises(InputError, match="access denied") as caught:
        store.write_new("a", b"1")
    assert CANARY not in said(caught.value)
    storage._backend.cache_clear()


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
    folder = remote.RemoteFolder("gs://bucket/x", 5)
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
    folder = remote.RemoteFolder("abfs://container/x", 5)
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


# -- URLs and secrets --


@pytest.mark.parametrize(
    "url",
    [
        f"s3://AKIA:{CANARY}@bucket/x", f"s3://AKIA:{CANARY}/tail@bucket/x", f"s3://{CANARY}@bucket/x", f"gs://user:{CANARY}@bucket",
        f"s3://bucket/x?X-Amz-Signature={CANARY}", f"abfs://c:{CANARY}@account.dfs.core.windows.net/x", f"az://c/x?sig={CANARY}",
        f"az://c/x#{CANARY}", f"ftp://user:{CANARY}@host/x", f"https://host/x?token={CANARY}", f"simplecache::s3://k:{CANARY}@b/x",
        f"file://user:{CANARY}@host/x",
    ],
)  # fmt: skip
def test_a_url_with_a_secret_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(InputError) as caught:
        Store(url)
    assert CANARY not in said(caught.value)


@pytest.mark.parametrize("url", ["", "s3://", "s3:///", "gs://", "file://", "file://host/x", "hf://datasets/x", "a::b", "x\0y"])
def test_other_urls_that_name_no_folder(url: str) -> None:
    with pytest.raises(InputError):
        Store(url)


@pytest.mark.parametrize(
    "url",
    ["s3://bucket", "s3://bucket/a@b/c:d", "abfs://container@account.dfs.core.windows.net/x", "memory://a/b?c", "/tmp/a@b:c?d#e"],
)
def test_urls_that_only_look_odd(url: str) -> None:
    assert Store(url).url == url


@pytest.mark.usefixtures("short")
def test_no_secret_gets_out(s3_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, CANARY)
    S3FileSystem.clear_instance_cache()
    storage._backend.cache_clear()
    try:
        s3_store.write_new("x", b"1")
        shown = [repr(s3_store), str(s3_store), repr(pickle.dumps(s3_store)), str(s3_store.list())]
        for error in (answer(403, "SignatureDoesNotMatch"), OSError(CANARY), answer(400, "BadRequest")):
            with monkeypatch.context() as patch:
                before(patch, "_call_s3", error)
                with pytest.raises(InputError) as caught:
                    s3_store.write("x", b"1")
                shown.append(said(caught.value))
        with pytest.raises(InputError) as caught:
            Store("s3://nobody-made-this/x").probe()
        shown.append(said(caught.value))
        assert len(shown) == 8
        assert not [text for text in shown if CANARY in text]
    finally:
        S3FileSystem.clear_instance_cache()
        storage._backend.cache_clear()
