"""What changed between two versions, against a Counter of all rows, and what is said of recipes, shards and lineage."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chameleon_data.errors import InputError
from chameleon_data.store.store import Store
from chameleon_data.versions import diff as difference
from chameleon_data.versions import provenance as lineage
from chameleon_data.versions.diff import Documents, compare_documents, diff_values, diff_versions
from chameleon_data.versions.manifest import describe_manifest
from tests.support.manifests import EMBEDDER, example_manifest
from tests.support.published import BOTH, Rows, publish, table_of


def naive(a: Sequence[Rows], b: Sequence[Rows]) -> tuple[Documents, ...]:
    before, after = (Counter(row for rows in side for row in rows) for side in (a, b))
    found = []
    for split, domain in sorted({(s, d) for d, _, s in before | after}):
        mine = [row for row in before | after if (row[2], row[0]) == (split, domain)]
        pairs = [(before[row], after[row]) for row in mine]
        kept, added, removed = (sum(map(f, pairs)) for f in (min, lambda p: max(p[1] - p[0], 0), lambda p: max(p[0] - p[1], 0)))
        new, gone = (sum(pair[side] == 0 for pair in pairs) for side in (0, 1))
        found.append(Documents(domain, split, kept, added, removed, new, gone))
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
        patch.setattr(difference, "ROWS_COMPARED_AT_ONCE", data.draw(st.sampled_from([1, 4, 1000])))
        assert compare_documents(*published) == naive(*sides)


def test_rows_are_one_document_if_both_halves_and_the_group_agree() -> None:
    rows = np.zeros(4, difference._ROW)
    rows["hi"], rows["lo"], rows["group"] = [1, 2, 2, 1], [5, 5, 6, 5], [1, 2, 2, 4 + 2]
    assert difference._counted(rows, 2).tolist() == [[0, 2, 1, 2, 1], [0, 1, 0, 1, 0]]


def test_versions_of_two_stores(local_store: Store, s3_store: Store) -> None:
    a, b = [[("x", "one", "train"), ("x", "two", "train")]], [[("x", "two", "train"), ("y", "three", "train")]]
    found = diff_versions((local_store, publish(local_store, "a", a)), (s3_store, publish(s3_store, "b", b)))
    assert found.documents == (Documents("x", "train", 1, 0, 1, 0, 1), Documents("y", "train", 0, 1, 0, 1, 0))
    assert found.domains["y"]["tokens"] == [None, 1]
    assert found.domains["x"]["weight"] == [0.5, 0.5]
    json.dumps(found.describe())


def test_shared_shards_are_counted_and_not_read_where_all_are(memory_store: Store) -> None:
    one, two = [("x", "one", "train")], [("x", "two", "train"), ("y", "two", "train")]
    a, b = publish(memory_store, "a", [one, two]), publish(memory_store, "b", [one, two])
    size = sum(f["bytes"] for f in a["shards"])
    for file in a["shards"] + b["shards"]:
        memory_store.write(file["path"], b"whoever reads this fails")
    found = diff_versions((memory_store, a), (memory_store, b))
    assert found.documents == (Documents("x", "train", 2), Documents("y", "train", 1))
    assert found.shards == {"shared": 2, "shared_bytes": size, "before": 2, "before_bytes": size, "after": 2, "after_bytes": size}
    fewer = {**b, "shards": b["shards"][:1]}
    shards = difference._shared((memory_store, a), (memory_store, fewer))
    assert (shards["before"], shards["shared"], shards["after"], shards["after_bytes"]) == (2, 1, 1, b["shards"][0]["bytes"])


def test_a_shard_counts_once_whatever_its_formats(memory_store: Store) -> None:
    shards = [[("x", "one", "train")], [("x", "two", "train")], [("x", "three", "validation")]]
    formats = {"a": ["parquet", "mds"], "b": ["jsonl", "mds"], "c": ["parquet"]}
    a, b, c = (publish(memory_store, name, shards, some) for name, some in formats.items())
    for one, other, same in ((a, b, 3), (a, c, 3), (b, c, 0)):
        found = difference._shared((memory_store, one), (memory_store, other))
        assert (found["before"], found["after"], found["shared"]) == (3, 3, same)
        assert bool(found["shared_bytes"]) == bool(same)


def test_a_document_that_a_shared_shard_holds_is_not_new(memory_store: Store) -> None:
    one = [("x", "one", "train")]
    a = publish(memory_store, "a", [one])
    b = publish(memory_store, "b", [one, [("x", "one", "train"), ("x", "two", "train")]])
    (found,) = compare_documents((memory_store, a), (memory_store, b))
    assert found == Documents("x", "train", kept=1, added=2, new=1)


def test_a_shard_that_changed_its_split_is_not_the_same(memory_store: Store) -> None:
    splits = {"a": "train", "b": "validation"}
    sides = [(memory_store, publish(memory_store, name, [[("x", "one", split)]])) for name, split in splits.items()]
    assert compare_documents(*sides) == (
        Documents("x", "train", removed=1, gone=1), Documents("x", "validation", added=1, new=1)
    )  # fmt: skip


def test_only_two_columns_of_parquet_are_read(memory_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = [("x", "word " * 200_000 + str(np.random.default_rng(i).bytes(40_000)), "train") for i in range(4)]
    sides = [(memory_store, publish(memory_store, n, [rows], ["parquet"])) for n, rows in (("a", wide), ("b", wide[1:]))]
    asked: list[Any] = []
    real = pq.ParquetFile.read
    monkeypatch.setattr(pq.ParquetFile, "read", lambda self, columns, **o: asked.append(columns) or real(self, columns, **o))
    assert compare_documents(*sides) == (Documents("x", "train", 3, 0, 1, 0, 1),)
    assert asked == [["domain", "doc_id"]] * 2


def test_progress_counts_shards(memory_store: Store) -> None:
    sides = [(memory_store, publish(memory_store, n, [[("x", n + str(i), "train")] for i in range(6)])) for n in "ab"]
    said: list[tuple[int, int]] = []
    diff_versions(*sides, progress=lambda *done: said.append(done))
    assert said == [(n, 12) for n in range(1, 13)]


DAMAGE = [(format, damage) for format in BOTH for damage in ("cut", "flipped", "other rows", "other domain")]


@pytest.mark.parametrize(("format", "damage"), [*DAMAGE, ("parquet", "other columns"), ("parquet", "no hash")])
def test_damage_is_one_clear_error(memory_store: Store, format: str, damage: str) -> None:
    sides = [(memory_store, publish(memory_store, n, [[("x", n, "train"), ("x", "c", "train")]], [format])) for n in "ab"]
    file = sides[1][1]["shards"][0]
    data = memory_store.read(file["path"])
    if damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "flipped":
        at = 0
        if format == "parquet":
            group = pq.ParquetFile(pa.BufferReader(data)).metadata.row_group(0)
            column = next(group.column(i) for i in range(5) if group.column(i).path_in_schema == "doc_id")
            at = column.data_page_offset + column.total_compressed_size - 40
        data = data[:at] + bytes(byte ^ 255 for byte in data[at : at + 20]) + data[at + 20 :]
    elif damage == "other rows":
        file["rows"] = 3
    elif damage == "other domain":
        sides[1][1]["domains"] = sides[0][1]["domains"] = {"z": sides[0][1]["domains"]["x"]}
    else:
        table = table_of([("x", "b", "train"), ("x", "c", "train")])
        sink = pa.BufferOutputStream()
        wrong = pa.array(["z" * 32, "b" * 32])
        other = table.drop_columns(["doc_id"]) if damage == "other columns" else table.set_column(2, "doc_id", wrong)
        pq.write_table(other.cast(pa.schema([(f.name, pa.string() if f.name == "text" else f.type) for f in other.schema])), sink)
        data = sink.getvalue()
    memory_store.write(file["path"], data)
    with pytest.raises(InputError, match=r"restore it from a copy|'verify' says more|build it again"):
        diff_versions(*sides)


# -- recipes and lineage --


def test_changes_of_nested_mappings() -> None:
    a: Mapping[str, Any] = {"mix": {"budget": 1, "max": 4}, "sources": {"x": {"path": ["a"]}, "a.b": 1}, "same": [1], "gone": {}}
    b: Mapping[str, Any] = {"mix": {"budget": 2, "max": 4}, "sources": {"x": {"path": ["a", "b"]}, "a": {"b": 1}}, "same": [1]}
    assert diff_values(a, b) == {
        "mix.budget": [1, 2], "sources.x.path": [["a"], ["a", "b"]], 'sources."a.b"': [1, None], "sources.a.b": [None, 1],
    }  # fmt: skip
    assert diff_values(a, a) == {}


def test_the_same_sources_in_another_order(memory_store: Store) -> None:
    rows = [[("x", "one", "train")]]
    ordered = [(memory_store, publish(memory_store, "a", rows, recipe={"sources": dict.fromkeys(names, "/x")}))
               for names in ("ab", "ba", "bc")]  # fmt: skip
    assert diff_versions(ordered[0], ordered[1]).recipe == {"sources": [["a", "b"], ["b", "a"]]}
    assert diff_versions(ordered[0], ordered[0]).recipe == {}
    assert "sources" not in diff_versions(ordered[0], ordered[2]).recipe, "those are other sources, not another order"


def test_inputs_and_packages_that_changed(memory_store: Store) -> None:
    def inputs(*parts: tuple[str, int | None, str]) -> list[dict[str, Any]]:
        return [{"source": "s", "url": u, "row_group": g, "bytes": 1, "identity": i} for u, g, i in parts]

    rows = [[("x", "one", "train")]]
    before = {"packages": {"numpy": "1", "ray": "2"}, "inputs": inputs(("a", None, "1"), ("b", 0, "1"), ("b", 1, "1"))}
    after = {"packages": {"numpy": "2", "torch": "3"}, "inputs": inputs(("b", 0, "1"), ("b", 1, "2"), ("c", None, "1"))}
    weights = [{"embedder": {**EMBEDDER, "revision": revision}} for revision in "12"]
    found = diff_versions(*[(memory_store, publish(memory_store, "a", rows, provenance=p, weights=w, seed=0))
                      for p, w in zip((before, after), weights, strict=True)])  # fmt: skip
    assert found.inputs == {"s": {"added": 1, "removed": 1, "changed": 1, "same": 1}}
    assert found.lineage == {"packages.numpy": ["1", "2"], "packages.ray": ["2", None], "packages.torch": [None, "3"],
                             "embedder.revision": ["1", "2"]}  # fmt: skip


def test_the_lineage_of_a_manifest() -> None:
    fragments = (("a", 0), ("a", 1), ("b", None))
    inputs = [{"source": "s", "url": url, "row_group": group, "bytes": 5, "identity": "i"} for url, group in fragments]
    provenance = {"inputs": inputs, "tokenizer": "f", "packages": {"numpy": "2"}}
    weights = {"ridge": 0.1}
    manifest = describe_manifest(example_manifest(seed=3, unit="t", weights=weights, provenance=provenance))
    provenance, inputs = manifest["provenance"], manifest["provenance"]["inputs"]
    found = lineage.describe_provenance(manifest)
    assert found["inputs"]["s"] | {"fingerprint": ""} == {"files": 2, "fragments": 3, "bytes": 15, "fingerprint": ""}
    assert found["tokenizer"] == {"name": "t", "fingerprint": "f"}
    assert (found["seed"], found["weights"]["ridge"], found["packages"]) == (3, 0.1, {"numpy": "2"})
    swapped = {**manifest, "provenance": {**provenance, "inputs": inputs[::-1]}}
    assert lineage.describe_provenance(swapped) == found
    inputs[0]["identity"] = "j"
    assert lineage.describe_provenance(manifest)["inputs"]["s"]["fingerprint"] != found["inputs"]["s"]["fingerprint"]


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    return subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_of_a_checkout_and_of_a_worktree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout, worktree = tmp_path / "main", tmp_path / "worktree"
    checkout.mkdir()
    assert lineage.commit_of(checkout) is None, "no checkout"
    git(checkout, "init", "-q")
    assert lineage.commit_of(checkout) is None, "no commit yet"
    git(checkout, "commit", "-q", "--allow-empty", "-m", "one")
    git(checkout, "worktree", "add", "-q", str(worktree))
    git(worktree, "commit", "-q", "--allow-empty", "-m", "two")
    (checkout / "inside").mkdir()
    found = [lineage.commit_of(folder) for folder in (checkout, worktree, checkout / "inside")]
    assert found == [git(checkout, "rev-parse", "HEAD"), git(worktree, "rev-parse", "HEAD"), None]
    assert found[0] != found[1]
    monkeypatch.setenv("PATH", "")
    assert lineage.commit_of(checkout) is None, "git is not installed"


def test_the_code_that_runs_is_named() -> None:
    import chameleon_data

    found = lineage.code_version()
    assert found.version == chameleon_data.__version__
    assert len(found.sources) == 64
