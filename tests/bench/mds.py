"""MDS encoding in memory: ours, by columns, beside MDSWriter, fed row by row with ready dictionaries. The same bytes.

The official writer is timed up to the finished shard in memory: no hash, no file.
"""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
import pyarrow as pa

from chameleon_data.shards.formats import mds
from chameleon_data.shards.rows import TEXT_SCHEMA, conform
from tests.bench.figures import Figure, median_seconds, show
from tests.support.streaming_reader import as_rows, load, options

SHARD = 64 * 2**20


def run() -> list[Figure]:
    return [_compare(2_000, 10.0), _compare(90_000, 5.0)]


def _compare(size: int, aim: float) -> Figure:
    table = _table(size)
    rows = as_rows(table)
    assert bytes(mds.encode_body(conform(table), None)) == _official(rows)
    ours = table.num_rows / median_seconds(lambda: mds.encode_body(conform(table), None))
    theirs = table.num_rows / median_seconds(lambda: _official(rows))
    rates = f"{ours:,.0f} rows/s; MDSWriter, the same bytes: {theirs:,.0f}"
    return Figure(f"MDS encoding, rows of {size // 1000} kB", ours / theirs, "×", aim, rates)


def _official(rows: list[dict[str, Any]]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        writer = load().MDSWriter(out=folder, size_limit=None, **options(None))
        for row in rows:
            writer.write(row)
        body: bytes = writer.encode_joint_shard()
        writer.executor.shutdown()
        return body


def _table(size: int) -> pa.Table:
    generator = np.random.default_rng(0)
    letters = generator.integers(32, 127, SHARD // 2, dtype=np.uint8).tobytes().decode()
    starts = generator.integers(0, len(letters) - size, SHARD // size).tolist()
    texts = [letters[start : start + size] for start in starts]
    return pa.table(
        {
            "text": texts,
            "domain": [("wikipedia", "github", "book")[number % 3] for number in range(len(texts))],
            "domain_id": [number % 3 for number in range(len(texts))],
            "doc_id": [generator.bytes(16).hex() for _ in texts],
            "epoch": np.zeros(len(texts), np.uint32),
            "tokens": np.full(len(texts), size, np.uint32),
        }
    ).cast(TEXT_SCHEMA)


if __name__ == "__main__":
    show(run())
