"""What a kind of store has to be able to do: the interface behind `Store`, and the values that pass through it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO, Protocol

import pyarrow as pa

from chameleon_data.errors import UnavailableError

TEMPORARY_PREFIX = ".tmp-"
"""First characters of the names of files that a writer has not finished. Such files are no data."""


class StoreError(Exception):
    """What a store answered, in our own words."""

    def __init__(self, text: str, status: int | None = None, transient: bool = False) -> None:
        super().__init__(text)
        self.status = status  # of the HTTP answer, where there was one
        self.transient = transient  # the same request may succeed later


def explain_store_error(where: str, error: StoreError) -> str:
    """Its text. Raises UnavailableError where the same may succeed later."""
    if error.transient:
        raise UnavailableError(f"{where}: {error}") from None
    return str(error)


@dataclass(frozen=True)
class Upload:
    """A multipart upload that nobody has ended."""

    path: str
    """Name that the file would have, relative to the folder."""
    id: str
    """The store's own name of the upload."""
    begun: float
    """When it began, in seconds on the store's own clock."""


class Backend(Protocol):
    """One folder in one kind of store. Paths are relative to it and have been checked.

    FileNotFoundError and FileExistsError mean what they say; every other failure is an OSError or a StoreError.
    """

    def read(self, path: str) -> bytes: ...

    def read_range(self, path: str, start: int, end: int) -> pa.Buffer:
        """Bytes from start to end, or fewer where the file ends before; called by many threads at once."""

    def open(self, path: str) -> BinaryIO:
        """The file, seekable."""

    def create(self, path: str, data: pa.Buffer) -> None:
        """Put the file there whole; FileExistsError where the name is taken."""

    def replace(self, path: str, data: pa.Buffer) -> None:
        """Put the file there whole, in the place of another one if need be."""

    def size(self, path: str) -> int | None:
        """Bytes of the file; None where there is none. A folder is none."""

    def walk(self, folder: str) -> Iterable[tuple[str, int, float]]:
        """(path, bytes, seconds on the store's clock) of every file in the folder and below, in any order."""

    def delete(self, paths: list[str]) -> None:
        """Delete the files; a missing one does not matter."""

    def uploads(self) -> Iterable[Upload]:
        """Multipart uploads into the folder that nobody has ended."""
        return ()

    def abort(self, upload: Upload) -> None:
        """End an upload and drop its parts; a missing one does not matter."""
        raise ValueError(f"{upload.path}: this kind of store takes no multipart uploads")
