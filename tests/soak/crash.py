"""A build whose k-th operation on the store fails, or is the last thing that its process does, for every k until it passes.

After each, readers see the old versions or the old ones and the new one, every one proved from its bytes; and the same command
ends in the same digest, with the same files as a build that nothing happened to.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import threading
from collections.abc import Callable, Iterable
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
from tests.soak.alone import alone, build, kept, readable, small_recipe
from tests.support.deaths import Killed

How = Literal["fail", "kill", "after", "half"]
"""fail: EIO once. kill: dead before the operation; after: dead when it is done, its answer unheard; half: dead in its middle."""
HALVES = ("create", "replace", "delete")
"""Operations that have a middle."""
HOWS: tuple[How, ...] = get_args(How)
T = TypeVar("T")


@dataclass
class Fate:
    """Counts operations and strikes at number `at`, counted from 1."""

    at: int = 0
    how: How = "kill"
    count: int = 0
    dead: bool = False
    log: list[str] = field(default_factory=list)
    _lock: Any = field(default_factory=threading.Lock)

    def meet(self, name: str, act: Callable[[], T], half: Callable[[], None] = lambda: None) -> T:
        with self._lock:
            if self.dead:  # a dead process does nothing, in no `finally` either
                raise Killed
            self.count += 1
            self.log.append(name)
            struck = self.count == self.at
            self.dead = struck and self.how != "fail"
        if not struck:
            return act()
        if self.how == "fail":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if self.how == "after":
            act()
        if self.how == "half":
            half()
        raise Killed


class Fated:
    """A Backend under a fate."""

    def __init__(self, real: Backend, fate: Fate) -> None:
        self.real, self.fate = real, fate

    def read(self, path: str) -> bytes:
        return self.fate.meet(f"read {path}", lambda: self.real.read(path))

    def read_range(self, path: str, start: int, end: int) -> pa.Buffer:
        return self.fate.meet(f"read {path} {start}", lambda: self.real.read_range(path, start, end))

    def open(self, path: str) -> BinaryIO:
        return self.fate.meet(f"open {path}", lambda: self.real.open(path))

    def create(self, path: str, data: pa.Buffer) -> None:
        self.fate.meet(f"create {path}", lambda: self.real.create(path, data), lambda: self._leave(path, data))

    def replace(self, path: str, data: pa.Buffer | Path) -> None:
        self.fate.meet(f"replace {path}", lambda: self.real.replace(path, data), lambda: self._leave(path, data))

    def size(self, path: str) -> int | None:
        return self.fate.meet(f"size {path}", lambda: self.real.size(path))

    def walk(self, folder: str) -> Iterable[tuple[str, int]]:
        return self.fate.meet(f"walk {folder}", lambda: list(self.real.walk(folder)))

    def delete(self, paths: list[str]) -> None:
        name = f"delete {len(paths)} {paths[0] if paths else ''}"
        self.fate.meet(name, lambda: self.real.delete(paths), lambda: self.real.delete(paths[: len(paths) // 2]))

    def uploads(self) -> Iterable[Upload]:
        return self.fate.meet("uploads", lambda: list(self.real.uploads()))

    def abort(self, upload: Upload) -> None:
        self.fate.meet(f"abort {upload.path}", lambda: self.real.abort(upload))

    def _leave(self, path: str, data: pa.Buffer | Path) -> None:
        """What a writer leaves that dies before the name: half the bytes in a file of another name, or nothing in a bucket."""
        if isinstance(self.real, LocalFolder):
            target = self.real.root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            body = data.read_bytes() if isinstance(data, Path) else data.to_pybytes()
            target.with_name(TEMPORARY_PREFIX + secrets.token_hex(8)).write_bytes(body[: len(body) // 2])


@contextmanager
def fated(fate: Fate) -> Any:
    """Every store of this process meets this fate."""
    real = storage._backend
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "_backend", lambda *key: Fated(real(*key), fate))
        yield


def operations(recipe: Recipe) -> Fate:
    """The fate of a build that nothing happens to; its log holds every operation."""
    fate = Fate()
    with alone(), fated(fate):
        build(recipe)
    return fate


def crash(recipe: Recipe, how: How, at: int, digest: str, files: dict[str, int], before: int) -> str:
    """One build that is struck, looked at, and gone on with; returns the operation that was struck.

    `digest` and `files` are those of a build that nothing happened to; `before` versions are there already.
    """
    store, fate = Store(recipe.out), Fate(at, how)
    with alone():
        end: BaseException | None = None
        with fated(fate):
            try:
                build(recipe)
            except (Killed, InputError) as error:
                end = error
        struck = fate.log[at - 1]
        where = (how, at, struck)
        if end is None:  # an active record that cannot be removed expires by itself
            assert how == "fail", where
            assert re.match("delete [0-9]+ _chameleon/active/", struck), where
        else:
            assert (type(end) is Killed) == (how != "fail"), (where, end)
        seen = readable(store)
        assert len(seen) in (before, before + 1), where
        again = build(recipe)
        assert again.digest == digest, where
        seen = readable(store)
        assert [m.digest for m in seen][before:] == [digest], where
        assert kept(store) == files, where
    return struck


def crash_at_every_step(folder: Path, out: Callable[[str], str], how: How, steps: slice = slice(None)) -> list[str]:
    """Strike a first build, and a second one of another budget, at each of their operations; returns what was struck.

    `out` gives the URL of a folder by its name.
    """
    struck = []
    for before in (0, 1):
        clean = small_recipe(folder, out(f"clean-{how}-{before}"))
        earlier = clean.model_copy(update={"mix": clean.mix.model_copy(update={"budget": 20_000})})
        with alone():
            if before:
                build(earlier)
            start = {path: Store(clean.out).read(path) for path in Store(clean.out).list()}
            log = operations(clean).log
            digest, files = build(clean).digest, kept(Store(clean.out))
        some = [at for at, name in enumerate(log, 1) if how != "half" or name.split()[0] in HALVES]
        firsts = {name.split()[0]: at for at, name in reversed([*enumerate(log, 1)]) if at in some}
        for at in sorted({*some[steps], *firsts.values()}):
            recipe = clean.model_copy(update={"out": out(f"{how}-{before}-{at}")})
            for path, body in start.items():
                Store(recipe.out).write(path, body)
            struck.append(crash(recipe, how, at, digest, files, before))
            Store(recipe.out).remove(Store(recipe.out).list())
    return struck
