"""Which shards one task writes: several that follow each other, where each has to look at many files for its rows."""

from __future__ import annotations

from collections.abc import Sequence

GROUP_BYTES = 256 * 2**20
"""Bytes of shards that a task reads together at most where it reads runs, which it holds."""
MOST_RANGES = 2**20
"""Ranges of runs that a build reads, until tasks read several shards together: 100 GB in shards of 64 MiB. An object store
answers some 5,000 requests a second."""
KEPT_FILES_PER_SHARD = 64
"""Files of kept rows that a task searches for each of its shards. A search takes .5 ms, and a shard of 64 MiB .4 s."""
GROUP_ROWS = 2**19
"""Rows of kept rows that a task holds the columns of, 100 MB; their texts stay in the map."""
TASKS_PER_CPU = 4
"""Tasks are not joined to fewer, so that all processors end together."""


def shards_per_task(runs: int, kept_files: int, shards: int, size: int, rows: int, cpus: float) -> int:
    """How many shards a task takes together: one, until it would look at too many runs or files of kept rows for it.

    `size` is that of a shard in bytes, and `rows` how many are brought to the largest one.
    """
    wanted = max(-(-runs * shards // MOST_RANGES), -(-kept_files // KEPT_FILES_PER_SHARD))
    most = min(GROUP_ROWS // max(rows, 1) if kept_files else wanted, GROUP_BYTES // size if runs else wanted)
    return max(1, min(wanted, most, int(shards / (TASKS_PER_CPU * cpus))))


def group_shards(missing: Sequence[int], most: int) -> list[range]:
    """Groups of at most `most` shards that follow each other. `missing` ascends."""
    groups: list[range] = []
    for shard in missing:
        if groups and groups[-1].stop == shard and len(groups[-1]) < most:
            groups[-1] = range(groups[-1].start, shard + 1)
        else:
            groups.append(range(shard, shard + 1))
    return groups
