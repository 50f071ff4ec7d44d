"""How far each domain is off its share after every row: anchors and order by the rules of `plan/`, lengths drawn from a seed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from chameleon_data.plan.plan import phase_of
from chameleon_data.plan.streams import anchors
from pictures.drawing import COLOURS, GREY, TEXT, WIDTH, line, picture, words

DOMAINS = {"books": (2_000, 12_000), "code": (1_000, 6_000), "web": (500, 20_000)}
"""Domain -> its mean tokens of a document, and its quota."""
LEFT, RIGHT, TOP, HEIGHT = 40, 10, 40, 190


def walk(name: str) -> tuple[list[float], list[float]]:
    """Where in the output the domain's rows stand, from 0 to 1, and how far it is off its share behind each, over its bound."""
    mean, quota = DOMAINS[name]
    lengths = np.random.default_rng(len(name)).integers(mean // 4, 2 * mean, 400)
    places = anchors(phase_of(0, name), np.cumsum(lengths) - lengths, lengths)
    lengths, places = lengths[places < quota], places[places < quota]
    written = np.cumsum(lengths)
    before = (written - lengths - places) / lengths.max()  # just before the row, at its place
    behind = (written - places) / lengths.max()
    at = np.repeat(places / quota, 2)
    off = np.stack([before, behind], axis=1).reshape(-1)
    return [0.0, *at.tolist(), 1.0], [0.0, *off.tolist(), (float(written[-1]) - quota) / float(lengths.max())]


def draw() -> str:
    title = "Tokens of three domains off their shares after every row: all lines stay within the largest document"
    return picture(title, TOP + HEIGHT + 66, _panel())


def _panel() -> Iterator[str]:
    yield words(8, 20, "off its share after every row, in largest documents", bold=True)
    for value, name in ((1.0, "+1"), (0.0, "0"), (-1.0, "−1")):
        yield line([(LEFT, _up(value)), (WIDTH - RIGHT, _up(value))], TEXT if value else GREY, 1.2, dashed=bool(value))
        yield words(LEFT - 8, _up(value) + 5, name, "end")
    for number, name in enumerate(DOMAINS):
        at, off = walk(name)
        points = [(LEFT + (WIDTH - LEFT - RIGHT) * x, _up(y)) for x, y in zip(at, off, strict=True)]
        yield line(points, COLOURS[number], 1.6)
        yield words(LEFT + 80 * number, TOP + HEIGHT + 58, name, colour=COLOURS[number], bold=True)
    for share in (0.0, 0.5, 1.0):
        x = LEFT + (WIDTH - LEFT - RIGHT) * share
        yield words(x, TOP + HEIGHT + 20, f"{share:.0%}", "start" if not share else "middle" if share < 1 else "end")
    yield words(LEFT + (WIDTH - LEFT - RIGHT) / 2, TOP + HEIGHT + 38, "of the output, in its order", "middle")


def _up(value: float) -> float:
    return TOP + HEIGHT / 2 * (1 - value)
