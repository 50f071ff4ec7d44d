"""A disk that is full or read-only, and a process that may open no more files.

The build ends in one clear message and publishes nothing. The same command goes on once there is room.
"""

from __future__ import annotations

import errno
import os
import re
import resource
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from chameleon_data.corpus.hash_partitions import partition_by_hash
from chameleon_data.errors import InputError, explain_os_error
from chameleon_data.recipe import Recipe
from chameleon_data.store import store as storage
from chameleon_data.store.store import Store
from chameleon_data.versions.versions import list_versions
from tests.soak.crash import WRITES, CleanBuild, Fault, FaultyBackend, build_clean, change_out
from tests.support.inline_builds import build, write_small_recipe

T = TypeVar("T")


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A small file system of its own."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"may not mount: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> CleanBuild:
    return build_clean(write_small_recipe(tmp_path_factory.mktemp("disk"), f"memory://{uuid.uuid4().hex}/out"))


def check_refusal(recipe: Recipe, says: str) -> None:
    """The build ends in one message, and nothing is published."""
    with pytest.raises(InputError, match=says) as caught:
        build(recipe)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 600
    assert list_versions(Store(recipe.out)) == ()


def check_goes_on(clean: CleanBuild, recipe: Recipe) -> None:
    assert build(recipe).digest == clean.digest
    clean.check(recipe.out, recipe.out)


class Full(Fault):
    """From operation `at` on nothing more can be written."""

    def perform(self, name: str, operate: Callable[[], T], operate_by_half: Callable[[], None] = lambda: None) -> T:
        self.count += 1
        if self.count >= self.at and name.split()[0] in WRITES[:2]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return operate()


def test_a_store_that_is_full_from_any_write_on(clean: CleanBuild) -> None:
    writes = [at for at, name in enumerate(clean.operations, 1) if name.split()[0] in WRITES[:2]]
    for at in writes[2:]:  # the first two are the probe's
        recipe, real = change_out(clean.recipe, f"{clean.recipe.out}-{at}"), storage._backend
        with pytest.MonkeyPatch.context() as patch:
            fault = Full(at)
            patch.setattr(storage, "_backend", lambda *key, real=real, fault=fault: FaultyBackend(real(*key), fault))
            check_refusal(recipe, "the disk is full; make room and run the same command again, it goes on where it stopped")
        check_goes_on(clean, recipe)
    assert len(writes) > 30


@pytest.mark.parametrize("blocks", range(4, 44, 4))
def test_a_disk_that_fills_up(clean: CleanBuild, tmp_path: Path, blocks: int) -> None:
    """Whatever the size at which it is full: while records, runs or shards are written."""
    with mounted(tmp_path / "disk", f"size={blocks * 4}k") as disk:
        recipe = change_out(clean.recipe, str(disk / "out"))
        check_refusal(recipe, f"{disk}.*the disk is full; make room")
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        check_goes_on(clean, recipe)


@pytest.mark.parametrize("size", [4, 8, 16])
def test_a_temporary_folder_that_is_full(clean: CleanBuild, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    recipe = change_out(clean.recipe, f"{clean.recipe.out}-temporary-{size}")
    with mounted(tmp_path / "tmp", f"size={size}k") as folder:
        with monkeypatch.context() as patch:
            patch.setattr(tempfile, "tempdir", str(folder))
            check_refusal(recipe, f"(disk is full|No space left).*temporary files are in {folder}; TMPDIR says where")
        assert list(folder.iterdir()) == []
    check_goes_on(clean, recipe)


def test_ranges_in_a_temporary_folder_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the driver puts in ranges of hashes, and `verify`: the command explains it, see jobs/exits.py."""
    rows = np.zeros(2**15, np.dtype([("lo", "<u8")]))
    rows["lo"] = np.arange(2**15, dtype=np.uint64) << np.uint64(49)
    with mounted(tmp_path / "tmp", "size=128k") as folder:
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        with pytest.raises(OSError, match="No space left") as caught, partition_by_hash(2**15, 2**12) as partitions:  # noqa: PT012
            partitions.add(rows)
            list(partitions.read(rows.dtype))
        assert re.fullmatch(
            r"the disk is full; make room .* \(temporary files are in .*; TMPDIR .*\)", explain_os_error(caught.value)
        )
        assert list(folder.iterdir()) == []


def test_a_target_that_is_read_only(clean: CleanBuild, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=64m,ro") as disk:
        recipe = change_out(clean.recipe, str(disk / "out"))
        check_refusal(recipe, "the file system is read-only; choose another folder")
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        check_goes_on(clean, recipe)


def test_too_many_open_files(clean: CleanBuild, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    recipe = change_out(clean.recipe, tmp_path / "out")
    refusals = []
    for more in range(30):
        fillers = [os.open(os.devnull, os.O_RDONLY)]
        while len(os.listdir("/proc/self/fd")) <= fillers[-1]:  # noqa: PTH208 - until no lower number is free
            fillers.append(os.open(os.devnull, os.O_RDONLY))
        resource.setrlimit(resource.RLIMIT_NOFILE, (fillers[-1] + 1 + more, hard))
        try:
            build(recipe)
            break
        except InputError as refusal:
            refusals.append(str(refusal))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for filler in fillers:
                os.close(filler)
        assert list_versions(Store(recipe.out)) == ()
    assert refusals
    assert [text for text in refusals if "too many open files" not in text] == []
    check_goes_on(clean, recipe)
