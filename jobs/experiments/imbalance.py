"""One domain with 99 times the samples of the others, and more: how far do the weights move?

Samples set how well a domain's mean is known. The true weights are those of 4,096 samples of each domain.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chameleon_data.jobs.experiments.synthetic import draw_domains
from chameleon_data.weights.domain_weights import domain_weights

_DOMAINS, _DRAWS, _FULL = 7, 30, 4096


def measure_imbalance() -> dict[str, Any]:
    """Ratio -> largest error of a weight, mean over draws, when one domain has `ratio` times the samples of each other one."""
    found = []
    for few in (8, 20, 64):
        for ratio in (1, 10, 99, 500):
            errors = []
            for seed in range(_DRAWS):
                whole = draw_domains(_DOMAINS, _FULL, 1.0, seed)
                true = domain_weights(whole).weights
                part = {name: x[: min(_FULL, few * ratio) if name == "d2" else few] for name, x in whole.items()}
                weights = domain_weights(part).weights
                errors.append(max(abs(weights[name] - true[name]) for name in true))
            found.append({"samples": few, "ratio": ratio, "largest_error": float(np.mean(errors)),
                          "ninetieth": float(np.quantile(errors, 0.9))})  # fmt: skip
    return {"domains": _DOMAINS, "draws": _DRAWS, "cases": found}
