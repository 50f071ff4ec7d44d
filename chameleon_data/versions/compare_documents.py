"""The documents of two versions, compared as multisets of `doc_id` for each split and domain.

A document has a rows in the first version and b in the second: min(a, b) rows are kept, max(b - a, 0) added and
max(a - b, 0) removed; the document is new where a = 0 and gone where b = 0. Where documents are packed, a row is a sequence and
counts for the document that it begins with. A shard that both versions have byte for byte is read once, and none is read where
they share all. Two columns of Parquet shards are read, and all of other formats.

Memory: 2^22 rows of 20 bytes, as much again to sort them, four shards, and some 300 bytes for each file of a shard. Rows go to a
local disk grouped by hash.
"""

from __future__ import annotations

import hashlib
from binascii import Error as NotHexadecimal
from binascii import unhexlify
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from chameleon_data.arrays import I64, U64, string_offsets
from chameleon_data.corpus.hash_partitions import partition_by_hash
from chameleon_data.errors import InputError
from chameleon_data.shards.formats.registry import FORMATS
from chameleon_data.store.store import Store
from chameleon_data.versions.manifest import Manifest
from chameleon_data.versions.shard_table import ListedShard, ShardFile, list_shards, read_both_tables, read_shard_rows

ROWS_COMPARED_AT_ONCE = 2**22
SHARDS_READ_AT_ONCE = 4
COMPARED_COLUMNS = ["domain", "doc_id"]

Side = tuple[Store, Manifest]
"""A version: its store and its manifest."""
_ROW = np.dtype([("hi", "<u8"), ("lo", "<u8"), ("group", "<u4")])
"""`group` is 4 × the index of (split, domain), and the version that has the row: BEFORE, AFTER or both."""
BEFORE, AFTER = 1, 2


@dataclass(frozen=True)
class DocumentChanges:
    """What became of the documents of one domain in one split."""

    domain: str
    split: str
    kept: int = 0
    """Rows that both versions have."""
    added: int = 0
    """Rows that only the second has."""
    removed: int = 0
    """Rows that only the first has."""
    new: int = 0
    """Documents of which the first has no row."""
    gone: int = 0
    """Documents of which the second has no row."""


@dataclass(frozen=True)
class SharedShards:
    """Shards, however many formats each is in, and bytes of all their files."""

    shared: int
    """Shards that both versions have, byte for byte, in a format that both have."""
    shared_bytes: int
    """Bytes of the files that both versions have."""
    before: int
    """Shards of the first version."""
    before_bytes: int
    after: int
    """Shards of the second version."""
    after_bytes: int


@dataclass(frozen=True)
class _Shard:
    """A shard in the format that is compared."""

    record: ListedShard
    sides: int
    """Which versions have it: BEFORE, AFTER or both."""
    store: Store
    files: tuple[ShardFile, ...]


@dataclass(frozen=True)
class _Pairing:
    """Which shards two versions share. Sixteen bytes of hashes stand for a shard or a file."""

    formats: tuple[str, str]
    """The format in which each version is compared."""
    shards: tuple[Counter[bytes], Counter[bytes]]
    """How often each has a shard."""
    files: tuple[Counter[bytes], Counter[bytes]]
    """How often each has a file, in any format."""
    sizes: dict[bytes, int]
    """Bytes of the files of both."""
    splits: set[str]
    """Of all shards."""
    rows: int
    """Rows of the shards of both."""

    @property
    def both(self) -> Counter[bytes]:
        """How often both have a shard."""
        return self.shards[0] & self.shards[1]


def count_shared_shards(before: Side, after: Side) -> SharedShards:
    """How much of two versions is the same, byte for byte."""
    pairing = _pair(before, after)
    shared = pairing.files[0] & pairing.files[1]
    sizes = [sum(pairing.sizes[file] * count for file, count in files.items()) for files in (shared, *pairing.files)]
    shards = [counter.total() for counter in (pairing.both, *pairing.shards)]
    return SharedShards(shards[0], sizes[0], shards[1], sizes[1], shards[2], sizes[2])


def compare_documents(
    before: Side, after: Side, progress: Callable[[int, int], None] = lambda done, total: None
) -> tuple[DocumentChanges, ...]:
    """Compare the documents of each split and domain of either version, in order, where either has a row.

    `progress` is called with (shards read, shards to read). Raises InputError where a shard cannot be read.
    """
    pairing = _pair(before, after)
    splits = sorted(pairing.splits)
    names = sorted({name for _, manifest in (before, after) for name in manifest.domains}, key=str.encode)
    groups = {(split, name): number for number, (split, name) in enumerate((s, n) for s in splits for n in names)}
    totals = np.zeros((len(groups), 5), np.int64)  # (groups, counts of DocumentChanges)
    total = (pairing.shards[0] | pairing.shards[1]).total()
    to_read: Iterable[_Shard] = _list_shards(before, after, pairing)
    if pairing.shards[0] == pairing.shards[1]:
        _count_kept(before, groups, totals)
        to_read = ()
    with partition_by_hash(pairing.rows, ROWS_COMPARED_AT_ONCE) as partitions:
        for done, (shard, (domain, hi, lo)) in enumerate(_read_ahead(to_read, names)):
            rows = np.empty(len(hi), _ROW)
            group = groups[shard.record.split, names[0]] + domain
            rows["hi"], rows["lo"], rows["group"] = hi, lo, 4 * group + shard.sides
            partitions.add(rows)
            progress(done + 1, total)
        for rows in partitions.read(_ROW):
            totals += _count_changes(rows, len(groups))
    changes = (DocumentChanges(name, split, *map(int, row)) for (split, name), row in zip(groups, totals, strict=True))
    return tuple(change for change in changes if change != DocumentChanges(change.domain, change.split))


def _identify(split: str, hashes: Sequence[str]) -> bytes:
    """Two shards that are the same have the same split and files of the same sha256."""
    return hashlib.sha256("\0".join((split, *hashes)).encode()).digest()[:16]


def _count_kept(side: Side, groups: Mapping[tuple[str, str], int], totals: I64) -> None:
    """Where both versions have every shard, all rows are kept, as many as the tables of shards say."""
    store, manifest = side
    of_domain = {split: np.full(max(manifest.domain_ids.values()) + 1, -1, np.int64) for split, _ in groups}
    for (split, name), group in groups.items():
        if name in manifest.domain_ids:
            of_domain[split][manifest.domain_ids[name]] = group
    for shards, domains in read_both_tables(store, manifest):
        for split, group_of in of_domain.items():
            of_split = domains.filter(pc.equal(shards["split"], split))
            ids, rows = (pc.list_flatten(of_split[name]).to_numpy() for name in ("domain_ids", "domain_rows"))
            known = group_of[ids] >= 0
            np.add.at(totals[:, 0], group_of[ids][known], rows[known])


def _list_hashes(store: Store, manifest: Manifest) -> Iterator[tuple[str, int, list[tuple[str, str, int]]]]:
    """Yield each shard's split and rows, with format, sha256 and bytes of each of its files."""
    for table in read_shard_rows(store, manifest):
        files = pc.list_flatten(table["files"])
        facts = list(zip(*(pc.struct_field(files, name).to_pylist() for name in ("format", "sha256", "bytes")), strict=True))
        ends = np.cumsum(pc.list_value_length(table["files"]).to_numpy()).tolist()
        begins = [0, *ends[:-1]]
        for split, rows, begin, end in zip(table["split"].to_pylist(), table["rows"].to_pylist(), begins, ends, strict=True):
            yield split, rows, facts[begin:end]


def _pair(before: Side, after: Side) -> _Pairing:
    """Which shards are the same, in a format that both versions have where there is one."""
    written = [set(manifest.formats) for _, manifest in (before, after)]
    common = written[0] & written[1]
    one, other = (min(common or own, key=lambda format: (format != "parquet", format), default="") for own in written)
    pairing = _Pairing((one, other), (Counter(), Counter()), (Counter(), Counter()), {}, set(), 0)
    rows = 0
    for side, format, shards, files in zip((before, after), pairing.formats, pairing.shards, pairing.files, strict=True):
        for split, count, facts in _list_hashes(*side):
            rows += count
            pairing.splits.add(split)
            if hashes := [sha256 for name, sha256, _ in facts if name == format]:
                shards[_identify(split, hashes)] += 1
            for _, sha256, size in facts:
                key = bytes.fromhex(sha256)[:16]
                files[key] += 1
                pairing.sizes[key] = size
    return replace(pairing, rows=rows)


def _list_shards(before: Side, after: Side, pairing: _Pairing) -> Iterator[_Shard]:
    """Every shard in one format; those that both versions have once."""
    for side, (store, manifest), format in zip((BEFORE, AFTER), (before, after), pairing.formats, strict=True):
        left = pairing.both
        for record in list_shards(store, manifest):
            if not (files := record.of_format(format)):
                continue
            shared = left[identity := _identify(record.split, [file.sha256 for file in files])] > 0
            left[identity] -= shared
            if not shared or side == BEFORE:
                yield _Shard(record, BEFORE | AFTER if shared else side, store, files)


_Identities = tuple[I64, U64, U64]
"""(rows) domain index, and `doc_id` in two halves."""


def _read_ahead(shards: Iterable[_Shard], names: Sequence[str]) -> Iterator[tuple[_Shard, _Identities]]:
    """Each shard with its rows, in order, while the next ones are being read."""
    ahead: deque[tuple[_Shard, Future[_Identities]]] = deque()
    with ThreadPoolExecutor(SHARDS_READ_AT_ONCE) as pool:
        for shard in shards:
            ahead.append((shard, pool.submit(_read_identities, shard, names)))
            if len(ahead) > SHARDS_READ_AT_ONCE:
                first, reading = ahead.popleft()
                yield first, reading.result()
        for first, reading in ahead:
            yield first, reading.result()


def _read_identities(shard: _Shard, names: Sequence[str]) -> _Identities:
    store, file = shard.store, shard.files[0]
    path = f"{store.url.rstrip('/')}/{file.path}"
    if file.format == "parquet":
        rows = _read_two_columns(store, file.path, path)
    else:
        stored = {part.path_in_format: store.read(part.path) for part in shard.files}
        rows, _ = FORMATS[file.format].decode(stored, path)
    domain = pc.index_in(rows["domain"], pa.array(names, pa.string())).fill_null(-1).to_numpy().astype(np.int64)
    ids = rows["doc_id"].combine_chunks().cast(pa.large_string())
    offsets = string_offsets(ids)
    try:
        if (np.diff(offsets) != 32).any() or len(domain) != shard.record.rows or (domain < 0).any():
            raise ValueError
        digits = memoryview(ids.buffers()[2])[offsets[0] : offsets[-1]]
        halves = np.frombuffer(unhexlify(digits), ">u8").astype(np.uint64).reshape(-1, 2)
    except (ValueError, NotHexadecimal):
        raise InputError(f"{path}: its rows are not those that the manifest lists; `chameleon-data verify` says more") from None
    return domain, halves[:, 0], halves[:, 1]


def _read_two_columns(store: Store, name: str, path: str) -> pa.Table:
    try:
        with store.open(name) as source, pq.ParquetFile(source, pre_buffer=False, page_checksum_verification=True) as file:
            schema: Any = file.schema_arrow
            if any(column not in schema.names or schema.field(column).type != pa.string() for column in COMPARED_COLUMNS):
                raise InputError(f"{path}: this is not a shard of ours, its columns are {schema.names}; restore it from a copy")
            return file.read(COMPARED_COLUMNS, use_threads=False)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: damaged Parquet file ({error}); restore it from a copy or build it again") from error


def _count_changes(rows: npt.NDArray[Any], groups: int) -> npt.NDArray[np.int64]:
    """(groups, counts of DocumentChanges) of rows that hold every copy of their documents."""
    side, group = (rows["group"] & 3).astype(np.int64), (rows["group"] >> 2).astype(np.int64)
    order = np.lexsort((rows["lo"], rows["hi"], group))
    hi, lo, group, side = rows["hi"][order], rows["lo"][order], group[order], side[order]
    starts = np.flatnonzero(np.append(True, (np.diff(hi) != 0) | (np.diff(lo) != 0) | (np.diff(group) != 0)))
    before, after = np.add.reduceat(side & 1, starts), np.add.reduceat(side >> 1, starts)
    counts = (np.minimum(before, after), np.maximum(after - before, 0), np.maximum(before - after, 0), before == 0, after == 0)
    return np.stack([np.bincount(group[starts], weights=count, minlength=groups) for count in counts], axis=1).astype(np.int64)
