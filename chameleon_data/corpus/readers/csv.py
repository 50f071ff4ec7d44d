"""CSV, and TSV, as Python's csv module reads it: RFC 4180, with line ends inside quotes. 140 MB of text a second on one core.

Where a quote stands in the wrong place nobody can say for certain where the record ends, and what follows might become documents
that are none. One line with an even number of quotes is taken for a whole record, unless the next quote belies that.

Why not pyarrow.csv, which is faster: docs/decisions/021-csv.md.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from chameleon_data.corpus.fragments import Fragment
from chameleon_data.corpus.readers.columns import BATCH_ROWS, READ_BATCH_BYTES, find_columns
from chameleon_data.corpus.readers.rows import NOT_TEXT, Columns, Fault, NotText, RawRows, binary_array
from chameleon_data.corpus.readers.stream import read_chunks, split_lines
from chameleon_data.corpus.unpack import ByteStream
from chameleon_data.errors import InputError

DELIMITERS = {"csv": ",", "tsv": "\t"}
CSV_RECORD_BYTES = 2**25
"""Longest record. A quote that is never closed would make one record of the rest of the file, at eight times its bytes."""


def read_csv(stream: ByteStream, fragment: Fragment, wanted: Columns) -> Iterator[RawRows]:
    """Records below the header; blank lines are none. Dots in keys mean nothing here.

    Raises InputError for a header without the columns that the source names, for a record of more than 32 MiB, and for a broken
    one whose end cannot be told.
    """
    csv.field_size_limit(2**31 - 1)  # of the whole process, so as large as it goes; CSV_RECORD_BYTES is the real limit
    number, size = -1, 0
    record_lines: list[str] = []
    delimiter = DELIMITERS[fragment.format]

    def lines() -> Iterator[str]:
        nonlocal size
        for _, run in split_lines(read_chunks(stream), CSV_RECORD_BYTES):
            for line in run:
                size += 0 if line is None else len(line.removesuffix(b"\n"))
                if line is None or size > CSV_RECORD_BYTES:
                    limit = f"{CSV_RECORD_BYTES / 2**20:g} MiB"
                    raise InputError(f"{fragment.url}: record {number + 1} is longer than {limit}; is a quote not closed?")
                record_lines.append(line.removesuffix(b"\n").decode(errors="surrogateescape"))
                yield record_lines[-1] + "\n"

    def refuse(record: int, why: object) -> InputError:
        return InputError(
            f"{fragment.url}: record {record} is broken ({why}), and where it ends cannot be told; a quote inside a quoted field "
            "is written twice"
        )

    reader = csv.reader(lines(), strict=True, delimiter=delimiter)
    try:
        header = next(filter(None, reader), [])
    except csv.Error as error:
        if record_lines[-1:] and "\r" in record_lines[-1].rstrip("\r"):
            raise InputError(f"{fragment.url}: its lines end with a carriage return alone; end them with a line feed") from error
        raise InputError(f"{fragment.url}: its first line is no header ({error})") from error
    if not header:  # what Spark writes for a partition without rows
        return
    schema = pa.schema([(name.encode(errors="replace").decode(), pa.string()) for name in header])
    columns = [schema.names.index(path[0]) for path in find_columns(schema, wanted, fragment)]
    cells: list[list[bytes]] = [[] for _ in columns]
    numbers: list[int] = []
    faults: list[int] = []

    def rows() -> RawRows:
        several = len(cells) - len(wanted.values)
        arrays = [binary_array(column) for column in cells[:several]]
        if wanted.text is None:
            arrays.insert(0, binary_array([b""] * len(numbers)))
        values = {name: [_text_of(cell) for cell in column] for name, column in zip(wanted.values, cells[several:], strict=True)}
        return RawRows(
            arrays[0],
            np.array(numbers, np.int64),
            np.array(faults, np.uint8),
            domain=arrays[1] if wanted.domain else None,
            ids=arrays[-1] if wanted.id else None,
            values=values,
        )

    held = 0
    number = 0
    broken = None  # the record that a later quote may show to be longer than its line
    while True:
        size = 0
        record_lines.clear()
        try:
            record = next(reader, None)
            fault = Fault.WRONG_COLUMNS if record is not None and len(record) != len(header) else Fault.NONE
        except csv.Error as error:
            if "end of data" in str(error):
                raise InputError(f"{fragment.url}: truncated, or a quote is not closed, in record {number}") from error
            if len(record_lines) > 1 or record_lines[0].count('"') % 2:
                raise refuse(number, error) from error
            record, fault = [""], Fault.BROKEN_CSV
            broken = number if '"' in record_lines[0] else broken
        if record is None:
            break
        if broken is not None and fault != Fault.BROKEN_CSV and record_lines and '"' in record_lines[0]:
            before = record_lines[0].partition('"')[0]
            if before and not before.endswith(delimiter):
                raise refuse(broken, "a quote is not closed in its line")
            broken = None
        if record:
            for values, column in zip(cells, columns, strict=True):
                values.append(b"" if fault else record[column].encode(errors="surrogateescape"))
            numbers.append(number)
            faults.append(fault)
            number += 1
            held += len(cells[0][-1])
            if held >= READ_BATCH_BYTES or len(numbers) >= BATCH_ROWS:
                yield rows()
                cells, numbers, faults, held = [[] for _ in columns], [], [], 0
    if numbers:
        yield rows()


def _text_of(cell: bytes) -> str | NotText:
    try:
        return cell.decode()
    except UnicodeDecodeError:
        return NOT_TEXT
