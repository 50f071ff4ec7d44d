"""Versions of a dataset: numbered for good, named by tags, and committed by one create-only put.

    _chameleon/format.json                  which layout this is, and the id of the dataset
    _chameleon/manifests/<sha256>.json      what a version holds, under the hash of its own bytes
    _chameleon/versions/v00000012.json      the commit: number 12 is that manifest
    _chameleon/tags/<name>/00000003.json    where a tag points; the highest generation holds, the others are its history

Nothing is ever replaced, so readers need no lock and a copy of the folder is as good as the folder. A commit takes the
lowest free number; whoever loses the race for it reads what won, and goes on to the next number only if that is another
build. As every writer looks at every number below its own, one build never becomes two versions.
Cost: a commit is five requests and one for each version that is there already, 16 at a time.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any

from chameleon_data.errors import InputError
from chameleon_data.hashing import canonical_json
from chameleon_data.storage import Store, Taken

FORMAT = 1
"""Of the layout and of the manifest; what a later one means is not known here, so it is refused."""
ROOT = "_chameleon"
LATEST = "latest"
TAG_NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}"
NUMBER = r"[vV]?(\d{1,18})"


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
class Tagging:
    """One time that somebody pointed a tag at a version."""

    generation: int
    version: int
    manifest: str


def commit(store: Store, manifest: Mapping[str, Any], created: str) -> Version:
    """Make the build that `manifest` describes a version; if its (plan_digest, digest) is one already, return that one.

    Nothing is there before the last put, and everything is there after it. Safe to repeat and to run many times at once.
    """
    build = (manifest["plan_digest"], manifest["digest"])
    body = canonical_json(manifest)
    sha256 = hashlib.sha256(body).hexdigest()
    present = list_versions(store)
    for version in present:
        if (version.plan_digest, version.digest) == build:
            return version
    if not present:
        _write_format(store, sha256)
    store.write_new(f"{ROOT}/manifests/{sha256}.json", body)
    number = present[-1].number + 1 if present else 1
    while True:
        version = Version(number, sha256, *build, created)
        try:
            store.write_new(_path(number), canonical_json({"format": FORMAT, **vars(version)}))
        except Taken:
            winner = _read_version(store, number)
            if (winner.plan_digest, winner.digest) == build:
                return winner
            number += 1
        else:
            return version


def list_versions(store: Store) -> tuple[Version, ...]:
    """Every version, by number."""
    numbers = _numbers(store)
    with ThreadPoolExecutor(16) as pool:
        return tuple(pool.map(lambda number: _read_version(store, number), numbers))


def resolve(store: Store, reference: str) -> Version:
    """The version that `v12`, `12`, a tag or `latest` means."""
    numbers = _numbers(store)
    if not numbers:
        raise InputError(f"{store.url}: holds no version; `chameleon-data build` makes one, or correct the folder")
    if reference == LATEST:
        return _read_version(store, numbers[-1])
    match = re.fullmatch(NUMBER, reference, re.ASCII)
    if match:
        if int(match[1]) not in numbers:
            raise _unknown(store, reference, numbers)
        return _read_version(store, int(match[1]))
    history = tag_history(store, reference) if re.fullmatch(TAG_NAME, reference) else ()
    if not history:
        raise _unknown(store, reference, numbers)
    newest = history[-1]
    if newest.version not in numbers:
        raise InputError(f"{store.url}: tag {reference!r} is v{newest.version}, which is not there; was the folder copied whole?")
    version = _read_version(store, newest.version)
    if version.manifest != newest.manifest:
        raise InputError(f"{store.url}: tag {reference!r} was given to another v{newest.version} than is there; tag it again")
    return version


def load_manifest(store: Store, version: Version) -> dict[str, Any]:
    """What the version holds, proved by its hash."""
    path = f"{ROOT}/manifests/{version.manifest}.json"
    body = store.read(path)
    if hashlib.sha256(body).hexdigest() != version.manifest:
        raise InputError(f"{store.url}/{path}: damaged or edited, as its sha256 is not its name; restore it from a copy")
    manifest = _parse(store, path, body)
    if (manifest.get("plan_digest"), manifest.get("digest")) != (version.plan_digest, version.digest):
        raise InputError(f"{store.url}/{path}: is of another build than v{version.number} says; restore both from a copy")
    return manifest


def tag_version(store: Store, version: Version, name: str) -> Tagging:
    """Point the tag `name` at a version. The last to do so wins, and what was before stays in the history."""
    if not re.fullmatch(TAG_NAME, name) or re.fullmatch(NUMBER, name, re.ASCII) or name.lower() == LATEST:
        raise InputError(
            f"tag {name!r}: a tag is 1 to 100 of the characters A-Z a-z 0-9 . _ -, begins with a letter, digit or _, and is "
            f"neither like a version (v12, 12) nor {LATEST!r}"
        )
    history = tag_history(store, name)
    generation = history[-1].generation + 1 if history else 1
    while True:
        if history and (history[-1].version, history[-1].manifest) == (version.number, version.manifest):
            return history[-1]
        tagging = Tagging(generation, version.number, version.manifest)
        try:
            store.write_new(_tag_path(name, generation), canonical_json({"format": FORMAT, **vars(tagging)}))
        except Taken:
            history = (_read_tagging(store, name, generation),)
            generation += 1
        else:
            return tagging


def tag_history(store: Store, name: str) -> tuple[Tagging, ...]:
    """Every generation of a tag, the present one last; empty for a tag that never was."""
    paths = store.list(f"{ROOT}/tags/{name}")
    generations = [int(match[1]) for path in paths if (match := re.fullmatch(r".*/(\d{8,18})\.json", path, re.ASCII))]
    return tuple(_read_tagging(store, name, generation) for generation in sorted(generations))


def list_tags(store: Store) -> tuple[str, ...]:
    """The names of all tags."""
    found = (re.fullmatch(rf"{ROOT}/tags/({TAG_NAME})/\d{{8,18}}\.json", path, re.ASCII) for path in store.list(f"{ROOT}/tags"))
    return tuple(sorted({match[1] for match in found if match}))


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


def _path(number: int) -> str:
    return f"{ROOT}/versions/v{number:08d}.json"


def _tag_path(name: str, generation: int) -> str:
    return f"{ROOT}/tags/{name}/{generation:08d}.json"


def _numbers(store: Store) -> list[int]:
    paths = store.list(f"{ROOT}/versions")
    found = (re.fullmatch(rf"{ROOT}/versions/v(\d{{8,18}})\.json", path, re.ASCII) for path in paths)
    numbers = sorted(int(match[1]) for match in found if match)
    path = f"{ROOT}/format.json"
    if numbers and store.exists(path):
        _parse(store, path, store.read(path))
    return numbers


def _write_format(store: Store, first: str) -> None:
    path = f"{ROOT}/format.json"
    try:
        store.write_new(path, canonical_json({"format": FORMAT, "dataset": first[:32]}))
    except Taken:
        _parse(store, path, store.read(path))


def _read_version(store: Store, number: int) -> Version:
    found = _parse(store, _path(number), store.read(_path(number)))
    number_there, *texts, created = (found.get(field.name) for field in fields(Version))
    manifest, plan_digest, digest = (text if isinstance(text, str) else "" for text in texts)
    if number_there != number or not re.fullmatch("[0-9a-f]{64}", manifest) or not plan_digest or not digest:
        raise _damaged(store, _path(number))
    return Version(number, manifest, plan_digest, digest, created if isinstance(created, str) else None)


def _read_tagging(store: Store, name: str, generation: int) -> Tagging:
    path = _tag_path(name, generation)
    found = _parse(store, path, store.read(path))
    version, manifest = found.get("version"), found.get("manifest")
    if found.get("generation") != generation or type(version) is not int or not isinstance(manifest, str):
        raise _damaged(store, path)
    return Tagging(generation, version, manifest)


def _parse(store: Store, path: str, body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise _damaged(store, path) from None
    if not isinstance(found, dict) or type(found.get("format")) is not int:
        raise _damaged(store, path)
    if found["format"] > FORMAT:
        raise InputError(
            f"{store.url}/{path}: has format {found['format']}, this chameleon-data reads up to {FORMAT}; install a newer one"
        )
    return found


def _damaged(store: Store, path: str) -> InputError:
    return InputError(f"{store.url}/{path}: damaged, or not written by chameleon-data; restore it from a copy")


def _unknown(store: Store, reference: str, numbers: list[int]) -> InputError:
    tags = list_tags(store)
    close = difflib.get_close_matches(reference, [*tags, LATEST], n=1)
    hint = f", did you mean {close[0]!r}?" if close else ";"
    first = [f"v{n}" for n in numbers[:-5]]
    there = [*(first if len(first) < 2 else [first[0], "…"]), *(f"v{n}" for n in numbers[-5:])]
    named = f"the tags {', '.join(tags[:20])}{' …' if len(tags) > 20 else ''}" if tags else "no tags"
    return InputError(f"{store.url}: no version {reference!r}{hint} there are {', '.join(there)} and {named}")
