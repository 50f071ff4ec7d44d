"""How domains are found in texts. The points are made up; the steps are those of `pipelines/discover.py`."""

from __future__ import annotations

from collections.abc import Iterator
from math import cos, sin

from pictures.drawing import COLOURS, box, dot, line, picture, words

TOPICS = ("recipe, oven, butter", "court, statute, clause", "kernel, thread, cache")
CENTRES = ((310.0, 50.0), (420.0, 46.0), (366.0, 106.0))
SAMPLED = 8
"""Points of each topic."""
STEP = 156
"""Height of a step."""
COLUMN = 256
"""Where the drawing of a step begins; its words stand to the left."""


def find_points() -> Iterator[tuple[float, float, int]]:
    """(x, y, topic) of sampled documents, on spirals around the topics' centres."""
    for topic, (x, y) in enumerate(CENTRES):
        for number in range(SAMPLED):
            reach = 6 + 2.8 * number
            yield x + reach * cos(2.4 * number + topic), y + reach * sin(2.4 * number + topic), topic


def draw() -> str:
    title = "A sample is embedded and clustered, words learn the clusters, and every document gets its topic by its words"
    return picture(title, 3 * STEP + 4, [*_sample(), *_words(), *_label()])


def _heading(step: int, *lines: str) -> Iterator[str]:
    for number, said in enumerate(lines):
        yield words(8, 46 + STEP * step + 20 * number, f"{step + 1}. {said}" if number == 0 else said, bold=number == 0)


def _sample() -> Iterator[str]:
    yield from _heading(0, "a sample is embedded", "some thousand documents,", "clustered by their vectors")
    for x, y, topic in find_points():
        yield dot(x, y, COLOURS[topic])


def _words() -> Iterator[str]:
    yield from _heading(1, "words learn the clusters", "a table of whole numbers,", "tried on other documents")
    for topic, learned in enumerate(TOPICS):
        y = STEP + 16 + 44 * topic
        yield box(COLUMN + 14, y, 196, 32, COLOURS[topic], rounded=6)
        yield words(COLUMN + 112, y + 21, learned, "middle", "#fff")


def _label() -> Iterator[str]:
    yield from _heading(2, "every document gets a topic", "by its words, without a vector,", "the same on any machine")
    order = (0, 2, 1, 1, 0, 2, 2, 0, 1, 0, 1, 2, 0, 2, 1, 2, 0, 1)
    for number, topic in enumerate(order):
        x, y = COLUMN + 14 + 34 * (number % 6), 2 * STEP + 16 + 44 * (number // 6)
        yield box(x, y, 26, 34, COLOURS[topic])
        for at, length in ((10, 16), (17, 16), (24, 11)):
            yield line([(x + 5, y + at), (x + 5 + length, y + at)], "#fff", 1)
