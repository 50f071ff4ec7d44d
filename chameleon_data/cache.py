"""Tables that passes leave for each other: Parquet files on the store, written and read whole."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from chameleon_data.storage import Store


def read_table(store: Store, path: str, columns: Sequence[str] | None = None) -> pa.Table:
    """All rows of some columns."""
    with store.open(path) as file:
        return pq.read_table(file, columns=None if columns is None else list(columns))


def write_table(store: Store, path: str, table: pa.Table) -> None:
    """Put a table in the place of what was there."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    store.write(path, sink.getvalue())
