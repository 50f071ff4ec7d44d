"""A version as Croissant, read by mlcroissant, and as a card, read by `datasets`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import mlcroissant
import pytest
import yaml

from chameleon_data.store.store import Store
from chameleon_data.versions.shard_table import read_shards
from chameleon_data.versions.versions import list_versions, read_manifest
from chameleon_data.views import croissant as croissant_module
from chameleon_data.views.croissant import croissant
from chameleon_data.views.dataset_card import dataset_card
from tests.support.inline_builds import build, write_small_recipe

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of rdflib and pandas
TOLD = {"license": "CC-BY-4.0", "origin": "https://example.org/legal | texts"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with a validation split, one of whose sources says where it is from."""
    folder = tmp_path_factory.mktemp("made")
    mix = {"budget": 30_000, "max_epochs": 8, "validation": 0.3}
    recipe = write_small_recipe(folder, str(folder / "out"), name="a [mixture]_of\n| three", mix=mix)
    legal = recipe.sources["legal"].model_copy(update=TOLD)
    build(recipe.model_copy(update={"sources": {**recipe.sources, "legal": legal}}))
    return folder / "out"


@pytest.fixture
def opened(made: Path, tmp_path: Path) -> tuple[Path, Any, Any, Store]:
    shutil.copytree(made, tmp_path / "copy")
    store = Store(str(tmp_path / "copy"))
    (version,) = list_versions(store)
    return tmp_path / "copy", version, read_manifest(store, version), store


def test_croissant_gives_every_row_and_hash(opened: tuple[Path, Any, Any, Store]) -> None:
    folder, version, manifest, store = opened
    (folder / "croissant.json").write_text(croissant(store, manifest, version))
    dataset = mlcroissant.Dataset(jsonld=folder / "croissant.json")
    assert not dataset.metadata.issues.errors
    assert croissant_module.CONFORMS_TO in json.dumps(dataset.metadata.to_json(), default=str)
    assert dataset.metadata.license == ["CC-BY-4.0"]
    for split, records in (("train", manifest.domains), ("validation", manifest.validation)):
        rows = list(dataset.records(split))
        assert len(rows) == sum(record.rows for record in records.values()) > 0
        assert sum(row[f"{split}/tokens"] for row in rows) == sum(record.tokens for record in records.values())
        assert {row[f"{split}/domain"].decode() for row in rows} == set(records)
        assert sum(len(row[f"{split}/text"]) for row in rows) == sum(record.tokens for record in records.values())
    hashes = {file.path: file.sha256 for shard in read_shards(store, manifest) for file in shard.of_format("parquet")}
    assert {item.content_url: item.sha256 for item in dataset.metadata.file_objects} == hashes


def test_mlcroissant_refuses_another_document(opened: tuple[Path, Any, Any, Store]) -> None:
    folder, version, manifest, store = opened
    document = json.loads(croissant(store, manifest, version))
    document["recordSet"][0]["field"][0]["source"]["fileSet"]["@id"] = "nothing"
    (folder / "croissant.json").write_text(json.dumps(document))
    with pytest.raises(mlcroissant.ValidationError):
        mlcroissant.Dataset(jsonld=folder / "croissant.json")


def test_datasets_opens_a_build_by_its_card(opened: tuple[Path, Any, Any, Store]) -> None:
    from datasets import load_dataset

    folder, version, manifest, _ = opened
    repository = folder / manifest.build
    (repository / "README.md").write_text(dataset_card(manifest, version))
    loaded = load_dataset(str(repository), cache_dir=str(folder / "cache"))
    rows = {split: loaded[split].num_rows for split in loaded}
    assert rows == {
        "train": sum(d.rows for d in manifest.domains.values()), "validation": sum(d.rows for d in manifest.validation.values()),
    }  # fmt: skip


def test_the_card_says_what_the_manifest_knows(opened: tuple[Path, Any, Any, Store]) -> None:
    _, version, manifest, _ = opened
    text = dataset_card(manifest, version)
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front)["license"] == "other"  # two sources say nothing
    tables = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in body.splitlines() if line.startswith("| ")]
    domains = {row[0]: row[1:] for row in tables if len(row) == 5 and row[0] in manifest.domains}
    assert domains.keys() == manifest.domains.keys()
    for name, (share, tokens, rows, _) in domains.items():
        record = manifest.domains[name]
        assert (share, tokens, rows) == (f"{record.weight:.4f}", f"{record.tokens:,}", f"{record.rows:,}")
    sources = {row[0]: row[1:3] for row in tables if len(row) == 4}
    assert sources["legal"] == [r"https://example.org/legal \| texts", "CC-BY-4.0"]
    assert sources["book"] == ["not given", "not given"]
    assert r"# a \[mixture\]\_of \| three" in body
    assert manifest.digest in body
    for path in (manifest.recipe.out, *manifest.recipe.sources["book"].path):
        assert path not in text  # a card is for strangers


def test_licence_and_origin_change_no_byte(opened: tuple[Path, Any, Any, Store], tmp_path: Path) -> None:
    _, _, manifest, _ = opened
    mix = manifest.recipe.mix.model_dump()
    plain = build(write_small_recipe(tmp_path, str(tmp_path / "out"), name="other", mix=mix))
    assert plain.recipe.sources["legal"].license is None
    assert (plain.plan_digest, plain.digest) == (manifest.plan_digest, manifest.digest)
