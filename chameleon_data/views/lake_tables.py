"""A version as a table: registers its Parquet shards with Delta Lake or Apache Iceberg where they lie. No row is rewritten.

Both formats are a log that names files. A version becomes the table's next state, which names that version's files alone. So
every exported version stays readable by time travel. The commit says which version it was; one that is registered already is
left alone. Only the train split is registered, as held-out rows do not belong into a table that is trained on. A version that
is deleted here takes its files from the table's history too.

Delta names files relative to the table's folder, so its table is `out` itself: `_delta_log` lies beside `_chameleon`, and a
copy of `out` is a table too. Iceberg names files by absolute paths, so its table may lie anywhere, by default in
`out`/exports/iceberg, and a copied folder has to be exported again. It opens with `StaticTable.from_metadata`, and in any
catalogue through `register_table`. Why: docs/decisions/081-lake-tables.md.
"""

from __future__ import annotations

import importlib
import json
import os
import re
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from chameleon_data.errors import InputError, explaining, say_install
from chameleon_data.plan.plan import TRAIN
from chameleon_data.store.paths import export_folder
from chameleon_data.store.store import NameTakenError, Store
from chameleon_data.store.urls import scheme_of
from chameleon_data.versions.manifest import Manifest
from chameleon_data.versions.shard_table import ShardFile, list_shards
from chameleon_data.versions.versions import Version, read_dataset

TABLE_NAME = "chameleon.mixture"
DESCRIPTION = "versions of the chameleon-data dataset "
"""Description of a Delta table, before the dataset's id. deltalake refuses properties that it does not know."""
FOR_EVER = "interval 36500 days"
DATASET_KEY, MANIFEST_KEY = "chameleon.dataset", "chameleon.manifest"
"""Keys in a table: the id of its dataset; in a commit, the sha256 of the version's manifest."""
MISREAD_IN_URL = re.compile(r"%[0-9A-Fa-f]{2}|[\x00-\x1f\x7f]")
"""What deltalake 1.6 misreads in the name of a folder in a bucket, even where the URL is encoded: it decodes it twice."""
MISREAD_IN_PATH = re.compile(rf"{MISREAD_IN_URL.pattern}|\\")
"""The same in the name of a local folder."""
DELTA_COMMIT = re.compile(r"_delta_log/(\d{20})\.json", re.ASCII)
EXPORT_TRIES = 10
"""How often an Iceberg commit is tried, as another export may be faster."""


@dataclass(frozen=True)
class RegisteredTable:
    """A version in a table."""

    table: str
    """Folder or URL of the table, as its readers take it. They take a URL encoded."""
    state: int
    """Delta's version, or Iceberg's snapshot, that is this version of ours."""
    files: int
    """Shards that this state names."""
    rows: int
    """Rows in them."""
    new: bool
    """False: it was registered before, and nothing was written."""
    absolute: bool
    """Whether the table names its files by absolute paths."""
    plain: bool
    """Whether its folder's name is the same in a URL. Where it is not, polars 2.1 does not find the files of a Delta table."""


@dataclass(frozen=True)
class _Shards:
    """What is registered of a version."""

    files: tuple[tuple[ShardFile, int], ...]
    """Each file and its rows, in order."""
    schema: pa.Schema
    """As a table declares it."""
    dataset: str
    """Id of the dataset."""
    commit: dict[str, str]
    """What the table's commit says of the version."""

    @property
    def rows(self) -> int:
        return sum(rows for _, rows in self.files)


def register_delta(store: Store, manifest: Manifest, version: Version, target: str | None = None) -> RegisteredTable:
    """Make the version the newest state of the Delta table in the folder `target`, or in `out` itself."""
    deltalake = _package("deltalake", "delta")
    from deltalake.exceptions import DeltaError
    from deltalake.transaction import AddAction, CommitProperties, create_table_with_add_actions

    shards = _shards(store, manifest, version)
    folder = Store(target) if target else store
    location, data = _location(folder), _location(store)
    table = _encode_url(location)
    absolute = location != data
    options = _delta_options(table)
    for place in (location, data):
        if found := re.search(MISREAD_IN_URL if scheme_of(place) else MISREAD_IN_PATH, place):
            raise InputError(f"{place}: deltalake {_explain_misread(found[0])}; rename or copy the folder")
    if absolute and not _is_plain(data):  # Delta wants absolute paths encoded, and deltalake 1.6 does not decode them
        raise InputError(
            f"{data}: a Delta table elsewhere cannot name files in a folder with blanks or other than plain characters; leave "
            "--to out, so that the table is in the folder itself, or rename the folder"
        )

    def describe(state: int, new: bool) -> RegisteredTable:
        return RegisteredTable(table, state, len(shards.files), shards.rows, new, absolute, _is_plain(location))

    with _explaining(table, DeltaError):
        if deltalake.DeltaTable.is_deltatable(table, options):
            described = deltalake.DeltaTable(table, storage_options=options).metadata().description or ""
            whose = described.removeprefix(DESCRIPTION) if described.startswith(DESCRIPTION) else None
            _refuse_foreign(table, whose, shards.dataset)
            state = _find_delta_state(folder, version)
            if state is not None:
                return describe(state, False)
        actions = [
            AddAction(
                path=f"{'' if scheme_of(data) else 'file://'}{data}/{file.path}" if absolute else file.path,
                size=file.bytes,
                partition_values={},
                modification_time=_milliseconds(version.created),
                data_change=True,
                stats=json.dumps({"numRecords": rows}),
            )
            for file, rows in shards.files
        ]
        create_table_with_add_actions(
            table,
            deltalake.Schema.from_arrow(shards.schema),
            actions,
            mode="overwrite",
            name=manifest.name,
            description=f"{DESCRIPTION}{shards.dataset}",
            configuration={"delta.deletedFileRetentionDuration": FOR_EVER, "delta.logRetentionDuration": FOR_EVER},
            storage_options=options,
            commit_properties=CommitProperties(custom_metadata=shards.commit),
        )
        state = _find_delta_state(folder, version)
    if state is None:
        raise InputError(f"{table}: the table does not show what was written to it; check the store, then export again")
    return describe(state, True)


def _find_delta_state(folder: Store, version: Version) -> int | None:
    """The state of a Delta table that is this version, by its log. `DeltaTable.history` is empty where a name has # or ?."""
    for path in sorted(folder.list("_delta_log"), reverse=True):
        if commit := DELTA_COMMIT.fullmatch(path):
            actions = map(json.loads, folder.read(path).splitlines())
            if any(action.get("commitInfo", {}).get(MANIFEST_KEY) == version.manifest for action in actions):
                return int(commit[1])
    return None


def _is_plain(place: str) -> bool:
    return quote(place, safe="/:") == place


def _encode_url(place: str) -> str:
    """A folder as deltalake takes it: a path as it is, a URL encoded."""
    scheme, mark, key = place.partition("://")
    return f"{scheme}{mark}{quote(key)}" if mark else place


def _explain_misread(found: str) -> str:
    if found.startswith("%"):
        return f"takes {found!r} in a name for an encoded letter when it reads"
    return f"takes {found!r} in a name for a slash" if found == "\\" else f"refuses {found!r} in a name"


def register_iceberg(store: Store, manifest: Manifest, version: Version, target: str | None = None) -> RegisteredTable:
    """Make the version the newest snapshot of the Iceberg table in the folder `target`, or in `out`/exports/iceberg."""
    _package("pyiceberg", "iceberg")
    from pyiceberg.catalog.memory import InMemoryCatalog
    from pyiceberg.expressions import AlwaysTrue
    from pyiceberg.io.pyarrow import schema_to_pyarrow

    shards = _shards(store, manifest, version)
    data = _location(store)
    folder = Store(target or f"{store.url.rstrip('/')}/{export_folder('iceberg')}")
    table = _location(folder)

    def describe(snapshot: int, new: bool) -> RegisteredTable:
        return RegisteredTable(table, snapshot, len(shards.files), shards.rows, new, True, _is_plain(table))

    io = {"py-io-impl": "pyiceberg.io.fsspec.FsspecFileIO"} if scheme_of(table) else {}  # the credentials that Store uses
    for _ in range(EXPORT_TRIES):  # whoever loses the race for a number looks again
        number = _newest_metadata(folder)
        catalog: Any = InMemoryCatalog("chameleon", warehouse=table, **io)
        try:
            catalog.create_namespace(TABLE_NAME.split(".")[0])
            with _explaining(table):
                if number:
                    known = catalog.register_table(TABLE_NAME, f"{table}/{_metadata_path(number)}")
                    _refuse_foreign(table, known.properties.get(DATASET_KEY), shards.dataset)
                    for snapshot in known.snapshots():
                        said = snapshot.summary.additional_properties if snapshot.summary else {}
                        if said.get(MANIFEST_KEY) == version.manifest:
                            _point(folder, number)
                            return describe(snapshot.snapshot_id, False)
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
                        DATASET_KEY: shards.dataset,
                        "gc.enabled": "false",
                        "write.metadata.metrics.default": "none",  # shards hold all domains: no statistic would prune one
                    }
                    transaction = catalog.create_table_transaction(
                        TABLE_NAME, shards.schema, location=table, properties=properties
                    )
                transaction.add_files([f"{data}/{file.path}" for file, _ in shards.files], snapshot_properties=shards.commit)
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
        return describe(written.current_snapshot().snapshot_id, True)
    raise InputError(f"{table}: other exports wrote to this table meanwhile, {EXPORT_TRIES} times; export again")


def _metadata_path(number: int) -> str:
    return f"metadata/v{number}.metadata.json"


def _newest_metadata(folder: Store) -> int:
    """The number of the table's present state; 0 where there is no table."""
    found = (re.fullmatch(r"metadata/v(\d{1,9})\.metadata\.json", path, re.ASCII) for path in folder.list("metadata"))
    return max((int(match[1]) for match in found if match), default=0)


def _point(folder: Store, number: int) -> None:
    """Tell readers which metadata file is the present one. The next export does it for a writer that died before."""
    folder.write("metadata/version-hint.text", str(number).encode())


def _shards(store: Store, manifest: Manifest, version: Version) -> _Shards:
    """The version's Parquet files of the train split. Raises InputError unless all are there, of their recorded sizes."""
    if scheme_of(store.url) == "memory":
        raise InputError("memory://…: no other program reads this process's memory; export a version on a disk or object store")
    shards = (shard for shard in list_shards(store, manifest) if shard.split == TRAIN)
    wanted = tuple((file, shard.rows) for shard in shards for file in shard.of_format("parquet"))
    if not wanted:
        raise InputError(
            f"{store.url}@v{version.number}: has no Parquet shards, which these tables are made of; build it again "
            "with parquet among the recipe's `shards.formats`"
        )
    sizes = {path: size for build in manifest.builds for path, size in store.list(f"{build}/parquet").items()}
    for file, _ in wanted:
        if sizes.get(file.path) != file.bytes:
            fault = f"has {sizes[file.path]:,} bytes, not {file.bytes:,}" if file.path in sizes else "is missing"
            raise InputError(f"{store.url}/{file.path}: {fault}; restore it from a copy or build the version again")
    path = wanted[0][0].path
    try:
        with store.open(path) as source:
            stored = pq.ParquetFile(source, pre_buffer=False).schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{store.url}/{path}: damaged Parquet file; restore it from a copy or build it again") from error
    schema = pa.schema([(field.name, _signed(field.type)) for field in stored])
    dataset = read_dataset(store).dataset
    commit = {DATASET_KEY: dataset, MANIFEST_KEY: version.manifest, "chameleon.version": f"v{version.number}",
              "chameleon.digest": version.digest}  # fmt: skip
    return _Shards(wanted, schema, dataset, commit)


def _signed(kind: pa.DataType) -> pa.DataType:
    """The type of a column of a shard in a table: unsigned integers one size wider, lists of any length, text for JSON."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(pa.field("element", _signed(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_signed(field.type)) for field in kind])
    declared = {
        pa.uint8(): pa.int32(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64(), pa.large_string(): pa.string(),
        pa.json_(): pa.string(),
    }  # fmt: skip
    return declared.get(kind, kind)


def _refuse_foreign(table: str, found: str | None, dataset: str) -> None:
    """Raise InputError unless the table is this dataset's, as its rows are replaced."""
    if found != dataset:
        whose = "another dataset" if found else "somebody else"
        raise InputError(f"{table}: a table of {whose} is there, and would be replaced; name another folder with --to")


def _package(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"export {extra}: needs the package {name}; {say_install(extra)}") from error


def _location(store: Store) -> str:
    """A folder as other programs take it: an absolute path or a URL, without a slash at the end."""
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
    """Explain OSError and these kinds of errors, without the packages' own words, which may hold a store's keys."""

    def explain(error: BaseException) -> str:
        kind = type(error).__name__
        return f"the table cannot be read or written there ({kind}); check the folder, its permissions and your credentials"

    return explaining(table, {(OSError, *kinds): explain})
