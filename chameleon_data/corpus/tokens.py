"""Counts the tokens of texts, as bytes of UTF-8 or with a tokenizer of the `tokenizers` library, and makes token ids.

A tokenizer.json may truncate and pad; both are switched off, since a text would count as 128 tokens whatever its length. No
special tokens are added, and none are made of a text that spells one: end-of-text stands where a document ends and nowhere else.
A counter holds the tokenizer's definition, so a worker needs neither the file nor the network.

Cost on one core: MiniLM's WordPiece counts 3.3 MB of text a second, a byte-level BPE 3.1. Bytes are one subtraction a text.
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
import numpy.typing as npt
import pyarrow as pa

from chameleon_data.arrays import I64, byte_lengths
from chameleon_data.corpus.model_files import find_tokenizer_file
from chameleon_data.errors import InputError, explaining, first_line
from chameleon_data.hashing import fingerprint
from chameleon_data.recipe import Tokens

TOKENISED_AT_ONCE = 1 << 19
"""Bytes of text that are tokenised at once; the library holds 100 to 200 bytes for each. A longer text is cut before a space, as
tokenizers do, or between characters where there is none. Then a cut may cost a token."""
ENDS_OF_TEXT = ("<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|im_end|>", "<eos>", "</s>", "[SEP]")
"""The tokens that end a document in GPT-2, Llama 3, Qwen, Gemma, Llama 2 and T5, and BERT. The first that a tokenizer has is
taken where the recipe names none."""


@dataclass(frozen=True)
class TokenCounter:
    """How the tokens of a text are counted, and which they are."""

    fingerprint: str
    """'bytes', or a fingerprint of the definition and of where long texts are cut."""
    definition: str = field(default="", repr=False, compare=False)
    """The tokenizer, as JSON in the form of tokenizer.json, without truncation and padding; empty where bytes are counted."""
    end_of_text: int | None = None
    """Id of the token that ends a document, where the tokenizer has one."""
    vocabulary: int = 0
    """One more than the largest id."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smallest unsigned type that holds every id; little-endian."""
        return np.dtype("<u2" if self.vocabulary <= 1 << 16 else "<u4")

    @property
    def required_end(self) -> int:
        """`end_of_text`; InputError where there is none."""
        if self.end_of_text is None:
            raise InputError("tokens.end_of_text: the tokenizer has none of the usual tokens; name the one that ends a text")
        return self.end_of_text

    def ids(self, texts: pa.LargeStringArray) -> pa.LargeBinaryArray:
        """Token ids of each text and end-of-text behind them, as the bytes of `dtype`: one id more than `count` says.

        Raises InputError where the tokenizer fails or has no end-of-text. Whoever writes ids calls `check_ends`.
        """
        end, dtype = [self.required_end], self.dtype
        ids = [b""] * len(texts)
        batches, long = _batches(byte_lengths(texts))
        for rows in batches:
            for row, ids_of_text in zip(rows.tolist(), self._encode(texts.take(pa.array(rows)).to_pylist()), strict=True):
                ids[row] = np.array(ids_of_text + end, dtype).tobytes()
        for row in long.tolist():
            slices = (self._encode([text])[0] for text in _slice_text(memoryview(texts[row].as_buffer())))
            ids[row] = b"".join(np.array(ids_of_slice, dtype).tobytes() for ids_of_slice in (*slices, end))
        return pa.array(ids, pa.large_binary())

    def check_ends(self, ids: npt.NDArray[Any], documents: int) -> None:
        """Raise InputError unless end-of-text stands in the ids of so many documents once for each."""
        if (ids == self.required_end).sum() != documents:
            raise InputError("tokens.end_of_text: the tokenizer also makes it of what a text says; name another one")

    def count(self, texts: pa.LargeStringArray) -> I64:
        """(rows,) tokens of each text; `texts` has no nulls. Raises InputError where the tokenizer fails.

        The time is linear in the length of a text.
        """
        counts = byte_lengths(texts)
        if not self.definition:
            return counts
        batches, long = _batches(counts)
        for rows in batches:
            counts[rows] = self._lengths(texts.take(pa.array(rows)).to_pylist())
        for row in long.tolist():
            counts[row] = sum(self._lengths([text])[0] for text in _slice_text(memoryview(texts[row].as_buffer())))
        return counts

    def _lengths(self, texts: list[str]) -> list[int]:
        return [len(ids) for ids in self._encode(texts)]

    def _encode(self, texts: list[str]) -> list[list[int]]:
        with _explaining("it cannot read a text", "use one that reads any text"):
            return [e.ids for e in _tokenizer(self).encode_batch_fast(texts, add_special_tokens=False)]


def _batches(sizes: I64) -> tuple[list[I64], I64]:
    """Rows to tokenise together, and rows that are too long for it; `sizes` is (rows,) in bytes."""
    short = np.flatnonzero(sizes <= TOKENISED_AT_ONCE)
    batches = np.split(short, np.flatnonzero(np.diff(np.cumsum(sizes[short]) // TOKENISED_AT_ONCE)) + 1)
    return batches, np.flatnonzero(sizes > TOKENISED_AT_ONCE)


def _slice_text(text: memoryview) -> Iterator[str]:
    """UTF-8 in slices of at most TOKENISED_AT_ONCE bytes. Each but the first begins with a space if there is one to cut at."""
    start = 0
    while start < len(text):
        part = bytes(text[start : start + TOKENISED_AT_ONCE])
        if start + len(part) < len(text):
            space = part.rfind(b" ")
            part = part[:space] if space > 0 else part[: len(part) - len(_incomplete_character(part))]
        yield part.decode()
        start += len(part)


def _incomplete_character(part: bytes) -> bytes:
    """The bytes at the end that begin a character and do not end it."""
    match = re.search(rb"[\xC0-\xDF]$|[\xE0-\xEF][\x80-\xBF]?$|[\xF0-\xF7][\x80-\xBF]{0,2}$", part[-4:])
    return match[0] if match else b""


def load_token_counter(tokens: Tokens) -> TokenCounter:
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
    ends = [id for name in wanted if (id := tokenizer.token_to_id(name)) is not None]
    if tokens.end_of_text is not None and not ends:
        raise InputError(f"tokens.end_of_text: {tokens.end_of_text!r} is no token of {file}; name one that is in its vocabulary")
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
    return replace(counter, end_of_text=ends[0] if ends else None, vocabulary=largest + 1)


def _explaining(what: str, advice: str) -> AbstractContextManager[None]:
    """For the tokenizers library. It raises nothing narrower than Exception, and where its Rust code panics not even that; a
    pattern that backtracks without end is one way to make it panic."""

    def explain(error: BaseException) -> str | None:
        ours = isinstance(error, Exception) or type(error).__name__ == "PanicException"
        return f"{what} ({first_line(error)}); {advice}" if ours else None

    return explaining("tokens.tokenizer", {BaseException: explain})


@functools.lru_cache(maxsize=2)
def _tokenizer(counter: TokenCounter) -> Any:
    """The tokenizer, built once a process. It takes one thread unless the user says otherwise: every core has a worker."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(counter.definition)
    tokenizer.encode_special_tokens = True  # as text
    return tokenizer
