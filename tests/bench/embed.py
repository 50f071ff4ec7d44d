"""Embedding: documents of mixed length beside plain sentence-transformers, and beside the forward pass alone.

Ours cuts each document's window and embeds it. The plain call gets the documents as they are, in corpus order; then the windows
too, which leaves the batches as the only difference. The contestants take turns, so that what else the machine does meets all.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from chameleon_data import domain_weights
from chameleon_data.corpus.sample import _cut_windows
from chameleon_data.recipe import Embed
from chameleon_data.weights.embedder import Device, Embedder, in_precision, load_embedder, load_model
from chameleon_data.weights.encode_texts import BATCH_TOKENS, pad_rows, token_batches, tokenise
from tests.bench.figures import Figure, show
from tests.support.corpus import demo_texts, documents

DOCUMENTS, ROUNDS = 64, 5
DRAWS = 200


def run() -> list[Figure]:
    pool = [text for texts in documents().values() for text in texts]
    texts = random.Random(0).sample(pool, DOCUMENTS)
    embedder = load_embedder(Embed())
    assert isinstance(embedder, Embedder)
    device: Device = "cuda" if torch.cuda.is_available() else "cpu"
    embedder = in_precision(embedder, "auto", device == "cuda")
    model = load_model(embedder, device)
    column = pa.array(texts, pa.large_string())

    def cut() -> list[list[str]]:
        none = [0] * len(texts)
        return _cut_windows(column, np.arange(len(texts)), none, [1] * len(texts), embedder.window)

    windows = [window for document in cut() for window in document]
    with torch.inference_mode():
        rows, _ = tokenise(model, windows, None)
        assert rows is not None
        lengths = np.array([len(row["attention_mask"]) for row in rows])
        batches = token_batches(lengths, BATCH_TOKENS[model.device.type])
        ready = [pad_rows(model.tokenizer, [rows[i] for i in batch]) for batch in batches]

    def forward() -> None:
        with torch.inference_mode():
            for features in ready:
                model.forward({key: value.to(model.device) for key, value in features.items()})["sentence_embedding"].cpu()

    contestants: list[Callable[[], Any]] = [
        lambda: embedder.encode(cut(), device),
        forward,
        lambda: model.encode(texts, show_progress_bar=False),
        lambda: model.encode(windows, show_progress_bar=False),
    ]
    names = ("ours", "alone", "plain", "windowed")
    seconds = ours, alone, plain, windowed = _in_turn(contestants)
    size = f"{len(texts)} documents of {min(map(len, texts)):,} to {max(map(len, texts)):,} characters"
    speed = {name: f"{len(texts) / taken:.3g} documents/s" for name, taken in zip(names, seconds, strict=True)}
    return [
        Figure("embedding", len(texts) / ours, "documents/s", peer=f"{lengths.sum() / ours:,.0f} tokens/s, {model.device.type}"),
        Figure("embedding, mixed lengths", plain / ours, "×", 1.5, f"SentenceTransformer.encode of {size}: {speed['plain']}"),
        Figure("embedding, same windows", windowed / ours, "×", None, f"SentenceTransformer.encode: {speed['windowed']}"),
        Figure("embedding, share of the forward pass", alone / ours, "", 0.95, f"the model alone: {speed['alone']}"),
        *_coverage(embedder),
    ]


def _coverage(embedder: Embedder) -> list[Figure]:
    """How often the 90 % intervals of small samples hold the weight of the population that they were drawn from.

    The population is 60 real documents a domain; samples are drawn from it with replacement.
    """
    some = {name: [text[: 6 * embedder.window] for text in texts[:60]] for name, texts in sorted(demo_texts().items())}
    vectors = {name: embedder.encode([[text] for text in texts]).astype(np.float64) for name, texts in some.items()}
    truth = domain_weights(vectors, debias=0).weights
    figures = []
    for n in (20, 40, 80):
        inside = []
        for draw in range(DRAWS):
            rng = np.random.default_rng([n, draw])
            sample = {name: x[rng.integers(0, len(x), n)] for name, x in vectors.items()}
            found = domain_weights(sample).intervals
            inside += [ends[0] <= truth[name] <= ends[1] for name, ends in found.items() if ends]
        peer = f"wanted .90; {DRAWS} samples of {len(vectors)} domains of 60 real documents"
        figures.append(Figure(f"coverage of the intervals, {n} samples", float(np.mean(inside)), "", None, peer))
    return figures


def _in_turn(actions: list[Callable[[], Any]]) -> list[float]:
    """Median seconds of each action; a first round is not counted."""
    rounds = []
    for _ in range(ROUNDS + 1):
        taken = []
        for action in actions:
            start = time.perf_counter()
            action()
            taken.append(time.perf_counter() - start)
        rounds.append(taken)
    return [statistics.median(column) for column in zip(*rounds[1:], strict=True)]


if __name__ == "__main__":
    show(run())
