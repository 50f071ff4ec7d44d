"""A folder, local or in an object store, that can be trusted after a crash: files come whole, and a name is taken once.

    write_new(path, data)    create-only: of any number of writers exactly one puts its bytes under a name; for whatever a
                             version refers to
    write(path, data)        replaces in one step; for caches, which anybody may write again
    writing(path)            the same for a file that grows, as a run does: on a local disk it is written once, where it belongs

Local create-only is a temporary file, fsync and `os.link` (fsspec's own `mode="create"` let several writers win there). S3
takes `If-None-Match: *` on one PUT, Google Cloud Storage `ifGenerationMatch=0`, Azure `If-None-Match: *`; see `object_store.py`.
A refused put is read back and compared, because the retry of a put whose answer was lost is refused too.

A Store is its URL and one promise, so it can be pickled, printed and put into a manifest. Credentials come from the
environment or a named profile, in the process that uses them.
"""

from __future__ import annotations

import errno
import io
import os
import secrets
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Protocol, cast

import pyarrow as pa
from fsspec.implementations.memory import MemoryFileSystem

from chameleon_data.errors import InputError, explain_errno, explaining
from chameleon_data.store import object_store as remote
from chameleon_data.store.object_store import LARGEST_PUT, StoreError, Upload
from chameleon_data.store.urls import EXTRAS, refuse_secrets, scheme_of

PROBE_DEADLINE = 30.0
"""Seconds for each step of the probe, so that a mistyped endpoint does not take minutes to be told."""
TEMPORARY_PREFIX = ".tmp-"
"""How the names of files begin that a writer has not finished; they are no data."""


class NameTakenError(InputError):
    """The name holds other bytes already."""


@dataclass(frozen=True)
class Entry:
    """What a listing says of one file."""

    bytes: int
    modified: float
    """When it was written, in seconds on the store's own clock: to be compared with other entries of the store alone."""


@dataclass(frozen=True)
class Store:
    """A folder: a local path, file://, memory://, s3://, gs:// or abfs://. Paths are relative to it, with forward slashes.

    Every method raises InputError, with what to do, where the store cannot be reached or does not let us, and ValueError for
    a path that is absolute or leaves the folder.
    """

    url: str
    single_writer: bool = False
    """A promise that nobody else writes there: then a store that ignores conditional writes will do, and a name is looked at
    before it is written."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", _checked_url(self.url))

    def read(self, path: str) -> bytes:
        with self._explaining(path):
            return self._backend.read(_checked(path))

    def read_range(self, path: str, start: int, end: int) -> pa.Buffer:
        """Bytes from start to end, or as many of them as there are. Of any number of threads at once."""
        with self._explaining(path):
            return self._backend.read_range(_checked(path), start, end)

    def open(self, path: str) -> BinaryIO:
        """The file, seekable, for reading. A remote file is read in ranges of 1 to 32 MiB."""
        with self._explaining(path):
            return self._backend.open(_checked(path))

    def write_new(self, path: str, data: bytes | pa.Buffer) -> bool:
        """Create-only. True if this call made the file, False if the very same bytes were there, Taken if others were."""
        body = self._body(path, data)
        with self._explaining(path):
            for _ in range(3):
                try:
                    self._backend.create(_checked(path), body)
                    return True
                except FileExistsError:
                    with suppress(FileNotFoundError):  # removed since: try again
                        if any(pa.py_buffer(self._backend.read(path)).equals(body) for _ in range(2)):  # a read may be flipped
                            return False
                        break
        raise NameTakenError(
            f"{self._shown(path)}: other bytes are there already, and what is written once is never replaced; if something else "
            "put them there, remove them and run the command again"
        )

    def write(self, path: str, data: bytes | pa.Buffer) -> None:
        """Put the bytes there in one step, whatever was there before. Readers see the old ones or the new ones."""
        body = self._body(path, data)
        with self._explaining(path):
            self._backend.replace(_checked(path), body)

    @contextmanager
    def writing(self, path: str) -> Iterator[Path]:
        """A file of this machine to fill, which at the end stands there in one step, as with `write`. It is not flushed to the
        disk: what a power failure may tear must have sums of its own."""
        target = self.local(path)
        if target:
            with self._explaining(path), _staged(target) as file:
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

    def entries(self, prefix: str = "") -> dict[str, Entry]:
        """The same with the times, and with unfinished files: what is to be cleared away."""
        with self._explaining(prefix):
            walked = self._backend.walk(_checked(prefix.rstrip("/")) if prefix else "")
            found = {path: Entry(size, modified) for path, size, modified in walked}
        return {path: found[path] for path in sorted(found)}

    def uploads(self) -> tuple[Upload, ...]:
        """Multipart uploads into the folder that nobody has ended. We begin none; their parts are in no listing, and cost."""
        with self._explaining(""):
            return tuple(self._backend.uploads())

    def abort(self, upload: Upload) -> None:
        """End an upload and drop its parts; one that is no longer there does not matter."""
        with self._explaining(upload.path):
            self._backend.abort(upload)

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files, unfinished ones too; those that are not there do not matter."""
        checked = [_checked(path, may_be_unfinished=True) for path in paths]
        with self._explaining(checked[0] if checked else ""):
            self._backend.delete(checked)

    def local(self, path: str) -> Path | None:
        """Where the file is on this machine, or None for a store that is elsewhere."""
        folder = _local_folder(self.url)
        return folder / _checked(path) if folder else None

    def probe(self) -> None:
        """Refuse a store where a create-only put replaces what is there, before anything is trusted to it. Leaves no file."""
        path = f"{TEMPORARY_PREFIX}probe-{secrets.token_hex(8)}"
        first, second = pa.py_buffer(b"first"), pa.py_buffer(b"second")
        with self._explaining(""):
            backend = _backend(self.url, os.getpid(), PROBE_DEADLINE, self.single_writer)
            try:
                with suppress(FileExistsError):  # the name is ours alone, so it was our own put, its answer lost
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
        if body.size > LARGEST_PUT:
            raise InputError(f"{self._shown(path)}: {body.size:,} bytes are more than one put takes (5 GiB); use smaller shards")
        return body

    def _shown(self, path: str) -> str:
        return f"{self.url.rstrip('/')}/{path}" if path else self.url

    def _explaining(self, path: str) -> AbstractContextManager[None]:
        return explaining(self._shown(path), {StoreError: str, OSError: explain_errno})


class Backend(Protocol):
    """One kind of store. Paths are checked; FileNotFoundError and FileExistsError mean what they say."""

    def read(self, path: str) -> bytes: ...
    def read_range(self, path: str, start: int, end: int) -> pa.Buffer: ...
    def open(self, path: str) -> BinaryIO: ...
    def create(self, path: str, data: pa.Buffer) -> None: ...
    def replace(self, path: str, data: pa.Buffer) -> None: ...
    def size(self, path: str) -> int | None: ...
    def walk(self, folder: str) -> Iterable[tuple[str, int, float]]: ...
    def delete(self, paths: list[str]) -> None: ...
    def uploads(self) -> Iterable[Upload]: ...
    def abort(self, upload: Upload) -> None: ...


@lru_cache(maxsize=64)
def _backend(url: str, process: int, deadline: float, single_writer: bool) -> Backend:
    """`process` is in the key because connections do not survive a fork."""
    folder = _local_folder(url)
    if folder:
        return LocalFolder(folder)
    if scheme_of(url) == "memory":
        return MemoryFolder(str(MemoryFileSystem._strip_protocol(url)))
    return remote.RemoteFolder(url, deadline, single_writer)


class LocalFolder:
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
        with _staged(target) as staged:
            _fill(staged, data)
            try:
                os.link(staged, target)
            except FileExistsError:
                _sync_folder(target.parent)  # its writer may have died before this, and we go on as if the file were safe
                raise
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
                raise StoreError(
                    "this file system has no hard links, without which a name cannot be taken just once; choose another"
                ) from None
        _sync_folder(target.parent)

    def replace(self, path: str, data: pa.Buffer | Path) -> None:
        """A file beside the target is moved."""
        target = self.root / path
        if isinstance(data, Path):
            data.replace(target)
        else:
            with _staged(target) as staged:
                _fill(staged, data)
                staged.replace(target)
        _sync_folder(target.parent)

    def size(self, path: str) -> int | None:
        file = self.root / path
        return file.stat().st_size if file.is_file() else None

    def walk(self, folder: str) -> Iterator[tuple[str, int, float]]:
        def refuse(error: OSError) -> None:  # os.walk passes over folders that it may not enter
            if not isinstance(error, FileNotFoundError):
                raise error

        for parent, _, names in os.walk(self.root / folder, onerror=refuse):
            for file in (Path(parent, name) for name in names):
                with suppress(FileNotFoundError):  # removed since
                    if file.is_file():
                        about = file.stat()
                        yield file.relative_to(self.root).as_posix(), about.st_size, about.st_mtime

    def delete(self, paths: list[str]) -> None:
        for path in paths:
            (self.root / path).unlink(missing_ok=True)

    def uploads(self) -> tuple[Upload, ...]:
        return ()

    def abort(self, upload: Upload) -> None:
        raise ValueError(f"{upload.path}: a folder takes no uploads")


@contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """The name of a file beside the target, which is gone at the end."""
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
    """Put the bytes into a new file, safe on disk."""
    with file.open("xb") as opened:
        opened.write(memoryview(data))
        opened.flush()
        os.fsync(opened.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems do it by themselves
            raise
    finally:
        os.close(handle)


_MEMORY = threading.Lock()


class MemoryFolder:
    """fsspec's memory file system, so that other readers see it; under a lock, as its own create-only looks, then writes."""

    def __init__(self, root: str) -> None:
        self.root, self.fs = root, MemoryFileSystem()

    def read(self, path: str) -> bytes:
        file = self.fs.store.get(f"{self.root}/{path}")
        if file is None:
            raise FileNotFoundError(errno.ENOENT, "No such file")
        return cast(bytes, file.getvalue())

    def read_range(self, path: str, start: int, end: int) -> pa.Buffer:
        return pa.py_buffer(self.read(path)[start:end])

    def open(self, path: str) -> BinaryIO:
        return io.BytesIO(self.read(path))  # its own file object is one for all readers, position included

    def create(self, path: str, data: pa.Buffer) -> None:
        with _MEMORY:
            if self.fs.isfile(f"{self.root}/{path}"):
                raise FileExistsError(errno.EEXIST, "File exists")
            self.fs.pipe_file(f"{self.root}/{path}", data.to_pybytes())

    def replace(self, path: str, data: pa.Buffer) -> None:
        with _MEMORY:
            self.fs.pipe_file(f"{self.root}/{path}", data.to_pybytes())

    def size(self, path: str) -> int | None:
        file = self.fs.store.get(f"{self.root}/{path}")
        return None if file is None else file.size

    def walk(self, folder: str) -> Iterator[tuple[str, int, float]]:
        inside = f"{self.root}/{folder}".rstrip("/") + "/"
        with _MEMORY:
            found = [(name, file) for name, file in self.fs.store.items() if name.startswith(inside)]
        for name, file in found:
            yield name[len(self.root) + 1 :], file.size, file.modified.timestamp()

    def delete(self, paths: list[str]) -> None:
        with _MEMORY:
            for path in paths:
                self.fs.store.pop(f"{self.root}/{path}", None)

    def uploads(self) -> tuple[Upload, ...]:
        return ()

    def abort(self, upload: Upload) -> None:
        raise ValueError(f"{upload.path}: memory takes no uploads")


NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def _local_folder(url: str) -> Path | None:
    scheme = scheme_of(url)
    return Path(url.partition("://")[2] if scheme else url) if scheme in ("", "file", "local") else None


def _checked_url(url: str) -> str:
    """The URL as it is, but a local path absolute: workers have folders of their own. What may be a secret is not repeated."""
    scheme = scheme_of(url)
    rest = url.partition("://")[2] if scheme else url
    if "::" in url or "\0" in url:
        raise InputError("the URL of the folder: chained URLs ('::') are not allowed; name one file system")
    if scheme not in ("", "file", "local", "memory", *EXTRAS):
        raise InputError(f"{scheme}://…: versions cannot be kept there; use a local folder, s3://, gs:// or abfs://")
    if not rest or (scheme in EXTRAS and not rest.strip("/")):
        raise InputError(f"the folder {url!r} has no name; write a path, or, say, s3://bucket/folder")
    if scheme in ("file", "local") and not rest.startswith("/"):
        raise InputError(f"{scheme}://…: names a machine, not a folder; write {scheme}:///folder")
    refuse_secrets(url)
    return url if scheme else str(Path(url).absolute())


def _checked(path: str, may_be_unfinished: bool = False) -> str:
    parts = path.split("/")
    inside = "\\" not in path and "\0" not in path and not any(part in ("", ".", "..") for part in parts)
    if not inside or (is_unfinished(path) and not may_be_unfinished):
        raise ValueError(f"{path!r} is no path inside the store: relative, with forward slashes, without '.' and '..'")
    return path


def is_unfinished(path: str) -> bool:
    """Whether it is the file of a writer that is at work, or that died."""
    return any(part.startswith(TEMPORARY_PREFIX) for part in path.split("/"))
