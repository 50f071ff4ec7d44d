"""Tables beside a manifest: what is written reads back, damage is told, and no table's own bytes decide what a version is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chameleon_data.errors import InputError
from chameleon_data.hashing import fingerprint
from chameleon_data.plan.plan import TRAIN
from chameleon_data.recipe_file import load_recipe
from chameleon_data.shards.formats.registry import FORMATS
from chameleon_data.store.paths import table_path
from chameleon_data.store.store import Store
from chameleon_data.versions import shard_table, tables
from chameleon_data.versions.corpus_tables import (
    InputFile,
    read_inputs,
    read_map,
    write_input_table,
    write_map_table,
)
from chameleon_data.versions.loaded import load_version
from chameleon_data.versions.manifest import Manifest
from chameleon_data.versions.shard_table import (
    SHARD_SCHEMA,
    ShardFile,
    ShardRecord,
    describe_shards,
    read_shards,
    sample_shards,
    sum_shards,
)
from chameleon_data.versions.tables import TableFile, read_rows, take_rows, write_rows
from chameleon_data.versions.verify import verify_version
from chameleon_data.versions.versions import commit_version
from tests.support.corpus import documents, lay_out, write_recipe
from tests.support.in_process import ready
from tests.support.manifests import digest_contents, digest_files, example_manifest, list_files, write_shards

NUMBERS = pa.schema([pa.field("n", pa.int64(), nullable=False)])


def numbers(rows: range) -> pa.Table:
    return pa.table({"n": list(rows)}, schema=NUMBERS)


def read(store: Store, files: tuple[TableFile, ...], start: int = 0, stop: int | None = None) -> list[int]:
    return [n for table in read_rows(store, files, NUMBERS, start, stop) for n in table["n"].to_pylist()]


# -- any table --


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=5), st.integers(1, 7), st.integers(0, 40), st.integers(0, 40))
def test_any_stretch_of_a_table_reads_back(memory_store: Store, batches: list[int], most: int, start: int, stop: int) -> None:
    """However its rows come, and however many a file holds."""
    total = sum(batches)
    ends = [sum(batches[: n + 1]) for n in range(len(batches))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "ROWS_IN_FILE", most)
        files = write_rows(memory_store, (numbers(range(end - size, end)) for size, end in zip(batches, ends, strict=True)))
    assert [file.rows for file in files] == [most] * (total // most) + [total % most] * (total % most > 0)
    assert read(memory_store, files) == list(range(total))
    assert read(memory_store, files, start, stop) == list(range(total))[start:stop]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(st.integers(1, 7), st.lists(st.integers(0, 19), unique=True).map(sorted))
def test_any_rows_of_a_table_are_taken(memory_store: Store, most: int, wanted: list[int]) -> None:
    """Files that hold none of them are not read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "ROWS_IN_FILE", most)
        files = write_rows(memory_store, [numbers(range(20))])
    used = {number // most for number in wanted}
    memory_store.remove({file.path for n, file in enumerate(files) if n not in used})
    assert take_rows(memory_store, files, NUMBERS, wanted)["n"].to_pylist() == wanted


def test_a_file_ends_at_so_many_bytes(memory_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "BYTES_IN_FILE", 800)
    files = write_rows(memory_store, (numbers(range(n, n + 60)) for n in (0, 60, 120)))
    assert [file.rows for file in files] == [120, 60]


def test_the_files_beside_the_wanted_rows_are_not_read(memory_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "ROWS_IN_FILE", 10)
    files = write_rows(memory_store, [numbers(range(35))])
    memory_store.remove([files[n].path for n in (0, 3)])
    assert read(memory_store, files, 12, 30) == list(range(12, 30))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(data=st.data())
def test_a_table_with_any_byte_changed_is_refused(memory_store: Store, data: st.DataObject) -> None:
    (file,) = write_rows(memory_store, [numbers(range(9))])
    body = bytearray(memory_store.read(file.path))
    body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    memory_store.write(file.path, bytes(body))
    with pytest.raises(
        InputError, match=f"{file.path}: damaged or edited, as its sha256 is not its name; restore it from a copy"
    ):
        read(memory_store, (file,))
    assert write_rows(memory_store, [numbers(range(9))]) == (file,)
    assert read(memory_store, (file,)) == list(range(9)), "the same build puts it there anew"
    memory_store.remove([file.path])
    with pytest.raises(InputError, match=f"{file.path}: no such file; was the folder copied whole"):
        read(memory_store, (file,))


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (None, r"\(.*\); restore"),
        (pa.table({"n": [1, 2]}), r"its columns are \['n'\] of other types"),  # they may hold nulls
        (pa.table({"m": [1, 2]}), r"its columns are \['m'\] of other types, not \['n'\]"),
        (numbers(range(3)), "3 rows, the manifest says 2"),
    ],
)
def test_what_a_forger_named_by_its_hash_is_no_table_either(memory_store: Store, table: pa.Table | None, says: str) -> None:
    import hashlib

    sink = pa.BufferOutputStream()
    if table is None:
        sink.write(b"no Parquet")
    else:
        pq.write_table(table, sink)
    body = sink.getvalue().to_pybytes()
    path = table_path(hashlib.sha256(body).hexdigest())
    memory_store.write(path, body)
    with pytest.raises(InputError, match=f"{path}: damaged, or not written by chameleon-data .*{says}"):
        read(memory_store, (TableFile(path, 2, len(body)),))


# -- shards, inputs, map --


def record(split: str, shard: int, **domains: tuple[int, int]) -> ShardRecord:
    rows, tokens = ({name: pair[n] for name, pair in domains.items()} for n in (0, 1))
    files = tuple(ShardFile(f"builds/x/{f}/{split}-{shard}", f, 7, fingerprint([f, shard])) for f in ("parquet", "mds"))
    return ShardRecord(split, shard, sum(rows.values()), sum(tokens.values()), fingerprint(shard), files, rows, tokens)


SHARDS = [record("train", n, ä=(1, n + 1), b=(2, 5)) for n in range(7)] + [record("validation", 0, b=(1, 1))]


@pytest.fixture
def manifest(memory_store: Store, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(tables, "ROWS_IN_FILE", 3)
    monkeypatch.setattr(shard_table, "SHARDS_AT_ONCE", 2)
    made = example_manifest(domains={"ä": {}, "b": {}}, validation={"b": {}}, shard_counts={"train": 7, "validation": 1},
                            formats={"parquet": {"files": 8, "bytes": 56}, "mds": {"files": 8, "bytes": 56}})  # fmt: skip
    shards, domains = write_shards(memory_store, SHARDS, made.domain_ids, 2)
    return replace(made, tables=replace(made.tables, shards=shards, shard_domains=domains))


def test_shards_read_back(memory_store: Store, manifest: Any) -> None:
    assert list(read_shards(memory_store, manifest)) == SHARDS
    assert list(read_shards(memory_store, manifest, 2, 5)) == SHARDS[2:5]
    assert [len(table) for table in read_rows(memory_store, manifest.tables.shards, SHARD_SCHEMA)] == [3, 3, 2]


def test_tables_of_shards_that_do_not_belong_together_are_refused(memory_store: Store, manifest: Any) -> None:
    shorter = replace(manifest, tables=replace(manifest.tables, shard_domains=manifest.tables.shard_domains[:-1]))
    assert list(read_shards(memory_store, shorter, 0, 6)) == SHARDS[:6]
    with pytest.raises(InputError, match="the tables of shards and of their domains do not have as many rows; restore"):
        list(read_shards(memory_store, shorter))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    formats=st.lists(st.sampled_from(sorted(FORMATS)), min_size=1, max_size=3, unique=True),
    counts=st.lists(st.sampled_from([1, 3, 12, 99_999, 100_003]), min_size=1, max_size=3, unique=True).map(sorted),
    held_out=st.integers(0, 3),
    each=st.integers(1, 7),
)
def test_the_digest_is_over_sorted_lines_however_many_shards_there_are(
    formats: list[str], counts: list[int], held_out: int, each: int
) -> None:
    """Folders of stages go on with the numbers of those before, in names of more digits; a table comes in any pieces."""
    rows, first, named = list[dict[str, Any]](), 0, dict[str, str]()
    folders = [(count, number, TRAIN) for number, count in enumerate(counts)] + [(held_out, 0, "validation")] * (held_out > 0)
    for count, folder, split in folders:
        shards = range(count) if split != TRAIN else range(max(first, count - 4), count)
        for shard in shards:
            files = []
            for format in formats:
                for name in FORMATS[format].names(shard, count, split, 3):
                    path, sha256 = f"builds/{folder}/{format}/{name}", f"{len(named)}"
                    files.append({"path": path, "format": format, "bytes": 7, "sha256": sha256})
                    named[f"{format}/{name}"] = sha256
            rows.append({"split": split, "shard": shard, "rows": 1, "tokens": 1, "content": f"{shard}", "files": files})
        first = count if split == TRAIN else first
    pieces = [pa.Table.from_pylist(rows[at : at + each], SHARD_SCHEMA) for at in range(0, len(rows), each)]
    sums = sum_shards(lambda: pieces, "builds/0")
    assert sums.digest == digest_files(named)
    assert sums.content == digest_contents([row["content"] for row in rows])
    assert sum(one.files for one in sums.formats.values()) == len(named)


@pytest.mark.parametrize(("split", "most", "picked"), [("train", 100, range(7)), ("train", 3, (0, 2, 4)), ("validation", 3, [7])])
def test_a_sample_of_shards_lies_at_equal_distances(
    memory_store: Store, manifest: Any, split: str, most: int, picked: Any
) -> None:
    assert list(sample_shards(memory_store, manifest, split, most)) == [SHARDS[n] for n in picked]


def test_above_so_many_shards_their_tables_are_named(memory_store: Store, manifest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = describe_shards(memory_store, manifest)
    assert [(f["format"], f["split"], f["shard"]) for f in listed] == [
        (f, s, n) for f in ("parquet", "mds") for s, count in (("train", 7), ("validation", 1)) for n in range(count)
    ]
    assert listed[1]["domain_tokens"] == {"ä": 2, "b": 5}
    monkeypatch.setattr(shard_table, "SHARDS_LISTED", 7)
    assert describe_shards(memory_store, manifest) == [file.path for file in manifest.tables.shards]


def test_a_domain_that_the_manifest_does_not_number_is_refused(memory_store: Store, manifest: Any) -> None:
    with pytest.raises(InputError, match="names a domain that the manifest does not number, or its counts lack some; restore"):
        list(read_shards(memory_store, replace(manifest, domain_ids={"ä": 7, "b": 0})))


def test_inputs_and_the_map_read_back(memory_store: Store, manifest: Any) -> None:
    inputs = [InputFile("s", f"/{n}", "parquet", "none", n, "i") for n in range(8)]
    points = {"ä": [(0.25, -1.0), (1e-300, 2.0)], "b": [(3.0, 4.0)]}
    files = replace(manifest.tables, inputs=write_input_table(memory_store, inputs), map=write_map_table(memory_store, points))
    made = replace(manifest, tables=files)
    assert list(read_inputs(memory_store, made)) == inputs
    assert list(read_inputs(memory_store, made, 4)) == inputs[:4]
    assert read_map(memory_store, made) == points


# -- of a build --


def build_in_process(folder: Path, out: str) -> Manifest:
    """A small build, and its commit."""
    sources = lay_out(folder / "corpus", documents(), ["jsonl"], 1)
    recipe = load_recipe(write_recipe(folder / "recipe.yaml", sources, out=str(folder / out), mix={"budget": 30_000}))
    manifest = ready(recipe).manifest()
    commit_version(Store(recipe.out), manifest, "now")
    return manifest


def test_a_version_is_the_same_however_its_tables_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`digest` is over the rows of the table, not over its bytes; and tables are there before the commit."""
    made, written = [], list[str]()
    real = Store.write_new
    monkeypatch.setattr(Store, "write_new", lambda self, path, data: written.append(path) or real(self, path, data))
    for rows in (1 << 16, 1):
        monkeypatch.setattr(tables, "ROWS_IN_FILE", rows)
        made.append(build_in_process(tmp_path, f"out-{rows}"))
    whole, cut = made
    assert (whole.digest, whole.content_digest, whole.plan_digest) == (cut.digest, cut.content_digest, cut.plan_digest)
    assert (len(whole.tables.shards), len(cut.tables.shards)) == (1, whole.shard_count)
    stores = [Store(manifest.recipe.out) for manifest in made]
    assert list_files(stores[0], whole) == list_files(stores[1], cut)
    assert all(verify_version(store, manifest).ok for store, manifest in zip(stores, made, strict=True))
    commits = [number for number, path in enumerate(written) if path.startswith("_chameleon/versions/")]
    for commit, manifest in zip(commits, made, strict=True):
        for table in vars(manifest.tables).values():
            assert all(file.path in written[:commit] for file in table)


def test_python_reads_the_tables(tmp_path: Path) -> None:
    manifest = build_in_process(tmp_path, "out")
    loaded = load_version(manifest.recipe.out)
    shards, inputs = list(loaded.shards()), list(loaded.inputs())
    assert [shard.shard for shard in shards] == list(range(manifest.shard_count))
    assert sum(shard.rows for shard in shards) == sum(d.rows for d in manifest.domains.values())
    assert {i.source for i in inputs} == set(manifest.recipe.sources)
    (tmp_path / "out" / manifest.tables.shards[0].path).unlink()
    with pytest.raises(InputError, match="no such file; was the folder copied whole"):
        load_version(manifest.recipe.out).verify()
