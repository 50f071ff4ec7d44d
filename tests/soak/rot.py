"""Bytes that a disk or a network changes. However many are flipped in what a build reads, no wrong version comes of it.

    flipped_at_rest      a byte of one file of an unfinished build is another one for good
    flipped_in_flight    some reads return a flipped or a shortened copy of what is there

Both: the build says so or goes on, and the same command ends in the digest of a build that nothing happened to.
"""

from __future__ import annotations

import io
import random
from collections.abc import Iterable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pytest

from chameleon_data.errors import InputError
from chameleon_data.recipe import Recipe
from chameleon_data.store import store as storage
from chameleon_data.store.store import Backend, Store
from tests.soak.alone import alone, build, kept, readable
from tests.soak.crash import Fate, Killed, fated

ATTEMPTS = 6


class Rotten:
    """A Backend some of whose reads lie."""

    def __init__(self, real: Backend, random: random.Random, share: float, told: list[str]) -> None:
        self.real, self.random, self.share, self.told = real, random, share, told

    def read(self, path: str) -> bytes:
        return self._lie(path, self.real.read(path))

    def read_range(self, path: str, start: int, end: int) -> pa.Buffer:
        return pa.py_buffer(self._lie(path, self.real.read_range(path, start, end).to_pybytes()))

    def open(self, path: str) -> BinaryIO:
        return io.BytesIO(self._lie(path, self.real.open(path).read()))

    def create(self, path: str, data: pa.Buffer) -> None:
        self.real.create(path, data)

    def replace(self, path: str, data: pa.Buffer | Path) -> None:
        self.real.replace(path, data)

    def size(self, path: str) -> int | None:
        return self.real.size(path)

    def walk(self, folder: str) -> Iterable[tuple[str, int]]:
        return self.real.walk(folder)

    def delete(self, paths: list[str]) -> None:
        self.real.delete(paths)

    def _lie(self, path: str, body: bytes) -> bytes:
        if self.random.random() >= self.share:
            return body
        self.told.append(path)
        return body[: self.random.randrange(len(body))] if self.random.random() < 0.2 else flipped(body, self.random)


def flipped(body: bytes, random: random.Random) -> bytes:
    """With one bit another one."""
    changed = bytearray(body)
    changed[random.randrange(len(body))] ^= 1 << random.randrange(8)
    return bytes(changed)


@contextmanager
def rotten(random: random.Random, share: float, told: list[str]) -> Any:
    """Reads of this process lie in `share` of the cases."""
    real = storage._backend
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "_backend", lambda *key: Rotten(real(*key), random, share, told))
        yield


def flipped_in_flight(recipe: Recipe, seed: int, digest: str, files: dict[str, int]) -> tuple[int, int]:
    """(lies told, builds that refused) until a build passes."""
    chance, told, refused = random.Random(seed), [], 0
    with alone():
        with rotten(chance, chance.choice([0.02, 0.1, 0.3]), told):
            for _ in range(ATTEMPTS):
                try:
                    assert build(recipe).digest == digest, seed
                    break
                except InputError:
                    refused += 1
        readable(Store(recipe.out))
        _converged(recipe, seed, digest, files)
    return len(told), refused


def flipped_at_rest(recipe: Recipe, seed: int, at: int, digest: str, files: dict[str, int]) -> str:
    """A build is killed at operation `at`, one of its files rots, and it is gone on with; returns the file."""
    chance, store = random.Random(seed), Store(recipe.out)
    with alone():
        with pytest.raises(Killed), fated(Fate(at, "kill")):
            build(recipe)
        path = chance.choice([p for p in store.list() if "/parquet/" not in p and "/mds/" not in p])  # verify's, by their sha256
        store.write(path, flipped(store.read(path), chance))
        _converged(recipe, (seed, at, path), digest, files)
    return path


def _converged(recipe: Recipe, where: Any, digest: str, files: dict[str, int]) -> None:
    store = Store(recipe.out)
    for _ in range(ATTEMPTS):
        with suppress(InputError):
            assert build(recipe).digest == digest, where
            break
    else:
        raise AssertionError(f"{where}: still refused after {ATTEMPTS} builds")
    assert [m.digest for m in readable(store)] == [digest], where
    assert kept(store) == files, where


def clean(recipe: Recipe) -> tuple[str, dict[str, int], list[str]]:
    """Digest, files and operations of a build that nothing happens to."""
    fate = Fate()
    with alone(), fated(fate):
        digest = build(recipe).digest
    return digest, kept(Store(recipe.out)), fate.log


def elsewhere(recipe: Recipe, out: str | Path) -> Recipe:
    """The same recipe into another folder."""
    return recipe.model_copy(update={"out": str(out)})
