"""What is refused before a table is written."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from chameleon_data.corpus.conversations import messages_type
from chameleon_data.errors import InputError
from chameleon_data.store.store import Store
from chameleon_data.views import lake_tables
from chameleon_data.views.lake_tables import register_delta, register_iceberg
from tests.support.exports import make_packed_version
from tests.support.manifests import list_files, list_paths, with_files
from tests.support.table_readers import REGISTER, delta_rows, iceberg_rows

TABLES = pytest.mark.parametrize("form", REGISTER)


def test_a_table_has_conversations_of_plain_types() -> None:
    """Neither Delta nor Iceberg has a type for JSON."""
    declared = lake_tables._signed(messages_type({"role": "string", "content": "json", "tool_calls": "json", "score": "integer"}))
    fields = [("role", pa.string()), ("content", pa.string()), ("score", pa.int64()), ("tool_calls", pa.string())]
    assert declared == pa.list_(pa.field("element", pa.struct(fields)))


def test_other_columns_are_another_iceberg_table(local_store: Store) -> None:
    """pyiceberg finds columns by a mapping of names, and one dropped and made again leaves it: older rows would read as null."""
    register_iceberg(local_store, *make_packed_version(local_store, "first", pa.uint16(), 2))
    before = local_store.list("exports")
    with pytest.raises(InputError, match="name another folder with --to"):
        register_iceberg(local_store, *make_packed_version(local_store, "second", pa.uint32(), 2))
    assert local_store.list("exports") == before


@TABLES
@pytest.mark.parametrize("case", ["no parquet", "missing", "cut", "foreign", "other dataset", "memory", "no package"])
def test_refusals_name_what_to_do_and_write_nothing(
    local_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, case: str
) -> None:
    import deltalake
    from pyiceberg.catalog.memory import InMemoryCatalog

    manifest, version = make_packed_version(local_store, "packed", pa.uint16(), 2)
    path, target = list_paths(local_store, manifest)[0], None
    if case == "no parquet":
        manifest = with_files(local_store, manifest, [{**f, "format": "mds"} for f in list_files(local_store, manifest)])
    elif case in ("missing", "cut"):
        body = local_store.read(path)
        local_store.remove([path])
        if case == "cut":
            local_store.write(path, body[:-1])
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
        target = REGISTER[form](other, *make_packed_version(other, "other", pa.uint16(), 1), str(tmp_path / "theirs")).table
    elif case == "memory":
        local_store = Store("memory://export/out")
    elif case == "no package":
        monkeypatch.setitem(sys.modules, {"delta": "deltalake", "iceberg": "pyiceberg"}[form], None)
    expected = {
        "no parquet": "with parquet among the recipe's `shards.formats`", "missing": "is missing; restore it from a copy",
        "cut": r"bytes, not [\d,]+; restore", "foreign": "somebody else is there.*--to", "other dataset": "another dataset.*--to",
        "memory": "on a disk or object store", "no package": rf"pip install '\.\[{form}\]' in the repo",
    }[case]  # fmt: skip
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=expected):
        REGISTER[form](local_store, manifest, version, target)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("name", "why"),
    [("50%20", "takes '%20' in a name for an encoded letter when it reads"), ("a\\b", "for a slash"), ("a\tb", "refuses '.t'")],
)
def test_deltalake_is_kept_from_folders_that_it_cannot_find(tmp_path: Path, name: str, why: str) -> None:
    store = Store(str(tmp_path / name))
    with pytest.raises(InputError, match=rf"{why}.*; rename or copy the folder"):
        register_delta(store, *make_packed_version(store, "packed", pa.uint16(), 2))
    assert not list(tmp_path.rglob("_delta_log"))


@TABLES
@pytest.mark.parametrize("name", ["100% x", "a%zz", "[x] *", "日本", "a::b", "a#b", "a?b=c&d", "a+b", '"'])
def test_tables_lie_in_folders_of_any_other_name(tmp_path: Path, name: str, form: str) -> None:
    store = Store(str(tmp_path / name))
    manifest, version = make_packed_version(store, "packed", pa.uint16(), 2)
    made = REGISTER[form](store, manifest, version)
    read = delta_rows(made.table, with_polars=False) if form == "delta" else iceberg_rows(made.table)
    assert {rows.height for rows in read.values()} == {made.rows} != {0}
    assert not REGISTER[form](store, manifest, version).new
