"""Receipts: the record of one finished shard. It is written after the shard's files and create-only.

A receipt promises that the files of its shard are whole. A build that was interrupted goes on with the shards that have none,
and the manifest of a version is made from all receipts of its build.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

from chameleon_data.errors import InputError
from chameleon_data.shards.formats.files import IndexEntry
from chameleon_data.store.adapters import type_adapter
from chameleon_data.store.checksummed import read_record, write_record
from chameleon_data.store.paths import BuildFolder
from chameleon_data.store.store import Store

RECEIPT_FORMAT = 1
READERS = 16
"""Receipts that are read at once."""


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
    """Number among the shards of all splits."""
    split: str
    number: int
    """Number among the shards of the split."""
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
    format: int = RECEIPT_FORMAT


def write_receipt(store: Store, build: BuildFolder, receipt: Receipt) -> None:
    """Create-only: NameTakenError where another receipt is there."""
    write_record(store, build.receipt(receipt.shard), asdict(receipt), new=True)


def read_receipts(store: Store, build: BuildFolder) -> dict[int, Receipt]:
    """Shard -> receipt of every shard whose files are there with the sizes that the receipt gives, in ascending order."""
    here = store.list(build.folder)
    paths = sorted(path for path in here if path.startswith(f"{build.receipts}/"))
    with ThreadPoolExecutor(READERS) as pool:
        receipts = list(pool.map(lambda path: _read_receipt(store, path), paths))
    receipts.sort(key=lambda receipt: receipt.shard)
    return {r.shard: r for r in receipts if all(here.get(build.file(file.path)) == file.bytes for file in r.files)}


def _read_receipt(store: Store, path: str) -> Receipt:
    record = read_record(store, path)
    if record.get("format") != RECEIPT_FORMAT:
        raise InputError(
            f"{store.url}/{path}: not a receipt of this chameleon-data; finish the build with the release that began it, or "
            "remove the build's folder"
        )
    receipt: Receipt = type_adapter(Receipt).validate_python(record)
    return receipt
