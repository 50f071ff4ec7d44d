"""Synthetic embeddings of domains: (samples, dimensions) arrays about a centre, or a few, for each domain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def plain_clusters(k: int, n: int, p: int, seed: int = 0, spread: float = 0.5) -> dict[str, np.ndarray]:
    """Domains d00, d01, … of n samples about one centre each."""
    rng = np.random.default_rng(seed)
    return {f"d{i:02d}": rng.normal(size=(1, p)) + spread * rng.normal(size=(n, p)) for i in range(k)}


def uneven_clusters(k: int, n: int, p: int, seed: int = 0, spread: float = 0.5) -> dict[str, np.ndarray]:
    """Domains d0000, d0001, … whose centres lie at lognormal distances from the origin."""
    rng = np.random.default_rng(seed)
    radius = np.exp(0.5 * rng.normal(size=k))
    return {f"d{i:04d}": radius[i] * rng.normal(size=(1, p)) + spread * rng.normal(size=(n, p)) for i in range(k)}


def unit_clusters(k: int, n: int, p: int = 12, seed: int = 0) -> dict[str, np.ndarray]:
    """Domains d0, d1, … of float32 unit vectors about a few centres, as sentence embeddings are."""
    rng = np.random.default_rng(seed)
    made = {}
    for i in range(k):
        centres = rng.normal(size=(2 + i % 3, p))
        x = centres[rng.integers(0, len(centres), n)] + 0.5 * rng.normal(size=(n, p))
        made[f"d{i}"] = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    return made


def as_array(mapping: Mapping[str, Any]) -> np.ndarray:
    """The values of a mapping, in its order."""
    return np.array(list(mapping.values()))
