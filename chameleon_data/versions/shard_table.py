"""The table of shards: one row for each, with its counts, its content hash and its files. By split, then by number.

    split  shard  rows  tokens  content  domain_ids  domain_rows  domain_tokens  files [path, format, bytes, sha256]

The domains of a shard are lists, of those that have rows in it; `domain_ids` are the numbers that the manifest gives them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from chameleon_data.errors import InputError
from chameleon_data.store.store import Store
from chameleon_data.versions.manifest import FormatSum, Manifest
from chameleon_data.versions.tables import TableFile, read_rows, write_rows

SHARDS_AT_ONCE = 1024
"""Shards that are Python objects at one time."""
SHARDS_LISTED = 10_000
"""Most shards that `show --json` lists; of more it gives the paths of their table."""


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


def _list_of(kind: pa.DataType) -> pa.DataType:
    return pa.list_(_required("element", kind))


FILE_TYPE = pa.struct([_required(name, pa.int64() if name == "bytes" else pa.string()) for name in
                       ("path", "format", "bytes", "sha256")])  # fmt: skip
LINE_TYPE = pa.large_string()
SHARD_SCHEMA = pa.schema([
    _required("split", pa.string()), _required("shard", pa.int64()), _required("rows", pa.int64()),
    _required("tokens", pa.int64()), _required("content", pa.string()), _required("domain_ids", _list_of(pa.int32())),
    _required("domain_rows", _list_of(pa.int64())), _required("domain_tokens", _list_of(pa.int64())),
    _required("files", _list_of(FILE_TYPE)),
])  # fmt: skip


@dataclass(frozen=True)
class ShardFile:
    """One file of a shard."""

    path: str
    """Relative to `out`."""
    format: str
    """Name of the format, as in the recipe."""
    bytes: int
    """Size of this file."""
    sha256: str
    """sha256 of this file, in hexadecimal."""

    @property
    def path_in_build(self) -> str:
        """Relative to its build's folder, `builds/<digest>`. No two files of a version have the same."""
        return "/".join(self.path.split("/")[2:])

    @property
    def path_in_format(self) -> str:
        """Relative to the folder of its format."""
        return self.path_in_build.removeprefix(f"{self.format}/")

    @property
    def format_folder(self) -> str:
        """Folder of its format, relative to `out`."""
        return self.path.removesuffix(f"/{self.path_in_format}")


@dataclass(frozen=True)
class ShardRecord:
    """One shard. It has at least one file in each format."""

    split: str
    """`train` or `validation`."""
    shard: int
    """Number of the shard in its split, from 0."""
    rows: int
    tokens: int
    content: str
    """Hash of its rows in order, whatever the formats (`rows.content_hash`)."""
    domain_rows: dict[str, int]
    """Domain -> rows; a domain without rows has no key. Likewise below."""
    domain_tokens: dict[str, int]
    files: tuple[ShardFile, ...]
    """In the recipe's order of formats."""

    @property
    def bytes(self) -> int:
        """Bytes of all its files."""
        return sum(file.bytes for file in self.files)

    def of_format(self, format: str) -> tuple[ShardFile, ...]:
        """Its files in one format."""
        return tuple(file for file in self.files if file.format == format)


@dataclass(frozen=True)
class ShardSums:
    """What a manifest says of all shards together."""

    digest: str
    """sha256 over the sorted lines of path in the build's folder and sha256 of each file."""
    content: str
    """sha256 over the shards' content hashes in order: it depends on the documents and their order, and on nothing of the
    files."""
    formats: dict[str, FormatSum]
    """Format -> its files."""


def sum_shards(tables: Iterable[pa.Table], folder: str) -> ShardSums:
    """The sums over a table of shards, which comes in pieces; `folder` is a build's, and those of others are as long.

    Memory: the lines of `digest`, some 120 bytes a file, and the same again to sort them.
    """
    content, lines, first = hashlib.sha256(), list[pa.Array](), True
    formats: dict[str, FormatSum] = {}
    for table in tables:
        for hash in table["content"].to_pylist():
            content.update(hash.encode() if first else f"\n{hash}".encode())
            first = False
        files = pc.list_flatten(table["files"]).combine_chunks()
        path, form, size, sum_ = (pc.struct_field(files, name) for name in FILE_TYPE.names)
        within = pc.utf8_slice_codeunits(path, len(folder) + 1)
        lines.append(pc.cast(pc.binary_join_element_wise(within, pc.binary_join_element_wise(sum_, "", "\n"), "\0"), LINE_TYPE))
        for count in pc.value_counts(form).to_pylist():
            before, held = formats.get(count["values"], FormatSum(0, 0)), pc.equal(form, count["values"])
            size_of_format = pc.sum(size.filter(held)).as_py()
            formats[count["values"]] = FormatSum(before.files + count["counts"], before.bytes + size_of_format)
    joined = pa.concat_arrays([pa.array([], LINE_TYPE), *lines])
    ordered = joined.take(pc.array_sort_indices(joined))
    return ShardSums(hashlib.sha256(ordered.buffers()[2] or b"").hexdigest(), content.hexdigest(), formats)


def write_shard_table(store: Store, shards: Iterable[ShardRecord], domain_ids: Mapping[str, int]) -> tuple[TableFile, ...]:
    """Write the shards, which come by split and number; `domain_ids` are the manifest's."""
    return write_rows(store, _encode(iter(shards), domain_ids))


def _encode(shards: Iterator[ShardRecord], domain_ids: Mapping[str, int]) -> Iterator[pa.Table]:
    while some := list(islice(shards, SHARDS_AT_ONCE)):
        columns: list[list[Any]] = [
            [s.split for s in some], [s.shard for s in some], [s.rows for s in some], [s.tokens for s in some],
            [s.content for s in some], [[domain_ids[name] for name in s.domain_rows] for s in some],
            [list(s.domain_rows.values()) for s in some], [[s.domain_tokens[name] for name in s.domain_rows] for s in some],
            [[vars(file) for file in s.files] for s in some],
        ]  # fmt: skip
        yield pa.table([pa.array(c, f.type) for c, f in zip(columns, SHARD_SCHEMA, strict=True)], schema=SHARD_SCHEMA)


def read_shard_rows(store: Store, manifest: Manifest, start: int = 0, stop: int | None = None) -> Iterator[pa.Table]:
    """The rows of shards `start` to `stop`, numbered through all splits, as tables of SHARD_SCHEMA.

    Raises InputError as `read_rows` does, and where the lists of a shard do not belong together.
    """
    numbers = np.array(sorted(manifest.domain_ids.values()))
    for table in read_rows(store, manifest.tables.shards, SHARD_SCHEMA, start, stop):
        lists = [table[name] for name in ("domain_ids", "domain_rows", "domain_tokens")]
        ids = np.unique(pc.list_flatten(lists[0]).to_numpy())
        lengths = [pc.list_value_length(column).to_numpy() for column in lists]
        if not np.isin(ids, numbers).all() or any((other != lengths[0]).any() for other in lengths[1:]):
            raise InputError(
                f"{store.url}: the table of shards names a domain that the manifest does not number, or its counts lack some; "
                "restore the version from a copy"
            )
        yield table


def read_shards(store: Store, manifest: Manifest, start: int = 0, stop: int | None = None) -> Iterator[ShardRecord]:
    """The shards `start` to `stop`, numbered through all splits, one after the other. Raises InputError as `read_rows` does."""
    names = {number: name for name, number in manifest.domain_ids.items()}
    for table in read_shard_rows(store, manifest, start, stop):
        for at in range(0, len(table), SHARDS_AT_ONCE):
            yield from (_decode(row, names) for row in table.slice(at, SHARDS_AT_ONCE).to_pylist())


def sample_shards(store: Store, manifest: Manifest, split: str, most: int) -> tuple[ShardRecord, ...]:
    """All shards of a split, or `most` of them at equal distances, in order."""
    counts = manifest.shard_counts
    first, count = sum(counts[other] for other in list(counts)[: list(counts).index(split)]), counts[split]
    wanted = {count * number // min(count, most) for number in range(min(count, most))}
    names, sample, at = {number: name for name, number in manifest.domain_ids.items()}, list[ShardRecord](), 0
    for table in read_shard_rows(store, manifest, first, first + count):
        here = pa.array([number - at for number in sorted(wanted) if at <= number < at + len(table)], pa.int64())
        rows = table.take(here)
        sample += [_decode(row, names) for row in rows.to_pylist()]
        at += len(table)
    return tuple(sample)


def _decode(row: dict[str, Any], names: Mapping[int, str]) -> ShardRecord:
    ids, files = row.pop("domain_ids"), tuple(ShardFile(**file) for file in row.pop("files"))
    counts = row.pop("domain_rows"), row.pop("domain_tokens")
    domains = [names[number] for number in ids]
    rows, tokens = (dict(zip(domains, count, strict=True)) for count in counts)
    return ShardRecord(**row, domain_rows=rows, domain_tokens=tokens, files=files)


def describe_shards(store: Store, manifest: Manifest) -> list[dict[str, Any]] | list[str]:
    """Every file of every shard as plain JSON: by format in the recipe's order, then by split, then by shard. Above
    SHARDS_LISTED shards, the paths of the table's files."""
    if sum(manifest.shard_counts.values()) > SHARDS_LISTED:
        return [file.path for file in manifest.tables.shards]
    shards = list(read_shards(store, manifest))
    return [
        {
            "path": file.path, "format": format, "split": s.split, "shard": s.shard, "rows": s.rows, "tokens": s.tokens,
            "bytes": file.bytes, "sha256": file.sha256, "domain_tokens": s.domain_tokens, "domain_rows": s.domain_rows,
        }
        for format in manifest.recipe.shards.formats
        for s in shards
        for file in s.of_format(format)
    ]  # fmt: skip
