"""The examples of the documentation, run as they stand."""

from __future__ import annotations

import doctest
import re
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
