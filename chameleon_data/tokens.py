"""How many tokens a text has: its bytes of UTF-8, or what a `tokenizers` tokenizer makes of it.

Truncation and padding, which a tokenizer.json may carry (MiniLM's are 128 and 128, so that every text would count 128), are
switched off, and no special tokens are added. A counter holds the tokenizer itself, so a worker needs neither the file nor the
network, and its fingerprint says what was counted with.

Cost on one core: bytes are one subtraction a text; MiniLM's WordPiece 3.3 MB of text a second, a byte-level BPE 3.1.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from chameleon_data import recipe
from chameleon_data.errors import InputError
from chameleon_data.hashing import fingerprint
from chameleon_data.hub import tokenizer_file

I64 = npt.NDArray[np.int64]

BATCH_BYTES = 1 << 19
"""Of text tokenised at once: the library holds 100 to 200 bytes for each. A longer text is cut before a space, where tokenizers
cut too, so that memory does not grow with it; without a space, between characters, and a cut may cost a token."""


@dataclass(frozen=True)
class Counter:
    fingerprint: str
    """'bytes', or of the tokenizer's definition without truncation and padding, and of where long texts are cut."""
    definition: str = field(default="", repr=False, compare=False)
    """That definition, JSON as in tokenizer.json; none where bytes are counted."""

    def count(self, texts: pa.LargeStringArray) -> I64:
        """Tokens of each text; no nulls. Linear in the length of a text. Raises InputError where the tokenizer fails."""
        if not len(texts):
            return np.zeros(0, np.int64)
        offsets = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset : texts.offset + len(texts) + 1]
        counts = np.diff(offsets)
        if not self.definition:
            return counts
        whole, long = np.flatnonzero(counts <= BATCH_BYTES), np.flatnonzero(counts > BATCH_BYTES)
        batches = np.split(whole, np.flatnonzero(np.diff(np.cumsum(counts[whole]) // BATCH_BYTES)) + 1)
        for rows in batches:
            counts[rows] = self._lengths(texts.take(pa.array(rows)).to_pylist())
        for row in long.tolist():
            counts[row] = sum(self._lengths([piece])[0] for piece in _pieces(memoryview(texts[row].as_buffer())))
        return counts

    def _lengths(self, texts: list[str]) -> list[int]:
        try:
            return [len(e) for e in _tokenizer(self).encode_batch_fast(texts, add_special_tokens=False)]
        except Exception as error:  # the library raises nothing narrower
            raise InputError(f"tokens.tokenizer: it cannot read a text ({error}); use one that reads any text") from error


def _pieces(text: memoryview) -> Iterator[str]:
    """UTF-8 in pieces of at most BATCH_BYTES, each but the first beginning with a space if there is one to cut at."""
    start = 0
    while start < len(text):
        piece = bytes(text[start : start + BATCH_BYTES])
        if start + len(piece) < len(text):
            space = piece.rfind(b" ")
            piece = piece[:space] if space > 0 else piece[: len(piece) - len(_cut_character(piece))]
        yield piece.decode()
        start += len(piece)


def _cut_character(piece: bytes) -> bytes:
    """The bytes at the end that only begin a character."""
    found = re.search(rb"[\xC0-\xDF]$|[\xE0-\xEF][\x80-\xBF]?$|[\xF0-\xF7][\x80-\xBF]{0,2}$", piece[-4:])
    return found[0] if found else b""


def load_counter(tokens: recipe.Tokens) -> Counter:
    """The counter that a recipe asks for. Raises InputError where the tokenizer cannot be found or read."""
    if tokens.tokenizer is None:
        return Counter("bytes")
    file = tokenizer_file(tokens.tokenizer, "tokens.tokenizer")
    try:
        definition = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"tokens.tokenizer: {file} is not a tokenizer.json: {error}") from error
    if not isinstance(definition, dict) or "model" not in definition:
        raise InputError(f"tokens.tokenizer: {file} is not a tokenizer.json: it has no 'model'")
    definition |= {"truncation": None, "padding": None}
    counter = Counter(fingerprint({"definition": definition, "cut": BATCH_BYTES}), json.dumps(definition, ensure_ascii=False))
    try:
        _tokenizer(counter)
    except Exception as error:  # the library raises nothing narrower
        raise InputError(f"tokens.tokenizer: {file} is not a tokenizer.json: {error}") from error
    return counter


@functools.lru_cache(maxsize=2)
def _tokenizer(counter: Counter) -> Any:
    """Built once a process. One thread unless the user says otherwise: there is a worker on every core already."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from tokenizers import Tokenizer

    return Tokenizer.from_str(counter.definition)
