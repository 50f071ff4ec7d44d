"""gc on each kind of store: what a listing and its times say is what it goes by."""

from __future__ import annotations

import pytest

from chameleon_data.hashing import fingerprint
from chameleon_data.store.paths import ACTIVE
from chameleon_data.store.store import Store
from chameleon_data.versions import gc
from chameleon_data.versions.active import OLDER_THAN, OwnRecord, active_driver
from chameleon_data.versions.gc import find_garbage, remove_garbage
from tests.support.small_builds import HOUR, check_versions, grow_old, litter, shard_path


def test_garbage_of_every_kind_goes_and_all_else_stays(store: Store) -> None:
    garbage = litter(store)
    before = store.list()
    found = find_garbage(store)
    assert {path: kind for path, (kind, _) in found.files.items()} == garbage
    assert {path: size for path, (_, size) in found.files.items()} == {path: before[path] for path in garbage}
    assert (found.drivers, found.uploads, found.bytes) == ((), (), sum(before[path] for path in garbage))
    assert store.list() == before, "a look changes nothing"
    said: list[tuple[int, int]] = []
    assert remove_garbage(store, progress=lambda *done: said.append(done)) == found
    assert store.list() == {path: size for path, size in before.items() if path not in garbage}
    assert said[-1] == (len(garbage), len(garbage))
    assert check_versions(store) == [fingerprint("kept")]
    assert remove_garbage(store).files == {}


def test_a_driver_at_work_keeps_what_it_uses(store: Store) -> None:
    garbage = litter(store)
    with active_driver(store) as driver:
        driver.use_plans([fingerprint("gone")])
        found = remove_garbage(store)
        assert [one.record.plans for one in found.drivers] == [(fingerprint("gone"),)]
    other_builds = {p: kind for p, kind in garbage.items() if kind in ("builds", "runs") and fingerprint("gone") not in p}
    assert {path: kind for path, (kind, _) in found.files.items()} == other_builds
    assert store.list(ACTIVE) == {}, "a record ends with its work"
    left = {path: kind for path, (kind, _) in find_garbage(store).files.items()}
    assert left == {path: kind for path, kind in garbage.items() if path not in other_builds}


def test_the_record_of_a_killed_driver_expires_by_the_stores_time(store: Store) -> None:
    litter(store)
    dead = OwnRecord(store, "driver")
    dead.use_plans([fingerprint("given up")])
    assert shard_path("given up") not in find_garbage(store).files
    grow_old(store, ACTIVE, OLDER_THAN - HOUR)
    assert shard_path("given up") not in find_garbage(store).files
    assert shard_path("given up") in find_garbage(store, older_than=OLDER_THAN - 2 * HOUR).files
    grow_old(store, ACTIVE, HOUR)
    found = find_garbage(store).files
    assert (found[shard_path("given up")][0], found[dead.path]) == ("builds", ("active records", 0))
    remove_garbage(store)
    assert store.list(ACTIVE) == {}
    assert check_versions(store) == [fingerprint("kept")]


def test_old_uploads_are_ended_and_young_ones_not(s3_store: Store, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3

    client = boto3.client("s3")
    key = f"{s3_store.url.removeprefix(f'{s3_bucket}/')}/{shard_path('a')}"
    client.create_multipart_upload(Bucket=s3_bucket.removeprefix("s3://"), Key=key)
    client.close()
    assert [u.path for u in find_garbage(s3_store).uploads] == [shard_path("a")]  # moto says 2010 of every upload
    with monkeypatch.context() as patch:
        patch.setattr(gc, "UPLOAD_AGE", 1e12)
        assert remove_garbage(s3_store).uploads == ()
    assert [u.path for u in remove_garbage(s3_store).uploads] == [shard_path("a")]
    assert s3_store.uploads() == ()
