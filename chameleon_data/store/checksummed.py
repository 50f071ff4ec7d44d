"""Records that passes leave for each other, each with a sum over its bytes: what a disk or a network flips is never believed.

    record    JSON, {"sum": of the canonical JSON of the other keys, ...}
    table     a Parquet file, whole, with 16 bytes between its last page and its footer: the sum of all other bytes. No reader of
              Parquet looks there, and every one reads the file.
    groups    a Parquet file that is read piece by piece: the sums of each row group's columns in the footer's metadata

A sum that is wrong is read again, twice; then the record is removed, so that the same command makes it anew. Sums are xxh3-128 as
they are meant against accidents: what a version refers to has a sha256. Cost: 10 GB/s.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, BinaryIO, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from chameleon_data.errors import InputError, explaining
from chameleon_data.hashing import canonical_json
from chameleon_data.store.store import Store

CHECKSUM_BYTES = 16
FOOTER_TAIL_BYTES = 8
"""Bytes at the end of a Parquet file: the length of the footer, PAR1."""
READ_ATTEMPTS = 3
T = TypeVar("T")


class ChecksumError(Exception):
    """The sum is not that of the bytes."""


UNREADABLE = (ChecksumError, pa.ArrowException, OSError, EOFError, ValueError, KeyError, IndexError, TypeError, RecursionError)
"""What readers of bytes say that are not what was written."""


def write_record(store: Store, path: str, value: Mapping[str, Any], new: bool = False) -> None:
    """Put a JSON object there; `new`: create-only, as `Store.write_new`."""
    plain = json.loads(canonical_json(value))  # keys as text, so that what is read sums up to what was written
    body = canonical_json({"sum": _sum(canonical_json(plain)), **plain})
    if new:
        store.write_new(path, body)
    else:
        store.write(path, body)


def read_record(store: Store, path: str) -> dict[str, Any]:
    """The object that `write_record` put there."""

    def read() -> dict[str, Any]:
        found = json.loads(store.read(path))
        if not isinstance(found, dict) or found.pop("sum", None) != _sum(canonical_json(found)):
            raise ChecksumError
        return found

    return read_checked(store, read, path)


def write_table(store: Store, path: str, table: pa.Table) -> None:
    """Put a table in the place of what was there."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    write_sealed(store, path, sink.getvalue())


def write_sealed(store: Store, path: str, parquet: pa.Buffer) -> None:
    """The same for a finished Parquet file."""
    body = memoryview(parquet)
    footer = len(body) - FOOTER_TAIL_BYTES - int.from_bytes(body[-FOOTER_TAIL_BYTES:-4], "little")
    store.write(path, b"".join([body[:footer], bytes.fromhex(_sum(body)), body[footer:]]))


def read_table(store: Store, path: str) -> pa.Table:
    """All rows of what `write_table` or `write_sealed` put there."""

    def read() -> pa.Table:
        body = memoryview(store.read(path))
        footer = len(body) - FOOTER_TAIL_BYTES - int.from_bytes(body[-FOOTER_TAIL_BYTES:-4], "little")
        if (
            footer < CHECKSUM_BYTES
            or _sum(body[: footer - CHECKSUM_BYTES], body[footer:]) != bytes(body[footer - CHECKSUM_BYTES : footer]).hex()
        ):
            raise ChecksumError
        return pq.read_table(pa.BufferReader(pa.py_buffer(body)))

    return read_checked(store, read, path)


def column_sums(rows: pa.Table) -> dict[str, str]:
    """Column -> sum of what it holds and as what, however it is chunked. Columns of numbers or texts, without nulls."""
    sums = {}
    for name in rows.schema.names:
        seen_as = f"{rows.schema.field(name).type}, {rows[name].null_count} nulls"  # a flipped bit can make other things of these
        lengths, values = xxhash.xxh3_128(seen_as.encode()), xxhash.xxh3_128()
        for chunk in rows[name].chunks:
            for digest, part in zip((lengths, values), _parts(chunk), strict=True):
                digest.update(part)
        sums[name] = lengths.hexdigest() + values.hexdigest()
    return sums


def _parts(array: pa.Array) -> tuple[Any, Any]:
    """Lengths of the texts of an array, none for numbers, and its values, as bytes."""
    if isinstance(array, pa.DictionaryArray):
        array = array.cast(pa.large_string())
    if not (pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)):
        return b"", np.ascontiguousarray(array.to_numpy()).view(np.uint8)
    if not len(array):
        return b"", b""
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    return np.diff(ends).view(np.uint8), memoryview(data or b"")[int(ends[0]) : int(ends[-1])]


class GroupWriter:
    """Writes tables to a Parquet file that `read_groups` reads: a row group each, with the sums of its columns in the footer."""

    def __init__(self, writer: pq.ParquetWriter) -> None:
        self._writer, self._sums = writer, list[dict[str, str]]()

    def write(self, rows: pa.Table) -> None:
        self._writer.write_table(rows, row_group_size=len(rows))
        self._sums.append(column_sums(rows))

    def end(self) -> None:
        """Before the writer is closed."""
        self._writer.add_key_value_metadata({"sums": json.dumps(self._sums)})


def read_groups(store: Store, path: str, columns: Sequence[str], rows: int = 2**16) -> Iterator[pa.Table]:
    """Some columns of what a `GroupWriter` wrote, in tables of some `rows` or more; each is proved before it is seen."""
    with store.open(path) as file:
        groups, held = _proved_groups(file, columns), list[pa.Table]()
        while True:
            with remove_if_damaged(store, path):  # not around the yield: what the user of a table raises is no damage
                group = next(groups, None)
            if group is not None:
                held.append(group)
            if held and (group is None or sum(map(len, held)) >= rows):
                yield pa.concat_tables(held).unify_dictionaries()
                held = []
            if group is None:
                return


def _proved_groups(file: BinaryIO, columns: Sequence[str]) -> Iterator[pa.Table]:
    parquet = pq.ParquetFile(file)
    wanted = json.loads(parquet.metadata.metadata[b"sums"])
    if len(wanted) != parquet.num_row_groups:
        raise ChecksumError
    for number, sums in enumerate(wanted):
        rows = parquet.read_row_group(number, list(columns))
        if column_sums(rows) != {name: sums[name] for name in columns}:
            raise ChecksumError
        yield rows


def remove_if_damaged(store: Store, path: str, *more: str) -> AbstractContextManager[None]:
    """Remove the file, and the files `more` that go with it, where its bytes cannot be decoded or have another sum."""

    def remove(_: BaseException) -> str:
        store.remove([path, *more])
        return "was damaged, by the disk or on the network, and has been removed; run the same command again, which makes it anew"

    return explaining(f"{store.url}/{path}", {UNREADABLE: remove})


def read_checked(store: Store, read: Callable[[], T], path: str, *more: str) -> T:
    """What `read` makes of the bytes at `path`. If it fails three times, the file is removed, and the files `more` with it."""
    with remove_if_damaged(store, path, *more):
        for _ in range(READ_ATTEMPTS - 1):
            try:
                return read()
            except InputError:
                raise
            except UNREADABLE:
                continue
        return read()


def _sum(*parts: bytes | memoryview) -> str:
    digest = xxhash.xxh3_128()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
