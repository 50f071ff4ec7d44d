"""Searches and ranges of many at once, as array operations."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from chameleon_data.arrays import I64


def expand_ranges(begin: I64, end: I64) -> tuple[I64, I64]:
    """All numbers of the ranges one after the other, and for each the index of its range."""
    size = end - begin
    index = np.repeat(np.arange(len(size)), size)
    return np.arange(len(index)) + np.repeat(begin - (np.cumsum(size) - size), size), index


def search_between(values: npt.NDArray[Any], left: I64, right: I64, wanted: npt.NDArray[Any], inclusive: bool) -> I64:
    """(searches,) the first place between `left` and `right` whose value is not before the one wanted, or `inclusive` not at it
    either. The values between the two are sorted; only some log2 of them are looked at."""
    while (open_ := left < right).any():
        middle = (left + right) // 2
        value = values[np.minimum(middle, len(values) - 1)]
        before = open_ & ((value <= wanted) if inclusive else (value < wanted))
        left = np.where(before, middle + 1, left)
        right = np.where(open_ & ~before, middle, right)
    return left
