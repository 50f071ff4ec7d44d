"""A small vocabulary: bytes, or a byte-level BPE that is trained on the pool. Its ids cover every text.

Two ids come first: END stands between documents, TO_GUESS in the place of a token that a masked model is to guess. The bytes of
each id are known, so that bits per token become bits per byte, which mean the same for every vocabulary.
Cost: a BPE of 2,048 on 2 MB of text is trained in 1 s; 1 MB is encoded in .3 s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from chameleon_data.arrays import I64

END, TO_GUESS = 0, 1
FIRST_BYTE = 2
"""Id of byte 0 where ids are bytes."""
BYTES_ONLY = 256
"""The size that stands for bytes."""
I32 = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Vocabulary:
    """How texts become ids."""

    tokenizer: str | None
    """The JSON of a tokenizer of the package tokenizers. None: an id is a byte."""
    byte_counts: tuple[int, ...]
    """Bytes that each id stands for; 0 for END and TO_GUESS."""

    def __len__(self) -> int:
        return len(self.byte_counts)

    def encode(self, texts: Sequence[str]) -> list[I32]:
        """The ids of each text, without END."""
        if self.tokenizer is None:
            return [np.frombuffer(text.encode(), np.uint8).astype(np.int32) + FIRST_BYTE for text in texts]
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(self.tokenizer)
        tokenizer.encode_special_tokens = True  # what spells one in a text is text
        encoded = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(one.ids, np.int32) for one in encoded]

    def bytes_of(self, ids: I32) -> I64:
        """Bytes of each of some ids."""
        counts: I64 = np.array(self.byte_counts, np.int64)[ids]
        return counts


def train_vocabulary(texts: Sequence[str], size: int) -> Vocabulary:
    """A vocabulary of `size` ids at most; 256: bytes. The same texts in the same order give the same one."""
    if size == BYTES_ONLY:
        return Vocabulary(None, (0, 0, *[1] * 256))
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=max(size, FIRST_BYTE + 256),
        special_tokens=["<end>", "<hidden>"],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    ids = [tokenizer.id_to_token(number) for number in range(tokenizer.get_vocab_size())]
    # Each character of a byte-level token stands for one byte.
    return Vocabulary(tokenizer.to_str(), (0, 0, *(len(token) for token in ids[FIRST_BYTE:])))
