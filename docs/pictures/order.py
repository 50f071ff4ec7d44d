"""The order of a domain's documents: buckets of hashes are permuted anew for each epoch, by the rule of `plan/order.py`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from chameleon_data.hashing import key64
from chameleon_data.plan.order import rank_buckets
from pictures.drawing import TEXT, WIDTH, box, line, picture, words

DEPTH = 6
"""Bits of a hash that tell its bucket: the first digit."""
SEED, DOMAIN = 0, "books"
EPOCHS = 1.4
"""The quota, in epochs of the domain."""
LEFT, HEIGHT = 8, 30


def order_epoch(epoch: int) -> list[int]:
    """The buckets of hashes in the order of an epoch."""
    return [int(at) for at in np.argsort(rank_buckets(DEPTH, key64(SEED, DOMAIN, "epoch", epoch)))]


def draw() -> str:
    title = "64 buckets of hashes, and their order in two epochs; what is written ends at the quota, in the second of them"
    return picture(title, 262, _rows())


def _rows() -> Iterator[str]:
    wide = (WIDTH - 2 * LEFT) / 2**DEPTH
    rows = [
        ("documents by their hash, in 64 buckets", list(range(2**DEPTH)), 1.0),
        ("epoch 1: the buckets permuted, by seed and domain", order_epoch(0), 1.0),
        ("epoch 2: another permutation", order_epoch(1), EPOCHS - 1),
    ]
    for number, (said, order, written) in enumerate(rows):
        y = 24 + 76 * number
        yield words(LEFT, y - 6, said)
        for at, bucket in enumerate(order):
            x = LEFT + wide * at
            yield box(x, y, wide - 0.6, HEIGHT, _shade(bucket), hollow=at >= written * 2**DEPTH, rounded=0)
    end, y = LEFT + (EPOCHS - 1) * 2**DEPTH * wide, 24 + 76 * 2
    yield line([(end, y - 4), (end, y + HEIGHT + 14)], TEXT, 2)
    yield words(end + 6, y + HEIGHT + 18, f"the quota: {EPOCHS:g} epochs")
    yield words(LEFT, 254, "within a bucket the next digits are permuted likewise")


def _shade(bucket: int) -> str:
    """From blue to orange by hash."""
    share = bucket / (2**DEPTH - 1)
    return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in zip((47, 126, 216), (217, 130, 43), strict=True))
