"""The command `export`, and tables in a bucket."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from chameleon_data.store.store import Store
from chameleon_data.versions.versions import list_versions
from chameleon_data.views.trainer_files import TRAINER_WRITERS, Blend, blend_of_version
from tests.support.exports import build_two_versions, open_version
from tests.support.paths import ROOT


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, Blend]:
    """A folder with a dataset, and the mixture of a recipe that was not built."""
    folder = tmp_path_factory.mktemp("export #1")
    return folder, build_two_versions(folder)


@pytest.fixture
def built(made: tuple[Path, Blend]) -> Path:
    return made[0]


@pytest.fixture
def copy(built, tmp_path) -> Store:
    shutil.copytree(built / "out", tmp_path / "out")
    return Store(str(tmp_path / "out"))


ODD = "/a #b?c ü"


@pytest.mark.parametrize(("form", "below"), [("delta", ""), ("delta", ODD), ("iceberg", ODD)])
def test_a_table_in_a_bucket(built: Path, s3_store: Store, form: str, below: str) -> None:
    """In a process of its own: deltalake waits for the server with the lock that the server's threads want."""
    original, s3_store = Store(str(built / "out")), Store(f"{s3_store.url}{below}")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda path: s3_store.write_new(path, original.read(path)), original.list()))
    code = f"from tests.support.table_readers import check_table; check_table({s3_store.url!r}, {form!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_the_command_registers_and_points(command, copy: Store, tmp_path: Path) -> None:
    code, out, _ = command("export", f"{copy.url}@v1", "delta")
    assert (code, "registered where they lie" in out) == (0, True)
    code, out, _ = command("export", copy.url, "iceberg", "--json")
    assert (code, json.loads(out)["version"], json.loads(out)["new"]) == (0, "v2", True)
    code, out, _ = command("export", f"{copy.url}@v2", "olmo")
    assert (code, len(yaml.safe_load(out)["sources"])) == (0, 4)
    assert f"{copy.url}/exports/olmo/book/" in out
    code, out, _ = command("export", copy.url, "megatron", "--data", "/data/", "--to", str(tmp_path / "blend.txt"))
    assert (code, out.strip()) == (0, str(tmp_path / "blend.txt"))
    assert " /data/book_text_document" in (tmp_path / "blend.txt").read_text()
    code, _, err = command("export", copy.url, "megatron", "--to", str(tmp_path))
    assert (code, "choose another place with --to" in err) == (2, True)
    code, _, err = command("export", f"{copy.url}@v9", "delta")
    assert (code, "no version 'v9'" in err) == (2, True)
    code, _, err = command("export", str(tmp_path / "r.yaml"), "delta")
    assert (code, "build it first" in err) == (2, True)


def test_a_recipe_that_was_never_built_is_weighed(made: tuple[Path, Blend]) -> None:
    folder, weighed = made
    store = Store(str(folder / "out"))
    recorded = blend_of_version(weighed.title, store, open_version(store, 2)[0])
    assert [write(weighed, "/data") for write in TRAINER_WRITERS.values()] == [
        write(recorded, "/data") for write in TRAINER_WRITERS.values()
    ]
    assert weighed.title == "recipe ways: out"
    assert not list_versions(Store(str(folder / "other")))
