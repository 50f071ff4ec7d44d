"""How many tokens a text has: its bytes of UTF-8, or what a `tokenizers` tokenizer makes of it; and which ones.

Truncation and padding, which a tokenizer.json may carry (MiniLM's are 128 and 128, so that every text would count 128), are
switched off, and no special tokens are added, nor made of a text that spells one: end-of-text stands where a document ends and
nowhere else. A counter holds the tokenizer itself, so a worker needs neither the file nor the network, and its fingerprint says
what was counted with.

Cost on one core: bytes are one subtraction a text; MiniLM's WordPiece 3.3 MB of text a second, a byte-level BPE 3.1.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from chameleon_data import recipe
from chameleon_data.arrays import I64, byte_lengths
from chameleon_data.corpus.model_files import find_tokenizer_file
from chameleon_data.errors import InputError, explaining, first_line
from chameleon_data.hashing import fingerprint

TOKENISED_AT_ONCE = 1 << 19
"""Of text tokenised at once: the library holds 100 to 200 bytes for each. A longer text is cut before a space, where tokenizers
cut too, so that memory does not grow with it; without a space, between characters, and a cut may cost a token."""


ENDS_OF_TEXT = ("<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|im_end|>", "<eos>", "</s>", "[SEP]")
"""The first of these that a tokenizer has, where the recipe names none: GPT-2, Llama 3, Qwen, Gemma, Llama 2 and T5, BERT."""


@dataclass(frozen=True)
class TokenCounter:
    fingerprint: str
    """'bytes', or of the tokenizer's definition without truncation and padding, and of where long texts are cut."""
    definition: str = field(default="", repr=False, compare=False)
    """That definition, JSON as in tokenizer.json; none where bytes are counted."""
    end_of_text: int | None = None
    """Id of the token that ends a document, where the tokenizer has one."""
    vocabulary: int = 0
    """One more than the largest id."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smallest that holds every id; little-endian."""
        return np.dtype("<u2" if self.vocabulary <= 1 << 16 else "<u4")

    @property
    def required_end(self) -> int:
        if self.end_of_text is None:
            raise InputError("tokens.end_of_text: the tokenizer has none of the usual tokens; name the one that ends a text")
        return self.end_of_text

    def ids(self, texts: pa.LargeStringArray) -> pa.LargeBinaryArray:
        """Token ids of each text and end-of-text behind them, as the bytes of `dtype`. Their number is `count` and one.

        Raises InputError where the tokenizer fails or has no end-of-text.
        """
        end, dtype = [self.required_end], self.dtype
        sizes = byte_lengths(texts)
        found = [b""] * len(texts)
        batches, long = _batches(sizes)
        for rows in batches:
            for row, ids in zip(rows.tolist(), self._encoded(texts.take(pa.array(rows)).to_pylist()), strict=True):
                found[row] = np.array(ids + end, dtype).tobytes()
        for row in long.tolist():
            pieces = (self._encoded([piece])[0] for piece in _pieces(memoryview(texts[row].as_buffer())))
            found[row] = b"".join(np.array(ids, dtype).tobytes() for ids in (*pieces, end))
        if (np.frombuffer(b"".join(found), dtype) == end[0]).sum() != len(found):
            raise InputError("tokens.end_of_text: the tokenizer also makes it of what a text says; name another one")
        return pa.array(found, pa.large_binary())

    def count(self, texts: pa.LargeStringArray) -> I64:
        """Tokens of each text; no nulls. Linear in the length of a text. Raises InputError where the tokenizer fails."""
        counts = byte_lengths(texts)
        if not self.definition:
            return counts
        batches, long = _batches(counts)
        for rows in batches:
            counts[rows] = self._lengths(texts.take(pa.array(rows)).to_pylist())
        for row in long.tolist():
            counts[row] = sum(self._lengths([piece])[0] for piece in _pieces(memoryview(texts[row].as_buffer())))
        return counts

    def _lengths(self, texts: list[str]) -> list[int]:
        return [len(ids) for ids in self._encoded(texts)]

    def _encoded(self, texts: list[str]) -> list[list[int]]:
        with _explaining("it cannot read a text", "use one that reads any text"):
            return [e.ids for e in _tokenizer(self).encode_batch_fast(texts, add_special_tokens=False)]


def _batches(sizes: I64) -> tuple[list[I64], I64]:
    """Rows to tokenise together, and those that are too long for that; `sizes` is (rows,) in bytes."""
    short = np.flatnonzero(sizes <= TOKENISED_AT_ONCE)
    batches = np.split(short, np.flatnonzero(np.diff(np.cumsum(sizes[short]) // TOKENISED_AT_ONCE)) + 1)
    return batches, np.flatnonzero(sizes > TOKENISED_AT_ONCE)


def _pieces(text: memoryview) -> Iterator[str]:
    """UTF-8 in pieces of at most BATCH_BYTES, each but the first beginning with a space if there is one to cut at."""
    start = 0
    while start < len(text):
        piece = bytes(text[start : start + TOKENISED_AT_ONCE])
        if start + len(piece) < len(text):
            space = piece.rfind(b" ")
            piece = piece[:space] if space > 0 else piece[: len(piece) - len(_cut_character(piece))]
        yield piece.decode()
        start += len(piece)


def _cut_character(piece: bytes) -> bytes:
    """The bytes at the end that only begin a character."""
    found = re.search(rb"[\xC0-\xDF]$|[\xE0-\xEF][\x80-\xBF]?$|[\xF0-\xF7][\x80-\xBF]{0,2}$", piece[-4:])
    return found[0] if found else b""


def load_token_counter(tokens: recipe.Tokens) -> TokenCounter:
    """The counter that a recipe asks for. Raises InputError where the tokenizer cannot be found or read."""
    if tokens.tokenizer is None:
        return TokenCounter("bytes")
    file = find_tokenizer_file(tokens.tokenizer, "tokens.tokenizer")
    with _explaining(f"{file} is not a tokenizer.json", "use one that the tokenizers library wrote"):
        definition = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(definition, dict) or "model" not in definition:
        raise InputError(f"tokens.tokenizer: {file} is not a tokenizer.json: it has no 'model'")
    definition |= {"truncation": None, "padding": None}
    identity = {"definition": definition, "cut": TOKENISED_AT_ONCE, "special": "as text"}
    counter = TokenCounter(fingerprint(identity), json.dumps(definition, ensure_ascii=False))
    with _explaining(f"{file} is not a tokenizer.json", "use one that the tokenizers library wrote"):
        tokenizer = _tokenizer(counter)
    wanted = ENDS_OF_TEXT if tokens.end_of_text is None else (tokens.end_of_text,)
    ends = [found for name in wanted if (found := tokenizer.token_to_id(name)) is not None]
    if tokens.end_of_text is not None and not ends:
        raise InputError(f"tokens.end_of_text: {tokens.end_of_text!r} is no token of {file}; name one that is in its vocabulary")
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
    return replace(counter, end_of_text=ends[0] if ends else None, vocabulary=largest + 1)


def _explaining(what: str, advice: str) -> AbstractContextManager[None]:
    """The library raises nothing narrower than Exception. Where its Rust panics (a pattern that backtracks without end is one of
    the ways) it raises not even that."""

    def explain(error: BaseException) -> str | None:
        ours = isinstance(error, Exception) or type(error).__name__ == "PanicException"
        return f"{what} ({first_line(error)}); {advice}" if ours else None

    return explaining("tokens.tokenizer", {BaseException: explain})


@functools.lru_cache(maxsize=2)
def _tokenizer(counter: TokenCounter) -> Any:
    """Built once a process. One thread unless the user says otherwise: there is a worker on every core already."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(counter.definition)
    tokenizer.encode_special_tokens = True  # as text
    return tokenizer
