"""Sequences of whole conversations: what each holds, and whether its columns agree.

Proved are: a conversation begins with each sequence; `tokens` are those of `loss_mask`, where the recipe counts trained ones, or
else all before the padding, which is end-of-text; nothing of the padding is learned; `labels` are the ids that are. Which tokens
of a conversation a trainer learns from is the template's to say, and proved against the corpus alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from chameleon_data.arrays import I64, U64
from chameleon_data.hashing import mix64
from chameleon_data.shards.rows import make_labels


@dataclass(frozen=True)
class TurnRows:
    """Some sequences."""

    ids: npt.NDArray[Any]
    """(sequences, length)"""
    mask: npt.NDArray[np.uint8]
    """(sequences, length) `loss_mask`."""
    tokens: I64
    """(sequences,)"""
    begun: I64
    """(sequences,) conversations that begin in each."""
    begins: I64
    """(conversations,) places at which they begin."""
    trained: bool
    """Whether `tokens` counts those that a trainer learns from."""

    @property
    def counted(self) -> npt.NDArray[np.int64]:
        """(sequences, length) 1 for each token that counts, else 0."""
        if self.trained:
            return self.mask.astype(np.int64)
        return (np.arange(self.ids.shape[1]) < self.tokens[:, None]).astype(np.int64)

    def conversations(self) -> tuple[I64, I64, U64]:
        """(conversations,) the sequence of each, the tokens that count of it, and the sum of a hash of these. `check_turns` found
        nothing wrong."""
        row = np.repeat(np.arange(len(self.begun)), self.begun)
        at, counted = row * self.ids.shape[1] + self.begins, self.counted.reshape(-1)
        hashes = mix64([self.ids.reshape(-1), self.mask.reshape(-1)], 0) * counted.astype(np.uint64)
        return row, np.add.reduceat(counted, at), np.add.reduceat(hashes, at)


def check_turns(path: str, rows: TurnRows, labels: npt.NDArray[np.int32] | None, end_of_text: int) -> list[str]:
    """What is wrong with sequences of whole conversations; `labels` is (sequences, length)."""
    problems, length = [], rows.ids.shape[1]
    first = np.cumsum(rows.begun) - rows.begun
    rising = np.diff(rows.begins, prepend=-1) > 0
    rising[first[rows.begun > 0]] = True
    if not (rows.begun.all() and rising.all() and (rows.begins < length).all() and not rows.begins[first].any()):
        return [f"{path}: 'doc_starts' are not places at which conversations begin, from the first token on"]
    if rows.mask.max() > 1:
        problems.append(f"{path}: a 'loss_mask' holds another number than 0 and 1")
    padding = np.arange(length) >= rows.tokens[:, None]
    if rows.trained and (rows.mask.sum(axis=1, dtype=np.int64) != rows.tokens).any():
        problems.append(f"{path}: a row's 'tokens' is not the number of tokens that its 'loss_mask' gives")
    elif not rows.trained and ((rows.ids[padding] != end_of_text).any() or rows.mask[padding].any()):
        problems.append(f"{path}: what fills a sequence up is not end-of-text, or is learned")
    elif not rows.conversations()[1].all():
        problems.append(f"{path}: a conversation holds no token that counts")
    if labels is not None and not np.array_equal(labels, make_labels(rows.ids, rows.mask)):
        problems.append(f"{path}: 'labels' are not the ids that 'loss_mask' says are learned")
    return problems
