"""A folder, local or in an object store, that can be trusted after a crash: files come whole, and a name is taken once.

    write_new(path, data)    create-only: of any number of writers exactly one puts its bytes under a name. A version refers
                             only to such files.
    write_content(path, …)   the same for a file that is named by its sha256, which replaces what is damaged
    write(path, data)        replaces in one step; for caches, which anybody may write again
    writing(path)            the same for a file that grows. On a local disk it is written once, in its final folder.

Create-only is `os.link` in a local folder, `If-None-Match: *` on S3 and Azure, `ifGenerationMatch=0` on Google Cloud Storage. A
refused put is read back and compared, because the retry of a put whose answer was lost is refused too. `single_writer` is the
promise that nobody else writes to the folder. With it, a store that ignores those conditions will do: `create` then looks
whether the name is free before it writes.

A Store is a URL and that promise, so it can be pickled, printed and written into a manifest. Each process takes its credentials
from its own environment. Why create-only is done so: docs/decisions/010-create-only.md.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from chameleon_data.errors import InputError, Sentences, explain_errno, explaining
from chameleon_data.store import object_store as remote
from chameleon_data.store.backend import TEMPORARY_PREFIX, Backend, StoreError, Upload, explain_store_error
from chameleon_data.store.local import LocalFolder, staged_file
from chameleon_data.store.memory import MemoryFolder
from chameleon_data.store.urls import check_folder_url, local_folder, scheme_of

PROBE_DEADLINE = 30.0
"""Seconds for each step of the probe. With the usual deadline a mistyped endpoint would take minutes to show."""


class NameTakenError(InputError):
    """Other bytes have the name already."""


@dataclass(frozen=True)
class Entry:
    """What a listing says of one file."""

    bytes: int
    modified: float
    """When it was written, in seconds on the store's own clock. Compare it with other entries of the same store only."""


@dataclass(frozen=True)
class Store:
    """A folder: a local path, file://, memory://, s3://, gs:// or abfs://. Paths are relative to it, with forward slashes.

    Every method raises InputError, with what to do, where the store cannot be reached or refuses. A path that is absolute or
    leaves the folder raises ValueError.
    """

    url: str
    """An absolute path, or a URL without credentials."""
    single_writer: bool = False
    """A promise that nobody else writes to the folder."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", check_folder_url(self.url))

    def read(self, path: str) -> bytes:
        with self._explaining(path):
            return self._backend.read(_checked(path))

    def read_range(self, path: str, start: int, end: int) -> pa.Buffer:
        """Bytes from start to end, or fewer where the file ends before. Any number of threads may call it at once."""
        with self._explaining(path):
            return self._backend.read_range(_checked(path), start, end)

    def open(self, path: str) -> BinaryIO:
        """The file, seekable, for reading. A remote file is read in ranges of 1 to 32 MiB."""
        with self._explaining(path):
            return self._backend.open(_checked(path))

    def write_new(self, path: str, data: bytes | pa.Buffer) -> bool:
        """Create-only. True if this call made the file, False if the very same bytes were there already.

        Raises NameTakenError if other bytes were there.
        """
        body = self._body(path, data)
        with self._explaining(path, writing=True):
            for _ in range(3):
                try:
                    self._backend.create(_checked(path), body)
                    return True
                except FileExistsError:
                    with suppress(FileNotFoundError):  # deleted meanwhile: try again
                        if any(pa.py_buffer(self._backend.read(path)).equals(body) for _ in range(2)):  # a read may flip a bit
                            return False
                        break
        raise NameTakenError(
            f"{self._shown(path)}: other bytes are there already, and what is written once is never replaced; if something else "
            "put them there, remove them and run the command again"
        )

    def write_content(self, path: str, data: bytes | pa.Buffer) -> None:
        """Put bytes under a name that holds their sha256. Other bytes there are damaged, as their name says, and are replaced."""
        try:
            self.write_new(path, data)
        except NameTakenError:
            self.write(path, data)

    def write(self, path: str, data: bytes | pa.Buffer) -> None:
        """Put the bytes there in one step, whatever was there before. Readers see the old bytes or the new ones."""
        body = self._body(path, data)
        with self._explaining(path, writing=True):
            self._backend.replace(_checked(path), body)

    @contextmanager
    def writing(self, path: str) -> Iterator[Path]:
        """A file of this machine to fill. At the end it is put at `path` in one step, as with `write`.

        A local file is not flushed to the disk, so its format needs checksums: a power failure may tear it.
        """
        target = self.local(path)
        if target:
            with self._explaining(path, writing=True), staged_file(target) as file:
                yield file
                cast(LocalFolder, self._backend).replace(path, file)
        else:
            with tempfile.TemporaryDirectory(prefix="chameleon-") as folder:
                yield (file := Path(folder) / "file")
                self.write(path, pa.memory_map(str(file)).read_buffer())

    def exists(self, path: str) -> bool:
        """Whether there is a file of this name; a folder is none."""
        with self._explaining(path):
            return self._backend.size(_checked(path)) is not None

    def list(self, prefix: str = "") -> dict[str, int]:
        """Path -> bytes of every file in the folder `prefix` and below, sorted, as of now. Unfinished files are left out."""
        return {path: entry.bytes for path, entry in self.entries(prefix).items() if not is_unfinished(path)}

    def walk(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """(path, bytes) of the same files one after the other, in any order, for a folder of millions of them."""
        with self._explaining(prefix):
            for path, size, _ in self._backend.walk(_checked(prefix.rstrip("/")) if prefix else ""):
                if not is_unfinished(path):
                    yield path, size

    def entries(self, prefix: str = "") -> dict[str, Entry]:
        """Like `list`, but with the times, and with unfinished files: for whoever cleans up."""
        with self._explaining(prefix):
            files = self._backend.walk(_checked(prefix.rstrip("/")) if prefix else "")
            entries = {path: Entry(size, modified) for path, size, modified in files}
        return {path: entries[path] for path in sorted(entries)}

    def uploads(self) -> tuple[Upload, ...]:
        """Multipart uploads into the folder that nobody has ended. We begin none. No listing shows their parts, which cost."""
        with self._explaining(""):
            return tuple(self._backend.uploads())

    def abort(self, upload: Upload) -> None:
        """End an upload and drop its parts; a missing one does not matter."""
        with self._explaining(upload.path):
            self._backend.abort(upload)

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files, unfinished ones too; missing ones do not matter."""
        checked = [_checked(path, may_be_unfinished=True) for path in paths]
        with self._explaining(checked[0] if checked else ""):
            self._backend.delete(checked)

    def local(self, path: str) -> Path | None:
        """Where the file is on this machine; None if the store is not a folder of this machine."""
        folder = local_folder(self.url)
        return folder / _checked(path) if folder else None

    def probe(self) -> None:
        """Refuse a store where a create-only put replaces a file. It writes two small bodies under one name and removes them."""
        path = f"{TEMPORARY_PREFIX}probe-{secrets.token_hex(8)}"
        first, second = pa.py_buffer(b"first"), pa.py_buffer(b"second")
        with self._explaining("", writing=True):
            backend = _backend(self.url, os.getpid(), PROBE_DEADLINE, self.single_writer)
            try:
                with suppress(FileExistsError):  # nobody else knows the name, so this was our own put, whose answer was lost
                    backend.create(path, first)
                with suppress(FileExistsError):
                    backend.create(path, second)
                    raise StoreError(
                        "this store ignores conditional writes (If-None-Match), so that two builds could destroy each other's "
                        "versions; use one that honours them (AWS S3, GCS, Azure, MinIO, Ceph, a local disk), or say "
                        "--single-writer if nothing else writes there while this runs"
                    )
                if backend.read(path) != b"first":
                    raise StoreError("this store refuses a conditional write and yet makes it; use another one")
            finally:
                backend.delete([path])

    @property
    def _backend(self) -> Backend:
        return _backend(self.url, os.getpid(), remote.DEADLINE, self.single_writer)

    def _body(self, path: str, data: bytes | pa.Buffer) -> pa.Buffer:
        body = pa.py_buffer(data)
        if body.size == 0:
            raise ValueError(f"{path}: an empty file cannot be told from one that was never written")
        if body.size > remote.LARGEST_PUT:
            raise InputError(f"{self._shown(path)}: {body.size:,} bytes are more than one put takes (5 GiB); use smaller shards")
        return body

    def _shown(self, path: str) -> str:
        return f"{self.url.rstrip('/')}/{path}" if path else self.url

    def _explaining(self, path: str, writing: bool = False) -> AbstractContextManager[None]:
        where = self._shown(path)
        kinds: Sentences = {StoreError: partial(explain_store_error, where), OSError: partial(explain_errno, writing=writing)}
        return explaining(where, kinds)


@lru_cache(maxsize=64)
def _backend(url: str, process: int, deadline: float, single_writer: bool) -> Backend:
    """One backend for each store and process: connections do not survive a fork."""
    folder = local_folder(url)
    if folder:
        return LocalFolder(folder)
    if scheme_of(url) == "memory":
        return MemoryFolder(url)
    return remote.RemoteFolder(url, deadline, single_writer)


def is_unfinished(path: str) -> bool:
    """Whether it is the file of a writer that is at work, or that died."""
    return any(part.startswith(TEMPORARY_PREFIX) for part in path.split("/"))


def _checked(path: str, may_be_unfinished: bool = False) -> str:
    parts = path.split("/")
    inside = "\\" not in path and "\0" not in path and not any(part in ("", ".", "..") for part in parts)
    if not inside or (is_unfinished(path) and not may_be_unfinished):
        raise ValueError(f"{path!r} is no path inside the store: relative, with forward slashes, without '.' and '..'")
    return path
