"""What one judge said of one mixture: the bits of each held-out document. One file each, named by a digest of all that enters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from pydantic import with_config

from chameleon_data.arrays import F64, I64
from chameleon_data.hashing import fingerprint
from chameleon_data.versions.records import STRICT

TRIAL_FORMAT = 1
"""Raise it when a number would come out otherwise: records of another format are not read, their trials are made again."""


@with_config(STRICT)
@dataclass(frozen=True)
class SetBits:
    """One held-out set."""

    bits: tuple[float, ...]
    """Bits of each document's scored tokens, rounded to six decimals."""
    bytes: tuple[int, ...]
    """Their bytes."""

    @property
    def per_byte(self) -> float:
        return sum(self.bits) / sum(self.bytes)


@with_config(STRICT)
@dataclass(frozen=True)
class TrialRecord:
    """One mixture, judged once."""

    key: str
    """Digest of the pool, the model, the mixture, the seed and what else decides the numbers."""
    seed: int
    without: str | None
    """Domain that was left out of the training. None: none was."""
    shares: dict[str, float]
    """Domain -> share."""
    sets: dict[str, SetBits]
    """Held-out set -> bits."""
    format: int = TRIAL_FORMAT


def sum_by_document(bits: F64, sizes: I64, document: I64) -> SetBits:
    """The bits and bytes of each document, from those of its tokens (or windows)."""
    count = int(document.max()) + 1
    total = np.bincount(document, bits, count)
    return SetBits(tuple(np.round(total, 6).tolist()), tuple(np.bincount(document, sizes, count).astype(np.int64).tolist()))


def trial_key(pool: str, judge: dict[str, Any], shares: dict[str, float], seed: int, without: str | None) -> str:
    """The digest that names a trial. `pool`: its digest. `judge`: which one, and all of its settings."""
    entering = {"format": TRIAL_FORMAT, "pool": pool, "judge": judge, "shares": shares, "seed": seed, "without": without}
    return fingerprint(cast(Any, entering))
