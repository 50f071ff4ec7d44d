"""Texts to vectors, in batches of about as many tokens each.

Texts are tokenised once and sorted by length, so that little is padding and intermediate results stay small. The texts of one
call alone decide what is run together. Everything is float32, on a GPU too. Why: docs/decisions/051-embedding-batches.md and
052-embedding-runtimes.md. Cost: MiniLM, texts of up to 256 tokens, two cores of a busy machine: 36 a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from chameleon_data.arrays import F32

BATCH_TOKENS = {"cpu": 2048, "cuda": 65536}
"""Tokens of one batch, padding included."""
TEXTS_TOKENISED_AT_ONCE = 256


def encode_texts(model: Any, texts: Sequence[str]) -> F32:
    """(texts, dimensions) embeddings by a SentenceTransformer, equal to its own `encode`, or by a LanguageModel."""
    import torch

    if not texts:
        return np.zeros((0, model.get_embedding_dimension() or 0), np.float32)
    with torch.inference_mode():
        prompt = model.prompts.get(model.default_prompt_name) if model.default_prompt_name else None
        rows, shared = tokenise(model, list(texts), prompt)
        if rows is None:
            return np.asarray(model.encode(list(texts), show_progress_bar=False), np.float32)
        lengths = np.array([len(row["attention_mask"]) for row in rows])
        vectors: list[Any] = [None] * len(rows)
        for batch in token_batches(lengths, BATCH_TOKENS[model.device.type]):
            features = {key: value.to(model.device) for key, value in pad_rows(model.tokenizer, [rows[i] for i in batch]).items()}
            encoded = model.forward(features | shared)["sentence_embedding"]
            for i, vector in zip(batch, encoded.float().cpu().numpy(), strict=True):
                vectors[i] = vector
    return np.stack(vectors)


def token_batches(lengths: npt.NDArray[np.int64], tokens: int) -> list[list[int]]:
    """Indices of rows in batches of at most `tokens` when padded, or of one row. The longest rows come first."""
    order = np.argsort(-lengths, kind="stable").tolist()
    batches, start = [], 0
    while start < len(order):
        stop = start + max(1, tokens // int(lengths[order[start]]))
        batches.append(order[start:stop])
        start = stop
    return batches


def tokenise(model: Any, texts: list[str], prompt: str | None) -> tuple[list[dict[str, Any]] | None, dict[str, Any]]:
    """Each text's tensors without padding, and what the model reads beside them, such as the prompt's length.

    None in their place: the model has no attention mask, because it is a bag of words or of static vectors.
    """
    rows, shared = [], {}
    for start in range(0, len(texts), TEXTS_TOKENISED_AT_ONCE):
        features = model.preprocess(texts[start : start + TEXTS_TOKENISED_AT_ONCE], prompt=prompt)
        if "attention_mask" not in features:
            return None, {}
        shape = features["attention_mask"].shape
        each = {key: value for key, value in features.items() if getattr(value, "shape", None) == shape}
        shared = {key: value for key, value in features.items() if key not in each}
        for i, mask in enumerate(features["attention_mask"].bool()):
            rows.append({key: value[i][mask] for key, value in each.items()})
    return rows, shared


def pad_rows(tokenizer: Any, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The rows as (rows, longest) tensors; the attention mask is 0 at the padding."""
    import torch

    fill = {"input_ids": tokenizer.pad_token_id or 0}
    return {
        key: torch.nn.utils.rnn.pad_sequence(
            [row[key] for row in rows], batch_first=True, padding_value=fill.get(key, 0), padding_side=tokenizer.padding_side
        )
        for key in rows[0]
    }
