"""The tables of shards: two, with one row for each shard in both, by split, then by number.

    shards           split  shard  rows  tokens  content  files [path, format, bytes, sha256]
    shard_domains    domain_ids  domain_rows  domain_tokens

The domains of a shard are lists, of those that have rows in it; `domain_ids` are the numbers that the manifest gives them. They
lie in a table of their own, as they are as many as shards times domains, and only tasks read all of them.
Why: docs/decisions/162-counts-by-domain.md.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from chameleon_data.errors import InputError
from chameleon_data.store.store import Store
from chameleon_data.versions.manifest import FormatSum, Manifest
from chameleon_data.versions.tables import read_rows, take_rows

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
SHARD_SCHEMA = pa.schema([
    _required("split", pa.string()), _required("shard", pa.int64()), _required("rows", pa.int64()),
    _required("tokens", pa.int64()), _required("content", pa.string()), _required("files", _list_of(FILE_TYPE)),
])  # fmt: skip
DOMAIN_SCHEMA = pa.schema([
    _required("domain_ids", _list_of(pa.int32())), _required("domain_rows", _list_of(pa.int64())),
    _required("domain_tokens", _list_of(pa.int64())),
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
class ListedShard:
    """One shard. It has at least one file in each format."""

    split: str
    """`train` or `validation`."""
    shard: int
    """Number of the shard in its split, from 0."""
    rows: int
    tokens: int
    content: str
    """Hash of its rows in order, whatever the formats (`rows.content_hash`)."""
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
class ShardRecord(ListedShard):
    """One shard, and what it holds of each domain."""

    domain_rows: dict[str, int]
    """Domain -> rows; a domain without rows has no key. Likewise below."""
    domain_tokens: dict[str, int]


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


def sum_shards(read: Callable[[], Iterable[pa.Table]], folder: str) -> ShardSums:
    """The sums over a table of shards, which `read` gives in pieces; `folder` is a build's, and those of others are as long.

    Memory: a piece of the table for each format. The table is read once, and then once for each format and length of its paths:
    of one length, names ascend with the shards.
    """
    content, first, formats, lengths = hashlib.sha256(), True, dict[str, FormatSum](), set[tuple[str, int]]()
    for table in read():
        for hash in table["content"].to_pylist():
            content.update(hash.encode() if first else f"\n{hash}".encode())
            first = False
        path, form, size, _ = _file_columns(table)
        for count in pc.value_counts(form).to_pylist():
            name = count["values"]
            before, held = formats.get(name, FormatSum(0, 0)), pc.equal(form, name)
            formats[name] = FormatSum(before.files + count["counts"], before.bytes + pc.sum(size.filter(held)).as_py())
            lengths |= {(name, length) for length in pc.unique(pc.utf8_length(path.filter(held))).to_pylist()}
    digest = hashlib.sha256()
    for line in heapq.merge(*(_lines(read, folder, *which) for which in sorted(lengths))):
        digest.update(line.encode())
    return ShardSums(digest.hexdigest(), content.hexdigest(), formats)


def _file_columns(table: pa.Table) -> tuple[pa.Array, ...]:
    files = pc.list_flatten(table["files"]).combine_chunks()
    return tuple(pc.struct_field(files, name) for name in FILE_TYPE.names)


def _lines(read: Callable[[], Iterable[pa.Table]], folder: str, format: str, length: int) -> Iterator[str]:
    """The lines of `digest` on the files of a format whose paths are so long, in the order of the table."""
    for table in read():
        path, form, _, sums = _file_columns(table)
        held = pc.and_(pc.equal(form, format), pc.equal(pc.utf8_length(path), length))
        within, sums = pc.utf8_slice_codeunits(path.filter(held), len(folder) + 1), sums.filter(held)
        yield from sorted(f"{name}\0{sum_}\n" for name, sum_ in zip(within.to_pylist(), sums.to_pylist(), strict=True))


def read_shard_rows(store: Store, manifest: Manifest, start: int = 0, stop: int | None = None) -> Iterator[pa.Table]:
    """The rows of shards `start` to `stop`, numbered through all splits, as tables of SHARD_SCHEMA. Raises InputError as
    `read_rows` does."""
    return read_rows(store, manifest.tables.shards, SHARD_SCHEMA, start, stop)


def read_domain_rows(store: Store, manifest: Manifest, start: int = 0, stop: int | None = None) -> Iterator[pa.Table]:
    """What shards `start` to `stop` hold of each domain, as tables of DOMAIN_SCHEMA.

    Raises InputError as `read_rows` does, and where the lists of a shard do not belong together.
    """
    for table in read_rows(store, manifest.tables.shard_domains, DOMAIN_SCHEMA, start, stop):
        yield _checked(store, manifest, table)


def _checked(store: Store, manifest: Manifest, table: pa.Table) -> pa.Table:
    ids = np.unique(pc.list_flatten(table["domain_ids"]).to_numpy())
    lengths = [pc.list_value_length(column).to_numpy() for column in table.columns]
    if not np.isin(ids, list(manifest.domain_ids.values())).all() or any((other != lengths[0]).any() for other in lengths[1:]):
        raise InputError(
            f"{store.url}: the table of shards names a domain that the manifest does not number, or its counts lack some; "
            "restore the version from a copy"
        )
    return table


def list_shards(store: Store, manifest: Manifest, start: int = 0, stop: int | None = None) -> Iterator[ListedShard]:
    """The shards `start` to `stop`, numbered through all splits, one after the other. Raises InputError as `read_rows` does."""
    for table in read_shard_rows(store, manifest, start, stop):
        for at in range(0, len(table), SHARDS_AT_ONCE):
            yield from (ListedShard(**_with_files(row)) for row in table.slice(at, SHARDS_AT_ONCE).to_pylist())


def read_shards(store: Store, manifest: Manifest, start: int = 0, stop: int | None = None) -> Iterator[ShardRecord]:
    """`list_shards`, with what each holds of each domain. Raises InputError as `read_domain_rows` does."""
    names = {number: name for name, number in manifest.domain_ids.items()}
    for rows, domains in read_both_tables(store, manifest, start, stop):
        for row, lists in zip(rows.to_pylist(), domains.to_pylist(), strict=True):
            yield _decode(row, lists, names)


def read_both_tables(
    store: Store, manifest: Manifest, start: int = 0, stop: int | None = None
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """The rows of some shards, as `read_shard_rows` and `read_domain_rows` give them, SHARDS_AT_ONCE at most. Raises InputError
    as they do, and where the tables do not have as many rows."""
    shards, domains = read_shard_rows(store, manifest, start, stop), read_domain_rows(store, manifest, start, stop)
    one, other = next(shards, None), next(domains, None)
    while one is not None and other is not None:
        rows = min(SHARDS_AT_ONCE, len(one), len(other))
        yield one.slice(0, rows), other.slice(0, rows)
        one = one.slice(rows) if len(one) > rows else next(shards, None)
        other = other.slice(rows) if len(other) > rows else next(domains, None)
    if one is not None or other is not None:
        raise InputError(f"{store.url}: the tables of shards and of their domains do not have as many rows; restore the version "
                         "from a copy")  # fmt: skip


def sample_shards(store: Store, manifest: Manifest, split: str, most: int) -> tuple[ShardRecord, ...]:
    """All shards of a split, or `most` of them at equal distances, in order."""
    counts = manifest.shard_counts
    first, count = sum(counts[other] for other in list(counts)[: list(counts).index(split)]), counts[split]
    wanted = [first + count * number // min(count, most) for number in range(min(count, most))]
    rows = take_rows(store, manifest.tables.shards, SHARD_SCHEMA, wanted)
    domains = _checked(store, manifest, take_rows(store, manifest.tables.shard_domains, DOMAIN_SCHEMA, wanted))
    names = {number: name for name, number in manifest.domain_ids.items()}
    return tuple(_decode(row, lists, names) for row, lists in zip(rows.to_pylist(), domains.to_pylist(), strict=True))


def _with_files(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "files": tuple(ShardFile(**file) for file in row["files"])}


def _decode(row: dict[str, Any], lists: Mapping[str, list[int]], names: Mapping[int, str]) -> ShardRecord:
    domains = [names[number] for number in lists["domain_ids"]]
    rows, tokens = (dict(zip(domains, lists[name], strict=True)) for name in ("domain_rows", "domain_tokens"))
    return ShardRecord(**_with_files(row), domain_rows=rows, domain_tokens=tokens)


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
