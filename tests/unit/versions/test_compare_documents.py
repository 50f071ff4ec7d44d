"""Documents of two versions against a Counter of all rows; shards that both share; damage."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chameleon_data.errors import InputError
from chameleon_data.store.store import Store
from chameleon_data.versions import compare_documents as documents
from chameleon_data.versions.compare_documents import DocumentChanges, SharedShards, compare_documents, count_shared_shards
from chameleon_data.versions.diff import diff_versions
from tests.support.manifests import list_files, with_files
from tests.support.published import BOTH, Rows, publish, table_of


def naive(a: Sequence[Rows], b: Sequence[Rows]) -> tuple[DocumentChanges, ...]:
    before, after = (Counter(row for rows in side for row in rows) for side in (a, b))
    found = []
    for split, domain in sorted({(s, d) for d, _, s in before | after}):
        mine = [row for row in before | after if (row[2], row[0]) == (split, domain)]
        pairs = [(before[row], after[row]) for row in mine]
        kept, added, removed = (sum(map(f, pairs)) for f in (min, lambda p: max(p[1] - p[0], 0), lambda p: max(p[0] - p[1], 0)))
        new, gone = (sum(pair[side] == 0 for pair in pairs) for side in (0, 1))
        found.append(DocumentChanges(domain, split, kept, added, removed, new, gone))
    return tuple(found)


ROW = st.tuples(st.sampled_from(["a", "b", "ä"]), st.sampled_from([f"text {i}" for i in range(9)]))
SHARD_ROWS = st.tuples(st.lists(ROW, min_size=1, max_size=12), st.sampled_from(["train", "validation"])).map(
    lambda shard: [(domain, text, shard[1]) for domain, text in shard[0]]
)
POOL = st.lists(SHARD_ROWS, min_size=1, max_size=4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(pool=POOL, data=st.data())
def test_documents_against_a_counter(memory_store: Store, pool: list[Rows], data: st.DataObject) -> None:
    """Shards from one pool, so that the versions share some, twice too; several partitions; any formats."""
    formats = [data.draw(st.sampled_from([("parquet",), ("mds",), ("parquet", "mds"), ("jsonl",), ("arrow",)])) for _ in "ab"]
    sides = [data.draw(st.lists(st.sampled_from(pool), min_size=1, max_size=5)) for _ in "ab"]
    published = [(memory_store, publish(memory_store, n, s, f)) for n, s, f in zip("ab", sides, formats, strict=True)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "ROWS_COMPARED_AT_ONCE", data.draw(st.sampled_from([1, 4, 1000])))
        assert compare_documents(*published) == naive(*sides)


def test_rows_are_one_document_if_both_halves_and_the_group_agree() -> None:
    rows = np.zeros(4, documents._ROW)
    rows["hi"], rows["lo"], rows["group"] = [1, 2, 2, 1], [5, 5, 6, 5], [1, 2, 2, 4 + 2]
    assert documents._count_changes(rows, 2).tolist() == [[0, 2, 1, 2, 1], [0, 1, 0, 1, 0]]


def test_versions_of_two_stores(local_store: Store, s3_store: Store) -> None:
    a, b = [[("x", "one", "train"), ("x", "two", "train")]], [[("x", "two", "train"), ("y", "three", "train")]]
    found = diff_versions((local_store, publish(local_store, "a", a)), (s3_store, publish(s3_store, "b", b)))
    assert found.documents == (DocumentChanges("x", "train", 1, 0, 1, 0, 1), DocumentChanges("y", "train", 0, 1, 0, 1, 0))
    assert found.domains["y"]["tokens"] == [None, 1]
    assert found.domains["x"]["weight"] == [0.5, 0.5]
    json.dumps(found.describe())


def test_shared_shards_are_counted_and_not_read_where_all_are(memory_store: Store) -> None:
    one, two = [("x", "one", "train")], [("x", "two", "train"), ("y", "two", "train")]
    a, b = publish(memory_store, "a", [one, two]), publish(memory_store, "b", [one, two])
    files = list_files(memory_store, b)
    size = sum(file["bytes"] for file in files)
    for file in list_files(memory_store, a) + files:
        memory_store.write(file["path"], b"whoever reads this fails")
    found = diff_versions((memory_store, a), (memory_store, b))
    assert found.documents == (DocumentChanges("x", "train", 2), DocumentChanges("y", "train", 1))
    assert found.shards == SharedShards(2, size, before=2, before_bytes=size, after=2, after_bytes=size)
    shards = count_shared_shards((memory_store, a), (memory_store, with_files(memory_store, b, files[:1])))
    one = files[0]["bytes"]
    assert shards == SharedShards(1, one, before=2, before_bytes=size, after=1, after_bytes=one)


def test_a_shard_counts_once_whatever_its_formats(memory_store: Store) -> None:
    shards = [[("x", "one", "train")], [("x", "two", "train")], [("x", "three", "validation")]]
    formats = {"a": ["parquet", "mds"], "b": ["jsonl", "mds"], "c": ["parquet"]}
    a, b, c = (publish(memory_store, name, shards, some) for name, some in formats.items())
    for one, other, same in ((a, b, 3), (a, c, 3), (b, c, 0)):
        found = count_shared_shards((memory_store, one), (memory_store, other))
        assert (found.before, found.after, found.shared) == (3, 3, same)
        assert bool(found.shared_bytes) == bool(same)


def test_a_document_that_a_shared_shard_holds_is_not_new(memory_store: Store) -> None:
    one = [("x", "one", "train")]
    a = publish(memory_store, "a", [one])
    b = publish(memory_store, "b", [one, [("x", "one", "train"), ("x", "two", "train")]])
    (found,) = compare_documents((memory_store, a), (memory_store, b))
    assert found == DocumentChanges("x", "train", kept=1, added=2, new=1)


def test_a_shard_that_changed_its_split_is_not_the_same(memory_store: Store) -> None:
    splits = {"a": "train", "b": "validation"}
    sides = [(memory_store, publish(memory_store, name, [[("x", "one", split)]])) for name, split in splits.items()]
    assert compare_documents(*sides) == (
        DocumentChanges("x", "train", removed=1, gone=1), DocumentChanges("x", "validation", added=1, new=1)
    )  # fmt: skip


def test_only_two_columns_of_parquet_are_read(memory_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = [("x", "word " * 200_000 + str(np.random.default_rng(i).bytes(40_000)), "train") for i in range(4)]
    sides = [(memory_store, publish(memory_store, n, [rows], ["parquet"])) for n, rows in (("a", wide), ("b", wide[1:]))]
    asked: list[Any] = []
    real = pq.ParquetFile.read
    monkeypatch.setattr(pq.ParquetFile, "read", lambda self, columns=None, **o: asked.append(columns) or real(self, columns, **o))
    assert compare_documents(*sides) == (DocumentChanges("x", "train", 3, 0, 1, 0, 1),)
    assert [columns for columns in asked if columns] == [["domain", "doc_id"]] * 2, "beside the tables of shards"


def test_progress_counts_shards(memory_store: Store) -> None:
    sides = [(memory_store, publish(memory_store, n, [[("x", n + str(i), "train")] for i in range(6)])) for n in "ab"]
    said: list[tuple[int, int]] = []
    diff_versions(*sides, progress=lambda *done: said.append(done))
    assert said == [(n, 12) for n in range(1, 13)]


DAMAGE = [(format, damage) for format in BOTH for damage in ("cut", "flipped", "other rows", "other domain")]


@pytest.mark.parametrize(("format", "damage"), [*DAMAGE, ("parquet", "other columns"), ("parquet", "no hash")])
def test_damage_is_one_clear_error(memory_store: Store, format: str, damage: str) -> None:
    sides = [(memory_store, publish(memory_store, n, [[("x", n, "train"), ("x", "c", "train")]], [format])) for n in "ab"]
    (_, before), (_, after) = sides
    files = list_files(memory_store, after)
    path = files[0]["path"]
    data = memory_store.read(path)
    if damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "flipped":
        at = 0
        if format == "parquet":
            group = pq.ParquetFile(pa.BufferReader(data)).metadata.row_group(0)
            column = next(group.column(i) for i in range(6) if group.column(i).path_in_schema == "doc_id")
            at = column.data_page_offset + column.total_compressed_size - 40
        data = data[:at] + bytes(byte ^ 255 for byte in data[at : at + 20]) + data[at + 20 :]
    elif damage == "other rows":
        after = with_files(memory_store, after, [{**files[0], "rows": 3}, *files[1:]])
    elif damage == "other domain":
        before, after = (replace(side, domains={"z": side.domains["x"]}) for side in (before, after))
    else:
        table = table_of([("x", "b", "train"), ("x", "c", "train")])
        sink = pa.BufferOutputStream()
        wrong = pa.array(["z" * 32, "b" * 32])
        other = table.drop_columns(["doc_id"]) if damage == "other columns" else table.set_column(3, "doc_id", wrong)
        pq.write_table(other.cast(pa.schema([(f.name, pa.string() if f.name == "text" else f.type) for f in other.schema])), sink)
        data = sink.getvalue()
    memory_store.write(path, data)
    with pytest.raises(InputError, match=r"restore it from a copy|verify` says more|build it again"):
        diff_versions((memory_store, before), (memory_store, after))
