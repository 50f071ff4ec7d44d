"""The manifest of a build is made from receipts of which none is kept."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from chameleon_data.recipe_file import load_recipe
from chameleon_data.shards.receipts import Receipt, read_receipts
from chameleon_data.versions import shard_table
from tests.support.corpus import documents, lay_out, write_recipe
from tests.support.in_process import Ready, ready
from tests.support.manifests import digest_contents, digest_files


def planned(folder: Path) -> Ready:
    shards = {"size": "20KB", "formats": ["parquet", "mds"]}
    sources = lay_out(folder / "corpus", documents(), ["jsonl"], 1)
    return ready(load_recipe(write_recipe(folder / "recipe.yaml", sources, shards=shards)))


def test_sums_are_those_of_the_receipts(tmp_path: Path) -> None:
    made = planned(tmp_path)
    receipts = made.write()
    manifest = made.manifest_of(receipts)
    assert len(receipts) > 15
    assert manifest.digest == digest_files({file.path: file.sha256 for receipt in receipts for file in receipt.files})
    assert manifest.content_digest == digest_contents([receipt.content for receipt in receipts])
    for format, sums in manifest.formats.items():
        sizes = [file.bytes for receipt in receipts for file in receipt.files if file.format == format]
        assert (sums.files, sums.bytes) == (len(sizes), sum(sizes))
    for name, domain in manifest.domains.items():
        assert domain.rows == sum(receipt.domain_rows.get(name, 0) for receipt in receipts)
        copies = [receipt.copies[name] for receipt in receipts if name in receipt.copies]
        assert domain.copies_written == sum(count.rows for count in copies)
        assert domain.most_copies == max((count.most for count in copies), default=1)
    assert manifest.domains["legal"].copies_written > 0


def test_no_receipt_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = planned(tmp_path)
    made.write()
    monkeypatch.setattr(shard_table, "SHARDS_AT_ONCE", 2)
    alive, most, shards = weakref.WeakSet[_Known](), 0, 0

    def watched() -> Iterator[Receipt]:
        nonlocal most, shards
        for receipt in read_receipts(made.store, made.build):
            known = _Known(**vars(receipt))
            alive.add(known)
            shards += 1
            yield known
            del known
            if len(alive) > 3:  # those of a cycle are still there, and count as kept by nobody
                gc.collect()
            most = max(most, len(alive))

    made.manifest_of(watched())
    assert shards > 15
    assert most <= 3


class _Known(Receipt):
    """A receipt that is itself and no other one, whatever it holds."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__
