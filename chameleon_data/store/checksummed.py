"""Records that passes leave for each other, each with a checksum over its bytes, so that a flipped bit is noticed.

    record    JSON, {"sum": checksum of the canonical JSON of the other keys, ...}
    table     a Parquet file that is read whole. The 16 bytes between its last page and its footer are the checksum of all other
              bytes. No Parquet reader looks there, so every one can read the file.
    groups    a Parquet file that is read one row group after the other. Its footer's metadata holds the checksums of each row
              group's columns.

A file with a wrong checksum is read again, twice. Then it is removed, so that the same command makes it anew. Checksums are
xxh3-128, against accidents; what a version refers to has a sha256. Cost: 10 GB/s.
Why: docs/decisions/012-checksums-of-records.md; 192-arrow-reads-in-one-thread.md.
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

from chameleon_data.arrays import byte_lengths, string_offsets
from chameleon_data.errors import InputError, explaining
from chameleon_data.hashing import canonical_json
from chameleon_data.store.store import Store

CHECKSUM_BYTES = 16
FOOTER_TAIL_BYTES = 8
"""Bytes at the end of a Parquet file: the length of the footer, then PAR1."""
READ_ATTEMPTS = 3
T = TypeVar("T")


class ChecksumError(Exception):
    """The bytes have another checksum than the one written with them."""


UNREADABLE = (ChecksumError, pa.ArrowException, OSError, EOFError, ValueError, KeyError, IndexError, TypeError, RecursionError)
"""What decoders raise for bytes that are not the ones that were written."""


def write_record(store: Store, path: str, value: Mapping[str, Any], new: bool = False) -> None:
    """Put a JSON object there; `new`: create-only, as `Store.write_new`."""
    plain = json.loads(canonical_json(value))  # makes texts of keys, as they are when the record is read
    body = canonical_json({"sum": _checksum(canonical_json(plain)), **plain})
    if new:
        store.write_new(path, body)
    else:
        store.write(path, body)


def read_record(store: Store, path: str) -> dict[str, Any]:
    """The object that `write_record` put there."""

    def read() -> dict[str, Any]:
        record = json.loads(store.read(path))
        if not isinstance(record, dict) or record.pop("sum", None) != _checksum(canonical_json(record)):
            raise ChecksumError
        return record

    return read_checked(store, read, path)


def write_table(store: Store, path: str, table: pa.Table, new: bool = False) -> None:
    """Put a table there, whatever was there before; `new`: create-only, as `Store.write_new`."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    write_sealed(store, path, sink.getvalue(), new)


def write_sealed(store: Store, path: str, parquet: pa.Buffer, new: bool = False) -> None:
    """Put a finished Parquet file there, with its checksum."""
    body = memoryview(parquet)
    footer = _footer_start(body)
    sealed = b"".join([body[:footer], bytes.fromhex(_checksum(body)), body[footer:]])
    if new:
        store.write_new(path, sealed)
    else:
        store.write(path, sealed)


def read_table(store: Store, path: str) -> pa.Table:
    """All rows of what `write_table` or `write_sealed` put there."""

    def read() -> pa.Table:
        body = memoryview(store.read(path))
        footer = _footer_start(body)
        end = footer - CHECKSUM_BYTES
        if end < 0 or _checksum(body[:end], body[footer:]) != bytes(body[end:footer]).hex():
            raise ChecksumError
        # pq.read_table would import pandas, for .2 s
        stored = pq.ParquetFile(pa.BufferReader(pa.py_buffer(body)), pre_buffer=False)
        return stored.read(use_threads=False)

    return read_checked(store, read, path)


def _footer_start(parquet: memoryview) -> int:
    return len(parquet) - FOOTER_TAIL_BYTES - int.from_bytes(parquet[-FOOTER_TAIL_BYTES:-4], "little")


def column_sums(rows: pa.Table) -> dict[str, str]:
    """Column -> checksum of its type and values, however it is chunked. Columns of numbers or texts, without nulls."""
    sums = {}
    for name in rows.schema.names:
        kind = f"{rows.schema.field(name).type}, {rows[name].null_count} nulls"  # a flipped bit can change the type alone
        lengths, values = xxhash.xxh3_128(kind.encode()), xxhash.xxh3_128()
        for chunk in rows[name].chunks:
            for digest, part in zip((lengths, values), _parts(chunk), strict=True):
                digest.update(part)
        sums[name] = lengths.hexdigest() + values.hexdigest()
    return sums


def _parts(array: pa.Array) -> tuple[Any, Any]:
    """The bytes of an array: the lengths of its texts (nothing for numbers), and its values."""
    if isinstance(array, pa.DictionaryArray):
        array = array.cast(pa.large_string())
    if not (pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)):
        return b"", np.ascontiguousarray(array.to_numpy()).view(np.uint8)
    offsets = string_offsets(array)
    return byte_lengths(array).view(np.uint8), memoryview(array.buffers()[2] or b"")[int(offsets[0]) : int(offsets[-1])]


class GroupWriter:
    """Writes tables as the row groups of a Parquet file that `read_groups` reads; their checksums go into its footer."""

    def __init__(self, writer: pq.ParquetWriter) -> None:
        self._writer, self._sums = writer, list[dict[str, str]]()

    def write(self, rows: pa.Table) -> None:
        self._writer.write_table(rows, row_group_size=len(rows))
        self._sums.append(column_sums(rows))

    def end(self) -> None:
        """Call it before the writer is closed."""
        self._writer.add_key_value_metadata({"sums": json.dumps(self._sums)})


def read_groups(store: Store, path: str, columns: Sequence[str], rows: int = 2**16) -> Iterator[pa.Table]:
    """Some columns of what a `GroupWriter` wrote, in tables of `rows` rows or more. Each is checked before it is returned."""
    with store.open(path) as file:
        groups, held = _checked_groups(file, columns), list[pa.Table]()
        while True:
            with remove_if_damaged(store, path):  # not around the yield: an error of the caller's does not mean damage
                group = next(groups, None)
            if group is not None:
                held.append(group)
            if held and (group is None or sum(map(len, held)) >= rows):
                yield pa.concat_tables(held).unify_dictionaries()
                held = []
            if group is None:
                return


def _checked_groups(file: BinaryIO, columns: Sequence[str]) -> Iterator[pa.Table]:
    parquet = pq.ParquetFile(file, pre_buffer=False)
    sums_of_groups = json.loads(parquet.metadata.metadata[b"sums"])
    if len(sums_of_groups) != parquet.num_row_groups:
        raise ChecksumError
    for number, sums in enumerate(sums_of_groups):
        rows = parquet.read_row_group(number, list(columns), use_threads=False)
        if column_sums(rows) != {name: sums[name] for name in columns}:
            raise ChecksumError
        yield rows


def remove_if_damaged(store: Store, path: str, *more: str) -> AbstractContextManager[None]:
    """Remove the file, and the files `more` that go with it, if its bytes cannot be decoded or have another checksum.

    Raises InputError then.
    """

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


def _checksum(*parts: bytes | memoryview) -> str:
    digest = xxhash.xxh3_128()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
