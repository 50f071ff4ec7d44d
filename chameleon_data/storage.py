"""A folder, local or in an object store, that can be trusted after a crash: files come whole, and a name is taken once.

    write_new(path, data)    create-only: exactly one of any number of writers puts its bytes under a name; for all that a
                             version refers to
    write(path, data)        replaces in one step; for caches, which anybody may write again

Local create-only is a temporary file, fsync, `os.link`; fsspec's own `mode="create"` let several writers win there. S3
takes `If-None-Match: *` on one PUT, Google Cloud Storage `ifGenerationMatch=0`, Azure `If-None-Match: *`, each through
its fsspec package. A refused put is read back and compared, because the retry of a put whose answer was lost is refused too.
Retries and the deadline of an operation are ours: s3fs goes on for minutes and without a limit on the whole.

A Store is its URL and nothing else, so it can be pickled, printed and put into a manifest. Credentials come from the environment
or a named profile, in the process that uses them.
Cost: a local `write_new` of 1 kB 0.1 ms and two fsyncs; on S3 one request to write, one per 32 MiB to read.
"""

from __future__ import annotations

import errno
import io
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import pyarrow as pa
from fsspec.asyn import sync
from fsspec.core import url_to_fs
from fsspec.implementations.memory import MemoryFileSystem

from chameleon_data.errors import InputError

DEADLINE = 120.0
"""Seconds that one operation may take with all its retries, and one more for each MiB it carries."""
LISTING_DEADLINE = 900.0
"""The same for a listing, which is a request for every 1,000 names."""
PROBE_DEADLINE = 30.0
"""The same for the probe, so that a mistyped endpoint does not take minutes to be told."""
LARGEST = 5 * 2**30
"""Bytes of the largest object that one S3 put takes; shards are below 4 GiB."""
RANGE = 32 * 2**20
"""Bytes of one remote read."""
BUFFER = 2**20
"""Bytes that `open` reads ahead in a remote file."""
TEMPORARY = ".tmp-"
"""How the names of files begin that a writer has not finished; they are no data."""

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure"}  # scheme -> extra
ENDPOINTS = {"s3": "AWS_ENDPOINT_URL, AWS_REGION", "gcs": "STORAGE_EMULATOR_HOST", "azure": "AZURE_STORAGE_ACCOUNT_NAME"}
CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gcs": "GOOGLE_APPLICATION_CREDENTIALS",
    "azure": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or a service principal",
}
OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {"use_listings_cache": False, "config_kwargs": {"connect_timeout": 10, "read_timeout": 60, "retries": {"total_max_attempts": 1}}},
    "gcs": {"use_listings_cache": False},
    "azure": {"use_listings_cache": False},
}  # fmt: skip
PUT = {"s3": {"chunksize": LARGEST}}  # one PUT: a multipart upload of a killed writer stays behind, and costs

Data = bytes | pa.Buffer


class Taken(InputError):
    """The name holds other bytes already."""


@dataclass(frozen=True)
class Store:
    """A folder at a local path, file://, memory://, s3://, gs:// or abfs://. Paths are relative to it, with forward slashes.

    Every method raises InputError, with what to do, where the store cannot be reached or does not let us, and ValueError for
    a path that is absolute or leaves the folder.
    """

    url: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", _checked_url(self.url))

    def read(self, path: str) -> bytes:
        with self._explained(path):
            return self._backend.read(_checked(path))

    def open(self, path: str) -> BinaryIO:
        """The file, seekable, for reading; reads of a remote file go in ranges of at least 1 MiB."""
        with self._explained(path):
            return self._backend.open(_checked(path))

    def write_new(self, path: str, data: Data) -> bool:
        """Create-only. True if this call made the file, False if the very same bytes were there, Taken if others were."""
        body = self._body(path, data)
        with self._explained(path):
            for _ in range(3):
                with suppress(FileExistsError):
                    self._backend.create(_checked(path), body)
                    return True
                with suppress(FileNotFoundError):  # removed since: try again
                    if pa.py_buffer(self._backend.read(path)).equals(body):
                        return False
                    break
        raise Taken(
            f"{self._shown(path)}: other bytes are there already, and what is written once is never replaced; if a person or another "
            "program put them there, remove them and run the command again"
        )

    def write(self, path: str, data: Data) -> None:
        """Put the bytes there in one step, whatever was there before. Readers see the old ones or the new ones."""
        body = self._body(path, data)
        with self._explained(path):
            self._backend.replace(_checked(path), body)

    def exists(self, path: str) -> bool:
        """Whether there is a file of this name; folders do not count."""
        with self._explained(path):
            return self._backend.size(_checked(path)) is not None

    def list(self, prefix: str = "") -> dict[str, int]:
        """Path -> bytes of every file in the folder `prefix` and below, sorted, as of now. Unfinished files are left out."""
        with self._explained(prefix):
            found = dict(self._backend.walk(_checked(prefix.rstrip("/")) if prefix else ""))
        return {path: found[path] for path in sorted(found) if not _unfinished(path)}

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files; those that are not there do not matter."""
        checked = [_checked(path) for path in paths]
        with self._explained(checked[0] if checked else ""):
            self._backend.delete(checked)

    def local(self, path: str) -> Path | None:
        """Where the file is on this machine, or None for a store that is elsewhere."""
        folder = _local_folder(self.url)
        return folder / _checked(path) if folder else None

    def probe(self) -> None:
        """Refuse a store that lets a create-only put replace what is there, before anything is trusted to it. Leaves no file."""
        path = f"{TEMPORARY}probe-{secrets.token_hex(8)}"
        backend = _backend(self.url, os.getpid(), PROBE_DEADLINE)
        first, second = pa.py_buffer(b"first"), pa.py_buffer(b"second")
        with self._explained(""):
            try:
                with suppress(FileExistsError):  # the name is ours alone: the answer to our own put was lost
                    backend.create(path, first)
                refused = False
                try:
                    backend.create(path, second)
                except FileExistsError:
                    refused = backend.read(path) == b"first"
                if not refused:
                    raise InputError(
                        f"{self.url}: this store ignores conditional writes (If-None-Match), so two builds could destroy each other's "
                        "versions; use a store that honours them (AWS S3, GCS, Azure, MinIO, Ceph, a local disk)"
                    )
            finally:
                backend.delete([path])

    @property
    def _backend(self) -> Backend:
        return _backend(self.url, os.getpid(), DEADLINE)

    def _body(self, path: str, data: Data) -> pa.Buffer:
        body = pa.py_buffer(data)
        if body.size == 0:
            raise ValueError(f"{path}: an empty file cannot be told from one that was never written")
        if body.size > LARGEST:
            raise InputError(f"{self._shown(path)}: {body.size:,} bytes are more than one put takes (5 GiB); use smaller shards")
        return body

    def _shown(self, path: str) -> str:
        return f"{self.url.rstrip('/')}/{path}" if path else self.url

    @contextmanager
    def _explained(self, path: str) -> Iterator[None]:
        """What the operating system or the network says, as one sentence for a person and without their words, which may hold secrets."""
        try:
            yield
        except (OSError, MissingPackage) as error:
            raise InputError(f"{self._shown(path)}: {_remedy(error, EXTRAS.get(_scheme(self.url)))}") from None
        except Fault as fault:
            raise InputError(f"{self._shown(path)}: {fault}") from None


class Backend(Protocol):
    """One kind of store. Paths are checked; FileNotFoundError and FileExistsError mean what they say."""

    def read(self, path: str) -> bytes: ...
    def open(self, path: str) -> BinaryIO: ...
    def create(self, path: str, data: pa.Buffer) -> None: ...
    def replace(self, path: str, data: pa.Buffer) -> None: ...
    def size(self, path: str) -> int | None: ...
    def walk(self, folder: str) -> Iterable[tuple[str, int]]: ...
    def delete(self, paths: list[str]) -> None: ...


@lru_cache(maxsize=64)
def _backend(url: str, process: int, deadline: float) -> Backend:
    """`process` is in the key because connections do not survive a fork."""
    folder = _local_folder(url)
    if folder:
        return LocalFolder(folder)
    if _scheme(url) == "memory":
        return MemoryFolder(str(MemoryFileSystem._strip_protocol(url)))
    extra = EXTRAS[_scheme(url)]
    try:
        fs, root = url_to_fs(url, **OPTIONS[extra])
    except ImportError:
        raise MissingPackage from None
    if extra == "s3":
        fs.retries = 1
    return RemoteFolder(fs, root.rstrip("/"), extra, deadline)


# -- on this machine --


class LocalFolder:
    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, path: str) -> bytes:
        return (self.root / path).read_bytes()

    def open(self, path: str) -> BinaryIO:
        return (self.root / path).open("rb")

    def create(self, path: str, data: pa.Buffer) -> None:
        target = self.root / path
        try:
            with _staged(target, data) as staged:
                os.link(staged, target)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                raise Fault("this file system has no hard links, without which a name cannot be taken just once; put it on another") from None
            if not isinstance(error, FileExistsError) or not target.parent.is_dir():
                raise
            _sync_folder(target.parent)  # the other writer may have died before this, and we go on as if its file were safe
            raise
        _sync_folder(target.parent)

    def replace(self, path: str, data: pa.Buffer) -> None:
        target = self.root / path
        with _staged(target, data) as staged:
            staged.replace(target)
        _sync_folder(target.parent)

    def size(self, path: str) -> int | None:
        file = self.root / path
        return file.stat().st_size if file.is_file() else None

    def walk(self, folder: str) -> Iterator[tuple[str, int]]:
        def refuse(error: OSError) -> None:  # os.walk says nothing of folders it may not enter
            if not isinstance(error, FileNotFoundError):
                raise error

        for parent, _, names in os.walk(self.root / folder, onerror=refuse):
            for file in (Path(parent, name) for name in names):
                with suppress(FileNotFoundError):  # gone since
                    if file.is_file():
                        yield file.relative_to(self.root).as_posix(), file.stat().st_size

    def delete(self, paths: list[str]) -> None:
        for path in paths:
            (self.root / path).unlink(missing_ok=True)


@contextmanager
def _staged(target: Path, data: pa.Buffer) -> Iterator[Path]:
    """The bytes, safe on disk, in a file beside the target."""
    _make_folder(target.parent)
    staged = target.with_name(TEMPORARY + secrets.token_hex(8))
    try:
        with staged.open("xb") as file:
            file.write(memoryview(data))
            file.flush()
            os.fsync(file.fileno())
        yield staged
    finally:
        staged.unlink(missing_ok=True)


def _make_folder(folder: Path) -> None:
    missing = [f for f in (folder, *folder.parents) if not f.exists()]
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        _sync_folder(new.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems do it by themselves
            raise
    finally:
        os.close(handle)


# -- in this process --

_MEMORY = threading.Lock()


class MemoryFolder:
    """fsspec's memory file system, so that other readers see it, under a lock, because its own create-only is check, then write."""

    def __init__(self, root: str) -> None:
        self.root, self.fs = root, MemoryFileSystem()

    def read(self, path: str) -> bytes:
        return cast(bytes, self.fs.cat_file(f"{self.root}/{path}"))

    def open(self, path: str) -> BinaryIO:
        return io.BytesIO(self.read(path))  # its own file object is one for all readers, position included

    def create(self, path: str, data: pa.Buffer) -> None:
        with _MEMORY:
            if self.fs.isfile(f"{self.root}/{path}"):
                raise FileExistsError(errno.EEXIST, "File exists", path)
            self.fs.pipe_file(f"{self.root}/{path}", data.to_pybytes())

    def replace(self, path: str, data: pa.Buffer) -> None:
        with _MEMORY:
            self.fs.pipe_file(f"{self.root}/{path}", data.to_pybytes())

    def size(self, path: str) -> int | None:
        file = self.fs.store.get(f"{self.root}/{path}")
        return None if file is None else file.size

    def walk(self, folder: str) -> Iterator[tuple[str, int]]:
        inside = f"{self.root}/{folder}".rstrip("/") + "/"
        for name, info in self.fs.find(inside, detail=True).items():
            if name.startswith(inside):
                yield name[len(self.root) + 1 :], info["size"]

    def delete(self, paths: list[str]) -> None:
        with _MEMORY:
            for path in paths:
                self.fs.store.pop(f"{self.root}/{path}", None)


# -- behind a network --


class RemoteFolder:
    """An object store through its fsspec package, whose coroutines are called under our own deadline and retries."""

    def __init__(self, fs: Any, root: str, extra: str, deadline: float) -> None:
        self.fs, self.root, self.extra, self.deadline = fs, root, extra, deadline
        self.errors = _library_errors(extra)

    def read(self, path: str) -> bytes:
        parts = [self.read_range(path, 0, RANGE)]
        while len(parts[-1]) == RANGE:
            start = len(parts) * RANGE
            parts.append(self.read_range(path, start, start + RANGE))
        return b"".join(parts) if len(parts) > 1 else parts[0]

    def read_range(self, path: str, start: int, end: int) -> bytes:
        """Bytes from start to end, or to the end of the object; none behind it."""
        try:
            return bytes(self._call(self.fs._cat_file, self._full(path), start=start, end=end, size=end - start))
        except Fault as fault:
            if fault.status == 416:
                return b""
            raise

    def open(self, path: str) -> BinaryIO:
        size = self.size(path)
        if size is None:
            raise FileNotFoundError(errno.ENOENT, "No such file", path)
        return io.BufferedReader(_Ranges(self, path, size), BUFFER)

    def create(self, path: str, data: pa.Buffer) -> None:
        self._put(path, data, mode="create")

    def replace(self, path: str, data: pa.Buffer) -> None:
        self._put(path, data)

    def size(self, path: str) -> int | None:
        try:
            info = self._call(self.fs._info, self._full(path))
        except FileNotFoundError:
            return None
        return int(info["size"]) if info["type"] == "file" else None

    def walk(self, folder: str) -> Iterator[tuple[str, int]]:
        inside = self._full(folder).rstrip("/") + "/"
        try:
            found = self._call(self.fs._find, inside.rstrip("/"), detail=True, seconds=LISTING_DEADLINE)
        except FileNotFoundError:
            return
        for name, info in found.items():
            if name.startswith(inside) and info["type"] == "file" and not name.endswith("/"):  # markers of folders end so
                yield name[len(self.root) + 1 :], int(info["size"])

    def delete(self, paths: list[str]) -> None:
        def delete(path: str) -> None:
            with suppress(FileNotFoundError):
                self._call(self.fs._rm_file, self._full(path))

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(delete, paths))

    def _full(self, path: str) -> str:
        return f"{self.root}/{path}"

    def _put(self, path: str, data: pa.Buffer, **mode: str) -> None:
        options: dict[str, Any] = {**PUT.get(self.extra, {}), **mode}
        try:
            self._call(self.fs._pipe_file, self._full(path), data.to_pybytes(), size=data.size, **options)
        except FileNotFoundError:
            raise Fault(_no_bucket(self.extra), 404) from None

    def _call(self, method: Callable[..., Any], *args: Any, size: int = 0, seconds: float = 0.0, **kwargs: Any) -> Any:
        """Run a coroutine method, again where that can help, until the deadline."""
        allowed = max(self.deadline, seconds) + size / 2**20
        end = time.monotonic() + allowed
        wait = 0.1
        while True:
            try:
                return sync(self.fs.loop, method, *args, timeout=max(end - time.monotonic(), 0.01), **kwargs)
            except self.errors as error:
                status, code = _answer(error)
                if status == 412 or isinstance(error, FileExistsError):
                    raise FileExistsError(errno.EEXIST, "File exists") from None
                if code in MISSING_BUCKET:
                    raise Fault(_no_bucket(self.extra), 404) from None
                if status == 404 or isinstance(error, FileNotFoundError):
                    raise FileNotFoundError(errno.ENOENT, "No such file") from None
                lasting = not _passing(error, status, code)
                pause = wait * (1 + time.monotonic_ns() % 1000 / 1000)  # so that workers do not come back all at once
                if lasting or time.monotonic() + pause >= end:
                    raise Fault(_network_remedy(error, status, code, self.extra, 0.0 if lasting else allowed), status) from None
            time.sleep(pause)
            wait = min(2 * wait, 10.0)


class _Ranges(io.RawIOBase):
    """A remote file as ranges of bytes, each under the deadline of its own."""

    def __init__(self, folder: RemoteFolder, path: str, size: int) -> None:
        self._folder, self._path, self._size, self._at = folder, path, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"cannot seek to {base + offset}")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), self._size - self._at, RANGE)
        if wanted <= 0:
            return 0
        where = f"{self._folder.fs.unstrip_protocol(self._folder.root)}/{self._path}"
        try:
            data = self._folder.read_range(self._path, self._at, self._at + wanted)
        except (OSError, Fault) as error:
            raise InputError(f"{where}: {error if isinstance(error, Fault) else _remedy(error, self._folder.extra)}") from None
        if len(data) != wanted:
            raise InputError(f"{where}: changed while it was read; run the command again")
        view[:wanted] = data
        self._at += wanted
        return wanted


# -- what went wrong, in words --

MISSING_BUCKET = {"NoSuchBucket", "ContainerNotFound"}
PASSING_STATUS = {408, 409, 425, 429, 500, 502, 503, 504}  # S3: 409 is a conditional put that met another one, and means: again
PASSING_CODES = {"SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "OperationAborted", "ConditionalRequestConflict",
                 "Throttling", "XAmzContentSHA256Mismatch", "BadDigest", "IncompleteBody"}  # fmt: skip
NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound", "DefaultCredentialsError",
                  "RefreshError", "ClientAuthenticationError", "TokenRetrievalError", "SSOTokenLoadError"}  # fmt: skip
LOCAL_REMEDIES = {
    errno.ENOSPC: "the disk is full; make room and run the same command again, it goes on where it stopped",
    errno.EDQUOT: "your disk quota is used up; make room and run the same command again, it goes on where it stopped",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EACCES: "access denied; check the permissions of the folder",
    errno.EPERM: "access denied; check the permissions of the folder",
    errno.ENOENT: "no such file; was the folder copied whole?",
    errno.ENOTDIR: "a file stands where a folder is needed; move it, or choose another folder",
    errno.EEXIST: "a file stands where a folder is needed; move it, or choose another folder",
    errno.EISDIR: "a folder stands where a file is needed; move it, or choose another folder",
    errno.EMFILE: "too many open files; raise the limit (ulimit -n)",
    errno.ENFILE: "too many open files on this machine; close some programs",
    errno.ENAMETOOLONG: "the name is too long for this file system; choose a shorter folder",
    errno.ELOOP: "the links lead round in a circle; choose another folder",
}


class MissingPackage(Exception):
    """The fsspec package of this kind of URL is not installed."""


class Fault(Exception):
    """What a store answered, said in our words; `status` is the HTTP status, where there was one."""

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


def _remedy(error: BaseException, extra: str | None) -> str:
    if isinstance(error, MissingPackage):
        package = {"s3": "s3fs", "gcs": "gcsfs", "azure": "adlfs"}[extra or "s3"]
        return f"the package {package} is missing; install it with: pip install 'chameleon-data[{extra}]'"
    number = getattr(error, "errno", None)
    if extra is not None and number == errno.ENOENT:
        return "no such object; was the folder copied whole?"
    return LOCAL_REMEDIES.get(number or 0) or f"cannot be used ({os.strerror(number) if number else type(error).__name__}); check it"


def _no_bucket(extra: str) -> str:
    return f"no such {'container' if extra == 'azure' else 'bucket'}; create it, or correct the URL or the endpoint ({ENDPOINTS[extra]})"


def _network_remedy(error: BaseException, status: int | None, code: str, extra: str, waited: float) -> str:
    """One sentence from the kind of error alone: servers and libraries put key ids and signed URLs into theirs."""
    names = {type(e).__name__ for e in _chain(error)}
    said = code or (f"HTTP {status}" if status else type(error).__name__)
    if names & NO_CREDENTIALS:
        return f"no usable credentials ({said}); set {CREDENTIALS[extra]}"
    if status in (401, 403) or isinstance(error, PermissionError):
        return f"access denied ({said}); the credentials must allow to list, read, write and delete here; they come from {CREDENTIALS[extra]}"
    if waited:
        return (
            f"no good answer in {waited:.0f} s of trying ({said}); check the network and the endpoint ({ENDPOINTS[extra]}), then run the "
            "same command again, it goes on where it stopped"
        )
    return f"the store refused ({said}); check the URL, the region and the endpoint ({ENDPOINTS[extra]})"


def _library_errors(extra: str) -> tuple[type[BaseException], ...]:
    """What the fsspec package of a store may raise for what is not a defect of ours."""
    import aiohttp

    if extra == "s3":
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        return OSError, aiohttp.ClientError, BotoCoreError, ClientError, ResponseParserError
    if extra == "gcs":
        from gcsfs.retry import ChecksumError, HttpError
        from google.auth.exceptions import GoogleAuthError

        return OSError, aiohttp.ClientError, HttpError, ChecksumError, GoogleAuthError
    from azure.core.exceptions import AzureError

    return OSError, aiohttp.ClientError, AzureError


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _answer(error: BaseException) -> tuple[int | None, str]:
    """HTTP status and error code of the server's answer; (None, "") where there was none."""
    for one in _chain(error):
        response = getattr(one, "response", None)
        if isinstance(response, dict):  # botocore
            code = str(response.get("Error", {}).get("Code", ""))
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            status = status or (int(code) if code.isdigit() else None)
            if code in ("PreconditionFailed", "InvalidRange"):  # some servers answer these with another status
                status = {"PreconditionFailed": 412, "InvalidRange": 416}[code]
            return status, "" if code.isdigit() else code
        status = getattr(one, "status_code", None) or getattr(one, "code", None)  # azure, gcsfs
        if str(status).isdigit():
            return int(str(status)), str(getattr(one, "error_code", None) or "")
    return None, ""


def _passing(error: BaseException, status: int | None, code: str) -> bool:
    """Whether trying again can help."""
    names = {kind.__name__ for e in _chain(error) for kind in type(e).__mro__}
    if names & NO_CREDENTIALS:
        return False
    if status is not None:
        return status in PASSING_STATUS or code in PASSING_CODES
    connection = {"TimeoutError", "ConnectionError", "ClientError", "HTTPClientError", "ResponseParserError", "ChecksumError",
                  "IncompleteReadError", "ServiceRequestError", "ServiceResponseError", "TransportError", "gaierror"}  # fmt: skip
    return bool(names & connection)


# -- what a person may write --


def _scheme(url: str) -> str:
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", url)
    return match[1].lower() if match else ""


def _local_folder(url: str) -> Path | None:
    scheme = _scheme(url)
    return Path(url.partition("://")[2] if scheme else url) if scheme in ("", "file", "local") else None


def _checked_url(url: str) -> str:
    """The URL as it is, a local path made absolute (workers have folders of their own). What may be a secret is never repeated."""
    scheme = _scheme(url)
    rest = url.partition("://")[2] if scheme else url
    if scheme not in ("", "file", "local", "memory", *EXTRAS):
        raise InputError(f"{scheme}://…: versions cannot be kept there; use a local folder, s3://, gs:// or abfs://")
    if not rest.strip("/") and (scheme in EXTRAS or not rest):
        raise InputError(f"{scheme + '://' if scheme else 'the folder'}: names no folder; write, say, s3://bucket/folder")
    if scheme in EXTRAS:
        bucket = rest.split("/")[0]
        if (":" in bucket and not bucket.startswith("arn:")) or ("@" in rest and not (EXTRAS[scheme] == "azure" and "@" in bucket)):
            raise InputError(f"{scheme}://…: credentials do not belong in a URL, which is written into manifests and logs; set "
                             f"{CREDENTIALS[EXTRAS[scheme]]} and write {scheme}://bucket/folder")  # fmt: skip
        if "?" in rest or "#" in rest:
            raise InputError(f"{scheme}://…: a query string may hold a signature or a key and does not belong in the URL; write "
                             f"{scheme}://bucket/folder and set {CREDENTIALS[EXTRAS[scheme]]}")  # fmt: skip
    if "::" in url or "\0" in url:
        raise InputError("the URL of the folder: chained URLs ('::') are not allowed; name one file system")
    if scheme in ("file", "local") and not rest.startswith("/"):
        raise InputError(f"{url}: this names a machine, not a folder; write file:///folder")
    return url if scheme else str(Path(url).absolute())


def _checked(path: str) -> str:
    parts = path.split("/")
    if not path or "\\" in path or "\0" in path or any(part in ("", ".", "..") for part in parts) or _unfinished(path):
        raise ValueError(f"{path!r} is not a path inside the store: relative, with forward slashes, without '.' and '..'")
    return path


def _unfinished(path: str) -> bool:
    return any(part.startswith(TEMPORARY) for part in path.split("/"))
