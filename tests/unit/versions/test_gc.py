"""What a collection removes and what it never touches; leases; and every interleaving of it with builds."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chameleon_data.errors import InputError
from chameleon_data.hashing import fingerprint
from chameleon_data.store import store as storage
from chameleon_data.store.store import Store
from chameleon_data.store.urls import local_folder
from chameleon_data.versions import gc as collection
from chameleon_data.versions import leases
from chameleon_data.versions.gc import find_garbage, remove_garbage
from chameleon_data.versions.leases import CACHES, COLLECT, LEASE, LIMIT, LOOK, Lease, leased
from chameleon_data.versions.manifest import encode_manifest
from chameleon_data.versions.versions import Version, commit_version, delete_version, list_versions, load_manifest, tag_version
from tests.contract.test_stores import Killed
from tests.support.manifests import LANDMARKS
from tests.unit.versions.test_versions import THEN, Dying, build

SHARD = b"the rows of a shard"


def shard_path(name: str, part: int = 0) -> str:
    return f"builds/{fingerprint(name)}/parquet/{part}.parquet"


def receipt_path(name: str) -> str:
    return f"builds/{fingerprint(name)}/receipts/00000.json"


def make(store: Store, name: str, landmarks: str | None = None) -> Version:
    """A build in small: it owns its folder, trusts what has a receipt, writes what has none, and commits."""
    weights = {"nystrom": {**LANDMARKS, "digest": fingerprint(landmarks)}} if landmarks else {}
    with leased(store) as lease:
        lease.own(fingerprint(name))
        here = store.list(f"builds/{fingerprint(name)}")
        if receipt_path(name) not in here:
            store.write(f"builds/{fingerprint(name)}/runs/x/0.arrow", b"run")
            for part in range(2):
                store.write_new(shard_path(name, part), SHARD)
            store.write_new(receipt_path(name), b"{}")
        manifest = build(name, weights=weights)
        version = commit_version(store, manifest, THEN, lease.check)
        store.remove(list(store.list(f"builds/{fingerprint(name)}/runs")))
        return version


def whole(store: Store) -> list[str]:
    """The plans of the live versions, each proved to have its manifest, shards and receipt."""
    for version in list_versions(store):
        manifest = load_manifest(store, version)
        for part in range(2):
            assert store.read(f"{manifest['build']}/parquet/{part}.parquet") == SHARD
        assert store.read(f"{manifest['build']}/receipts/00000.json") == b"{}"
    return [version.plan_digest for version in list_versions(store)]


def grow_old(store: Store, prefix: str, seconds: float = LEASE + 60) -> None:
    """Let the store say that these files were written so much earlier."""
    for path in store.entries(prefix):
        if local := local_folder(store.url):
            about = (local / path).stat()
            os.utime(local / path, (about.st_atime, about.st_mtime - seconds))
        elif store.url.startswith("memory"):
            from datetime import timedelta

            from fsspec.implementations.memory import MemoryFileSystem

            MemoryFileSystem.store[f"{store._backend.root}/{path}"].modified -= timedelta(seconds=seconds)  # type: ignore[attr-defined]
        else:
            from datetime import timedelta

            from moto.s3.models import s3_backends

            bucket, _, key = store.url.removeprefix("s3://").partition("/")
            objects = next(b.buckets[bucket] for a in s3_backends.values() for b in a.values() if bucket in b.buckets)
            if f"{key}/{path}" not in objects.keys:
                pytest.skip("only moto's server lets a test set the time of a file")
            objects.keys[f"{key}/{path}"].last_modified -= timedelta(seconds=seconds)


def kinds(store: Store, **options: Any) -> dict[str, str]:
    return {path: kind for path, (kind, _) in find_garbage(store, **options).files.items()}


# -- what is garbage --


def litter(store: Store) -> dict[str, str]:
    """Two versions, and one of each kind of garbage beside them; returns path -> kind."""
    for name, landmarks in (("kept", "used"), ("gone", "once used")):
        make(store, name, landmarks)
    delete_version(store, list_versions(store)[1], THEN)
    old = build("gone", weights={"nystrom": {**LANDMARKS, "digest": fingerprint("once used")}})
    for name in ("used", "once used", "cached"):
        store.write(f"_chameleon/landmarks/{fingerprint(name)}.parquet", b"points")
    weighing = {"decimals": {}, "description": {"nystrom": {"digest": fingerprint("cached")}}, "map": {}}
    store.write("_chameleon/cache/weights/k.json", json.dumps(weighing).encode())
    store.write("_chameleon/cache/weights/exact.json", json.dumps({"description": {"nystrom": None}}).encode())
    store.write("_chameleon/cache/survey/p/summary.json", b"{}")
    garbage = {shard_path("gone"): "builds", shard_path("gone", 1): "builds", receipt_path("gone"): "builds",
               f"_chameleon/manifests/{hashlib.sha256(encode_manifest(old)).hexdigest()}.json": "manifests",
               f"_chameleon/landmarks/{fingerprint('once used')}.parquet": "landmarks"}  # fmt: skip
    for path, kind in {
        shard_path("given up"): "builds", receipt_path("given up"): "builds",
        f"builds/{fingerprint('kept')}/runs/x/1.arrow": "runs", f"_chameleon/manifests/{fingerprint('x')}.json": "manifests",
        "_chameleon/checks/0a/_chameleon/cache/survey/p/summary.json": "checks",
    }.items():  # fmt: skip
        store.write(path, SHARD)
        garbage[path] = kind
    for path in ("reports/v1.html", "notes.txt", "builds/README", f"builds/{'a' * 63}/x", "_chameleon/other/x", "data/a.tmp-1"):
        store.write(path, b"somebody else's")
    return garbage


def test_garbage_of_every_kind_goes_and_all_else_stays(store: Store) -> None:
    garbage = litter(store)
    before = store.list()
    found = find_garbage(store)
    assert {path: kind for path, (kind, _) in found.files.items()} == garbage
    assert {path: size for path, (_, size) in found.files.items()} == {path: before[path] for path in garbage}
    assert (found.spared, found.uploads, found.bytes) == ((), (), sum(before[path] for path in garbage))
    assert store.list() == before, "a look changes nothing"
    said: list[tuple[int, int]] = []
    assert remove_garbage(store, progress=lambda *done: said.append(done)) == found
    assert store.list() == {path: size for path, size in before.items() if path not in garbage}
    assert said[-1] == (len(garbage), len(garbage))
    assert whole(store) == [fingerprint("kept")]
    assert remove_garbage(store).files == {}


def test_caches_go_when_asked_and_then_their_landmarks(store: Store) -> None:
    litter(store)
    cached = set(store.list("_chameleon/cache"))
    found = remove_garbage(store, caches=True)
    assert {path for path, (kind, _) in found.files.items() if kind == "caches"} == cached
    assert f"_chameleon/landmarks/{fingerprint('cached')}.parquet" in found.files
    assert list(store.list("_chameleon/landmarks")) == [f"_chameleon/landmarks/{fingerprint('used')}.parquet"]
    assert whole(store) == [fingerprint("kept")]


def test_landmarks_of_a_cached_weighing_outlive_it(memory_store: Store) -> None:
    """Killed after any operation, a collection leaves no weighing whose landmarks are gone: a build would publish that."""
    for after in (False, True):
        step = 0
        finished = False
        while not finished:
            step += 1
            memory_store.remove(memory_store.list())
            litter(memory_store)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(collection, "REMOVED_AT_ONCE", 1)
                dying = Dying(memory_store._backend, step, after)
                patch.setattr(storage, "_backend", lambda *_, dying=dying: dying)
                try:
                    remove_garbage(memory_store, caches=True)
                    finished = True
                except Killed:
                    pass
            if memory_store.exists("_chameleon/cache/weights/k.json"):
                assert memory_store.exists(f"_chameleon/landmarks/{fingerprint('cached')}.parquet")
            for name in ("gone", "given up"):
                if memory_store.exists(receipt_path(name)):
                    assert memory_store.exists(shard_path(name)), "a receipt is the promise that its shard is there"
            assert whole(memory_store) == [fingerprint("kept")]
    assert step > 15


def test_a_version_that_cannot_be_read_stops_the_collection(store: Store) -> None:
    litter(store)
    version = list_versions(store)[0]
    store.write(f"_chameleon/manifests/{version.manifest}.json", b"{}")
    before = store.list()
    with pytest.raises(InputError, match="damaged or edited"):
        remove_garbage(store)
    assert store.list() == before
    store.write("_chameleon/manifests/x", b"{}")
    store.remove([f"_chameleon/manifests/{version.manifest}.json"])
    with pytest.raises(InputError, match="no such file"):
        remove_garbage(store)


def test_one_folder_under_two_versions_stays_while_one_lives(memory_store: Store) -> None:
    first = make(memory_store, "a")
    other = replace(build("a"), digest=fingerprint("other bytes"))
    commit_version(memory_store, other, THEN)
    delete_version(memory_store, first, THEN)
    assert set(kinds(memory_store).values()) == {"manifests"}


def test_temporary_files_of_the_dead_go(local_store: Store) -> None:
    make(local_store, "a")
    stray = [".tmp-" + "0" * 16, f"builds/{fingerprint('a')}/parquet/.tmp-{'1' * 16}", ".tmp-probe-" + "2" * 16,
             "_chameleon/leases/caches/.tmp-" + "3" * 16]  # fmt: skip
    foreign = "data/.tmp-of-another-program"
    for path in (*stray, foreign):
        file = Path(local_store.url, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"half")
    assert kinds(local_store) == {}, "they may be of a writer that is at work"
    grow_old(local_store, "")
    assert kinds(local_store) == dict.fromkeys(stray, "temporary files")
    with leased(local_store):
        assert kinds(local_store) == {}
    remove_garbage(local_store)
    assert all(not Path(local_store.url, path).exists() for path in stray)
    assert Path(local_store.url, foreign).exists()


def test_empty_folders_go_with_their_files(local_store: Store) -> None:
    litter(local_store)
    remove_garbage(local_store)
    root = Path(local_store.url)
    assert not (root / "builds" / fingerprint("gone")).exists()
    assert (root / "builds" / fingerprint("kept") / "parquet").exists()
    assert not list((root / "builds" / fingerprint("kept")).glob("runs/*"))


def test_old_uploads_are_ended_and_young_ones_not(s3_store: Store, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3

    client = boto3.client("s3")
    key = f"{s3_store.url.removeprefix(f'{s3_bucket}/')}/{shard_path('a')}"
    client.create_multipart_upload(Bucket=s3_bucket.removeprefix("s3://"), Key=key)
    client.close()
    assert [u.path for u in find_garbage(s3_store).uploads] == [shard_path("a")]  # moto says 2010 of every upload
    with monkeypatch.context() as patch:
        patch.setattr(collection, "UPLOAD_AGE", 1e12)
        assert remove_garbage(s3_store).uploads == ()
    assert [u.path for u in remove_garbage(s3_store).uploads] == [shard_path("a")]
    assert s3_store.uploads() == ()


def test_groups_are_lines_for_a_person(memory_store: Store) -> None:
    litter(memory_store)
    groups = find_garbage(memory_store, caches=True).groups()
    assert groups["builds", f"builds/{fingerprint('gone')}"] == (3, 2 * len(SHARD) + 2)
    assert groups["runs", f"builds/{fingerprint('kept')}/runs"] == (1, len(SHARD))
    assert [folder for kind, folder in groups if kind == "caches"] == ["_chameleon/cache/survey", "_chameleon/cache/weights"]
    assert sum(files for files, _ in groups.values()) == len(find_garbage(memory_store, caches=True).files)


# -- leases --


def test_a_build_at_work_keeps_what_it_owns(store: Store) -> None:
    garbage = litter(store)
    with leased(store) as lease:
        lease.own(fingerprint("gone"))
        found = remove_garbage(store)
        assert found.spared == tuple(sorted([CACHES, fingerprint("gone")]))
    mine = fingerprint("gone")
    other_builds = {path: kind for path, kind in garbage.items() if kind in ("builds", "runs") and mine not in path}
    assert {path: kind for path, (kind, _) in found.files.items()} == other_builds
    assert store.list(leases.LEASES) == {}, "a lease ends with its work"
    assert kinds(store) == {path: kind for path, kind in garbage.items() if path not in other_builds}


def test_a_killed_builds_lease_is_void_after_a_while(store: Store) -> None:
    litter(store)
    dead = Lease(store)
    for kind in (CACHES, fingerprint("given up")):
        dead.take(kind)
    assert shard_path("given up") not in kinds(store)
    grow_old(store, leases.LEASES, LEASE - 30)
    assert shard_path("given up") not in kinds(store)
    grow_old(store, leases.LEASES, 60)
    found = kinds(store)
    assert found[shard_path("given up")] == "builds"
    assert [path for path, kind in found.items() if kind == "leases"] == sorted(
        f"_chameleon/leases/{kind}/{dead.id}.json" for kind in (CACHES, fingerprint("given up"))
    )
    remove_garbage(store)
    assert store.list(leases.LEASES) == {}
    assert whole(store) == [fingerprint("kept")]


@pytest.mark.parametrize("hours", [-1000, 1000])
def test_a_wrong_clock_deletes_nothing_that_lives(store: Store, hours: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The collection runs on a machine whose clocks are all off; only the store's own time counts."""
    litter(store)
    with leased(store) as lease:
        lease.own(fingerprint("given up"))
        real = time.time
        with monkeypatch.context() as patch:
            if "s3" not in store.url:  # which would refuse the signature; its stamps come from the server anyhow
                patch.setattr(time, "time", lambda: real() + 3600 * hours)
            patch.setattr(leases, "_now", lambda: 3600.0 * hours)
            remove_garbage(store)
        assert store.exists(shard_path("given up"))


def test_leases_are_renewed_while_the_body_runs(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEW", 0.02)
    with leased(store) as lease:
        lease.own("a" * 64)
        grow_old(store, leases.LEASES)
        deadline = time.monotonic() + 20
        while (held := leases_seen(store)) != {CACHES, "a" * 64}:
            assert time.monotonic() < deadline, held
        assert threading.active_count() > 1
    assert store.list(leases.LEASES) == {}
    assert not [t for t in threading.enumerate() if t.name == "chameleon-lease"]


def leases_seen(store: Store) -> set[str]:
    with leased(store, LOOK) as lease:
        return set(lease.look().held)


def test_a_lease_that_was_not_renewed_in_time_is_lost_for_good(memory_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(leases, "_now", lambda: clock[0])
    with leased(memory_store) as lease:
        clock[0] += LIMIT - 1
        lease.check()
        lease._renew()
        clock[0] += LIMIT - 1
        lease.check()
        clock[0] += 2
        written = memory_store.entries(leases.LEASES)
        lease._renew()
        assert memory_store.entries(leases.LEASES) == written, "what may have been cleared away is not claimed again"
        clock[0] -= 3
        with pytest.raises(InputError, match=r"lapsed, as the machine slept .* run the same command again"):
            lease.check()
        with pytest.raises(InputError, match="lapsed"):
            commit_version(memory_store, build("a"), THEN, lease.check)
        assert list_versions(memory_store) == ()


def test_a_collection_that_slept_removes_nothing_more(memory_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    litter(memory_store)
    clock, real, removed = [0.0], Store.remove, []

    def remove(self: Store, paths: list[str]) -> None:
        removed.append(paths)
        real(self, paths)
        clock[0] += LIMIT + 1

    monkeypatch.setattr(leases, "_now", lambda: clock[0])
    monkeypatch.setattr(collection, "REMOVED_AT_ONCE", 1)
    monkeypatch.setattr(Store, "remove", remove)
    with pytest.raises(InputError, match="lapsed"):
        remove_garbage(memory_store)
    assert len(removed) == 2, "one batch, and our own lease"


def test_a_store_that_is_away_for_a_while_is_no_reason_to_stop(memory_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEW", 0.01)
    real, calls = Store.write, []

    def away(self: Store, path: str, data: bytes) -> None:
        calls.append(path)
        if 3 < len(calls) < 8:
            raise InputError("no good answer in 120 s")
        real(self, path, data)

    monkeypatch.setattr(Store, "write", away)
    with leased(memory_store) as lease:
        deadline = time.monotonic() + 20
        while len(calls) < 12:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        lease.check()


def test_a_lease_that_somebody_took_away_is_lost(memory_store: Store) -> None:
    with leased(memory_store) as lease:
        real = memory_store._backend.walk
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(memory_store._backend), "walk", lambda self, folder: [])
            with pytest.raises(InputError, match="lapsed"):
                lease.look()
        assert list(real(leases.LEASES))


def test_the_times_leave_room_for_the_longest_put() -> None:
    from chameleon_data.store.object_store import DEADLINE

    assert LIMIT + DEADLINE < LEASE
    assert leases.RENEW + DEADLINE < LIMIT


def test_a_build_waits_for_a_collection(memory_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    collecting = Lease(memory_store)
    collecting.take(COLLECT)

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        collecting._end()

    monkeypatch.setattr(leases.time, "sleep", sleep)
    with leased(memory_store):
        assert len(waited) == 1


@pytest.mark.parametrize("step", ["begin", "own"])
def test_a_build_gives_up_on_a_long_collection(memory_store: Store, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "WAIT", 0.0)

    def work() -> None:
        with leased(memory_store) as lease:
            if step == "own":
                Lease(memory_store).take(COLLECT)
            lease.own("a" * 64)

    if step == "begin":
        Lease(memory_store).take(COLLECT)
    with pytest.raises(InputError, match="'gc --delete' is at work there, or was killed less than 15 minutes ago; run the same"):
        work()
    grow_old(memory_store, leases.LEASES)
    with leased(memory_store) as lease:
        lease.own("a" * 64)  # of the dead


# -- a collection and a build at once --


def half(store: Store) -> None:
    store.write(shard_path("a"), SHARD)


def uncommitted(store: Store) -> None:
    for path in (shard_path("a"), shard_path("a", 1)):
        store.write(path, SHARD)
    store.write(receipt_path("a"), b"{}")


def deleted(store: Store) -> None:
    delete_version(store, make(store, "a"), THEN)


BUILDS: dict[str, Callable[[Store], object]] = {
    "nothing yet": lambda store: None, "a half": half, "all but a version": uncommitted, "a deleted version": deleted,
    "a version": lambda store: make(store, "a"),
}  # fmt: skip
"""What may be there of a build, when it is built and a collection comes."""


class Meanwhile:
    """A backend that lets something happen before its operation number `step`."""

    def __init__(self, backend: Any, step: int, happens: Callable[[], object]) -> None:
        self.backend, self.step, self.happens, self.count = backend, step, happens, 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.backend, name)
        if not callable(real):
            return real

        def operation(*args: Any) -> Any:
            self.count += 1
            if self.count == self.step:
                self.happens()
            result = real(*args)
            return list(result) if name == "walk" else result

        return operation


def attempt(work: Callable[[], object]) -> str:
    try:
        work()
    except InputError as error:
        if "gc --delete" not in str(error):
            raise
        return "refused"
    return "done"


@pytest.mark.parametrize("before", BUILDS)
@pytest.mark.parametrize("which", ["build in a collection", "collection in a build", "two collections"])
def test_one_happens_at_any_moment_of_the_other(
    memory_store: Store, before: str, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "WAIT", 0.0)
    monkeypatch.setattr(collection, "REMOVED_AT_ONCE", 1)
    real, step, outcomes = memory_store._backend, 0, set()

    def alone(work: Callable[[], object]) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(storage, "_backend", lambda *_: real)
            outcomes.add(attempt(work))

    while True:
        step += 1
        memory_store.remove(memory_store.list())
        make(memory_store, "other")
        BUILDS[before](memory_store)
        works = [lambda: make(memory_store, "a"), lambda: remove_garbage(memory_store, caches=True)]
        outer, inner = {"build in a collection": works[::-1], "collection in a build": works}.get(which, [works[1]] * 2)
        watched = Meanwhile(real, step, lambda inner=inner: alone(inner))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(storage, "_backend", lambda *_, watched=watched: watched)
            outcomes.add(attempt(outer))
        whole(memory_store)
        make(memory_store, "a")
        assert fingerprint("a") in whole(memory_store)
        assert memory_store.list(leases.LEASES) == {}
        if watched.count < step:
            break
    assert step > 8
    assert "done" in outcomes


class Turns:
    """A schedule: which of two threads does the next operation on the store."""

    def __init__(self, order: list[int]) -> None:
        self.order, self.over, self.turn, self.done = order, [False, False], threading.Condition(), [0, 0]

    def _mine(self, who: int) -> bool:
        while self.order and self.over[self.order[0]]:
            self.order.pop(0)
        return not self.order or self.order[0] == who

    def wait(self, who: int) -> None:
        with self.turn:
            assert self.turn.wait_for(lambda: self._mine(who), 20)
            if self.order:
                self.order.pop(0)
            self.done[who] += 1
            self.turn.notify_all()

    def end(self, who: int) -> None:
        with self.turn:
            self.over[who] = True
            self.turn.notify_all()


def scheduled(store: Store, order: list[int], works: list[Callable[[], object]]) -> list[int]:
    """Do two works in threads, their operations on the store in this order; returns how many each did."""
    turns, real, who = Turns(order), store._backend, threading.local()

    class Scheduled:
        def __getattr__(self, name: str) -> Any:
            found = getattr(real, name)

            def operation(*args: Any) -> Any:
                if hasattr(who, "number"):
                    turns.wait(who.number)
                result = found(*args)
                return list(result) if name == "walk" else result

            return operation if callable(found) else found

    def run(number: int, work: Callable[[], object]) -> None:
        who.number = number
        try:
            attempt(work)
        except BaseException as error:  # noqa: BLE001 - raised again by the other thread
            failed.append(error)
        finally:
            turns.end(number)

    failed: list[BaseException] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leases, "WAIT", 0.0)
        patch.setattr(collection, "REMOVED_AT_ONCE", 1)
        patch.setattr(storage, "_backend", lambda *_: Scheduled())
        threads = [threading.Thread(target=run, args=(n, work)) for n, work in enumerate(works)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failed == []
    return turns.done


def check_after(store: Store) -> None:
    plans = whole(store)
    assert len(plans) == len(set(plans)), "one build is one version"
    make(store, "a")
    assert fingerprint("a") in whole(store)
    remove_garbage(store)
    assert fingerprint("a") in whole(store)


@pytest.mark.parametrize("before", ["nothing yet", "all but a version"])
@pytest.mark.parametrize("first", ["build", "collection"])
def test_one_is_interrupted_by_the_rest_of_the_other(memory_store: Store, before: str, first: str) -> None:
    """Every pair of moments: j operations of the first, k of the second, the rest of the first, the rest of the second."""
    seen, j, k = 0, 0, 0
    while True:
        memory_store.remove(memory_store.list())
        make(memory_store, "other")
        BUILDS[before](memory_store)
        works: list[Callable[[], object]] = [lambda: make(memory_store, "a"), lambda: remove_garbage(memory_store)]
        works = works if first == "build" else works[::-1]
        done = scheduled(memory_store, [0] * j + [1] * k + [0] * 1000, works)
        check_after(memory_store)
        seen, k = seen + 1, k + 1
        if k > done[1]:
            j, k = j + 1, 0
        if j > done[0]:
            break
    assert seen > 50


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    order=st.lists(st.integers(0, 1), max_size=80), before=st.sampled_from(sorted(BUILDS)), rival=st.sampled_from(["a", "b", ""])
)  # fmt: skip
def test_any_schedule_of_a_build_and_another_or_a_collection(
    memory_store: Store, order: list[int], before: str, rival: str
) -> None:
    memory_store.remove(memory_store.list())
    make(memory_store, "other")
    BUILDS[before](memory_store)
    other: Callable[[], object] = (lambda: make(memory_store, rival)) if rival else (lambda: remove_garbage(memory_store))
    scheduled(memory_store, list(order), [lambda: make(memory_store, "a"), other])
    check_after(memory_store)


def test_a_tag_and_a_look_are_no_builds(memory_store: Store) -> None:
    garbage = litter(memory_store)
    tag_version(memory_store, list_versions(memory_store)[0], "prod")
    with leased(memory_store, LOOK):
        assert kinds(memory_store) == garbage


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not [t for t in threading.enumerate() if t.name == "chameleon-lease"]
