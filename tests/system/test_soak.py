"""The parts of the soak with few seeds; `make soak` runs them with many."""

from __future__ import annotations

import tempfile
import uuid
from itertools import takewhile
from pathlib import Path

import pytest

from chameleon_data.errors import InputError
from chameleon_data.store.store import NameTakenError, Store
from chameleon_data.versions import active
from chameleon_data.versions.versions import commit_version, list_versions
from tests.soak import cleaning, kills, network, races, rot, servers, starts, version_model
from tests.soak.crash import (
    WRITES,
    CleanBuild,
    Fault,
    FaultKind,
    Killed,
    build_clean,
    change_out,
    crash_at_every_step,
    inject,
)
from tests.support.fuzz import FOLDER
from tests.support.inline_builds import CREATED, build, write_small_recipe
from tests.support.manifests import example_manifest


@pytest.mark.parametrize(("place", "kind"), [("memory", "fail"), ("memory", "after"), ("local", "half")])
def test_a_build_that_is_hit_at_any_operation_goes_on(tmp_path: Path, place: str, kind: FaultKind) -> None:
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        root = f"memory://{uuid.uuid4().hex}" if place == "memory" else folder
        steps = slice(None) if kind == "half" else slice(0, None, 5)
        hits = crash_at_every_step(tmp_path, lambda name: f"{root}/{name}", kind, steps)
    names = {operation.split()[0] for operation in hits}
    assert names == (set(WRITES) if kind == "half" else {"read", "open", "create", "replace", "size", "walk", "delete"})
    assert len(hits) > (40 if kind == "half" else 25)


@pytest.fixture
def small(tmp_path: Path) -> CleanBuild:
    """A small build in memory."""
    return build_clean(write_small_recipe(tmp_path, f"memory://{uuid.uuid4().hex}/clean"))


def test_no_flipped_byte_ends_in_another_version(small: CleanBuild) -> None:
    root = small.recipe.out
    damaged, refusals = zip(*(rot.flip_in_flight(small, f"{root}-flight-{n}", n) for n in range(12)), strict=True)
    assert sum(damaged) > 60
    assert 10 < sum(refusals) < sum(damaged)
    steps = range(12, len(small.operations) - 3, 4)  # an unfinished build with something in it
    flipped = [rot.flip_at_rest(small, f"{root}-rest-{at}", at, at) for at in steps]
    kinds = {"summary.json", "sample", "documents.parquet", "quarantine.parquet"}
    assert kinds < {path.rpartition("/")[2].partition("-")[0] for path in flipped}
    assert [path for path in flipped if "/runs/" in path and path.endswith(".run")]


def test_a_file_beside_the_shards_is_written_anew_where_no_version_refers_to_it(small: CleanBuild) -> None:
    """One that lists shards or numbers domains has no sha256; a build that was stopped before its commit goes on by itself."""
    beside = {"domain_ids.json", "index.json"}
    for at, operation in enumerate(small.operations, start=1):
        if operation.startswith("create builds/") and operation.rpartition("/")[2] in beside:
            recipe = change_out(small.recipe, f"{small.recipe.out}-{at}")
            with pytest.raises(Killed), inject(Fault(at + 1, "kill")):
                build(recipe)
            store, path = Store(recipe.out), operation.removeprefix("create ")
            rot.flip_file(store, path, at)
            assert build(recipe).digest == small.digest
            small.check(recipe.out, operation)
            beside.remove(path.rpartition("/")[2])
            damaged = rot.flip_file(store, path, at)
            with pytest.raises(NameTakenError, match="other bytes are there already"):
                build(recipe)
            assert store.read(path) == damaged
    assert not beside


@pytest.mark.parametrize("outer", ["build", "gc"])
def test_a_gc_and_a_build_at_any_moment_of_each_other(small: CleanBuild, outer: cleaning.Outer) -> None:
    commit = next(at for at, name in enumerate(small.operations) if name.startswith("create _chameleon/versions/"))
    steps = range(1, len(small.operations), 4)
    done = takewhile(lambda at: cleaning.clean_beside(small, f"{small.recipe.out}-{at}", outer, commit, at), steps)
    assert len(list(done)) > 10


def test_a_build_keeps_its_record_as_tasks_end(small: CleanBuild, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(active, "REWRITE", 0.0)
    often = build_clean(change_out(small.recipe, f"{small.recipe.out}-often"))
    once, again = (
        [name for name in clean.operations if name.startswith("replace _chameleon/active/driver-")] for clean in (small, often)
    )
    assert (len(set(once)), len(set(again))) == (1, 1)
    assert (len(once), len(again) > 10) == (2, True)


@pytest.mark.parametrize(("kind", "games", "steps"), [("local", 6, 20), ("s3", 2, 8)])
def test_the_version_store_against_a_dictionary(kind: str, games: int, steps: int, request: pytest.FixtureRequest) -> None:
    version_model.play(request.getfixturevalue(f"{kind}_store"), games, steps)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> CleanBuild:
    return kills.build_large(tmp_path_factory.mktemp("clean"))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_killed_drivers(large: CleanBuild, tmp_path: Path, engine: str) -> None:
    assert kills.kill_drivers(large, tmp_path / "build", engine, seed=2, kills=1) == 1


@pytest.mark.timeout(600)
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_killed_workers(large: CleanBuild, tmp_path: Path, engine: str) -> None:
    assert kills.kill_workers(large, tmp_path / "build", engine, seed=1, kills=2) > 0


def test_a_network_that_fails(moto_endpoint: str, tmp_path: Path) -> None:
    with network.proxy(moto_endpoint) as (proxy, endpoint), servers.as_s3(endpoint) as bucket:
        url = f"{bucket}/{uuid.uuid4().hex}"
        clean = build_clean(network.write_remote_recipe(tmp_path, url))
        network.build_through_faults(proxy, clean, f"{url}/1", 1)
        for seed in (3, 4):
            assert network.commit_through_faults(proxy, Store(f"{url}/{seed}"), seed) == 5
        assert len(proxy.injected) > 4


@pytest.mark.parametrize("kind", ["memory", "local"])
def test_races(kind: str, tmp_path: Path) -> None:
    root = f"memory://{uuid.uuid4().hex}" if kind == "memory" else str(tmp_path)
    recipe = write_small_recipe(tmp_path, f"{root}/clean")
    digests, files = races.build_in_turn(recipe)
    for seed in range(3):
        races.race(change_out(recipe, f"{root}/{seed}"), seed, digests, files)


def test_builds_started_at_once_all_end_well(tmp_path: Path) -> None:
    clean = build_clean(write_small_recipe(tmp_path, f"{tmp_path}/clean"))
    assert starts.start_at_once(clean, tmp_path / "at-once", 3) == 3


def test_a_flipped_version_does_not_become_two(memory_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever byte of a version's file is read as another one, once: a commit of the same build makes no other version."""
    build = example_manifest()
    version = commit_version(memory_store, build, CREATED)
    path = "_chameleon/versions/v00000001.json"
    body, read = memory_store.read(path), Store.read
    refused = 0
    for at in range(len(body)):
        changed = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
        with monkeypatch.context() as patch:
            patch.setattr(Store, "read", lambda store, name, changed=changed: changed if name == path else read(store, name))
            try:
                commit_version(memory_store, build, CREATED)
            except InputError:
                refused += 1
        assert list_versions(memory_store) == (version,), at
    assert refused > len(body) // 3
