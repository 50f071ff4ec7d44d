"""What every kind of store promises: a local folder, memory, and S3 as moto, ministack and rclone serve it.

What goes wrong on a network, and what the other clouds are asked, is in tests/unit/store/test_object_store.py.
"""

from __future__ import annotations

import pickle
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import ClientError

from chameleon_data.errors import InputError
from chameleon_data.store import object_store as remote
from chameleon_data.store.backend import TEMPORARY_PREFIX
from chameleon_data.store.store import NameTakenError, Store
from tests.soak import servers
from tests.support.deaths import Killed
from tests.support.schedules import at_once


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
    fs, root = fsspec.url_to_fs(store.url)
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


def test_of_eight_writers_of_the_same_bytes_none_fails(store: Store) -> None:
    results = at_once(lambda _: store.write_new("race", b"the same"))
    assert sorted(results) == [False] * 7 + [True]


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
        assert all(store.read("x") in bodies for _ in range(20))
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


def test_ranges_end_where_the_file_does(store: Store) -> None:
    store.write_new("x", b"0123456789")
    ranges = [store.read_range("x", *ends).to_pybytes() for ends in ((0, 3), (3, 3), (7, 10), (7, 99))]
    assert ranges == [b"012", b"", b"789", b"789"]


def test_parquet_is_read_from_any_store(store: Store) -> None:
    table = pa.table({"a": range(20_000), "b": [str(i) for i in range(20_000)]})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=5_000)
    store.write_new("t.parquet", sink.getvalue())
    assert pq.ParquetFile(store.open("t.parquet")).read_row_group(2, ["b"]) == table.slice(10_000, 5_000).select(["b"])
    assert pq.read_table(store.open("t.parquet")) == table


def test_a_file_that_is_missing(store: Store) -> None:
    for attempt in (store.read, store.open, lambda path: store.read_range(path, 0, 1)):
        with pytest.raises(InputError, match="no such file; was the folder copied whole"):
            attempt("a/b")


def test_entries_have_the_stores_time(store: Store) -> None:
    store.write("a/x", b"1")
    before = store.entries()
    assert {path: entry.bytes for path, entry in before.items()} == {"a/x": 1}
    time.sleep(1.05 if store.url.startswith("s3:") else 0.05)  # S3 tells whole seconds
    store.write("a/y", b"22")
    after = store.entries("a")
    assert list(after) == ["a/x", "a/y"]
    assert after["a/x"] == before["a/x"]
    assert 0 < after["a/y"].modified - after["a/x"].modified < 30
    store.write("a/x", b"1")
    assert store.entries()["a/x"].modified > before["a/x"].modified


def test_a_store_is_its_url(store: Store) -> None:
    store.write_new("x", b"1")
    assert vars(store) == {"url": store.url, "single_writer": False}
    assert pickle.loads(pickle.dumps(store)) == store
    assert len(pickle.dumps(store)) < 220 + len(store.url), "neither a connection nor a secret is pickled"
    assert hash(store) == hash(Store(store.url))
    with pytest.raises(AttributeError):
        store.url = "elsewhere"


def test_unfinished_files_are_no_data(store: Store) -> None:
    store.write_new("a/x", b"1")
    fs, root = fsspec.url_to_fs(store.url)
    fs.pipe_file(f"{root}/a/{TEMPORARY_PREFIX}0123", b"half of it")
    assert list(store.list()) == list(store.list("a")) == ["a/x"]
    assert list(store.entries()) == [f"a/{TEMPORARY_PREFIX}0123", "a/x"]
    store.remove([f"a/{TEMPORARY_PREFIX}0123"])
    assert list(store.entries()) == ["a/x"]


def test_the_probe_accepts_the_store_and_leaves_nothing(store: Store) -> None:
    store.probe()
    assert store.entries() == {}


# S3 alone


def test_dangling_uploads_are_listed_and_ended(s3_store: Store, s3_bucket: str) -> None:
    import boto3

    client, bucket = boto3.client("s3"), s3_bucket.removeprefix("s3://")
    root = s3_store.url.removeprefix(f"{s3_bucket}/")
    keys = (f"{root}/a/x", f"{root}/a/x", f"{root}/y", f"{root}-other/z")
    begun = [client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"] for key in keys]
    client.upload_part(Bucket=bucket, Key=f"{root}/y", UploadId=begun[2], PartNumber=1, Body=b"half")
    s3_store.write("whole", b"1")
    uploads = s3_store.uploads()
    assert sorted((u.path, u.id) for u in uploads) == sorted([("a/x", begun[0]), ("a/x", begun[1]), ("y", begun[2])])
    assert all(u.begun <= s3_store.entries()["whole"].modified for u in uploads)  # moto says 2010 of every upload
    for upload in uploads[:2]:
        s3_store.abort(upload)
        s3_store.abort(upload)
    assert s3_store.uploads() == uploads[2:]
    s3_store.abort(uploads[2])
    assert (s3_store.uploads(), list(s3_store.list())) == ((), ["whole"])
    left = client.list_multipart_uploads(Bucket=bucket, Prefix=f"{root}-other/")["Uploads"]
    assert [u["UploadId"] for u in left] == [begun[3]], "another folder's uploads are not ours"
    client.abort_multipart_upload(Bucket=bucket, Key=f"{root}-other/z", UploadId=begun[3])
    client.close()


def test_a_bucket_that_is_missing(s3_bucket: str) -> None:
    store = Store("s3://nobody-made-this/x")
    for attempt in (
        store.probe, store.list, lambda: store.exists("a"), lambda: store.read("a"), lambda: store.open("a"),
        lambda: store.write_new("a", b"1"), lambda: store.write("a", b"1"), lambda: store.remove(["a"]),
    ):  # fmt: skip
        with pytest.raises(InputError, match=r"s3://nobody-made-this/x.*: no such bucket; create it, or correct"):
            attempt()


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


@pytest.fixture
def rclone_bucket(tmp_path: Path) -> Iterator[str]:
    with servers.rclone(tmp_path) as endpoint, servers.as_s3(endpoint) as url:
        yield url


def test_a_server_that_ignores_conditions_needs_a_promise(rclone_bucket: str) -> None:
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


@pytest.mark.parametrize("name", ["my [1] folder", "a*b?c", "50%41#x", "x::y", "données 漢字"])
@pytest.mark.parametrize("kind", ["local", "s3"])
def test_a_folder_may_have_any_name(request: pytest.FixtureRequest, tmp_path: Path, kind: str, name: str) -> None:
    base = str(tmp_path) if kind == "local" else f"{request.getfixturevalue('s3_bucket')}/{uuid.uuid4().hex}"
    store = Store(f"{base}/{name}")
    assert store.write_new("a/b.json", b"one")
    store.write("a/c.json", b"two")
    assert (store.read("a/b.json"), store.open("a/c.json").read()) == (b"one", b"two")
    assert store.list("a") == store.list() == {"a/b.json": 3, "a/c.json": 3}
    store.remove(["a/b.json"])
    assert store.list() == {"a/c.json": 3}
    assert Store(base).list(name) == {f"{name}/a/c.json": 3}


def test_s3_deletes_many_files_in_one_request(s3_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "DELETED_AT_ONCE", 4)
    singly: list[str] = []
    real = s3_store._backend.fs._rm_file
    monkeypatch.setattr(s3_store._backend.fs, "_rm_file", lambda path, **how: singly.append(path) or real(path, **how))
    names = [f"many/{number} &<é>" for number in range(10)]
    for name in [*names, "stays"]:
        s3_store.write_new(name, b"1")
    s3_store.remove([*names, "gone/already"])
    assert list(s3_store.list()) == ["stays"]
    assert singly == []


@pytest.mark.parametrize("refusal", [None, ("NotImplemented", 501), ("MethodNotAllowed", 405)])
def test_what_s3_does_not_delete_with_others_is_deleted_by_itself(
    s3_store: Store, monkeypatch: pytest.MonkeyPatch, refusal: tuple[str, int] | None
) -> None:
    """It fails for one file, or the server has no such request."""
    fs = s3_store._backend.fs
    real = fs._call_s3

    async def answer(method: str, *given: Any, **request: Any) -> Any:
        if method != "delete_objects":
            return await real(method, *given, **request)
        if refusal:
            code, status = refusal
            raise ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, method)
        failing, *others = request["Delete"]["Objects"]
        await real(method, *given, **{**request, "Delete": {"Objects": others}})
        return {"Errors": [{**failing, "Code": "InternalError"}]}

    monkeypatch.setattr(fs, "_call_s3", answer)
    for name in ("a", "b", "c"):
        s3_store.write_new(name, b"1")
    s3_store.remove(["a", "b"])
    assert list(s3_store.list()) == ["c"]
