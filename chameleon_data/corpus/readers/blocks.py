"""A fragment of any format as a stream of blocks.

Memory is a block, one document and the reader's own buffers, whatever the file's size and whatever it expands to. Nothing ends
early in silence: a compressed stream whose last frame did not end, a Parquet file without its footer and an Arrow stream without
its end mark are errors. One core reads 450 MB of text a second from JSONL, 280 from .zst, 160 from .gz, 700 from Parquet and 140
from CSV. Why: docs/decisions/020-reading-lines.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from chameleon_data.arrays import string_offsets
from chameleon_data.corpus.file_systems import explain_read_errors
from chameleon_data.corpus.fragments import HIVE_NULL, Fragment, hive_value, open_fragment
from chameleon_data.corpus.readers.arrow import read_arrow
from chameleon_data.corpus.readers.csv import read_csv
from chameleon_data.corpus.readers.json_array import is_array, is_one_object, read_json_array
from chameleon_data.corpus.readers.jsonl import read_jsonl
from chameleon_data.corpus.readers.parquet import read_parquet
from chameleon_data.corpus.readers.rows import Block, Columns, RawRows
from chameleon_data.corpus.readers.stream import PeekedStream, open_stream, read_chunks, read_fragment_chunks
from chameleon_data.corpus.readers.text import read_text
from chameleon_data.corpus.readers.validate import validate_rows
from chameleon_data.corpus.topics import label_block
from chameleon_data.errors import InputError
from chameleon_data.recipe import Source, check_condition

BLOCK_BYTES = 2**24
"""Bytes of text of a block, unless the caller says otherwise."""
BLOCK_ROWS = 2**17
"""Most rows of a block, give or take a batch; for very short texts, and where all rows are bad."""


def read_blocks(
    fragment: Fragment, source: Source, max_document: int, block_bytes: int = BLOCK_BYTES, vectors: str | None = None
) -> Iterator[Block]:
    """Blocks of about `block_bytes` bytes of text, in the order of the file; `max_document` is in bytes of UTF-8.

    Where a folder above the file is named as hive names them, `domain=web`, all its rows have this domain, as Spark has it.
    `vectors` names a column of lists of numbers to read along. Raises InputError for a file that is truncated, damaged, gone or
    changed, or that lacks a column the source names.
    """
    columnar = fragment.format in ("parquet", "arrow")
    if vectors is not None and not columnar:
        raise InputError(f"{fragment.url}: holds no column of vectors, as 'embed.column' wants; only Parquet and Arrow files do")
    columns, in_folders = columns_of(source, fragment)
    with explain_read_errors(fragment.url), open_fragment(fragment, "columns" if columnar else "all") as file:
        if fragment.format == "parquet":
            rows = read_parquet(file, fragment, columns, vectors, max_document)
        elif fragment.format == "arrow":
            rows = read_arrow(file, fragment, columns, vectors, max_document)
        elif fragment.format == "jsonl":
            rows = _read_json(file, fragment, columns, max_document)
        elif fragment.format in ("csv", "tsv"):
            rows = read_csv(open_stream(file, fragment), fragment, columns)
        else:
            rows = read_text(open_stream(file, fragment), max_document)
        for raw in _join(rows, block_bytes):
            for key, value in in_folders.items():
                raw = _add_constant(raw, key, value, source)
            yield label_block(validate_rows(raw, source, fragment.source, max_document), source, fragment.source)


def _read_json(file: BinaryIO, fragment: Fragment, columns: Columns, max_document: int) -> Iterator[RawRows]:
    """The rows of JSON lines, or of one array in a file that is not divided."""
    if fragment.divided:
        return read_jsonl(read_fragment_chunks(file, fragment), columns, max_document, fragment.begin == 0)
    stream = PeekedStream(open_stream(file, fragment))
    if is_one_object(stream.start):
        raise InputError(f"{fragment.url}: holds one JSON object over several lines; write a row a line, or one array")
    if is_array(stream.start):
        return read_json_array(stream, fragment.url, columns, max_document)
    return read_jsonl(read_chunks(stream), columns, max_document)


def columns_of(source: Source, fragment: Fragment) -> tuple[Columns, dict[str, str | None]]:
    """The columns that this file must have; and those that folders above it name, each with its value."""
    domain = source.domain if isinstance(source.domain, str) else None
    values = list(source.keep) + list(check_condition(source.where) if source.where is not None else ())
    values += [*source.chat_columns, *([] if domain else source.domain_keys)]
    found = {key: hive_value(fragment.url, key) for key in {*values, *([domain] if domain else ())}}
    in_folders = {key: None if value == HIVE_NULL else value for key, value in found.items() if value is not None}
    others = tuple(sorted({*values} - in_folders.keys()))
    return Columns(
        None if source.holds_turns else source.text, None if domain in in_folders else domain, source.id, others
    ), in_folders


def _add_constant(raw: RawRows, key: str, value: str | None, source: Source) -> RawRows:
    """The rows with a column that has one value."""
    values = {**raw.values, key: [value] * len(raw.rows)}
    if key != source.domain:
        return replace(raw, values=values)
    return replace(raw, domain=pa.repeat(pa.scalar(value and value.encode(), pa.large_binary()), len(raw.rows)), values=values)


def _join(rows: Iterator[RawRows], block_bytes: int) -> Iterator[RawRows]:
    """Rows in as many as a block is to hold. Nothing of a block is held here while its user has it."""
    held: list[RawRows] = []
    size = count = 0
    for raw in rows:
        held.append(raw)
        offsets = string_offsets(raw.text)
        size += int(offsets[-1] - offsets[0])
        count += len(raw.rows)
        del raw
        if size >= block_bytes or count >= BLOCK_ROWS:
            block = _concatenate(held)
            held, size, count = [], 0, 0
            yield block
            del block
    if held:
        yield _concatenate(held)


def _concatenate(parts: list[RawRows]) -> RawRows:
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    return RawRows(
        pa.concat_arrays([part.text for part in parts]),
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.fault for part in parts]),
        None if first.domain is None else pa.concat_arrays([part.domain for part in parts]),
        None if first.ids is None else pa.concat_arrays([part.ids for part in parts]),
        None if first.vectors is None else pa.concat_arrays([part.vectors for part in parts]),
        all(part.valid_utf8 for part in parts),
        None if first.key_fault is None else np.concatenate([part.key_fault for part in parts if part.key_fault is not None]),
        parts[-1].end,
        {name: [value for part in parts for value in part.values[name]] for name in first.values},
    )
