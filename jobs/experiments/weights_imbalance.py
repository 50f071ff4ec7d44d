"""Imbalance of 99 : 1 and worse, in tokens and in samples.

    python -m chameleon_data.jobs.experiments.weights_imbalance        (a minute on one core)

Eight synthetic domains of equal spread. In tokens, one holds 99, 999 or 9,999 times as much as each other: what does each centre
give the small ones together, and how far does the default tilt move it? In samples, one domain has 20 or 8 of them and the others
99 times as many, up to 2,000: how far is its weight from that of its true mean?
"""

from __future__ import annotations

import time

import numpy as np

from chameleon_data.jobs.experiments.weights_results import DIMENSIONS, keep_results
from chameleon_data.recipe import Leverage, Weights
from chameleon_data.weights.centre import CentreRule
from chameleon_data.weights.domain_weights import domain_weights, weigh_features

IMBALANCED_DOMAINS, IMBALANCE_DRAWS = 8, 60


def weigh_tokens(ratio: int, exponent: float) -> dict[str, object]:
    """The seven small domains together, in the centre and in the weights."""
    shares = []
    for seed in range(IMBALANCE_DRAWS):
        generator = np.random.default_rng([seed, 3])
        samples = {
            f"d{i}": c + generator.normal(size=(256, DIMENSIONS))
            for i, c in enumerate(generator.normal(size=(IMBALANCED_DOMAINS, DIMENSIONS)))
        }
        tokens = {name: float(ratio if name == "d0" else 1) for name in samples}
        found = weigh_features(samples, None, Leverage(), Weights(), CentreRule(tokens, exponent), 0)
        shares.append(1 - found.weights["d0"])
    counts = np.array([ratio, *[1] * (IMBALANCED_DOMAINS - 1)], np.float64) ** exponent
    small = 1 - counts[0] / counts.sum()
    return {
        "imbalance": f"tokens {ratio} : 1", "centre": f"natural^{exponent:g}", "small in the centre": round(float(small), 4),
        "small in the weights": round(float(np.mean(shares)), 4),
    }  # fmt: skip


def weigh_samples_of(n: int, noise: float, debias: float | str) -> dict[str, object]:
    """Error of the weight of the domain with n samples, beside 99 n (at most 2,000) of each other."""
    errors, misses = [], []
    for seed in range(IMBALANCE_DRAWS):
        generator = np.random.default_rng([seed, n])
        centres = generator.normal(size=(IMBALANCED_DOMAINS, DIMENSIONS))
        truth = domain_weights({f"d{i}": c[None] for i, c in enumerate(centres)}, debias=0).weights["d0"]
        many = min(99 * n, 2_000)
        samples = {f"d{i}": c + noise * generator.normal(size=(many if i else n, DIMENSIONS)) for i, c in enumerate(centres)}
        found = domain_weights(samples, debias=debias)  # type: ignore[arg-type]
        low, high = found.intervals["d0"] or (0.0, 1.0)
        errors.append(found.weights["d0"] - truth)
        misses.append(not low <= truth <= high)
    return {
        "imbalance": f"samples {n} beside {min(99 * n, 2_000):,}", "noise": noise, "debias": debias,
        "mean error": round(float(np.mean(errors)), 4), "largest error": round(float(np.abs(errors).max()), 4),
        "interval misses": round(float(np.mean(misses)), 2),
    }  # fmt: skip


if __name__ == "__main__":
    started = time.monotonic()
    tokens = [weigh_tokens(ratio, exponent) for ratio in (99, 999, 9_999) for exponent in (0.0, 0.5, 1.0)]
    keep_results("weights_imbalance_tokens", "weights_imbalance", "What do small domains get?", tokens, started)
    samples = [weigh_samples_of(n, noise, debias) for n in (20, 8) for noise in (1.0, 3.0) for debias in ("auto", 1.0, 0.0)]
    keep_results(
        "weights_imbalance_samples",
        "weights_imbalance",
        "How far off is the weight of a domain with few samples?",
        samples,
        started,
    )
