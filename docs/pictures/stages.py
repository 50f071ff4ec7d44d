"""Weights that change in the course of a training: the stages of docs/stages.md with a ramp, as `mix_between` makes them."""

from __future__ import annotations

from collections.abc import Iterator

from chameleon_data.recipe import Leverage, Weights
from chameleon_data.weights.make_mixture import make_mixture, mix_between
from chameleon_data.weights.mixture import Mixture
from chameleon_data.weights.weigh import weights_without_scores
from pictures.drawing import COLOURS, TEXT, WIDTH, area, line, picture, words

STAGES = (
    ({"books": 0.3, "code": 0.2, "web": 0.5}, 0.6, 0),
    ({"books": 0.3, "code": 0.6, "web": 0.1}, 0.4, 8),
)
"""The weights of each stage, its share of the budget, and its ramp."""
LEFT, RIGHT, TOP, HEIGHT = 46, 8, 36, 170


def _mixture(weights: dict[str, float]) -> Mixture:
    given = weights_without_scores(weights, dict.fromkeys(weights), ())
    return make_mixture(given, {}, "given", Leverage(), Weights())


def find_steps() -> list[tuple[float, dict[str, float]]]:
    """The share of the budget of each step, and its weights."""
    steps: list[tuple[float, dict[str, float]]] = []
    before: Mixture | None = None
    for weights, share, ramp in STAGES:
        after = _mixture(weights)
        for number in range(1, ramp + 2):
            part = after if before is None else mix_between(before, after, number / (ramp + 1), {})
            steps.append((share / (ramp + 1), {name: float(weight) for name, weight in part.decimals.items()}))
        before = after
    return steps


def draw() -> str:
    title = (
        "Shares of three domains over a training: constant in the first stage, then a ramp of eight steps to those of the second"
    )
    return picture(title, TOP + HEIGHT + 62, _panel())


def _panel() -> Iterator[str]:
    yield words(8, 20, "share of each domain, in the order of the shards", bold=True)
    steps, names = find_steps(), sorted(STAGES[0][0])
    below = [0.0] * len(steps)
    for number, name in enumerate(names):
        above = [low + weights[name] for low, (_, weights) in zip(below, steps, strict=True)]
        lower, upper = _stairs(steps, below), _stairs(steps, above)
        yield area([*upper, *reversed(lower)], COLOURS[number])
        yield words(LEFT + 12, _up((below[0] + above[0]) / 2) + 5, name, colour="#fff", bold=True)
        below = above
    for share in (0.0, 0.5, 1.0):
        yield words(LEFT - 6, _up(share) + 5, f"{share:.0%}", "end")
    border = _across(STAGES[0][1])
    yield line([(border, TOP - 6), (border, TOP + HEIGHT + 8)], TEXT, 1.5, dashed=True)
    yield words((LEFT + border) / 2, TOP + HEIGHT + 24, "first stage", "middle")
    yield words((border + WIDTH - RIGHT) / 2, TOP + HEIGHT + 24, "second, ramp: 8", "middle")
    yield words((LEFT + WIDTH - RIGHT) / 2, TOP + HEIGHT + 50, "no domain’s documents begin anew at the border", "middle")


def _stairs(steps: list[tuple[float, dict[str, float]]], heights: list[float]) -> list[tuple[float, float]]:
    points, at = [], 0.0
    for (share, _), height in zip(steps, heights, strict=True):
        points += [(_across(at), _up(height)), (_across(at + share), _up(height))]
        at += share
    return points


def _across(share: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * share


def _up(share: float) -> float:
    return TOP + HEIGHT * (1 - share)
