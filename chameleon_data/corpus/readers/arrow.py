"""Arrow's IPC formats: files, streams, Feather version 2. A local file is mapped: an uncompressed batch then takes no memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa

from chameleon_data.corpus.fragments import Fragment
from chameleon_data.corpus.readers.columns import find_columns, rows_of_batch
from chameleon_data.corpus.readers.rows import RawRows
from chameleon_data.errors import InputError
from chameleon_data.recipe import Source


def read_arrow(file: BinaryIO, fragment: Fragment, source: Source, vectors: str | None, longest: int) -> Iterator[RawRows]:
    """The rows of every record batch. Raises InputError for a stream without its end mark."""
    local = "://" not in fragment.url
    raw = pa.memory_map(fragment.url) if local else pa.PythonFile(file, "r")
    magic = raw.read(6)
    if magic[:4] == b"FEA1":
        raise InputError(f"{fragment.url}: Feather version 1; write it again as version 2")
    stream = magic != b"ARROW1"
    open_any = pa.ipc.open_stream if stream else pa.ipc.open_file
    raw.seek(0)
    schema = open_any(raw).schema
    paths = find_columns(schema, source, fragment, vectors)
    raw.seek(0)
    needed = sorted({schema.get_field_index(path[0]) for path in paths})
    opened = open_any(raw, options=pa.ipc.IpcReadOptions(included_fields=needed, use_threads=False))
    number, end = 0, raw.tell()
    for batch in opened if stream else map(opened.get_batch, range(opened.num_record_batches)):
        yield from rows_of_batch(batch, paths, source, number, vectors is not None, longest)
        number, end = number + batch.num_rows, raw.tell()
    if stream and raw.tell() == end:  # Arrow takes the end of the file for the end of the stream, wherever it was cut
        raise InputError(f"{fragment.url}: truncated (an Arrow stream without its end mark); fetch it again")
