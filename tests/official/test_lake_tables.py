"""Tables of a dataset, as deltalake, polars, pyarrow and pyiceberg read them."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from chameleon_data.errors import InputError
from chameleon_data.store.store import Store
from chameleon_data.versions.verify import verify_version
from chameleon_data.views.lake_tables import register_delta, register_iceberg
from tests.support.exports import build_two_versions, make_packed_version, open_version
from tests.support.schedules import at_once
from tests.support.table_readers import REGISTER, check_table, delta_rows, iceberg_rows, in_order, shard_rows

TABLES = pytest.mark.parametrize("form", REGISTER)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("export #1")
    build_two_versions(folder)
    return folder


@pytest.fixture
def copy(built, tmp_path) -> Store:
    shutil.copytree(built / "out", tmp_path / "out")
    return Store(str(tmp_path / "out"))


@TABLES
def test_a_table_has_the_rows_of_the_shards_and_every_version_stays(copy: Store, form: str) -> None:
    check_table(copy.url, form)


@TABLES
def test_a_table_elsewhere_leaves_out_as_it_is(copy: Store, tmp_path: Path, form: str) -> None:
    before = copy.list()
    manifest, found = open_version(copy, 1)
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
    manifest, found = open_version(copy, 1)
    register_delta(copy, manifest, found)
    shutil.move(copy.url, tmp_path / "moved")
    for rows in delta_rows(str(tmp_path / "moved")).values():
        assert rows.equals(shard_rows(Store(str(tmp_path / "moved")), manifest))


def test_the_commits_say_which_version_they_are(copy: Store) -> None:
    import deltalake
    from pyiceberg.table import StaticTable

    manifest, found = open_version(copy, 2)
    expected = {"chameleon.version": "v2", "chameleon.manifest": found.manifest, "chameleon.digest": manifest.digest,
                "chameleon.dataset": json.loads(copy.read("_chameleon/format.json"))["dataset"]}  # fmt: skip
    delta = deltalake.DeltaTable(register_delta(copy, manifest, found).table).history()[0]
    iceberg = StaticTable.from_metadata(register_iceberg(copy, manifest, found).table).current_snapshot()
    assert expected.items() <= delta.items()
    assert expected.items() <= iceberg.summary.additional_properties.items()


def test_no_vacuum_deletes_what_is_not_of_the_table(copy: Store) -> None:
    import deltalake

    for number in (1, 2):
        made = register_delta(copy, *open_version(copy, number))
    for file in Path(copy.url).rglob("*.*"):
        os.utime(file, (10**9, 10**9))  # long before any retention but ours
    table = deltalake.DeltaTable(made.table)
    for full in (False, True):
        assert table.vacuum(dry_run=False, full=full) == []
        with pytest.raises(deltalake.exceptions.DeltaError, match="retention"):
            table.vacuum(retention_hours=24 * 365, dry_run=False, full=full)
    assert all(verify_version(copy, open_version(copy, number)[0]).ok for number in (1, 2))


@TABLES
def test_sequences_of_token_ids_at_the_largest_numbers(local_store: Store, tmp_path: Path, form: str) -> None:
    for kind in (pa.uint16(), pa.uint32()):
        manifest, found = make_packed_version(local_store, str(kind), kind, 5)
        made = REGISTER[form](local_store, manifest, found, None if form == "delta" else str(tmp_path / str(kind)))
        assert made.rows == 5
        read = delta_rows(made.table, with_polars=False) if form == "delta" else iceberg_rows(made.table)
        for reader, rows in read.items():  # polars 2.1 does not widen an array of unsigned integers to the table's lists
            assert rows["input_ids"].to_list() == [[2**kind.bit_width - 1, i, 0] for i in range(5)], reader
            assert rows["epoch"].to_list() == [2**32 - 1] * 5


def test_two_exports_at_once_both_land(copy: Store) -> None:
    made = at_once(lambda i: register_iceberg(copy, *open_version(copy, 1 + i % 2)), 4)
    assert len({m.state for m in made}) == len({(m.state, m.rows) for m in made}) == 2
    for m in made:
        assert iceberg_rows(m.table, m.state)["pyiceberg"].height == m.rows
    assert not [path for path in copy.list("exports") if re.search(r"/0\d+-[^/]*metadata.json", path)]  # drafts of the losers


def test_an_export_that_died_before_the_hint_is_ended_by_the_next(copy: Store) -> None:
    register_iceberg(copy, *open_version(copy, 1))
    made = register_iceberg(copy, *open_version(copy, 2))
    copy.write("exports/iceberg/metadata/version-hint.text", b"1")
    assert not register_iceberg(copy, *open_version(copy, 2)).new
    assert iceberg_rows(made.table)["pyiceberg"].height == made.rows


@pytest.mark.parametrize("name", ["a copy", "kopie-ü", "#1?"])
def test_any_other_name_holds_a_delta_table_and_an_iceberg_table(built: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(built / "out", tmp_path / name)
    store = Store(str(tmp_path / name))
    manifest, found = open_version(store, 1)
    made = register_delta(store, manifest, found)
    assert not made.plain
    for reader, rows in delta_rows(made.table, with_polars=False).items():
        assert rows.equals(shard_rows(store, manifest)), reader
    with pytest.raises(InputError, match="leave --to out"):
        register_delta(store, manifest, found, str(tmp_path / "elsewhere"))
    assert iceberg_rows(register_iceberg(store, manifest, found).table)["pyiceberg"].equals(shard_rows(store, manifest))
