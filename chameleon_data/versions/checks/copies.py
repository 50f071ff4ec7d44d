"""Copies: with `input.dedup`, no document stands twice in the first epoch, in its domain or in all of them.

The rule is that of `selection.find_copies`. Later epochs hold the documents of the first one, which `text_order.py` proves, and
equal texts lie in one split. Memory: 2^24 rows of 28 bytes; all first epochs go to a local disk, grouped by hash.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from chameleon_data.arrays import I64, U64
from chameleon_data.corpus.hash_partitions import HashedRows, HashPartitions, select_repeated_hashes
from chameleon_data.hashing import hex_digests
from chameleon_data.versions.manifest import Manifest

_DOCUMENT = np.dtype([("lo", "<u8"), ("hi", "<u8"), ("size", "<i8"), ("domain", "<i4")])
"""`size` is in bytes, or in tokens where the rows do not hold their text."""


def hashed_documents(domain: int, hi: U64, lo: U64, size: I64) -> HashedRows:
    """Rows of one domain for the partitions that `check_copies` reads."""
    rows = np.empty(len(hi), _DOCUMENT)
    rows["domain"], rows["hi"], rows["lo"], rows["size"] = domain, hi, lo, size
    return rows


def check_copies(partitions: HashPartitions, manifest: Manifest, names: Sequence[str]) -> list[str]:
    """`partitions` hold the documents of the first epoch; `names` are the domains'."""
    rule = manifest.recipe.input.dedup
    same = ["lo", "size"] if manifest.hash == "id" else ["lo", "hi"]
    if rule == "exact":
        same.append("domain")
    copies, example = 0, ""
    for rows in map(select_repeated_hashes, partitions.read(_DOCUMENT)):
        rows = rows[np.lexsort([rows[name] for name in same])]
        repeated = np.flatnonzero(np.all([rows[name][1:] == rows[name][:-1] for name in same], axis=0))
        if len(repeated) and not copies:
            one, other = (_name_document(row, names) for row in rows[repeated[0] : repeated[0] + 2])
            example = f"{one} is {other}"
        copies += len(repeated)
    return [f"{copies:,} documents stand twice in an epoch, in spite of 'input.dedup: {rule}'; {example}"] if copies else []


def _name_document(row: np.void, names: Sequence[str]) -> str:
    doc_id = hex_digests(np.array([row["hi"]]), np.array([row["lo"]]))[0].as_py()
    return f"{doc_id} of domain {names[row['domain']]!r}"
