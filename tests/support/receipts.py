"""Receipts as objects, for tests that look at single shards."""

from __future__ import annotations

import json

from chameleon_data.shards.receipts import CopyCount, Receipt, ReceiptFile, read_receipts
from chameleon_data.store.checksummed import read_table
from chameleon_data.store.paths import BuildFolder
from chameleon_data.store.store import Store


def list_receipts(store: Store, build: BuildFolder) -> list[Receipt]:
    """All receipts of a build, in order, as they were written."""
    found = []
    for some in read_receipts(store, build):
        counts = read_table(store, build.domain_counts_of(some.span)).to_pylist()
        for row in some.shards.to_pylist():
            mine = [count for count in counts if count["shard"] == row["shard"]]
            rows, tokens = ({count["domain"]: count[name] for count in mine} for name in ("rows", "tokens"))
            copies = {count["domain"]: CopyCount(count["copies"], count["most_copies"]) for count in mine if count["copies"]}
            files = tuple(ReceiptFile(**file) for file in row.pop("files"))
            entries = json.loads(row.pop("entries"))
            found.append(Receipt(**row, files=files, entries=entries, domain_rows=rows, domain_tokens=tokens, copies=copies))
    return found
