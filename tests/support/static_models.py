"""A sentence-transformers model of static vectors, made up: no download, and nothing to compute but means."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from chameleon_data.arrays import F32
from chameleon_data.weights.embedder import Embedder, load_model


def save_static_model(folder: Path, words: Sequence[str], vectors: F32) -> Path:
    """The vector of a text is the mean of its words'; `vectors` has one for each word, and a last one for all others."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*words, "[UNK]"])}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=vectors)], device="cpu").save(str(folder))
    return folder


def save_static_copy(folder: Path, transformer: Embedder) -> Path:
    """Made-up vectors of 256 numbers for the tokens of a transformer, whose tokenizer it has."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(load_model(transformer).tokenizer.backend_tokenizer.to_str())
    vectors = np.random.default_rng(0).normal(size=(tokenizer.get_vocab_size(), 256)).astype(np.float32)
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=vectors)], device="cpu").save(str(folder))
    return folder
