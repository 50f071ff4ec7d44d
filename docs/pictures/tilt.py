"""What the temperature does: weights against their distance from the centre, of the domains with which docs/weights.md begins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from chameleon_data import domain_weights
from chameleon_data.weights.tilt import AUTO_KL
from pictures.drawing import COLOURS, GREY, TEXT, WIDTH, line, picture, words
from pictures.weights import CENTRES, embed

STEPS = 24
FARTHEST = 0.24
"""Nats."""
LEFT, RIGHT, TOP, HEIGHT = 46, 70, 34, 150
LARGEST = 0.6
"""Weight at the top of a panel."""


def draw() -> str:
    title = "The weights of five domains move away from equal shares as the temperature falls, by inverse and by direct leverage"
    return picture(title, 2 * (TOP + HEIGHT) + 60, [*_panel(0, "pretrain"), *_panel(1, "finetune"), *_axis()])


def _panel(number: int, objective: Literal["pretrain", "finetune"]) -> Iterator[str]:
    top = TOP + number * (TOP + HEIGHT + 6)
    kind = (
        "inverse leverage: common domains get more" if objective == "pretrain" else "direct leverage: distinct domains get more"
    )
    yield words(8, top - 14, kind, bold=True)
    distances = [FARTHEST * step / STEPS for step in range(1, STEPS + 1)]
    found = [domain_weights(embed(), objective=objective, temperature={"kl": distance}).weights for distance in distances]
    for share in (0.0, 0.2, 0.4, 0.6):
        y = top + HEIGHT * (1 - share / LARGEST)
        yield line([(LEFT, y), (WIDTH - RIGHT, y)], GREY, 0.5)
        yield words(LEFT - 6, y + 5, f"{share:.0%}", "end")
    auto = _across(AUTO_KL)
    yield line([(auto, top), (auto, top + HEIGHT)], TEXT, 1, dashed=True)
    ends = []
    for at, name in enumerate(CENTRES):
        points = [(0.0, 1 / len(CENTRES)), *((d, w[name]) for d, w in zip(distances, found, strict=True))]
        yield line([(_across(d), top + HEIGHT * (1 - w / LARGEST)) for d, w in points], COLOURS[at], 2)
        ends.append((top + HEIGHT * (1 - points[-1][1] / LARGEST) + 5, name, COLOURS[at]))
    for y, name, colour in _apart(ends, top + HEIGHT + 6):
        yield words(WIDTH - RIGHT + 6, y, name, colour=colour)


def _axis() -> Iterator[str]:
    y = 2 * (TOP + HEIGHT) + 26
    for nats in (0.0, 0.1, 0.2):
        yield words(_across(nats), y, f"{nats:g}", "middle")
    yield words(_across(AUTO_KL) + 2, y, "auto", "start")
    yield words(WIDTH / 2, y + 22, "nats from equal shares: colder to the right", "middle")


def _across(nats: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * nats / FARTHEST


def _apart(ends: list[tuple[float, str, str]], lowest: float) -> Iterator[tuple[float, str, str]]:
    """Names at the ends of lines, from the lowest up, none nearer to the next than a line of text."""
    for y, name, colour in sorted(ends, reverse=True):
        lowest = min(y, lowest)
        yield lowest, name, colour
        lowest -= 16
