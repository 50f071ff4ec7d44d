"""What a recipe names is looked for before anything runs, and all that is missing is told at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from chameleon_data.corpus.file_counts import SharedFiles, describe_files
from chameleon_data.corpus.fragments import list_fragments
from chameleon_data.corpus.readers.first_rows import ENOUGH_ROWS, check_columns
from chameleon_data.errors import InputError
from chameleon_data.pipelines.build import build_recipe, plan_recipe, weigh_recipe
from chameleon_data.pipelines.prepare import count_shared
from chameleon_data.recipe import Recipe, Source
from chameleon_data.recipe_file import check_recipe

ROWS = [{"text": f"text {i}", "id": i, "url": "x"} for i in range(2 * ENOUGH_ROWS)]


class NoEngine:
    """Nothing may run on it."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the engine's {name} was used")


def write_corpus(folder: Path) -> None:
    (folder / "good").mkdir(parents=True)
    (folder / "good/a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "good/b.parquet")
    feather.write_feather(pa.Table.from_pylist(ROWS), folder / "good/c.feather")
    (folder / "good/d.csv").write_text("text,id,url\n" + "a,1,x\n" * 30)
    (folder / "good/e.tsv").write_text("text\tid\turl\n" + "a\t1\tx\n" * 30)


def recipe_of(tmp_path: Path, **sections: Any) -> Recipe:
    write_corpus(tmp_path / "corpus")
    plain = {"name": "x", "out": "out", "sources": dict.fromkeys(("one", "two", "three"), "corpus/good"), **sections}
    return check_recipe(plain, tmp_path)


def faults_of(recipe: Recipe) -> list[str]:
    """The lines of the message with which each verb refuses it."""
    with pytest.raises(InputError) as build:
        build_recipe(recipe, NoEngine(), lambda *_: None, "now")
    for passes in (weigh_recipe, plan_recipe):
        with pytest.raises(InputError) as refusal:
            passes(recipe, NoEngine(), lambda *_: None)
        assert str(refusal.value) == str(build.value)
    return str(build.value).splitlines()


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    sources = {
        "one": "corpus/goood",
        "two": {"path": "corpus/good/b.parquet", "text": "content"},
        "three": {"path": "corpus/good/a.jsonl", "text": "body"},
        "four": {"path": "corpus/good/d.csv", "text": "text", "domain": None, "id": "key"},
        "five": "corpus/*.jsonl.zst",
        "six": "corpus/good",
    }
    sections = {
        "sources": sources,
        "tokens": {"tokenizer": "./no-tokenizer"},
        "embed": {"model": "./no-model"},
        "weights": {"floor": {"oen": 0.1}, "prior": {"sixx": 2}, "compare": ["weights.json", "elsewhere@v3"],
                    "groups": {"g": {"domains": ["seven"]}}},
    }  # fmt: skip
    told = faults_of(recipe_of(tmp_path, **sections))
    for line, says in zip(
        told,
        [
            "tokens.tokenizer: there is no file or folder",
            "sources.one: ",
            "sources.five: ",
            "sources.two: ",
            "sources.three: ",
            "sources.four: ",
            "weights.compare: ",
            "weights.compare: ",
            "weights.floor of 'oen': there is no such domain; did you mean 'one'?",
            "weights.prior of 'sixx': there is no such domain; did you mean 'six'?",
            "weights.group of 'seven': there is no such domain",
            "embed.model: there is no folder",
        ],
        strict=True,
    ):
        assert line.startswith(says)
    assert "did you mean" in told[1]
    assert "no column 'content' for the text; there are text, id, url" in told[3]
    assert f"none of its first {2 * ENOUGH_ROWS} rows has the key 'body' for the text; they have id, text, url" in told[4]
    assert "no column 'key' for the id; there are text, id, url" in told[5]


def test_an_out_that_cannot_be_made_is_told_beside_the_rest(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told = faults_of(recipe_of(tmp_path, out="file/out", embed={"model": "./no-model"}))
    assert told[0].startswith(f"out: {tmp_path}/file/out: a file stands where a folder is needed")
    assert told[1].startswith("embed.model: there is no folder")


def test_weights_that_are_given_need_no_model(tmp_path: Path) -> None:
    told = faults_of(recipe_of(tmp_path, embed={"model": "./no-model"}, weights={"from": "weights.json"}))
    assert len(told) == 1
    assert told[0].startswith("weights.from: ")


@pytest.mark.parametrize("name", ["a.jsonl", "b.parquet", "c.feather", "d.csv", "e.tsv"])
@pytest.mark.parametrize(("key", "role"), [({"text": "tex"}, "text"), ({"domain": "dom"}, "domain"), ({"id": "key"}, "id")])
def test_a_column_that_is_missing_is_found_in_every_format(tmp_path: Path, name: str, key: dict[str, str], role: str) -> None:
    write_corpus(tmp_path)
    path = (str(tmp_path / "good" / name),)
    (fragment,) = list_fragments("s", Source(path=path)).fragments
    check_columns(fragment, Source(path=path), None)
    with pytest.raises(InputError, match=f"'{next(iter(key.values()))}' for the {role}; (there are|they have) "):
        check_columns(fragment, Source(path=path, **key), None)


@pytest.mark.parametrize(
    "rows",
    [
        ['{"no": 1}'] * (ENOUGH_ROWS - 1),
        ['{"no": 1}'] * ENOUGH_ROWS + ['{"text": "a"}'],
        ["broken"] * ENOUGH_ROWS,
        ['[{"no": 1}]'],
        ['{"text": null}'] * ENOUGH_ROWS,
    ],
)
def test_what_a_few_bad_rows_do_not_tell_is_left_to_the_survey(tmp_path: Path, rows: list[str]) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(rows) + "\n")
    path = (str(tmp_path / "a.jsonl"),)
    (fragment,) = list_fragments("s", Source(path=path)).fragments
    check_columns(fragment, Source(path=path), None)


def test_vectors_are_looked_for_in_the_files_that_can_hold_them(tmp_path: Path) -> None:
    told = faults_of(recipe_of(tmp_path, embed={"column": "vector"}))
    assert any("holds no column of vectors" in line for line in told)
    assert any("no column 'vector' for the vector" in line for line in told)


def test_a_file_that_two_sources_read_is_told_with_both_and_its_name(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, sources={"one": "corpus/good/*.jsonl", "two": "corpus/good/*.csv", "three": "corpus/link.jsonl"})
    (tmp_path / "corpus/link.jsonl").symlink_to(tmp_path / "corpus/good/a.jsonl")
    listings = {name: list_fragments(name, source) for name, source in recipe.sources.items()}
    files = count_shared(listings)
    assert [found.shared for found in files.values()] == [{}, {}, {"one": SharedFiles(1, f"{tmp_path}/corpus/link.jsonl")}]
    (said,) = describe_files(files)
    assert said.startswith(f"sources.three: reads 1 file that 'one' reads too ({tmp_path}/corpus/link.jsonl); ")
    twice = dict.fromkeys(("x", "y"), listings["one"])
    assert count_shared(twice)["y"].shared == {"x": SharedFiles(1, f"{tmp_path}/corpus/good/a.jsonl")}
