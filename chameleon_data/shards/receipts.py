"""Receipts: the record of finished shards, one file a range. It is written after the shards' files and create-only.

    rows        a row for each shard and domain: rows, tokens, and copies
    metadata    JSON: what else is said of each shard, and its files

A receipt promises that the files of its shards are whole. A build that was interrupted goes on with the shards that have none,
and the manifest of a version is made from all receipts of its build.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import xxhash

from chameleon_data.arrays import Mask
from chameleon_data.errors import InputError
from chameleon_data.hashing import canonical_json
from chameleon_data.shards.formats.files import IndexEntry
from chameleon_data.store.adapters import type_adapter
from chameleon_data.store.checksummed import read_table, write_table
from chameleon_data.store.paths import BuildFolder
from chameleon_data.store.store import Store

RECEIPT_FORMAT = 2
READERS = 16
"""Receipts that are read at once."""
_TABLE_SCHEMA = pa.schema(
    [
        ("shard", pa.int32()),  # among those of the file
        ("domain", pa.string()),
        ("rows", pa.int64()),
        ("tokens", pa.int64()),
        ("copies", pa.int64()),  # as in CopyCount
        ("most_copies", pa.int64()),
    ]
)
_IN_TABLE = ("domain_rows", "domain_tokens", "copies")


@dataclass(frozen=True)
class ReceiptFile:
    """One file of a shard."""

    path: str
    """In the build's folder."""
    format: str
    """Name of the file's format, as in the recipe."""
    bytes: int
    sha256: str


@dataclass(frozen=True)
class CopyCount:
    """Rows of one domain's first epoch that repeat an earlier row of the domain."""

    rows: int
    most: int
    """The most copies of one document, the first one counted."""


@dataclass(frozen=True)
class Receipt:
    """What one shard holds, and its files in every format."""

    shard: int
    """Number among the shards of all splits in its folder."""
    split: str
    number: int
    """Number among the shards of the split, those of earlier folders included."""
    rows: int
    tokens: int
    domain_rows: Mapping[str, int]
    """Domain -> rows; a domain without rows has no key. Likewise below."""
    domain_tokens: Mapping[str, int]
    copies: Mapping[str, CopyCount]
    content: str
    """`rows.content_hash` of the rows."""
    files: tuple[ReceiptFile, ...]
    """In the order of the recipe's formats."""
    entries: Mapping[str, IndexEntry]
    """Format -> what its index says of this shard; empty for a format without an index."""


def write_receipts(store: Store, build: BuildFolder, receipts: Sequence[Receipt]) -> None:
    """Write the record of shards that follow each other. Create-only: NameTakenError where another one is there."""
    rows = [
        (place, name, count, receipt.domain_tokens[name], *_copies_of(receipt, name))
        for place, receipt in enumerate(receipts)
        for name, count in receipt.domain_rows.items()
    ]
    columns = list(zip(*rows, strict=True)) or [()] * len(_TABLE_SCHEMA)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _TABLE_SCHEMA, strict=True)]
    about = [{name: value for name, value in asdict(receipt).items() if name not in _IN_TABLE} for receipt in receipts]
    metadata = {"format": str(RECEIPT_FORMAT), "shards": canonical_json(about)}
    table = pa.table(arrays, schema=_TABLE_SCHEMA).replace_schema_metadata(metadata)
    write_table(store, build.receipt(range(receipts[0].shard, receipts[-1].shard + 1)), table, new=True)


def _copies_of(receipt: Receipt, name: str) -> tuple[int, int]:
    copies = receipt.copies.get(name)
    return (copies.rows, copies.most) if copies else (0, 0)


def read_receipts(store: Store, build: BuildFolder) -> Iterator[Receipt]:
    """The receipt of every shard whose files are there with the sizes that it says, in ascending order.

    Memory: a number for each file of the build, and `READERS` files of receipts.
    """
    here = np.sort(np.fromiter((_hash_file(path, size) for path, size in store.walk(build.folder)), np.uint64))
    paths, behind = sorted(store.list(build.receipts)), 0
    with ThreadPoolExecutor(READERS) as pool:
        for at in range(0, len(paths), READERS):
            for receipts in pool.map(lambda path: _read_receipts(store, path), paths[at : at + READERS]):
                for receipt in receipts:
                    wanted = np.array([_hash_file(build.file(file.path), file.bytes) for file in receipt.files], np.uint64)
                    found = np.searchsorted(here, wanted, "right") > np.searchsorted(here, wanted)
                    if receipt.shard >= behind and found.all():
                        behind = receipt.shard + 1  # ranges of an earlier run may have been others, and begin before
                        yield receipt


def find_finished(store: Store, build: BuildFolder) -> Mask:
    """(shards,) whether the shard, of those of all splits, has a receipt, and its files are there."""
    finished = np.zeros(build.shards, bool)
    for receipt in read_receipts(store, build):
        finished[receipt.shard] = True
    return finished


def _hash_file(path: str, size: int) -> int:
    return xxhash.xxh3_64_intdigest(f"{size} {path}".encode())


def _read_receipts(store: Store, path: str) -> list[Receipt]:
    table = read_table(store, path)
    metadata = table.schema.metadata or {}
    if metadata.get(b"format") != str(RECEIPT_FORMAT).encode():
        raise InputError(
            f"{store.url}/{path}: not a receipt of this chameleon-data; finish the build with the release that began it, or "
            "remove the build's folder"
        )
    records = json.loads(metadata[b"shards"])
    for record in records:
        record |= {name: {} for name in _IN_TABLE}
    for place, name, rows, tokens, copies, most in zip(*table.to_pydict().values(), strict=True):
        record = records[place]
        record["domain_rows"][name], record["domain_tokens"][name] = rows, tokens
        if copies:
            record["copies"][name] = {"rows": copies, "most": most}
    receipts: list[Receipt] = type_adapter(list[Receipt]).validate_python(records)
    return receipts
