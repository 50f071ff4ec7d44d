"""Object stores behind a network, through their fsspec packages: conditional puts, our own retries and deadline, errors in words.

The packages' coroutines are called one by one, their own retries off or within our deadline: s3fs goes on for a minute where
nothing will change, and has no limit on the whole. What they say is not repeated, as it may hold key ids and signed URLs.
Cost: one request to write an object, one per 32 MiB to read it, one per 1,000 names to list.
"""

from __future__ import annotations

import errno
import io
import math
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO

import pyarrow as pa
from fsspec.asyn import sync
from fsspec.core import url_to_fs

from chameleon_data.errors import InputError
from chameleon_data.store.urls import CREDENTIALS, EXTRAS

DEADLINE = 120.0
"""Seconds that one operation may take with all its retries, and one more for each MiB it carries."""
LISTING_DEADLINE = 900.0
"""The same for a listing."""
LARGEST_PUT = 5 * 2**30
"""Bytes of the largest object that one S3 put takes; shards are below 4 GiB."""
RANGE_BYTES = 32 * 2**20
"""Bytes of one read."""
READ_AHEAD_BYTES = 2**20
"""Bytes that an open file reads ahead."""

STORE_PACKAGES = {"s3": "s3fs", "gcs": "gcsfs", "azure": "adlfs"}
FILE_SYSTEM_OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {"config_kwargs": {"connect_timeout": 10, "read_timeout": 60, "retries": {"total_max_attempts": 1}}},
}
PUT_OPTIONS = {extra: {"chunksize": LARGEST_PUT} for extra in ("s3", "gcs")}
"""One request, which is conditional as a whole; and the multipart upload of a killed writer stays behind, and costs."""
ENDPOINTS = {"s3": "AWS_ENDPOINT_URL, AWS_REGION", "gcs": "STORAGE_EMULATOR_HOST", "azure": "AZURE_STORAGE_ACCOUNT_NAME"}

MISSING_BUCKET = {"NoSuchBucket", "ContainerNotFound"}
TRANSIENT_STATUS = {408, 409, 425, 429, 500, 502, 503, 504}
"""Answers that may be another one in a moment. On S3, 409 is a conditional put that met another one."""
TRANSIENT_CODES = {
    "SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "OperationAborted", "ConditionalRequestConflict",
    "Throttling", "XAmzContentSHA256Mismatch", "BadDigest", "IncompleteBody",
}  # fmt: skip
TRANSIENT_ERRORS = {
    "TimeoutError", "ConnectionError", "ClientError", "HTTPClientError", "ResponseParserError", "ChecksumError",
    "FlexibleChecksumError", "IncompleteReadError", "ServiceRequestError", "ServiceResponseError", "TransportError", "gaierror",
}  # fmt: skip
NO_CREDENTIALS = {
    "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound", "DefaultCredentialsError",
    "RefreshError", "ClientAuthenticationError", "TokenRetrievalError", "SSOTokenLoadError",
}  # fmt: skip


class StoreError(Exception):
    """What a store answered, in our words; `status` is the HTTP status, where there was one."""

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Upload:
    """A file that somebody began to upload in parts."""

    path: str
    id: str
    begun: float
    """In seconds on the store's own clock."""


class RemoteFolder:
    """One folder. FileNotFoundError and FileExistsError mean what they say; whatever else goes wrong is a Fault."""

    def __init__(self, url: str, deadline: float, single_writer: bool = False) -> None:
        self.url, self.deadline, self.single_writer = url, deadline, single_writer
        self.extra = EXTRAS[url.partition("://")[0].lower()]
        package = STORE_PACKAGES[self.extra]
        try:
            self.fs, root = url_to_fs(url, use_listings_cache=False, **FILE_SYSTEM_OPTIONS.get(self.extra, {}))
            self.errors = _library_errors(self.extra)
        except ImportError:
            raise StoreError(
                f"the package {package} is missing; install it: pip install 'chameleon-data[{self.extra}]'"
            ) from None
        self.root = root.rstrip("/")

    def read(self, path: str) -> bytes:
        parts = [self.get(path, 0, RANGE_BYTES)]
        while len(parts[-1]) == RANGE_BYTES:
            start = len(parts) * RANGE_BYTES
            parts.append(self.get(path, start, start + RANGE_BYTES))
        return b"".join(parts) if len(parts) > 1 else parts[0]

    def read_range(self, path: str, start: int, end: int) -> pa.Buffer:
        return pa.py_buffer(self.get(path, start, end))

    def get(self, path: str, start: int, end: int) -> bytes:
        """Bytes from start to end, or to the end of the object; none behind it."""
        try:
            return bytes(self._call(self.fs._cat_file, self._full(path), start=start, end=end, size=end - start))
        except StoreError as fault:
            if fault.status == 416:
                return b""
            raise

    def open(self, path: str) -> BinaryIO:
        size = self.size(path)
        if size is None:
            raise FileNotFoundError(errno.ENOENT, "No such file")
        return io.BufferedReader(_Ranges(self, path, size), READ_AHEAD_BYTES)

    def create(self, path: str, data: pa.Buffer) -> None:
        if self.single_writer and self.size(path) is not None:  # this store may ignore the condition
            raise FileExistsError(errno.EEXIST, "File exists")
        self._put(path, data, mode="create")

    def replace(self, path: str, data: pa.Buffer) -> None:
        self._put(path, data)

    def size(self, path: str) -> int | None:
        try:
            info = self._call(self.fs._info, self._full(path))
        except FileNotFoundError:
            return None
        return int(info["size"]) if info["type"] == "file" else None

    def walk(self, folder: str) -> Iterator[tuple[str, int, float]]:
        inside = self._full(folder).rstrip("/") + "/"
        try:
            found = self._call(self.fs._find, inside.rstrip("/"), detail=True, seconds=LISTING_DEADLINE)
        except FileNotFoundError:
            return
        for name, info in found.items():
            if name.startswith(inside) and info["type"] == "file" and not name.endswith("/"):  # markers of folders end so
                yield name[len(self.root) + 1 :], int(info["size"]), _modified(info)

    def delete(self, paths: list[str]) -> None:
        def delete(path: str) -> None:
            with suppress(FileNotFoundError):
                self._call(self.fs._rm_file, self._full(path))

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(delete, paths))

    def uploads(self) -> Iterator[Upload]:
        """S3 alone keeps the parts of an unended upload for ever: Google Cloud Storage and Azure drop them after a week."""
        if self.extra != "s3":
            return
        bucket, _, key = self.root.partition("/")
        asked: dict[str, Any] = {"Bucket": bucket, "Prefix": f"{key}/"}
        while True:
            found = self._call(self.fs._call_s3, "list_multipart_uploads", **asked, seconds=LISTING_DEADLINE)
            for one in found.get("Uploads", ()):
                yield Upload(one["Key"][len(key) + 1 :], one["UploadId"], one["Initiated"].timestamp())
            if not found.get("IsTruncated"):
                return
            asked |= {"KeyMarker": found["NextKeyMarker"], "UploadIdMarker": found["NextUploadIdMarker"]}

    def abort(self, upload: Upload) -> None:
        bucket, _, key = self._full(upload.path).partition("/")
        with suppress(FileNotFoundError):
            self._call(self.fs._call_s3, "abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload.id)

    def _full(self, path: str) -> str:
        return f"{self.root}/{path}"

    def _put(self, path: str, data: pa.Buffer, **mode: str) -> None:
        options: dict[str, Any] = {**PUT_OPTIONS.get(self.extra, {}), **mode}
        try:
            self._call(self.fs._pipe_file, self._full(path), data.to_pybytes(), size=data.size, **options)
        except FileNotFoundError:
            raise self._no_bucket() from None

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
                    raise self._no_bucket() from None
                if status == 404 or isinstance(error, FileNotFoundError):
                    raise FileNotFoundError(errno.ENOENT, "No such file") from None
                passing = _passing(error, status, code)
                pause = wait * (1 + time.monotonic_ns() % 1000 / 1000)  # so that workers do not all come back at once
                if not passing or time.monotonic() + pause >= end:
                    raise StoreError(self._remedy(error, status, code, allowed if passing else None), status) from None
            time.sleep(pause)
            wait = min(2 * wait, 10.0)

    def _no_bucket(self) -> StoreError:
        kind = "container" if self.extra == "azure" else "bucket"
        return StoreError(f"no such {kind}; create it, or correct the URL or the endpoint ({ENDPOINTS[self.extra]})", 404)

    def _remedy(self, error: BaseException, status: int | None, code: str, waited: float | None) -> str:
        """One sentence, from the kind of error alone."""
        said = code or (f"HTTP {status}" if status else type(error).__name__)
        endpoint, credentials = ENDPOINTS[self.extra], CREDENTIALS[self.extra]
        if lacks_credentials(error):
            return explain_credentials(error, self.extra)
        if status in (401, 403) or isinstance(error, PermissionError):
            return f"access denied ({said}); the credentials ({credentials}) must allow to list, read, write and delete there"
        if waited is not None:
            return f"no good answer in {waited:.0f} s ({said}); check the network and the endpoint ({endpoint}), then try again"
        return f"the store refused ({said}); check the URL, the region and the endpoint ({endpoint})"


class _Ranges(io.RawIOBase):
    """A remote file as ranges of bytes, each under its own deadline."""

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
        wanted = min(len(view), self._size - self._at, RANGE_BYTES)
        if wanted <= 0:
            return 0
        where = f"{self._folder.url.rstrip('/')}/{self._path}"
        try:
            data = self._folder.get(self._path, self._at, self._at + wanted)
        except StoreError as fault:
            raise InputError(f"{where}: {fault}") from None
        except FileNotFoundError:
            data = b""
        if len(data) != wanted:
            raise InputError(f"{where}: removed or changed while it was read; run the command again")
        view[:wanted] = data
        self._at += wanted
        return wanted


def _modified(info: dict[str, Any]) -> float:
    """Seconds on the store's own clock, under the names of s3fs, adlfs and gcsfs; without them a file is never old."""
    found = next((info[key] for key in ("LastModified", "last_modified", "mtime", "updated") if info.get(key)), None)
    if found is None:
        return math.inf
    return float((datetime.fromisoformat(found) if isinstance(found, str) else found).timestamp())


def _library_errors(extra: str) -> tuple[type[BaseException], ...]:
    """What the package of a store may raise for what is not a defect of ours."""
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


def _answer(error: BaseException) -> tuple[int | None, str]:
    """HTTP status and error code of the server's answer; (None, "") where there was none."""
    for one in _chain(error):
        response = getattr(one, "response", None)
        if isinstance(response, dict):  # botocore
            code = str(response.get("Error", {}).get("Code", ""))
            if code in ("PreconditionFailed", "InvalidRange"):  # some servers answer these with another status
                return {"PreconditionFailed": 412, "InvalidRange": 416}[code], code
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            return status, "" if code.isdigit() else re.sub(r"\W", "", code)[:60]
        status = getattr(one, "status_code", None) or getattr(one, "code", None)  # azure, gcsfs
        if str(status).isdigit():
            code = getattr(one, "error_code", None) or ""
            return int(str(status)), re.sub(r"\W", "", str(getattr(code, "value", code)))[:60]
    return None, ""


def is_transient(error: BaseException) -> bool:
    """Whether an error of a store's package is of the network, so that trying again can help."""
    return _passing(error, *_answer(error))


def lacks_credentials(error: BaseException) -> bool:
    """Whether an error of a store's package says that it found no credentials, or none that hold."""
    return bool(_kinds(error) & NO_CREDENTIALS)


def explain_credentials(error: BaseException, extra: str) -> str:
    """What to set where `lacks_credentials`; `extra` is the store's kind in EXTRAS."""
    said = _answer(error)[1] or type(error).__name__
    return f"no usable credentials ({said}); set {CREDENTIALS.get(extra, 'those of the store')}"


def _passing(error: BaseException, status: int | None, code: str) -> bool:
    """Whether trying again can help."""
    if status is not None:
        return status in TRANSIENT_STATUS or code in TRANSIENT_CODES
    kinds = _kinds(error)
    return bool(kinds & TRANSIENT_ERRORS) and not kinds & NO_CREDENTIALS


def _kinds(error: BaseException) -> set[str]:
    """Names of the classes of an error and of its causes; names, so that no package of a store need be there."""
    return {kind.__name__ for one in _chain(error) for kind in type(one).__mro__}


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
