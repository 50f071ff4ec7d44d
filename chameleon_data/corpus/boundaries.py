"""Where a file may be divided, so that several tasks read it. No document is read for it.

    plain JSON lines          anywhere: a fragment has the lines that begin behind its own line ends
    zstd of several frames    where a frame begins: by the seek table at the end (the seekable format), else, in a local file, by
                              the sizes that frames and blocks say of themselves
    gzip as bgzip writes it   where a member begins; each says its size, and one is unpacked to see that it is real
    Arrow files               at the record batches that the footer lists

Anything else is read by one task: one frame, a stream of Arrow, CSV (a line end may stand inside quotes), an array of JSON. Row
groups of Parquet are divided where the footer is read, in `fragments.py`. A boundary that is none shows when its fragment is
read, since a frame that begins or ends elsewhere is refused. Why: docs/decisions/151-files-in-fragments.md.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any, BinaryIO

from chameleon_data.corpus.content import PEEKED_BYTES, START_BYTES
from chameleon_data.corpus.unpack import UNPACKING_ERRORS, FileStretch, unpack

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
SKIPPABLE = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")
"""First bytes of a zstd frame without content."""
SEEK_TABLE_MAGIC = b"\xb1\xea\x92\x8f"
"""Last bytes of a zstd file with a seek table."""
SEEK_TABLE_FRAME = b"\x5e\x2a\x4d\x18"
BGZF_START = re.compile(rb"\x1f\x8b\x08\x04.{6}..BC\x02\x00", re.DOTALL)
"""First bytes of a member that says its size, as bgzip writes it: RFC 1952, and the field BC of the SAM specification."""
LARGEST_MEMBER = 2**16
"""Most bytes of such a member, packed or not."""
_LINES = re.compile(rb"(?:\xef\xbb\xbf)?\s*+\{(?![ \t\r]*+\n)")
"""Start of a file of lines: its first value is an object that does not go on in the next line."""


def find_boundaries(file: BinaryIO, url: str, compression: str, size: int, step: int) -> list[int]:
    """Places in a file of JSON lines where a fragment may begin, about `step` apart and ascending. The start is none of them."""
    if size <= step or not _holds_lines(file, url, compression):
        return []
    count = -(-size // step)
    wanted = [size * i // count for i in range(1, count)]
    if compression == "none":
        return wanted
    if compression == "zstd":
        starts = _starts_in_seek_table(file, size)
        if starts is None:
            starts = [] if "://" in url else list(_walk_frames(file, size))
        return _first_behind(wanted, starts)
    return sorted({at for place in wanted if (at := _find_member(file, size, place))}) if compression == "gzip" else []


def _holds_lines(file: BinaryIO, url: str, compression: str) -> bool:
    """Whether the file begins as JSON lines do. What is damaged is found when it is read."""
    stored = FileStretch(file, 0, None)
    try:
        start = (stored if compression == "none" else unpack(stored, url, compression)).read(PEEKED_BYTES)
    except UNPACKING_ERRORS:
        return False
    return _LINES.match(start) is not None


def _first_behind(wanted: Iterable[int], starts: Iterable[int]) -> list[int]:
    """For each wanted place the first start there or behind it."""
    found: list[int] = []
    ascending = iter(starts)
    start = next(ascending, None)
    for place in wanted:
        while start is not None and start < place:
            start = next(ascending, None)
        if start is None:
            break
        if not found or found[-1] != start:
            found.append(start)
    return found


def _starts_in_seek_table(file: BinaryIO, size: int) -> list[int] | None:
    """Where frames begin, by the seek table (zstd_seekable_compression_format.md); None where there is none that is right."""
    file.seek(max(0, size - 9))
    tail = file.read(9)
    if len(tail) < 9 or tail[5:] != SEEK_TABLE_MAGIC:
        return None
    entry = 12 if tail[4] & 0x80 else 8
    count = int.from_bytes(tail[:4], "little")
    table_at = size - 9 - entry * count - 8
    if table_at < 0:
        return None
    file.seek(table_at)
    head, body = file.read(8), file.read(entry * count)
    sizes = [int.from_bytes(body[at : at + 4], "little") for at in range(0, len(body), entry)]
    if head[:4] != SEEK_TABLE_FRAME or int.from_bytes(head[4:], "little") != entry * count + 9 or sum(sizes) != table_at:
        return None
    starts = [at for at, size in zip(accumulate(sizes, initial=0), sizes, strict=False) if size]
    return starts if all(_is_frame(file, at) for at in starts) else None


def _is_frame(file: BinaryIO, at: int) -> bool:
    file.seek(at)
    return file.read(4) == ZSTD_MAGIC


def _walk_frames(file: BinaryIO, size: int) -> Iterator[int]:
    """Where frames with content begin, from the sizes in their headers (RFC 8878, 3.1.1); it ends at the first that is wrong."""
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(18)
        if SKIPPABLE.match(head):
            at += 8 + int.from_bytes(head[4:8], "little")
            continue
        if head[:4] != ZSTD_MAGIC or len(head) < 6:
            return
        start, descriptor = at, head[4]
        single = descriptor >> 5 & 1
        content_size = (single, 2, 4, 8)[descriptor >> 6]
        at += 5 + (1 - single) + (0, 1, 2, 4)[descriptor & 3] + content_size
        while True:
            file.seek(at)
            block = int.from_bytes(file.read(3), "little")
            kind = block >> 1 & 3
            if kind == 3 or at + 3 > size:
                return
            at += 3 + (1 if kind == 1 else block >> 3)
            if block & 1:
                break
        at += 4 * (descriptor >> 2 & 1)
        if at > size:
            return
        yield start


def _find_member(file: BinaryIO, size: int, place: int) -> int | None:
    """The first member of bgzip's at `place` or behind it; None where the next ones are none."""
    file.seek(0)
    if not BGZF_START.match(file.read(START_BYTES)):
        return None
    file.seek(place)
    window = file.read(2 * LARGEST_MEMBER)
    for match in BGZF_START.finditer(window, 0, LARGEST_MEMBER + START_BYTES):
        at = match.start()
        member = window[at : at + 1 + int.from_bytes(window[at + 16 : at + 18], "little")]
        unpacker = zlib.decompressobj(wbits=31)
        try:
            unpacker.decompress(member, LARGEST_MEMBER + 1)  # checks its sum too
        except zlib.error:
            continue
        if unpacker.eof and not unpacker.unused_data and place + at < size:
            return place + at
    return None


def read_arrow_blocks(footer: bytes) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(first byte, byte behind the last) of each dictionary and of each record batch, by the footer of an Arrow file.

    The footer is a flatbuffer (Arrow's File.fbs). Raises struct.error or IndexError for one that is damaged.
    """

    def read(form: str, at: int) -> Any:
        return struct.unpack_from(f"<{form}", footer, at)[0]

    table = read("I", 0)
    fields = table - read("i", table)
    found = []
    for field in (2, 3):  # the dictionaries and the record batches: (offset, bytes of metadata, bytes of body), 24 bytes each
        slot = 4 + 2 * field
        place = read("H", fields + slot) if slot < read("H", fields) else 0
        blocks = []
        if place:
            vector = table + place + read("I", table + place)
            for at in range(vector + 4, vector + 4 + 24 * read("I", vector), 24):
                offset = read("q", at)
                blocks.append((offset, offset + read("i", at + 8) + read("q", at + 16)))
        found.append(blocks)
    return found[0], found[1]


def read_arrow_footer(file: Any, size: int) -> tuple[int, bytes] | None:
    """(Where it begins, the footer) of an Arrow file; None where its end was cut."""
    file.seek(max(0, size - 10))
    tail = file.read(10)
    length = int.from_bytes(tail[:4], "little", signed=True)
    if tail[4:] != b"ARROW1" or length <= 0 or length > size - 10:
        return None
    file.seek(size - 10 - length)
    return size - 10 - length, file.read(length)
