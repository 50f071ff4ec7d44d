"""Rows of texts as a table: in columns for a terminal, in HTML for a notebook. Names come from strangers, and are escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence

from chameleon_data.errors import escape_unprintable

ROWS_SHOWN = 100
"""Rows of a longer table that are shown: its first ones."""


def format_text(rows: Sequence[Sequence[str]], sentences: Sequence[str]) -> str:
    """The first column to the left, the others to the right, then the sentences. The first row is the heading."""
    rows, sentences = _shorten(rows, sentences)
    cells = [[escape_unprintable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(_align(row, widths)).rstrip() for row in cells]
    return "\n".join([*lines, *map(escape_unprintable, sentences)])


def _align(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]


def format_html(rows: Sequence[Sequence[str]], sentences: Sequence[str]) -> str:
    """The same as a table and a paragraph of HTML."""
    (heading, *others), sentences = _shorten(rows, sentences)
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in heading)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(escape_unprintable(cell))}</td>" for cell in row) + "</tr>" for row in others
    )
    about = "<br>".join(html.escape(escape_unprintable(sentence)) for sentence in sentences)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{about}</p>"


def _shorten(rows: Sequence[Sequence[str]], sentences: Sequence[str]) -> tuple[Sequence[Sequence[str]], Sequence[str]]:
    more = len(rows) - 1 - ROWS_SHOWN
    return (rows[: ROWS_SHOWN + 1], [f"and {more:,} more", *sentences]) if more > 0 else (rows, sentences)
