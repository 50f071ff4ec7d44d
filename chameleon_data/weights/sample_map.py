"""A map of the sampled documents: their first two principal components, by faiss."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

MAP_POINTS = 5_000
"""On the map, in all; each domain shows an equal share, its lowest hashes."""


def map_samples(vectors: Mapping[str, npt.NDArray[np.float32]]) -> dict[str, list[tuple[float, float]]]:
    """Domain -> (x, y) of its documents, from (documents, dimensions) a domain. Axes are signed so that the map does not flip."""
    import faiss

    share = max(1, MAP_POINTS // len(vectors))
    shown = {name: np.ascontiguousarray(x[:share]) for name, x in vectors.items()}
    pooled = np.concatenate(list(shown.values()))
    if pooled.shape[1] < 2:
        return {}
    pca = faiss.PCAMatrix(pooled.shape[1], 2)
    pca.train(pooled)
    axes = faiss.vector_to_array(pca.A).reshape(-1, pooled.shape[1])[:2]
    signs = np.sign(axes[np.arange(2), np.abs(axes).argmax(axis=1)])
    return {name: [(a, b) for a, b in np.round(pca.apply(x) * signs, 4).tolist()] for name, x in shown.items()}
