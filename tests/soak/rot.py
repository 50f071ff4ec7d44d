"""Bytes that a disk or a network changes. However many are flipped in what a build reads, no wrong version comes of it.

    flip_at_rest      one bit of one file of an unfinished build is flipped for good
    flip_in_flight    some reads return a flipped or a shortened copy of the file

The build goes on or says what is damaged, and the same command ends in the digest of a build that nothing happened to.
"""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

import pyarrow as pa
import pytest

from chameleon_data.errors import InputError
from chameleon_data.recipe import Recipe
from chameleon_data.store import store as storage
from chameleon_data.store.backend import Backend
from chameleon_data.store.store import Store
from tests.soak.crash import CleanBuild, Fault, Killed, change_out, inject
from tests.support.inline_builds import build, verify_versions

ATTEMPTS = 6
"""Builds after which one must have passed: each finds and removes one damaged record at least."""


class RottingBackend:
    """A backend that returns damaged bytes in `share` of its reads, and notes their paths."""

    def __init__(self, real: Backend, chance: random.Random, share: float, damaged: list[str]) -> None:
        self._real, self._chance, self._share, self._damaged = real, chance, share, damaged

    def read(self, path: str) -> bytes:
        return self._damage(path, self._real.read(path))

    def read_range(self, path: str, start: int, end: int) -> pa.Buffer:
        return pa.py_buffer(self._damage(path, self._real.read_range(path, start, end).to_pybytes()))

    def open(self, path: str) -> BinaryIO:
        return io.BytesIO(self._damage(path, self._real.open(path).read()))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def _damage(self, path: str, body: bytes) -> bytes:
        if self._chance.random() >= self._share:
            return body
        self._damaged.append(path)
        return body[: self._chance.randrange(len(body))] if self._chance.random() < 0.2 else flip_bit(body, self._chance)


def flip_bit(body: bytes, chance: random.Random) -> bytes:
    changed = bytearray(body)
    changed[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def flip_file(store: Store, path: str, seed: int) -> bytes:
    """Flip a bit of a file for good; returns what it holds now."""
    store.write(path, damaged := flip_bit(store.read(path), random.Random(seed)))
    return damaged


@contextmanager
def rot_reads(chance: random.Random, share: float, damaged: list[str]) -> Iterator[None]:
    """`share` of the reads of this process return damaged bytes."""
    real = storage._backend
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "_backend", lambda *key: RottingBackend(real(*key), chance, share, damaged))
        yield


def flip_in_flight(clean: CleanBuild, out: str, seed: int) -> tuple[int, int]:
    """(damaged reads, builds that refused) until a build passes."""
    chance, damaged, refused, recipe = random.Random(seed), list[str](), 0, change_out(clean.recipe, out)
    with rot_reads(chance, chance.choice([0.02, 0.1, 0.3]), damaged):
        for _ in range(ATTEMPTS):
            try:
                assert build(recipe).digest == clean.digest, seed
                break
            except InputError:
                refused += 1
    verify_versions(Store(out))
    _check_next_build(clean, recipe, seed)
    return len(damaged), refused


def flip_at_rest(clean: CleanBuild, out: str, seed: int, at: int) -> str:
    """A build is killed at operation `at`, a bit of one of its files is flipped, and it goes on; returns the file."""
    chance, store, recipe = random.Random(seed), Store(out), change_out(clean.recipe, out)
    with pytest.raises(Killed), inject(Fault(at, "kill")):
        build(recipe)
    path = chance.choice([p for p in store.list() if "/parquet/" not in p and "/mds/" not in p])  # shards have their sha256
    store.write(path, flip_bit(store.read(path), chance))
    _check_next_build(clean, recipe, (seed, at, path))
    return path


def _check_next_build(clean: CleanBuild, recipe: Recipe, where: object) -> None:
    for _ in range(ATTEMPTS):
        with suppress(InputError):
            assert build(recipe).digest == clean.digest, where
            break
    else:
        raise AssertionError(f"{where}: still refused after {ATTEMPTS} builds")
    clean.check(recipe.out, where)
