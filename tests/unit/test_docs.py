"""The examples of the documentation, run as they stand."""

from __future__ import annotations

import doctest
import re
import runpy
from pathlib import Path

import pytest

from tests.support.paths import ROOT

DOCS = sorted(path for path in (ROOT / "docs").glob("*.md") if ">>>" in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_examples_give_what_they_say(path: Path) -> None:
    text = re.sub(r"^```.*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    examples = doctest.DocTestParser().get_doctest(text, {}, path.name, str(path), 0)
    assert examples.examples
    told: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).run(examples, out=told.append)
    assert not told, "".join(told)


def test_there_are_examples() -> None:
    assert [path.name for path in DOCS if path.name == "weights.md"]


CALLERS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / ".ci/run", *(ROOT / ".github").rglob("*.yml")]


@pytest.mark.parametrize("path", CALLERS, ids=lambda path: path.name)
def test_every_verb_of_make_that_is_named_exists(path: Path) -> None:
    (phony,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    named = re.findall(r"(?:^|`|run: )make ([a-z-]+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(named) <= set(phony.split())


PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "jobs").rglob("*.md")]
ROOMS = (ROOT, ROOT / "chameleon_data")
"""Where a page's paths begin: `tests/unit`, or, as rooms are named, `store/paths.py`."""


def _named_paths(text: str) -> set[str]:
    """Paths of files and folders of the repository that a page names, as a link or in backticks."""
    links = {link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link}
    code = set(re.findall(r"`((?:[a-z_]+/)+[\w.-]*)`", text))
    return links - {""} | {path for path in code if path.split("/")[0] in TOP}


TOP = {
    "docs",
    "tests",
    "jobs",
    "pipelines",
    "chameleon_data",
    "store",
    "plan",
    "corpus",
    "weights",
    "shards",
    "versions",
    "views",
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    named = _named_paths(page.read_text(encoding="utf-8"))
    assert [path for path in sorted(named) if not any((root / path).exists() for root in (page.parent, *ROOMS))] == []


def test_a_path_that_is_not_there_is_seen() -> None:
    assert _named_paths("[a](b/c.md) `store/paths.py` `out/demo/x` [w](https://x.org/y)") == {"b/c.md", "store/paths.py"}


DECISIONS = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))


def test_the_list_of_decisions_names_each_with_its_title() -> None:
    titles = [(path.name, path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")) for path in DECISIONS]
    page = (ROOT / "docs/decisions/README.md").read_text(encoding="utf-8")
    assert re.findall(r"^- \[(.+)\]\((\S+)\)$", page, re.MULTILINE) == [(title, name) for name, title in titles]


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.name)
def test_a_decision_is_linked_from_what_it_decided(path: Path) -> None:
    code = [file for room in ("chameleon_data", "pipelines", "jobs", "docs", "tests") for file in (ROOT / room).rglob("*.py")]
    files = [*code, *PAGES, ROOT / "Makefile", ROOT / "pyproject.toml"]
    index = ROOT / "docs/decisions/README.md"
    assert any(path.name in file.read_text(encoding="utf-8") for file in files if file not in (path, index))


def test_the_picture_of_the_anchors_is_what_its_script_draws() -> None:
    drawing = runpy.run_path(str(ROOT / "docs/draw_anchors.py"))
    assert drawing["FILE"].read_text(encoding="utf-8") == drawing["svg"]()
    shards = [drawing["shard_of"](anchor) for anchor in drawing["anchors"]()]
    assert set(shards) == {0, 1, 2, None}
    shares = [sum(n for n, s in zip(drawing["LENGTHS"], shards, strict=True) if s == shard) for shard in range(3)]
    assert max(abs(tokens - drawing["QUOTA"] / 3) for tokens in shares) <= max(drawing["LENGTHS"])


def test_the_picture_of_topics_is_what_its_script_draws() -> None:
    drawing = runpy.run_path(str(ROOT / "docs/draw_topics.py"))
    assert drawing["FILE"].read_text(encoding="utf-8") == drawing["svg"]()
    left, right = drawing["PANEL"], 2 * drawing["PANEL"]
    assert all(10 < x < left < right and y > 0 for x, y, _ in drawing["points"]()), "the points lie in their panel"


def test_pages_that_llms_txt_names_exist() -> None:
    named = re.findall(r"\]\(([^)]+)\.html\)", (ROOT / "docs/llms.txt").read_text(encoding="utf-8"))
    assert len(named) > 10
    assert [page for page in named if not (ROOT / f"{page}.md").is_file()] == []
