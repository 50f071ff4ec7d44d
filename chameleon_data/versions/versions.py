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
import json
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any

from chameleon_data.errors import InputError, list_some
from chameleon_data.hashing import canonical_json
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

LAYOUT_FORMAT = 1
"""Of the layout and of the manifest; what a later one means is not known here, so it is refused."""
LATEST = "latest"
VERSION_NUMBER = r"[vV]?(\d{1,18})"
NO_VERSION_YET = "no version is finished there yet; `chameleon-data build RECIPE` makes one, or goes on where it was interrupted"


@dataclass(frozen=True)
class Version:
    number: int
    manifest: str
    """sha256 of the manifest's bytes."""
    plan_digest: str
    digest: str
    """Over the shards' own hashes."""
    created: str | None
    """When it was committed, as the caller said."""


@dataclass(frozen=True)
class TagEntry:
    """One time that somebody pointed a tag at a version."""

    generation: int
    version: int
    manifest: str
    created: str | None = None
    """When, as the caller said."""


def commit_version(store: Store, manifest: Mapping[str, Any], created: str, still: Callable[[], None] = lambda: None) -> Version:
    """Make the build that `manifest` describes a version; if its (plan_digest, digest) is one already, return that one.

    Nothing is there before the last put, and everything is there after it. Safe to repeat and to run many times at once.
    `still` is called right before that put and may raise: whether the files are certain to be there still.
    """
    build = (manifest["plan_digest"], manifest["digest"])
    body = canonical_json(manifest)
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
            if store.write_new(version_path(number), canonical_json({"format": LAYOUT_FORMAT, **vars(version)})):
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
        load_manifest(store, version)
    return all(same)


def list_versions(store: Store) -> tuple[Version, ...]:
    """Every version that was not deleted, by number."""
    live, _ = _numbers(store)
    with ThreadPoolExecutor(16) as pool:
        return tuple(pool.map(lambda number: _read_version(store, number), live))


def list_deleted(store: Store) -> dict[Version, str | None]:
    """Every version that was deleted, by number, and when."""
    _, deleted = _numbers(store)
    with ThreadPoolExecutor(16) as pool:
        return dict(pool.map(lambda number: (_read_version(store, number), _read_tombstone(store, number)), deleted))


def delete_version(store: Store, version: Version, deleted: str) -> bool:
    """Leave a tombstone: the version is no longer listed or meant by `latest`, and its number is never given again.

    Its files stay until `collect` removes what no other version refers to. False if it was deleted already.
    """
    body = {"format": LAYOUT_FORMAT, "number": version.number, "manifest": version.manifest, "deleted": deleted}
    try:
        return store.write_new(tombstone_path(version.number), canonical_json(body))
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
            raise InputError(f"{store.url}: v{int(match[1])} was deleted{_when(store, int(match[1]))}; {_there(store, live)}")
        if int(match[1]) not in live:
            raise _unknown(store, reference, live)
        return _read_version(store, int(match[1]))
    history = tag_history(store, reference) if re.fullmatch(TAG_NAME, reference) else ()
    if not history:
        raise _unknown(store, reference, live)
    newest = history[-1]
    if newest.version in deleted:
        told = f"tag {reference!r} is v{newest.version}, which was deleted{_when(store, newest.version)}"
        raise InputError(f"{store.url}: {told}; tag another version with it; {_there(store, live)}")
    if newest.version not in live:
        raise InputError(f"{store.url}: tag {reference!r} is v{newest.version}, which is not there; was the folder copied whole?")
    version = _read_version(store, newest.version)
    if version.manifest != newest.manifest:
        raise InputError(f"{store.url}: tag {reference!r} was given to another v{newest.version} than is there; tag it again")
    return version


def load_manifest(store: Store, version: Version) -> dict[str, Any]:
    """What the version holds, proved by its hash."""
    path = manifest_path(version.manifest)
    body = store.read(path)
    if hashlib.sha256(body).hexdigest() != version.manifest:
        raise InputError(f"{store.url}/{path}: damaged or edited, as its sha256 is not its name; restore it from a copy")
    manifest = _parse(store, path, body)
    if (manifest.get("plan_digest"), manifest.get("digest")) != (version.plan_digest, version.digest):
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
        tagging = TagEntry(generation, version.number, version.manifest, created)
        try:
            store.write_new(tag_path(name, generation), canonical_json({"format": LAYOUT_FORMAT, **vars(tagging)}))
        except NameTakenError:
            history = (_read_tagging(store, name, generation),)
            generation += 1
        else:
            return tagging


def tag_history(store: Store, name: str) -> tuple[TagEntry, ...]:
    """Every generation of a tag, the present one last; empty for a tag that never was."""
    paths = store.list(f"{TAGS}/{name}")
    generations = [int(match[2]) for path in paths if (match := TAG_FILE.fullmatch(path))]
    return tuple(_read_tagging(store, name, generation) for generation in sorted(generations))


def list_tags(store: Store) -> dict[str, TagEntry]:
    """Where every tag points, by name; on a deleted version too."""
    newest: dict[str, int] = {}
    for match in (TAG_FILE.fullmatch(path) for path in store.list(TAGS)):
        if match:
            newest[match[1]] = max(int(match[2]), newest.get(match[1], 0))
    with ThreadPoolExecutor(16) as pool:
        return dict(pool.map(lambda name: (name, _read_tagging(store, name, newest[name])), sorted(newest)))


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
    path = FORMAT_FILE
    if given and store.exists(path):
        _parse(store, path, store.read(path))
    deleted = set(numbers(DELETED)) if given else set()
    return [n for n in given if n not in deleted], [n for n in given if n in deleted]


def _write_format(store: Store, first: str) -> None:
    path = FORMAT_FILE
    try:
        store.write_new(path, canonical_json({"format": LAYOUT_FORMAT, "dataset": first[:32]}))
    except NameTakenError:
        _parse(store, path, store.read(path))


def _read_version(store: Store, number: int) -> Version:
    found = _parse(store, version_path(number), store.read(version_path(number)))
    number_there, *texts, created = (found.get(field.name) for field in fields(Version))
    manifest, plan_digest, digest = (text if isinstance(text, str) else "" for text in texts)
    if number_there != number or not re.fullmatch("[0-9a-f]{64}", manifest) or not plan_digest or not digest:
        raise _damaged(store, version_path(number))
    return Version(number, manifest, plan_digest, digest, created if isinstance(created, str) else None)


def _read_tombstone(store: Store, number: int) -> str | None:
    found = _parse(store, tombstone_path(number), store.read(tombstone_path(number)))
    if found.get("number") != number:
        raise _damaged(store, tombstone_path(number))
    return found["deleted"] if isinstance(found.get("deleted"), str) else None


def _when(store: Store, number: int) -> str:
    deleted = _read_tombstone(store, number)
    return f" on {deleted}" if deleted else ""


def _read_tagging(store: Store, name: str, generation: int) -> TagEntry:
    path = tag_path(name, generation)
    found = _parse(store, path, store.read(path))
    version, manifest = found.get("version"), found.get("manifest")
    if found.get("generation") != generation or type(version) is not int or not isinstance(manifest, str):
        raise _damaged(store, path)
    created = found.get("created")
    return TagEntry(generation, version, manifest, created if isinstance(created, str) else None)


def _parse(store: Store, path: str, body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise _damaged(store, path) from None
    if not isinstance(found, dict) or type(found.get("format")) is not int:
        raise _damaged(store, path)
    if found["format"] > LAYOUT_FORMAT:
        raise InputError(
            f"{store.url}/{path}: has format {found['format']}, this chameleon-data reads up to {LAYOUT_FORMAT}; "
            "install a newer one"
        )
    return found


def _damaged(store: Store, path: str) -> InputError:
    return InputError(f"{store.url}/{path}: damaged, or not written by chameleon-data; restore it from a copy")


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
