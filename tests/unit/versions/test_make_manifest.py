"""The manifest of a build is made from receipts of which none is kept."""

from __future__ import annotations

import gc
import pickle
import random
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from chameleon_data.errors import InputError
from chameleon_data.recipe_file import load_recipe
from chameleon_data.shards.receipts import ReceiptRows, read_receipts
from chameleon_data.store.paths import BuildFolder
from chameleon_data.store.store import Store
from chameleon_data.versions import tables, written
from chameleon_data.versions.shard_table import read_domain_rows
from chameleon_data.versions.streaming import TableFunction
from chameleon_data.versions.verify import verify_version
from tests.support.corpus import documents, lay_out, write_recipe
from tests.support.in_process import Ready, ready
from tests.support.manifests import digest_contents, digest_files


def planned(folder: Path, stages: bool = False) -> Ready:
    shards = {"size": "20KB", "formats": ["parquet", "mds"]}
    sources = lay_out(folder / "corpus", documents(), ["jsonl"], 1)
    mix = {"stages": [{"share": 0.6}, {"share": 0.4}]} if stages else {}
    return ready(load_recipe(write_recipe(folder / "recipe.yaml", sources, shards=shards, mix={**mix, "validation": 0.1})))


def test_sums_are_those_of_the_receipts(tmp_path: Path) -> None:
    made = planned(tmp_path)
    receipts = made.write()
    manifest = made.manifest()
    assert len(receipts) > 15
    assert manifest.digest == digest_files({file.path: file.sha256 for receipt in receipts for file in receipt.files})
    assert manifest.content_digest == digest_contents([receipt.content for receipt in receipts])
    for format, sums in manifest.formats.items():
        sizes = [file.bytes for receipt in receipts for file in receipt.files if file.format == format]
        assert (sums.files, sums.bytes) == (len(sizes), sum(sizes))
    for name, domain in manifest.domains.items():
        train = [receipt for receipt in receipts if receipt.split == "train"]
        assert domain.rows == sum(receipt.domain_rows.get(name, 0) for receipt in train)
        copies = [receipt.copies[name] for receipt in train if name in receipt.copies]
        assert domain.copies_written == sum(count.rows for count in copies)
        assert domain.most_copies == max((count.most for count in copies), default=1)
    assert manifest.domains["legal"].copies_written > 0


def test_no_receipt_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = planned(tmp_path)
    made.write()
    monkeypatch.setattr(tables, "ROWS_IN_FILE", 1)
    alive, most, receipts = weakref.WeakSet[_Known](), 0, 0

    def watched(store: Store, build: BuildFolder) -> Iterator[_Known]:
        nonlocal most, receipts
        for some in read_receipts(store, build):
            alive.add(known := _Known(**vars(some)))
            receipts += 1
            yield known
            del known
            if len(alive) > 3:  # those of a cycle are still there, and count as kept by nobody
                gc.collect()
            most = max(most, len(alive))

    monkeypatch.setattr(written, "read_receipts", watched)
    made.manifest()
    assert receipts > 15
    assert most <= 3


class _Known(ReceiptRows):
    """It is itself and no other one, whatever it holds."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__


@pytest.mark.parametrize("stages", [False, True])
def test_groups_of_shards_and_their_order_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stages: bool) -> None:
    """Counts by domain are brought together by groups of shards, on any worker; only files of a table tell."""
    made = planned(tmp_path, stages)
    whole = made.manifest()
    domains = [table.to_pylist() for table in read_domain_rows(made.store, whole)]
    monkeypatch.setattr(written, "RECEIPTS_IN_GROUP", 3)
    asked: list[int] = []

    def stream(make: Callable[[], TableFunction], wanted: Sequence[pa.Table]) -> Iterator[pa.Table]:
        asked.append(len(wanted))
        assert len(pickle.dumps(make)) < 10_000, "what goes to a task does not grow with domains, shards or receipts"
        return (make()(table) for table in random.Random(0).sample(list(wanted), len(wanted)))

    grouped = made.manifest(stream)
    assert asked == [len(grouped.tables.shard_domains)] > [3]
    assert [row for rows in domains for row in rows] == [
        row for table in read_domain_rows(made.store, grouped) for row in table.to_pylist()
    ]
    assert replace(grouped, tables=replace(grouped.tables, shard_domains=())) == replace(
        whole, tables=replace(whole.tables, shard_domains=())
    )
    assert verify_version(made.store, grouped).ok


def test_tasks_refuse_other_numbers_of_domains_and_need_no_file_that_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another build of the same plan may end meanwhile and remove what tasks share."""
    made = planned(tmp_path)
    made.write()
    monkeypatch.setattr(written, "RECEIPTS_IN_GROUP", 3)

    def stream(make: Callable[[], TableFunction], wanted: Sequence[pa.Table]) -> Iterator[pa.Table]:
        made.store.remove(list(made.store.list(made.build.all_runs)))
        return map(make(), wanted)

    assert made.manifest(stream).domains.keys() == {"legal", "book", "code"}
    path = made.build.file("domain_ids.json")

    def damaged(make: Callable[[], TableFunction], wanted: Sequence[pa.Table]) -> Iterator[pa.Table]:
        made.store.write(path, made.store.read(path).replace(b"0", b"1"))
        return map(make(), wanted)

    with pytest.raises(InputError, match=r"domain_ids\.json: damaged since it was written; run the same command again"):
        made.manifest(damaged)
    assert made.manifest(stream).domains.keys() == {"legal", "book", "code"}, "it is made anew"


def test_one_group_of_each_stage_is_brought_together_here(tmp_path: Path) -> None:
    def stream(*_: object) -> Iterator[pa.Table]:
        raise AssertionError("a small build waits for no worker")

    made = planned(tmp_path, stages=True)
    assert len(made.manifest(stream).stages) > 1
