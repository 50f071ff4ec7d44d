"""Tags: names for versions that can move, with their history.

_chameleon/tags/<name>/00000003.json    where a tag points; the highest generation holds, the others are its history
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pydantic import with_config

from chameleon_data.errors import InputError
from chameleon_data.store.paths import TAG_FILE, TAG_NAME, TAGS, tag_path
from chameleon_data.store.store import NameTakenError, Store
from chameleon_data.versions.records import LAYOUT_FORMAT, STRICT, Digest, encode_record, load_record, misnamed_error
from chameleon_data.versions.versions import RECORD_READERS, Version

LATEST = "latest"
"""Means the newest version, so no tag may have this name."""
VERSION_NUMBER = r"[vV]?(\d{1,18})"
"""v12 or 12."""


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


def _read_tag(store: Store, name: str, generation: int) -> TagEntry:
    entry = load_record(store, tag_path(name, generation), TagEntry)
    if entry.generation != generation:
        raise misnamed_error(store, tag_path(name, generation))
    return entry
