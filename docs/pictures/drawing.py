"""Shapes of SVG. A picture is WIDTH units wide, so that its words can be read on a page of 400 pixels; its colours are seen on
white and on black alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Literal

WIDTH = 480
BLUE, ORANGE, GREEN, RED, VIOLET = COLOURS = ("#2f7ed8", "#d9822b", "#3a9d5d", "#d2504b", "#8f6fd1")
GREY, TEXT = "#8a8f98", "#7d828b"


def picture(title: str, height: float, shapes: Iterable[str]) -> str:
    """The file. `title` says in words what is seen."""
    body = "\n".join(f"  {shape}" for shape in shapes)
    size = f'viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" height="{height:g}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" '
        f'font-family="system-ui, sans-serif" font-size="14" fill="{TEXT}">\n  <title>{escape(title)}</title>\n{body}\n</svg>\n'
    )


def words(
    x: float,
    y: float,
    said: str,
    anchor: Literal["start", "middle", "end"] = "start",
    colour: str = TEXT,
    *,
    bold: bool = False,
    small: bool = False,
) -> str:
    weight = (' font-weight="600"' if bold else "") + (' font-size="12"' if small else "")
    place = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{_short(x)}" y="{_short(y)}"{place}{weight} fill="{colour}">{escape(said)}</text>'


def box(x: float, y: float, width: float, height: float, colour: str, *, hollow: bool = False, rounded: float = 3) -> str:
    """A filled rectangle, or the dashed outline of one."""
    paint = f'fill="none" stroke="{colour}" stroke-dasharray="3 3"' if hollow else f'fill="{colour}"'
    shape = f'x="{_short(x)}" y="{_short(y)}" width="{_short(width)}" height="{_short(height)}"'
    return f'<rect {shape} rx="{rounded:g}" {paint}/>'


def dot(x: float, y: float, colour: str, radius: float = 4) -> str:
    return f'<circle cx="{_short(x)}" cy="{_short(y)}" r="{radius:g}" fill="{colour}"/>'


def line(points: Sequence[tuple[float, float]], colour: str = TEXT, width: float = 1.5, *, dashed: bool = False) -> str:
    path = " ".join(f"{_short(x)},{_short(y)}" for x, y in points)
    dashes = ' stroke-dasharray="5 4"' if dashed else ""
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width:g}"{dashes}/>'


def arrow(begin: tuple[float, float], end: tuple[float, float], colour: str = TEXT) -> str:
    """A straight arrow, to the right or down."""
    (x, y), down = end, abs(end[1] - begin[1]) > abs(end[0] - begin[0])
    head = [(x - 4, y - 6), (x, y), (x + 4, y - 6)] if down else [(x - 6, y - 4), (x, y), (x - 6, y + 4)]
    return line([begin, end], colour) + line(head, colour)


def area(points: Sequence[tuple[float, float]], colour: str) -> str:
    path = " ".join(f"{_short(x)},{_short(y)}" for x, y in points)
    return f'<polygon points="{path}" fill="{colour}"/>'


def _short(number: float) -> str:
    """At most one decimal: another machine's last digits change no file."""
    return f"{round(number, 1) + 0.0:g}"
