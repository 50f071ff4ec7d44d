"""What changed between two versions, in terms of data: recipe, mixture, documents, shards, lineage. Of one dataset or of two.

Documents are compared as multisets of `doc_id`, for each domain: from every pair of counts (a, b) of one document, min(a, b) rows
are kept, max(b - a, 0) added and max(a - b, 0) removed; and a document is new where a = 0, gone where b = 0. A shard that both
versions have byte for byte is read once, and none is read where they share all. Of Parquet shards the two columns are read, of
others all. Where documents are packed, a row is a sequence, and counts for the document that it begins with.

Memory: 2^22 rows, 20 bytes each and as much again to sort them, and four shards that are being read. Rows go by the top bits of
their hashes into files on a local disk, 20 bytes a row; documents that are equal meet in one of them.
"""

from __future__ import annotations

import json
from binascii import Error as NotHexadecimal
from binascii import unhexlify
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from chameleon_data.arrays import string_offsets
from chameleon_data.corpus.hash_partitions import partition_by_hash
from chameleon_data.errors import InputError
from chameleon_data.shards.formats.registry import FORMATS
from chameleon_data.store.store import Store
from chameleon_data.versions.provenance import describe_provenance

ROWS_COMPARED_AT_ONCE = 2**22
"""Rows that are compared at once."""
SHARD_READERS = 4
COMPARED_COLUMNS = ["domain", "doc_id"]

Change = list[Any]
"""[before, after]; None for what is not there."""

_ROW = np.dtype([("hi", "<u8"), ("lo", "<u8"), ("group", "<u4")])
"""`group` is 4 × the index of (split, domain), and the version that has the row: BEFORE, AFTER or both."""
BEFORE, AFTER = 1, 2


@dataclass(frozen=True)
class Documents:
    """Of one domain in one split."""

    domain: str
    split: str
    kept: int = 0
    """Rows that both have."""
    added: int = 0
    removed: int = 0
    new: int = 0
    """Documents of which the first has no row."""
    gone: int = 0


@dataclass(frozen=True)
class Difference:
    recipe: dict[str, Change]
    """Dotted key -> change."""
    domains: dict[str, dict[str, Change]]
    """Domain -> weight, tokens, rows, epochs, as a pair each, changed or not."""
    documents: tuple[Documents, ...]
    shards: dict[str, int]
    """Shards, whatever number of formats each is in, and bytes of their files: `shared`, `shared_bytes` (in a format that both
    have), `before`, `before_bytes`, `after`, `after_bytes`."""
    inputs: dict[str, dict[str, int]]
    """Source -> fragments `added`, `removed`, `changed` (another identity), `same`."""
    lineage: dict[str, Change]
    """Dotted key -> change, of all but the inputs."""

    def describe(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


Side = tuple[Store, Mapping[str, Any]]
"""A version: its store and its manifest."""
Identities = tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64], npt.NDArray[np.uint64]]
"""(rows) of a shard: domain index, and the halves of `doc_id`."""


def diff_versions(before: Side, after: Side, progress: Callable[[int, int], None] = lambda done, total: None) -> Difference:
    """What one must know to go from the first version to the second. Raises InputError where a shard cannot be read."""
    (_, a), (_, b) = before, after
    origin = [{key: value for key, value in describe_provenance(m).items() if key != "inputs"} for m in (a, b)]
    return Difference(
        diff_values(a["recipe"], b["recipe"]) | _reordered(a.get("priority", []), b.get("priority", [])),
        _domains(a["domains"], b["domains"]),
        compare_documents(before, after, progress),
        _shared(before, after),
        _inputs(a["provenance"].get("inputs", []), b["provenance"].get("inputs", [])),
        diff_values(*origin),
    )


def diff_values(before: Any, after: Any) -> dict[str, Change]:
    """Dotted key -> [before, after], of the leaves of two nested mappings that differ; lists are leaves."""
    a, b = dict(_leaves(before)), dict(_leaves(after))
    return {key: [a.get(key), b.get(key)] for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key)}


def _reordered(before: list[str], after: list[str]) -> dict[str, Change]:
    """The same sources in another order: of a document that several hold, the first one's copy is kept."""
    return {"sources": [before, after]} if before != after and sorted(before) == sorted(after) else {}


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        yield prefix, value
        return
    for key, inner in value.items():
        name = json.dumps(key, ensure_ascii=False) if "." in key or '"' in key else key  # so that no two paths are spelled alike
        yield from _leaves(inner, f"{prefix}.{name}" if prefix else name)


def _domains(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, dict[str, Change]]:
    names = sorted(a.keys() | b.keys(), key=str.encode)
    return {
        name: {key: [side.get(name, {}).get(key) for side in (a, b)] for key in ("weight", "tokens", "rows", "epochs")}
        for name in names
    }


def _shared(before: Side, after: Side) -> dict[str, int]:
    shards = _shards(before, after)
    a, b = before[1]["shards"], after[1]["shards"]
    sizes = {f["sha256"]: f["bytes"] for f in (*a, *b)}
    both = Counter(f["sha256"] for f in a) & Counter(f["sha256"] for f in b)
    found = {
        "shared": sum(shard.sides == BEFORE | AFTER for shard in shards),
        "shared_bytes": sum(sizes[sha256] * count for sha256, count in both.items()),
    }
    for name, side, files in (("before", BEFORE, a), ("after", AFTER, b)):
        found[name] = sum(bool(shard.sides & side) for shard in shards)
        found[f"{name}_bytes"] = sum(f["bytes"] for f in files)
    return found


def _inputs(a: Iterable[Mapping[str, Any]], b: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    before, after = ({(f["source"], f["url"], f["row_group"]): f["identity"] for f in side} for side in (a, b))
    found: dict[str, dict[str, int]] = {}
    for fragment in sorted(before.keys() | after.keys(), key=str):
        counts = found.setdefault(fragment[0], dict.fromkeys(("added", "removed", "changed", "same"), 0))
        if fragment not in before:
            counts["added"] += 1
        elif fragment not in after:
            counts["removed"] += 1
        else:
            counts["same" if before[fragment] == after[fragment] else "changed"] += 1
    return found


# -- documents --


@dataclass(frozen=True)
class Shard:
    """In one format."""

    sides: int
    """Which versions have it: BEFORE, AFTER or both."""
    store: Store
    folder: str
    """Of the format, with a slash."""
    files: tuple[Mapping[str, Any], ...]
    """What the manifest says of each."""

    @property
    def split(self) -> str:
        return str(self.files[0].get("split", "train"))

    @property
    def identity(self) -> tuple[str, ...]:
        """The split and the files' hashes, which two shards share where they are the same."""
        return self.split, *(file["sha256"] for file in self.files)


def compare_documents(
    before: Side, after: Side, progress: Callable[[int, int], None] = lambda done, total: None
) -> tuple[Documents, ...]:
    """For each split and domain of either version, in order."""
    splits = sorted({f.get("split", "train") for _, m in (before, after) for f in m["shards"]})
    names = sorted({name for _, m in (before, after) for name in m["domains"]}, key=str.encode)
    groups = [(split, name) for split in splits for name in names]
    files = _shards(before, after)
    totals = np.zeros((len(groups), 5), np.int64)  # (groups, fields of Documents)
    unread = files
    if all(shard.sides == BEFORE | AFTER for shard in files):
        unread = []
        for shard in files:
            for name, kept in shard.files[0]["domain_rows"].items():
                totals[groups.index((shard.split, name)), 0] += kept
    rows = sum(shard.files[0]["rows"] for shard in unread)
    with partition_by_hash(rows, ROWS_COMPARED_AT_ONCE) as partitions:
        for done, (shard, (domain, hi, lo)) in enumerate(_read_all(unread, names)):
            found = np.empty(len(hi), _ROW)
            first = splits.index(shard.split) * len(names)
            found["hi"], found["lo"], found["group"] = hi, lo, 4 * (first + domain) + shard.sides
            partitions.add(found)
            progress(done + 1, len(unread))
        for range_of_rows in partitions.read(_ROW):
            totals += _counted(range_of_rows, len(groups))
    documents = (Documents(name, split, *map(int, row)) for (split, name), row in zip(groups, totals, strict=True))
    return tuple(d for d in documents if d != Documents(d.domain, d.split))


def _shards(before: Side, after: Side) -> list[Shard]:
    """Every shard in one format; those that both versions have once."""
    formats = [{f["format"] for f in manifest["shards"]} for _, manifest in (before, after)]
    common = formats[0] & formats[1]
    chosen = [min(common or of, key=lambda format: (format != "parquet", format), default="") for of in formats]
    sides = []
    for side, (store, manifest), format in zip((BEFORE, AFTER), (before, after), chosen, strict=True):
        by_shard: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
        for file in manifest["shards"]:
            if file["format"] == format:
                by_shard.setdefault((file.get("split", "train"), file["shard"]), []).append(file)
        sides.append([Shard(side, store, f"{manifest['build']}/{format}/", tuple(files)) for files in by_shard.values()])
    both = Counter(shard.identity for shard in sides[0]) & Counter(shard.identity for shard in sides[1])
    found = []
    for side, shards in zip((BEFORE, AFTER), sides, strict=True):
        left = both.copy()
        for shard in shards:
            shared = left[shard.identity] > 0
            left[shard.identity] -= shared
            if not shared or side == BEFORE:
                found.append(replace(shard, sides=BEFORE | AFTER) if shared else shard)
    return found


def _read_all(shards: Sequence[Shard], names: Sequence[str]) -> Iterator[tuple[Shard, Identities]]:
    """Each shard with (rows) domain index, and the halves of the hash; in order, some of them ahead."""
    ahead: deque[Any] = deque()
    with ThreadPoolExecutor(SHARD_READERS) as pool:
        for shard in shards:
            ahead.append((shard, pool.submit(_identities, shard, names)))
            if len(ahead) > SHARD_READERS:
                of, reading = ahead.popleft()
                yield of, reading.result()
        for of, reading in ahead:
            yield of, reading.result()


def _identities(shard: Shard, names: Sequence[str]) -> Identities:
    store, file = shard.store, shard.files[0]
    path = f"{store.url.rstrip('/')}/{file['path']}"
    if file["format"] == "parquet":
        table = _two_columns(store, file["path"], path)
    else:
        stored = {f["path"].removeprefix(shard.folder): store.read(f["path"]) for f in shard.files}
        table, _ = FORMATS[file["format"]].decode(stored, path)
    domain = pc.index_in(table["domain"], pa.array(names, pa.string())).fill_null(-1).to_numpy().astype(np.int64)
    ids = table["doc_id"].combine_chunks().cast(pa.large_string())
    offsets = string_offsets(ids)
    try:
        if (np.diff(offsets) != 32).any() or len(domain) != file["rows"] or (domain < 0).any():
            raise ValueError
        digits = memoryview(ids.buffers()[2])[offsets[0] : offsets[-1]]
        halves = np.frombuffer(unhexlify(digits), ">u8").astype(np.uint64).reshape(-1, 2)
    except (ValueError, NotHexadecimal):
        raise InputError(f"{path}: its rows are not those that the manifest tells of; 'verify' says more") from None
    return domain, halves[:, 0], halves[:, 1]


def _two_columns(store: Store, name: str, path: str) -> pa.Table:
    try:
        with store.open(name) as source, pq.ParquetFile(source, page_checksum_verification=True) as file:
            schema: Any = file.schema_arrow
            if any(column not in schema.names or schema.field(column).type != pa.string() for column in COMPARED_COLUMNS):
                raise InputError(f"{path}: this is not a shard of ours, its columns are {schema.names}; restore it from a copy")
            return file.read(COMPARED_COLUMNS, use_threads=False)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: damaged Parquet file ({error}); restore it from a copy or build it again") from error


def _counted(rows: npt.NDArray[Any], groups: int) -> npt.NDArray[np.int64]:
    """(groups, fields of Documents) of rows that hold every copy of their documents."""
    side, group = (rows["group"] & 3).astype(np.int64), (rows["group"] >> 2).astype(np.int64)
    order = np.lexsort((rows["lo"], rows["hi"], group))
    hi, lo, group, side = rows["hi"][order], rows["lo"][order], group[order], side[order]
    starts = np.flatnonzero(np.append(True, (np.diff(hi) != 0) | (np.diff(lo) != 0) | (np.diff(group) != 0)))
    before, after = np.add.reduceat(side & 1, starts), np.add.reduceat(side >> 1, starts)
    fields = (np.minimum(before, after), np.maximum(after - before, 0), np.maximum(before - after, 0), before == 0, after == 0)
    return np.stack([np.bincount(group[starts], weights=field, minlength=groups) for field in fields], axis=1).astype(np.int64)
