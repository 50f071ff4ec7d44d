"""Other ways out: tables as their own packages read them, and the weights as the trainers' own packages take them.

Two versions of one small corpus are built in this process, without Ray; everything after that reads them.
"""

from __future__ import annotations

import ast
import gc
import gzip
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from chameleon_data.errors import InputError
from chameleon_data.jobs import cli
from chameleon_data.recipe import Source
from chameleon_data.recipe_file import load_recipe, parse_recipe
from chameleon_data.shards.formats import parquet
from chameleon_data.store.store import Store
from chameleon_data.versions.manifest import describe_manifest
from chameleon_data.versions.verify import verify_version
from chameleon_data.versions.versions import Version, commit_version, list_versions, load_manifest
from chameleon_data.views import trainer_files as pointers
from chameleon_data.views.lake_tables import RegisteredTable, register_delta, register_iceberg
from chameleon_data.views.trainer_files import Blend, blend_of_version, make_blend
from tests.soak.alone import alone
from tests.support import official_readers, streaming_reader
from tests.support.corpus import documents, lay_out
from tests.support.manifests import example_manifest
from tests.support.paths import ROOT
from tests.support.schedules import at_once

WEIGHTS = {"legal": 0.4, "book": 0.3, "code": 0.2, "a/b: c": 0.1}
ODD = "a/b: c"
REGISTER = {"delta": register_delta, "iceberg": register_iceberg}
TABLES = pytest.mark.parametrize("form", REGISTER)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, Blend]:
    """A folder with corpus and `out`, and the mixture of a recipe that was not built. Names are awkward on purpose."""
    from chameleon_data.pipelines.build import build_recipe

    folder = tmp_path_factory.mktemp("export #1")
    corpus = documents()
    sources: dict[str, Any] = lay_out(folder / "corpus", {"legal": corpus["legal"]}, ["jsonl.zst", "csv"], 4)
    sources["book"] = f"{lay_out(folder / 'corpus', {'book': corpus['book']}, ['parquet'], 2)['book']}/*.parquet"
    web = [{"body": t, "meta": {"set": "Code"}} for t in corpus["code"]]
    web += [{"body": t, "meta": {"set": ODD}} for t in corpus["legal"][:20]]
    mixed = folder / "corpus/mixed.jsonl.gz"
    mixed.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in web).encode()))
    sources["web"] = {"path": str(mixed), "text": "body", "domain": "meta.set", "rename": {"Code": "code"}}
    (folder / "weights.json").write_text(json.dumps(WEIGHTS))
    recipe = {"name": "ways: out", "seed": 3, "sources": sources, "weights": {"from": str(folder / "weights.json")}}

    def write_recipe(out: str, budget: int, formats: list[str]) -> Path:
        shards = {"size": "100KB", "formats": formats}
        mix = {"budget": budget, "max_epochs": 8}
        (folder / "recipe.yaml").write_text(json.dumps(recipe | {"out": str(folder / out), "mix": mix, "shards": shards}))
        return folder / "recipe.yaml"

    with alone():
        for budget, formats in ((300_000, ["parquet", "mds"]), (500_000, ["parquet"])):
            build_recipe(load_recipe(write_recipe("out", budget, formats)), lambda *_: None, "2026-01-01T00:00:00+00:00")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("chameleon_data.pipelines.ray_cluster.cluster", lambda *_: nullcontext())
            blend, _ = cli._weigh_blend(write_recipe("other", 500_000, ["mds"]), None, None, False)
    return folder, blend


@pytest.fixture
def built(made: tuple[Path, Blend]) -> Path:
    """The folder; v1 and v2 of its `out` differ in their budgets."""
    return made[0]


@pytest.fixture
def copy(built, tmp_path) -> Store:
    shutil.copytree(built / "out", tmp_path / "out")
    return Store(str(tmp_path / "out"))


def version(store: Store, number: int) -> tuple[dict[str, Any], Version]:
    found = list_versions(store)[number - 1]
    return load_manifest(store, found), found


def shard_rows(store: Store, manifest: dict[str, Any]) -> pl.DataFrame:
    files = [store.read(s["path"]) for s in manifest["shards"] if s["format"] == "parquet"]
    return in_order(pl.concat([pl.from_arrow(pq.read_table(pa.BufferReader(file))) for file in files]))


def in_order(rows: pl.DataFrame) -> pl.DataFrame:
    """Signed, and in an order of its own: tables have none."""
    signed = rows.with_columns(pl.col(pl.UInt32).cast(pl.Int64))
    return signed.select(sorted(signed.columns)).sort(pl.all())


def delta_rows(table: str, state: int | None = None, with_polars: bool = True) -> dict[str, pl.DataFrame]:
    """Reader -> rows."""
    import deltalake

    options = {"allow_http": "true"} if table.startswith("s3") else None
    found = deltalake.DeltaTable(table, version=state, storage_options=options)
    query = deltalake.QueryBuilder().register("t", found).execute("select * from t")
    read = {"deltalake": in_order(pl.from_arrow(pa.table(query))), "pyarrow": in_order(pl.from_arrow(found.to_pyarrow_table()))}
    if with_polars:
        read["polars"] = in_order(pl.read_delta(table, version=state, storage_options=options))
    return read


def iceberg_rows(table: str, snapshot: int | None = None) -> dict[str, pl.DataFrame]:
    from pyiceberg.table import StaticTable

    io = {"py-io-impl": "pyiceberg.io.fsspec.FsspecFileIO"} if table.startswith("s3") else {}
    return {"pyiceberg": in_order(pl.from_arrow(StaticTable.from_metadata(table, io).scan(snapshot_id=snapshot).to_arrow()))}


ROWS = {"delta": delta_rows, "iceberg": iceberg_rows}


# -- tables --


def check_table(url: str, form: str) -> None:
    """Two versions registered in turn: both readable with their shards' rows, nothing else touched, nothing done twice."""
    store = Store(url)
    before = store.list()
    made: dict[int, RegisteredTable] = {}
    for number in (1, 2):
        manifest, found = version(store, number)
        made[number] = REGISTER[form](store, manifest, found)
        assert made[number].new
        assert made[number].rows == sum(d["rows"] for d in manifest["domains"].values())
    for number, registered in made.items():
        expected = shard_rows(store, version(store, number)[0])
        for reader, rows in ROWS[form](registered.table, registered.state).items():
            assert rows.equals(expected), reader
    for rows in ROWS[form](made[2].table).values():  # without a word about which, it is the newest
        assert rows.equals(expected)
    after = store.list()
    added = after.keys() - before.keys()
    assert added
    assert {path: after[path] for path in before} == before
    assert all(path.startswith({"delta": "_delta_log/", "iceberg": "exports/iceberg/metadata/"}[form]) for path in added)
    assert not [path for path in added if path.endswith(".parquet")]
    for number in (1, 2):
        assert verify_version(store, version(store, number)[0]).ok
        again = REGISTER[form](store, *version(store, number))  # also v1, which is not the newest any more
        assert again == RegisteredTable(**{**vars(made[number]), "new": False})
    assert store.list() == after


@TABLES
def test_a_table_has_the_rows_of_the_shards_and_every_version_stays(copy: Store, form: str) -> None:
    check_table(copy.url, form)


@TABLES
def test_a_table_in_a_bucket(built: Path, s3_store: Store, form: str) -> None:
    """In a process of its own: deltalake waits for the server with the lock that the server's threads want."""
    original = Store(str(built / "out"))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda path: s3_store.write_new(path, original.read(path)), original.list()))
    code = f"from tests.system.test_export import check_table; check_table({s3_store.url!r}, {form!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@TABLES
def test_a_table_elsewhere_leaves_out_as_it_is(copy: Store, tmp_path: Path, form: str) -> None:
    before = copy.list()
    manifest, found = version(copy, 1)
    made = REGISTER[form](copy, manifest, found, str(tmp_path / "a table"))
    assert made.absolute
    assert copy.list() == before
    reader = {"delta": "query", "iceberg": "pyiceberg"}[form]  # polars and to_pyarrow_table take no absolute path of Delta's
    assert (query(made.table) if reader == "query" else iceberg_rows(made.table)[reader]).equals(shard_rows(copy, manifest))


def query(table: str) -> pl.DataFrame:
    import deltalake

    found = deltalake.QueryBuilder().register("t", deltalake.DeltaTable(table)).execute("select * from t")
    return in_order(pl.from_arrow(pa.table(found)))


def test_a_moved_folder_is_still_a_delta_table(copy: Store, tmp_path: Path) -> None:
    manifest, found = version(copy, 1)
    register_delta(copy, manifest, found)
    shutil.move(copy.url, tmp_path / "moved")
    for rows in delta_rows(str(tmp_path / "moved")).values():
        assert rows.equals(shard_rows(Store(str(tmp_path / "moved")), manifest))


def test_the_commits_say_which_version_they_are(copy: Store) -> None:
    import deltalake
    from pyiceberg.table import StaticTable

    manifest, found = version(copy, 2)
    expected = {"chameleon.version": "v2", "chameleon.manifest": found.manifest, "chameleon.digest": manifest["digest"],
                "chameleon.dataset": json.loads(copy.read("_chameleon/format.json"))["dataset"]}  # fmt: skip
    delta = deltalake.DeltaTable(register_delta(copy, manifest, found).table).history()[0]
    iceberg = StaticTable.from_metadata(register_iceberg(copy, manifest, found).table).current_snapshot()
    assert expected.items() <= delta.items()
    assert expected.items() <= iceberg.summary.additional_properties.items()


def test_no_vacuum_deletes_what_is_not_of_the_table(copy: Store) -> None:
    import deltalake

    for number in (1, 2):
        made = register_delta(copy, *version(copy, number))
    for file in Path(copy.url).rglob("*.*"):
        os.utime(file, (10**9, 10**9))  # long before any retention but ours
    table = deltalake.DeltaTable(made.table)
    for full in (False, True):
        assert table.vacuum(dry_run=False, full=full) == []
        with pytest.raises(deltalake.exceptions.DeltaError, match="retention"):
            table.vacuum(retention_hours=24 * 365, dry_run=False, full=full)
    assert all(verify_version(copy, version(copy, number)[0]).ok for number in (1, 2))


def sequences(store: Store, name: str, kind: pa.DataType, rows: int) -> tuple[dict[str, Any], Version]:
    """A version of packed rows, as small as registering needs."""
    table = pa.table({
        "input_ids": pa.array([[2**kind.bit_width - 1, i, 0] for i in range(rows)], pa.list_(kind, 3)), "domain": ["a"] * rows,
        "doc_id": [f"{i:032x}" for i in range(rows)], "epoch": pa.array([2**32 - 1] * rows, pa.uint32()),
        "tokens": pa.array([3] * rows, pa.uint32()),
    })  # fmt: skip
    ((file, body),) = parquet.encode(table, 0, 1, "train", "zstd").files.items()
    path = f"builds/{name}/parquet/{file}"
    store.write_new(path, body)
    shard = {"path": path, "format": "parquet", "split": "train", "bytes": body.size, "rows": rows}
    held = {**shard, "path": path.replace("train", "validation"), "split": "validation"}
    manifest = example_manifest(name, build=f"builds/{name}", shards=[shard, held])
    return describe_manifest(manifest), commit_version(store, manifest, "2026-01-01T00:00:00+00:00")


@TABLES
def test_sequences_of_token_ids_at_the_largest_numbers(local_store: Store, tmp_path: Path, form: str) -> None:
    for kind in (pa.uint16(), pa.uint32()):
        manifest, found = sequences(local_store, str(kind), kind, 5)
        made = REGISTER[form](local_store, manifest, found, None if form == "delta" else str(tmp_path / str(kind)))
        assert made.rows == 5
        read = delta_rows(made.table, with_polars=False) if form == "delta" else iceberg_rows(made.table)
        for reader, rows in read.items():  # polars 2.1 does not widen an array of unsigned integers to the table's lists
            assert rows["input_ids"].to_list() == [[2**kind.bit_width - 1, i, 0] for i in range(5)], reader
            assert rows["epoch"].to_list() == [2**32 - 1] * 5


def test_other_columns_are_another_iceberg_table(local_store: Store) -> None:
    """pyiceberg finds columns by a mapping of names, and one dropped and made again leaves it: older rows would read as null."""
    register_iceberg(local_store, *sequences(local_store, "first", pa.uint16(), 2))
    before = local_store.list("exports")
    with pytest.raises(InputError, match="name another folder with --to"):
        register_iceberg(local_store, *sequences(local_store, "second", pa.uint32(), 2))
    assert local_store.list("exports") == before


def test_two_exports_at_once_both_land(copy: Store) -> None:
    made = at_once(lambda i: register_iceberg(copy, *version(copy, 1 + i % 2)), 4)
    assert len({m.state for m in made}) == len({(m.state, m.rows) for m in made}) == 2
    for m in made:
        assert iceberg_rows(m.table, m.state)["pyiceberg"].height == m.rows
    assert not [path for path in copy.list("exports") if re.search(r"/0\d+-[^/]*metadata.json", path)]  # drafts of the losers


def test_an_export_that_died_before_the_hint_is_ended_by_the_next(copy: Store) -> None:
    register_iceberg(copy, *version(copy, 1))
    made = register_iceberg(copy, *version(copy, 2))
    copy.write("exports/iceberg/metadata/version-hint.text", b"1")
    assert not register_iceberg(copy, *version(copy, 2)).new
    assert iceberg_rows(made.table)["pyiceberg"].height == made.rows


# -- what is refused --


@TABLES
@pytest.mark.parametrize("case", ["no parquet", "missing", "cut", "foreign", "other dataset", "memory", "no package"])
def test_refusals_name_what_to_do_and_write_nothing(
    copy: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, case: str
) -> None:
    import deltalake
    from pyiceberg.catalog.memory import InMemoryCatalog

    manifest, found = version(copy, 1)
    target = None
    if case == "no parquet":
        manifest["shards"] = [s for s in manifest["shards"] if s["format"] == "mds"]
    elif case in ("missing", "cut"):
        path = next(s["path"] for s in manifest["shards"] if s["format"] == "parquet")
        body = copy.read(path)
        copy.remove([path])
        if case == "cut":
            copy.write(path, body[:-1])
    elif case == "foreign":
        target = str(tmp_path / "theirs")
        if form == "delta":
            deltalake.write_deltalake(target, pa.table({"precious": [1]}))
        else:
            catalog = InMemoryCatalog("theirs", warehouse=str(tmp_path))
            catalog.create_namespace("theirs")
            made = catalog.create_table("theirs.t", pa.schema([("precious", pa.int64())]), location=target)
            shutil.copy(made.metadata_location, f"{target}/metadata/v1.metadata.json")
            catalog.close()
    elif case == "other dataset":
        other = Store(str(tmp_path / "other"))
        target = REGISTER[form](other, *sequences(other, "other", pa.uint16(), 1), str(tmp_path / "theirs")).table
    elif case == "memory":
        copy = Store("memory://export/out")
    elif case == "no package":
        monkeypatch.setitem(sys.modules, {"delta": "deltalake", "iceberg": "pyiceberg"}[form], None)
    expected = {
        "no parquet": "with parquet among the recipe's `shards.formats`", "missing": "is missing; restore it from a copy",
        "cut": r"bytes, not [\d,]+; restore", "foreign": "somebody else is there.*--to", "other dataset": "another dataset.*--to",
        "memory": "on a disk or object store", "no package": rf"pip install 'chameleon-data\[{form}\]'",
    }[case]  # fmt: skip
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=expected):
        REGISTER[form](copy, manifest, found, target)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["out #1", "50%20", "a?b"])
def test_deltalake_is_kept_from_folders_that_it_cannot_find(built: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(built / "out", tmp_path / name)
    store = Store(str(tmp_path / name))
    with pytest.raises(InputError, match="rename or copy the folder"):
        register_delta(store, *version(store, 1))
    assert not list(tmp_path.rglob("_delta_log"))


@pytest.mark.parametrize("name", ["a copy", "kopie-ü"])
def test_any_other_name_holds_a_delta_table_and_an_iceberg_table(built: Path, tmp_path: Path, name: str) -> None:
    import deltalake

    shutil.copytree(built / "out", tmp_path / name)
    store = Store(str(tmp_path / name))
    manifest, found = version(store, 1)
    table = deltalake.DeltaTable(register_delta(store, manifest, found).table)
    assert in_order(pl.from_arrow(table.to_pyarrow_table())).equals(shard_rows(store, manifest))
    with pytest.raises(InputError, match="leave --to out"):
        register_delta(store, manifest, found, str(tmp_path / "elsewhere"))
    assert iceberg_rows(register_iceberg(store, manifest, found).table)["pyiceberg"].equals(shard_rows(store, manifest))


# -- pointers --


def pointer(built: Path, form: str, **changes: Any) -> str:
    """What `export OUT@v2 FORM` prints, after changes to the recipe's sections."""
    manifest, _ = version(Store(str(built / "out")), 2)
    for section, keys in changes.items():
        manifest["recipe"][section] |= keys
    return pointers.TRAINER_WRITERS[form](blend_of_version("v2", manifest), "s3://bucket/converted data")


def test_streams_of_mosaicml(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # a stream makes its cache there
    text = pointer(built, "mosaicml")
    streams = yaml.safe_load(text)["streams"]
    assert {name: s["proportion"] for name, s in streams.items()} == WEIGHTS
    assert streams["book"]["remote"] == "s3://bucket/converted data/book"
    assert re.fullmatch(r"s3://bucket/converted data/a_b_c-[0-9a-f]{8}", streams[ODD]["remote"])
    streaming = streaming_reader.load_or_skip()
    made = [streaming.Stream(**stream) for stream in streams.values()]
    assert [s.proportion for s in made] == [s["proportion"] for s in streams.values()]
    assert streaming.Stream.validate_weights(made) == (True, False)
    beside = {n: float(p) for n, p in re.findall(r"^# (.+?): ([0-9.e-]+) of documents; raw files /", text, re.MULTILINE)}
    tokens = {n: beside[n] * d["available_tokens"] / d["available_rows"] for n, d in domains(built).items()}
    assert {n: t / sum(tokens.values()) for n, t in tokens.items()} == pytest.approx(WEIGHTS, rel=1e-4)


def domains(built: Path) -> dict[str, Any]:
    return version(Store(str(built / "out")), 2)[0]["domains"]


def test_a_data_path_of_megatron(built: Path) -> None:
    text = pointer(built, "megatron")
    option, *blend = shlex.split(text, comments=True)
    assert option == "--data-path"
    prefixes, weights = official_readers.load("megatron.core.datasets.utils").get_blend_from_list(blend)
    assert dict(zip(prefixes, weights, strict=True)).keys() == {
        *(f"s3://bucket/converted data/{n}_text_document" for n in WEIGHTS if n != ODD),
        next(p for p in prefixes if "a_b_c-" in p),
    }
    assert weights == [WEIGHTS[name] for name in sorted(WEIGHTS)]
    assert sum(line.startswith("--data-path ") for line in text.splitlines()) == 1


@pytest.mark.parametrize("mix", [{}, {"exhausted": "repeat"}, {"exhausted": "fail"}, {"max_epochs": 0.5}])
def test_a_source_mixture_of_olmo_core(built: Path, mix: dict[str, Any]) -> None:
    """By the rules of olmo_core/data/source_mixture.py: the keys, `validate`, and what `build` calls insufficient tokens."""
    value = yaml.safe_load(pointer(built, "olmo", mix=mix))
    assert value.keys() == {"sources"}
    assert sum(s["target_ratio"] for s in value["sources"]) == pytest.approx(1, abs=1e-12)
    for source in value["sources"]:
        assert source.keys() == {"source_name", "target_ratio", "paths", "max_repetition_ratio", "max_source_fraction"}
        assert 0 < source["target_ratio"] <= 1
        assert source["max_repetition_ratio"] >= 1
        assert 0 < source["max_source_fraction"] <= 1
        assert all(re.fullmatch(r"s3://bucket/converted data/[A-Za-z0-9_-]+/\*\.npy", path) for path in source["paths"])
        available = domains(built)[source["source_name"]]["available_tokens"]
        most = int(available * source["max_source_fraction"] * source["max_repetition_ratio"])
        assert most >= int(500_000 * source["target_ratio"])
        if not mix:
            assert source["max_repetition_ratio"] == 8
    assert {s["source_name"]: s["target_ratio"] for s in value["sources"]} == WEIGHTS


def test_the_snippet_of_datasets_draws_the_weights(built: Path, tmp_path: Path) -> None:
    """Run as it is, over the raw files: every text is of the domain that it says, and the tokens are shared by the weights."""
    manifest, _ = version(Store(str(built / "out")), 2)
    manifest["budget"] = 6_000_000
    text = pointers.TRAINER_WRITERS["datasets"](blend_of_version("v2", manifest), "")
    (tmp_path / "mixture.py").write_text(text, encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        drawn = list(runpy.run_path(str(tmp_path / "mixture.py"))["mixture"])
        gc.collect()  # `datasets` leaves files open
    corpus = documents()
    known = {**{n: set(corpus[n]) for n in ("legal", "book", "code")}, ODD: set(corpus["legal"][:20])}
    assert all(row["text"] in known[row["domain"]] for row in drawn)
    for name, texts in known.items():
        assert {row["text"] for row in drawn if row["domain"] == name} == texts  # nothing of a domain is out of reach
    tokens = Counter()
    for row in drawn:
        tokens[row["domain"]] += len(row["text"].encode())
    total = sum(tokens.values())
    assert total == pytest.approx(6_000_000, rel=0.05)
    assert {name: t / total for name, t in tokens.items()} == pytest.approx(WEIGHTS, abs=0.02)
    by_weight = {n: WEIGHTS[n] * d["available_tokens"] / d["available_rows"] for n, d in domains(built).items()}
    naive = {n: share / sum(by_weight.values()) for n, share in by_weight.items()}
    assert max(abs(naive[n] - WEIGHTS[n]) for n in WEIGHTS) > 0.1  # drawing documents by the weights would not have passed


def test_what_cannot_be_said_is_said_in_comments(built: Path) -> None:
    for form in pointers.TRAINER_WRITERS:
        text = pointer(built, form)
        comments = " ".join(line for line in text.splitlines() if line.startswith("#"))
        assert "500,000 tokens" in comments or "requested_tokens: 500000" in comments
        assert "held on average" in comments
        assert ("max_epochs cannot be said" in comments) == (form != "olmo")
        assert ("no path can point at the domains of source web" in comments) == (form != "datasets")
        if form != "datasets":
            assert "the column meta.set tells its rows apart (Code = code); split them while converting" in comments
            assert f"source web ({ODD}, code): the column" in comments
            assert f"# {ODD}: " in text
            assert "/corpus/book/*.parquet" in comments
    assert ".repeat(None)" in pointer(built, "datasets")
    assert ".repeat(None)" not in pointer(built, "datasets", mix={"exhausted": "fail"})


def test_names_and_paths_stay_data(built: Path) -> None:
    """A source whose name and path are made to break out of a string, a comment or a line."""
    evil = "x'\"); import os; os._exit(3) #: [y]"
    sources = {evil: f"/in\n{evil}/*.jsonl", "b": "/b.csv"}
    recipe = parse_recipe(json.dumps({"name": "n\nimport os", "out": "/out", "sources": sources}), Path("/"))
    counts = {name: {"weight": 0.5, "available_tokens": 10, "available_rows": 2} for name in (evil, "b")}
    inputs = [{"source": evil, "url": f"/in\n{evil}/1.jsonl"}, {"source": "b", "url": "/b.csv"}]
    blend = make_blend("v1\nimport os", recipe, counts, 100, inputs)
    texts = {form: write(blend, "/data") for form, write in pointers.TRAINER_WRITERS.items()}
    assert yaml.safe_load(texts["mosaicml"])["streams"].keys() == {evil, "b"}
    assert {s["source_name"] for s in yaml.safe_load(texts["olmo"])["sources"]} == {evil, "b"}
    assert len(shlex.split(texts["megatron"], comments=True)) == 5
    tree = ast.parse(texts["datasets"])
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
    assert [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and n.value == evil] == [evil]


@pytest.mark.parametrize(
    ("paths", "files", "expected"),
    [
        (["/a/*.jsonl.zst"], ["/a/1.jsonl.zst"], [("json", ["/a/*.jsonl.zst"])]),
        (["/a"], ["/a/1.txt", "/a/b/2.txt", "/a/3.CSV.gz"], [("csv", ["/a/**/*.CSV.gz"]), ("text", ["/a/**/*.txt"])]),
        (["/a.parquet"], ["/a.parquet/part-0.parquet"], [("parquet", ["/a.parquet/**/*.parquet"])]),
        (["/a/*"], ["/a/1.feather", "/a/2.ndjson"], [("arrow", ["/a/1.feather"]), ("json", ["/a/2.ndjson"])]),
        (["/a/*.parquet", "/b"], ["/a/1.parquet", "/b/1.parquet"], [("parquet", ["/a/*.parquet", "/b/**/*.parquet"])]),
    ],
)
def test_a_source_as_patterns_by_builder(paths: list[str], files: list[str], expected: list[tuple[str, list[str]]]) -> None:
    assert pointers._patterns(Source(path=tuple(paths)), files) == expected


def test_a_name_that_is_no_file_name_gets_one_of_its_own() -> None:
    odd = ["../x", "a/b", "a_b", "a b", ".hidden", "ä", "ö", "x" * 200, "CON "]
    made = [pointers._folder_name(name) for name in odd]
    assert len(set(made)) == len(odd)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,80}", name) for name in made)
    assert pointers._folder_name("wiki-2.en") == "wiki-2.en"


# -- the command --


def test_the_command_registers_and_points(command, copy: Store, tmp_path: Path) -> None:
    code, out, _ = command("export", f"{copy.url}@v1", "delta")
    assert (code, "registered where they lie" in out) == (0, True)
    code, out, _ = command("export", copy.url, "iceberg", "--json")
    assert (code, json.loads(out)["version"], json.loads(out)["new"]) == (0, "v2", True)
    code, out, _ = command("export", f"{copy.url}@v2", "olmo")
    assert (code, len(yaml.safe_load(out)["sources"])) == (0, 4)
    assert f"{copy.url}/exports/olmo/book/" in out
    code, out, _ = command("export", copy.url, "megatron", "--data", "/data/", "--to", str(tmp_path / "blend.txt"))
    assert (code, out.strip()) == (0, str(tmp_path / "blend.txt"))
    assert " /data/book_text_document" in (tmp_path / "blend.txt").read_text()
    code, _, err = command("export", copy.url, "megatron", "--to", str(tmp_path))
    assert (code, "choose another place with --to" in err) == (2, True)
    code, _, err = command("export", f"{copy.url}@v9", "delta")
    assert (code, "no version 'v9'" in err) == (2, True)
    code, _, err = command("export", str(tmp_path / "r.yaml"), "delta")
    assert (code, "build it first" in err) == (2, True)


def test_a_recipe_that_was_never_built_is_weighed(made: tuple[Path, Blend]) -> None:
    folder, weighed = made
    recorded = blend_of_version(weighed.title, version(Store(str(folder / "out")), 2)[0])
    assert [write(weighed, "/data") for write in pointers.TRAINER_WRITERS.values()] == [
        write(recorded, "/data") for write in pointers.TRAINER_WRITERS.values()
    ]
    assert weighed.title == "recipe ways: out"
    assert not list_versions(Store(str(folder / "other")))
