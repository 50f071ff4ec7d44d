"""A sentence-transformers model of static vectors, made up: no download, and nothing to compute but means."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from chameleon_data.arrays import F32


def save_static_model(folder: Path, words: Sequence[str], vectors: F32) -> Path:
    """The vector of a text is the mean of its words'; `vectors` has one for each word, and a last one for all others."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*words, "[UNK]"])}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=vectors)], device="cpu").save(str(folder))
    return folder
