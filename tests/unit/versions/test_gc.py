"""What gc removes and what it never touches; active records; and gc in every interleaving with builds and weighings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chameleon_data.errors import InputError
from chameleon_data.hashing import fingerprint
from chameleon_data.store.object_store import DEADLINE
from chameleon_data.store.paths import ACTIVE, landmarks_path, survey_path, weighing_path
from chameleon_data.store.store import Store
from chameleon_data.versions import active, gc
from chameleon_data.versions.active import OwnRecord, RecordLostError, active_driver, own_record
from chameleon_data.versions.gc import Garbage, find_garbage, remove_garbage
from chameleon_data.versions.tags import tag_version
from chameleon_data.versions.versions import commit_version, delete_version, list_versions
from tests.soak.crash import Fault, Killed, inject
from tests.support.schedules import Work, interruptions, run_at_each_step, run_in_order
from tests.support.small_builds import (
    CREATED,
    DAY,
    HOUR,
    SHARD,
    check_versions,
    folder_of,
    grow_old,
    litter,
    make_version,
    make_weighing,
    missing_files,
    receipt_path,
    shard_path,
    small_manifest,
)


def kinds(found: Garbage) -> dict[str, str]:
    return {path: kind for path, (kind, _) in found.files.items()}


def leave_record(store: Store, kind: active.Kind, plan: str | None = None) -> OwnRecord:
    """The record of a process that is killed right after."""
    record = OwnRecord(store, kind)
    if plan:
        record.use_plans([plan])
    else:
        record.write()
    return record


# -- what is garbage --


def test_a_version_that_cannot_be_read_stops_gc(memory_store: Store) -> None:
    litter(memory_store)
    version = list_versions(memory_store)[0]
    memory_store.write(f"_chameleon/manifests/{version.manifest}.json", b"{}")
    before = memory_store.list()
    with pytest.raises(InputError, match="damaged or edited"):
        remove_garbage(memory_store)
    assert memory_store.list() == before
    memory_store.write("_chameleon/manifests/x", b"{}")
    memory_store.remove([f"_chameleon/manifests/{version.manifest}.json"])
    with pytest.raises(InputError, match="no such file"):
        remove_garbage(memory_store)


def test_caches_go_when_asked_and_then_their_landmarks(memory_store: Store) -> None:
    litter(memory_store)
    cached = set(memory_store.list("_chameleon/cache"))
    found = kinds(remove_garbage(memory_store, caches=True))
    assert {path for path, kind in found.items() if kind == "caches"} == cached
    assert landmarks_path(fingerprint("cached")) in found
    assert list(memory_store.list("_chameleon/landmarks")) == [landmarks_path(fingerprint("used"))]
    assert check_versions(memory_store) == [fingerprint("kept")]


@pytest.mark.parametrize("how", ["kill", "after"])
def test_a_gc_that_is_killed_at_any_operation_leaves_no_record_of_what_is_gone(
    memory_store: Store, how: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gc, "REMOVED_AT_ONCE", 1)
    step, finished = 0, False
    while not finished:
        step += 1
        memory_store.remove(memory_store.list())
        litter(memory_store)
        fault = Fault(step, how)
        with inject(fault):
            try:
                remove_garbage(memory_store, caches=True)
                finished = True
            except Killed:
                pass
        if memory_store.exists(weighing_path("cached")):
            assert memory_store.exists(landmarks_path(fingerprint("cached"))), "a build would publish that weighing"
        for name in ("gone", "given up"):
            if memory_store.exists(receipt_path(name)):
                assert memory_store.exists(shard_path(name)), "a receipt is the promise that its shard is there"
        assert check_versions(memory_store) == [fingerprint("kept")]
    assert step > 15


def test_one_folder_under_two_versions_stays_while_one_lives(memory_store: Store) -> None:
    first = make_version(memory_store, "a")
    commit_version(memory_store, small_manifest("a", digest=fingerprint("other bytes")), CREATED)
    delete_version(memory_store, first, CREATED)
    assert set(kinds(find_garbage(memory_store)).values()) == {"manifests"}


def test_temporary_files_of_the_dead_go(local_store: Store) -> None:
    make_version(local_store, "a")
    stray = [
        ".tmp-" + "0" * 16,
        f"{folder_of('a')}/parquet/.tmp-{'1' * 16}",
        ".tmp-probe-" + "2" * 16,
        f"{ACTIVE}/.tmp-{'3' * 16}",
    ]
    foreign = "data/.tmp-of-another-program"
    for path in (*stray, foreign):
        file = Path(local_store.url, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"half")
    assert kinds(find_garbage(local_store)) == {}, "they may be of a writer that is at work"
    grow_old(local_store, "", HOUR)
    assert kinds(find_garbage(local_store)) == dict.fromkeys(stray, "temporary files")
    with active_driver(local_store):
        assert kinds(find_garbage(local_store)) == {}
    remove_garbage(local_store)
    assert all(not Path(local_store.url, path).exists() for path in stray)
    assert Path(local_store.url, foreign).exists()


def test_empty_folders_go_with_their_files(local_store: Store) -> None:
    litter(local_store)
    remove_garbage(local_store)
    root = Path(local_store.url)
    assert not (root / folder_of("gone")).exists()
    assert (root / folder_of("kept") / "parquet").exists()
    assert not list((root / folder_of("kept")).glob("runs/*"))


def test_groups_are_lines_for_a_person(memory_store: Store) -> None:
    litter(memory_store)
    found = find_garbage(memory_store, caches=True)
    groups = found.groups()
    assert groups["builds", folder_of("gone")] == (3, 2 * len(SHARD) + 2)
    assert groups["runs", f"{folder_of('kept')}/runs"] == (1, len(SHARD))
    assert [folder for kind, folder in groups if kind == "caches"] == [
        f"_chameleon/cache/{name}" for name in ("rows", "survey", "weights")
    ]
    assert sum(files for files, _ in groups.values()) == len(found.files)


def test_a_tag_and_a_look_are_no_drivers(memory_store: Store) -> None:
    garbage = litter(memory_store)
    tag_version(memory_store, list_versions(memory_store)[0], "prod")
    with own_record(memory_store, "probe") as probe:
        probe.write()
        found = find_garbage(memory_store)
        assert (kinds(found), found.drivers) == (garbage, ())
        with active_driver(memory_store):
            pass  # it does not wait for who only looks


# -- active records --


def test_a_driver_says_who_it_is_and_what_it_uses(memory_store: Store) -> None:
    with active_driver(memory_store) as driver:
        (path,) = memory_store.list(ACTIVE)
        before = active.read_active_record(memory_store, path)
        driver.use_plans(["a" * 64])
        assert list(memory_store.list(ACTIVE)) == [path]
        after = active.read_active_record(memory_store, path)
        (found,) = find_garbage(memory_store).drivers
    assert (before.plans, after.plans, found.record, found.path) == ((), ("a" * 64,), after, path)
    assert 0 <= found.age < 60
    assert found.spares() == [f"builds/{'a' * 64}", "caches", "landmarks", "manifests", "tables", "checks", "temporary files"]
    assert memory_store.list(ACTIVE) == {}, "it ends with its work"
    assert active.read_active_record(memory_store, path) is None


@pytest.mark.parametrize("reading", [b"{}", b"[]", b"\xff", b'{"sum": 1}', None])
def test_a_record_that_cannot_be_read_stops_gc(memory_store: Store, reading: bytes | None) -> None:
    litter(memory_store)
    path = leave_record(memory_store, "driver", fingerprint("given up")).path
    body = memory_store.read(path)
    for at in range(len(body)) if reading is None else [0]:
        memory_store.write(path, reading or body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :])
        before = memory_store.list()
        with pytest.raises(InputError, match=f"{path}: damaged, or of another release, .* remove the file once no build"):
            remove_garbage(memory_store)
        assert memory_store.list() == before
    remove_garbage(memory_store, older_than=0)
    assert memory_store.list(ACTIVE) == {}


@pytest.mark.parametrize("hours", [-1000, 1000])
def test_a_wrong_clock_deletes_nothing_that_lives(memory_store: Store, hours: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gc runs on a machine whose clocks are all off; only the store's own time counts."""
    litter(memory_store)
    with active_driver(memory_store) as driver:
        driver.use_plans([fingerprint("given up")])
        real = time.time
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda: real() + HOUR * hours)
            patch.setattr(active, "_now", lambda: HOUR * hours)
            remove_garbage(memory_store)
        assert memory_store.exists(shard_path("given up"))


def test_the_record_is_written_again_as_tasks_end(memory_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, told = [1000.0], list[tuple[str, int, int]]()
    monkeypatch.setattr(active, "_now", lambda: clock[0])
    with active_driver(memory_store) as driver:
        driver.use_plans(["a" * 64])
        progress = driver.keep_during(lambda *about: told.append(about))
        for day in range(1, 20):
            grow_old(memory_store, ACTIVE, DAY)
            written = memory_store.entries(ACTIVE)
            clock[0] += active.REWRITE - 1
            progress("survey", day, 20)
            assert memory_store.entries(ACTIVE) == written, "not yet"
            clock[0] += 1
            progress("survey", day, 20)
            (entry,) = memory_store.entries(ACTIVE).values()
            assert entry.modified > written[driver.path].modified + DAY / 2
        (found,) = find_garbage(memory_store).drivers
        assert found.record.plans == ("a" * 64,)
        driver.check()
    assert told == [("survey", day, 20) for day in range(1, 20) for _ in range(2)]


def test_a_record_that_was_not_written_in_time_is_lost_for_good(memory_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(active, "_now", lambda: clock[0])
    with active_driver(memory_store) as driver:
        clock[0] += active.DRIVER_SILENCE - 1
        driver.check()
        driver.keep()
        clock[0] += active.DRIVER_SILENCE - 1
        driver.check()
        clock[0] += 2
        written = memory_store.entries(ACTIVE)
        for lost in (driver.check, driver.keep, lambda: driver.use_plans(["a" * 64])):
            with pytest.raises(
                RecordLostError, match=r"could not write its record for 24 hours, as the machine slept .* run the same"
            ):
                lost()
        assert memory_store.entries(ACTIVE) == written, "what may have been removed is not claimed again"
        with pytest.raises(InputError, match="24 hours"):
            commit_version(memory_store, small_manifest("a"), CREATED, driver.check)
        assert list_versions(memory_store) == ()


def test_a_record_that_somebody_removed_is_lost_for_good(memory_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(active, "REWRITE", 0.0)
    with active_driver(memory_store) as driver:
        memory_store.remove([driver.path])
        for lost in (driver.check, driver.keep, lambda: driver.use_plans(["a" * 64])):
            with pytest.raises(RecordLostError, match=r"somebody removed this record .* run the same command again"):
                lost()
        assert memory_store.list(ACTIVE) == {}, "what was removed meanwhile is not claimed again"
    with active_driver(memory_store) as driver:
        driver.use_plans(["a" * 64])  # the same command makes a record anew


def test_a_gc_that_slept_removes_nothing_more(memory_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    litter(memory_store)
    clock, real, removed = [0.0], Store.remove, list[list[str]]()

    def remove(self: Store, paths: list[str]) -> None:
        real(self, paths)
        if paths:
            removed.append(paths)
            clock[0] += active.MARK_SILENCE + 1

    monkeypatch.setattr(active, "_now", lambda: clock[0])
    monkeypatch.setattr(gc, "REMOVED_AT_ONCE", 1)
    monkeypatch.setattr(Store, "remove", remove)
    with pytest.raises(RecordLostError, match=r"for 0.5 hours"):
        remove_garbage(memory_store)
    assert len(removed) == 2, "one batch, and its own mark"


def test_a_gc_whose_mark_is_gone_removes_nothing_more(memory_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    litter(memory_store)
    monkeypatch.setattr(gc, "REMOVED_AT_ONCE", 1)
    done = list[int]()

    def take_mark(so_far: int, total: int) -> None:
        done.append(so_far)
        memory_store.remove(memory_store.list(ACTIVE))

    with pytest.raises(RecordLostError, match="somebody removed this record"):
        remove_garbage(memory_store, progress=take_mark)
    assert done == [1]


def test_a_store_that_is_away_for_a_while_is_no_reason_to_stop(memory_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(active, "REWRITE", 0.0)
    real, calls = Store.write, list[str]()

    def away(self: Store, path: str, data: bytes) -> None:
        calls.append(path)
        if 3 < len(calls) < 8:
            raise InputError("no good answer in 120 s")
        real(self, path, data)

    monkeypatch.setattr(Store, "write", away)
    with active_driver(memory_store) as driver:
        while len(calls) < 12:
            driver.keep()
        driver.check()


def test_the_times_leave_room_for_what_may_be_under_way() -> None:
    """Whoever stops stops before others take it for dead, even with one operation still on its way."""
    at_once = 16  # threads of `RemoteFolder.delete`
    assert active.DRIVER_SILENCE + DEADLINE < active.OLDER_THAN
    assert active.MARK_SILENCE + gc.REMOVED_AT_ONCE / at_once * DEADLINE < active.MARK_BELIEVED
    assert active.REWRITE + DEADLINE < active.MARK_SILENCE < active.DRIVER_SILENCE


def test_a_driver_waits_for_a_gc(memory_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    mark, waited = leave_record(memory_store, "gc"), list[float]()

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        assert len(memory_store.list(ACTIVE)) == 2
        memory_store.remove(memory_store.list(ACTIVE) if len(waited) == 1 else [mark.path])  # not looked yet: made anew
        if len(waited) == 1:
            mark.write()

    monkeypatch.setattr(active.time, "sleep", sleep)
    with active_driver(memory_store) as driver:
        assert waited == [1.0, 1.0]
        assert list(memory_store.list(ACTIVE)) == [driver.path]


@pytest.mark.parametrize("step", ["begin", "use_plans"])
def test_a_driver_gives_up_on_a_long_gc(memory_store: Store, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(active, "WAIT", 0.0)

    def work() -> None:
        with active_driver(memory_store) as driver:
            if step == "use_plans":
                leave_record(memory_store, "gc")
            driver.use_plans(["a" * 64])

    if step == "begin":
        leave_record(memory_store, "gc")
    says = (
        r"'gc --delete' is at work there \(host .*, process \d+\), or was killed less than 60 minutes ago; "
        r"run the same command again when it has ended, or remove .*/gc-[0-9a-f]{16}.json if it was killed"
    )
    with pytest.raises(InputError, match=says):
        work()
    grow_old(memory_store, ACTIVE, active.MARK_BELIEVED - 60)
    with pytest.raises(InputError, match=says):
        work()
    grow_old(memory_store, ACTIVE, 60)
    with active_driver(memory_store) as driver:
        driver.use_plans(["a" * 64])
    assert list(kinds(remove_garbage(memory_store)).values()) == ["active records"]


def test_older_than_says_whose_records_count(memory_store: Store) -> None:
    litter(memory_store)
    leave_record(memory_store, "driver", fingerprint("given up"))
    grow_old(memory_store, ACTIVE, 2 * HOUR)
    assert shard_path("given up") not in kinds(find_garbage(memory_store))
    assert shard_path("given up") not in kinds(find_garbage(memory_store, older_than=3 * HOUR))
    assert shard_path("given up") in kinds(find_garbage(memory_store, older_than=HOUR))
    with active_driver(memory_store) as alive:
        found = remove_garbage(memory_store, older_than=HOUR)
        assert [driver.path for driver in found.drivers] == [alive.path]
        assert list(memory_store.list(ACTIVE)) == [alive.path]
        remove_garbage(memory_store, older_than=0)
        with pytest.raises(RecordLostError):
            alive.check()


# -- gc, and a driver at work --


def half(store: Store) -> None:
    store.write(shard_path("a"), SHARD)


def all_but_a_version(store: Store) -> None:
    for shard in range(2):
        store.write(shard_path("a", shard), SHARD)
    store.write(receipt_path("a"), b"{}")


def stale(store: Store) -> None:
    all_but_a_version(store)
    grow_old(store, "", 30 * DAY)


def deleted(store: Store) -> None:
    delete_version(store, make_version(store, "a"), CREATED)


BUILDS: dict[str, Callable[[Store], object]] = {
    "nothing yet": lambda store: None, "a half": half, "all but a version": all_but_a_version, "a stale build": stale,
    "a deleted version": deleted, "a version": lambda store: make_version(store, "a"),
}  # fmt: skip
"""What may be there of a build when it is built and a gc comes."""


def prepare(store: Store, before: str) -> Work:
    def work() -> None:
        make_version(store, "other")
        BUILDS[before](store)
        store.write(landmarks_path(fingerprint("w")), b"points")  # of a weighing that was cleared away
        store.write(survey_path("w", "documents.parquet"), b"documents")  # of a survey that was killed

    return work


def attempt(work: Work) -> Work:
    """A driver that gives up because of a gc has done no harm."""

    def attempted() -> None:
        try:
            work()
        except InputError as error:
            if "gc --delete" not in str(error):
                raise

    return attempted


def check_after(store: Store) -> None:
    """One build is one version, and all that follows finds what it needs."""
    assert store.list(ACTIVE) == {}
    for work in (lambda: make_version(store, "a"), lambda: make_weighing(store, "w"), lambda: remove_garbage(store)):
        work()
    assert missing_files(store) == set()
    plans = [version.plan_digest for version in list_versions(store)]
    assert (len(plans), fingerprint("a") in plans) == (len(set(plans)), True)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drivers do not wait, and gc looks at its mark before each file."""
    monkeypatch.setattr(active, "WAIT", 0.0)
    monkeypatch.setattr(gc, "REMOVED_AT_ONCE", 1)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("before", BUILDS)
@pytest.mark.parametrize("which", ["build in gc", "gc in build", "gc in gc"])
def test_one_happens_at_any_moment_of_the_other(memory_store: Store, before: str, which: str) -> None:
    works = {"build": attempt(lambda: make_version(memory_store, "a")), "gc": lambda: remove_garbage(memory_store, caches=True)}
    inner, _, outer = which.split()
    for step in run_at_each_step(memory_store, prepare(memory_store, before), works[outer], works[inner]):
        assert missing_files(memory_store) == set(), step
        check_after(memory_store)
    assert step > 8


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(("before", "driver"), [("nothing yet", "build"), ("a stale build", "build"), ("nothing yet", "weigh")])
@pytest.mark.parametrize("first", ["driver", "gc"])
def test_one_is_interrupted_by_the_rest_of_the_other(memory_store: Store, before: str, driver: str, first: str) -> None:
    """Every pair of moments: j operations of the first, k of the second, the rest of the first, the rest of the second."""
    schedules = 0
    for missing in explore(memory_store, before, driver, first):
        assert missing == set()
        check_after(memory_store)
        schedules += 1
    assert schedules > 50


def explore(store: Store, before: str, driver: str, first: str) -> Iterator[set[str]]:
    """What is promised and not there, after each schedule of a driver and a gc."""
    works = {"build": lambda: make_version(store, "a"), "weigh": lambda: make_weighing(store, "w")}
    pair = (attempt(works[driver]), lambda: remove_garbage(store, caches=driver == "weigh"))
    for _ in interruptions(store, prepare(store, before), pair if first == "driver" else pair[::-1]):
        yield missing_files(store)


@pytest.mark.usefixtures("hasty")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(
    order=st.lists(st.integers(0, 1), max_size=80), before=st.sampled_from(sorted(BUILDS)), rival=st.sampled_from(["a", "b", ""])
)
def test_any_schedule_of_a_build_and_another_or_a_gc(memory_store: Store, order: list[int], before: str, rival: str) -> None:
    memory_store.remove(memory_store.list())
    prepare(memory_store, before)()
    other = (lambda: make_version(memory_store, rival)) if rival else (lambda: remove_garbage(memory_store))
    run_in_order(memory_store, order, (attempt(lambda: make_version(memory_store, "a")), attempt(other)))
    assert missing_files(memory_store) == set()
    check_after(memory_store)


# -- each part of the rule is needed: without it some schedule loses a file that is promised --


def driver_does_not_look_for_marks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(OwnRecord, "_find_mark", lambda self: self.look() and None)


def gc_does_not_look_at_records(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(gc, "look_at_drivers", lambda own, older_than: active.ActiveFolder(own.look()[0], (), ()))


def gc_reads_versions_before_records(patch: pytest.MonkeyPatch) -> None:
    look, refer = gc.look_at_drivers, gc._referred

    def versions_first(own: OwnRecord, older_than: float) -> active.ActiveFolder:
        early = refer(own.store)
        patch.setattr(gc, "_referred", lambda store: early)
        return look(own, older_than)

    patch.setattr(gc, "look_at_drivers", versions_first)


def gc_lists_files_before_records(patch: pytest.MonkeyPatch) -> None:
    look, find, list_files, early = gc.look_at_drivers, gc._find, Store.entries, dict[str, Any]()

    def files_first(own: OwnRecord, older_than: float) -> active.ActiveFolder:
        early.clear()
        early.update(list_files(own.store))
        return look(own, older_than)

    def find_among_early(*args: Any) -> Garbage:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Store, "entries", lambda self, prefix="": list_files(self, prefix) if prefix else early)
            return find(*args)

    patch.setattr(gc, "look_at_drivers", files_first)
    patch.setattr(gc, "_find", find_among_early)


def gc_knows_only_the_age_of_files(patch: pytest.MonkeyPatch) -> None:
    judge = gc._kind
    gc_does_not_look_at_records(patch)

    def old_and_garbage(path: str, entry: Any, folder: active.ActiveFolder, *rest: Any) -> str | None:
        return judge(path, entry, folder, *rest) if folder.now - entry.modified > active.OLDER_THAN else None

    patch.setattr(gc, "_kind", old_and_garbage)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    ("leave_out", "driver", "first"),
    [
        (driver_does_not_look_for_marks, "build", "gc"),
        (gc_does_not_look_at_records, "build", "driver"),
        (gc_reads_versions_before_records, "build", "driver"),
        (gc_lists_files_before_records, "weigh", "driver"),
        (gc_knows_only_the_age_of_files, "build", "driver"),
        (gc_knows_only_the_age_of_files, "build", "gc"),
    ],
)
def test_without_a_part_of_the_rule_some_schedule_loses_a_file(
    memory_store: Store, leave_out: Callable[[pytest.MonkeyPatch], None], driver: str, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_out(monkeypatch)
    assert any(explore(memory_store, "a stale build", driver, first))


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("checks", [True, False])
@pytest.mark.parametrize("how", ["slept", "taken for dead"])
def test_a_driver_that_a_gc_takes_for_dead_stops(
    memory_store: Store, how: str, checks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a gc comes at any moment of the driver. One that does not check its record publishes what is gone."""
    clock, ends = [0.0], list[str]()
    monkeypatch.setattr(active, "_now", lambda: clock[0])
    if not checks:
        monkeypatch.setattr(OwnRecord, "check", lambda self: None)

    def clean() -> None:
        if how == "slept":
            clock[0] += 8 * DAY
            grow_old(memory_store, ACTIVE, 8 * DAY)
        remove_garbage(memory_store, older_than=active.OLDER_THAN if how == "slept" else 0.0)

    def build() -> None:
        try:
            make_version(memory_store, "a")
            ends.append("done")
        except RecordLostError:
            ends.append("stopped")

    for _ in run_at_each_step(memory_store, prepare(memory_store, "a stale build"), build, clean):
        if missing_files(memory_store):
            ends[-1] = "lost"
        else:
            check_after(memory_store)
    if checks:
        assert ends.count("lost") == 1, "not covered: between the check and the arrival of the one put that follows"
        assert ends.count("stopped") > 8
    else:
        assert ends.count("lost") > 5
