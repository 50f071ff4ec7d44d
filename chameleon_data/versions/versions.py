"""Versions of a dataset: numbered for good, named by tags, and committed by one create-only put.

    _chameleon/format.json                  which layout this is, and the id of the dataset
    _chameleon/manifests/<sha256>.json      what a version holds, under the hash of its own bytes
    _chameleon/versions/v00000012.json      the commit: number 12 is that manifest
    _chameleon/deleted/v00000012.json       the tombstone of version 12, which keeps its number for ever
    _chameleon/tags/<name>/00000003.json    where a tag points; the highest generation holds, the others are its history

Nothing is ever replaced, so readers need no lock and a copy of the folder is as good as the folder. A commit takes the
lowest free number; whoever loses the race for it reads what won, and goes on to the next number only if that is another
build, or was deleted. As every writer looks at every number below its own, one build never becomes two versions that live.
A deletion adds a tombstone and takes nothing away, so it is one put as well; `gc.py` later removes what nobody refers to.
Cost: a commit is six requests and one for each version that is there already, 16 at a time.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pydantic import with_config

from chameleon_data.errors import InputError, list_some
from chameleon_data.store.paths import (
    BUILDS,
    DELETED,
    EXPORTS,
    FORMAT_FILE,
    NUMBERED_FILE,
    REPORTS,
    ROOT,
    TAG_FILE,
    TAG_NAME,
    TAGS,
    VERSIONS,
    manifest_path,
    tag_path,
    tombstone_path,
    version_path,
)
from chameleon_data.store.store import NameTakenError, Store
from chameleon_data.versions.manifest import Manifest, decode_manifest, encode_manifest
from chameleon_data.versions.records import STRICT, Digest, Record, decode_record, encode_record

LAYOUT_FORMAT = 1
"""Number of this layout of the dataset's folder and its records."""
RECORD_READERS = 16
"""Records that are read at once."""
LATEST = "latest"
VERSION_NUMBER = r"[vV]?(\d{1,18})"
NO_VERSION_YET = "no version is finished there yet; `chameleon-data build RECIPE` makes one, or goes on where it was interrupted"


@with_config(STRICT)
@dataclass(frozen=True)
class DatasetRecord:
    """What a folder says of itself from its first version on."""

    dataset: str
    """Id of the dataset: the first half of its first manifest's sha256."""
    format: int = LAYOUT_FORMAT
    """Number of the layout."""


@with_config(STRICT)
@dataclass(frozen=True)
class Version:
    """One committed version."""

    number: int
    manifest: Digest
    """sha256 of the manifest's bytes."""
    plan_digest: Digest
    digest: Digest
    """`digest` of the manifest, over the shards' own hashes."""
    created: str | None
    """When it was committed, as the caller said."""
    format: int = LAYOUT_FORMAT
    """Number of the layout."""


@with_config(STRICT)
@dataclass(frozen=True)
class Tombstone:
    """One version was deleted."""

    number: int
    """Number of the version, which is never given again."""
    manifest: Digest
    """sha256 of its manifest's bytes."""
    deleted: str
    """When, as the caller said."""
    format: int = LAYOUT_FORMAT
    """Number of the layout."""


@with_config(STRICT)
@dataclass(frozen=True)
class TagEntry:
    """One time that somebody pointed a tag at a version."""

    generation: int
    """Number of this entry in the tag's history, from 1."""
    version: int
    """Number of the version."""
    manifest: Digest
    """sha256 of the version's manifest, since numbers of two datasets are alike."""
    created: str | None = None
    """When, as the caller said."""
    format: int = LAYOUT_FORMAT
    """Number of the layout."""


def commit_version(store: Store, manifest: Manifest, created: str, still: Callable[[], None] = lambda: None) -> Version:
    """Make the build that `manifest` describes a version; if its (plan_digest, digest) is one already, return that one.

    Nothing is there before the last put, and everything is there after it. Safe to repeat and to run many times at once.
    `still` is called right before that put and may raise: whether the files are certain to be there still.
    """
    build = (manifest.plan_digest, manifest.digest)
    body = encode_manifest(manifest)
    sha256 = hashlib.sha256(body).hexdigest()
    present = list_versions(store)
    for version in present:
        if _is(store, version, build):
            return version
    if not present:
        _write_format(store, sha256)
    store.write_new(manifest_path(sha256), body)
    number = present[-1].number + 1 if present else 1
    while True:
        version = Version(number, sha256, *build, created)
        still()
        try:
            if store.write_new(version_path(number), encode_record(version)):
                return version
            winner = version  # our own put, its answer lost; or, to the byte and the second, one of before
        except NameTakenError:
            winner = _read_version(store, number)
        if _is(store, winner, build) and not store.exists(tombstone_path(number)):
            return winner
        number += 1


def _is(store: Store, version: Version, build: tuple[str, str]) -> bool:
    """Whether a version is of this (plan_digest, digest). Where one half says so, its manifest is asked: a bit flipped in the
    other half would make one build two versions."""
    same = (version.plan_digest == build[0], version.digest == build[1])
    if any(same) and not all(same):
        read_manifest(store, version)
    return all(same)


def list_versions(store: Store) -> tuple[Version, ...]:
    """Every version that was not deleted, by number."""
    live, _ = _numbers(store)
    with ThreadPoolExecutor(RECORD_READERS) as pool:
        return tuple(pool.map(lambda number: _read_version(store, number), live))


def list_deleted(store: Store) -> dict[Version, str]:
    """Every version that was deleted, by number, and when."""
    _, deleted = _numbers(store)
    with ThreadPoolExecutor(RECORD_READERS) as pool:
        return dict(pool.map(lambda number: (_read_version(store, number), _read_tombstone(store, number).deleted), deleted))


def delete_version(store: Store, version: Version, deleted: str) -> bool:
    """Leave a tombstone: the version is no longer listed or meant by `latest`, and its number is never given again.

    Its files stay until `gc` removes what no other version refers to. False if it was deleted already.
    """
    try:
        return store.write_new(
            tombstone_path(version.number), encode_record(Tombstone(version.number, version.manifest, deleted))
        )
    except NameTakenError:
        return False


def open_dataset(url: str) -> Store:
    """The store of a dataset, which may have no version yet; else InputError with what is there instead, and what to type."""
    store = Store(url)
    local = store.local(ROOT)
    if local is not None and local.parent.is_file():
        named = "if it is a recipe, name its 'out'" if local.parent.suffix in (".yaml", ".yml") else "name a recipe's 'out'"
        raise InputError(f"{store.url}: a file, where a dataset is a folder; {named}")
    if store.exists(FORMAT_FILE) or store.list(ROOT) or store.list(BUILDS):
        return store
    raise InputError(f"{store.url}: {_instead(store)}")


def _instead(store: Store) -> str:
    """What is at the URL of a store that is no dataset, and what to type."""
    inside = re.fullmatch(rf"(.*[^/])/({ROOT}|{BUILDS}|{REPORTS}|{EXPORTS})(/.*)?", store.url.rstrip("/"))
    if inside and Store(inside[1]).exists(FORMAT_FILE):
        return f"lies inside a dataset; name the dataset itself: {inside[1]}"
    make = "make one with `chameleon-data build RECIPE`"
    local = store.local(ROOT)
    if local is None:
        return f"no dataset is there; correct the folder, or {make}"
    folder = local.parent
    if not folder.is_dir():
        beside = [other.name for other in folder.parent.iterdir() if other.is_dir()] if folder.parent.is_dir() else []
        close = difflib.get_close_matches(folder.name, beside, n=1)
        hint = f" (did you mean {folder.parent / close[0]}?)" if close else ""
        return f"no dataset is there, nor a folder; correct the folder{hint}, or {make}"
    below = sorted(str(other.parent.parent) for other in folder.glob(f"*/{FORMAT_FILE}"))
    if below:
        return f"a folder that is no dataset, but holds some; correct the folder: {list_some(below)}"
    return f"a folder, but no dataset is there; correct the folder: it is a recipe's 'out', or {make}"


def resolve_version(store: Store, reference: str) -> Version:
    """The version that `v12`, `12`, a tag or `latest` means."""
    live, deleted = _numbers(store)
    if not live and not deleted:
        raise InputError(f"{store.url}: {NO_VERSION_YET}")
    if reference == LATEST:
        if not live:
            raise InputError(f"{store.url}: holds no version any more, v{deleted[-1]} was the last that was deleted; build anew")
        return _read_version(store, live[-1])
    match = re.fullmatch(VERSION_NUMBER, reference, re.ASCII)
    if match:
        if int(match[1]) in deleted:
            raise InputError(f"{store.url}: v{int(match[1])} {_say_deleted(store, int(match[1]))}; {_there(store, live)}")
        if int(match[1]) not in live:
            raise _unknown(store, reference, live)
        return _read_version(store, int(match[1]))
    history = tag_history(store, reference) if re.fullmatch(TAG_NAME, reference) else ()
    if not history:
        raise _unknown(store, reference, live)
    newest = history[-1]
    if newest.version in deleted:
        told = f"tag {reference!r} is v{newest.version}, which {_say_deleted(store, newest.version)}"
        raise InputError(f"{store.url}: {told}; tag another version with it; {_there(store, live)}")
    if newest.version not in live:
        raise InputError(f"{store.url}: tag {reference!r} is v{newest.version}, which is not there; was the folder copied whole?")
    version = _read_version(store, newest.version)
    if version.manifest != newest.manifest:
        raise InputError(f"{store.url}: tag {reference!r} was given to another v{newest.version} than is there; tag it again")
    return version


def read_manifest(store: Store, version: Version) -> Manifest:
    """What the version holds, proved by its hash."""
    path = manifest_path(version.manifest)
    body = store.read(path)
    if hashlib.sha256(body).hexdigest() != version.manifest:
        raise InputError(f"{store.url}/{path}: damaged or edited, as its sha256 is not its name; restore it from a copy")
    manifest = decode_manifest(body, f"{store.url}/{path}")
    if (manifest.plan_digest, manifest.digest) != (version.plan_digest, version.digest):
        raise InputError(f"{store.url}/{path}: is of another build than v{version.number} says; restore both from a copy")
    return manifest


def tag_version(store: Store, version: Version, name: str, created: str | None = None) -> TagEntry:
    """Point the tag `name` at a version. The last to do so wins, and what was before stays in the history."""
    if not re.fullmatch(TAG_NAME, name) or re.fullmatch(VERSION_NUMBER, name, re.ASCII) or name.lower() == LATEST:
        raise InputError(
            f"tag {name!r}: a tag is 1 to 100 of the characters A-Z a-z 0-9 . _ -, begins with a letter, digit or _, and is "
            f"neither like a version (v12, 12) nor {LATEST!r}"
        )
    history = tag_history(store, name)
    generation = history[-1].generation + 1 if history else 1
    while True:
        if history and (history[-1].version, history[-1].manifest) == (version.number, version.manifest):
            return history[-1]
        entry = TagEntry(generation, version.number, version.manifest, created)
        try:
            store.write_new(tag_path(name, generation), encode_record(entry))
        except NameTakenError:
            history = (_read_tag(store, name, generation),)
            generation += 1
        else:
            return entry


def tag_history(store: Store, name: str) -> tuple[TagEntry, ...]:
    """Every generation of a tag, the present one last; empty for a tag that never was."""
    paths = store.list(f"{TAGS}/{name}")
    generations = [int(match[2]) for path in paths if (match := TAG_FILE.fullmatch(path))]
    return tuple(_read_tag(store, name, generation) for generation in sorted(generations))


def list_tags(store: Store) -> dict[str, TagEntry]:
    """Where every tag points, by name; on a deleted version too."""
    newest: dict[str, int] = {}
    for match in (TAG_FILE.fullmatch(path) for path in store.list(TAGS)):
        if match:
            newest[match[1]] = max(int(match[2]), newest.get(match[1], 0))
    with ThreadPoolExecutor(RECORD_READERS) as pool:
        return dict(pool.map(lambda name: (name, _read_tag(store, name, newest[name])), sorted(newest)))


def split_target(target: str) -> tuple[str, str]:
    """`OUT@V` as (OUT, V), and `OUT` as (OUT, "latest"). The last @ behind the last / divides them, so folders may hold @."""
    folder, slash, last = target.rpartition("/")
    owner = ""
    if re.fullmatch(r"abfss?:/", folder):  # abfs://container@account.dfs.core.windows.net: its first @ is no version
        owner, at, last = last.partition("@")
        owner += at
    name, at, reference = last.rpartition("@")
    if not at:
        return target, LATEST
    url = folder + slash + owner + name
    if not url or not reference:
        raise InputError("a version is written OUT@V, where V is v12, 12, a tag or 'latest'; without @V it is the latest")
    return url, reference


def _numbers(store: Store) -> tuple[list[int], list[int]]:
    """Those that live, and those that were deleted; in order."""

    def numbers(folder: str) -> list[int]:
        found = (NUMBERED_FILE.fullmatch(path) for path in store.list(folder))
        return sorted(int(match[1]) for match in found if match)

    given = numbers(VERSIONS)
    if given and store.exists(FORMAT_FILE):
        read_dataset(store)
    deleted = set(numbers(DELETED)) if given else set()
    return [n for n in given if n not in deleted], [n for n in given if n in deleted]


def read_dataset(store: Store) -> DatasetRecord:
    """What the folder says of itself; there is a version in it."""
    return _read(store, FORMAT_FILE, DatasetRecord)


def _write_format(store: Store, first: str) -> None:
    try:
        store.write_new(FORMAT_FILE, encode_record(DatasetRecord(first[:32])))
    except NameTakenError:
        read_dataset(store)


def _read(store: Store, path: str, kind: type[Record]) -> Record:
    return decode_record(kind, store.read(path), f"{store.url}/{path}")


def _read_version(store: Store, number: int) -> Version:
    version = _read(store, version_path(number), Version)
    if version.number != number:
        raise _misnamed(store, version_path(number))
    return version


def _read_tombstone(store: Store, number: int) -> Tombstone:
    tombstone = _read(store, tombstone_path(number), Tombstone)
    if tombstone.number != number:
        raise _misnamed(store, tombstone_path(number))
    return tombstone


def _read_tag(store: Store, name: str, generation: int) -> TagEntry:
    entry = _read(store, tag_path(name, generation), TagEntry)
    if entry.generation != generation:
        raise _misnamed(store, tag_path(name, generation))
    return entry


def _misnamed(store: Store, path: str) -> InputError:
    return InputError(f"{store.url}/{path}: damaged or renamed, as it holds another number than its name; restore it from a copy")


def _say_deleted(store: Store, number: int) -> str:
    return f"was deleted on {_read_tombstone(store, number).deleted}"


def _unknown(store: Store, reference: str, numbers: list[int]) -> InputError:
    close = difflib.get_close_matches(reference, [*list_tags(store), LATEST], n=1)
    hint = f", did you mean {close[0]!r}?" if close else ";"
    return InputError(f"{store.url}: no version {reference!r}{hint} {_there(store, numbers)}")


def _there(store: Store, numbers: list[int]) -> str:
    tags = list(list_tags(store))
    first = [f"v{n}" for n in numbers[:-5]]
    there = [*(first if len(first) < 2 else [first[0], "…"]), *(f"v{n}" for n in numbers[-5:])]
    listed = f"{', '.join(tags[:20])}{' …' if len(tags) > 20 else ''}"
    named = f"the tag{'s' * (len(tags) > 1)} {listed}" if tags else "no tags"
    return f"the folder has {', '.join(there)} and {named}" if there else f"no version is left, and {named}"
