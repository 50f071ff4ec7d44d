"""The code blocks of the pages that people read, and what runs them. Every test of a page reads it here.

A block's first word is its language. A second word says that it is somebody else's (`yaml skypilot`), or that it needs what a
test has not (`sh cluster`); then it is parsed, and not run.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from chameleon_data.jobs.cli import app, main
from tests.support.paths import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "jobs").rglob("*.md")])
COMMAND = "chameleon-data"
FENCE = re.compile(r"^(```+)([^\n]*)\n(.*?)^\1[ ]*$", re.MULTILINE | re.DOTALL)
PLACES = {"s3://bucket/": "bucket/", "/data/": "data/", "/models/": "models/"}
"""Where a page's files are said to lie -> where they lie in the folder of a test."""


@dataclass(frozen=True)
class Block:
    """A fenced block of code."""

    section: str
    """The heading above it, of the second level; empty before the first."""
    line: int
    """Line of the page at which its code begins, counted from 1."""
    language: str
    mark: str
    """The second word behind the fence."""
    code: str

    @property
    def file(self) -> str | None:
        """The name that a first line `# name.yaml` gives it."""
        named = re.match(r"# ([\w.-]+\.(?:yaml|json))\n", self.code)
        return named[1] if named else None


def read_blocks(page: Path) -> list[Block]:
    """The blocks of a page in order, without the directives of its site."""
    text = page.read_text(encoding="utf-8")
    headings = [(match.start(), match[1]) for match in re.finditer(r"^## (.+)$", text, re.MULTILINE)]
    blocks = []
    for match in FENCE.finditer(text):
        language, _, mark = match[2].strip().partition(" ")
        if language.startswith("{"):
            continue
        section = next((name for at, name in reversed(headings) if at < match.start()), "")
        blocks.append(Block(section, text.count("\n", 0, match.start(3)) + 1, language, mark, match[3]))
    return blocks


def shell_lines(code: str) -> list[str]:
    """The commands of a shell block, without comments and blank lines; a line that ends in a backslash goes on."""
    joined = code.replace("\\\n", " ").splitlines()
    return [line for line in (re.sub(r"\s+#.*$|^#.*$", "", line).rstrip() for line in joined) if line]


def place(code: str, folder: Path) -> str:
    """The same code with the files of the page in this folder."""
    for named, there in PLACES.items():
        code = re.sub(rf"(?<![\w*]){named}", f"{folder}/{there}", code)
    return code


def check_arguments(line: str) -> None:
    """Raise typer's exception unless the command takes these arguments. Nothing is run."""
    words = shlex.split(line, comments=True)[1:]
    words = words[: next((n for n, word in enumerate(words) if word in (">", ">>", "|", "2>")), len(words))]
    group = typer.main.get_command(app)
    group.commands[words[0]].make_context(words[0], words[1:])  # type: ignore[attr-defined]


def run_line(line: str, folder: Path, monkeypatch: Any) -> int:
    """Run one line of a shell block in the current folder; returns its exit code. The command runs in this process."""
    if line.startswith(f"{COMMAND} ") and not re.search(r"[|>$`;]", line):
        monkeypatch.setattr(sys, "argv", shlex.split(line))
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", line], env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}, cwd=folder, check=False
    )
    return done.returncode
