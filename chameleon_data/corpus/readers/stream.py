r"""The bytes of a text file: decompressed, in chunks, in lines.

Only \n ends a line. A line that is longer than allowed is never held whole. A compressed stream that ends before its last frame
does is an error. Why: docs/decisions/020-reading-lines.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import BinaryIO

import pyarrow as pa

from chameleon_data.corpus.fragments import Fragment
from chameleon_data.errors import InputError

READ_BYTES = 2**17
"""Bytes of one read. So few stay in the processor's cache."""
CONTAINER_MAGIC = {
    b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"PAR1": "Parquet", b"ARRO": "Arrow", b"PK\x03\x04": "zip",
    b"\xfd7zX": "xz", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16",
}  # fmt: skip
"""First bytes of files that do not hold lines of UTF-8, and what they hold."""
READABLE_CONTAINERS = ("gzip", "zstd", "Parquet", "Arrow")
"""Those of them that have a reader, under the right suffix."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def open_stream(file: BinaryIO, fragment: Fragment) -> pa.NativeFile:
    """A stream of the file's content. Raises InputError where the first bytes are not what the suffix says.

    Reading the stream raises at a truncated frame, at trailing bytes, and at a zstd window above 128 MiB. Frames and members
    that follow each other are joined.
    """
    start = file.read(4)
    file.seek(0)
    raw = pa.PythonFile(file, "r")
    if fragment.compression != "none":
        if not start:
            raise InputError(f"{fragment.url}: truncated (no bytes at all); fetch it again")
        return pa.CompressedInputStream(raw, fragment.compression)
    for magic, content in CONTAINER_MAGIC.items():
        if start.startswith(magic):
            remedy = "rename it" if content in READABLE_CONTAINERS else "unpack it"
            remedy = "write it again as UTF-8" if content == "UTF-16" else remedy
            raise InputError(f"{fragment.url}: holds {content}, which its name does not say; {remedy}")
    return raw


def read_chunks(stream: pa.NativeFile) -> Iterator[bytes]:
    while chunk := stream.read(READ_BYTES):
        yield chunk


def split_lines(chunks: Iterable[bytes], longest: int) -> Iterator[tuple[int, list[bytes | None]]]:
    r"""Runs of lines, each with the number of its first line. A line of more than `longest` bytes is None.

    U+2028 and \x85 end no line. A byte order mark at the start is left out.
    """
    number = 0
    held: list[bytes] = []  # the start of a line whose end was not read yet
    size = 0
    for chunk in chain(chunks, [b"\n"]):
        *whole, tail = chunk.split(b"\n")
        if whole:
            size += len(whole[0])
            lines: list[bytes | None] = [*whole]
            lines[0] = b"".join([*held, whole[0]]) if size <= longest else None
            if len(chunk) > longest:
                lines = [None if line is None or len(line) > longest else line for line in lines]
            yield number, _without_mark(lines) if number == 0 else lines
            number += len(lines)
            held, size = [], 0
        size += len(tail)
        if size > longest:
            held = []
        elif tail:
            held.append(tail)


def _without_mark(lines: list[bytes | None]) -> list[bytes | None]:
    first = lines[0]
    return lines if first is None else [first.removeprefix(BYTE_ORDER_MARK), *lines[1:]]
