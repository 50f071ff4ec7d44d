"""Any terminal, or none: no answer is a traceback, and the exit code says how the work ended, not who read of it."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TextIO

import pytest
import typer

from chameleon_data.jobs import cli
from chameleon_data.jobs.cli import main
from chameleon_data.jobs.engine_options import EngineOptions
from chameleon_data.recipe import Recipe
from tests.support.inline_builds import INLINE, build, write_small_recipe
from tests.support.vector_corpora import corpus
from tests.support.vector_corpora import recipe as write_vector_recipe

WORDS = {
    "init": ["FOLDER", "--to", "NEW"],
    "weights": ["RECIPE"],
    "domains": ["DISCOVERING"],
    "plan": ["RECIPE"],
    "build": ["RECIPE"],
    "versions": ["OUT"],
    "show": ["OUT"],
    "path": ["OUT", "mds"],
    "diff": ["OUT@1", "OUT@1"],
    "verify": ["OUT"],
    "tag": ["OUT@1", "prod"],
    "tags": ["OUT"],
    "delete": ["OUT@1"],
    "gc": ["OUT"],
    "report": ["OUT", "--trust"],
    "export": ["OUT", "mosaicml"],
    "evaluate": ["OUT"],
    "schema": ["recipe"],
}
"""Verb -> arguments with which it is called."""


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """A recipe whose name no code page has, and its first version."""
    mix = {"budget": 30_000, "max_epochs": 8, "validation": 0.3}  # what is held out is what `evaluate` judges by
    recipe = write_small_recipe(tmp_path_factory.mktemp("built"), "out", name="日本 ✓", mix=mix)
    build(recipe)
    return recipe


@pytest.fixture
def words(original: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Verb -> its words, for a copy of that dataset; the engine is a loop."""
    shutil.copytree(Path(original.out).parent, tmp_path / "copy")
    monkeypatch.setattr(EngineOptions, "start", lambda *_: nullcontext((INLINE, lambda *_: None)))
    places = {
        "FOLDER": tmp_path / "copy/corpus", "NEW": tmp_path / "new.yaml", "RECIPE": tmp_path / "copy/recipe.yaml",
        "OUT": tmp_path / "copy/out", "DISCOVERING": tmp_path / "discovering/recipe.yaml",
    }  # fmt: skip
    corpus(tmp_path / "discovering/in", "ab")
    write_vector_recipe(tmp_path / "discovering", {"column": "vector"}, "ab", domains={"discover": {"clusters": 2}})

    def place(word: str) -> str:
        name, at, version = word.partition("@")
        return f"{places[name]}{at}{version}" if name in places else word

    return {verb: [verb, *map(place, given)] for verb, given in WORDS.items()}


def run(words: list[str], stdout: Any, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["chameleon-data", *words])
    monkeypatch.setattr(sys, "stdout", stdout)
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


@pytest.fixture
def closed_pipe() -> Iterator[TextIO]:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as pipe:
        yield pipe


def test_every_verb_is_tried() -> None:
    assert {command.name for command in typer.main.get_command(cli.app).commands.values()} == WORDS.keys()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
@pytest.mark.parametrize("verb", WORDS)
def test_a_terminal_that_lacks_characters_gets_others(words, monkeypatch, verb, encoding):
    written = io.BytesIO()
    stdout = io.TextIOWrapper(written, encoding=encoding)
    assert run(words[verb], stdout, monkeypatch) == 0
    stdout.flush()
    text = written.getvalue().decode(encoding)
    assert "Traceback" not in text
    if verb == "verify":
        assert "ok every check holds" in text
    if verb == "versions":
        assert r"\u65e5\u672c ok" in text


@pytest.mark.parametrize("more", [[], ["--json"], ["--help"]])
@pytest.mark.parametrize("verb", WORDS)
def test_an_answer_that_nobody_reads_changes_no_exit_code(words, closed_pipe, monkeypatch, verb, more):
    assert run([*words[verb], *more], closed_pipe, monkeypatch) == 0


@pytest.mark.parametrize("verb", WORDS)
def test_what_nobody_read_is_not_written_later(words, closed_pipe, monkeypatch, verb):
    assert run(words[verb], closed_pipe, monkeypatch) == 0
    with open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123
        run(words[verb], full, monkeypatch)
    written = io.StringIO()
    assert run(["--version"], written, monkeypatch) == 0
    assert written.getvalue().startswith("chameleon-data ")


def test_a_check_that_fails_before_nobodys_eyes_fails(words, closed_pipe, monkeypatch):
    shard = next((Path(words["verify"][1]) / "builds").rglob("parquet/*.parquet"))
    shard.chmod(0o644)
    shard.write_bytes(b"damaged")
    assert run(words["verify"], closed_pipe, monkeypatch) == 1


@pytest.mark.parametrize("verb", WORDS)
def test_no_terminal_at_all(words, monkeypatch, verb):
    monkeypatch.setattr(sys, "stderr", None)
    assert run(words[verb], None, monkeypatch) == 0
    sys.stdout.close()
    sys.stderr.close()


def test_a_full_disk_behind_stdout_is_told(words, monkeypatch, capsys):
    with open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123
        assert run(words["show"], full, monkeypatch) == 2
    assert "the disk is full" in capsys.readouterr().err
