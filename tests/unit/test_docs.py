"""The examples of the documentation, run as they stand."""

from __future__ import annotations

import doctest
import importlib
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

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


def test_links_to_the_web_are_whole() -> None:
    """As far as a machine without the web can tell; Sphinx's `linkcheck` asks each of them."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "jobs").rglob("*.md")]
    links = {link for page in pages for link in re.findall(r"\]\((\w+:[^)\s]*)\)", page.read_text(encoding="utf-8"))}
    assert len(links) > 4
    broken = [link for link in links if not re.fullmatch(r"https://([\w-]+\.)+[a-z]+(/[\w./#%-]*)?", link) or link.endswith(".")]
    assert broken == []


def test_nobody_is_told_to_fetch_the_package_by_its_name() -> None:
    """`chameleon-data` on PyPI is somebody else's program: what is installed is a clone of this repository."""
    rooms = [file for room in ("chameleon_data", "docs", "jobs", "pipelines") for file in (ROOT / room).rglob("*")]
    files = [
        file
        for file in (*rooms, *ROOT.glob("*.md"))
        if file.suffix in (".ipynb", ".j2", ".md", ".py", ".sbatch", ".txt", ".yaml")
    ]
    assert len(files) > 200
    told = [
        str(file) for file in files if re.search(r"install [^\n]*\bchameleon[-_]data(\[|'|`|$)", file.read_text(encoding="utf-8"))
    ]
    assert told == []


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


def _find_anchors(page: Path) -> set[str]:
    """What a link to a heading of the page says behind its #, on GitHub and on the site."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _broken_anchors(page: Path) -> list[str]:
    """Links of a page to headings that are not there."""
    links = re.findall(r"\]\(([^)\s:#]*)#([^)\s]+)\)", page.read_text(encoding="utf-8"))
    return [f"{to}#{anchor}" for to, anchor in links if anchor not in _find_anchors(page.parent / to if to else page)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_heading_that_a_page_links_to_exists(page: Path) -> None:
    assert _broken_anchors(page) == []


def test_a_heading_that_is_not_there_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# A title, with marks\n```sh\n# no heading\n```\n[own](#a-title-with-marks) [own](#gone)")
    (tmp_path / "b.md").write_text("[a](a.md#a-title-with-marks) [b](a.md#no-heading) [web](https://x.org/y#z)")
    assert _broken_anchors(tmp_path / "a.md") == ["#gone"]
    assert _broken_anchors(tmp_path / "b.md") == ["a.md#no-heading"]


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


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that draws them."""
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    return importlib.import_module("draw")


SHOWN = sorted(path.stem for path in (ROOT / "docs/_static").glob("*.svg"))


def test_every_picture_is_drawn_by_a_script(pictures: Any) -> None:
    assert sorted(pictures.PICTURES) == SHOWN


@pytest.mark.parametrize("name", SHOWN)
def test_a_picture_is_what_its_script_draws_and_a_page_shows_it_with_words(name: str, pictures: Any) -> None:
    drawn = pictures.PICTURES[name]()
    assert (ROOT / f"docs/_static/{name}.svg").read_text(encoding="utf-8") == drawn
    places = [element.get(key) for element in ElementTree.fromstring(drawn).iter() for key in ("x", "cx")]
    assert all(0 <= float(place) <= 480 for place in places if place)
    shown = [words for page in PAGES for words in re.findall(rf"!\[([^]]+)\]\(\S*_static/{name}\.svg\)", page.read_text("utf-8"))]
    assert shown
    assert all(len(words) > 40 for words in shown), "words for a reader who does not see it"


def test_pictures_show_what_the_rules_say(pictures: Any) -> None:
    anchors, order, prefixes, stages = (getattr(pictures, name) for name in ("anchors", "order", "prefixes", "stages"))
    shards = anchors.find_shards()
    assert set(shards) == {0, 1, 2, None}
    shares = [sum(n for n, s in zip(anchors.LENGTHS, shards, strict=True) if s == shard) for shard in range(3)]
    assert max(abs(tokens - anchors.QUOTA / 3) for tokens in shares) <= max(anchors.LENGTHS)
    assert sorted(order.order_epoch(0)) == sorted(order.order_epoch(1)) == list(range(64))
    off = [value for name in prefixes.DOMAINS for value in prefixes.walk(name)[1]]
    assert 0.5 < max(map(abs, off)) <= 1, "within the bound, and not far within"
    steps = stages.find_steps()
    assert sum(share for share, _ in steps) == pytest.approx(1)
    assert (steps[0][1], steps[-1][1]) == (stages.STAGES[0][0], stages.STAGES[1][0])


def test_pages_that_llms_txt_names_exist() -> None:
    named = re.findall(r"\]\(([^)]+)\.html\)", (ROOT / "docs/llms.txt").read_text(encoding="utf-8"))
    assert len(named) > 10
    assert [page for page in named if not (ROOT / f"{page}.md").is_file()] == []
