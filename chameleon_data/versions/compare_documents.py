"""The documents of two versions, compared as multisets of `doc_id` for each split and domain.

A document has a rows in the first version and b in the second: min(a, b) rows are kept, max(b - a, 0) added and
max(a - b, 0) removed; the document is new where a = 0 and gone where b = 0. Where documents are packed, a row is a sequence and
counts for the document that it begins with. A shard that both versions have byte for byte is read once, and none is read where
they share all. Two columns of Parquet shards are read, and all of other formats.

Memory: 2^22 rows of 20 bytes, as much again to sort them, and four shards. Rows go to a local disk grouped by hash.
"""

from __future__ import annotations

from binascii import Error as NotHexadecimal
from binascii import unhexlify
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
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
from chameleon_data.versions.manifest import Manifest, ShardFile

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

    sides: int
    """Which versions have it: BEFORE, AFTER or both."""
    store: Store
    folder: str
    """The format's folder, with a slash at the end."""
    files: tuple[ShardFile, ...]

    @property
    def split(self) -> str:
        return self.files[0].split

    @property
    def identity(self) -> tuple[str, ...]:
        """The split and the files' hashes; two shards that are the same have the same."""
        return self.split, *(file.sha256 for file in self.files)


def count_shared_shards(before: Side, after: Side) -> SharedShards:
    """How much of two versions is the same, byte for byte."""
    sides = [shard.sides for shard in _pair_shards(before, after)]
    a, b = before[1].shards, after[1].shards
    sizes = {file.sha256: file.bytes for file in (*a, *b)}
    both = Counter(file.sha256 for file in a) & Counter(file.sha256 for file in b)
    return SharedShards(
        shared=sum(side == BEFORE | AFTER for side in sides),
        shared_bytes=sum(sizes[sha256] * count for sha256, count in both.items()),
        before=sum(bool(side & BEFORE) for side in sides),
        before_bytes=sum(file.bytes for file in a),
        after=sum(bool(side & AFTER) for side in sides),
        after_bytes=sum(file.bytes for file in b),
    )


def compare_documents(
    before: Side, after: Side, progress: Callable[[int, int], None] = lambda done, total: None
) -> tuple[DocumentChanges, ...]:
    """For each split and domain of either version, in order; without those of which neither has a row.

    `progress` is called with (shards read, shards to read). Raises InputError where a shard cannot be read.
    """
    splits = sorted({file.split for _, manifest in (before, after) for file in manifest.shards})
    names = sorted({name for _, manifest in (before, after) for name in manifest.domains}, key=str.encode)
    groups = {(split, name): number for number, (split, name) in enumerate((s, n) for s in splits for n in names)}
    totals = np.zeros((len(groups), 5), np.int64)  # (groups, counts of DocumentChanges)
    shards = _pair_shards(before, after)
    if all(shard.sides == BEFORE | AFTER for shard in shards):
        for shard in shards:
            for name, kept in shard.files[0].domain_rows.items():
                totals[groups[shard.split, name], 0] += kept
        shards = []
    with partition_by_hash(sum(shard.files[0].rows for shard in shards), ROWS_COMPARED_AT_ONCE) as partitions:
        for done, (shard, (domain, hi, lo)) in enumerate(_read_ahead(shards, names)):
            rows = np.empty(len(hi), _ROW)
            rows["hi"], rows["lo"], rows["group"] = hi, lo, 4 * (groups[shard.split, names[0]] + domain) + shard.sides
            partitions.add(rows)
            progress(done + 1, len(shards))
        for rows in partitions.read(_ROW):
            totals += _count_changes(rows, len(groups))
    changes = (DocumentChanges(name, split, *map(int, row)) for (split, name), row in zip(groups, totals, strict=True))
    return tuple(change for change in changes if change != DocumentChanges(change.domain, change.split))


def _pair_shards(before: Side, after: Side) -> list[_Shard]:
    """Every shard in one format; those that both versions have once."""
    formats = [{file.format for file in manifest.shards} for _, manifest in (before, after)]
    common = formats[0] & formats[1]
    chosen = [min(common or own, key=lambda format: (format != "parquet", format), default="") for own in formats]
    sides = []
    for side, (store, manifest), format in zip((BEFORE, AFTER), (before, after), chosen, strict=True):
        by_shard: dict[tuple[str, int], list[ShardFile]] = {}
        for file in manifest.shards:
            if file.format == format:
                by_shard.setdefault((file.split, file.shard), []).append(file)
        sides.append([_Shard(side, store, f"{manifest.build}/{format}/", tuple(files)) for files in by_shard.values()])
    both = Counter(shard.identity for shard in sides[0]) & Counter(shard.identity for shard in sides[1])
    paired = []
    for side, shards in zip((BEFORE, AFTER), sides, strict=True):
        left = both.copy()
        for shard in shards:
            shared = left[shard.identity] > 0
            left[shard.identity] -= shared
            if not shared or side == BEFORE:
                paired.append(replace(shard, sides=BEFORE | AFTER) if shared else shard)
    return paired


_Identities = tuple[I64, U64, U64]
"""(rows) domain index, and `doc_id` in two halves."""


def _read_ahead(shards: Sequence[_Shard], names: Sequence[str]) -> Iterator[tuple[_Shard, _Identities]]:
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
        stored = {part.path.removeprefix(shard.folder): store.read(part.path) for part in shard.files}
        rows, _ = FORMATS[file.format].decode(stored, path)
    domain = pc.index_in(rows["domain"], pa.array(names, pa.string())).fill_null(-1).to_numpy().astype(np.int64)
    ids = rows["doc_id"].combine_chunks().cast(pa.large_string())
    offsets = string_offsets(ids)
    try:
        if (np.diff(offsets) != 32).any() or len(domain) != file.rows or (domain < 0).any():
            raise ValueError
        digits = memoryview(ids.buffers()[2])[offsets[0] : offsets[-1]]
        halves = np.frombuffer(unhexlify(digits), ">u8").astype(np.uint64).reshape(-1, 2)
    except (ValueError, NotHexadecimal):
        raise InputError(f"{path}: its rows are not those that the manifest lists; `chameleon-data verify` says more") from None
    return domain, halves[:, 0], halves[:, 1]


def _read_two_columns(store: Store, name: str, path: str) -> pa.Table:
    try:
        with store.open(name) as source, pq.ParquetFile(source, page_checksum_verification=True) as file:
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
