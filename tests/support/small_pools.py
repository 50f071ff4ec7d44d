"""Small pools of made-up text, each domain with words of its own."""

from __future__ import annotations

import numpy as np

from chameleon_data.evaluation.pool import Pool, make_pool


def make_texts(domains: int, documents: int, seed: int = 0, words: int = 60) -> dict[str, list[str]]:
    """Domain -> documents of 40 words, half of them the domain's own."""
    rng = np.random.default_rng(seed)
    texts = {}
    for domain in range(domains):
        draw = rng.integers(0, words, (documents, 40)) + np.where(rng.random((documents, 40)) < 0.5, 0, (domain + 1) * words)
        texts[f"d{domain}"] = [" ".join(f"w{word}" for word in row) for row in draw.tolist()]
    return texts


def small_pool(domains: int = 3, context: int = 32, vocabulary: int = 300, unseen: bool = False) -> Pool:
    train, held_out = make_texts(domains, 60), make_texts(domains, 8, seed=1)
    other = {"new": make_texts(domains + 1, 8, seed=2)[f"d{domains}"]} if unseen else {}
    return make_pool(train, held_out, other, context, vocabulary)
