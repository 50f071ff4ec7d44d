"""A folder of a file system: files come whole and safe on disk, and a name is taken once.

A file is written under a temporary name beside its target and flushed. `os.link` then takes the name if it is free; a rename
takes it in any case. The folder is flushed last, so a power failure loses no file that a caller was told of.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from chameleon_data.store.backend import TEMPORARY_PREFIX, Backend, StoreError

NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class LocalFolder(Backend):
    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, path: str) -> bytes:
        return (self.root / path).read_bytes()

    def read_range(self, path: str, start: int, end: int) -> pa.Buffer:
        with pa.OSFile(str(self.root / path)) as file:
            file.seek(start)
            return file.read_buffer(end - start)

    def open(self, path: str) -> BinaryIO:
        return cast(BinaryIO, pa.OSFile(str(self.root / path)))  # closes with its last reader, and Arrow reads it without the GIL

    def create(self, path: str, data: pa.Buffer) -> None:
        target = self.root / path
        with staged_file(target) as staged:
            _fill(staged, data)
            try:
                os.link(staged, target)
            except FileExistsError:
                _sync_folder(target.parent)  # the other writer may have died before it did so, and the caller relies on the file
                raise
            except OSError as error:
                if error.errno not in NO_HARD_LINKS:
                    raise
                raise StoreError(
                    "this file system has no hard links, and only a hard link takes a name just once; choose another one"
                ) from None
        _sync_folder(target.parent)

    def replace(self, path: str, data: pa.Buffer | Path) -> None:
        """`data` may also be a `staged_file` of the target, which is moved there as it is."""
        target = self.root / path
        if isinstance(data, Path):
            data.replace(target)
        else:
            with staged_file(target) as staged:
                _fill(staged, data)
                staged.replace(target)
        _sync_folder(target.parent)

    def size(self, path: str) -> int | None:
        file = self.root / path
        return file.stat().st_size if file.is_file() else None

    def walk(self, folder: str) -> Iterator[tuple[str, int, float]]:
        def refuse(error: OSError) -> None:  # without it os.walk leaves out folders that it may not enter
            if not isinstance(error, FileNotFoundError):
                raise error

        for parent, _, names in os.walk(self.root / folder, onerror=refuse):
            for file in (Path(parent, name) for name in names):
                with suppress(FileNotFoundError):  # deleted meanwhile
                    if file.is_file():
                        about = file.stat()
                        yield file.relative_to(self.root).as_posix(), about.st_size, about.st_mtime

    def delete(self, paths: list[str]) -> None:
        for path in paths:
            (self.root / path).unlink(missing_ok=True)


@contextmanager
def staged_file(target: Path) -> Iterator[Path]:
    """A free temporary name beside the target, whose folders are made. The file is removed at the end if it is still there."""
    missing = [folder for folder in target.parents if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)
    staged = target.with_name(TEMPORARY_PREFIX + secrets.token_hex(8))
    try:
        yield staged
    finally:
        staged.unlink(missing_ok=True)


def _fill(file: Path, data: pa.Buffer) -> None:
    """Write a new file and flush it to the disk."""
    with file.open("xb") as opened:
        opened.write(memoryview(data))
        opened.flush()
        os.fsync(opened.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # network file systems that cannot, and flush by themselves
            raise
    finally:
        os.close(handle)
