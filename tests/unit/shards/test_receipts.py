"""Receipts: what is written comes back, and only of shards whose files are there."""

from __future__ import annotations

import dataclasses
import uuid

import numpy as np
import pytest

from chameleon_data.errors import InputError
from chameleon_data.shards import receipts
from chameleon_data.shards.receipts import CopyCount, Receipt, ReceiptFile, find_finished, read_receipts, write_receipts
from chameleon_data.store.checksummed import read_table, write_table
from chameleon_data.store.paths import BuildFolder
from chameleon_data.store.store import NameTakenError, Store
from tests.support.receipts import list_receipts

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
    assert list_receipts(store, BUILD) == [receipt_of(shard) for shard in (7, 8, 99_998, 99_999, 100_000, 100_001)]
    assert np.flatnonzero(find_finished(store, BUILD)).tolist() == [7, 8, 99_998, 99_999, 100_000, 100_001]


def test_receipts_of_ranges_that_overlap_come_once_each(store):
    """A build that went on with more processors has other ranges."""
    for shards in ((0, 1, 2, 3), (1, 2), (3, 4, 5), (5,)):
        write_receipts(store, BUILD, [receipt_of(shard) for shard in shards])
    assert list_receipts(store, BUILD) == [receipt_of(shard) for shard in range(6)]


def test_receipts_are_read_a_few_at_a_time(store, monkeypatch):
    for shard in range(100):
        write_receipts(store, BUILD, [receipt_of(shard)])
    read, real = list[str](), receipts.read_table
    monkeypatch.setattr(receipts, "read_table", lambda store, path: read.append(path) or real(store, path))
    found = read_receipts(store, BUILD)
    assert next(found).shards["shard"].to_pylist() == [0]
    assert len(read) <= receipts.READERS
    assert len(list(found)) == 99
    assert not [path for path in read if path.startswith(BUILD.domain_counts)], "they are as many as shards times domains"


def test_a_shard_whose_file_has_another_size_is_not_finished(store):
    write_receipts(store, BUILD, [receipt_of(0)])
    store.write(BUILD.file("mds/shard.mds"), b"1234")
    assert list_receipts(store, BUILD) == []


def test_of_a_receipt_only_shards_whose_files_are_there_are_finished(store):
    others = [dataclasses.replace(receipt_of(n), files=(ReceiptFile(f"mds/{n}", "mds", 5, "d" * 64),)) for n in range(6)]
    write_receipts(store, BUILD, others)
    for number in (0, 1, 3, 5):
        store.write(BUILD.file(f"mds/{number}"), b"12345")
    found = [some.shards["shard"].to_pylist() for some in read_receipts(store, BUILD)]
    assert found == [[0, 1], [3], [5]]
    assert list_receipts(store, BUILD) == [others[number] for number in (0, 1, 3, 5)]


def test_a_receipt_without_its_counts_promises_nothing(store):
    """Damaged counts are removed where they are read; then the range is written anew, and its counts with it."""
    write_receipts(store, BUILD, [receipt_of(0)])
    store.remove([BUILD.domain_counts_of(range(1))])
    assert not find_finished(store, BUILD).any()
    write_receipts(store, BUILD, [receipt_of(0)])
    assert list_receipts(store, BUILD) == [receipt_of(0)]


def test_a_receipt_is_never_replaced(store):
    write_receipts(store, BUILD, [receipt_of(0)])
    write_receipts(store, BUILD, [receipt_of(0)])
    with pytest.raises(NameTakenError):
        write_receipts(store, BUILD, [dataclasses.replace(receipt_of(0), rows=4)])


def test_a_receipt_of_another_release_is_refused(store):
    write_receipts(store, BUILD, [receipt_of(0)])
    path = BUILD.receipt(range(1))
    table = read_table(store, path)
    write_table(store, path, table.replace_schema_metadata({**table.schema.metadata, b"format": b"2"}))
    with pytest.raises(InputError, match="not a receipt of this chameleon-data; finish the build with the release that began it"):
        list_receipts(store, BUILD)
