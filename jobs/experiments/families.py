"""Do other judges rank mixtures as the largest decoder does? Decoders of three sizes, encoder-decoder, masked, and n-grams."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chameleon_data.recipe import Evaluate

MODEL_SHAPES: dict[str, dict[str, Any]] = {
    "decoder, width 64": {"judge": "decoder", "model": {"width": 64, "layers": 2}},
    "decoder, width 48": {"judge": "decoder", "model": {"width": 48, "layers": 2}},
    "decoder, width 32": {"judge": "decoder", "model": {"width": 32, "layers": 1}},
    "encoder-decoder": {"judge": "encoder_decoder", "model": {"width": 48, "layers": 2}},
    "masked": {"judge": "masked", "model": {"width": 48, "layers": 2}},
    "ngram": {"judge": "ngram", "model": {}},
}
"""Name -> judge and shape; the first is what the others are compared with."""
EXTREMES = 2
"""Mixtures furthest from uniform that are left out of the ranks, as any judge sees those."""


def compare_judges(asked: Evaluate, evaluate: Callable[[Evaluate], dict[str, Any]]) -> dict[str, Any]:
    """Judge -> metric -> Spearman's correlation of the differences with those of the first judge, and the differences."""
    differences: dict[str, dict[str, dict[str, float]]] = {}
    for name, changes in MODEL_SHAPES.items():
        shape = {**asked.model.model_dump(), "family": "auto", **changes["model"]}
        section = Evaluate.model_validate({**asked.model_dump(by_alias=True), "judge": changes["judge"], "model": shape})
        found = evaluate(section)
        compared = [m for m in found["mixtures"] if m["differences"] and not m["chosen"]]
        differences[name] = {
            metric: {m["name"]: m["differences"][metric]["mean"] for m in compared} for metric in found["mixtures"][0]["means"]
        }
    first = next(iter(differences))
    return {"differences": differences, "ranks": {name: rank_against(differences[first], d) for name, d in differences.items()}}


def rank_against(reference: dict[str, dict[str, float]], other: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Metric -> Spearman's correlation over all mixtures, and without the two furthest from uniform."""
    return {
        metric: {
            "all": correlate_ranks(values, other[metric]),
            "without_extremes": correlate_ranks(
                dict(sorted(values.items(), key=lambda item: abs(item[1]))[:-EXTREMES]), other[metric]
            ),
        }
        for metric, values in reference.items()
        if metric in other
    }


def correlate_ranks(a: dict[str, float], b: dict[str, float]) -> float:
    """Spearman's correlation of the values of the keys of `a`; there are no ties."""
    import numpy as np

    x, y = (np.argsort(np.argsort([values[name] for name in a])) for values in (a, b))
    return float(np.corrcoef(x, y)[0, 1])
