"""The soak's pieces with few seeds; `make soak` has the many."""

from __future__ import annotations

import tempfile
import uuid
from pathlib import Path

import pytest

from chameleon_data.errors import InputError
from chameleon_data.store.store import Store
from chameleon_data.versions import active
from chameleon_data.versions.versions import commit_version, list_versions
from tests.soak import cleaning, kills, network, races, rot, servers, version_model
from tests.soak.alone import CREATED, small_recipe
from tests.soak.crash import HALVES, How, crash_at_every_step, operations
from tests.support.fuzz import FOLDER
from tests.support.manifests import example_manifest


@pytest.mark.parametrize(("kind", "how"), [("memory", "fail"), ("memory", "after"), ("local", "half")])
def test_a_build_that_is_struck_at_any_operation_goes_on(tmp_path: Path, kind: str, how: How) -> None:
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        root = f"memory://{uuid.uuid4().hex}" if kind == "memory" else folder
        steps = slice(None) if how == "half" else slice(0, None, 5)
        struck = crash_at_every_step(tmp_path, lambda name: f"{root}/{name}", how, steps)
    met = {s.split()[0] for s in struck}
    assert met == (set(HALVES) if how == "half" else {"read", "open", "create", "replace", "size", "walk", "delete"})
    assert len(struck) > (40 if how == "half" else 25)


def test_no_flipped_byte_ends_in_another_version(tmp_path: Path) -> None:
    root = f"memory://{uuid.uuid4().hex}"
    recipe = small_recipe(tmp_path, f"{root}/clean")
    digest, files, log = rot.clean(recipe)
    lies, refusals = zip(
        *(rot.flipped_in_flight(rot.elsewhere(recipe, f"{root}/flight-{n}"), n, digest, files) for n in range(12)), strict=True
    )
    assert sum(lies) > 60
    assert 10 < sum(refusals) < sum(lies)
    steps = range(12, len(log) - 3, 4)  # an unfinished build with something in it
    rotten = [rot.flipped_at_rest(rot.elsewhere(recipe, f"{root}/rest-{at}"), at, at, digest, files) for at in steps]
    kinds = {"summary.json", "sample.parquet", "documents.parquet", "quarantine.parquet"}
    assert kinds < {path.rpartition("/")[2] for path in rotten}
    assert [path for path in rotten if "/runs/" in path and path.endswith(".run")]


@pytest.mark.parametrize("outer", ["build", "gc"])
def test_a_gc_and_a_build_at_any_moment_of_each_other(tmp_path: Path, outer: cleaning.Outer) -> None:
    root = f"memory://{uuid.uuid4().hex}"
    recipe = small_recipe(tmp_path, f"{root}/clean")
    digest, files, log = rot.clean(recipe)
    commit = next(at for at, name in enumerate(log) if name.startswith("create _chameleon/versions/"))
    steps = 0
    for at in range(1, len(log) + 1, 4):
        if not cleaning.clean_beside(rot.elsewhere(recipe, f"{root}/{at}"), outer, commit, at, digest, files):
            break
        steps += 1
    assert steps > 10


def test_a_build_keeps_its_record_as_tasks_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = small_recipe(tmp_path, f"memory://{uuid.uuid4().hex}/out")
    writes = []
    for seconds in (active.REWRITE, 0.0):
        monkeypatch.setattr(active, "REWRITE", seconds)
        Store(recipe.out).remove(Store(recipe.out).list())
        writes.append([name for name in operations(recipe).log if name.startswith("replace _chameleon/active/driver-")])
    assert [len(set(paths)) for paths in writes] == [1, 1]
    assert len(writes[0]) == 2
    assert len(writes[1]) > 10


@pytest.mark.parametrize(("kind", "games", "steps"), [("local", 6, 20), ("s3", 2, 8)])
def test_the_version_store_against_a_dictionary(kind: str, games: int, steps: int, request: pytest.FixtureRequest) -> None:
    version_model.play(request.getfixturevalue(f"{kind}_store"), games, steps)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> kills.Clean:
    return kills.clean(tmp_path_factory.mktemp("clean"))


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_killed_drivers(clean: kills.Clean, tmp_path: Path) -> None:
    assert kills.kill_drivers(clean, tmp_path / "build", seed=2, kills=1) == 1


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_killed_workers(clean: kills.Clean, tmp_path: Path) -> None:
    assert kills.kill_workers(clean, tmp_path / "build", seed=1, kills=3) > 0


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_killed_raylet(clean: kills.Clean, tmp_path: Path) -> None:
    kills.kill_a_vital(clean, tmp_path / "build", kills.VITALS[0])


def test_a_network_that_fails(moto_endpoint: str, tmp_path: Path) -> None:
    with network.proxy(moto_endpoint) as (proxy, endpoint), servers.as_s3(endpoint) as bucket:
        url = f"{bucket}/{uuid.uuid4().hex}"
        recipe = network.remote_recipe(tmp_path, url)
        digest, files, _ = rot.clean(recipe)
        network.troubled_build(proxy, rot.elsewhere(recipe, f"{url}/1"), 1, digest, files)
        for seed in (3, 4):
            assert network.troubled_versions(proxy, Store(f"{url}/{seed}"), seed) == 5
        assert len(proxy.injected) > 4


@pytest.mark.parametrize("kind", ["memory", "local"])
def test_races(kind: str, tmp_path: Path) -> None:
    root = f"memory://{uuid.uuid4().hex}" if kind == "memory" else str(tmp_path)
    recipe = small_recipe(tmp_path, f"{root}/clean")
    digests, files = races.clean(recipe)
    for seed in range(3):
        races.race(rot.elsewhere(recipe, f"{root}/{seed}"), seed, digests, files)


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
