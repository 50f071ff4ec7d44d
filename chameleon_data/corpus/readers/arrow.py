"""Arrow's IPC formats: files, streams, Feather version 2. A local file is mapped: an uncompressed batch then takes no memory.

Streams that follow each other in one file, as `cat` makes them, are read one after the other. Two files in one are refused: the
footer of the last one knows nothing of the first.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa

from chameleon_data.corpus.boundaries import read_arrow_blocks, read_arrow_footer
from chameleon_data.corpus.fragments import Fragment, refuse_what_follows
from chameleon_data.corpus.readers.columns import find_columns, rows_of_batch
from chameleon_data.corpus.readers.rows import Columns, RawRows
from chameleon_data.errors import InputError

FILE_MAGIC = b"ARROW1"
CONTINUATION = b"\xff\xff\xff\xff"
"""First bytes of every message of a stream."""
UNLISTED_BYTES = 1024
"""Most bytes between the last batch of a file and its footer: an end mark, and padding."""


def read_arrow(file: BinaryIO, fragment: Fragment, wanted: Columns, vectors: str | None, longest: int) -> Iterator[RawRows]:
    """The rows of the fragment's record batches.

    Raises InputError for a stream without its end mark, and for what follows an end.
    """
    local = "://" not in fragment.url
    raw = pa.memory_map(fragment.url) if local else pa.PythonFile(file, "r")
    magic = raw.read(len(FILE_MAGIC))
    if magic[:4] == b"FEA1":
        raise InputError(f"{fragment.url}: Feather version 1; write it again as version 2")
    if magic[:4] == b"PAR1":
        raise InputError(f"{fragment.url}: holds Parquet, which its name does not say; rename it")
    if magic == FILE_MAGIC:
        _refuse_files_in_one(raw, fragment.url)
        yield from _read_one(raw, 0, 0, False, fragment, wanted, vectors, longest)
        return
    number = start = 0
    while True:
        for rows in _read_one(raw, start, number, True, fragment, wanted, vectors, longest):
            number += len(rows.rows)
            yield rows
        start = raw.tell()
        rest = raw.read(8)
        if not rest:
            return
        if rest[:4] != CONTINUATION:
            raise InputError(
                f"{fragment.url}: from byte {start:,} on, behind the end of its Arrow stream, it holds something else; "
                "cut that off, or write the file again"
            )


def _read_one(
    raw: pa.NativeFile,
    start: int,
    number: int,
    stream: bool,
    fragment: Fragment,
    wanted: Columns,
    vectors: str | None,
    longest: int,
) -> Iterator[RawRows]:
    """The rows of one stream, from byte `start` on, or of one file; `number` is that of its first row."""
    open_any = pa.ipc.open_stream if stream else pa.ipc.open_file
    raw.seek(start)
    schema = open_any(raw, options=pa.ipc.IpcReadOptions(use_threads=False)).schema
    paths = find_columns(schema, wanted, fragment, vectors)
    raw.seek(start)
    needed = sorted({schema.get_field_index(path[0]) for path in paths})
    opened = open_any(raw, options=pa.ipc.IpcReadOptions(included_fields=needed, use_threads=False))
    end = raw.tell()
    for batch in opened if stream else map(opened.get_batch, range(opened.num_record_batches)[fragment.begin : fragment.end]):
        yield from rows_of_batch(batch, paths, wanted, number, vectors is not None, longest)
        number, end = number + batch.num_rows, raw.tell()
    if stream and raw.tell() == end:  # Arrow takes the end of the file for the end of the stream, wherever it was cut
        raise InputError(f"{fragment.url}: truncated (an Arrow stream without its end mark); fetch it again")


def _refuse_files_in_one(raw: pa.NativeFile, url: str) -> None:
    """Raise InputError unless the batches that the footer lists end where the footer begins, and nothing ends before it."""
    found = read_arrow_footer(raw, raw.size())
    if found is None:
        refuse_what_follows(raw, FILE_MAGIC, url)
        return  # cut, as the reader will find
    footer_at, footer = found
    try:
        dictionaries, batches = read_arrow_blocks(footer)
    except (struct.error, IndexError):
        return  # damaged, as the reader will find
    end = max((end for _, end in dictionaries + batches), default=len(FILE_MAGIC))
    listed = end if dictionaries + batches else len(footer)  # without batches a file holds its schema twice, and little else
    raw.seek(end)
    if footer_at - listed > UNLISTED_BYTES or FILE_MAGIC in raw.read(max(0, footer_at - end)):
        raise InputError(
            f"{url}: its footer lists {end:,} of {footer_at:,} bytes, as where files were joined by `cat`; give each its own file"
        )
