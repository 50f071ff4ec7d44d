"""Commits and tags under races and crashes, what references mean, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chameleon_data.errors import InputError
from chameleon_data.hashing import fingerprint
from chameleon_data.store import store as storage
from chameleon_data.store.paths import TAG_NAME
from chameleon_data.store.store import Backend, Store
from chameleon_data.versions import manifest as manifests
from chameleon_data.versions import references, versions
from chameleon_data.versions.manifest import Manifest, encode_manifest
from chameleon_data.versions.references import resolve_version, split_target
from chameleon_data.versions.tags import TagEntry, list_tags, tag_history, tag_version
from chameleon_data.versions.versions import Version, commit_version, delete_version, list_deleted, list_versions, read_manifest
from tests.support.deaths import SYSTEM_CALLS, Killed, die_at
from tests.support.manifests import example_manifest
from tests.support.schedules import at_once

THEN = "2026-01-01T00:00:00+00:00"


def build(name: str, seconds: float = 1.0, **changes: Any) -> Manifest:
    """The manifest of a build; the seconds that it took may differ between two runs of it."""
    return example_manifest(name, domains={"ä": {}}, timings={"survey": seconds}, **changes)


def numbers(store: Store) -> list[int]:
    return [version.number for version in list_versions(store)]


def edit(store: Store, path: str, change: Callable[[bytes], bytes]) -> None:
    store.write(path, change(store.read(path)))


# -- commit --


def test_a_first_version(store: Store) -> None:
    version = commit_version(store, build("a"), THEN)
    sha256 = hashlib.sha256(encode_manifest(build("a"))).hexdigest()
    assert version == Version(1, sha256, fingerprint("a"), fingerprint(["a"]), THEN, "a", 10, "bytes", 1)
    assert list_versions(store) == (version,)
    assert read_manifest(store, version) == build("a")
    assert list(store.list()) == [
        "_chameleon/format.json", f"_chameleon/manifests/{sha256}.json", "_chameleon/versions/v00000001.json"
    ]  # fmt: skip
    assert json.loads(store.read("_chameleon/format.json")) == {"format": 2, "dataset": sha256[:32]}


def test_versions_count_up_and_the_dataset_keeps_its_id(store: Store) -> None:
    made = tuple(commit_version(store, build(name), THEN) for name in "abc")
    assert [v.number for v in made] == [1, 2, 3]
    assert list_versions(store) == made
    assert [read_manifest(store, v) for v in made] == [build(name) for name in "abc"]
    assert json.loads(store.read("_chameleon/format.json"))["dataset"] == made[0].manifest[:32]


def test_what_is_a_version_already_does_not_become_one_again(store: Store) -> None:
    first = commit_version(store, build("a"), THEN)
    commit_version(store, build("b"), THEN)
    before = store.list()
    assert commit_version(store, build("a", 3.2), "later") == first
    assert store.list() == before  # not even a second manifest
    other_writer = replace(build("a"), digest=fingerprint("the same plan in other bytes"))
    assert commit_version(store, other_writer, THEN).number == 3


def test_eight_builds_at_once_all_land(store: Store) -> None:
    made = at_once(lambda i: commit_version(store, build(str(i)), THEN))
    assert sorted(v.number for v in made) == list(range(1, 9))
    assert list_versions(store) == tuple(sorted(made, key=lambda v: v.number))
    assert {read_manifest(store, v).plan_digest for v in list_versions(store)} == {fingerprint(str(i)) for i in range(8)}


def test_one_build_committed_eight_times_at_once_is_one_version(store: Store) -> None:
    commit_version(store, build("before"), THEN)
    made = at_once(lambda i: commit_version(store, build("a", i), f"at {i}"))
    assert len(set(made)) == 1
    assert numbers(store) == [1, 2]
    read_manifest(store, made[0])


def test_three_builds_thrice_at_once_are_three_versions(store: Store) -> None:
    made = at_once(lambda i: commit_version(store, build(str(i % 3), i), THEN), 9)
    assert sorted({v.number for v in made}) == numbers(store) == [1, 2, 3]
    assert all(made[i] == made[i % 3] for i in range(9))


def test_a_stale_look_does_not_make_a_second_version(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two other builds and the same one were committed since this one looked."""
    made = [commit_version(store, build(name), THEN) for name in "abc"]
    monkeypatch.setattr(versions, "list_versions", lambda _: ())
    assert commit_version(store, build("c", 2), "later") == made[2]
    assert commit_version(store, build("d"), "later").number == 4


# -- crashes --


class Dying:
    """A backend whose operation number `step` is the last thing that the process does, or just does not do."""

    def __init__(self, backend: Backend, step: int, after: bool) -> None:
        self.backend, self.step, self.after, self.count = backend, step, after, 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.backend, name)

        def operation(*args: Any) -> Any:
            self.count += 1
            if self.count > self.step or (self.count == self.step and not self.after):
                raise Killed
            result = real(*args)
            if name == "walk":
                result = list(result)
            if self.count == self.step:
                raise Killed
            return result

        return operation


def survives(store: Store, action: Callable[[], object], look: Callable[[], object], reset: Callable[[], None]) -> int:
    """Kill `action` before and after each of its operations: `look` sees the old state or the new one, and a second run ends
    in the new one. Returns the number of operations."""
    old = look()
    action()
    new, files = look(), store.list()
    assert old != new
    for after in (False, True):
        step = 0
        while True:
            step += 1
            reset()
            assert look() == old
            with pytest.MonkeyPatch.context() as patch:
                dying = Dying(store._backend, step, after)
                patch.setattr(storage, "_backend", lambda *_, dying=dying: dying)
                try:
                    action()
                    finished = True
                except Killed:
                    finished = False
            assert look() in (old, new)
            action()
            assert look() == new
            assert store.list() == files
            if finished:
                break
    return step - 1


def look(store: Store) -> object:
    """All that a reader can see, manifests proved."""
    found = list_versions(store)
    tags = [tag_history(store, name) for name in list_tags(store)]
    return (
        found,
        [read_manifest(store, version) for version in found],
        tags,
        [resolve_version(store, name) for name in list_tags(store)],
    )


def snapshot(store: Store) -> Callable[[], None]:
    files = {path: store.read(path) for path in store.list()}

    def reset() -> None:
        store.remove(store.list())
        for path, body in files.items():
            store.write(path, body)

    return reset


def test_a_first_commit_killed_anywhere(store: Store) -> None:
    steps = survives(store, lambda: commit_version(store, build("a"), THEN), lambda: look(store), snapshot(store))
    assert steps >= 4


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_a_later_commit_killed_anywhere(kind: str, request: pytest.FixtureRequest) -> None:
    store = request.getfixturevalue(f"{kind}_store")
    commit_version(store, build("older"), THEN)
    steps = survives(store, lambda: commit_version(store, build("a"), THEN), lambda: look(store), snapshot(store))
    assert steps >= 4


def test_a_tag_killed_anywhere(store: Store) -> None:
    made = [commit_version(store, build(name), THEN) for name in "ab"]
    tag_version(store, made[0], "prod")
    steps = survives(store, lambda: tag_version(store, made[1], "prod"), lambda: look(store), snapshot(store))
    assert steps >= 3


@pytest.mark.parametrize("after", [False, True])
def test_a_commit_killed_at_any_system_call(tmp_path: Path, after: bool) -> None:
    step = 0
    while True:
        step += 1
        store = Store(str(tmp_path / f"{step}"))
        first = commit_version(store, build("a"), THEN)
        with pytest.MonkeyPatch.context() as patch:
            die_at(step, after, patch, os, SYSTEM_CALLS)
            try:
                commit_version(store, build("b"), THEN)
                finished = True
            except Killed:
                finished = False
        found = list_versions(store)
        assert found[0] == first
        assert len(found) <= 2
        assert [read_manifest(store, version) for version in found] == [build("a"), build("b")][: len(found)]
        assert commit_version(store, build("b"), THEN).number == 2
        assert numbers(store) == [1, 2]
        if finished:
            break
    assert step > 12


def test_a_commit_whose_answer_was_lost_is_one_version(s3_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from s3fs import S3FileSystem

    real, lost = S3FileSystem._pipe_file, set()

    async def put(self: Any, path: str, *args: Any, **kwargs: Any) -> Any:
        result = await real(self, path, *args, **kwargs)
        if path not in lost:
            lost.add(path)
            raise ConnectionResetError
        return result

    monkeypatch.setattr(S3FileSystem, "_pipe_file", put)
    assert commit_version(s3_store, build("a"), THEN).number == 1
    assert commit_version(s3_store, build("b"), THEN).number == 2
    tag_version(s3_store, list_versions(s3_store)[0], "prod")
    assert (numbers(s3_store), len(tag_history(s3_store, "prod"))) == ([1, 2], 1)


# -- references --


@pytest.fixture
def twelve(memory_store: Store) -> Store:
    for i in range(12):
        commit_version(memory_store, build(str(i)), THEN)
    tag_version(memory_store, list_versions(memory_store)[4], "prod")
    tag_version(memory_store, list_versions(memory_store)[6], "night-ly_1.0")
    return memory_store


@pytest.mark.parametrize(
    ("reference", "number"),
    [("v3", 3), ("3", 3), ("V3", 3), ("v00000003", 3), ("12", 12), ("latest", 12), ("prod", 5), ("night-ly_1.0", 7)],
)
def test_a_reference_means(twelve: Store, reference: str, number: int) -> None:
    assert resolve_version(twelve, reference) == list_versions(twelve)[number - 1]


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        ("v13", r"no version 'v13'; the folder has v1, …, v8, v9, v10, v11, v12 and the tags night-ly_1.0, prod"),
        ("0", "no version '0'"), ("pord", "no version 'pord', did you mean 'prod'"), ("lastest", "did you mean 'latest'"),
        ("nightly", "did you mean 'night-ly_1.0'"), ("..", "no version"), ("../versions", "no version"), ("", "no version"),
        ("v1\n", "no version"), ("-1", "no version"), ("٣", "no version"), ("1" * 50, "no version"), ("a/b", "no version"),
    ],
)  # fmt: skip
def test_a_reference_to_nothing_says_what_there_is(twelve: Store, reference: str, text: str) -> None:
    with pytest.raises(InputError, match=text):
        resolve_version(twelve, reference)


@pytest.mark.parametrize("reference", ["latest", "v1", "prod"])
def test_a_store_without_versions(store: Store, reference: str) -> None:
    with pytest.raises(InputError, match="no version is finished there yet; `chameleon-data build RECIPE` makes one"):
        resolve_version(store, reference)
    assert list_versions(store) == ()


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        ("out", ("out", "latest")), ("out@v12", ("out", "v12")), ("a@b/out", ("a@b/out", "latest")),
        ("a@b/out@prod", ("a@b/out", "prod")), ("abfs://c", ("abfs://c", "latest")), ("/a/b@latest", ("/a/b", "latest")),
        ("a@b@3", ("a@b", "3")), ("out/@v1", ("out/", "v1")), ("s3://bucket/a@b/c", ("s3://bucket/a@b/c", "latest")),
        ("s3://bucket/a@b/c@v1", ("s3://bucket/a@b/c", "v1")), ("s3://bucket@v1", ("s3://bucket", "v1")),
        ("memory://x@1", ("memory://x", "1")), ("abfs://c@h.dfs.core.windows.net", ("abfs://c@h.dfs.core.windows.net", "latest")),
        ("abfs://c@h.dfs.core.windows.net@v1", ("abfs://c@h.dfs.core.windows.net", "v1")),
        ("abfs://c@h.dfs.core.windows.net/x@v1", ("abfs://c@h.dfs.core.windows.net/x", "v1")),
    ],
)  # fmt: skip
def test_targets(target: str, parts: tuple[str, str]) -> None:
    assert split_target(target) == parts


@given(st.text("ab@/:", min_size=1, max_size=12), st.from_regex(TAG_NAME, fullmatch=True))
def test_any_folder_with_a_reference_comes_apart_again(folder: str, reference: str) -> None:
    assert split_target(f"{folder}@{reference}") == (folder, reference)


@pytest.mark.parametrize("target", ["out@", "@v1", "@"])
def test_half_a_target(target: str) -> None:
    with pytest.raises(InputError, match="OUT@V"):
        split_target(target)


# -- tags --


def test_a_tag_moves_and_its_history_stays(store: Store) -> None:
    made = [commit_version(store, build(name), THEN) for name in "ab"]
    assert tag_version(store, made[0], "prod") == TagEntry(1, 1, made[0].manifest)
    assert tag_version(store, made[0], "prod").generation == 1  # nothing to do
    assert tag_version(store, made[1], "prod").generation == 2
    assert tag_version(store, made[0], "prod").generation == 3
    assert [t.version for t in tag_history(store, "prod")] == [1, 2, 1]
    assert resolve_version(store, "prod") == made[0]
    tag_version(store, made[1], "other")
    assert {name: t.version for name, t in list_tags(store).items()} == {"other": 2, "prod": 1}
    assert tag_history(store, "never") == ()


def test_eight_taggings_at_once(store: Store) -> None:
    made = [commit_version(store, build(str(i)), THEN) for i in range(8)]
    taggings = at_once(lambda i: tag_version(store, made[i], "prod"))
    assert sorted(t.generation for t in taggings) == list(range(1, 9))
    history = tag_history(store, "prod")
    assert sorted(history, key=lambda t: t.version) == taggings
    assert resolve_version(store, "prod").number == history[-1].version


def test_one_tagging_eight_times_at_once_is_one(store: Store) -> None:
    version = commit_version(store, build("a"), THEN)
    assert len(set(at_once(lambda _: tag_version(store, version, "prod")))) == 1
    assert len(tag_history(store, "prod")) == 1


@pytest.mark.parametrize(
    "name",
    [
        "",
        "latest",
        "LATEST",
        "v1",
        "V12",
        "12",
        "..",
        ".",
        ".hidden",
        "-rf",
        "a/b",
        "a\\b",
        "a b",
        "ä",
        "a\n",
        "a" * 101,
        "a@b",
        "٣",
    ],
)
def test_names_that_no_tag_may_have(memory_store: Store, name: str) -> None:
    version = commit_version(memory_store, build("a"), THEN)
    before = memory_store.list()
    with pytest.raises(InputError, match="a tag is 1 to 100"):
        tag_version(memory_store, version, name)
    assert memory_store.list() == before


@pytest.mark.parametrize("name", ["a", "v1.0", "v1-rc", "2026-11", "A_b.c-d", "x" * 100, "latest2"])
def test_names_that_a_tag_may_have(store: Store, name: str) -> None:
    version = commit_version(store, build("a"), THEN)
    tag_version(store, version, name)
    assert resolve_version(store, name) == version


def test_a_tag_of_what_is_not_there(memory_store: Store) -> None:
    made = [commit_version(memory_store, build(name), THEN) for name in "ab"]
    tag_version(memory_store, made[1], "prod")
    memory_store.remove(["_chameleon/versions/v00000002.json"])
    with pytest.raises(InputError, match="'prod' is v2, which is not there; was the folder copied whole"):
        resolve_version(memory_store, "prod")
    commit_version(memory_store, build("c"), THEN)
    with pytest.raises(InputError, match="another v2 than is there; tag it again"):
        resolve_version(memory_store, "prod")


# -- deletion --


def test_a_deleted_version_is_gone_and_its_number_does_not_come_back(store: Store) -> None:
    made = [commit_version(store, build(name), THEN) for name in "abc"]
    tag_version(store, made[2], "prod")
    before = store.list()
    assert delete_version(store, made[2], "2026-02-01")
    assert not delete_version(store, made[2], "2026-02-02"), "the first deletion holds"
    assert set(store.list()) - set(before) == {"_chameleon/deleted/v00000003.json"}
    assert list_versions(store) == tuple(made[:2])
    assert list_deleted(store) == {made[2]: "2026-02-01"}
    assert resolve_version(store, "latest") == made[1]
    with pytest.raises(InputError, match="v3 was deleted on 2026-02-01; the folder has v1, v2 and the tag prod"):
        resolve_version(store, "v3")
    with pytest.raises(InputError, match="'prod' is v3, which was deleted on 2026-02-01; tag another version with it; the"):
        resolve_version(store, "prod")
    with pytest.raises(InputError, match="no version '9'; the folder has v1, v2 and"):
        resolve_version(store, "9")
    again = commit_version(store, build("c"), THEN)
    assert (again.number, again.manifest) == (4, made[2].manifest), "to the byte and the second the same, and yet a new version"
    assert commit_version(store, build("c", 7), "later") == again
    assert commit_version(store, build("a"), "later") == made[0]
    assert resolve_version(store, "latest") == again
    tag_version(store, again, "prod")
    assert resolve_version(store, "prod") == again


def test_when_every_version_is_deleted(store: Store) -> None:
    for version in [commit_version(store, build(name), THEN) for name in "ab"]:
        delete_version(store, version, THEN)
    assert list_versions(store) == ()
    with pytest.raises(InputError, match="holds no version any more, v2 was the last that was deleted"):
        resolve_version(store, "latest")
    with pytest.raises(InputError, match=r"v1 was deleted on .* no version is left, and no tags"):
        resolve_version(store, "1")
    assert commit_version(store, build("b"), THEN).number == 3


def test_a_deletion_killed_anywhere(store: Store) -> None:
    made = [commit_version(store, build(name), THEN) for name in "ab"]
    steps = survives(store, lambda: delete_version(store, made[1], THEN), lambda: look(store), snapshot(store))
    assert steps >= 1


def test_a_commit_after_a_deletion_killed_anywhere(memory_store: Store) -> None:
    made = [commit_version(memory_store, build(name), THEN) for name in "ab"]
    delete_version(memory_store, made[1], THEN)
    steps = survives(
        memory_store, lambda: commit_version(memory_store, build("b"), THEN), lambda: look(memory_store), snapshot(memory_store)
    )
    assert steps >= 4
    assert numbers(memory_store) == [1, 3]


def test_eight_deletions_at_once_are_one(store: Store) -> None:
    version = commit_version(store, build("a"), THEN)
    assert sorted(at_once(lambda i: delete_version(store, version, f"at {i}"))) == [False] * 7 + [True]
    assert list(list_deleted(store)) == [version]


def test_deletions_and_commits_of_one_build_at_once(store: Store) -> None:
    """Whatever the order: at most one version of the build lives, and no number is used twice."""
    first = commit_version(store, build("a"), THEN)
    made = at_once(lambda i: commit_version(store, build("a", i + 1), THEN) if i % 2 else delete_version(store, first, f"at {i}"))
    given = [version for version in made if isinstance(version, Version)]
    assert {v.number for v in given} <= {1, 2}
    assert len({v for v in given if v.number == 2}) <= 1
    assert numbers(store) in ([], [2])
    assert list(list_deleted(store)) == [first]


# -- what is stored --


def test_a_copied_folder_is_as_good(local_store: Store, tmp_path: Path, memory_store: Store, s3_store: Store) -> None:
    *made, deleted = [commit_version(local_store, build(name), THEN) for name in "abc"]
    delete_version(local_store, deleted, THEN)
    tag_version(local_store, made[0], "prod")
    shutil.copytree(local_store.url, tmp_path / "copy")
    for other in (memory_store, s3_store):
        for path in local_store.list():
            other.write(path, local_store.read(path))
    back = Store(str(tmp_path / "back"))
    for path in memory_store.list():
        back.write(path, memory_store.read(path))
    for copy in (Store(str(tmp_path / "copy")), memory_store, s3_store, back):
        assert look(copy) == look(local_store)
        assert list_deleted(copy) == list_deleted(local_store) == {deleted: THEN}
        assert commit_version(copy, build("d"), THEN).number == 4


def test_half_written_and_foreign_files_are_not_versions(local_store: Store) -> None:
    version = commit_version(local_store, build("a"), THEN)
    for name in ("versions/.tmp-0123", "versions/v2.json", "versions/v00000003.json.bak", "versions/v00000004.deleted.json",
                 "versions/README", "tags/x/1.json", "tags/.tmp-1"):  # fmt: skip
        file = Path(local_store.url, "_chameleon", name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"{")
    assert list_versions(local_store) == (version,)
    assert list_tags(local_store) == {}
    assert commit_version(local_store, build("b"), THEN).number == 2


@pytest.mark.parametrize("file", ["format.json", "manifests/{m}.json", "versions/v00000001.json", "tags/prod/00000001.json"])
def test_what_a_newer_program_wrote_is_refused(store: Store, file: str) -> None:
    newer = replace(build("a"), format=manifests.MANIFEST_FORMAT + 1)
    version = commit_version(store, newer if "{m}" in file else build("a"), THEN)
    tag_version(store, version, "prod")
    path, newest = f"_chameleon/{file.format(m=version.manifest)}", manifests.MANIFEST_FORMAT if "{m}" in file else 2
    if "{m}" not in file:
        edit(store, path, lambda body: body.replace(b'"format":2', b'"format":3'))
    with pytest.raises(
        InputError,
        match=f"{file.split('/')[0]}.* has format {newest + 1}, this chameleon-data reads {newest}; install a newer",
    ):
        read_manifest(store, resolve_version(store, "prod"))
    if file == "format.json":
        with pytest.raises(InputError, match="has format"):
            commit_version(store, build("b"), THEN)
        store.remove(["_chameleon/versions/v00000001.json"])
        with pytest.raises(InputError, match="has format"):
            commit_version(store, build("b"), THEN)


def damage(body: bytes, kind: int) -> bytes:
    deep = b"[" * 100_000
    return [
        body[:-1],
        b"",
        b"[]",
        b"null",
        b"\xff\xfe",
        deep,
        b'{"format":' + b"9" * 5000 + b"}",
        b'{"format":2}',
        b'{"format":"1"}',
    ][kind]


@pytest.mark.parametrize("file", ["format.json", "versions/v00000001.json", "tags/prod/00000001.json"])
@pytest.mark.parametrize("kind", range(9))
def test_damage_is_one_clear_error(local_store: Store, file: str, kind: int) -> None:
    version = commit_version(local_store, build("a"), THEN)
    tag_version(local_store, version, "prod")
    path = Path(local_store.url, "_chameleon", file)
    path.write_bytes(damage(path.read_bytes(), kind))
    with pytest.raises(InputError, match=rf"{file}: damaged, or not written by chameleon-data \(.*\); restore it from a copy"):
        resolve_version(local_store, "prod")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(data=st.data())
def test_a_manifest_with_any_byte_changed_is_refused(memory_store: Store, data: st.DataObject) -> None:
    version = commit_version(memory_store, build("a"), THEN)
    path = f"_chameleon/manifests/{version.manifest}.json"
    body = bytearray(memory_store.read(path))
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= data.draw(st.integers(1, 255))
    memory_store.write(path, bytes(body))
    with pytest.raises(InputError, match="damaged or edited, as its sha256 is not its name; restore it from a copy"):
        read_manifest(memory_store, version)
    memory_store.remove([path])
    with pytest.raises(InputError, match="no such file; was the folder copied whole"):
        read_manifest(memory_store, version)
    memory_store.remove(memory_store.list())


def test_a_version_that_names_another_builds_manifest_is_refused(memory_store: Store) -> None:
    a, b = (commit_version(memory_store, build(name), THEN) for name in "ab")
    edit(memory_store, "_chameleon/versions/v00000002.json", lambda body: body.replace(b.manifest.encode(), a.manifest.encode()))
    with pytest.raises(InputError, match="is of another build than v2 says"):
        read_manifest(memory_store, resolve_version(memory_store, "v2"))


def test_a_version_under_another_number_is_refused(memory_store: Store) -> None:
    commit_version(memory_store, build("a"), THEN)
    memory_store.write("_chameleon/versions/v00000002.json", memory_store.read("_chameleon/versions/v00000001.json"))
    with pytest.raises(InputError, match=r"v00000002\.json: damaged"):
        list_versions(memory_store)


@pytest.mark.parametrize("sha256", ["../../etc/passwd", "a" * 63, "A" * 64])
def test_a_manifest_name_that_is_no_hash_is_refused(memory_store: Store, sha256: str) -> None:
    version = commit_version(memory_store, build("a"), THEN)
    edit(
        memory_store, "_chameleon/versions/v00000001.json", lambda body: body.replace(version.manifest.encode(), sha256.encode())
    )
    with pytest.raises(InputError, match="damaged"):
        resolve_version(memory_store, "latest")


def test_a_tag_that_moves_while_it_is_looked_up_is_a_version_that_is_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between listing the versions and reading the tag another process commits a version and gives it the tag."""
    tag_version(store, commit_version(store, build("0"), THEN), "prod")
    real = references.list_numbers

    def list_and_wait(store: Store) -> tuple[list[int], list[int]]:
        found = real(store)
        tag_version(store, commit_version(store, build("1"), THEN), "prod")
        return found

    monkeypatch.setattr(references, "list_numbers", list_and_wait)
    assert resolve_version(store, "prod").number == 1
    monkeypatch.undo()
    assert resolve_version(store, "prod").number == 2


def test_readers_never_see_half_a_commit(store: Store) -> None:
    """Readers go on while writers commit and move a tag: every look is at whole versions, and numbers only grow."""
    tag_version(store, commit_version(store, build("0"), THEN), "prod")

    def write() -> None:
        for i in range(1, 6):
            tag_version(store, commit_version(store, build(str(i)), THEN), "prod")

    seen = [0]
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        while not writing.done():
            found = list_versions(store)
            assert [v.number for v in found] == list(range(1, len(found) + 1))
            for version in (found[-1], resolve_version(store, "latest"), resolve_version(store, "prod")):
                read_manifest(store, version)
            seen.append(len(found))
        writing.result()
    assert seen == sorted(seen)
    assert resolve_version(store, "prod").number == 6
