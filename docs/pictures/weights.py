"""From leverage scores to weights, inverse and direct, of the domains with which docs/weights.md begins."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from chameleon_data import domain_weights
from chameleon_data.weights.weigh import DomainWeights
from pictures.drawing import BLUE, GREEN, ORANGE, TEXT, WIDTH, box, line, picture, words

CENTRES = {"arxiv": [3, 0, 0, 1], "books": [0, 2, 0, 1], "code": [-2, -1, 3, 0], "web": [0, 1, 0, 1], "wiki": [0, 1, 1, 1]}
LEFT, ROW = 8, 62


def embed() -> dict[str, np.ndarray]:
    """The samples of docs/weights.md."""
    rng = np.random.default_rng(0)
    return {name: rng.normal(centre, 1.0, size=(200, 4)) for name, centre in CENTRES.items()}


def measure() -> tuple[DomainWeights, DomainWeights]:
    """Inverse and direct."""
    samples = embed()
    return domain_weights(samples), domain_weights(samples, objective="finetune")


def draw() -> str:
    title = "Leverage scores of five domains, and their weights: inverse leverage gives more to low scores, direct to high ones"
    return picture(title, 46 + ROW * len(CENTRES) + 22, _rows())


def _rows() -> Iterator[str]:
    inverse, direct = measure()
    begin, full = 74.0, WIDTH - 74 - 62
    most = max(max(inverse.scores.values(), key=lambda score: score or 0.0) or 1.0, 1.0)
    share = max([*inverse.weights.values(), *direct.weights.values()])
    legend = ((BLUE, "leverage", 74.0), (GREEN, "weight, inverse", 170.0), (ORANGE, "weight, direct", 306.0))
    for colour, said, x in legend:
        yield box(x, 8, 12, 12, colour)
        yield words(x + 18, 19, said)
    uniform = begin + 0.62 * full / len(CENTRES) / share
    bottom = 40 + ROW * len(CENTRES)
    yield line([(uniform, 34), (uniform, bottom - 8)], TEXT, 1, dashed=True)
    yield words(uniform, bottom + 10, "equal shares", "middle")
    for number, name in enumerate(CENTRES):
        y = 40 + ROW * number
        yield words(LEFT, y + 28, name, bold=True)
        score = inverse.scores[name] or 0.0
        for at, (value, length, colour) in enumerate((
            (f"{score:.2f}", full * score / most, BLUE),
            (f"{inverse.weights[name]:.1%}", 0.62 * full * inverse.weights[name] / share, GREEN),
            (f"{direct.weights[name]:.1%}", 0.62 * full * direct.weights[name] / share, ORANGE),
        )):  # fmt: skip
            yield box(begin, y + 16 * at, length, 12, colour, rounded=1)
            end = begin + length + 6
            yield words(uniform + 6 if uniform - 40 < end < uniform + 6 else end, y + 11 + 16 * at, value)
