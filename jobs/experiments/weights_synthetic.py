"""Synthetic domains of known importance and redundancy: which of them do weights find, and what does slicing pay?

    python -m chameleon_data.jobs.experiments.weights_synthetic        (some minutes on one core)

k domains in 64 dimensions with centres N(0, I). One is a hub, at half the distance from the mean of the others; one is an
outlier, at one and a half times its distance. Inverse leverage is to give the hub the largest weight and the outlier the
smallest. Then a domain is cut in halves, or one of seven in ten slices: what do they get together, as a multiple of what it had?
"""

from __future__ import annotations

import time

import numpy as np

from chameleon_data.arrays import F64
from chameleon_data.jobs.experiments.weights_results import DIMENSIONS, keep_results
from chameleon_data.weights.domain_weights import domain_weights

DRAWS = 50


def draw_synthetic_domains(k: int, n: int, noise: float, seed: int) -> dict[str, F64]:
    """k domains of n samples, with spread `noise` in each dimension; `hub` and `outlier` are two of them."""
    generator = np.random.default_rng([seed, k, n, int(10 * noise)])
    centres = generator.normal(size=(k, DIMENSIONS))
    centres[0] = centres[2:].mean(axis=0) + 0.5 * centres[0]
    centres[1] *= 1.5
    names = ["hub", "outlier", *(f"d{i:03d}" for i in range(2, k))]
    return {name: centre + noise * generator.normal(size=(n, DIMENSIONS)) for name, centre in zip(names, centres, strict=True)}


def find_extremes(k: int, n: int, noise: float) -> dict[str, object]:
    """Share of draws in which the hub has the largest weight, and the outlier the smallest."""
    found = []
    for seed in range(DRAWS):
        weights = domain_weights(draw_synthetic_domains(k, n, noise, seed)).weights
        ordered = sorted(weights, key=lambda name: weights[name])
        found.append((ordered[-1] == "hub", ordered[0] == "outlier"))
    hub, outlier = np.mean(found, axis=0).tolist()
    return {"experiment": "found", "domains": k, "samples": n, "noise": noise, "hub": hub, "outlier": outlier}


def measure_slicing(parts: int, k: int, merge: str, temperature: object, said: str) -> dict[str, object]:
    """What the slices of one of k domains get together, as a multiple of what it had, and their share of the mixture."""
    multiples, shares = [], []
    for seed in range(DRAWS):
        generator = np.random.default_rng([seed, 7])
        centres = generator.normal(size=(k, DIMENSIONS))
        whole = {f"d{i}": c + generator.normal(size=(256 * parts, DIMENSIONS)) for i, c in enumerate(centres)}
        sliced = {**{n: x for n, x in whole.items() if n != "d0"}, **{f"slice {j}": whole["d0"][j::parts] for j in range(parts)}}
        before = domain_weights(whole, temperature=temperature).weights["d0"]  # type: ignore[arg-type]
        after = domain_weights(sliced, temperature=temperature, merge=merge).weights  # type: ignore[arg-type]
        together = sum(share for name, share in after.items() if name.startswith("slice"))
        multiples.append(together / before)
        shares.append(together)
    return {
        "experiment": "sliced", "domains": k, "slices": parts, "temperature": said, "merge": merge,
        "multiple": round(float(np.mean(multiples)), 3), "share": round(float(np.mean(shares)), 3),
    }  # fmt: skip


if __name__ == "__main__":
    started = time.monotonic()
    found = [find_extremes(k, n, noise) for noise in (1.0, 3.0) for k in (4, 10, 30, 100) for n in (20, 64, 256)]
    keep_results("weights_synthetic", "weights_synthetic", "Are hub and outlier found?", found, started)
    settings = [("auto", "auto"), (5 / 7, "5/7")]
    sliced = [
        measure_slicing(parts, k, merge, temperature, said)
        for parts, k in ((2, 10), (10, 7))
        for temperature, said in settings
        for merge in ("none", "auto")
    ]
    keep_results("weights_slicing", "weights_synthetic", "What do the slices of a domain get?", sliced, started)
