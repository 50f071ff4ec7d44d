"""Stages that are added to a build: earlier shards stay as they are and are named again, and the whole is one schedule."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from chameleon_data.errors import InputError
from chameleon_data.evaluation.read_documents import read_split
from chameleon_data.pipelines.build import Built, build_recipe, plan_recipe
from chameleon_data.recipe import Recipe
from chameleon_data.recipe_file import load_recipe
from chameleon_data.store.paths import ACTIVE
from chameleon_data.store.store import Store
from chameleon_data.versions.active import read_active_record
from chameleon_data.versions.diff import diff_versions
from chameleon_data.versions.gc import remove_garbage
from chameleon_data.versions.loaded import load_version
from chameleon_data.versions.manifest import Manifest
from chameleon_data.versions.shard_table import read_shards
from chameleon_data.versions.verify import verify_version
from chameleon_data.versions.versions import delete_version, list_versions
from chameleon_data.views.catalogue import write_catalogue
from chameleon_data.views.croissant import croissant
from chameleon_data.views.lake_tables import register_delta, register_iceberg
from tests.support.corpus import documents, lay_out, write_recipe
from tests.support.inline_builds import CREATED, INLINE
from tests.support.manifests import forge, list_paths
from tests.support.tokenizers import byte_tokenizer

STAGES: tuple[dict[str, Any], ...] = (
    {"budget": 200_000},
    {"budget": 120_000, "weights": {"from": "second.json"}, "drop_below": 0.001},
    {"budget": 80_000, "weights": {"from": "third.json"}, "ramp": 1},
)
LATER = {
    "second.json": {"legal": 0.05, "book": 0.0001, "code": 0.9499},
    "third.json": {"legal": 0.5, "book": 0.25, "code": 0.25},
}
ROWS: dict[str, dict[str, Any]] = {
    "texts": {}, "cross": {"sequence_length": 64}, "whole": {"sequence_length": 64, "packing": "whole"},
}  # fmt: skip


def recipe_of(folder: Path, stages: int, rows: str = "texts", out: str = "out", **sections: Any) -> Recipe:
    """The first `stages` of STAGES. The corpus and the files of weights lie in `folder`, for whatever `out`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, weights in LATER.items():
        (folder / name).write_text(json.dumps(weights))
    corpus = {name: [text[:700] for text in texts[:60]] for name, texts in documents().items()}
    sources = lay_out(folder / "corpus", corpus, ["jsonl"], 2)
    tokens = {"tokens": {"tokenizer": str(byte_tokenizer(folder))}} if ROWS[rows] else {}
    mix = {"max_epochs": 8, "validation": 0.1, "stages": list(STAGES[:stages]), **sections.pop("mix", {})}
    shards = {"size": "8KB", "formats": ["parquet", "mds"], **ROWS[rows]}
    path = write_recipe(folder / f"{Path(out).name}.yaml", sources, out=out, mix=mix, shards=shards, **tokens, **sections)
    return load_recipe(path)


def make(recipe: Recipe) -> Built:
    return build_recipe(recipe, INLINE, lambda *_: None, CREATED)


def states(store: Store, folder: str) -> dict[str, tuple[int, bytes]]:
    """Path -> when it was written, in nanoseconds, and what it holds."""
    local = store.local(folder)
    assert local is not None
    return {str(p.relative_to(local)): (p.stat().st_mtime_ns, p.read_bytes()) for p in sorted(local.rglob("*")) if p.is_file()}


@dataclass(frozen=True)
class Grown:
    """Two stages, to which a third was added."""

    store: Store
    first: Manifest
    before: dict[str, dict[str, tuple[int, bytes]]]
    """Folder -> its files after the first build."""
    said: str
    """What `plan` says then."""
    built: Built


@pytest.fixture(scope="module", params=ROWS)
def grown(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Grown]:
    folder, rows = tmp_path_factory.mktemp("grown"), request.param
    first = make(recipe_of(folder, 2, rows)).manifest
    store = Store(str(folder / "out"))
    before = {build: states(store, build) for build in first.builds}
    recipe = recipe_of(folder, 3, rows)
    said = plan_recipe(recipe, INLINE, lambda *_: None).stages_there
    return folder, rows, Grown(store, first, before, said, make(recipe))


def test_earlier_stages_stay_as_they_are_and_are_named_again(grown: tuple[Path, str, Grown]) -> None:
    _, _, found = grown
    manifest = found.built.manifest
    assert found.said == "stages 1 and 2 are there already; only stages 3 and 4 are written"
    assert manifest.reused["write"] == found.said
    assert manifest.builds[:2] == found.first.builds
    assert len({*manifest.builds}) == 3
    assert {build: states(found.store, build) for build in found.first.builds} == found.before
    earlier, all_ = ([*read_shards(found.store, m)] for m in (found.first, manifest))
    held_out = found.first.shard_counts["validation"]
    assert all_[: found.first.shard_count] == earlier[: found.first.shard_count]
    assert all_[-held_out:] == earlier[-held_out:]
    assert found.built.written == len(all_) - len(earlier) == sum(stage.shards for stage in manifest.stages[2:]) > 2
    for proved in (found.first, manifest):
        assert verify_version(found.store, proved).problems == ()


def test_the_whole_is_what_one_build_of_all_stages_gives(grown: tuple[Path, str, Grown]) -> None:
    folder, rows, found = grown
    at_once = make(recipe_of(folder, 3, rows, out="at-once")).manifest
    manifest = found.built.manifest
    assert (at_once.plan_digest, at_once.digest, at_once.content_digest) == (
        manifest.plan_digest, manifest.digest, manifest.content_digest
    )  # fmt: skip
    assert (at_once.stages, at_once.domains) == (manifest.stages, manifest.domains)
    shares = [{**stage, "share": share} for stage, share in zip(STAGES, (0.5, 0.3, 0.2), strict=True)]
    for stage in shares:
        del stage["budget"]
    together = make(recipe_of(folder, 3, rows, out="together", mix={"budget": 400_000, "stages": shares})).manifest
    assert len(together.builds) == 1
    assert together.content_digest == manifest.content_digest, "the rows of all shards, in order"
    assert together.domains == manifest.domains


def test_names_of_files_go_on_through_the_folders(grown: tuple[Path, str, Grown]) -> None:
    """So the files of all folders can be put in one, and be read there in the order of their names."""
    _, _, found = grown
    manifest = found.built.manifest
    paths = list_paths(found.store, manifest)
    names = [path.rpartition("/")[2] for path in paths]
    assert names == sorted(names)
    assert len({*names}) == manifest.shard_count
    loaded = load_version(found.store.url)
    assert [Path(folder).parent.name for folder in loaded.paths("parquet")] == [Path(b).name for b in manifest.builds]
    with pytest.raises(InputError, match=r"lies in 3 folders, as stages were added to it; read those of `paths\('mds'\)`"):
        loaded.path("mds")
    epochs: dict[str, list[int]] = {name: [] for name in manifest.domains}
    for folder in loaded.paths("parquet"):
        for file in sorted(Path(folder.removeprefix("file://")).glob("train-*.parquet")):
            for row in pq.ParquetFile(file).read(["domain", "epoch"]).to_pylist():
                epochs[row["domain"]].append(row["epoch"])
    assert all(of == sorted(of) for of in epochs.values()), "one account of epochs through all folders"


def test_gc_keeps_what_a_version_names_whoever_wrote_it(tmp_path: Path) -> None:
    first = make(recipe_of(tmp_path, 2))
    second = make(recipe_of(tmp_path, 3))
    store = Store(str(tmp_path / "out"))
    delete_version(store, first.version, CREATED)
    remove_garbage(store, caches=True)
    assert list_versions(store) == (second.version,)
    assert verify_version(store, second.manifest).problems == ()
    delete_version(store, second.version, CREATED)
    gone = remove_garbage(store)
    assert {f"builds/{path.split('/')[1]}" for path, (kind, _) in gone.files.items() if kind == "builds"} == {
        *second.manifest.builds
    }


def test_a_stage_is_added_to_a_build_without_stages_and_to_one_of_shares(tmp_path: Path) -> None:
    """The recipe says of the stages before what it said: a budget, and their shares of it."""
    plain = make(recipe_of(tmp_path, 0, mix={"budget": 200_000, "stages": []})).manifest
    added = make(recipe_of(tmp_path, 2)).manifest
    assert (plain.build, added.build) == (added.build, plain.build)
    shares = [{"share": 0.75}, {**STAGES[1], "share": 0.25}]
    del shares[1]["budget"]
    staged = make(recipe_of(tmp_path, 0, mix={"budget": 320_000, "stages": shares})).manifest
    more = make(recipe_of(tmp_path, 0, mix={"budget": 320_000, "stages": [*shares, STAGES[2]]})).manifest
    assert len(more.builds) == 2
    assert more.build == staged.build
    assert more.budget == 400_000
    store = Store(str(tmp_path / "out"))
    assert verify_version(store, more).problems == ()
    found = diff_versions((store, staged), (store, more))
    assert found.shards.shared == sum(staged.shard_counts.values())
    assert [before is None for before, _ in (stage["legal"] for stage in found.stages)] == [False, False, True, True]


def test_another_weight_of_an_earlier_stage_writes_all_anew(tmp_path: Path) -> None:
    first = make(recipe_of(tmp_path, 2)).manifest
    changed = recipe_of(tmp_path, 3, weights={"from": "weights.json", "cap": {"legal": 0.4}})
    assert plan_recipe(changed, INLINE, lambda *_: None).stages_there == ""
    assert {*first.builds}.isdisjoint(make(changed).manifest.builds)


@pytest.mark.parametrize("broken", ["domain_ids.json", "mds/index.json"])
def test_verify_reads_what_lies_beside_the_shards_of_each_folder(tmp_path: Path, broken: str) -> None:
    manifest = make(recipe_of(tmp_path, 2)).manifest
    store, added = Store(str(tmp_path / "out")), manifest.builds[1]
    (tmp_path / "out" / added / "parquet" / "stranger").write_bytes(b"")
    (tmp_path / "out" / added / broken).write_bytes(b"{}")
    problems = verify_version(store, manifest).problems
    assert any(p.startswith(f"{added}/{broken}: does not say") for p in problems)
    assert f"{added}/parquet/stranger: this file is not part of this version" in problems


def test_a_manifest_that_names_another_folder_is_caught(tmp_path: Path) -> None:
    manifest = make(recipe_of(tmp_path, 2)).manifest
    store = Store(str(tmp_path / "out"))
    found = verify_version(store, forge(store, manifest, lambda plain: plain["stages"][1].update(build=None)))
    assert "the seed, the writer and the counts of the domains are not those of 'plan_digest'" in found.problems
    with pytest.raises(InputError, match="'stages' name a folder twice"):
        forge(store, manifest, lambda plain: plain["stages"][1].update(build=plain["build"]))


def test_a_driver_names_all_folders_that_it_uses(tmp_path: Path) -> None:
    """So gc spares the earlier ones too, while the version that named them is deleted."""
    make(recipe_of(tmp_path, 2))
    store, named = Store(str(tmp_path / "out")), set[tuple[str, ...]]()

    def look(name: str, *_: int) -> None:
        if name in ("write", "commit"):
            (path,) = store.list(ACTIVE)
            record = read_active_record(store, path)
            assert record is not None
            named.add(record.plans)

    built = build_recipe(recipe_of(tmp_path, 3), INLINE, look, CREATED)
    assert named == {tuple(build.removeprefix("builds/") for build in built.manifest.builds)}


def test_views_name_the_shards_of_all_folders(tmp_path: Path) -> None:
    built = make(recipe_of(tmp_path, 3, mix={"stages": list(STAGES[:2])}))
    store, manifest = Store(str(tmp_path / "out")), built.manifest
    paths = list_paths(store, manifest)
    (train,) = (s for s in json.loads(croissant(store, manifest, built.version))["distribution"] if s["@id"] == "train-files")
    found = [path.relative_to(tmp_path / "out") for pattern in train["includes"] for path in (tmp_path / "out").glob(pattern)]
    assert sorted(map(str, found)) == sorted(paths)
    write_catalogue(store)
    page = (tmp_path / "out/index.html").read_text()
    assert all(f'href="{build}/parquet/"' in page for build in manifest.builds)
    texts = read_split(store, manifest, "train", dict.fromkeys(manifest.domains, 10**9))
    assert sum(map(len, texts.values())) == sum(d.rows_written_once for d in manifest.domains.values())


def test_tables_name_the_shards_of_all_folders(tmp_path: Path) -> None:
    import deltalake

    built = make(recipe_of(tmp_path, 2))
    store = Store(str(tmp_path / "out"))
    found = register_delta(store, built.manifest, built.version)
    paths = {path for path in list_paths(store, built.manifest) if "/parquet/train-" in path}
    assert {uri.split("/out/")[1] for uri in deltalake.DeltaTable(found.table).file_uris()} == paths
    assert {path.rpartition("/parquet/")[0] for path in paths} == {*built.manifest.builds}
    iceberg = register_iceberg(store, built.manifest, built.version)
    assert (iceberg.files, iceberg.rows) == (found.files, found.rows)
    assert found.rows == sum(d.rows for d in built.manifest.domains.values())
