"""Draws the pictures of the documentation, docs/_static/*.svg: `python docs/draw.py`. Each is a module in docs/pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pictures import anchors, levels, order, passes, prefixes, stages, tilt, topics, versions, weights

STATIC = Path(__file__).parent / "_static"
PICTURES: dict[str, Callable[[], str]] = {
    "anchors": anchors.draw, "levels": levels.draw, "order": order.draw, "passes": passes.draw, "prefixes": prefixes.draw,
    "stages": stages.draw, "tilt": tilt.draw, "topics": topics.draw, "versions": versions.draw, "weights": weights.draw,
}  # fmt: skip

if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (STATIC / f"{name}.svg").write_text(draw(), encoding="utf-8")
