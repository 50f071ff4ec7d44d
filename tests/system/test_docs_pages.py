"""Every code block of the pages: recipes are parsed, commands and Python run on a small corpus, others' files parsed."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import textwrap
import tomllib
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml

from chameleon_data.recipe import Recipe
from chameleon_data.recipe_file import parse_recipe
from tests.support.corpus import documents, write_file
from tests.support.inline_builds import INLINE
from tests.support.pages import COMMAND, PAGES, Block, check_arguments, place, read_blocks, run_line, shell_lines
from tests.support.paths import ROOT

SHOWN = {"text", "console", "json", "mermaid"}
"""Languages of what a page shows and nobody types."""
OF_ITS_OWN_TEST = {ROOT / "docs/trainers.md"}
"""Its Python runs on two ranks, in test_trainers.py."""
PARSED_ALONE = {ROOT / "README.md", ROOT / "CHANGELOG.md"}
"""Their commands name files of the reader's own."""
OTHERS = {
    "skypilot": {"name", "resources", "run"},
    "airflow": None,
    "cluster": None,
    "kubernetes": None,
    "slurm": None,
}
"""Second word of a block -> keys that its YAML must have."""
ALL = [(page, block) for page in PAGES for block in read_blocks(page)]
OURS = [(page, block) for page, block in ALL if not block.mark]


def of_language(*languages: str, marked: bool = False) -> list[Any]:
    blocks = ALL if marked else OURS
    found = [(page, block) for page, block in blocks if block.language in languages]
    return [pytest.param(page, block, id=f"{page.relative_to(ROOT)}:{block.line}") for page, block in found]


def test_every_block_has_a_language_that_is_tested() -> None:
    languages = Counter(block.language for _, block in ALL)
    assert set(languages) - SHOWN == {"yaml", "sh", "python"}
    assert {block.mark for _, block in ALL} - {""} <= set(OTHERS)
    assert min(languages["yaml"], languages["sh"], languages["python"]) >= 10


@pytest.mark.parametrize(("page", "block"), of_language("yaml"))
def test_a_recipe_is_one(page: Path, block: Block, tmp_path: Path) -> None:
    assert parse_all(block.code, tmp_path)


LEAST = {"name": "name: least\n", "out": "out: out\n", "sources": "sources: {a: a, b: b, c: c}\n"}
"""What a block that shows some keys alone is completed with."""


def parse_all(code: str, folder: Path) -> list[Recipe]:
    """The recipe of a block; several, where it shows other values of one key. A block of domains and numbers is no recipe.

    An indented block shows keys of a source.
    """
    if code.startswith("# shares.yaml"):
        assert sum(yaml.safe_load(code).values()) == pytest.approx(1)
        return [Recipe(name="shares", out="out", sources={"a": {"path": "a"}})]
    indented = code.startswith(" ")
    keys = re.split(r"^(?=[a-z_]+:)", re.sub(r"^#.*\n", "", textwrap.dedent(code), flags=re.MULTILINE), flags=re.MULTILINE)
    keys = [key for key in keys if key.strip()]
    times = Counter(key.partition(":")[0] for key in keys)
    once = [key for key in keys if times[key.partition(":")[0]] == 1]
    others = [key for key in keys if times[key.partition(":")[0]] > 1]
    found = []
    for chosen in [[*once, key] for key in others] or [once]:
        text = "".join(chosen)
        if indented:
            text = "sources:\n  b: b\n  c: c\n  a:\n    path: a\n" + textwrap.indent(text, "    ")
        lacking = [line for key, line in LEAST.items() if not re.search(rf"^{key}:", text, re.MULTILINE)]
        found.append(parse_recipe("".join([*lacking, text]), folder))
    return found


def test_a_block_with_a_wrong_key_is_refused(tmp_path: Path) -> None:
    two = "embed: {samples: 3}\nembed: {smaples: 4}\n"
    for wrong in ("mix: {budgett: 3}\n", two, "mix: {budget: 3}\nmxi: {}\n", "    text: a\n    txet: b\n"):
        with pytest.raises(ValueError, match="unknown key"):
            parse_all(wrong, tmp_path)
    assert [recipe.embed.samples for recipe in parse_all(two.replace("smaples", "samples"), tmp_path)] == [3, 4]
    (recipe,) = parse_all("    domain: kind   # a comment\n    rename: {x: y}\n", tmp_path)
    assert recipe.sources["a"].rename == {"x": "y"}


@pytest.mark.parametrize(("page", "block"), of_language("sh", marked=True))
def test_a_command_takes_its_arguments(page: Path, block: Block) -> None:
    subprocess.run(["bash", "-n"], input=block.code, text=True, check=True)
    for line in shell_lines(block.code):
        if line.startswith(f"{COMMAND} "):
            check_arguments(line)
        for extra in re.findall(r"pip install '\.\[([\w,]+)\]'", line):
            project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
            assert set(extra.split(",")) <= set(project["optional-dependencies"])


@pytest.mark.parametrize(("page", "block"), [p for p in of_language("yaml", "python", "json", marked=True) if p.values[1].mark])
def test_what_is_for_other_tools_is_parsed(page: Path, block: Block) -> None:
    if block.language == "python":
        ast.parse(block.code)
    else:
        assert (OTHERS[block.mark] or set()) <= set(yaml.safe_load(block.code))


def has_code(page: Path) -> bool:
    """Whether it has commands or Python to run; an example with >>> is run by unit/test_docs.py."""
    blocks = [b for p, b in OURS if p == page and b.language in ("sh", "python")]
    return any(">>>" not in b.code for b in blocks) and page not in OF_ITS_OWN_TEST | PARSED_ALONE


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the corpora that pages speak of, in which the passes run in this process."""
    texts = {name: [text[:900] for text in of_domain] for name, of_domain in documents().items()}  # short: they are embedded
    for top in ("data", "bucket"):
        write_file(tmp_path / top / "corpus/books/part-0.parquet", texts["book"][:12])
        write_file(tmp_path / top / "corpus/code/part-0.jsonl.zst", texts["code"][:20])
        write_file(tmp_path / top / "corpus/web/part-0.jsonl", texts["legal"][:20])
    write_file(tmp_path / "data/letters/part-0.csv", [text[::-1] for text in texts["legal"][40:50]])
    letters = tmp_path / "data/letters/part-0.csv"
    letters.write_text(letters.read_text(encoding="utf-8").replace('"text"', '"body"', 1), encoding="utf-8")
    monkeypatch.setattr("chameleon_data.pipelines.local_engine.local_engine", lambda *_: nullcontext(INLINE))
    monkeypatch.setattr("chameleon_data.jobs.from_python.local_engine", lambda *_: nullcontext(INLINE))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", [p for p in PAGES if has_code(p)], ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_tells_to_type_works(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, Any] = {}
    for block in read_blocks(page):
        code = place(block.code, folder)
        where = f"{page.name}, line {block.line}"
        if block.mark:
            continue
        if block.file:
            Path(block.file).write_text(code, encoding="utf-8")
        elif block.language == "python" and ">>>" not in code:
            exec(compile("\n" * (block.line - 1) + code, where, "exec"), names)
        elif block.language == "sh":
            for line in shell_lines(code):
                if not line.startswith(("pip install ", "make ")):
                    assert run_line(line, folder, monkeypatch) == 0, f"{where}: {line}"


def test_a_command_that_fails_is_seen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_line("chameleon-data build nowhere.yaml", folder, monkeypatch) == 2
    assert run_line("cat nowhere.yaml", folder, monkeypatch) == 1
    assert run_line("chameleon-data schema recipe > schema.json", folder, monkeypatch) == 0
    assert json.loads((folder / "schema.json").read_text(encoding="utf-8"))["title"]


def test_blocks_are_found_with_their_sections_and_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A\n```sh cluster\nx \\\n  y # z\n```\n## B\n```{toctree}\nc\n```\n```yaml\n# d.yaml\ne: 1\n```\n")
    first, second = read_blocks(page)
    assert (first.section, first.line, first.language, first.mark, shell_lines(first.code)) == (
        "",
        3,
        "sh",
        "cluster",
        ["x    y"],
    )
    assert (second.section, second.line, second.file) == ("B", 11, "d.yaml")
