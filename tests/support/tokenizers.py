"""A tokenizer for tests that needs no file of anybody else: a token is a byte."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers


def byte_tokenizer(folder: Path, *special: str) -> Path:
    """Bytes as tokens, and `<|endoftext|>`, which a text can spell; then further special tokens."""
    vocabulary = {symbol: i for i, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    found = Tokenizer(models.BPE(vocabulary, []))
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.add_special_tokens(["<|endoftext|>", *special])
    file = folder / "tokenizer.json"
    found.save(str(file))
    return file
