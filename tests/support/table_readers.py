"""What other packages read of a table, and the check that a table holds the rows of the shards."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from chameleon_data.store.store import Store
from chameleon_data.versions.manifest import Manifest
from chameleon_data.versions.verify import verify_version
from chameleon_data.views.lake_tables import RegisteredTable, register_delta, register_iceberg
from tests.support.exports import open_version
from tests.support.manifests import list_paths

REGISTER: dict[str, Callable[..., RegisteredTable]] = {"delta": register_delta, "iceberg": register_iceberg}


def shard_rows(store: Store, manifest: Manifest) -> pl.DataFrame:
    files = [store.read(path) for path in list_paths(store, manifest)]
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


def check_table(url: str, form: str) -> None:
    """Two versions registered in turn: both readable with their shards' rows, nothing else touched, nothing done twice."""
    store = Store(url)
    before = store.list()
    made: dict[int, RegisteredTable] = {}
    for number in (1, 2):
        manifest, found = open_version(store, number)
        made[number] = REGISTER[form](store, manifest, found)
        assert made[number].new
        assert made[number].rows == sum(d.rows for d in manifest.domains.values())
    read = iceberg_rows if form == "iceberg" else partial(delta_rows, with_polars=made[1].plain)
    for number, registered in made.items():
        expected = shard_rows(store, open_version(store, number)[0])
        for reader, rows in read(registered.table, registered.state).items():
            assert rows.equals(expected), reader
    for rows in read(made[2].table).values():  # without a word about which, it is the newest
        assert rows.equals(expected)
    after = store.list()
    added = after.keys() - before.keys()
    assert added
    assert {path: after[path] for path in before} == before
    assert all(path.startswith({"delta": "_delta_log/", "iceberg": "exports/iceberg/metadata/"}[form]) for path in added)
    assert not [path for path in added if path.endswith(".parquet")]
    for number in (1, 2):
        assert verify_version(store, open_version(store, number)[0]).ok
        again = REGISTER[form](store, *open_version(store, number))  # also v1, which is not the newest any more
        assert again == RegisteredTable(**{**vars(made[number]), "new": False})
    assert store.list() == after
