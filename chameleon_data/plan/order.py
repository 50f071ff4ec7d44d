"""The order of a domain's documents in one epoch: the digits of their hashes, permuted.

The top 32 bits of a hash h are eight digits of 6, 4, 4, 4, 4, 4, 4 and 2 bits. Each digit is permuted; which permutation it is
depends on (seed, domain, epoch) and on the digits before it. The permuted digits are the *rank* of the hash. The documents of an
epoch are ordered by

    rank, then mix64(h, number of the copy; seed, domain, epoch), then h

Hashes that share their first digits have ranks that share theirs. So a bucket of hashes, at the depth of any digit, is one
stretch of the order, and a stretch of the order is a few buckets. How finely a histogram counts buckets changes nothing.

    key of a node     k = mix64(binary number 1 and the digits before; salt of seed, domain and epoch)
    permuted digit    permutation[top 12 bits of k][digit xor the next bits of k], one of 4,096 fixed permutations

The xor makes 2^18 permutations of a digit of 6 bits out of the 4,096, at no cost.
Copies of a text never tie: for one hash and salt, mix64 is a bijection of the copy's number.
Cost on one core: 25 million ranks a second; 20 million keys and ties.
Why: docs/decisions/100-order-by-digits.md.
"""

from __future__ import annotations

from functools import cache
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from chameleon_data.arrays import I64, U64
from chameleon_data.hashing import key64, mix64

DIGIT_WIDTHS = (6, 4, 4, 4, 4, 4, 4, 2)
"""Bits of each digit, from the top."""
RANK_BITS = sum(DIGIT_WIDTHS)
DEPTHS = tuple(accumulate(DIGIT_WIDTHS, initial=0))[:6]
"""Where buckets may end: 0, 6, 10, 14, 18 or 22 bits of the hash. Deeper ones than that, 4 million, take too much memory."""
PERMUTATION_BITS = 12
"""log2 of the permutations in a table."""


def largest_depth(buckets: int) -> int:
    """The largest of `DEPTHS` at which there are at most so many buckets; 0, which is one bucket, for none."""
    return max(depth for depth in DEPTHS if 1 << depth <= max(buckets, 1))


def rank_hashes(hi: U64, salt: int | U64) -> U64:
    """(rows,) rank of each hash, below 2^32. `salt` is of (seed, domain, epoch): one for all rows, or (rows,) of them."""
    rank, depth = np.zeros(len(hi), np.uint64), 0
    for width in DIGIT_WIDTHS:
        depth += width
        digits = hi >> np.uint64(64 - depth)
        node = digits >> np.uint64(width) | np.uint64(1 << (depth - width))
        rank <<= np.uint64(width)
        rank |= _permute(width, node, digits & np.uint64((1 << width) - 1), salt)
    return rank


def rank_buckets(depth: int, salt: int) -> I64:
    """(2^depth,) rank of each bucket among all: the first bits of the ranks of its hashes. `depth` is one of `DEPTHS`."""
    rank = np.zeros(1, np.uint64)
    for level in range(DEPTHS.index(depth)):
        width = DIGIT_WIDTHS[level]
        node = np.arange(1 << DEPTHS[level], 2 << DEPTHS[level], dtype=np.uint64)
        below = _permute(width, node, np.arange(1 << width, dtype=np.uint64)[:, None], salt)  # (2^width, nodes)
        rank = (rank << np.uint64(width) | below).T.reshape(-1)
    return rank.astype(np.int64)


def order_keys(hi: U64, lo: U64, copy: I64, salt: int | U64) -> tuple[U64, U64]:
    """(rows,) key and tie of each document: the order of an epoch is that of (key, tie).

    The key is the rank and the upper half of mix64; the tie is the lower half of mix64 and the upper half of `lo`.
    """
    mixed, half = mix64([hi, lo, copy], salt), np.uint64(64 - RANK_BITS)
    return rank_hashes(hi, salt) << half | mixed >> half, mixed << half | lo >> half


def _permute(width: int, node: U64, digit: U64, salt: int | U64) -> npt.NDArray[np.uint8]:
    """The digits of `width` bits under these nodes, permuted: of the shape that `node` and `digit` broadcast to."""
    place = mix64([node], salt)
    place >>= np.uint64(64 - PERMUTATION_BITS - width)
    return _permutations(width).take((place ^ digit).view(np.int64))


@cache
def _permutations(width: int) -> npt.NDArray[np.uint8]:
    """(2^12 * 2^width,) permutations of 0 to 2^width - 1, one behind the other. These are the same for ever."""
    numbers = np.arange(1 << (PERMUTATION_BITS + width))
    keys = mix64([numbers], key64("permutations of digits", width)).reshape(-1, 1 << width)
    return np.argsort(keys, axis=1).astype(np.uint8).reshape(-1)
