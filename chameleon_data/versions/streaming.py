"""Functions that take a table and return one: what tasks do where columns go in and come out, on an engine or in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import pyarrow as pa

TableFunction = Callable[[pa.Table], pa.Table]
StreamTables = Callable[[Callable[[], TableFunction], Sequence[pa.Table]], Iterable[pa.Table]]
"""Gives each table to the function that `make` makes, anywhere, and returns the answers in any order; see `Engine.stream`."""


def stream_here(make: Callable[[], TableFunction], tables: Sequence[pa.Table]) -> Iterator[pa.Table]:
    """Give the tables to the function in this process, one after the other."""
    return map(make(), tables)
