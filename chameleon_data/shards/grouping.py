"""Which shards one task writes, and which ranges of shards rows are sent to on their way there.

A *range* is some shards that follow each other. Rows go to at most 256 ranges at once, because each task that sends rows and each
one that takes them makes a request of the store. A range that is small enough is one task; a larger one is divided again.
Why: docs/decisions/141-ranges-in-levels.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

MOST_RANGES = 256
"""Ranges that rows are sent to at once."""
JOINED_BYTES = 256 * 2**20
"""Bytes of shards that a task takes together at most, unless there would be too many ranges."""
LARGEST_RANGE = 2**30
"""Bytes of shards in a range that is not divided: a task holds its rows, and one shard of them four times over."""
JOINED_ROWS = 2**19
"""Rows that a task takes together at most, unless there would be too many ranges: their columns are 100 MB."""
MOST_SLICES = 2**20
"""Slices of files that a build reads, until tasks take several shards together: 100 GB in shards of 64 MiB. An object store
answers some 5,000 requests a second."""
FILES_PER_SHARD = 64
"""Files that a task searches for each of its shards. A search of a file of kept rows takes .5 ms, and a shard of 64 MiB .4 s."""
TASKS_PER_CPU = 4
"""Tasks are not joined to fewer, so that all processors end together."""


def shards_per_range(files: int, shards: int, size: int, rows: int, cpus: float) -> int:
    """How many shards a range holds: one, until a task would look at too many files for it.

    `files` are those that hold the rows, about; `size` is that of a shard in bytes, and `rows` how many it has.
    """
    wanted = max(-(-files * shards // MOST_SLICES), -(-files // FILES_PER_SHARD))
    most = min(JOINED_ROWS // max(rows, 1), JOINED_BYTES // size, int(shards / (TASKS_PER_CPU * cpus)))
    return max(1, min(wanted, most), -(-shards // MOST_RANGES))


def begin_ranges(first: int, end: int, each: int) -> tuple[int, ...]:
    """The first shards of ranges of `each` shards, and the shard behind the last one."""
    return *range(first, end, each), end


def begin_stage_ranges(stage_shards: Sequence[int], each: int) -> tuple[int, ...]:
    """`begin_ranges` over the shards of stages that follow each other; no range lies in two of them."""
    ends = tuple(accumulate(stage_shards, initial=0))
    return *(begin for first, end in pairwise(ends) for begin in range(first, end, each)), ends[-1]


def divide_shards(first: int, end: int, size: int) -> tuple[int, ...] | None:
    """The ranges that a range of shards of `size` bytes is divided in; None where it is small enough, or one shard."""
    shards = end - first
    if shards == 1 or shards * size <= LARGEST_RANGE:
        return None
    return begin_ranges(first, end, max(1, JOINED_BYTES // size, -(-shards // MOST_RANGES)))
