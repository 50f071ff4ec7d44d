"""Receipts: what is written comes back, and only of shards whose files are there."""

from __future__ import annotations

import dataclasses
import uuid

import pytest

from chameleon_data.errors import InputError
from chameleon_data.shards.receipts import CopyCount, Receipt, ReceiptFile, read_receipts, write_receipts
from chameleon_data.store.checksummed import read_table, write_table
from chameleon_data.store.paths import BuildFolder
from chameleon_data.store.store import NameTakenError, Store

BUILD = BuildFolder("0" * 64, 100_002, "corpus")


def receipt_of(shard: int) -> Receipt:
    return Receipt(
        shard=shard,
        split="train",
        number=shard,
        rows=3,
        tokens=40,
        domain_rows={"a": 2, "ç": 1},
        domain_tokens={"a": 30, "ç": 10},
        copies={"a": CopyCount(1, 2)},
        content="c" * 64,
        files=(ReceiptFile("mds/shard.mds", "mds", 5, "d" * 64),),
        entries={"mds": {"zip_data": None}},
    )


@pytest.fixture
def store() -> Store:
    store = Store(f"memory://{uuid.uuid4().hex}")
    store.write(BUILD.file("mds/shard.mds"), b"12345")
    return store


def test_receipts_come_back_in_the_order_of_their_shards(store):
    for shard in (100_000, 99_998, 7):
        write_receipts(store, BUILD, [receipt_of(shard), receipt_of(shard + 1)])
    found = read_receipts(store, BUILD)
    assert list(found) == [7, 8, 99_998, 99_999, 100_000, 100_001]
    assert all(found[shard] == receipt_of(shard) for shard in found)


def test_a_shard_whose_file_has_another_size_is_not_finished(store):
    write_receipts(store, BUILD, [receipt_of(0)])
    store.write(BUILD.file("mds/shard.mds"), b"1234")
    assert read_receipts(store, BUILD) == {}


def test_a_receipt_is_never_replaced(store):
    write_receipts(store, BUILD, [receipt_of(0)])
    write_receipts(store, BUILD, [receipt_of(0)])
    with pytest.raises(NameTakenError):
        write_receipts(store, BUILD, [dataclasses.replace(receipt_of(0), rows=4)])


def test_a_receipt_of_another_release_is_refused(store):
    write_receipts(store, BUILD, [receipt_of(0)])
    path = BUILD.receipt(range(1))
    table = read_table(store, path)
    write_table(store, path, table.replace_schema_metadata({**table.schema.metadata, b"format": b"1"}))
    with pytest.raises(InputError, match="not a receipt of this chameleon-data; finish the build with the release that began it"):
        read_receipts(store, BUILD)
