"""Small versions as a build stores them: shards of a few short rows, and the manifest that lists them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from chameleon_data.hashing import content_hashes, hex_digests
from chameleon_data.shards.formats.registry import FORMATS
from chameleon_data.shards.rows import TEXT_SCHEMA, number_domains
from chameleon_data.store.store import Store
from chameleon_data.versions.manifest import Manifest
from tests.support.manifests import example_manifest

Rows = list[tuple[str, str, str]]  # domain, text, split


def table_of(rows: Sequence[tuple[str, str, str]]) -> pa.Table:
    texts, domains = pa.array([text for _, text, _ in rows], pa.large_string()), [domain for domain, _, _ in rows]
    numbers, zeros = number_domains(domains), np.zeros(len(rows), np.uint32)
    ids = hex_digests(*content_hashes(texts))
    return pa.table([texts, domains, [numbers[name] for name in domains], ids, zeros, zeros + 1], schema=TEXT_SCHEMA)


BOTH = ("parquet", "mds")


def publish(store: Store, name: str, shards: Sequence[Rows], formats: Sequence[str] = BOTH, **extra: Any) -> Manifest:
    """Shards as a build stores them, and their manifest; the rows of a shard are of one split."""
    files = []
    for number, rows in enumerate(shards):
        table = table_of(rows)
        for format in formats:
            encoded = FORMATS[format].encode(table, number, len(shards), rows[0][2], 3)
            for file, data in encoded.files.items():
                path = f"builds/{name}/{format}/{file}"
                store.write(path, data)
                files.append({
                    "path": path, "format": format, "split": rows[0][2], "shard": number, "rows": len(rows), "bytes": data.size,
                    "sha256": hashlib.sha256(data).hexdigest(), "domain_rows": dict(Counter(domain for domain, _, _ in rows)),
                })  # fmt: skip
    counts = Counter(domain for rows in shards for domain, _, _ in rows)
    domains = {d: {"weight": 0.5, "tokens": n, "rows": n, "epochs": 1.0} for d, n in counts.items()}
    return example_manifest(name, store, **{"build": f"builds/{name}", "domains": domains, "shards": files, **extra})
