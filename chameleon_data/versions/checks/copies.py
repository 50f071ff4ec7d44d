"""Copies: with `input.dedup`, no document stands twice in the first epoch, in its domain or in all of them.

The rule is that of `selection.find_copies`. Later epochs hold the documents of the first one, which `text_order.py` proves, and
equal texts lie in one split. The documents go to files grouped by the top bits of their hash: each stretch of shards writes its
own, and a group of hashes is read from all of them. Memory: 2^22 rows of 28 bytes while they are written, one group to read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xxhash

from chameleon_data.arrays import I64, U64
from chameleon_data.corpus.hash_partitions import DEDUP_ROWS_AT_ONCE, HashedRows, select_repeated_hashes
from chameleon_data.errors import InputError
from chameleon_data.hashing import hex_digests
from chameleon_data.store.store import Store
from chameleon_data.versions.manifest import Manifest

_DOCUMENT = np.dtype([("lo", "<u8"), ("hi", "<u8"), ("size", "<i8"), ("domain", "<i4")])
"""`size` is in bytes, or in tokens where the rows do not hold their text."""
DOCUMENTS_BUFFERED = 1 << 22


@dataclass(frozen=True)
class HashedFile:
    """A file of documents, sorted by group of hashes."""

    path: str
    ends: tuple[int, ...]
    """Group -> byte at which it ends; it begins where the one before ends."""
    sums: tuple[int, ...]
    """Group -> xxh3 of its bytes."""


def count_hash_bits(manifest: Manifest) -> int:
    """log2 of the groups of hashes, so that a group holds some DEDUP_ROWS_AT_ONCE documents."""
    documents = sum(domain.rows_written_once for domain in manifest.domains.values())
    return max(0, (documents - 1) // DEDUP_ROWS_AT_ONCE).bit_length()


class DocumentFiles:
    """Writes the documents of a stretch of shards."""

    def __init__(self, scratch: Store, prefix: str, bits: int) -> None:
        self._scratch, self._prefix, self._bits = scratch, prefix, bits
        self._held, self._rows = list[HashedRows](), 0
        self.files: list[HashedFile] = []

    def add(self, domain: I64, hi: U64, lo: U64, size: I64) -> None:
        """(rows,) domain, hash and size of documents of the first epoch."""
        rows = np.empty(len(hi), _DOCUMENT)
        rows["domain"], rows["hi"], rows["lo"], rows["size"] = domain, hi, lo, size
        self._held.append(rows)
        self._rows += len(rows)
        if self._rows >= DOCUMENTS_BUFFERED:
            self.end()

    def end(self) -> None:
        """Write what is held."""
        rows, self._held, self._rows = np.concatenate([np.zeros(0, _DOCUMENT), *self._held]), [], 0
        if not len(rows):
            return
        group = (rows["lo"] >> np.uint64(64 - self._bits) if self._bits else np.zeros(len(rows), np.uint64)).astype(np.int64)
        body = rows[np.argsort(group, kind="stable")].tobytes()
        ends = (np.cumsum(np.bincount(group, minlength=1 << self._bits)) * _DOCUMENT.itemsize).tolist()
        view = memoryview(body)
        sums = [xxhash.xxh3_64_intdigest(view[a:b]) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
        path = f"{self._prefix}-{len(self.files):04d}.documents"
        self._scratch.write(path, body)
        self.files.append(HashedFile(path, tuple(ends), tuple(sums)))


def find_repeated_documents(
    scratch: Store, files: Sequence[HashedFile], group: int, manifest: Manifest, names: Sequence[str]
) -> tuple[int, str]:
    """How many documents of a group of hashes stand twice in an epoch, and the first of them. `names` are the domains'."""
    rows = np.concatenate([np.zeros(0, _DOCUMENT), *(_read_group(scratch, file, group) for file in files)])
    same = ["lo", "size"] if manifest.hash == "id" else ["lo", "hi"]
    if manifest.recipe.input.dedup == "exact":
        same.append("domain")
    if manifest.columns and manifest.hash != "id":  # they are in the low half of `hi`, and do not tell copies of a text apart
        rows["hi"] &= ~np.uint64(0xFFFFFFFF)
    rows = select_repeated_hashes(rows)
    rows = rows[np.lexsort([rows[name] for name in same])]
    repeated = np.flatnonzero(np.all([rows[name][1:] == rows[name][:-1] for name in same], axis=0))
    if not len(repeated):
        return 0, ""
    one, other = (_name_document(row, names) for row in rows[repeated[0] : repeated[0] + 2])
    return len(repeated), f"{one} is {other}"


def _read_group(scratch: Store, file: HashedFile, group: int) -> HashedRows:
    begin, end = file.ends[group - 1] if group else 0, file.ends[group]
    if begin == end:
        return np.zeros(0, _DOCUMENT)
    body = scratch.read_range(file.path, begin, end)
    if xxhash.xxh3_64_intdigest(body) != file.sums[group]:
        raise InputError(f"{scratch.url}/{file.path}: was damaged, by the disk or on the network; verify again")
    return np.frombuffer(body, _DOCUMENT)


def describe_copies(manifest: Manifest, copies: int, example: str) -> list[str]:
    """The sentence about all copies that were found."""
    if not copies:
        return []
    return [f"{copies:,} documents stand twice in an epoch, in spite of 'input.dedup: {manifest.recipe.input.dedup}'; {example}"]


def _name_document(row: np.void, names: Sequence[str]) -> str:
    doc_id = hex_digests(np.array([row["hi"]]), np.array([row["lo"]]))[0].as_py()
    return f"{doc_id} of domain {names[row['domain']]!r}"
