"""Garbage: files that no version refers to and no driver at work uses. Found first, removed only when asked.

    builds/<digest>/…                 of no live version: builds that were given up, and versions that were deleted
    builds/<digest>/runs/…            sorted runs, of no use once there is a version
    _chameleon/manifests/<sha256>     of commits that did not come to their end, and of deleted versions
    _chameleon/tables/<sha256>        that no manifest of a live version names
    _chameleon/landmarks/<digest>     that no live version was weighed on and no cached weighing names
    .tmp-…                            of writers that died; and multipart uploads that nobody ended
    _chameleon/active/…               of drivers and gcs that died
    _chameleon/checks/…               surveys for a `verify --corpus` that died
    _chameleon/cache/…                surveys, kept rows, vectors and weighings, only when asked: the next build makes them again

All else stays: versions, tombstones, tags, and whatever else lies in the folder. A version whose manifest cannot be read stops
gc, since nobody knows what it refers to.

The order makes it safe beside drivers and other gcs: our mark, the active records, the list of files, the versions with their
manifests, the removal. Once the records were read, no other driver looks at a file before we end. Expired records go before the
versions are read, so that a driver which is alive after all finds its record gone and does not commit. Receipts go before shards,
a manifest before its tables, a part's summary before its documents, a list before its kept rows, a weighing before its landmarks:
whoever finds one after a gc was killed finds all of it. While any driver is at work, caches, landmarks, manifests, tables and
temporary files stay, as nobody can say yet which it will need.
Why: docs/decisions/070-active-records.md.
Cost: a listing of the folder, a request for each version and each cached weighing, and for each file or, on S3, each 160.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from chameleon_data.errors import InputError
from chameleon_data.store.backend import Upload
from chameleon_data.store.checksummed import read_record
from chameleon_data.store.paths import (
    BUILD_FILE,
    BUILDS,
    CACHE,
    CHECKS,
    LANDMARKS_FILE,
    MANIFEST_FILE,
    TABLE_FILE,
    WEIGHING_CACHE,
)
from chameleon_data.store.store import Entry, Store, is_unfinished
from chameleon_data.versions.active import (
    OLDER_THAN,
    SPARED_KINDS,
    ActiveDriver,
    ActiveFolder,
    OwnRecord,
    look_at_drivers,
    own_record,
)
from chameleon_data.versions.versions import list_versions, read_manifest

REMOVED_AT_ONCE = 160
"""Files that are removed between two looks at our own mark."""
TEMPORARY_AGE = 900.0
"""Seconds after which an unfinished file is taken for dead. A commit or a tag, which write no active record, need a moment."""
UPLOAD_AGE = 86_400.0
"""Seconds after which a multipart upload is taken for dead. We begin none: some other program copies files there."""

GARBAGE_KINDS = (
    "builds", "runs", "manifests", "tables", "landmarks", "checks", "caches", "active records", "temporary files", "uploads"
)  # fmt: skip


@dataclass(frozen=True)
class Garbage:
    files: dict[str, tuple[str, int]]
    """Path -> (one of GARBAGE_KINDS, bytes)."""
    uploads: tuple[Upload, ...]
    drivers: tuple[ActiveDriver, ...]
    """Those at work. The folders of their plans stay, and so does whatever is of SPARED_KINDS."""

    @property
    def bytes(self) -> int:
        """Bytes of the files; nobody says how much an upload holds."""
        return sum(size for _, size in self.files.values())

    def groups(self) -> dict[tuple[str, str], tuple[int, int]]:
        """(kind, folder) -> (files, bytes), a line of what to tell a person."""
        found: dict[tuple[str, str], tuple[int, int]] = {}
        for path, (kind, size) in self.files.items():
            depth = {"builds": 2, "runs": 3, "caches": 3}.get(kind, 2)
            folder = "/".join(path.split("/")[:depth]) if kind != "temporary files" else ""
            files, total = found.get((kind, folder), (0, 0))
            found[kind, folder] = (files + 1, total + size)
        return dict(sorted(found.items(), key=lambda group: (GARBAGE_KINDS.index(group[0][0]), group[0][1])))


def find_garbage(store: Store, caches: bool = False, older_than: float = OLDER_THAN) -> Garbage:
    """What `remove_garbage` would remove. Writes a probe, to learn the store's time, and nothing else."""
    with own_record(store, "probe") as probe:
        return _find(store, probe, look_at_drivers(probe, older_than), caches)


def remove_garbage(
    store: Store, caches: bool = False, older_than: float = OLDER_THAN,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Garbage:  # fmt: skip
    """Remove the garbage, and return what it was. Safe to kill, to repeat, and beside drivers and other gcs.

    Drivers whose records are older than `older_than` seconds are taken for dead; below `DRIVER_SILENCE` the caller says that
    they are. `caches` go too where asked.
    """
    with own_record(store, "gc") as mark:
        active = look_at_drivers(mark, older_than)
        store.remove(active.expired)
        found = _find(store, mark, active, caches)
        promises = [path for path in found.files if _promises_others(path)]
        others = [path for path in found.files if not _promises_others(path)]
        total, done = len(found.files) + len(found.uploads), 0
        for paths in (promises, others):
            for start in range(0, len(paths), REMOVED_AT_ONCE):
                mark.keep()
                mark.check()
                store.remove(paths[start : start + REMOVED_AT_ONCE])
                done += len(paths[start : start + REMOVED_AT_ONCE])
                progress(done, total)
        for upload in found.uploads:
            store.abort(upload)
        _remove_empty_folders(store, found.files)
        return found


def _promises_others(path: str) -> bool:
    """Whether who finds the file takes it that other files are there."""
    build = BUILD_FILE.fullmatch(path)
    return path.endswith(".json") or bool(build and build[2].startswith("receipts/"))


def _find(store: Store, own: OwnRecord, active: ActiveFolder, caches: bool) -> Garbage:
    entries = store.entries()
    own.keep()
    referred = _referred(store)
    own.keep()
    named = set() if caches else _landmarks_of_weighings(store, entries)
    files = {}
    for path, entry in entries.items():
        kind = _kind(path, entry, active, referred, named, caches)
        if kind:
            files[path] = (kind, entry.bytes)
    files |= dict.fromkeys(active.expired, ("active records", 0))
    uploads = tuple(upload for upload in store.uploads() if active.now - upload.begun > UPLOAD_AGE)
    return Garbage(files, uploads, active.drivers)


@dataclass(frozen=True)
class _Referred:
    """What the live versions refer to."""

    builds: frozenset[str]
    """Digests; the names of folders of builds. A version to which stages were added has several."""
    manifests: frozenset[str]
    """sha256; the names of files."""
    tables: frozenset[str]
    """Paths."""
    landmarks: frozenset[str]
    """Digests; the names of files."""


def _referred(store: Store) -> _Referred:
    versions = list_versions(store)
    with ThreadPoolExecutor(16) as pool:
        manifests = list(pool.map(lambda version: read_manifest(store, version), versions))
    return _Referred(
        frozenset(folder.removeprefix(f"{BUILDS}/") for m in manifests for folder in m.builds),
        frozenset(version.manifest for version in versions),
        frozenset(file.path for m in manifests for table in vars(m.tables).values() for file in table),
        frozenset(m.weights.nystrom.digest for m in manifests if m.weights.nystrom),
    )


def _landmarks_of_weighings(store: Store, entries: Iterable[str]) -> set[str]:
    """Digests that the cached weighings name: a build that finds a weighing there writes no landmarks any more."""
    paths = [path for path in entries if path.startswith(f"{WEIGHING_CACHE}/") and path.endswith(".json")]

    def read(path: str) -> str | None:
        try:
            used = read_record(store, path)["description"]["nystrom"]
            return str(used["digest"]) if used else None
        except InputError:
            if store.exists(path):
                raise
            return None  # it was damaged, and `read_record` has removed it

    with ThreadPoolExecutor(16) as pool:
        return {digest for digest in pool.map(read, paths) if digest}


def _kind(path: str, entry: Entry, active: ActiveFolder, referred: _Referred, named: set[str], caches: bool) -> str | None:
    """What kind of garbage a file is; None for what stays."""
    name = path.rpartition("/")[2]
    if is_unfinished(path):
        ours = re.fullmatch(r"\.tmp-(probe-)?[0-9a-f]{16}", name)
        kind = "temporary files" if ours and active.now - entry.modified > TEMPORARY_AGE else None
    elif match := BUILD_FILE.fullmatch(path):
        plan, rest = match.groups()
        if any(plan in driver.record.plans for driver in active.drivers):
            return None
        if plan in referred.builds:
            return "runs" if rest.startswith("runs/") else None
        return "builds"
    elif match := MANIFEST_FILE.fullmatch(path):
        kind = None if match[1] in referred.manifests else "manifests"
    elif TABLE_FILE.fullmatch(path):
        kind = None if path in referred.tables else "tables"
    elif match := LANDMARKS_FILE.fullmatch(path):
        kind = None if match[1] in referred.landmarks | named else "landmarks"
    elif path.startswith(f"{CHECKS}/"):
        kind = "checks"
    elif caches and path.startswith(f"{CACHE}/"):
        kind = "caches"
    else:
        kind = None
    return None if active.drivers and kind in SPARED_KINDS else kind


def _remove_empty_folders(store: Store, removed: Iterable[str]) -> None:
    """A local disk keeps them; object stores have none. Who is about to write into one waits for our end."""
    for root in {"/".join(path.split("/")[:2]) for path in removed if path.startswith((f"{BUILDS}/", f"{CACHE}/", f"{CHECKS}/"))}:
        local = store.local(root)
        for folder, _, _ in os.walk(local, topdown=False) if local else ():
            with suppress(OSError):  # not empty
                Path(folder).rmdir()
