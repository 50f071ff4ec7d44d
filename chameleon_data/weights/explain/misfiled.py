"""Misfiled documents: those that are nearer to another domain than to their own.

A document is nearer to domain d the larger its mean cosine with the 5 nearest documents of d; itself does not count. Only the
head of the list says something, since many documents with the right label are nearer to another domain too. Why:
docs/decisions/053-near-duplicates-and-misfiled-documents.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from chameleon_data.arrays import F64

NEAREST_DOCUMENTS = 5
"""Documents of a domain that a document is compared with."""
REFERENCE_DOCUMENTS = 10_000
"""Documents to compare with, in all: the first of each domain. This bounds the search at n × 10,000 products."""
PRODUCTS_AT_ONCE = 2**22
"""Inner products that are in memory together."""


@dataclass(frozen=True)
class Misfiled:
    """A document that is nearer to another domain than to its own."""

    domain: str
    """The domain that it is in."""
    row: int
    """Which of the domain's samples."""
    nearest: str
    """The domain that it is nearest to."""
    margin: float
    """Mean cosine with the nearest documents there, less the mean cosine with those of its own domain."""


def find_misfiled(
    vectors: Mapping[str, npt.NDArray[np.float32]], most: int = 50, nearest: int = NEAREST_DOCUMENTS
) -> tuple[Misfiled, ...]:
    """At most `most` documents nearer to another domain, the largest margin first, from (n_i, p) embeddings a domain.

    Embeddings are moved by the mean of the domains' means and brought to unit length. Each is compared with the first
    10,000 / k of every domain, which rows sorted by hash make a random part. A domain of one sample is neither searched nor
    named, since its document has no other to be compared with.
    Cost on one core, p = 384: .1 s for 10 domains of 256 samples, 30 s for 385.
    """
    names = sorted(name for name, x in vectors.items() if len(x) > 1)
    if len(names) < 2:
        return ()
    centre = np.mean([np.mean(vectors[name], axis=0, dtype=np.float64) for name in names], axis=0)
    unit = {name: _unit(vectors[name] - centre) for name in names}
    share = max(nearest + 1, REFERENCE_DOCUMENTS // len(names))
    starts = np.cumsum([0, *(len(unit[name]) for name in names)])
    queries = np.concatenate([unit[name] for name in names])
    own, best = np.empty(len(queries)), np.full(len(queries), -np.inf)
    best_domain = np.full(len(queries), -1, np.int64)
    for j, name in enumerate(names):
        members, reference = slice(starts[j], starts[j + 1]), unit[name][:share]
        own[members] = _mean_of_largest(unit[name], reference, min(nearest, len(reference) - 1), without_itself=True)
        others = _mean_of_largest(queries, reference, min(nearest, len(reference)))
        others[members] = -np.inf
        better = others > best
        best[better], best_domain[better] = others[better], j
    margin = best - own
    order = np.argsort(-margin, kind="stable")
    domain = np.searchsorted(starts, order, side="right") - 1
    return tuple(
        Misfiled(names[d], int(at - starts[d]), names[best_domain[at]], round(float(margin[at]), 6))
        for d, at in zip(domain[:most].tolist(), order[:most].tolist(), strict=True)
        if margin[at] > 0
    )


def _unit(x: F64) -> npt.NDArray[np.float32]:
    """Rows of length one; zero stays zero."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.ascontiguousarray(np.divide(x, length, out=np.zeros_like(x), where=length > 0), np.float32)


def _mean_of_largest(
    queries: npt.NDArray[np.float32], reference: npt.NDArray[np.float32], most: int, without_itself: bool = False
) -> F64:
    """(n) mean of the `most` largest inner products of each of the (n, p) queries with the (m, p) rows of the reference.

    `without_itself`: the reference is the first m queries, and none is compared with itself.
    """
    means, block = np.empty(len(queries)), max(1, PRODUCTS_AT_ONCE // len(reference))
    for start in range(0, len(queries), block):
        products = queries[start : start + block] @ reference.T
        if without_itself:
            itself = np.arange(start, min(start + len(products), len(reference)))
            products[itself - start, itself] = -np.inf
        largest = np.partition(products, len(reference) - most, axis=1)[:, len(reference) - most :]
        means[start : start + block] = largest.mean(axis=1, dtype=np.float64)
    return means
