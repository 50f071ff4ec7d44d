"""Tables beside a manifest: rows in Parquet files, each under the sha256 of its own bytes.

A table is one or more files of consecutive rows, which the manifest lists. They are written before the version is committed, and
nothing ever changes them. A file holds so few rows that it is read, proved by its name and decoded at once.
Why: docs/decisions/160-tables-beside-the-manifest.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from chameleon_data.errors import InputError
from chameleon_data.store.paths import TABLE_FILE, table_path
from chameleon_data.store.store import Store

ROWS_IN_FILE, BYTES_IN_FILE = 1 << 16, 32 << 20
"""Rows of a file at most, and their bytes in memory at which the next file begins."""
UNNAMED = "damaged or edited, as its sha256 is not its name; restore it from a copy"


@dataclass(frozen=True)
class TableFile:
    """Some consecutive rows of a table."""

    path: Annotated[str, Field(pattern=f"^{TABLE_FILE.pattern}$")]
    """Relative to `out`; its name is the sha256 of its bytes."""
    rows: Annotated[int, Field(ge=1)]
    """Rows in it."""
    bytes: int
    """Size of the file."""


def write_rows(store: Store, batches: Iterable[pa.Table]) -> tuple[TableFile, ...]:
    """Write a table, which comes in batches of one schema. Files that are there already stay as they are."""
    files, held, rows, size = list[TableFile](), list[pa.Table](), 0, 0
    for batch in batches:
        while len(batch):
            part = batch.slice(0, ROWS_IN_FILE - rows)
            held.append(part)
            rows, size, batch = rows + len(part), size + part.nbytes, batch.slice(len(part))
            if rows == ROWS_IN_FILE or size >= BYTES_IN_FILE:
                files.append(_write_file(store, pa.concat_tables(held)))
                held, rows, size = [], 0, 0
    if held:
        files.append(_write_file(store, pa.concat_tables(held)))
    return tuple(files)


def _write_file(store: Store, rows: pa.Table) -> TableFile:
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd")
    body = sink.getvalue()
    path = table_path(hashlib.sha256(body).hexdigest())
    store.write_content(path, body)
    return TableFile(path, len(rows), body.size)


def read_rows(
    store: Store, files: Sequence[TableFile], schema: pa.Schema, start: int = 0, stop: int | None = None
) -> Iterator[pa.Table]:
    """The rows from `start` to `stop` of a table, or to its end; a table for each file that holds some of them.

    Raises InputError for a file that is missing, or that is not the one that was written.
    """
    at = 0
    for file in files:
        first, last = max(at, start), at + file.rows if stop is None else min(at + file.rows, stop)
        if first < last:
            yield _read_file(store, file, schema).slice(first - at, last - first)
        at += file.rows


def take_rows(store: Store, files: Sequence[TableFile], schema: pa.Schema, numbers: Sequence[int]) -> pa.Table:
    """The rows of these numbers, which ascend; files without one of them are not read. Raises InputError as `read_rows` does."""
    wanted, at, taken = np.array(numbers, np.int64), 0, [schema.empty_table()]
    for file in files:
        here = wanted[(wanted >= at) & (wanted < at + file.rows)] - at
        if len(here):
            taken.append(_read_file(store, file, schema).take(pa.array(here)))
        at += file.rows
    return pa.concat_tables(taken)


def _read_file(store: Store, file: TableFile, schema: pa.Schema) -> pa.Table:
    where, body = f"{store.url.rstrip('/')}/{file.path}", store.read(file.path)
    if table_path(hashlib.sha256(body).hexdigest()) != file.path:
        raise InputError(f"{where}: {UNNAMED}")
    try:
        rows = pq.ParquetFile(pa.BufferReader(body), pre_buffer=False).read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise _foreign_error(where, str(error)) from None
    if not rows.schema.equals(schema):
        raise _foreign_error(where, f"its columns are {rows.schema.names} of other types, not {schema.names}")
    if len(rows) != file.rows:
        raise _foreign_error(where, f"{len(rows):,} rows, the manifest says {file.rows:,}")
    return rows


def _foreign_error(where: str, what: str) -> InputError:
    return InputError(f"{where}: damaged, or not written by chameleon-data ({what}); restore it from a copy")
