"""The notebooks run from top to bottom, and print what is stored in them."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.support.paths import ROOT

NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))


def printed(notebook: nbformat.NotebookNode) -> list[list[str]]:
    """What each cell of code printed."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [[output.text for output in cell.outputs if output.output_type == "stream"] for cell in cells]


def pictures(notebook: nbformat.NotebookNode) -> int:
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_prints_what_is_stored_in_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    stored = nbformat.read(path, as_version=4)
    executed = NotebookClient(nbformat.read(path, as_version=4), timeout=120, kernel_name="python3").execute()
    assert printed(executed) == printed(stored)
    assert pictures(executed) == pictures(stored) > 0
    assert any(lines for lines in printed(stored))


def test_there_is_one() -> None:
    assert NOTEBOOKS
