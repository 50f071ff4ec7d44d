"""The first rows of a file with all their columns, as Python values, for whoever does not know yet which columns there are."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from itertools import islice
from typing import Any, BinaryIO

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from chameleon_data.corpus.file_systems import explain_read_errors, open_file_system
from chameleon_data.corpus.fragments import Fragment
from chameleon_data.corpus.readers.csv import DELIMITERS
from chameleon_data.corpus.readers.json_array import is_array
from chameleon_data.corpus.readers.stream import BYTE_ORDER_MARK, PeekedStream, open_stream
from chameleon_data.corpus.source_files import FoundFile

LOOKED_AT_BYTES = 2**20
"""Bytes of text that are looked at."""


def first_records(found: FoundFile, number: int) -> list[dict[str, Any]]:
    """At most so many of the first rows of a file; none of a text file, which has no columns. Rows that cannot be read are left
    out. Raises InputError for a file that cannot be read at all."""
    if found.format == "txt":
        return []
    fs, path = open_file_system(found.url)
    with explain_read_errors(found.url), fs.open(path, "rb", block_size=LOOKED_AT_BYTES) as file:
        if found.format == "parquet":
            opened = pq.ParquetFile(file, pre_buffer=False, arrow_extensions_enabled=False)
            batches = opened.iter_batches(batch_size=number, use_threads=False)
            return _rows_of(next(batches, None))
        if found.format == "arrow":
            return _rows_of(_first_batch(file, number))
        return list(islice(_records_of_text(file, found), number))


def _rows_of(batch: pa.RecordBatch | None) -> list[dict[str, Any]]:
    if batch is None:
        return []
    with_names = batch.select([i for i, name in enumerate(batch.schema.names) if batch.schema.names.count(name) == 1])
    rows: list[dict[str, Any]] = with_names.to_pylist()
    return rows


def _first_batch(file: BinaryIO, number: int) -> pa.RecordBatch | None:
    start = file.read(6)
    file.seek(0)
    source, one_thread = pa.PythonFile(file, "r"), pa.ipc.IpcReadOptions(use_threads=False)
    if start == b"ARROW1":
        reader = pa.ipc.open_file(source, options=one_thread)
        return reader.get_batch(0).slice(0, number) if reader.num_record_batches else None
    return next((batch.slice(0, number) for batch in pa.ipc.open_stream(source, options=one_thread)), None)


def _records_of_text(file: BinaryIO, found: FoundFile) -> Iterator[dict[str, Any]]:
    fragment = Fragment("", found.url, found.format, found.compression, 0, None, 0, "")
    stream = PeekedStream(open_stream(file, fragment))
    parts, size = list[bytes](), 0
    while size < LOOKED_AT_BYTES and (data := stream.read(2**16)):
        parts.append(data)
        size += len(data)
    text = b"".join(parts).removeprefix(BYTE_ORDER_MARK)
    if found.format in DELIMITERS:
        whole = text.decode(errors="replace")
        lines = whole.splitlines(keepends=True) if size < LOOKED_AT_BYTES else whole.splitlines(keepends=True)[:-1]
        yield from (dict(row) for row in csv.DictReader(lines, delimiter=DELIMITERS[found.format]) if None not in row)
    elif is_array(text):
        yield from _elements(text.decode(errors="replace"))
    else:
        for line in text.split(b"\n"):
            try:
                row = orjson.loads(line)
            except ValueError:  # a bad line, or one that is cut
                continue
            if isinstance(row, dict):
                yield row


def _elements(text: str) -> Iterator[dict[str, Any]]:
    scan = json.JSONDecoder(strict=False).raw_decode
    at = text.index("[") + 1
    while True:
        at += len(text[at:]) - len(text[at:].lstrip(", \t\r\n"))
        try:
            element, at = scan(text, at)
        except (json.JSONDecodeError, RecursionError):  # the end, or an element that is cut
            return
        if isinstance(element, dict):
            yield element
