"""Builds, weighings and surveys in small: a few files on a store, written and trusted in the order of the real ones.

They are drivers as `pipelines/build.py` has them: they hold an active record, and look at nothing before.
"""

from __future__ import annotations

import hashlib
import os
from datetime import timedelta
from functools import cache
from typing import Any

import pytest

from chameleon_data.errors import InputError
from chameleon_data.hashing import fingerprint
from chameleon_data.store.checksummed import read_record, write_record
from chameleon_data.store.paths import (
    kept_file_path,
    kept_list_path,
    landmarks_path,
    manifest_path,
    survey_path,
    table_path,
    weighing_path,
)
from chameleon_data.store.store import Store
from chameleon_data.store.urls import local_folder
from chameleon_data.versions.active import active_driver
from chameleon_data.versions.corpus_tables import read_map, write_map_table
from chameleon_data.versions.manifest import Manifest, encode_manifest
from chameleon_data.versions.versions import Version, commit_version, delete_version, list_versions, read_manifest
from tests.support.manifests import LANDMARKS, example_manifest

CREATED = "2026-01-01T00:00:00+00:00"
SHARD = b"the rows of a shard"
SHARDS = 2
RECEIPT = "receipts/0000000-0000001.parquet"
HOUR, DAY = 3600.0, 86_400.0


def folder_of(name: str) -> str:
    return f"builds/{fingerprint(name)}"


def shard_path(name: str, shard: int = 0) -> str:
    return f"{folder_of(name)}/parquet/{shard}.parquet"


def receipt_path(name: str) -> str:
    return f"{folder_of(name)}/{RECEIPT}"


@cache
def small_manifest(name: str, landmarks: str | None = None, **changes: Any) -> Manifest:
    used = {**LANDMARKS, "digest": fingerprint(landmarks)} if landmarks else None
    return example_manifest(
        name, Store("memory://tables-of-small-builds"), weights={"nystrom": used}, map=map_of(name), **changes
    )


def map_of(name: str) -> dict[str, list[tuple[float, float]]]:
    """The map of the sample, which stands for all tables of a build; each build has another one."""
    return {"s": [(float(int(fingerprint(name)[:8], 16)), 0.0)]}


def table_of_build(name: str) -> str:
    """The path of its table."""
    return small_manifest(name).tables.map[0].path


def make_version(store: Store, name: str, landmarks: str | None = None) -> Version:
    """A driver that claims the folder of its plan, trusts shards that have a receipt, writes them otherwise, and commits."""
    with active_driver(store) as driver:
        driver.use_plans([fingerprint(name)])
        if receipt_path(name) not in store.list(folder_of(name)):
            store.write(f"{folder_of(name)}/runs/x/0.arrow", b"run")
            for shard in range(SHARDS):
                store.write_new(shard_path(name, shard), SHARD)
            store.write_new(receipt_path(name), b"{}")
        write_map_table(store, map_of(name))
        version = commit_version(store, small_manifest(name, landmarks), CREATED, driver.check)
        store.remove(list(store.list(f"{folder_of(name)}/runs")))
        return version


def make_weighing(store: Store, name: str) -> None:
    """A driver that needs a survey and its rows, and leaves landmarks and the weighing that names them, unless they are there."""
    weighing = {"description": {"nystrom": {"digest": fingerprint(name)}}}
    with active_driver(store):
        if not store.exists(survey_path(name, "summary.json")):
            store.write(survey_path(name, "documents.parquet"), b"documents")
            store.write(kept_file_path(name, "text", 0), b"rows")
            store.write(kept_list_path(name, "text"), b"{}")
            store.write(survey_path(name, "summary.json"), b"{}")
        if not store.exists(weighing_path(name)):
            store.write(landmarks_path(fingerprint(name)), b"points")
            write_record(store, weighing_path(name), weighing)


def check_versions(store: Store) -> list[str]:
    """The plan digests of the live versions. InputError or AssertionError unless each has its manifest, tables, shards and
    receipt."""
    found = list_versions(store)
    for version in found:
        manifest = read_manifest(store, version)
        for shard in range(SHARDS):
            assert store.read(f"{manifest.build}/parquet/{shard}.parquet") == SHARD
        assert read_map(store, manifest)
        assert store.read(f"{manifest.build}/{RECEIPT}") == b"{}"
    return [version.plan_digest for version in found]


def missing_files(store: Store) -> set[str]:
    """What a live version, a cached weighing, the summary of a survey or a list of kept rows promises and the store lacks."""
    here, promised = store.list(), set[str]()
    for version in list_versions(store):
        folder = f"builds/{version.plan_digest}"
        promised |= {f"{folder}/parquet/{shard}.parquet" for shard in range(SHARDS)} | {f"{folder}/{RECEIPT}"}
        try:
            promised |= {file.path for file in read_manifest(store, version).tables.map}
        except InputError:
            promised.add(f"the manifest of v{version.number}")
    for path in here:
        if path.startswith("_chameleon/cache/weights/"):
            promised.add(landmarks_path(read_record(store, path)["description"]["nystrom"]["digest"]))
        if path.endswith("/summary.json"):
            promised.add(path.replace("summary.json", "documents.parquet"))
        if path == kept_list_path(path.split("/")[-2], "text"):
            promised.add(kept_file_path(path.split("/")[-2], "text", 0))
    return promised - here.keys()


def litter(store: Store) -> dict[str, str]:
    """Two versions, and one of each kind of garbage beside them; returns path -> kind."""
    for name, landmarks in (("kept", "used"), ("gone", "once used")):
        make_version(store, name, landmarks)
    delete_version(store, list_versions(store)[1], CREATED)
    for name in ("used", "once used"):
        store.write(landmarks_path(fingerprint(name)), b"points")
    make_weighing(store, "cached")
    write_record(store, weighing_path("exact"), {"description": {"nystrom": None}})
    deleted = hashlib.sha256(encode_manifest(small_manifest("gone", "once used"))).hexdigest()
    garbage = {
        shard_path("gone"): "builds", shard_path("gone", 1): "builds", receipt_path("gone"): "builds",
        manifest_path(deleted): "manifests", table_of_build("gone"): "tables",
        landmarks_path(fingerprint("once used")): "landmarks",
    }  # fmt: skip
    for path, kind in {
        shard_path("given up"): "builds", receipt_path("given up"): "builds", f"{folder_of('kept')}/runs/x/1.arrow": "runs",
        f"_chameleon/manifests/{fingerprint('x')}.json": "manifests", table_path(fingerprint("x")): "tables",
        "_chameleon/checks/0a/_chameleon/cache/survey/p/summary.json": "checks",
    }.items():  # fmt: skip
        store.write(path, SHARD)
        garbage[path] = kind
    for path in ("reports/v1.html", "notes.txt", "builds/README", f"builds/{'a' * 63}/x", "_chameleon/other/x", "data/a.tmp-1"):
        store.write(path, b"somebody else's")
    return garbage


def grow_old(store: Store, prefix: str, seconds: float) -> None:
    """Let the store say that these files were written so much earlier."""
    for path in store.entries(prefix):
        if local := local_folder(store.url):
            about = (local / path).stat()
            os.utime(local / path, (about.st_atime, about.st_mtime - seconds))
        elif store.url.startswith("memory"):
            from fsspec.implementations.memory import MemoryFileSystem

            MemoryFileSystem.store[f"{store._backend.root}/{path}"].modified -= timedelta(seconds=seconds)
        else:
            from moto.s3.models import s3_backends

            bucket, _, key = store.url.removeprefix("s3://").partition("/")
            objects = next(b.buckets[bucket] for a in s3_backends.values() for b in a.values() if bucket in b.buckets)
            if f"{key}/{path}" not in objects.keys:
                pytest.skip("only moto's server lets a test set the time of a file")
            objects.keys[f"{key}/{path}"].last_modified -= timedelta(seconds=seconds)
