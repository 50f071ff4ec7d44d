"""A local folder: killed at any system call, what a person is told, and what is not followed."""

from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from chameleon_data.errors import InputError
from chameleon_data.store.store import Store
from tests.support.deaths import SYSTEM_CALLS, Killed, die_at


@pytest.mark.parametrize("write", ["write", "write_new"])
@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_system_call_the_file_is_there_whole_or_not_at_all(tmp_path: Path, write: str, after: bool) -> None:
    step = 0
    while True:
        step += 1
        store = Store(str(tmp_path / f"{step}"))
        with pytest.MonkeyPatch.context() as patch:
            log = die_at(step, after, patch, os, SYSTEM_CALLS)
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
    log = die_at(10**6, False, monkeypatch, os, SYSTEM_CALLS)
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


def test_a_folder_that_cannot_be_made_is_told_as_such() -> None:
    """And not as one that was not copied whole."""
    for step in (lambda store: store.probe(), lambda store: store.write("a", b"1"), lambda store: store.write_new("a", b"1")):
        with pytest.raises(InputError, match=r"^/proc/nowhere/out.*no folder can be made there; choose another one$"):
            step(Store("/proc/nowhere/out"))


def test_where_a_file_is_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url in ("out", str(tmp_path / "out"), f"file://{tmp_path}/out"):
        assert Store(url).local("a/b") == tmp_path / "out/a/b"
    relative = pickle.dumps(Store("out"))
    monkeypatch.chdir("/")
    assert pickle.loads(relative).local("a") == tmp_path / "out/a", "a worker runs in another folder"
    assert Store("memory://x").local("a") is Store("s3://b/x").local("a") is None
