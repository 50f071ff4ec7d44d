"""The documentation as a site: it builds without a warning or the network, and its references are those of the code."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from chameleon_data.jobs.cli import app
from chameleon_data.recipe import recipe_schema
from chameleon_data.versions.manifest import manifest_schema
from tests.support.paths import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site, as `make docs` makes it."""
    folder = tmp_path_factory.mktemp("site")
    line = next(line for line in (ROOT / "Makefile").read_text().splitlines() if "-m sphinx" in line)
    options = line.partition("-m sphinx ")[2].removesuffix(" . build/docs").split()
    command = [sys.executable, "-m", "sphinx", *options, "-d", folder / "trees", ".", folder / "html"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "html"


def read(page: Path) -> str:
    """The text of a page."""
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")))


def test_every_page_of_the_repository_is_in_the_site(site: Path) -> None:
    pages = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "jobs").rglob("*.md"), ROOT / "README.md", ROOT / "ARCHITECTURE.md"]
    assert [page for page in pages if not (site / page.relative_to(ROOT)).with_suffix(".html").is_file()] == []
    assert (site / "index.html").is_file()


def test_pages_load_nothing_from_the_network(site: Path) -> None:
    loaded = r"""<(?:link|script|img|iframe)\b[^>]*(?:src|href)=["'](?:https?:)?//[^"']+"""
    assert [found for page in site.rglob("*.html") for found in re.findall(loaded, page.read_text(encoding="utf-8"))] == []


def test_the_recipe_page_shows_every_key_with_its_meaning(site: Path) -> None:
    text = " ".join(read(site / "docs/reference/recipe.html").split())
    schema = recipe_schema()
    records = [schema, *schema["$defs"].values()]
    fields = {name: field for record in records for name, field in record["properties"].items()}
    assert len(fields) > 60
    for name, field in fields.items():
        if "$ref" not in field:
            assert name in text
            assert field["description"].replace("`", "") in text
    assert (
        "Uncompressed bytes of text (or token ids) in one shard, about. whole number above 0 or number with a unit; default 64MiB"
        in text
    )


def test_the_manifest_page_shows_every_field(site: Path) -> None:
    text = read(site / "docs/reference/manifest.html")
    schema = manifest_schema()
    of_recipe = {"Recipe", *recipe_schema()["$defs"]}
    records = [schema, *(record for name, record in schema["$defs"].items() if name not in of_recipe and "properties" in record)]
    assert len(records) > 10
    assert {name for record in records for name in record["properties"] if name not in text} == set()


def test_the_command_page_shows_every_verb_with_its_options(site: Path) -> None:
    text = read(site / "docs/reference/command.html")
    verbs = typer.main.get_command(app).commands
    assert len(verbs) > 12
    for name, verb in verbs.items():
        part = re.split(rf"chameleon-data {name}\b", text)[1]
        assert {option for parameter in verb.params for option in parameter.opts if option.startswith("--")} - {"--help"} <= set(
            re.findall(r"--[a-z-]+", part)
        )


def test_the_search_index_finds_pages(site: Path) -> None:
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    names = json.loads(index.removeprefix("Search.setIndex(").removesuffix(")"))["docnames"]
    assert {"docs/weights", "docs/reference/recipe", "ARCHITECTURE"} <= set(names)
