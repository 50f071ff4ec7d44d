"""Draws docs/_static/topics.svg, how domains are found in texts: `python docs/draw_topics.py`.

The points are made up; the steps are those of `pipelines/discover.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import cos, sin
from pathlib import Path

FILE = Path(__file__).parent / "_static/topics.svg"
COLOURS = ("#2f7ed8", "#d9822b", "#3a9d5d")
GREY, TEXT = "#8a8f98", "#7d828b"
"""Seen on white and on black alike."""
TOPICS = ("recipe, oven, butter", "court, statute, clause", "kernel, thread, cache")
CENTRES = ((58.0, 62.0), (138.0, 50.0), (104.0, 126.0))
SAMPLED = 8
"""Points of each topic."""
PANEL, TOP = 270, 62
"""Width of a step, and where its drawing begins."""


def points() -> Iterator[tuple[float, float, int]]:
    """(x, y, topic) of sampled documents, on spirals around the topics' centres."""
    for topic, (x, y) in enumerate(CENTRES):
        for number in range(SAMPLED):
            reach = 7 + 3.1 * number
            yield x + reach * cos(2.4 * number + topic), y + reach * sin(2.4 * number + topic), topic


def svg() -> str:
    body = "\n".join(f"  {line}" for line in [*_sample(), *_words(), *_label()])
    style = f'font-family="system-ui, sans-serif" font-size="14" fill="{TEXT}"'
    title = "A sample is embedded and clustered, words learn the clusters, and every document gets its topic by its words"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 290" role="img" {style}>\n'
        f"  <title>{title}</title>\n{body}\n</svg>\n"
    )


def _heading(step: int, first: str, second: str) -> Iterator[str]:
    yield f'<text x="{10 + step * PANEL}" y="20" font-weight="600">{step + 1}. {first}</text>'
    yield f'<text x="{10 + step * PANEL}" y="40">{second}</text>'


def _sample() -> Iterator[str]:
    yield from _heading(0, "a sample is embedded", "and clustered by its vectors")
    for x, y, topic in points():
        yield f'<circle cx="{10 + x:.1f}" cy="{TOP + y:.1f}" r="4" fill="{COLOURS[topic]}"/>'
    yield '<text x="10" y="268">some thousand documents</text>'


def _words() -> Iterator[str]:
    yield from _heading(1, "words learn the clusters", "and are tried on other documents")
    for topic, words in enumerate(TOPICS):
        y = TOP + 20 + 50 * topic
        yield f'<rect x="{PANEL + 10}" y="{y}" width="210" height="34" rx="6" fill="{COLOURS[topic]}"/>'
        yield f'<text x="{PANEL + 22}" y="{y + 22}" fill="#fff">{words}</text>'
    yield f'<text x="{PANEL + 10}" y="268">a table of whole numbers, recorded</text>'


def _label() -> Iterator[str]:
    yield from _heading(2, "every document gets a topic", "by its words, without a vector")
    order = (0, 2, 1, 1, 0, 2, 2, 0, 1, 0, 1, 2, 0, 2, 1, 2, 0, 1, 1, 2, 0, 0, 1, 2)
    for number, topic in enumerate(order):
        x, y = 2 * PANEL + 10 + 40 * (number % 6), TOP + 14 + 42 * (number // 6)
        yield f'<rect x="{x}" y="{y}" width="30" height="32" rx="3" fill="{COLOURS[topic]}"/>'
        for at, length in ((9, 18), (16, 18), (23, 13)):
            yield f'<line x1="{x + 6}" x2="{x + 6 + length}" y1="{y + at}" y2="{y + at}" stroke="#fff"/>'
    yield f'<text x="{2 * PANEL + 10}" y="268">the same on any machine</text>'


if __name__ == "__main__":
    FILE.write_text(svg(), encoding="utf-8")
