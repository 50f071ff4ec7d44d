"""A fragment as a stream of blocks of text, and of every row that is not usable text, with its reason.

Each row is judged alone: the documents, the bad rows and their numbers do not depend on how bytes fall into reads, frames
or blocks. Nothing ends early in silence: a compressed stream whose last frame did not end, a Parquet footer that is not
there, an Arrow stream without its end mark is an error. Memory is a block, one document, and the reader's own buffers,
whatever the file's size and whatever it expands to; the exceptions are the formats' own: an Arrow record batch that is
compressed, a page of Parquet, and for Parquet a batch of rows, of 2 MiB by the row group's mean row. Where a format stores equal
strings once, as dictionaries do, rows are taken so few at a time that they stay small written out: 50 kB of Parquet that stand
for 20 GB of text take 270 MB, where they took 3 GB.

Measured on one core, 283 MB of mixed text in documents of 6 kB, MB/s of text (in brackets pyarrow.json and pyarrow.parquet
on the same files, which judge nothing): JSONL 450 (600), .zst 280 (365), .gz 160 (186), Parquet 700 (820), CSV 140.
orjson reads such lines at 690 MB/s, msgspec's typed decoder, which skips the other fields, at 665; and orjson's limit of
depth does not depend on the interpreter's stack. 128 KiB at a time keeps lines in the processor's cache; 16 MiB at a time
takes a quarter longer. gzip is zlib, 298 MB/s; the isal package does 750, should gzip ever be what a build waits for.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from chameleon_data.arrays import string_offsets
from chameleon_data.corpus.fragments import Fragment, explain_read_errors, open_fragment
from chameleon_data.corpus.readers.parquet_pages import UnwatchedReadError, WatchedFile, column_chunk
from chameleon_data.errors import InputError
from chameleon_data.recipe import Source, check_domain_name

READ_BYTES = 2**17
BLOCK_ROWS = 2**17  # bounds a block of very short texts, or of bad rows alone
BATCH_ROWS = 2**10  # of Parquet, Arrow and CSV
READ_BATCH_BYTES = 2**21  # of all columns of Parquet, uncompressed; .4 to 7 MB a batch read equally fast, 28 MB a fifth slower
CSV_RECORD = 2**25  # bytes; the csv module needs some eight times this for a field

LARGEST_EXPANDED_BATCH = 2**26  # of a batch of Parquet, where repeated values are stored once
CONTAINER_MAGIC = {
    b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"PAR1": "Parquet", b"ARRO": "Arrow", b"PK\x03\x04": "zip",
    b"\xfd7zX": "xz", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16",
}  # fmt: skip
"""How files begin that are something else than lines of UTF-8."""
READABLE_CONTAINERS = ("gzip", "zstd", "Parquet", "Arrow")

(
    BROKEN,
    NOT_OBJECT,
    NO_TEXT,
    NULL_TEXT,
    NOT_STRING,
    BLANK,
    NOT_UTF8,
    TOO_LONG,
    WRONG_COLUMNS,
    BROKEN_CSV,
    NO_DOMAIN,
    BAD_DOMAIN,
    NO_ID,
) = range(1, 14)
REASONS = (
    "", "broken JSON", "not an object", "no text", "null text", "text is not a string", "blank text", "invalid UTF-8",
    "longer than max_document", "wrong number of columns", "broken CSV", "no domain", "bad domain name", "no id",
)  # fmt: skip
"""Why a row is in quarantine. Where several hold, the first that is found: the row as such, its text, domain, id."""


@dataclass(frozen=True)
class BadRow:
    row: int
    """As in Block.rows."""
    domain: str
    """The row's domain, or the source's name where that cannot be told."""
    reason: str
    """One of REASONS."""


@dataclass(frozen=True)
class Block:
    text: pa.LargeStringArray
    """No nulls, valid UTF-8, not blank."""
    rows: npt.NDArray[np.int64]
    """Number in the file of each text, from 0: the line of JSONL, the record of CSV, the row of Parquet and Arrow."""
    names: tuple[str, ...]
    domain: npt.NDArray[np.int32]
    """Per text, an index into `names`."""
    ids: pa.LargeStringArray | None
    """Per text, when the source names an id; integers in decimal."""
    vectors: pa.LargeListArray | None
    """Per text, when a column of them is asked for: float32; null where there is none, or one that is not finite."""
    bad: tuple[BadRow, ...]


@dataclass(frozen=True)
class _Rows:
    """Some rows as they were read, not yet judged; one entry per row in every column."""

    text: pa.LargeBinaryArray  # no nulls; empty where there is a fault
    rows: npt.NDArray[np.int64]
    fault: npt.NDArray[np.uint8]  # index into REASONS; 0 is none so far
    domain: pa.LargeBinaryArray | None  # null: none, or not a string
    ids: pa.LargeBinaryArray | None  # null: none, or neither a string nor an integer
    vectors: pa.LargeListArray | None = None
    valid: bool = False  # the text is known to be UTF-8


def read_blocks(
    fragment: Fragment, source: Source, max_document: int, block_bytes: int = 16 * 2**20, vectors: str | None = None
) -> Iterator[Block]:
    """Blocks of about `block_bytes` bytes of text, in the order of the file; `max_document` is in bytes of UTF-8.

    `vectors` names a column of lists of numbers that is read along. Raises InputError for a file that is truncated, damaged,
    gone or changed, or that lacks a column the source names.
    """
    if vectors is not None and fragment.format not in ("parquet", "arrow"):
        raise InputError(f"{fragment.url}: holds no column of vectors, as 'embed.column' wants; only Parquet and Arrow files do")
    sequential = fragment.format not in ("parquet", "arrow")
    with explain_read_errors(fragment.url), open_fragment(fragment, sequential) as file:
        if fragment.format == "parquet":
            rows = _parquet(file, fragment, source, vectors, max_document)
        elif fragment.format == "arrow":
            rows = _arrow(file, fragment, source, vectors, max_document)
        else:
            stream = _decompressed(file, fragment)
            if fragment.format == "jsonl":
                rows = _jsonl(_chunks(stream), source, 6 * max_document + 2**20, block_bytes)
            elif fragment.format == "csv":
                rows = _csv(_chunks(stream), fragment, source)
            else:
                rows = _txt(stream, max_document)
        yield from (_judged(some, source, fragment.source, max_document) for some in _gather(rows, block_bytes))


# Bytes


def _decompressed(file: BinaryIO, fragment: Fragment) -> pa.NativeFile:
    """A stream of the file's content. Arrow's raises at a truncated frame or member and at trailing bytes (python-zstandard
    and fsspec end early), joins frames and members, and refuses zstd windows above 128 MiB."""
    start = file.read(4)
    file.seek(0)
    raw = pa.PythonFile(file, "r")
    if fragment.compression != "none":
        if not start:
            raise InputError(f"{fragment.url}: truncated (no bytes at all); fetch it again")
        return pa.CompressedInputStream(raw, fragment.compression)
    for magic, what in CONTAINER_MAGIC.items():
        if start.startswith(magic):
            advice = (
                "write it again as UTF-8" if what == "UTF-16" else "rename it" if what in READABLE_CONTAINERS else "unpack it"
            )
            raise InputError(f"{fragment.url}: holds {what}, which its name does not say; {advice}")
    return raw


def _chunks(stream: pa.NativeFile) -> Iterator[bytes]:
    while chunk := stream.read(READ_BYTES):
        yield chunk


def _lines(chunks: Iterable[bytes], longest: int) -> Iterator[tuple[int, list[bytes | None]]]:
    r"""Runs of lines, each with the number of its first; None is a line of more than `longest` bytes, which is never held.

    Only \n ends a line, so U+2028 and \x85 stay inside. A byte order mark at the start is left out.
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
    return [first[3:], *lines[1:]] if first and first.startswith(b"\xef\xbb\xbf") else lines


# JSON lines


def _jsonl(chunks: Iterable[bytes], source: Source, longest: int, block_bytes: int) -> Iterator[_Rows]:
    loads: Callable[[Any], Any] = orjson.loads
    text_of = _field(source.text)
    domain_of = _field(source.domain) if source.domain else None
    id_of = _field(source.id) if source.id else None
    documents: list[Any] = []
    texts: list[bytes] = []
    numbers: list[npt.NDArray[np.int64]] = []
    faults: list[npt.NDArray[np.uint8]] = []
    domains: list[Any] = []
    ids: list[Any] = []

    def rows() -> _Rows:
        return _Rows(
            _binary(texts),
            np.concatenate(numbers),
            np.concatenate(faults),
            pa.array(domains, pa.large_binary()) if domain_of else None,
            pa.array(ids, pa.large_binary()) if id_of else None,
            valid=True,
        )

    size = 0
    for first, lines in _lines(chunks, longest):
        if lines.count(b"") == len(lines):  # a bomb of line ends in a tenth of the time
            continue
        number = np.arange(first, first + len(lines), dtype=np.int64)
        if any(line is not None and (not line or line.isspace()) for line in lines):
            full = [i for i, line in enumerate(lines) if line is None or (line and not line.isspace())]
            lines, number = [lines[i] for i in full], number[full]
        try:
            if domain_of or id_of:
                documents = [loads(line) for line in lines]
                found = [text_of(document).encode() for document in documents]
            else:
                found = [text_of(loads(line)).encode() for line in lines]
            fault = np.zeros(len(lines), np.uint8)
        except (ValueError, KeyError, TypeError, AttributeError):  # some line is bad: one by one, to see which
            judged = [_line(line, text_of) for line in lines]
            documents = [document for document, _, _ in judged]
            found = [text for _, text, _ in judged]
            fault = np.array([reason for _, _, reason in judged], np.uint8)
        if domain_of:
            domains += [_name(document, domain_of) for document in documents]
        if id_of:
            ids += [_identifier(document, id_of) for document in documents]
        texts += found
        numbers.append(number)
        faults.append(fault)
        size += sum(map(len, found))
        if size >= block_bytes or len(texts) >= BLOCK_ROWS:
            block = rows()
            texts, numbers, faults, domains, ids, size = [], [], [], [], [], 0  # freed while the block is away
            yield block
            del block
    if texts:
        yield rows()


def _field(key: str) -> Callable[[Any], Any]:
    """Reads a key of a document. Dots reach into nested objects, unless the key as it stands is there. KeyError if not."""
    parts = key.split(".")

    def nested(document: Any) -> Any:
        if key in document:
            return document[key]
        for part in parts:
            if type(document) is not dict:
                raise KeyError(part)
            document = document[part]
        return document

    return nested if len(parts) > 1 else lambda document: document[key]


def _line(line: bytes | None, text_of: Callable[[Any], Any]) -> tuple[Any, bytes, int]:
    """The document, its text and its fault, for one line."""
    if line is None:
        return None, b"", TOO_LONG
    try:
        document = orjson.loads(line)
    except ValueError:
        try:
            line.decode()
        except UnicodeDecodeError:
            return None, b"", NOT_UTF8
        return None, b"", BROKEN
    if type(document) is not dict:
        return None, b"", NOT_OBJECT
    try:
        text = text_of(document)
    except KeyError:
        return document, b"", NO_TEXT
    if text is None:
        return document, b"", NULL_TEXT
    return (document, text.encode(), 0) if type(text) is str else (document, b"", NOT_STRING)


def _name(document: Any, domain_of: Callable[[Any], Any]) -> str | None:
    try:
        name = domain_of(document)
    except (KeyError, TypeError):
        return None
    return name if type(name) is str else None


def _identifier(document: Any, id_of: Callable[[Any], Any]) -> str | None:
    try:
        found = id_of(document)
    except (KeyError, TypeError):
        return None
    return found if type(found) is str else str(found) if type(found) is int else None


def _binary(values: list[bytes]) -> pa.LargeBinaryArray:
    """`pa.array(values, pa.large_binary())`, without growing the buffer as it goes."""
    offsets = np.zeros(len(values) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, values), np.int64, len(values)), out=offsets[1:])
    return pa.Array.from_buffers(pa.large_binary(), len(values), [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(values))])


# Columns


def _parquet(file: BinaryIO, fragment: Fragment, source: Source, vectors: str | None, longest: int) -> Iterator[_Rows]:
    watched = WatchedFile(file)
    opened = pq.ParquetFile(
        watched,
        pre_buffer=False,  # with it the whole row group is held: 115 MB at 8,000 documents, where this takes 15
        buffer_size=2**16,
        page_checksum_verification=True,
        arrow_extensions_enabled=False,
    )
    paths = _columns(opened.schema_arrow, source, fragment, vectors)
    at = fragment.row_group or 0
    number = sum(opened.metadata.row_group(i).num_rows for i in range(at))
    columns = list(dict.fromkeys(".".join(path) for path in paths))
    how: dict[str, Any] = {"row_groups": [at], "columns": columns, "use_threads": False}
    watched.chunks = None
    with suppress(
        UnwatchedReadError
    ):  # all of a damaged footer's columns raise before a page is read; `column` would abort the process
        next(opened.iter_batches(1, **how), None)
    group = opened.metadata.row_group(at)
    of_group = (group.column(i) for i in range(group.num_columns) if opened.schema.column(i).path in columns)
    watched.chunks = [column_chunk(column) for column in of_group]
    rows = READ_BATCH_BYTES * group.num_rows // max(group.total_byte_size, 1)
    most = LARGEST_EXPANDED_BATCH // _repeatable(file, opened, at, columns)
    for batch in opened.iter_batches(max(1, min(rows, most, BATCH_ROWS)), **how):
        yield from _table(batch, paths, source, number, vectors is not None, longest)
        number += batch.num_rows


def _repeatable(file: BinaryIO, opened: pq.ParquetFile, group: int, columns: list[str]) -> int:
    """Bytes of the longest string that a row group may store once for many rows: no longer than its dictionary page, or, where
    values share beginnings with the ones before, than the column. At least 1."""
    longest = 1
    for i in range(opened.metadata.num_columns):
        column = opened.schema.column(i)
        if column.physical_type != "BYTE_ARRAY" or column.path not in columns:
            continue
        if pa.types.is_dictionary(opened.schema_arrow.field(column.path.split(".")[0]).type):
            continue  # read as a dictionary, so nothing is repeated yet
        chunk = opened.metadata.row_group(group).column(i)
        file.seek(min(at for at in (chunk.dictionary_page_offset, chunk.data_page_offset) if at is not None))
        head = file.read(8)  # Thrift's compact protocol: field 1, type 2 (a dictionary); field 2, bytes uncompressed, as a varint
        if head[:3] == b"\x15\x04\x15":
            longest = max(longest, sum((byte & 127) << 7 * k for k, byte in enumerate(_varint(head[3:]))) >> 1)
        elif {"PLAIN_DICTIONARY", "RLE_DICTIONARY", "DELTA_BYTE_ARRAY"} & set(chunk.encodings):
            longest = max(longest, chunk.total_uncompressed_size)
    return longest


def _varint(data: bytes) -> bytes:
    """The bytes of the number at the start."""
    end = next((k for k, byte in enumerate(data) if byte < 128), len(data) - 1)
    return data[: end + 1]


def _arrow(file: BinaryIO, fragment: Fragment, source: Source, vectors: str | None, longest: int) -> Iterator[_Rows]:
    local = "://" not in fragment.url
    raw = pa.memory_map(fragment.url) if local else pa.PythonFile(file, "r")  # mapped, an uncompressed batch takes no memory
    magic = raw.read(6)
    if magic[:4] == b"FEA1":
        raise InputError(f"{fragment.url}: Feather version 1; write it again as version 2")
    stream = magic != b"ARROW1"
    open_any = pa.ipc.open_stream if stream else pa.ipc.open_file
    raw.seek(0)
    schema = open_any(raw).schema
    paths = _columns(schema, source, fragment, vectors)
    raw.seek(0)
    needed = sorted({schema.get_field_index(path[0]) for path in paths})
    opened = open_any(raw, options=pa.ipc.IpcReadOptions(included_fields=needed, use_threads=False))
    number, end = 0, raw.tell()
    for batch in opened if stream else map(opened.get_batch, range(opened.num_record_batches)):
        yield from _table(batch, paths, source, number, vectors is not None, longest)
        number, end = number + batch.num_rows, raw.tell()
    if stream and raw.tell() == end:  # Arrow takes the end of the file for the end of the stream, wherever it was cut
        raise InputError(f"{fragment.url}: truncated (an Arrow stream without its end mark); fetch it again")


def _csv(chunks: Iterable[bytes], fragment: Fragment, source: Source) -> Iterator[_Rows]:
    """Records as the csv module reads them (RFC 4180, new lines inside quotes); blank lines are not. Dots in keys mean nothing.

    A quote that is never closed would swallow the rest of the file: an InputError at 32 MiB or at the end. pyarrow.csv is
    2.5 times as fast, but loses records that have both another number of columns and invalid UTF-8, and reads 32 blocks ahead.
    """
    csv.field_size_limit(2**31 - 1)  # for the whole process, hence as large as it goes; `lines` holds the real limit
    number, size = -1, 0

    def lines() -> Iterator[str]:
        nonlocal size
        for _, some in _lines(chunks, CSV_RECORD):
            for line in some:
                size += CSV_RECORD if line is None else len(line)
                if line is None or size > CSV_RECORD:
                    limit = f"{CSV_RECORD / 2**20:g} MiB"
                    raise InputError(f"{fragment.url}: record {number + 1} is longer than {limit}; is a quote not closed?")
                yield line.decode(errors="surrogateescape") + "\n"

    reader = csv.reader(lines(), strict=True)
    try:
        header = next(filter(None, reader), [])
    except csv.Error as error:
        raise InputError(f"{fragment.url}: its first line is no header ({error})") from error
    if not header:  # what Spark writes for a partition without rows
        return
    schema = pa.schema([(name.encode(errors="replace").decode(), pa.string()) for name in header])
    at = [schema.names.index(path[0]) for path in _columns(schema, source, fragment)]
    cells: list[list[bytes]] = [[] for _ in at]
    numbers: list[int] = []
    faults: list[int] = []

    def rows() -> _Rows:
        columns = [_binary(column) for column in cells]
        return _Rows(
            columns[0],
            np.array(numbers, np.int64),
            np.array(faults, np.uint8),
            domain=columns[1] if source.domain else None,
            ids=columns[-1] if source.id else None,
        )

    held = 0
    number = 0
    while True:
        size = 0
        try:
            record = next(reader, None)
            fault = WRONG_COLUMNS if record is not None and len(record) != len(header) else 0
        except csv.Error as error:
            if "end of data" in str(error):
                raise InputError(f"{fragment.url}: truncated, or a quote is not closed, in record {number}") from error
            record, fault = [""], BROKEN_CSV
        if record is None:
            break
        if record:
            for column, i in zip(cells, at, strict=True):
                column.append(b"" if fault else record[i].encode(errors="surrogateescape"))
            numbers.append(number)
            faults.append(fault)
            number += 1
            held += len(cells[0][-1])
            if held >= READ_BATCH_BYTES or len(numbers) >= BATCH_ROWS:
                yield rows()
                cells, numbers, faults, held = [[] for _ in at], [], [], 0
    if numbers:
        yield rows()


def _txt(stream: pa.NativeFile, longest: int) -> Iterator[_Rows]:
    held = b"".join(_up_to(stream, longest + 3)).removeprefix(b"\xef\xbb\xbf")
    fault = TOO_LONG if len(held) > longest else 0
    yield _Rows(_binary([b"" if fault else held]), np.zeros(1, np.int64), np.array([fault], np.uint8), None, None)


def _up_to(stream: pa.NativeFile, longest: int) -> Iterator[bytes]:
    """The stream's bytes; it stops soon after there are more than `longest`."""
    size = 0
    while size <= longest and (chunk := stream.read(READ_BYTES)):
        size += len(chunk)
        yield chunk


def _columns(schema: pa.Schema, source: Source, fragment: Fragment, vectors: str | None = None) -> list[tuple[str, ...]]:
    """Where text, domain and id are, those that the source names, each as the names from the top. Extension types are refused
    before a value of theirs is read: some run code."""
    paths = []
    for what, key in (("text", source.text), ("domain", source.domain), ("id", source.id), ("vector", vectors)):
        if key is None:
            continue
        literal = key in schema.names or fragment.format == "csv"
        path = (key,) if literal else tuple(key.split("."))
        if schema.names.count(path[0]) > 1:
            raise InputError(f"{fragment.url}: the column {path[0]!r} stands twice; rename one")
        field, kind = None, pa.struct(list(schema))
        for part in path:
            at = kind.get_field_index(part) if pa.types.is_struct(kind) else -1
            if at < 0:
                raise InputError(f"{fragment.url}: no column {key!r} for the {what}; there are {', '.join(schema.names)[:500]}")
            field = kind.field(at)
            kind = field.type
            if isinstance(kind, pa.BaseExtensionType) or b"ARROW:extension:name" in (field.metadata or {}):
                raise InputError(f"{fragment.url}: the column {key!r} has an extension type; store it as a string")
        if what == "vector" and not _is_vector(kind):
            raise InputError(f"{fragment.url}: the column {key!r} is of {kind}; 'embed.column' wants lists of float32 or float64")
        paths.append(path)
    foreign = [field.name for field in schema if isinstance(field.type, pa.ExtensionType)]
    if foreign:
        raise InputError(f"{fragment.url}: the column {foreign[0]!r} has an extension type of Python code; leave it out")
    return paths


def _table(
    batch: pa.RecordBatch, paths: list[tuple[str, ...]], source: Source, first: int, vectors: bool, longest: int
) -> Iterator[_Rows]:
    """A record batch, whose first row has the number `first`, in slices, with columns in the order of `_columns`."""
    columns = [_leaf(batch, path) for path in paths]
    lengths = [_stored_once(column) for column in columns]
    long = lengths[0] > longest
    sizes = np.where(long, 0, lengths[0]) + sum(lengths[1:])
    cuts = np.cumsum(sizes) // READ_BATCH_BYTES
    turns = np.flatnonzero((np.diff(cuts) != 0) | (np.diff(long) != 0)) + 1
    starts = np.union1d(np.arange(0, batch.num_rows, BATCH_ROWS), turns)
    for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), batch.num_rows], strict=True):
        part = [column.slice(start, stop - start) for column in columns]
        vector = _finite(part.pop()) if vectors else None
        domain = _bytes_of(part[1]) if source.domain else None
        ids = _bytes_of(part[-1], integers=True) if source.id else None
        fault = np.zeros(stop - start, np.uint8)
        if long[start]:  # never copied
            text, fault[:] = _binary([b""] * len(fault)), TOO_LONG
        else:
            text = _bytes_of(part[0])
        if text.null_count:
            fault[text.is_null().to_numpy(zero_copy_only=False)] = NOT_STRING
            fault[part[0].is_null().to_numpy(zero_copy_only=False)] = NULL_TEXT
            text = text.fill_null(b"")
        yield _Rows(text, np.arange(first + start, first + stop, dtype=np.int64), fault, domain, ids, vector)


def _stored_once(column: pa.Array) -> npt.NDArray[np.int64]:
    """Bytes of each string, for kinds of columns that store equal ones once and so may stand for terabytes; 0 for others."""
    if pa.types.is_dictionary(column.type):
        known = pa.array(_lengths(column.dictionary)).take(column.indices).fill_null(0)
        return np.asarray(known.to_numpy(zero_copy_only=False), np.int64)
    return _lengths(column) if pa.types.is_binary_view(column.type) else np.zeros(len(column), np.int64)


def _lengths(values: pa.Array) -> npt.NDArray[np.int64]:
    """Bytes of each value of an array of bytes; 0 for null, and throughout for other types."""
    if pa.types.is_binary_view(values.type):
        views = np.frombuffer(values.buffers()[1] or b"", np.int32)[4 * values.offset :: 4][: len(values)]
        return np.where(values.is_valid().to_numpy(zero_copy_only=False), views, 0).astype(np.int64)
    if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
        return np.asarray(pc.binary_length(values).fill_null(0).to_numpy(zero_copy_only=False), np.int64)
    return np.zeros(len(values), np.int64)


def _is_vector(kind: pa.DataType) -> bool:
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_kind(kind) for is_kind in lists) and pa.types.is_floating(kind.value_type)


def _finite(column: pa.Array) -> pa.LargeListArray:
    """Lists of float32; null in place of an empty one and of one that holds a null or what is not finite."""
    lists = column.cast(pa.large_list(pa.float32()))
    offsets = lists.offsets.to_numpy()
    values = lists.values.to_numpy(zero_copy_only=False)  # a null among them becomes NaN
    wrong = np.append(0, np.cumsum(~np.isfinite(values)))
    usable = (wrong[offsets[1:]] == wrong[offsets[:-1]]) & (offsets[1:] > offsets[:-1]) & lists.is_valid().to_numpy(False)
    return pc.if_else(pa.array(usable), lists, pa.scalar(None, lists.type))


def _leaf(batch: pa.RecordBatch, path: tuple[str, ...]) -> pa.Array:
    """One column, its offsets and indices checked (a hostile file's may point anywhere), strings as bytes not yet checked."""
    column = batch.column(path[0])
    column.validate()
    if len(path) > 1:
        column = pc.struct_field(column, list(path[1:]))
    if pa.types.is_dictionary(column.type):
        column = pa.DictionaryArray.from_arrays(column.indices, _unchecked(column.dictionary))
    column = _unchecked(column)
    column.validate(full=True)
    return column


def _unchecked(column: pa.Array) -> pa.Array:
    """Strings as bytes, without looking at them."""
    as_bytes = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(), pa.string_view(): pa.binary_view()}
    return column.view(as_bytes[column.type]) if column.type in as_bytes else column


def _bytes_of(column: pa.Array, integers: bool = False) -> pa.LargeBinaryArray:
    """Bytes of each value; null where it is not a string, nor, if asked for, an integer."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if any(is_kind(kind) for is_kind in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)):
        return column.cast(pa.large_binary())
    if pa.types.is_fixed_size_binary(kind):
        return column.cast(pa.binary()).cast(pa.large_binary())
    if integers and pa.types.is_integer(kind):
        return column.cast(pa.large_string()).cast(pa.large_binary())
    return pa.nulls(len(column), pa.large_binary())


# Blocks


def _gather(rows: Iterator[_Rows], block_bytes: int) -> Iterator[_Rows]:
    held: list[_Rows] = []
    size = count = 0
    for some in rows:
        held.append(some)
        offsets = string_offsets(some.text)
        size += int(offsets[-1] - offsets[0])
        count += len(some.rows)
        del some
        if size >= block_bytes or count >= BLOCK_ROWS:
            block = _joined(held)
            held, size, count = [], 0, 0
            yield block
            del block
    if held:
        yield _joined(held)


def _joined(parts: list[_Rows]) -> _Rows:
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    return _Rows(
        pa.concat_arrays([part.text for part in parts]),
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.fault for part in parts]),
        None if first.domain is None else pa.concat_arrays([part.domain for part in parts]),
        None if first.ids is None else pa.concat_arrays([part.ids for part in parts]),
        None if first.vectors is None else pa.concat_arrays([part.vectors for part in parts]),
        all(part.valid for part in parts),
    )


def _judged(some: _Rows, source: Source, name: str, max_document: int) -> Block:
    """Finds the faults that show in the values, and parts good rows from bad ones."""
    fault = some.fault.copy()
    lengths = np.diff(string_offsets(some.text))
    fault[(fault == 0) & (lengths > max_document)] = TOO_LONG
    if not some.valid:
        _mark_not_utf8(some.text, fault)
    _mark_blank(some.text, lengths, fault)

    names: tuple[str, ...] = (name,)
    domain = np.zeros(len(fault), np.int32)
    if some.domain is not None:
        names, domain = _domains(some.domain, source.rename, fault)
    ids = some.ids
    if ids is not None:
        missing = ids.is_null().to_numpy(zero_copy_only=False).astype(np.uint8)
        ids = ids.fill_null(b"")
        _mark_not_utf8(ids, missing)
        missing[np.diff(string_offsets(ids)) == 0] = 1
        fault[(fault == 0) & (missing != 0)] = NO_ID

    text, rows, good, vectors, wrong = some.text, some.rows, domain, some.vectors, np.flatnonzero(fault)
    if len(wrong):
        keep = np.flatnonzero(fault == 0)
        text, rows, good, ids = text.take(keep), rows[keep], domain[keep], None if ids is None else ids.take(keep)
        vectors = None if vectors is None else vectors.take(keep)
    bad = (BadRow(int(some.rows[i]), names[domain[i]] if domain[i] >= 0 else name, REASONS[fault[i]]) for i in wrong)
    return Block(
        text.view(pa.large_string()),
        rows,
        names,
        good,
        None if ids is None else ids.view(pa.large_string()),
        vectors,
        tuple(sorted(bad, key=lambda row: row.row)),
    )


def _mark_not_utf8(values: pa.LargeBinaryArray, fault: npt.NDArray[np.uint8]) -> None:
    try:
        values.view(pa.large_string()).validate(full=True)  # 8 GB/s and more
        return
    except pa.ArrowInvalid:
        pass
    for i in np.flatnonzero(fault == 0):
        try:
            values[i].as_py().decode()
        except UnicodeDecodeError:
            fault[i] = NOT_UTF8


def _mark_blank(values: pa.LargeBinaryArray, lengths: npt.NDArray[np.int64], fault: npt.NDArray[np.uint8]) -> None:
    """Blank is what `str.strip` leaves nothing of. Only values whose first and last byte can be a blank's are looked at."""
    offsets = string_offsets(values)
    data = np.frombuffer(values.buffers()[2] or b"\0", np.uint8)
    first, last = (data[np.clip(at, 0, len(data) - 1)] for at in (offsets[:-1], offsets[1:] - 1))
    for i in np.flatnonzero((fault == 0) & ((lengths == 0) | (_BLANK_START[first] & _BLANK_END[last]))):
        a, b = offsets[i], offsets[i + 1]
        if not bytes(data[a : min(a + 64, b)]).decode(errors="ignore").strip() and not bytes(data[a:b]).decode().strip():
            fault[i] = BLANK


_BLANKS = [chr(c).encode() for c in range(0x3001) if chr(c).isspace()]
_BLANK_START, _BLANK_END = np.zeros((2, 256), np.bool_)
_BLANK_START[[blank[0] for blank in _BLANKS]] = _BLANK_END[[blank[-1] for blank in _BLANKS]] = True


def _domains(
    values: pa.LargeBinaryArray, rename: dict[str, str], fault: npt.NDArray[np.uint8]
) -> tuple[tuple[str, ...], npt.NDArray[np.int32]]:
    """Names, and per row its index or -1; marks the rows that have none."""
    encoded = values.dictionary_encode()
    names: dict[str, int] = {}
    code = np.full(len(encoded.dictionary) + 1, -1, np.int32)  # the last one is for null
    reason = np.full(len(encoded.dictionary) + 1, NO_DOMAIN, np.uint8)
    for i, value in enumerate(encoded.dictionary.to_pylist()):
        try:
            found = value.decode()
            found = rename.get(found, found)
            check_domain_name(found)
        except UnicodeDecodeError:
            continue
        except ValueError:
            reason[i] = BAD_DOMAIN
            continue
        code[i], reason[i] = names.setdefault(found, len(names)), 0
    which = encoded.indices.fill_null(len(encoded.dictionary)).to_numpy()
    np.copyto(fault, reason[which], where=fault == 0)
    return tuple(names), code[which]
