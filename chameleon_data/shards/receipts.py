"""Receipts: the record of finished shards, one file a range, with another one beside it that counts by domain.

    receipt          a row for each shard: its sums, its files, and what indexes say of it
    domain counts    a row for each shard and domain: rows, tokens, and copies; written before the receipt

A receipt promises that the files of its shards are whole. A build that was interrupted goes on with the shards that have none,
and the manifest of a version is made from all receipts of its build. They are read on the driver, and the counts by tasks, as
these are as many as shards times domains.
Why: docs/decisions/162-counts-by-domain.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from chameleon_data.arrays import U64, Mask
from chameleon_data.errors import InputError
from chameleon_data.hashing import canonical_json
from chameleon_data.shards.formats.files import IndexEntry
from chameleon_data.store.checksummed import read_table, write_table
from chameleon_data.store.paths import BuildFolder
from chameleon_data.store.store import Store

RECEIPT_FORMAT = 3
READERS = 16
"""Receipts that are read at once."""
_FILE_TYPE = pa.struct([(name, pa.int64() if name == "bytes" else pa.string()) for name in ("path", "format", "bytes", "sha256")])
RECEIPT_SCHEMA = pa.schema(
    [
        ("shard", pa.int32()),
        ("split", pa.string()),
        ("number", pa.int64()),
        ("rows", pa.int64()),
        ("tokens", pa.int64()),
        ("content", pa.string()),
        ("files", pa.list_(pa.field("element", _FILE_TYPE))),
        ("entries", pa.string()),  # JSON
    ],
    {"format": str(RECEIPT_FORMAT)},
)
"""Fields of a `Receipt`."""
COUNTS_SCHEMA = pa.schema(
    [
        ("shard", pa.int32()),
        ("domain", pa.dictionary(pa.int32(), pa.string())),
        ("rows", pa.int64()),
        ("tokens", pa.int64()),
        ("copies", pa.int64()),  # as in CopyCount
        ("most_copies", pa.int64()),
    ]
)
"""Shards ascend, and domains stand in the order in which a receipt has them."""


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


@dataclass(frozen=True)
class ReceiptRows:
    """Shards of one receipt, which follow each other."""

    shards: pa.Table
    """A row each, of RECEIPT_SCHEMA."""
    span: range
    """All shards of the receipt; its counts by domain are of the same ones."""


def write_receipts(store: Store, build: BuildFolder, receipts: Sequence[Receipt]) -> None:
    """Write the record of shards that follow each other. Create-only: NameTakenError where another one is there."""
    span = range(receipts[0].shard, receipts[-1].shard + 1)
    counts = [
        (receipt.shard, name, count, receipt.domain_tokens[name], *_copies_of(receipt, name))
        for receipt in receipts
        for name, count in receipt.domain_rows.items()
    ]
    write_table(store, build.domain_counts_of(span), _to_table(counts, COUNTS_SCHEMA))
    about = [
        (r.shard, r.split, r.number, r.rows, r.tokens, r.content, list(map(vars, r.files)), canonical_json(r.entries).decode())
        for r in receipts
    ]
    write_table(store, build.receipt(span), _to_table(about, RECEIPT_SCHEMA), new=True)


def _copies_of(receipt: Receipt, name: str) -> tuple[int, int]:
    copies = receipt.copies.get(name)
    return (copies.rows, copies.most) if copies else (0, 0)


def _to_table(rows: Sequence[Sequence[object]], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema)


def read_receipts(store: Store, build: BuildFolder) -> Iterator[ReceiptRows]:
    """The record of every shard whose files are there with the sizes that it says, in ascending order, and each once.

    Memory: a number for each file of the build, and `READERS` files of receipts.
    """
    here = np.sort(np.fromiter((_hash_here(build, path, size) for path, size in store.walk(build.folder)), np.uint64))
    paths, behind = sorted(store.list(build.receipts)), 0
    with ThreadPoolExecutor(READERS) as pool:
        for at in range(0, len(paths), READERS):
            for receipts in pool.map(lambda path: _read_receipts(store, path), paths[at : at + READERS]):
                shard = receipts["shard"].to_numpy()
                span = range(int(shard[0]), int(shard[-1]) + 1)
                if not _are_here(here, [_hash_file(build.domain_counts_of(span), 0)])[0]:
                    continue
                finished = _are_finished(here, build, receipts) & (shard >= behind)  # ranges of an earlier run may have been
                for begin, end in _stretches(finished):  # others, and begin before
                    behind = int(shard[end - 1]) + 1
                    yield ReceiptRows(receipts.slice(begin, end - begin), span)


def find_finished(store: Store, build: BuildFolder) -> Mask:
    """(shards,) whether the shard, of those of all splits, has a receipt, and its files are there."""
    finished = np.zeros(build.shards, bool)
    for receipts in read_receipts(store, build):
        finished[receipts.shards["shard"].to_numpy()] = True
    return finished


def _hash_here(build: BuildFolder, path: str, size: int) -> int:
    return _hash_file(path, 0 if path.startswith(f"{build.domain_counts}/") else size)  # no receipt says how large counts are


def _hash_file(path: str, size: int) -> int:
    return xxhash.xxh3_64_intdigest(f"{size} {path}".encode())


def _are_here(here: U64, wanted: Sequence[int]) -> Mask:
    hashes = np.array(wanted, np.uint64)
    found: Mask = np.searchsorted(here, hashes, "right") > np.searchsorted(here, hashes)
    return found


def _are_finished(here: U64, build: BuildFolder, receipts: pa.Table) -> Mask:
    """(shards,) whether all files of a shard are there."""
    files = pc.list_flatten(receipts["files"]).combine_chunks()
    paths, sizes = (pc.struct_field(files, name).to_pylist() for name in ("path", "bytes"))
    found = _are_here(here, [_hash_file(build.file(path), size) for path, size in zip(paths, sizes, strict=True)])
    missing = np.append(0, np.cumsum(~found))
    ends = np.cumsum(pc.list_value_length(receipts["files"]).to_numpy())
    finished: Mask = np.diff(np.append(0, missing[ends])) == 0
    return finished


def _stretches(mask: Mask) -> Iterator[tuple[int, int]]:
    """Where each run of true values begins, and behind which place it ends."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def _read_receipts(store: Store, path: str) -> pa.Table:
    table = read_table(store, path)
    if not table.schema.equals(RECEIPT_SCHEMA, check_metadata=True):
        raise InputError(
            f"{store.url}/{path}: not a receipt of this chameleon-data; finish the build with the release that began it, or "
            "remove the build's folder"
        )
    return table
