"""Rows on their way to shards in one step, and in two levels: what `shards/levels.py` does above some thousand ranges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from pictures.drawing import BLUE, GREEN, GREY, ORANGE, WIDTH, box, line, picture, words

PARTS, SUPER_RANGES, RANGES = 8, 4, 16
"""Small numbers, so that every slice is one line."""
LEFT, HEIGHT = 8, 20
Row = Sequence[float]
"""Where boxes stand."""


def count_slices() -> tuple[int, int]:
    """Slices of runs that are read in one step, and in two levels."""
    return PARTS * RANGES, PARTS * SUPER_RANGES + RANGES


def draw() -> str:
    title = "Parts of the corpus send rows to ranges of shards: each to each in one step, or by way of a few super-ranges in two"
    return picture(title, 392, [*_one_step(), *_two_levels()])


def _spread(number: int) -> Row:
    wide = (WIDTH - 2 * LEFT) / number
    return [LEFT + wide * (at + 0.5) for at in range(number)]


def _boxes(row: Row, y: float, colour: str) -> Iterator[str]:
    wide = (WIDTH - 2 * LEFT) / len(row)
    for x in row:
        yield box(x - 0.42 * wide, y, 0.84 * wide, HEIGHT, colour)


def _lines(pairs: Iterator[tuple[float, float]], top: float, bottom: float) -> Iterator[str]:
    for begin, end in pairs:
        yield line([(begin, top + HEIGHT), (end, bottom)], GREY, 0.6)


def _one_step() -> Iterator[str]:
    parts, ranges = _spread(PARTS), _spread(RANGES)
    yield words(LEFT, 18, f"one step: {count_slices()[0]} slices are read", bold=True)
    yield from _lines(product(parts, ranges), 30, 104)
    yield from _boxes(parts, 30, BLUE)
    yield from _boxes(ranges, 104, GREEN)
    yield words(LEFT, 142, f"{PARTS} parts above, {RANGES} ranges of shards below")


def _two_levels() -> Iterator[str]:
    parts, middle, ranges = _spread(PARTS), _spread(SUPER_RANGES), _spread(RANGES)
    own = RANGES // SUPER_RANGES
    yield words(LEFT, 190, f"two levels: {count_slices()[1]} slices", bold=True)
    yield from _lines(product(parts, middle), 202, 266)
    yield from _lines(((middle[at // own], x) for at, x in enumerate(ranges)), 266, 330)
    yield from _boxes(parts, 202, BLUE)
    yield from _boxes(middle, 266, ORANGE)
    yield from _boxes(ranges, 330, GREEN)
    yield words(LEFT, 370, f"{SUPER_RANGES} super-ranges between: each row is written once more,")
    yield words(LEFT, 388, "and far fewer slices are read, each of them a request")
