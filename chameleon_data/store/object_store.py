"""A folder in an object store, through the store's fsspec package: conditional puts, our own retries, one deadline for all.

The packages' coroutines are called one by one, with their own retries off or within our deadline. A call is repeated while that
can help. Cost: one request to write an object, one per 32 MiB to read it, one per 1,000 names to list, and of S3 to delete.
Why: docs/decisions/011-own-retries.md.
"""

from __future__ import annotations

import errno
import io
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any, BinaryIO

import pyarrow as pa
from fsspec.asyn import sync
from fsspec.core import url_to_fs

from chameleon_data.errors import InputError, explaining, say_install
from chameleon_data.store.backend import Backend, StoreError, Upload, explain_store_error
from chameleon_data.store.network_errors import (
    MISSING_BUCKET,
    explain_missing_bucket,
    explain_refusal,
    is_transient,
    library_errors,
    read_answer,
)
from chameleon_data.store.urls import EXTRAS, scheme_of

DEADLINE = 120.0
"""Seconds that one operation may take with all its retries; each MiB that it carries adds one second."""
LISTING_DEADLINE = 900.0
"""Seconds that a listing may take."""
LARGEST_PUT = 5 * 2**30
"""Bytes of the largest object that one S3 put takes; shards are below 4 GiB."""
RANGE_BYTES = 32 * 2**20
"""Bytes that one request reads."""
DELETED_AT_ONCE = 1_000
"""Files that one request of S3 deletes at most."""
READ_AHEAD_BYTES = 2**20
"""Bytes that an open file reads ahead."""

STORE_PACKAGES = {"s3": "s3fs", "gcs": "gcsfs", "azure": "adlfs"}
FILE_SYSTEM_OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {"config_kwargs": {"connect_timeout": 10, "read_timeout": 60, "retries": {"total_max_attempts": 1}}},
}
PUT_OPTIONS = {extra: {"chunksize": LARGEST_PUT} for extra in ("s3", "gcs")}
"""Every body goes in one request, which is conditional as a whole. A multipart upload of a killed writer would stay, and cost."""


class RemoteFolder(Backend):
    def __init__(self, url: str, deadline: float, single_writer: bool = False) -> None:
        self.url, self.deadline, self.single_writer = url, deadline, single_writer
        self.extra = EXTRAS[scheme_of(url)]
        try:
            bucket, _, key = url.partition("://")[2].partition("/")  # fsspec takes '::' in a key for a chain
            options = FILE_SYSTEM_OPTIONS.get(self.extra, {})
            self.fs, root = url_to_fs(f"{scheme_of(url)}://{bucket}", use_listings_cache=False, **options)
            self.errors = library_errors(self.extra)
        except ImportError:
            package = STORE_PACKAGES[self.extra]
            raise StoreError(f"the package {package} is missing; {say_install(self.extra)}") from None
        self.root = f"{root.rstrip('/')}/{key}".rstrip("/")

    def read(self, path: str) -> bytes:
        parts = [self.get(path, 0, RANGE_BYTES)]
        while len(parts[-1]) == RANGE_BYTES:
            start = len(parts) * RANGE_BYTES
            parts.append(self.get(path, start, start + RANGE_BYTES))
        return b"".join(parts) if len(parts) > 1 else parts[0]

    def read_range(self, path: str, start: int, end: int) -> pa.Buffer:
        return pa.py_buffer(self.get(path, start, end))

    def get(self, path: str, start: int, end: int) -> bytes:
        """Bytes from start to end, or to the end of the object; none if it ends before start."""
        if end <= start:
            return b""  # servers ignore such a range, and send the whole object
        try:
            return bytes(self._call(self.fs._cat_file, self._full(path), start=start, end=end, size=end - start))
        except StoreError as error:
            if error.status == 416:
                return b""
            raise

    def open(self, path: str) -> BinaryIO:
        size = self.size(path)
        if size is None:
            raise FileNotFoundError(errno.ENOENT, "No such file")
        return io.BufferedReader(_RemoteFile(self, path, size), READ_AHEAD_BYTES)

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
            listing = self._call(self.fs._find, inside.rstrip("/"), detail=True, seconds=LISTING_DEADLINE)
        except FileNotFoundError:
            return
        for name, info in listing.items():
            if name.startswith(inside) and info["type"] == "file" and not name.endswith("/"):  # a folder's marker ends with /
                yield name[len(self.root) + 1 :], int(info["size"]), _modified(info)

    def delete(self, paths: list[str]) -> None:
        def delete_one(path: str) -> None:
            with suppress(FileNotFoundError):
                self._call(self.fs._rm_file, self._full(path))

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(delete_one, self._delete_together(paths) if len(paths) > 1 else paths))

    def _delete_together(self, paths: list[str]) -> list[str]:
        """Delete the files in requests of a thousand, where the store has such requests. Returns those that are left."""
        if self.extra != "s3":
            return paths
        left = list[str]()
        for start in range(0, len(paths), DELETED_AT_ONCE):
            full = {self._full(path).partition("/")[2]: path for path in paths[start : start + DELETED_AT_ONCE]}
            request = {"Objects": [{"Key": key} for key in full], "Quiet": True}
            try:
                answer = self._call(self.fs._call_s3, "delete_objects", Bucket=self.root.partition("/")[0], Delete=request)
            except (StoreError, FileNotFoundError):  # not every server has such a request; the others say what is wrong
                return [*left, *paths[start:]]
            left += [full[error["Key"]] for error in answer.get("Errors", ())]
        return left

    def uploads(self) -> Iterator[Upload]:
        """S3 alone keeps the parts of such an upload for ever: Google Cloud Storage and Azure drop them after a week."""
        if self.extra != "s3":
            return
        bucket, _, key = self.root.partition("/")
        request: dict[str, Any] = {"Bucket": bucket, "Prefix": f"{key}/"}
        while True:
            page = self._call(self.fs._call_s3, "list_multipart_uploads", **request, seconds=LISTING_DEADLINE)
            for upload in page.get("Uploads", ()):
                yield Upload(upload["Key"][len(key) + 1 :], upload["UploadId"], upload["Initiated"].timestamp())
            if not page.get("IsTruncated"):
                return
            request |= {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

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
            raise StoreError(explain_missing_bucket(self.extra), 404) from None

    def _call(self, method: Callable[..., Any], *args: Any, size: int = 0, seconds: float = 0.0, **kwargs: Any) -> Any:
        """Run a coroutine method, again where that can help, until the deadline; `size` is the bytes that it carries.

        `seconds` is a longer deadline.
        """
        allowed = max(self.deadline, seconds) + size / 2**20
        end = time.monotonic() + allowed
        wait = 0.1
        while True:
            try:
                return sync(self.fs.loop, method, *args, timeout=max(end - time.monotonic(), 0.01), **kwargs)
            except self.errors as error:
                status, code = read_answer(error)
                if status == 412 or isinstance(error, FileExistsError):
                    raise FileExistsError(errno.EEXIST, "File exists") from None
                if code in MISSING_BUCKET:
                    raise StoreError(explain_missing_bucket(self.extra), 404) from None
                if status == 404 or isinstance(error, FileNotFoundError):
                    raise FileNotFoundError(errno.ENOENT, "No such file") from None
                transient = is_transient(error)
                pause = wait * (1 + time.monotonic_ns() % 1000 / 1000)  # workers that failed together do not return together
                if not transient or time.monotonic() + pause >= end:
                    refusal = explain_refusal(error, self.extra, allowed if transient else None)
                    raise StoreError(refusal, status, transient) from None
            time.sleep(pause)
            wait = min(2 * wait, 10.0)


class _RemoteFile(io.RawIOBase):
    """A file in an object store. Each read is a request of its own, with its own deadline."""

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
        changed = "removed or changed while it was read; run the command again"
        with explaining(where, {StoreError: partial(explain_store_error, where), FileNotFoundError: changed}):
            data = self._folder.get(self._path, self._at, self._at + wanted)
        if len(data) != wanted:
            raise InputError(f"{where}: {changed}")
        view[:wanted] = data
        self._at += wanted
        return wanted


def _modified(info: dict[str, Any]) -> float:
    """Seconds on the store's own clock, under the names of s3fs, adlfs and gcsfs. A file without a time is never old."""
    when = next((info[key] for key in ("LastModified", "last_modified", "mtime", "updated") if info.get(key)), None)
    if when is None:
        return math.inf
    return float((datetime.fromisoformat(when) if isinstance(when, str) else when).timestamp())
