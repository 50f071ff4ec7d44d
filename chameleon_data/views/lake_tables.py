"""A version as a table: its Parquet shards, registered with Delta Lake or Apache Iceberg where they lie. No row is rewritten.

Both formats are a log that names files. A version becomes the table's next state, made of that version's files alone, so that
every exported version stays readable by time travel; the commit says which version it was, and one that is there already is left
alone. What is registered is the train split: held-out rows have no place in a table that is trained on. A version that is deleted
here takes its files from the table's history too.

*Delta* names files relative to the table's folder. It allows absolute paths too, and deltalake's own queries follow them, but
polars and `to_pyarrow_table` look for them inside the folder. So the table is `out` itself: `_delta_log` lies beside
`_chameleon`, the folder of a build gets no file, and a copy of `out` is a table too. A vacuum deletes what the log does not
name, here the MDS shards and all else; so the table keeps everything for a hundred years, and deltalake refuses to do it
earlier.

*Iceberg* names files by absolute paths, so its table may lie anywhere, by default in `out`/exports/iceberg, and a copied folder
has to be exported again. Its state is one metadata file, and the commit is one create-only put of the next number
(v2.metadata.json), which is the layout of Iceberg's file-system catalogue: a catalogue in SQLite could not lie in a bucket. The
table opens with `StaticTable.from_metadata`, and in any catalogue through `register_table`; `gc.enabled` is false, so that no
catalogue deletes a shard.

Neither has unsigned integers: `epoch` and `tokens` (uint32) are declared 64-bit and token ids one size wider, and every reader
tried (deltalake, polars, pyarrow, pyiceberg) widens right up to 2^32 - 1; in Iceberg's `int`, 2^31 was refused. Packed rows are
lists there, and `polars.read_delta` does not take their arrays for such; it reads the shards themselves.
Cost: one listing and one footer for Delta, one footer a shard for Iceberg: 1,000 local shards in .04 and .64 s.
"""

from __future__ import annotations

import importlib
import json
import os
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from chameleon_data.errors import InputError, explaining
from chameleon_data.plan.plan import TRAIN
from chameleon_data.store.paths import FORMAT_FILE, export_folder
from chameleon_data.store.store import NameTakenError, Store
from chameleon_data.store.urls import scheme_of
from chameleon_data.versions.versions import Version

"""Where the Iceberg table is when nothing else is said, relative to `out`."""
TABLE_NAME = "chameleon.mixture"
DESCRIPTION = "versions of the chameleon-data dataset "
"""Of a Delta table, with the dataset's id behind it: deltalake refuses properties that it does not know."""
FOR_EVER = "interval 36500 days"
TABLE_PROPERTIES = ("dataset", "version", "manifest", "digest")
"""What a table's commit says of a version, each under `chameleon.`."""


@dataclass(frozen=True)
class RegisteredTable:
    table: str
    """Folder or URL of the table."""
    state: int
    """Of the table: Delta's version, or Iceberg's snapshot, that is this version of ours."""
    files: int
    rows: int
    new: bool
    """False where it was registered before, so that nothing was written."""
    absolute: bool
    """Whether the table names its files by absolute paths."""


@dataclass(frozen=True)
class _Shards:
    files: tuple[tuple[str, int, int], ...]
    """(path relative to `out`, bytes, rows), in order."""
    schema: pa.Schema
    about: dict[str, str]
    name: str
    created: str | None


def register_delta(store: Store, manifest: Mapping[str, Any], version: Version, target: str | None = None) -> RegisteredTable:
    """Make the version the newest state of the Delta table in the folder `target`, or in `out` itself."""
    deltalake = _package("deltalake", "delta")
    from deltalake.exceptions import DeltaError
    from deltalake.transaction import AddAction, CommitProperties, create_table_with_add_actions

    shards = _shards(store, manifest, version)
    table, data = _location(Store(target) if target else store), _location(store)
    absolute = table != data
    options = _delta_options(table)
    for place in (table, data):
        if re.search(r"[#%?\\\x00-\x1f]", place):  # seen to be taken for parts of a URL, by deltalake 1.6
            raise InputError(f"{place}: deltalake loses its way in a path with one of # % ? \\; rename or copy the folder")
    if absolute and quote(data, safe="/:") != data:  # Delta wants absolute paths encoded, and deltalake 1.6 does not decode them
        raise InputError(
            f"{data}: a Delta table elsewhere cannot name files in a folder with blanks or other than plain characters; leave "
            "--to out, so that the table is in the folder itself, or rename the folder"
        )

    def found() -> int | None:
        for commit in deltalake.DeltaTable(table, storage_options=options).history():
            if commit.get("chameleon.manifest") == shards.about["manifest"]:
                return int(commit["version"])
        return None

    def registered(state: int, new: bool) -> RegisteredTable:
        return RegisteredTable(table, state, len(shards.files), sum(rows for _, _, rows in shards.files), new, absolute)

    with _explaining(table, DeltaError):
        if deltalake.DeltaTable.is_deltatable(table, options):
            described = deltalake.DeltaTable(table, storage_options=options).metadata().description or ""
            whose = described.removeprefix(DESCRIPTION) if described.startswith(DESCRIPTION) else None
            _refuse_foreign(table, whose, shards)
            state = found()
            if state is not None:
                return registered(state, False)
        actions = [
            AddAction(
                path=f"{'' if scheme_of(data) else 'file://'}{data}/{path}" if absolute else path,
                size=size,
                partition_values={},
                modification_time=_milliseconds(shards.created),
                data_change=True,
                stats=json.dumps({"numRecords": rows}),
            )
            for path, size, rows in shards.files
        ]
        create_table_with_add_actions(
            table,
            deltalake.Schema.from_arrow(shards.schema),
            actions,
            mode="overwrite",
            name=shards.name,
            description=f"{DESCRIPTION}{shards.about['dataset']}",
            configuration={"delta.deletedFileRetentionDuration": FOR_EVER, "delta.logRetentionDuration": FOR_EVER},
            storage_options=options,
            commit_properties=CommitProperties(custom_metadata=_commit(shards)),
        )
        state = found()
    if state is None:
        raise InputError(f"{table}: the table does not show what was written to it; check the store, then export again")
    return registered(state, True)


def register_iceberg(store: Store, manifest: Mapping[str, Any], version: Version, target: str | None = None) -> RegisteredTable:
    """Make the version the newest snapshot of the Iceberg table in the folder `target`, or in `out`/exports/iceberg."""
    _package("pyiceberg", "iceberg")
    from pyiceberg.catalog.memory import InMemoryCatalog
    from pyiceberg.expressions import AlwaysTrue
    from pyiceberg.io.pyarrow import schema_to_pyarrow

    shards = _shards(store, manifest, version)
    data = _location(store)
    folder = Store(target or f"{store.url.rstrip('/')}/{export_folder('iceberg')}")
    table = _location(folder)
    io = {"py-io-impl": "pyiceberg.io.fsspec.FsspecFileIO"} if scheme_of(table) else {}  # the credentials that Store uses
    for _ in range(10):  # whoever loses the race for a number looks again
        number = _newest_metadata(folder)
        catalog: Any = InMemoryCatalog("chameleon", warehouse=table, **io)
        try:
            catalog.create_namespace(TABLE_NAME.split(".")[0])
            with _explaining(table):
                if number:
                    known = catalog.register_table(TABLE_NAME, f"{table}/{_metadata_path(number)}")
                    _refuse_foreign(table, known.properties.get("chameleon.dataset"), shards)
                    for snapshot in known.snapshots():
                        said = snapshot.summary.additional_properties if snapshot.summary else {}
                        if said.get("chameleon.manifest") == shards.about["manifest"]:
                            _point(folder, number)
                            return _registered(table, snapshot.snapshot_id, shards, False)
                    columns = schema_to_pyarrow(known.schema(), include_field_ids=False)
                    if {f.name: _signed(f.type) for f in columns} != {f.name: f.type for f in shards.schema}:
                        raise InputError(
                            f"{table}: the table has the columns {columns.names} and v{version.number} has "
                            f"{shards.schema.names} of other types or names, which would make the older snapshots unreadable; "
                            "name another folder with --to"
                        )
                    transaction = known.transaction()
                    transaction.delete(AlwaysTrue())
                else:
                    properties = {
                        "chameleon.dataset": shards.about["dataset"],
                        "gc.enabled": "false",
                        "write.metadata.metrics.default": "none",  # shards hold all domains: no statistic would prune one
                    }
                    transaction = catalog.create_table_transaction(
                        TABLE_NAME, shards.schema, location=table, properties=properties
                    )
                transaction.add_files([f"{data}/{path}" for path, _, _ in shards.files], snapshot_properties=_commit(shards))
                transaction.commit_transaction()
                written = catalog.load_table(TABLE_NAME)
        finally:
            catalog.close()
        draft = written.metadata_location.removeprefix(f"{table}/")
        try:
            folder.write_new(_metadata_path(number + 1), folder.read(draft))
        except NameTakenError:
            continue
        finally:
            folder.remove([draft])
        _point(folder, number + 1)
        return _registered(table, written.current_snapshot().snapshot_id, shards, True)
    raise InputError(f"{table}: ten others wrote to this table meanwhile; export again")


def _registered(table: str, snapshot: int, shards: _Shards, new: bool) -> RegisteredTable:
    return RegisteredTable(table, snapshot, len(shards.files), sum(rows for _, _, rows in shards.files), new, True)


def _metadata_path(number: int) -> str:
    return f"metadata/v{number}.metadata.json"


def _newest_metadata(folder: Store) -> int:
    """The number of the table's present state; 0 where there is no table."""
    found = (re.fullmatch(r"metadata/v(\d{1,9})\.metadata\.json", path, re.ASCII) for path in folder.list("metadata"))
    return max((int(match[1]) for match in found if match), default=0)


def _point(folder: Store, number: int) -> None:
    """Tell readers which metadata file is the present one. A writer that died before this left it to the next export."""
    folder.write("metadata/version-hint.text", str(number).encode())


def _shards(store: Store, manifest: Mapping[str, Any], version: Version) -> _Shards:
    """The version's Parquet files of the train split, all there and of the size that the manifest says."""
    if scheme_of(store.url) == "memory":
        raise InputError("memory://…: no other program reads this process's memory; export a version on a disk or object store")
    wanted = [s for s in manifest["shards"] if s["format"] == "parquet" and s["split"] == TRAIN]
    if not wanted:
        raise InputError(
            f"{store.url}@v{version.number}: holds no Parquet shards, which these tables are made of; build it again "
            "with parquet among the recipe's `shards.formats`"
        )
    there = store.list(f"{manifest['build']}/parquet")
    for shard in wanted:
        if there.get(shard["path"]) != shard["bytes"]:
            said = "is missing" if shard["path"] not in there else f"has {there[shard['path']]:,} bytes, not {shard['bytes']:,}"
            raise InputError(f"{store.url}/{shard['path']}: {said}; restore it from a copy or build the version again")
    path = wanted[0]["path"]
    try:
        with store.open(path) as file:
            stored = pq.ParquetFile(file, pre_buffer=False).schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{store.url}/{path}: damaged Parquet file; restore it from a copy or build it again") from error
    dataset = json.loads(store.read(FORMAT_FILE))["dataset"]
    values = (dataset, f"v{version.number}", version.manifest, version.digest)
    return _Shards(
        files=tuple((s["path"], s["bytes"], s["rows"]) for s in wanted),
        schema=pa.schema([(field.name, _signed(field.type)) for field in stored]),
        about=dict(zip(TABLE_PROPERTIES, values, strict=True)),
        name=manifest["name"],
        created=version.created,
    )


def _signed(kind: pa.DataType) -> pa.DataType:
    """The type that tables declare for a column of a shard: unsigned integers one size wider, lists of any length."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(pa.field("element", _signed(kind.value_type)))
    wider = {pa.uint8(): pa.int32(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64(), pa.large_string(): pa.string()}
    return wider.get(kind, kind)


def _commit(shards: _Shards) -> dict[str, str]:
    return {f"chameleon.{key}": value for key, value in shards.about.items()}


def _refuse_foreign(table: str, dataset: str | None, shards: _Shards) -> None:
    """A table is replaced as a whole, so it must be of this dataset and of nobody else."""
    if dataset != shards.about["dataset"]:
        whose = "another dataset" if dataset else "somebody else"
        raise InputError(f"{table}: a table of {whose} is there, and would be replaced; name another folder with --to")


def _package(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"export {extra}: needs the package {name}; pip install 'chameleon-data[{extra}]'") from error


def _location(store: Store) -> str:
    """Of a folder, as other programs take it: an absolute path or a URL, without a slash at the end."""
    local = store.local("x")
    return str(local.parent) if local else store.url.rstrip("/")


def _delta_options(table: str) -> dict[str, str] | None:
    """deltalake reads the same variables as other S3 programs, but not that an endpoint is plain http."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    return {"allow_http": "true"} if scheme_of(table) in ("s3", "s3a") and endpoint.startswith("http://") else None


def _milliseconds(created: str | None) -> int:
    """The version's time in Delta's unit, 0 where it has none: the same export gives the same log."""
    if created:
        with suppress(ValueError):
            return int(datetime.fromisoformat(created).timestamp() * 1000)
    return 0


def _explaining(table: str, *kinds: type[BaseException]) -> AbstractContextManager[None]:
    """For OSError and these kinds. The packages' own words are left out, as a store's keys may be in them."""

    def explain(error: BaseException) -> str:
        kind = type(error).__name__
        return f"the table cannot be read or written there ({kind}); check the folder, its permissions and your credentials"

    return explaining(table, {(OSError, *kinds): explain})
