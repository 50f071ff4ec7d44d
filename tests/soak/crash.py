"""A build whose operation number k on the store fails, or is the last thing that its process does; for every k.

After each, readers see the versions of before, or those and the new one, each proved from its stored bytes. The same command then
ends in the digest and the files of a build that nothing happened to.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar, get_args

import pyarrow as pa
import pytest

from chameleon_data.errors import InputError
from chameleon_data.recipe import Recipe
from chameleon_data.store import store as storage
from chameleon_data.store.backend import TEMPORARY_PREFIX, Backend, Upload
from chameleon_data.store.local import LocalFolder
from chameleon_data.store.store import Store
from tests.support.deaths import Killed
from tests.support.inline_builds import build, list_outputs, verify_versions, write_small_recipe

FaultKind = Literal["fail", "kill", "after", "half"]
"""fail: the operation raises EIO, once. kill, half, after: the process dies before the operation, in its middle, or when it is
done and nobody has heard its answer."""
WRITES = ("create", "replace", "delete")
"""Operations that can be done by half."""
FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)
T = TypeVar("T")


@dataclass
class Fault:
    """What happens at operation number `at` on the store, counted from 1. At 0 nothing happens."""

    at: int = 0
    kind: FaultKind = "kill"
    count: int = 0
    """Operations so far."""
    dead: bool = False
    log: list[str] = field(default_factory=list)
    """Every operation, as its name and its path."""
    _lock: Any = field(default_factory=threading.Lock)

    def perform(self, name: str, operate: Callable[[], T], operate_by_half: Callable[[], None] = lambda: None) -> T:
        """Do an operation, or what the fault makes of it."""
        with self._lock:
            if self.dead:  # a dead process does nothing, in no `finally` either
                raise Killed
            self.count += 1
            self.log.append(name)
            hit = self.count == self.at
            self.dead = hit and self.kind != "fail"
        if not hit:
            return operate()
        if self.kind == "fail":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if self.kind == "after":
            operate()
        if self.kind == "half":
            operate_by_half()
        raise Killed


class FaultyBackend:
    """A backend whose operations meet a fault."""

    def __init__(self, real: Backend, fault: Fault) -> None:
        self.real, self.fault = real, fault

    def read(self, path: str) -> bytes:
        return self.fault.perform(f"read {path}", lambda: self.real.read(path))

    def read_range(self, path: str, start: int, end: int) -> pa.Buffer:
        return self.fault.perform(f"read {path} {start}", lambda: self.real.read_range(path, start, end))

    def open(self, path: str) -> BinaryIO:
        return self.fault.perform(f"open {path}", lambda: self.real.open(path))

    def create(self, path: str, data: pa.Buffer) -> None:
        self.fault.perform(f"create {path}", lambda: self.real.create(path, data), lambda: self._write_half(path, data))

    def replace(self, path: str, data: pa.Buffer | Path) -> None:
        self.fault.perform(f"replace {path}", lambda: self.real.replace(path, data), lambda: self._write_half(path, data))

    def size(self, path: str) -> int | None:
        return self.fault.perform(f"size {path}", lambda: self.real.size(path))

    def walk(self, folder: str) -> Iterable[tuple[str, int, float]]:
        return self.fault.perform(f"walk {folder}", lambda: list(self.real.walk(folder)))

    def delete(self, paths: list[str]) -> None:
        name = f"delete {len(paths)} {paths[0] if paths else ''}"
        self.fault.perform(name, lambda: self.real.delete(paths), lambda: self.real.delete(paths[: len(paths) // 2]))

    def uploads(self) -> Iterable[Upload]:
        return self.fault.perform("uploads", lambda: list(self.real.uploads()))

    def abort(self, upload: Upload) -> None:
        self.fault.perform(f"abort {upload.path}", lambda: self.real.abort(upload))

    def _write_half(self, path: str, data: pa.Buffer | Path) -> None:
        """Write by half: on a disk half the bytes under a temporary name, elsewhere nothing."""
        if isinstance(self.real, LocalFolder):
            target = self.real.root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            body = data.read_bytes() if isinstance(data, Path) else data.to_pybytes()
            target.with_name(TEMPORARY_PREFIX + secrets.token_hex(8)).write_bytes(body[: len(body) // 2])


@contextmanager
def inject(fault: Fault) -> Iterator[None]:
    """Every store of this process meets the fault."""
    real = storage._backend
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "_backend", lambda *key: FaultyBackend(real(*key), fault))
        yield


@dataclass(frozen=True)
class CleanBuild:
    """A build that nothing happened to."""

    recipe: Recipe
    digest: str
    files: dict[str, int]
    """What it leaves, see `list_outputs`."""
    operations: list[str]
    """Its operations on the store, in order."""

    def check(self, out: str, where: object, before: int = 0) -> None:
        """A dataset holds this version after `before` others, and the same files."""
        store = Store(out)
        assert [manifest.digest for manifest in verify_versions(store)][before:] == [self.digest], where
        assert list_outputs(store) == self.files, where


def build_clean(recipe: Recipe) -> CleanBuild:
    fault = Fault()
    with inject(fault):
        digest = build(recipe).digest
    return CleanBuild(recipe, digest, list_outputs(Store(recipe.out)), fault.log)


def change_out(recipe: Recipe, out: str | Path) -> Recipe:
    """The same recipe for another folder."""
    return recipe.model_copy(update={"out": str(out)})


def crash(clean: CleanBuild, out: str, kind: FaultKind, at: int, before: int) -> str:
    """One build that is hit, and the next one; returns the operation that was hit. `before` versions are there already."""
    fault, recipe = Fault(at, kind), change_out(clean.recipe, out)
    end: BaseException | None = None
    with inject(fault):
        try:
            build(recipe)
        except (Killed, InputError) as error:
            end = error
    hit = fault.log[at - 1]
    where = (kind, at, hit)
    if end is None:  # an active record that cannot be removed expires by itself
        assert kind == "fail", where
        assert re.match("delete [0-9]+ _chameleon/active/", hit), where
    else:
        assert (type(end) is Killed) == (kind != "fail"), (where, end)
    assert len(verify_versions(Store(out))) in (before, before + 1), where
    assert build(recipe).digest == clean.digest, where
    clean.check(out, where, before)
    return hit


def crash_at_every_step(folder: Path, out: Callable[[str], str], kind: FaultKind, steps: slice = slice(None)) -> list[str]:
    """Hit a first build, and a second one of another budget, at each of their operations; returns the operations.

    `out` gives the URL of a folder by its name. With `steps` only some operations are hit, and the first of each name.
    """
    hits = []
    for before in (0, 1):
        recipe = write_small_recipe(folder, out(f"clean-{kind}-{before}"))
        if before:
            build(recipe.model_copy(update={"mix": recipe.mix.model_copy(update={"budget": 20_000})}))
        start = {path: Store(recipe.out).read(path) for path in Store(recipe.out).list()}
        clean = build_clean(recipe)
        names = [operation.split()[0] for operation in clean.operations]
        possible = [at for at, name in enumerate(names, 1) if kind != "half" or name in WRITES]
        firsts = {names[at - 1]: at for at in reversed(possible)}
        for at in sorted({*possible[steps], *firsts.values()}):
            store = Store(out(f"{kind}-{before}-{at}"))
            for path, body in start.items():
                store.write(path, body)
            hits.append(crash(clean, store.url, kind, at, before))
            store.remove(store.list())
    return hits
