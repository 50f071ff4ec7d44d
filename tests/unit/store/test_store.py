"""What a Store checks before it asks its backend, the same for every kind: paths, bodies, probe, names that are taken."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from chameleon_data.errors import InputError
from chameleon_data.store import object_store as remote
from chameleon_data.store.backend import TEMPORARY_PREFIX
from chameleon_data.store.memory import MemoryFolder
from chameleon_data.store.store import NameTakenError, Store
from tests.support.schedules import at_once


@pytest.mark.parametrize("path", ["", "/a", "../a", "a/../b", "a/..", "a//b", "./a", "a/", "a\\b", "a\0b"])
def test_paths_stay_inside(local_store: Store, path: str) -> None:
    for attempt in (
        local_store.read, local_store.open, local_store.exists, local_store.local, lambda p: local_store.remove([p]),
        lambda p: local_store.write(p, b"1"), lambda p: local_store.write_new(p, b"1"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="no path inside the store"):
            attempt(path)
    assert not Path(local_store.url).exists()


def test_unfinished_files_can_be_removed_and_nothing_else(memory_store: Store) -> None:
    path = f"a/{TEMPORARY_PREFIX}1"
    for attempt in (memory_store.read, memory_store.open, memory_store.exists, lambda p: memory_store.write(p, b"1")):
        with pytest.raises(ValueError, match="no path inside the store"):
            attempt(path)
    memory_store._backend.replace(path, pa.py_buffer(b"half"))
    assert (memory_store.list(), list(memory_store.entries("a"))) == ({}, [path])
    memory_store.remove([path])
    assert memory_store.entries() == {}


def test_empty_and_huge_bodies_are_refused(memory_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "LARGEST_PUT", 100)
    for write in (memory_store.write, memory_store.write_new):
        with pytest.raises(ValueError, match="an empty file"):
            write("x", b"")
        with pytest.raises(InputError, match="use smaller shards"):
            write("x", bytes(101))
    assert memory_store.list() == {}


def test_a_read_that_flips_a_bit_does_not_make_a_twin_another(memory_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    memory_store.write_new("x", b"mine")
    reads, read = [], MemoryFolder.read

    def flipped(self: MemoryFolder, path: str) -> bytes:
        reads.append(path)
        return b"mihe" if len(reads) == 1 else read(self, path)

    monkeypatch.setattr(MemoryFolder, "read", flipped)
    assert (memory_store.write_new("x", b"mine"), len(reads)) == (False, 2)


def test_a_name_that_is_freed_meanwhile_is_taken(memory_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    memory_store.write_new("x", b"theirs")
    read = MemoryFolder.read

    def gone(self: MemoryFolder, path: str) -> bytes:
        self.delete([path])
        return read(self, path)

    monkeypatch.setattr(MemoryFolder, "read", gone)
    assert memory_store.write_new("x", b"mine")
    monkeypatch.undo()
    assert memory_store.read("x") == b"mine"


def test_the_probe_refuses_a_store_that_ignores_conditions(memory_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryFolder, "create", MemoryFolder.replace)
    with pytest.raises(InputError, match="ignores conditional writes"):
        memory_store.probe()
    assert memory_store.entries() == {}


def test_the_probe_refuses_a_store_that_says_no_and_writes(memory_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def lie(self: MemoryFolder, path: str, data: pa.Buffer) -> None:
        self.replace(path, data)
        raise FileExistsError

    monkeypatch.setattr(MemoryFolder, "create", lie)
    with pytest.raises(InputError, match="and yet makes it"):
        memory_store.probe()
    assert memory_store.entries() == {}


def test_in_memory_nobody_comes_between_looking_and_writing(memory_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    look = MemoryFileSystem.isfile

    def slow(self: MemoryFileSystem, path: str) -> bool:
        taken = look(self, path)
        time.sleep(0.005)
        return bool(taken)

    monkeypatch.setattr(MemoryFileSystem, "isfile", slow)
    assert sorted(at_once(lambda _: memory_store.write_new("race", b"the same"))) == [False] * 7 + [True]


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_other_stores_than_s3_have_no_uploads(kind: str, request: pytest.FixtureRequest) -> None:
    store: Any = request.getfixturevalue(f"{kind}_store")
    assert store.uploads() == ()
    with pytest.raises(ValueError, match="takes no multipart uploads"):
        store.abort(remote.Upload("x", "id", 0.0))


def test_a_name_that_is_taken_is_an_input_error(memory_store: Store) -> None:
    memory_store.write_new("x", b"theirs")
    with pytest.raises(NameTakenError, match=f"{memory_store.url}/x: other bytes are there already") as caught:
        memory_store.write_new("x", b"mine")
    assert isinstance(caught.value, InputError)
