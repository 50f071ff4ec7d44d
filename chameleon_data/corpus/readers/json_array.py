"""JSON that is one array of objects: each element is a row, read as a line of JSON lines is.

Elements are parted by Python's json, and read by orjson. Memory is an element and a read, not the array.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator

import numpy as np

from chameleon_data.corpus.readers.jsonl import lines_reader, longest_line
from chameleon_data.corpus.readers.rows import Columns, RawRows
from chameleon_data.corpus.readers.stream import BYTE_ORDER_MARK, READ_BYTES
from chameleon_data.corpus.unpack import ByteStream
from chameleon_data.errors import InputError

ELEMENTS_AT_ONCE = 2**10
BATCH_BYTES = 2**20
"""Bytes of elements that are read at once; a longer one is read alone."""
CUT_TOKEN = 16
"""Characters of a number, a word or an escape that the end of a read may cut."""
_BLANKS = re.compile(r"[ \t\r\n]*+")
_ARRAY = re.compile(rb"\s*+\[\s*+(?:\{|\]\s*+\Z)")
_OBJECT = re.compile(rb"\s*+\{[ \t\r]*+\n")


def is_array(start: bytes) -> bool:
    """Whether a file that starts so is an array of objects. A line of JSON lines that is an array is no row in any case."""
    return _ARRAY.match(start.removeprefix(BYTE_ORDER_MARK)) is not None


def is_one_object(start: bytes) -> bool:
    """Whether a file that starts so is an object over several lines."""
    return _OBJECT.match(start.removeprefix(BYTE_ORDER_MARK)) is not None


def read_json_array(stream: ByteStream, url: str, columns: Columns, longest: int) -> Iterator[RawRows]:
    """The elements of the array, numbered from 0; `longest` is bytes of a text. Raises InputError for an array that is broken,
    since where its next element begins is then unknown, and for what follows it."""
    rows_of = lines_reader(columns)
    batch: list[bytes | None] = []
    first = size = 0
    for element in _elements(stream, url, longest_line(longest)):
        batch.append(element)
        size += len(element)
        if size >= BATCH_BYTES or len(batch) >= ELEMENTS_AT_ONCE:
            yield rows_of(batch, np.arange(first, first + len(batch), dtype=np.int64))
            first, size, batch = first + len(batch), 0, []
    if batch:
        yield rows_of(batch, np.arange(first, first + len(batch), dtype=np.int64))


def _elements(stream: ByteStream, url: str, longest: int) -> Iterator[bytes]:
    decode = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape").decode
    scan = json.JSONDecoder(strict=False, parse_int=float).raw_decode
    text, at, number, ended = "", 0, 0, False

    def more() -> bool:
        """Read on, at least as much as is held; False at the end of the file."""
        nonlocal text, at, ended
        if ended:
            return False
        if len(text) - at > longest:
            raise InputError(
                f"{url}: element {number:,} of its array is longer than {longest:,} bytes; split it, or leave it out"
            )
        wanted, parts = max(READ_BYTES, len(text) - at), [text[at:]]
        while wanted > 0 and not ended:
            data = stream.read(READ_BYTES)
            ended = not data
            parts.append(decode(data, ended))
            wanted -= len(data)
        text, at = "".join(parts), 0
        return True

    def next_character() -> str:
        nonlocal at
        while True:
            at = _BLANKS.match(text, at).end()  # type: ignore[union-attr]
            if at < len(text) or not more():
                return text[at : at + 1]

    while next_character() == "\ufeff":
        at += 1
    at += 1  # the bracket
    if next_character() == "]":
        at += 1
    else:
        while True:
            next_character()
            try:
                _, end = scan(text, at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated string") or error.pos >= len(text) - CUT_TOKEN
                if cut and more():
                    continue
                fault = "truncated or broken" if cut else f"broken ({error.msg})"
                raise InputError(f"{url}: element {number:,} of its array is {fault}; mend it, or fetch it again") from None
            except RecursionError:
                raise InputError(f"{url}: element {number:,} of its array is nested too deeply; leave it out") from None
            after = _BLANKS.match(text, end).end()  # type: ignore[union-attr]
            if text[after : after + 1] not in (",", "]"):
                if len(text) - after < CUT_TOKEN and more():  # a number may go on
                    continue
                fault = "truncated" if after == len(text) else "broken"
                raise InputError(f"{url}: behind element {number:,} its array is {fault}; mend it, or fetch it again")
            yield text[at:end].encode(errors="surrogateescape")
            number, at = number + 1, after + 1
            if text[after] == "]":
                break
    if next_character():
        raise InputError(f"{url}: holds something behind the end of its array; cut that off, or write it as JSON lines")
