"""The order of a stream in plain Python, written from its definition alone."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from chameleon_data.hashing import key64

_MASK = 2**64 - 1


def mix(values: Iterable[int], salt: int) -> int:
    """splitmix64 over the values."""
    state = salt
    for value in values:
        x = ((state ^ value) + 0x9E3779B97F4A7C15) & _MASK
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB & _MASK
        state = x ^ (x >> 31)
    return state


@cache
def permutation(width: int, number: int) -> list[int]:
    """One of the 4,096 permutations of a digit of so many bits."""
    salt = key64("permutations of digits", width)
    return sorted(range(1 << width), key=lambda i: mix([(number << width) + i], salt))


def rank(hi: int, salt: int) -> int:
    """The top 32 bits of the hash, each digit permuted by what stands before it."""
    bits, before, out = f"{hi:064b}", "1", ""
    for width in (6, 4, 4, 4, 4, 4, 4, 2):
        digit, bits = int(bits[:width], 2), bits[width:]
        key = f"{mix([int(before, 2)], salt):064b}"
        number, offset = int(key[:12], 2), int(key[12 : 12 + width], 2)
        out += f"{permutation(width, number)[digit ^ offset]:0{width}b}"
        before += f"{digit:0{width}b}"
    return int(out, 2)


def in_order(documents: list[tuple[int, int, int]], salt: int) -> list[tuple[int, int, int]]:
    """Documents (hi, lo, tokens), copies included, in the order of the epoch that the salt is of."""
    keyed, seen = [], {}
    for hi, lo, tokens in documents:
        copy = seen[hi, lo] = seen.get((hi, lo), -1) + 1
        keyed.append((rank(hi, salt), mix([hi, lo, copy], salt), hi, lo, tokens))
    return [(hi, lo, tokens) for _, _, hi, lo, tokens in sorted(keyed)]
