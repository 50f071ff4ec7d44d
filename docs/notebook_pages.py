"""Notebooks as pages: their Markdown, their code, and the outputs that are stored in them. Nothing is executed.

`tests/system/test_docs_notebooks.py` executes them and compares what they print.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from myst_parser.parsers.sphinx_ import MystParser
from sphinx.application import Sphinx


def as_markdown(notebook: dict[str, Any]) -> Iterator[str]:
    """Lines of Markdown."""
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            yield from [source, ""]
            continue
        yield from ["```python", source, "```", ""]
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                picture = "".join(data["image/png"].split())
                yield from [f'<img class="output" alt="output of the cell above" src="data:image/png;base64,{picture}">', ""]
            elif printed := "".join(output.get("text", data.get("text/plain", ""))):
                yield from ["```text", printed.rstrip("\n"), "```", ""]


class NotebookParser(MystParser):
    """Reads a notebook as the Markdown that it shows."""

    supported = ("ipynb",)

    def parse(self, inputstring: str, document: nodes.document) -> None:
        super().parse("\n".join(as_markdown(json.loads(inputstring))), document)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_source_suffix(".ipynb", "ipynb")
    app.add_source_parser(NotebookParser)
    return {"parallel_read_safe": True}
