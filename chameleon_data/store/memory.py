"""A folder of fsspec's memory file system, for tests and for trying things out; fsspec's other readers see the same files.

A lock makes create-only true: fsspec looks whether the name is free, then writes.
"""

from __future__ import annotations

import errno
import io
import threading
from collections.abc import Iterator
from typing import BinaryIO, cast

import pyarrow as pa
from fsspec.implementations.memory import MemoryFileSystem

from chameleon_data.store.backend import Backend

_LOCK = threading.Lock()


class MemoryFolder(Backend):
    def __init__(self, url: str) -> None:
        self.fs = MemoryFileSystem()
        self.root = str(self.fs._strip_protocol(url))

    def read(self, path: str) -> bytes:
        file = self.fs.store.get(f"{self.root}/{path}")
        if file is None:
            raise FileNotFoundError(errno.ENOENT, "No such file")
        return cast(bytes, file.getvalue())

    def read_range(self, path: str, start: int, end: int) -> pa.Buffer:
        return pa.py_buffer(self.read(path)[start:end])

    def open(self, path: str) -> BinaryIO:
        return io.BytesIO(self.read(path))  # all readers of fsspec's own file object share one position

    def create(self, path: str, data: pa.Buffer) -> None:
        with _LOCK:
            if self.fs.isfile(f"{self.root}/{path}"):
                raise FileExistsError(errno.EEXIST, "File exists")
            self.fs.pipe_file(f"{self.root}/{path}", data.to_pybytes())

    def replace(self, path: str, data: pa.Buffer) -> None:
        with _LOCK:
            self.fs.pipe_file(f"{self.root}/{path}", data.to_pybytes())

    def size(self, path: str) -> int | None:
        file = self.fs.store.get(f"{self.root}/{path}")
        return None if file is None else file.size

    def walk(self, folder: str) -> Iterator[tuple[str, int, float]]:
        inside = f"{self.root}/{folder}".rstrip("/") + "/"
        with _LOCK:
            files = [(name, file) for name, file in self.fs.store.items() if name.startswith(inside)]
        for name, file in files:
            yield name[len(self.root) + 1 :], file.size, file.modified.timestamp()

    def delete(self, paths: list[str]) -> None:
        with _LOCK:
            for path in paths:
                self.fs.store.pop(f"{self.root}/{path}", None)
