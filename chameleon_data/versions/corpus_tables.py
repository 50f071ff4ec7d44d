"""The tables of the corpus: the files that were read, and where the sampled documents lie in a picture of the embeddings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import islice

import pyarrow as pa

from chameleon_data.store.store import Store
from chameleon_data.versions.manifest import Manifest
from chameleon_data.versions.tables import TableFile, read_rows, write_rows

INPUTS_AT_ONCE = 1 << 14
"""Files that are Python objects at one time."""
INPUT_SCHEMA = pa.schema([
    *(pa.field(name, pa.string(), nullable=False) for name in ("source", "url", "format", "compression")),
    pa.field("bytes", pa.int64(), nullable=False),
    pa.field("identity", pa.string(), nullable=False),
])  # fmt: skip
MAP_SCHEMA = pa.schema([pa.field(name, pa.float64() if name in "xy" else pa.string(), nullable=False)
                        for name in ("domain", "x", "y")])  # fmt: skip


@dataclass(frozen=True)
class InputFile:
    """One file of the corpus, whole, however many tasks read it."""

    source: str
    """Name of the source in the recipe."""
    url: str
    """Absolute path, or URL."""
    format: str
    """jsonl, parquet, arrow, csv, tsv or txt."""
    compression: str
    """none, gzip, zstd, bz2 or xz, around the file as a whole."""
    bytes: int
    """Stored bytes."""
    identity: str
    """What the store says to tell one state of the file from another, such as size and time, or an ETag."""


def write_input_table(store: Store, inputs: Iterable[InputFile]) -> tuple[TableFile, ...]:
    """Write the files of the corpus."""
    names, left = [field.name for field in fields(InputFile)], iter(inputs)

    def encode() -> Iterator[pa.Table]:
        while some := list(islice(left, INPUTS_AT_ONCE)):
            yield pa.table([pa.array([getattr(f, name) for f in some], INPUT_SCHEMA.field(name).type) for name in names],
                           schema=INPUT_SCHEMA)  # fmt: skip

    return write_rows(store, encode())


def read_inputs(store: Store, manifest: Manifest, stop: int | None = None) -> Iterator[InputFile]:
    """The files of the corpus, or the first `stop` of them. Raises InputError as `read_rows` does."""
    for table in read_rows(store, manifest.tables.inputs, INPUT_SCHEMA, 0, stop):
        for at in range(0, len(table), INPUTS_AT_ONCE):
            yield from (InputFile(**row) for row in table.slice(at, INPUTS_AT_ONCE).to_pylist())


def write_map_table(store: Store, points: Mapping[str, Sequence[tuple[float, float]]]) -> tuple[TableFile, ...]:
    """Write the map of the sample: domain -> (x, y) of its documents."""
    tables = (
        pa.table([[name] * len(xy), *([float(value[axis]) for value in xy] for axis in (0, 1))], schema=MAP_SCHEMA)
        for name, xy in points.items()
    )
    return write_rows(store, tables)


def read_map(store: Store, manifest: Manifest) -> dict[str, list[tuple[float, float]]]:
    """Domain -> (x, y) of its sampled documents. Raises InputError as `read_rows` does."""
    points: dict[str, list[tuple[float, float]]] = {}
    for table in read_rows(store, manifest.tables.map, MAP_SCHEMA):
        for domain, x, y in zip(*(table[name].to_pylist() for name in MAP_SCHEMA.names), strict=True):
            points.setdefault(domain, []).append((x, y))
    return points
