"""How the documentation is built: `make docs`. No network is needed.

The pages are those that people read on GitHub, where they lie, so the source folder is the whole repository: a link between two
pages is the same relative path in both places. A link to any other file of the repository becomes a download of it.
Why: docs/decisions/190-documentation-where-it-lies.md.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from sphinx.application import Sphinx  # noqa: E402

from chameleon_data import __version__  # noqa: E402

project = "chameleon-data"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "from_code", "notebook_pages"]
root_doc = "docs/index"
include_patterns = ["docs/**", "*.md", "jobs/**.md"]
exclude_patterns = [".*", "build", "out", "**/out", "chameleon_data", "pipelines", "tests", "*.egg-info", "CHANGELOG.md"]
suppress_warnings = ["myst.xref_ambiguous"]
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]
"""Types in signatures, most of which have no page."""

myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]
highlight_language = "none"
smartquotes = False
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 100

html_theme = "furo"
html_title = f"chameleon-data {version}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_extra_path = ["start", "llms.txt"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_theme_options = {"navigation_with_keys": True}


def complete_lists(app: Sphinx, page: str, text: list[str]) -> None:
    """`*` in the index is every page beside it that no list names; decisions lie below their list, which is GitHub's too."""
    if page == root_doc:
        named = {"index", *text[0].splitlines()}
        others = sorted({path.stem for path in HERE.glob("*.md")} - named)
        text[0] = text[0].replace("\n*\n", "\n" + "".join(f"{name}\n" for name in others))
    if page == "docs/decisions/README":
        text[0] += "\n```{toctree}\n:hidden:\n:glob:\n\n[0-9]*\n```\n"


def link_folders(app: Sphinx, page: str, text: list[str]) -> None:
    """A link to a folder leads to its README.md, as on GitHub."""
    folder = (HERE.parent / page).parent
    text[0] = re.sub(
        r"\]\(([\w./-]+)\)",
        lambda link: f"]({link[1]}/README.md)" if (folder / link[1] / "README.md").is_file() else link[0],
        text[0],
    )


def setup(app: Sphinx) -> None:
    app.connect("source-read", complete_lists)
    app.connect("source-read", link_folders)
