"""Domains of known importance and redundancy: does leverage find the hub and the outlier, and what does slicing a domain pay?

Domain means lie at unit distance around a shared centre. The hub lies at the centre, so the others span it. The outlier lies
three times further out, in a direction of its own. Samples are a domain's mean and Gaussian noise of standard deviation
`noise` / √p in each of p = 32 dimensions. Inverse leverage should give the hub the largest weight and the outlier the smallest.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chameleon_data.weights.domain_weights import domain_weights

_DIMENSIONS, _DRAWS = 32, 50
_CASES = [(k, n, noise) for k in (4, 10, 30, 100) for n in (20, 64, 256) for noise in (1.0, 3.0)]


def draw_domains(k: int, n: int, noise: float, seed: int) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """Domain -> (n, 32) samples; `d0` is the hub, `d1` the outlier."""
    rng = np.random.default_rng([k, n, int(noise), seed])
    means = rng.normal(size=(k, _DIMENSIONS))
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    means[0], means[1] = 0.0, 3 * means[1]
    spread = noise / np.sqrt(_DIMENSIONS)
    return {f"d{i}": means[i] + spread * rng.normal(size=(n, _DIMENSIONS)) for i in range(k)}


def measure_synthetic() -> dict[str, Any]:
    """Share of the draws in which hub and outlier are at the two ends, and what two halves of a domain get of what it had."""
    found = []
    for k, n, noise in _CASES:
        hits = []
        for seed in range(_DRAWS if k < 100 else 20):
            weights = domain_weights(draw_domains(k, n, noise, seed)).weights
            hits.append(max(weights, key=weights.__getitem__) == "d0" and min(weights, key=weights.__getitem__) == "d1")
        found.append({"domains": k, "samples": n, "noise": noise, "draws": len(hits), "found": float(np.mean(hits))})
    return {"hub_and_outlier": found, "split": [_measure_split(temperature) for temperature in ("auto", 5 / 7)]}


def _measure_split(temperature: Any) -> dict[str, Any]:
    """What the two random halves of an ordinary domain get together, over what it had."""
    ratios = []
    for seed in range(_DRAWS):
        domains = draw_domains(10, 256, 1.0, seed)
        before = domain_weights(domains, temperature=temperature).weights["d2"]
        whole = domains.pop("d2")
        halves = domain_weights({**domains, "a": whole[::2], "b": whole[1::2]}, temperature=temperature).weights
        ratios.append((halves["a"] + halves["b"]) / before)
    return {"temperature": temperature, "ratio": float(np.mean(ratios)), "spread": float(np.std(ratios, ddof=1))}
