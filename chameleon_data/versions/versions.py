"""Versions of a dataset: numbered for good, and committed by one create-only put.

    _chameleon/format.json                  which layout this is, and the id of the dataset
    _chameleon/tables/<sha256>.parquet      what there is of each shard and file, likewise
    _chameleon/manifests/<sha256>.json      what a version holds, under the hash of its own bytes
    _chameleon/versions/v00000012.json      the commit: number 12 is that manifest
    _chameleon/deleted/v00000012.json       the tombstone of version 12, which keeps its number for ever

Nothing is ever replaced, so readers need no lock, and a copy of the folder is as good as the folder. A deletion is one put as
well; `gc.py` later removes the files that no version refers to. Why: docs/decisions/060-create-only-commit.md.
Cost: a commit is six requests, and one for each version that is there already, 16 at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pydantic import with_config

from chameleon_data.errors import InputError
from chameleon_data.store.paths import (
    DELETED,
    FORMAT_FILE,
    NUMBERED_FILE,
    VERSIONS,
    manifest_path,
    tombstone_path,
    version_path,
)
from chameleon_data.store.store import NameTakenError, Store
from chameleon_data.versions.manifest import Manifest, decode_manifest, encode_manifest
from chameleon_data.versions.records import LAYOUT_FORMAT, STRICT, Digest, encode_record, load_record, misnamed_error
from chameleon_data.versions.tables import UNNAMED

RECORD_READERS = 16
"""Records that are read at once."""


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
    name: str
    """The recipe's name for the mixture. This and what follows repeat the manifest, so that versions are listed without it."""
    tokens: int
    """Tokens of the train split."""
    unit: str
    """What a token is: `bytes`, or the tokenizer."""
    domains: int
    """Domains of the train split."""
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


def commit_version(store: Store, manifest: Manifest, created: str, check: Callable[[], None] = lambda: None) -> Version:
    """Make the build that `manifest` describes a version; if its (plan_digest, digest) is one already, return that one.

    The version is not there before the last put, and whole after it. Safe to repeat and to run many times at once. `check` is
    called right before that put, and raises unless the build's files are certain to be there still.
    """
    build = (manifest.plan_digest, manifest.digest)
    body = encode_manifest(manifest)
    sha256 = hashlib.sha256(body).hexdigest()
    present = list_versions(store)
    for version in present:
        if _is_of_build(store, version, build):
            return version
    if not present:
        _write_format(store, sha256)
    store.write_content(manifest_path(sha256), body)
    number = present[-1].number + 1 if present else 1
    while True:
        version = Version(number, sha256, *build, created, *_summarise(manifest))
        check()
        try:
            if store.write_new(version_path(number), encode_record(version)):
                return version
            winner = version  # the answer to our own put was lost; or the same build was committed within the same second
        except NameTakenError:
            winner = read_version(store, number)
        if _is_of_build(store, winner, build) and not store.exists(tombstone_path(number)):
            return winner
        number += 1


def _summarise(manifest: Manifest) -> tuple[str, int, str, int]:
    """The name, tokens, unit and domains that a version repeats from its manifest."""
    return manifest.name, sum(d.tokens for d in manifest.domains.values()), manifest.unit, len(manifest.domains)


def is_version_of(version: Version, manifest: Manifest, created: str) -> bool:
    """Whether a version is what `commit_version` makes of this manifest, and not one of the same build that was there."""
    sha256 = hashlib.sha256(encode_manifest(manifest)).hexdigest()
    return (version.manifest, version.created) == (sha256, created)


def _is_of_build(store: Store, version: Version, build: tuple[str, str]) -> bool:
    """Whether a version has this (plan_digest, digest). Where only one of them agrees, the manifest is read as well, which raises
    if a bit was flipped in the other: it would make one build two versions."""
    same = (version.plan_digest == build[0], version.digest == build[1])
    if any(same) and not all(same):
        read_manifest(store, version)
    return all(same)


def list_versions(store: Store) -> tuple[Version, ...]:
    """Every version that was not deleted, by number."""
    live, _ = list_numbers(store)
    with ThreadPoolExecutor(RECORD_READERS) as pool:
        return tuple(pool.map(lambda number: read_version(store, number), live))


def list_deleted(store: Store) -> dict[Version, str]:
    """Every version that was deleted, by number, and when."""
    _, deleted = list_numbers(store)
    with ThreadPoolExecutor(RECORD_READERS) as pool:
        return dict(pool.map(lambda number: (read_version(store, number), read_tombstone(store, number).deleted), deleted))


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


def read_manifest(store: Store, version: Version) -> Manifest:
    """The manifest of a version, proved by its hash."""
    path = manifest_path(version.manifest)
    body = store.read(path)
    if hashlib.sha256(body).hexdigest() != version.manifest:
        raise InputError(f"{store.url}/{path}: {UNNAMED}")
    manifest = decode_manifest(body, f"{store.url}/{path}")
    if (manifest.plan_digest, manifest.digest) != (version.plan_digest, version.digest):
        raise InputError(f"{store.url}/{path}: is of another build than v{version.number} says; restore both from a copy")
    if _summarise(manifest) != (version.name, version.tokens, version.unit, version.domains):
        raise InputError(f"{store.url}/{path}: has another name or size than v{version.number} says; restore both from a copy")
    return manifest


def list_numbers(store: Store) -> tuple[list[int], list[int]]:
    """Numbers of the versions that live, and of those that were deleted; each in order."""

    def numbers(folder: str) -> list[int]:
        found = (NUMBERED_FILE.fullmatch(path) for path in store.list(folder))
        return sorted(int(match[1]) for match in found if match)

    given = numbers(VERSIONS)
    if given and store.exists(FORMAT_FILE):
        read_dataset(store)
    deleted = set(numbers(DELETED)) if given else set()
    return [n for n in given if n not in deleted], [n for n in given if n in deleted]


def read_dataset(store: Store) -> DatasetRecord:
    """The record of the dataset, which is there once a version is."""
    return load_record(store, FORMAT_FILE, DatasetRecord)


def _write_format(store: Store, first: str) -> None:
    try:
        store.write_new(FORMAT_FILE, encode_record(DatasetRecord(first[:32])))
    except NameTakenError:
        read_dataset(store)


def read_version(store: Store, number: int) -> Version:
    version = load_record(store, version_path(number), Version)
    if version.number != number:
        raise misnamed_error(store, version_path(number))
    return version


def read_tombstone(store: Store, number: int) -> Tombstone:
    tombstone = load_record(store, tombstone_path(number), Tombstone)
    if tombstone.number != number:
        raise misnamed_error(store, tombstone_path(number))
    return tombstone
