"""The hub as a source and as a place to publish, by the command and a stand-in server on 127.0.0.1."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from chameleon_data.corpus.hub_revisions import pin_sources, refuse_moving
from chameleon_data.errors import InputError
from chameleon_data.recipe import Source
from chameleon_data.store.store import Store
from chameleon_data.versions.references import resolve_version
from chameleon_data.versions.shard_table import read_shards
from chameleon_data.versions.versions import read_manifest
from tests.support.corpus import documents
from tests.support.hub_server import Files, Hub, HubRepository, serve_hub
from tests.support.paths import ROOT


def lines(texts: list[str]) -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


def legal(last: int = 40) -> Files:
    """A dataset: a card, and texts in two files."""
    texts = documents()["legal"]
    return {"README.md": b"# Statutes\n", "data/0.jsonl": lines(texts[:20]), "data/1.jsonl": lines(texts[20:last])}


@pytest.fixture
def hub() -> Iterator[Hub]:
    """The stand-in, with two datasets."""
    with serve_hub() as served:
        served.repositories |= {"lab/legal": HubRepository(), "lab/book": HubRepository()}
        served.repositories["lab/legal"].commit(legal())
        served.repositories["lab/book"].commit({"a/book.jsonl": lines(documents()["book"]), "b/other.jsonl": lines(["no"])})
        yield served


def run(hub: Hub, *arguments: str, code: int = 0, **environment: str) -> dict[str, Any]:
    """What a command prints as JSON."""
    command = [sys.executable, "-m", "chameleon_data.jobs.start", *arguments, "--json"]
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=200, env={**kept, **hub.environment(), **environment}
    )
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def write_recipe(folder: Path, **changes: Any) -> Path:
    (folder / "weights.json").write_text('{"legal": 0.4, "book": 0.6}')
    recipe = {
        "name": "from the hub", "out": str(folder / "out"),
        "sources": {"legal": "hf://datasets/lab/legal@main/**", "book": "hf://datasets/lab/book/a/*.jsonl"},
        "weights": {"from": str(folder / "weights.json")}, "mix": {"budget": 30_000},
        "shards": {"formats": ["parquet"]}, **changes,
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    return folder / "recipe.yaml"


def test_a_branch_is_read_at_one_commit_which_is_told_and_read_again(hub: Hub, tmp_path: Path) -> None:
    repository = hub.repositories["lab/legal"]
    first, of_book = repository.branches["main"], hub.repositories["lab/book"].branches["main"]
    built = run(hub, "build", str(write_recipe(tmp_path)))
    assert built["recipe"]["sources"]["legal"]["path"] == [f"hf://datasets/lab/legal@{first}"]
    assert built["recipe"]["sources"]["book"]["path"] == [f"hf://datasets/lab/book@{of_book}/a/*.jsonl"]
    files = built["provenance"]["files"]["legal"]
    assert (files["commits"], files["read"], files["left_out"]) == (
        {"lab/legal@main": first},
        {"jsonl": 2},
        {"a note beside the data": 1},
    )
    assert built["domains"]["legal"]["rows_read"] == 40
    second = repository.commit(legal(last=30))  # the branch moves
    run(hub, "verify", f"{tmp_path}/out@v1", "--corpus")
    again = run(hub, "build", str(write_recipe(tmp_path)))
    assert again["version"] == "v2"
    assert again["provenance"]["files"]["legal"]["commits"] == {"lab/legal@main": second}
    assert again["domains"]["legal"]["rows_read"] == 30


@pytest.mark.parametrize(
    ("path", "constants", "message"),
    [
        ("hf://datasets/lab/nothing/**", {}, "no such dataset on the hub"),
        ("hf://datasets/lab/legal@v9/**", {}, "has no such revision"),
        ("hf://lab/legal/**", {}, "is not a dataset of the hub; write hf://datasets/ORG/NAME@REVISION/"),
        ("hf://datasets/lab/legal/**", {"HF_HUB_OFFLINE": True}, "HF_HUB_OFFLINE forbids"),
        ("hf://datasets/lab/legal/**", {"ENDPOINT": "http://127.0.0.1:9"}, "the hub is out of reach"),
    ],
)
def test_what_the_hub_does_not_have_is_told(
    hub: Hub, path: str, constants: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"ENDPOINT": hub.url, "HF_HUB_OFFLINE": False, **constants}.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    huggingface_hub.close_session()
    with pytest.raises(InputError, match=re.escape(message)):
        pin_sources({"legal": Source(path=(path,))})
    huggingface_hub.close_session()


def test_a_target_names_its_commit() -> None:
    refuse_moving((f"hf://datasets/lab/legal@{'0' * 40}/data/*.jsonl", "/data/*.jsonl"), "weights.target")
    with pytest.raises(InputError, match="names a branch or tag, which may move; name the commit"):
        refuse_moving(("hf://datasets/lab/legal/data/*.jsonl",), "weights.target")


def load_by_datasets(hub: Hub, folder: Path) -> list[Any]:
    """Rows, tokens and domains of what was pushed as v1, as `load_dataset` reads it."""
    script = (
        "import datasets, json; d = datasets.load_dataset('lab/mixture', revision='v1', split='train'); "
        "print(json.dumps([len(d), sum(d['tokens']), sorted(set(d['domain']))]))"
    )
    environment = {**os.environ, **hub.environment(), "HF_HOME": str(folder / "home")}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout)
    return found


def test_a_version_is_one_commit_with_its_card_and_a_tag(hub: Hub, tmp_path: Path) -> None:
    """The shards of all its folders are in one there."""
    run(hub, "build", str(write_recipe(tmp_path, mix={"stages": [{"budget": 20_000}, {"budget": 10_000}]})))
    pushed = run(hub, "export", f"{tmp_path}/out@v1", "hub", "lab/mixture")
    repository, store = hub.repositories["lab/mixture"], Store(str(tmp_path / "out"))
    assert repository.private
    assert len(repository.commits) == 2  # the one that makes the dataset, and the version
    assert repository.tags == {"v1": pushed["commit"]}
    manifest = read_manifest(store, resolve_version(store, "v1"))
    assert len(manifest.builds) == 2
    shards = {
        file.path.split("/", 2)[2]: store.read(file.path)  # behind builds/DIGEST/
        for s in read_shards(store, manifest)
        for file in s.files
    }
    held = dict(repository.commits[pushed["commit"]])
    assert manifest.content_digest.encode() in held.pop("README.md")
    del held[".gitattributes"]
    assert held == shards
    assert load_by_datasets(hub, tmp_path) == [
        sum(d.rows for d in manifest.domains.values()), sum(d.tokens for d in manifest.domains.values()), ["book", "legal"],
    ]  # fmt: skip
    uploads = hub.asked["upload"]
    assert run(hub, "export", f"{tmp_path}/out@v1", "hub", "lab/mixture")["files"] == 0
    assert (hub.asked["upload"], len(repository.commits)) == (uploads, 2)

    repository.commit(
        {**repository.commits[pushed["commit"]], "parquet/train-00099-of-00100.parquet": b"stale", "notes.txt": b"mine"}
    )
    run(hub, "build", str(write_recipe(tmp_path, seed=7)))
    later = run(hub, "export", f"{tmp_path}/out@v2", "hub", "lab/mixture")
    assert repository.tags == {"v1": pushed["commit"], "v2": later["commit"]}
    assert "parquet/train-00099-of-00100.parquet" not in repository.commits[later["commit"]]
    assert repository.commits[later["commit"]]["notes.txt"] == b"mine"
    repository.tags["v1"] = later["commit"]
    said = run(hub, "export", f"{tmp_path}/out@v1", "hub", "lab/mixture", code=2)
    assert "the tag v1 of lab/mixture is another version" in said["error"]
    assert "names the dataset that is pushed to" in run(hub, "export", f"{tmp_path}/out@v1", "hub", code=2)["error"]
