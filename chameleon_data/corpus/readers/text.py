"""A text file: the whole file is one document."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from chameleon_data.corpus.readers.rows import Fault, RawRows, binary_array
from chameleon_data.corpus.readers.stream import BYTE_ORDER_MARK, read_chunks
from chameleon_data.corpus.unpack import ByteStream


def read_text(stream: ByteStream, longest: int) -> Iterator[RawRows]:
    """One row. Of a file of more than `longest` bytes little more than these is read."""
    chunks: list[bytes] = []
    size = 0
    for chunk in read_chunks(stream):
        chunks.append(chunk)
        size += len(chunk)
        if size > longest + len(BYTE_ORDER_MARK):
            break
    text = b"".join(chunks).removeprefix(BYTE_ORDER_MARK)
    fault = Fault.TOO_LONG if len(text) > longest else Fault.NONE
    yield RawRows(binary_array([b"" if fault else text]), np.zeros(1, np.int64), np.array([fault], np.uint8), None, None)
