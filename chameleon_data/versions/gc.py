"""Garbage: what no version refers to and no build at work owns. Found first, removed only when asked.

    builds/<plan digest>/…            of no live version: builds that were given up, and versions that were deleted
    builds/<plan digest>/runs/…       sorted runs, of no use once there is a version
    _chameleon/manifests/<sha256>     of commits that did not come to their end, and of deleted versions
    _chameleon/landmarks/<digest>     that no live version was weighed on and no cached weighing names
    .tmp-…                            of writers that died; and multipart uploads that nobody ended
    _chameleon/leases/…               of builds that died
    _chameleon/checks/…               surveys for a `verify --corpus` that died
    _chameleon/cache/…                surveys, vectors and weighings, only when asked: the next build makes them again

All else stays: versions, tombstones, tags, and whatever else lies in the folder. A version whose manifest cannot be read stops
the collection, since nobody knows what it refers to.

The order is what makes it safe, beside builds and other collections (`leases.py` says why it suffices): our own lease, the list
of files, the leases of others, the versions with their manifests, the removal. What is made after the listing is not in it;
what is in it belongs to a version that is there by then, to a build whose lease is seen, to a build that waits for our end, or
to nobody. Records go before what they record (receipts before shards, a part's summary before its documents, a weighing before
its landmarks), so that whoever finds one after a collection was killed finds all of it.

While any build is at work, caches, landmarks, manifests and temporary files stay, as nobody can say yet which it will need.
Cost: a listing of the folder, and a request for each version, each file, and each cached weighing.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chameleon_data.errors import InputError
from chameleon_data.store.backend import Upload
from chameleon_data.store.paths import BUILD_FILE, BUILDS, CACHE, CHECKS, LANDMARKS_FILE, MANIFEST_FILE, WEIGHING_CACHE
from chameleon_data.store.store import Entry, Store, is_unfinished
from chameleon_data.versions.leases import COLLECT, LEASE, LOOK, Lease, Look, leased
from chameleon_data.versions.versions import Version, list_versions, load_manifest

REMOVED_AT_ONCE = 1000
"""Files that are removed between two looks at our own lease."""
UPLOAD_AGE = 86_400.0
"""Seconds after which a multipart upload is taken for dead. We begin none: it is of a program that copies and holds no lease."""

GARBAGE_KINDS = ("builds", "runs", "manifests", "landmarks", "checks", "caches", "leases", "temporary files", "uploads")


@dataclass(frozen=True)
class Garbage:
    files: dict[str, tuple[str, int]]
    """Path -> (one of KINDS, bytes)."""
    uploads: tuple[Upload, ...]
    spared: tuple[str, ...]
    """Plan digests of builds that are at work, and `caches` where any is."""

    @property
    def bytes(self) -> int:
        """Of the files; nobody says how much an upload holds."""
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


def find_garbage(store: Store, caches: bool = False) -> Garbage:
    """What `remove_garbage` would remove; with `caches` those as well. Writes a lease, to learn the store's time, and
    nothing else."""
    with leased(store, LOOK) as lease:
        return _find(store, lease, caches)


def remove_garbage(
    store: Store, caches: bool = False, progress: Callable[[int, int], None] = lambda done, total: None
) -> Garbage:
    """Remove the garbage, and return what it was. Safe to kill, to repeat, and beside builds and other collections."""
    with leased(store, COLLECT) as lease:
        found = _find(store, lease, caches)
        records = [path for path in found.files if path.endswith(".json")]
        others = [path for path in found.files if not path.endswith(".json")]
        total, done = len(found.files) + len(found.uploads), 0
        for paths in (records, others):
            for start in range(0, len(paths), REMOVED_AT_ONCE):
                lease.check()
                store.remove(paths[start : start + REMOVED_AT_ONCE])
                done += len(paths[start : start + REMOVED_AT_ONCE])
                progress(done, total)
        for upload in found.uploads:
            lease.check()
            store.abort(upload)
        _remove_empty_folders(store, found.files)
        return found


def _find(store: Store, lease: Lease, caches: bool) -> Garbage:
    entries = store.entries()
    look = lease.look()
    referred = _referred(store)
    named = set() if caches else _landmarks_of_weighings(store, entries)
    files = {}
    for path, entry in entries.items():
        kind = _kind(path, entry, look, referred, named, caches)
        if kind:
            files[path] = (kind, entry.bytes)
    files |= dict.fromkeys(look.void, ("leases", 0))
    uploads = tuple(upload for upload in store.uploads() if look.now - upload.begun > UPLOAD_AGE)
    return Garbage(files, uploads, tuple(sorted(look.held - {COLLECT, LOOK})))


@dataclass(frozen=True)
class _Referred:
    """What the versions refer to, that live."""

    plans: frozenset[str]
    """Digests; the names of folders of builds."""
    manifests: frozenset[str]
    """sha256; the names of files."""
    landmarks: frozenset[str]
    """Digests; the names of files."""


def _referred(store: Store) -> _Referred:
    versions = list_versions(store)

    def read(version: Version) -> tuple[str, str | None]:
        manifest = load_manifest(store, version)
        return str(manifest.get("build")).removeprefix(f"{BUILDS}/"), _landmarks(manifest.get("weights"))

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(read, versions))
    return _Referred(
        frozenset(version.plan_digest for version in versions) | {plan for plan, _ in found},
        frozenset(version.manifest for version in versions),
        frozenset(digest for _, digest in found if digest),
    )


def _landmarks(weights: Any) -> str | None:
    """The landmarks on which a mixture was weighed, from what was recorded of it."""
    used = weights.get("nystrom") if isinstance(weights, dict) else None
    return str(used["digest"]) if isinstance(used, dict) and "digest" in used else None


def _landmarks_of_weighings(store: Store, entries: Iterable[str]) -> set[str]:
    """Those that the cache names: a build that finds a weighing there writes no landmarks any more."""
    paths = [path for path in entries if path.startswith(f"{WEIGHING_CACHE}/") and path.endswith(".json")]

    def read(path: str) -> str | None:
        try:
            return _landmarks(json.loads(store.read(path)).get("description"))
        except (ValueError, AttributeError, InputError) as error:
            if not store.exists(path):
                return None
            raise InputError(f"{store.url}/{path}: cannot be read; remove it, it is a cache") from error

    with ThreadPoolExecutor(16) as pool:
        return {digest for digest in pool.map(read, paths) if digest}


def _kind(path: str, entry: Entry, look: Look, referred: _Referred, named: set[str], caches: bool) -> str | None:
    """What kind of garbage a file is; None for what stays."""
    working = bool(look.held - {COLLECT, LOOK})
    name = path.rpartition("/")[2]
    if is_unfinished(path):
        ours = re.fullmatch(r"\.tmp-(probe-)?[0-9a-f]{16}", name)
        return "temporary files" if ours and not working and look.now - entry.modified > LEASE else None
    if match := BUILD_FILE.fullmatch(path):
        plan, rest = match.groups()
        if plan in look.held:
            return None
        if plan in referred.plans:
            return "runs" if rest.startswith("runs/") else None
        return "builds"
    if working:
        return None
    if match := MANIFEST_FILE.fullmatch(path):
        return None if match[1] in referred.manifests else "manifests"
    if match := LANDMARKS_FILE.fullmatch(path):
        return None if match[1] in referred.landmarks | named else "landmarks"
    if path.startswith(f"{CHECKS}/"):
        return "checks"
    if caches and path.startswith(f"{CACHE}/"):
        return "caches"
    return None


def _remove_empty_folders(store: Store, removed: Iterable[str]) -> None:
    """A local disk keeps them; object stores have none. Who is about to write into one waits for our end."""
    for root in {"/".join(path.split("/")[:2]) for path in removed if path.startswith((f"{BUILDS}/", f"{CACHE}/", f"{CHECKS}/"))}:
        local = store.local(root)
        for folder, _, _ in os.walk(local, topdown=False) if local else ():
            with suppress(OSError):  # not empty
                Path(folder).rmdir()
