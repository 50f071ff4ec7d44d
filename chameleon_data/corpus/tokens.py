"""Counts the tokens of texts, as bytes of UTF-8 or with a tokenizer of the `tokenizers` library, and makes token ids.

A tokenizer.json may truncate and pad; both are switched off, since a text would count as 128 tokens whatever its length. No
special tokens are added, and none are made of a text that spells one: the library is kept from matching them, and pieces of the
vocabulary that are special are renamed. So end-of-text stands where a document ends and nowhere else. A text of which it is made
all the same, or that the tokenizer fails on, has a negative count, and the survey sets it aside.
A counter holds the tokenizer's definition, so a worker needs neither the file nor the network.

Cost on one core: MiniLM's WordPiece counts 3.3 MB of text a second, a byte-level BPE 3.1. Bytes are one subtraction a text.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from chameleon_data.arrays import I64, Mask, byte_lengths
from chameleon_data.corpus.chat_template import ChatTemplate, TemplateRefusesError, load_chat_template
from chameleon_data.corpus.conversations import ASSISTANT, contents, read_conversation
from chameleon_data.corpus.model_files import find_tokenizer_file
from chameleon_data.errors import DefectError, InputError, explaining, first_line
from chameleon_data.hashing import fingerprint
from chameleon_data.recipe import Shards, Tokens

TOKENISED_AT_ONCE = 1 << 19
"""Bytes of text that are tokenised at once; the library holds 100 to 200 bytes for each. A longer text is cut before a space, as
tokenizers do, or between characters where there is none. Then a cut may cost a token."""
ENDS_OF_TEXT = ("<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|im_end|>", "<eos>", "</s>", "[SEP]")
"""The tokens that end a document in GPT-2, Llama 3, Qwen, Gemma, Llama 2 and T5, and BERT. The first that a tokenizer has is
taken where the recipe names none."""


SPELLS_END = -1
"""In the place of a number of tokens: the tokenizer makes end-of-text of what the text says."""
TOKENIZER_FAILS = -2
"""The tokenizer fails on the text."""
TEMPLATE_REFUSES = -3
"""The chat template raises an error at the conversation."""
TOO_LONG = -4
"""The conversation is longer than a sequence, and none may be."""
LONG_LEFT_OUT = -5
"""The conversation is longer than a sequence, and such are left out."""
DROPS_CHARACTERS = (
    "the tokenizer has no token for characters that it does not know, and leaves them out: they are neither counted nor written; "
    "one with an unknown token, or with bytes to fall back on, does not"
)
RARE_CHARACTERS = "\U00013000\U00012000\U00020000\U0001f9ff"
"""A hieroglyph, a cuneiform sign, a Chinese character beyond the common ones, and an emoji."""


@dataclass(frozen=True)
class TokenCounter:
    """How the tokens of a text are counted, and which they are."""

    fingerprint: str
    """'bytes', or a fingerprint of the definition and of where long texts are cut."""
    definition: str = field(default="", repr=False, compare=False)
    """The tokenizer, as JSON in the form of tokenizer.json, as it is used here; empty where bytes are counted."""
    end_of_text: int | None = None
    """Id of the token that ends a document, where the tokenizer has one."""
    vocabulary: int = 0
    """One more than the largest id."""
    drops: bool = False
    """Whether the tokenizer leaves out characters that it does not know."""
    chat: Literal["", "all", "trained"] = ""
    """Texts are conversations (`conversations.py`), of which these tokens count. Empty: they are texts."""
    template: ChatTemplate | None = field(default=None, repr=False, compare=False)
    """What makes text of conversations, where a tokenizer counts them."""
    length: int = 0
    """Tokens of a sequence that conversations are packed into; 0: they are not packed."""
    overlong: Literal["fail", "drop", "cut"] = "fail"
    """What comes of a conversation that is longer."""

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
        """Token ids of each text and end-of-text behind them, as the bytes of `dtype`: one id more than `count` says; none where
        that is negative.

        Raises InputError where the tokenizer has no end-of-text. Whoever writes ids calls `check_ends`.
        """
        return self.tokenise(texts)[0]

    def tokenise(self, texts: pa.LargeStringArray) -> tuple[pa.LargeBinaryArray, I64]:
        """`ids` and `count` in one go."""
        end, dtype = [self.required_end], self.dtype
        ids, counts = [b""] * len(texts), np.zeros(len(texts), np.int64)
        batches, long = _batches(byte_lengths(texts))
        for rows in batches:
            for row, found in zip(rows.tolist(), self._encode(texts.take(pa.array(rows)).to_pylist()), strict=True):
                counts[row] = found if isinstance(found, int) else len(found)
                if not isinstance(found, int):
                    ids[row] = np.array(found + end, dtype).tobytes()
        for row in long.tolist():
            slices = [self._encode([text])[0] for text in _slice_text(memoryview(texts[row].as_buffer()))]
            counts[row] = _add_up(slices)
            if counts[row] >= 0:
                ids[row] = b"".join(np.array(found, dtype).tobytes() for found in (*slices, end))
        return pa.array(ids, pa.large_binary()), counts

    def count_and_cut(self, texts: pa.LargeStringArray) -> tuple[I64, Mask]:
        """`count`, and (rows,) whether a conversation is cut at the end of a sequence. What is behind it does not count."""
        if not self.length:
            return self.count(texts), np.zeros(len(texts), bool)
        found = [self._count_turns(text) for text in texts.to_pylist()]
        return np.array([count for count, _ in found], np.int64), np.array([cut for _, cut in found], bool)

    def turn_ids(self, text: str) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8]]:
        """The ids of a conversation that is packed, at most `length`, and (ids,) 1 for those that a trainer learns from.

        Raises TemplateRefusesError, and InputError where the template does not tell whose the turns are.
        """
        ids, mask = self._encode_turns(text)
        return np.array(ids[: self.length], self.dtype), mask[: self.length].astype(np.uint8)

    def _encode_turns(self, text: str) -> tuple[list[int], Mask]:
        """The ids, and whether a trainer learns from each; never cut."""
        messages, tools = read_conversation(text)
        if self.template is None:
            raise DefectError("ids of a conversation without a template")
        rendered, spans = self.template.render_spans(messages, tools)
        encoded = _tokenizer(self).encode(rendered, add_special_tokens=False)
        return encoded.ids, assistant_mask(encoded, spans)

    def _count_turns(self, text: str) -> tuple[int, bool]:
        """Tokens of a conversation that is packed, or why it cannot be; and whether it is cut."""
        try:
            ids, mask = self._encode_turns(text)
        except TemplateRefusesError:
            return TEMPLATE_REFUSES, False
        long = len(ids) > self.length
        if long and self.overlong != "cut":
            return LONG_LEFT_OUT if self.overlong == "drop" else TOO_LONG, False
        return int(mask[: self.length].sum()) if self.chat == "trained" else min(len(ids), self.length), long

    def check_ends(self, ids: npt.NDArray[Any], documents: int) -> None:
        """Raise InputError unless end-of-text stands in the ids of so many documents once for each."""
        if (ids == self.required_end).sum() != documents:
            raise InputError("tokens.end_of_text: the tokenizer also makes it of what a text says; name another one")

    def count(self, texts: pa.LargeStringArray) -> I64:
        """(rows,) tokens of each text, or SPELLS_END or TOKENIZER_FAILS; `texts` has no nulls. The time is linear in length."""
        if self.chat:
            return np.array([self._count_conversation(text) for text in texts.to_pylist()], np.int64)
        counts = byte_lengths(texts)
        if not self.definition:
            return counts
        batches, long = _batches(counts)
        for rows in batches:
            counts[rows] = [
                found if isinstance(found, int) else len(found) for found in self._encode(texts.take(pa.array(rows)).to_pylist())
            ]
        for row in long.tolist():
            counts[row] = _add_up([self._encode([text])[0] for text in _slice_text(memoryview(texts[row].as_buffer()))])
        return counts

    def _count_conversation(self, text: str) -> int:
        """Tokens of a conversation: all of its rendering, or those that the assistant's stretches of it touch.

        Special tokens that a turn spells are made, as trainers make them. Without a tokenizer: bytes of the turns' contents.
        """
        messages, tools = read_conversation(text)
        if self.template is None:
            return sum(len(part.encode()) for part in contents(messages, ASSISTANT if self.chat == "trained" else "all"))
        try:
            if self.chat == "all":
                return len(_tokenizer(self).encode(self.template.render(messages, tools), add_special_tokens=False).ids)
            rendered, spans = self.template.render_spans(messages, tools)
        except TemplateRefusesError:
            return TEMPLATE_REFUSES
        return int(assistant_mask(_tokenizer(self).encode(rendered, add_special_tokens=False), spans).sum())

    def _encode(self, texts: list[str]) -> list[list[int] | int]:
        """The ids of each text, or SPELLS_END or TOKENIZER_FAILS."""
        tokenizer = _tokenizer(self)
        try:
            with _explaining("it cannot read a text", "use one that reads any text"):
                encoded = [e.ids for e in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        except InputError:  # one of the texts: each by itself, to see which
            return [TOKENIZER_FAILS] if len(texts) == 1 else [found for text in texts for found in self._encode([text])]
        return [SPELLS_END if self.end_of_text in ids else ids for ids in encoded]


def assistant_mask(encoded: Any, spans: Sequence[tuple[int, int]]) -> Mask:
    """(tokens,) whether a token of an encoding of the library is the assistant's, as `transformers` decides it: from the token of
    a stretch's first character to that of its last."""
    mask = np.zeros(len(encoded.ids), bool)
    for begin, end in spans:
        first, last = encoded.char_to_token(begin), encoded.char_to_token(end - 1) if end > begin else None
        if first is not None:
            mask[first : last + 1 if last is not None else len(mask)] = True
    return mask


def _add_up(slices: Sequence[list[int] | int]) -> int:
    """Tokens of a text by those of its slices."""
    faults = [found for found in slices if isinstance(found, int)]
    return min(faults) if faults else sum(len(ids) for ids in slices if not isinstance(ids, int))


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


def load_token_counter(tokens: Tokens, chat: bool = False, shards: Shards | None = None) -> TokenCounter:
    """The counter that a recipe asks for; `chat` says whether its documents are conversations, and `shards` whether these are
    packed. Raises InputError where the tokenizer or its template cannot be found or read."""
    if tokens.tokenizer is None:
        return TokenCounter(f"bytes of conversations, {tokens.count}", chat=tokens.count) if chat else TokenCounter("bytes")
    file = find_tokenizer_file(tokens.tokenizer, "tokens.tokenizer")
    with _explaining(f"{file} is not a tokenizer.json", "use one that the tokenizers library wrote"):
        definition = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(definition, dict) or "model" not in definition:
        raise InputError(f"tokens.tokenizer: {file} is not a tokenizer.json: it has no 'model'")
    definition |= {"truncation": None, "padding": None}
    with _explaining(f"{file} is not a tokenizer.json", "use one that the tokenizers library wrote"):
        whole = _build_tokenizer(json.dumps(definition, ensure_ascii=False))
        used = json.dumps(definition if chat else _rename_special_pieces(definition), ensure_ascii=False)
        identity: dict[str, Any] = {
            "definition": definition,
            "cut": TOKENISED_AT_ONCE,
            "special": "as text, in the vocabulary too",
        }
        if chat:
            template = load_chat_template(tokens.template, file)
            identity = {"definition": definition, "template": asdict(template), "count": tokens.count}
            counter = TokenCounter(fingerprint(identity), used, chat=tokens.count, template=template)
            if shards is None or shards.sequence_length == "none":
                return counter
            length, overlong = shards.sequence_length, shards.overlong
            counter = replace(counter, fingerprint=fingerprint([identity, length, overlong]), length=length, overlong=overlong)
        else:
            counter = TokenCounter(fingerprint(identity), used)
        _tokenizer(counter)
    wanted = ENDS_OF_TEXT if tokens.end_of_text is None else (tokens.end_of_text,)
    ends = [id for name in wanted if (id := whole.token_to_id(name)) is not None]
    if tokens.end_of_text is not None and not ends:
        raise InputError(f"tokens.end_of_text: {tokens.end_of_text!r} is no token of {file}; name one that is in its vocabulary")
    largest = max(whole.get_vocab(with_added_tokens=True).values(), default=0)
    counter = replace(counter, end_of_text=ends[0] if ends else None, vocabulary=largest + 1)
    if chat:
        return counter
    return replace(counter, drops=0 in counter.count(pa.array(list(RARE_CHARACTERS), pa.large_string())))


def _rename_special_pieces(definition: dict[str, Any]) -> dict[str, Any]:
    """The definition with names for its special tokens that no text spells, as far as they are pieces of the model's vocabulary.

    `encode_special_tokens` keeps the library from matching added tokens in a text. A model still matches pieces of its own, as
    Unigram's of T5 does. Ids stay. Left as they are: the unknown token, and pieces that merges of BPE make.
    """
    model, added = definition["model"], definition.get("added_tokens") or []
    special = {token["content"] for token in added if token.get("special")} - {model.get("unk_token")}
    for merge in model.get("merges") or []:
        special.discard("".join(merge) if isinstance(merge, list) else merge.replace(" ", "", 1))
    secret = fingerprint(definition)
    names = {content: f"\uffff{secret}{content}" for content in special}
    vocabulary = model.get("vocab") or {}
    if isinstance(vocabulary, dict):
        renamed: Any = {names.get(piece, piece): id for piece, id in vocabulary.items()}
    else:
        renamed = [[names.get(piece, piece), score] for piece, score in vocabulary]
    kept = [token for token in added if token["content"] not in special]
    return {**definition, "model": {**model, "vocab": renamed}, "added_tokens": kept}


def _explaining(what: str, advice: str) -> AbstractContextManager[None]:
    """Errors of the tokenizers library become InputErrors. It raises plain Exceptions, and where its Rust code panics not even
    that; a pattern that backtracks without end is one way to make it panic."""

    def explain(error: BaseException) -> str | None:
        ours = isinstance(error, Exception) or type(error).__name__ == "PanicException"
        return f"{what} ({first_line(error)}); {advice}" if ours else None

    return explaining("tokens.tokenizer", {BaseException: explain})


@functools.lru_cache(maxsize=2)
def _tokenizer(counter: TokenCounter) -> Any:
    return _build_tokenizer(counter.definition, as_text=not counter.chat)


def _build_tokenizer(definition: str, as_text: bool = True) -> Any:
    """A tokenizer of the library; `as_text` keeps it from matching special tokens in a text.

    It takes one thread unless the user says otherwise: every core has a worker.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(definition)
    tokenizer.encode_special_tokens = as_text
    return tokenizer
