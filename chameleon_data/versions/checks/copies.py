"""Copies: with `input.dedup`, no document stands twice in the first epoch, in its domain or in all of them.

The rule is that of `selection.find_copies`. Later epochs hold the documents of the first one, which `text_order.py` proves, and
equal texts lie in one split. The documents go to files grouped by the top bits of their hash: each stretch of shards writes its
own, and a group of hashes is read from all of them. Memory: 2^22 rows of 28 bytes while they are written, one group to read.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from chameleon_data.arrays import I64, U64
from chameleon_data.corpus.hash_partitions import DEDUP_ROWS_AT_ONCE, select_repeated_hashes
from chameleon_data.hashing import hex_digests
from chameleon_data.store.slices import SlicedFile, read_slices, write_slices
from chameleon_data.store.store import Store
from chameleon_data.versions.manifest import Manifest

_DOCUMENT_SCHEMA = pa.schema([("lo", pa.uint64()), ("hi", pa.uint64()), ("size", pa.int64()), ("domain", pa.int32())])
"""`size` is in bytes, or in tokens where the rows do not hold their text."""
_DOCUMENT = np.dtype([(field.name, field.type.to_pandas_dtype()) for field in _DOCUMENT_SCHEMA])
DOCUMENTS_BUFFERED = 1 << 22


def count_hash_bits(manifest: Manifest) -> int:
    """log2 of the groups of hashes, so that a group holds some DEDUP_ROWS_AT_ONCE documents."""
    documents = sum(domain.rows_written_once for domain in manifest.domains.values())
    return max(0, (documents - 1) // DEDUP_ROWS_AT_ONCE).bit_length()


class DocumentFiles:
    """Writes the documents of a stretch of shards, in files with a slice for each group of hashes."""

    def __init__(self, scratch: Store, split: str, number: int, bits: int) -> None:
        self._scratch, self._prefix, self._bits = scratch, f"{_folder(split)}/{number:06d}", bits
        self._held, self._rows, self._files = list[pa.Table](), 0, 0

    def add(self, domain: I64, hi: U64, lo: U64, size: I64) -> None:
        """(rows,) domain, hash and size of documents of the first epoch."""
        self._held.append(pa.table([lo, hi, size, domain.astype(np.int32)], schema=_DOCUMENT_SCHEMA))
        self._rows += len(hi)
        if self._rows >= DOCUMENTS_BUFFERED:
            self.end()

    def end(self) -> None:
        """Write what is held."""
        rows, self._held, self._rows = pa.concat_tables([_DOCUMENT_SCHEMA.empty_table(), *self._held]), [], 0
        if not len(rows):
            return
        lo = rows["lo"].to_numpy()
        group = (lo >> np.uint64(64 - self._bits) if self._bits else np.zeros(len(rows), np.uint64)).astype(np.int64)
        order = np.argsort(group, kind="stable")
        path = f"{self._prefix}-{self._files:04d}.slices"
        write_slices(self._scratch, path, _DOCUMENT_SCHEMA, [(group[order], rows.take(order))], range(1 << self._bits))
        self._files += 1


def _folder(split: str) -> str:
    return f"documents/{split}"


def find_repeated_documents(scratch: Store, split: str, group: int, manifest: Manifest, names: Sequence[str]) -> tuple[int, str]:
    """How many documents of a group of hashes stand twice in an epoch, and the first of them. `names` are the domains'."""
    files = [SlicedFile(path) for path in scratch.list(_folder(split))]
    (tables,) = read_slices(scratch, files, range(group, group + 1))
    columns = pa.concat_tables([_DOCUMENT_SCHEMA.empty_table(), *tables])
    rows = np.empty(len(columns), _DOCUMENT)
    for name in _DOCUMENT_SCHEMA.names:
        rows[name] = columns[name].to_numpy()
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


def describe_copies(manifest: Manifest, copies: int, example: str) -> list[str]:
    """The sentence about all copies that were found."""
    if not copies:
        return []
    return [f"{copies:,} documents stand twice in an epoch, in spite of 'input.dedup: {manifest.recipe.input.dedup}'; {example}"]


def _name_document(row: np.void, names: Sequence[str]) -> str:
    doc_id = hex_digests(np.array([row["hi"]]), np.array([row["lo"]]))[0].as_py()
    return f"{doc_id} of domain {names[row['domain']]!r}"
