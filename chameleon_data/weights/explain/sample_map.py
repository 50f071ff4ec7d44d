"""A map of the sampled documents: their first two principal components."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

MAP_POINTS = 5_000
"""Points on the map. Each domain shows an equal share of them, its documents with the lowest hashes."""


def map_samples(vectors: Mapping[str, npt.NDArray[np.float32]]) -> dict[str, list[tuple[float, float]]]:
    """Domain -> (x, y) of its documents, from (n_i, p) embeddings a domain.

    The largest part of each axis is positive, so that the map does not flip from run to run.
    """
    from scipy.linalg import eigh

    share = max(1, MAP_POINTS // len(vectors))
    shown = {name: x[:share].astype(np.float64) for name, x in vectors.items()}
    pooled = np.concatenate(list(shown.values()))
    dimensions = pooled.shape[1]
    if dimensions < 2:
        return {}
    centre = pooled.mean(axis=0)
    pooled -= centre
    _, axes = eigh(pooled.T @ pooled, subset_by_index=(dimensions - 2, dimensions - 1))
    axes = axes[:, ::-1]  # (dimensions, 2), the largest variance first
    axes *= np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])
    return {name: [(a, b) for a, b in np.round((x - centre) @ axes, 4).tolist()] for name, x in shown.items()}
