"""What `init` makes of a folder that nobody described: which files belong together, which columns hold text and domain."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chameleon_data.corpus.propose import Proposal, propose_sources
from chameleon_data.errors import InputError
from chameleon_data.jobs.init import write_first_recipe
from chameleon_data.recipe_file import load_recipe

LONG = "a sentence about matter that is long enough to be taken for a document of its own. " * 3


def write(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def rows(number: int = 8, **more: Any) -> list[dict[str, Any]]:
    return [{"text": f"{i} {LONG}", **more} for i in range(number)]


def look(folder: Path) -> Proposal:
    return propose_sources(str(folder))


def inside(proposal: Proposal, root: Path) -> dict[str, list[str]]:
    return {s.name: [str(Path(path).relative_to(root)) for path in s.paths] for s in proposal.sources}


def test_each_folder_is_a_source(tmp_path: Path) -> None:
    write(tmp_path / "data/code/x.jsonl", rows())
    write(tmp_path / "data/web/en/y.jsonl", rows())
    found = look(tmp_path)
    assert inside(found, tmp_path) == {"code": ["data/code"], "web": ["data/web"]}
    assert [source.files for source in found.sources] == [1, 1]


def test_files_with_one_start_are_a_source(tmp_path: Path) -> None:
    for name in ("code-00000-of-00002", "code-00001-of-00002", "web_train.part-1", "web_train.part-2", "book"):
        write(tmp_path / f"{name}.jsonl", rows())
    assert inside(look(tmp_path), tmp_path) == {
        "book": ["book.jsonl"],
        "code": ["code*.jsonl"],
        "web_train": ["web_train*.jsonl"],
    }


def test_a_pattern_never_takes_the_files_of_another_source(tmp_path: Path) -> None:
    for name in ("code-1", "code-2", "codec-1", "codec-2", "code_x"):
        write(tmp_path / f"{name}.jsonl", rows())
    paths = {source.name: set(source.paths) for source in look(tmp_path).sources}
    found = {name: {str(f) for path in of for f in tmp_path.glob(Path(path).name)} for name, of in paths.items()}
    expected = {"code": ["code-1", "code-2"], "codec": ["codec-1", "codec-2"], "code_x": ["code_x"]}
    assert found == {name: {str(tmp_path / f"{file}.jsonl") for file in files} for name, files in expected.items()}


def test_shards_without_a_name_are_one_source_called_as_the_folder(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"pile/part-{number:05d}.jsonl", rows())
    assert inside(look(tmp_path), tmp_path) == {"pile": ["pile"]}


@pytest.mark.parametrize("name", ["{}/x.jsonl", "{}-00000-of-00001.jsonl"])
def test_held_out_text_is_left_out_and_told(tmp_path: Path, name: str) -> None:
    for split in ("train", "test", "validation"):
        write(tmp_path / "c4" / name.format(split), rows())
    found = look(tmp_path)
    assert [source.files for source in found.sources] == [1]
    assert sum(found.left_out.values()) == 2
    assert all("held-out" in reason for reason in found.left_out)
    assert "train" in found.sources[0].paths[0]


def test_folders_of_hive_are_one_source_with_their_key_as_domain(tmp_path: Path) -> None:
    for domain in ("book", "web"):
        write(tmp_path / f"all/source={domain}/x.jsonl", rows())
    (source,) = look(tmp_path).sources
    assert (source.name, source.domain, source.paths) == ("all", "source", (str(tmp_path / "all"),))


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"title": "x", "raw_content": LONG}, "raw_content"),
        ({"meta": {"text": "en"}, "story_of_it": LONG}, "story_of_it"),
        ({"text": LONG, "html": LONG * 5}, "text"),
        ({"document": {"body": LONG}, "id": "7"}, "document.body"),
    ],
)
def test_the_column_of_the_text(tmp_path: Path, row: dict[str, Any], text: str) -> None:
    write(tmp_path / "x.jsonl", [row] * 5)
    assert look(tmp_path).sources[0].text == text


def test_a_column_tells_domains_where_its_values_come_again(tmp_path: Path) -> None:
    mixed = [{"text": LONG, "meta": {"set_name": name}, "id": f"{name}{i}"} for i in range(9) for name in ("a", "b")]
    write(tmp_path / "x.jsonl", mixed)
    (source,) = look(tmp_path).sources
    assert (source.domain, source.id) == ("meta.set_name", "id")
    assert any("2 domains" in note and "a, b" in note for note in source.notes)
    write(tmp_path / "x.jsonl", [{"text": LONG, "source": f"https://{i}"} for i in range(9)])
    assert look(tmp_path).sources[0].domain is None


def test_a_source_among_others_tells_of_a_column_of_domains(tmp_path: Path) -> None:
    """The first rows of a sorted file are of one domain, so one value is enough to tell of it. URLs are of each row alone."""
    write(tmp_path / "crawl/x.jsonl", [{"text": LONG, "source": "wiki"}] * 9)
    write(tmp_path / "urls/x.jsonl", [{"text": LONG, "source": f"https://{i}"} for i in range(9)])
    write(tmp_path / "books/x.jsonl", [{"text": LONG}] * 9)
    notes = {source.name: source.notes for source in look(tmp_path).sources}
    told = "has a column 'source' (wiki, …); `domain: source` makes a domain of each of its values"
    assert notes == {"crawl": (told,), "urls": (), "books": ()}
    assert [source.domain for source in look(tmp_path).sources] == [None] * 3, "the domain of each is its own name"


def test_every_format_is_looked_into(tmp_path: Path) -> None:
    table = pa.table({"content": [LONG] * 4, "n": [1, 2, 3, 4]})
    for name in ("parquet", "arrow", "stream", "csv", "array", "packed", "text"):
        (tmp_path / name).mkdir()
    pq.write_table(table, tmp_path / "parquet/x.parquet")
    with pa.ipc.new_file(str(tmp_path / "arrow/x.arrow"), table.schema) as file:
        file.write_table(table)
    with pa.ipc.new_stream(str(tmp_path / "stream/x.arrow"), table.schema) as stream:
        stream.write_table(table)
    (tmp_path / "csv/x.csv").write_text(f'n,content\n1,"{LONG}"\n')
    (tmp_path / "array/x.json").write_text(json.dumps([{"content": LONG}] * 3, indent=1))
    (tmp_path / "packed/x.jsonl.gz").write_bytes(gzip.compress(json.dumps({"content": LONG}).encode()))
    (tmp_path / "text/x.txt").write_text(LONG)
    found = {source.name: (source.text, source.rows) for source in look(tmp_path).sources}
    assert found == {
        "array": ("content", 3), "arrow": ("content", 4), "csv": ("content", 1), "packed": ("content", 1),
        "parquet": ("content", 4), "stream": ("content", 4), "text": (None, 0),
    }  # fmt: skip


def test_what_is_doubtful_is_told(tmp_path: Path) -> None:
    write(tmp_path / "short/x.jsonl", [{"label": "yes"}] * 4)
    write(tmp_path / "none/x.jsonl", [{"n": 1}] * 4)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/x.parquet").write_bytes(b"PAR1 no footer")
    notes = {source.name: " ".join(source.notes) for source in look(tmp_path).sources}
    assert "are these documents?" in notes["short"]
    assert "no column looks like text; the rows have n" in notes["none"]
    assert "truncated or damaged" in notes["broken"]


def test_a_stray_file_is_told_and_a_small_corpus_is_not(tmp_path: Path) -> None:
    write(tmp_path / "web/x.jsonl", rows(400))
    (tmp_path / "todo.txt").write_text("ask for the rest of it\n")
    notes = {source.name: " ".join(source.notes) for source in look(tmp_path).sources}
    assert "23 bytes of " in notes["todo"]
    assert "are little for a domain; delete it here, or add its path to another source" in notes["todo"]
    assert notes["web"] == ""
    (tmp_path / "web/x.jsonl").unlink()
    write(tmp_path / "web/x.jsonl", rows(20))
    assert not any("little for a domain" in " ".join(source.notes) for source in look(tmp_path).sources)


@pytest.mark.parametrize("name", ["x.jsonl", ""])
def test_a_file_or_nothing_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path / "x.jsonl", rows())
    with pytest.raises(InputError, match=r"name the folder|no such file"):
        propose_sources(str(tmp_path / (name or "missing")))


def test_the_recipe_is_one_and_takes_every_file(tmp_path: Path) -> None:
    odd = "a: b # c, 日本 [1]"
    write(tmp_path / "in" / odd / "x.jsonl", rows())
    write(tmp_path / "in/true/part-1.jsonl", [{"body of it": LONG, "uuid": str(i)} for i in range(3)])
    file, _ = write_first_recipe(str(tmp_path / "in"), str(tmp_path / "new/recipe.yaml"))
    recipe = load_recipe(file)
    assert {name: source.text for name, source in recipe.sources.items()} == {odd: "text", "true": "body of it"}
    assert recipe.sources[odd].path == (str(tmp_path / "in" / odd),)
    with pytest.raises(InputError, match="is there already"):
        write_first_recipe(str(tmp_path / "in"), str(file))


def test_out_never_lies_in_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "corpus/part-1.jsonl", rows())
    monkeypatch.chdir(tmp_path / "corpus")
    file, _ = write_first_recipe(".", None)
    assert load_recipe(file).out == str(tmp_path / "out/corpus")
