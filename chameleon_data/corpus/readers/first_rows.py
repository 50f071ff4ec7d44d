"""Whether a file has the columns that a source names, by its schema or its first rows. Nothing is decoded but these."""

from __future__ import annotations

import csv
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from chameleon_data.corpus.file_systems import explain_read_errors
from chameleon_data.corpus.fragments import Fragment, open_fragment
from chameleon_data.corpus.readers.blocks import columns_of, read_blocks
from chameleon_data.corpus.readers.columns import find_columns
from chameleon_data.corpus.readers.csv import DELIMITERS
from chameleon_data.corpus.readers.json_array import is_array, is_one_object
from chameleon_data.corpus.readers.jsonl import lines_reader
from chameleon_data.corpus.readers.rows import Columns, Fault
from chameleon_data.corpus.readers.stream import PeekedStream, open_stream
from chameleon_data.errors import InputError, list_some
from chameleon_data.recipe import Source

ENOUGH_ROWS = 20
"""Rows that tell what a file of JSON lines holds. Fewer may be bad ones, which a build leaves out."""
MOST_BYTES = 2**20
"""Bytes of text that are looked at."""


def check_columns(fragment: Fragment, source: Source, vectors: str | None) -> None:
    """Raise InputError where a file lacks a column that its source names; `vectors` is `embed.column`.

    What cannot be told from the first rows is left to the survey.
    """
    columnar = fragment.format in ("parquet", "arrow")
    if vectors is not None and not columnar:
        next(read_blocks(fragment, source, 1, vectors=vectors))  # refuses it before it opens the file
    columns, _ = columns_of(source, fragment)
    with explain_read_errors(fragment.url), open_fragment(fragment, "places") as file:
        if columnar:
            find_columns(_read_schema(file, fragment), columns, fragment, vectors)
        elif fragment.format == "jsonl":
            _check_lines(PeekedStream(open_stream(file, fragment)), fragment, columns)
        elif fragment.format in DELIMITERS:
            start = PeekedStream(open_stream(file, fragment)).start
            line, end, _ = start.partition(b"\n")
            header = next(csv.reader([line.decode(errors="replace")], delimiter=DELIMITERS[fragment.format]), [])
            if end and header and line.count(b'"') % 2 == 0:
                find_columns(pa.schema([(name.strip("\r\ufeff"), pa.string()) for name in header]), columns, fragment)


def _read_schema(file: BinaryIO, fragment: Fragment) -> Any:
    if fragment.format == "parquet":
        return pq.ParquetFile(file, pre_buffer=False, arrow_extensions_enabled=False).schema_arrow
    start = file.read(6)
    file.seek(0)
    open_any = pa.ipc.open_file if start == b"ARROW1" else pa.ipc.open_stream
    return open_any(pa.PythonFile(file, "r"), options=pa.ipc.IpcReadOptions(use_threads=False)).schema


def _check_lines(stream: PeekedStream, fragment: Fragment, columns: Columns) -> None:
    if is_array(stream.start) or is_one_object(stream.start):
        return
    parts, size = list[bytes](), 0
    while size < MOST_BYTES and sum(part.count(b"\n") for part in parts) <= ENOUGH_ROWS and (data := stream.read(2**16)):
        parts.append(data)
        size += len(data)
    lines = [line for line in b"".join(parts).split(b"\n")[:-1] if line.strip()][: 2 * ENOUGH_ROWS]
    if len(lines) < ENOUGH_ROWS:
        return
    rows = lines_reader(columns)(list(lines), np.arange(len(lines)))
    lacking = [(" for the text", str(columns.text))] if (rows.fault == Fault.NO_TEXT).all() else []
    for role, key, column in (("domain", columns.domain, rows.domain), ("id", columns.id, rows.ids)):
        faultless = rows.key_fault is None or not rows.key_fault.any()
        if key is not None and column is not None and column.null_count == len(lines) and faultless and not rows.fault.any():
            lacking.append((f" for the {role}", key))
    if not rows.fault.any():
        absent = (name for name in rows.values if not any(f'"{name.rpartition(".")[2]}"'.encode() in line for line in lines))
        lacking += [("", name) for name in absent]
    if lacking:
        role, key = lacking[0]
        keys = sorted({key for line in lines for key in _keys_of(line)})
        raise InputError(
            f"{fragment.url}: none of its first {len(lines)} rows has the key {key!r}{role}; they have {list_some(keys)}"
        )


def _keys_of(line: bytes) -> list[str]:
    import orjson

    try:
        document = orjson.loads(line)
    except ValueError:
        return []
    return list(document) if isinstance(document, dict) else []
