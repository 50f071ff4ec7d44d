"""Files for readers to read: the same rows in every format, and what a reader makes of a file, as plain values."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import zstandard
from hypothesis import HealthCheck, settings

from chameleon_data.corpus.fragments import list_fragments
from chameleon_data.corpus.readers.blocks import read_blocks
from chameleon_data.corpus.readers.rows import Block
from chameleon_data.recipe import Source

Documents = list[tuple[int, str, str, str | None]]
"""(row, domain, text, id)"""
BadRows = list[tuple[int, str, str]]
"""(row, domain, reason)"""

LIMIT = 10_000
"""`max_document`, unless a test says otherwise."""
COMPRESSED = (".gz", ".zst", ".bz2", ".xz")
TEXT_KINDS = [f".{base}{how}" for base in ("jsonl", "ndjson", "json", "csv") for how in ("", *COMPRESSED)]
COLUMN_KINDS = [".parquet", ".feather", ".arrow", ".ipc"]
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read_file(path: Path, limit: int = LIMIT, block_bytes: int = 2**20, **keys: Any) -> list[tuple[int, Block]]:
    """The blocks of a file, each with the number of its fragment's first row; `keys` are those of a source called `own`.

    What every block promises is checked.
    """
    source = Source(path=(str(path),), **keys)
    blocks: list[tuple[int, Block]] = []
    first = 0
    for fragment in list_fragments("own", source).fragments:
        end = 0
        for block in read_blocks(fragment, source, limit, block_bytes):
            assert len(block.text) + len(block.bad) > 0 or block.end > end
            assert all(end <= row < block.end for row in [*block.rows.tolist(), *(bad.row for bad in block.bad)])
            end = block.end
            blocks.append((first, block))
        first += end
    for _, block in blocks:
        assert block.text.type == pa.large_string()
        assert block.text.null_count == 0
        block.text.validate(full=True)
        assert block.rows.dtype == np.int64
        assert block.domain.dtype == np.int32
        assert len(block.text) == len(block.rows) == len(block.domain)
        assert (block.ids is None) == (source.id is None)
        assert block.ids is None or (len(block.ids) == len(block.text) and block.ids.null_count == 0)
    return blocks


def read_rows(path: Path, **keys: Any) -> tuple[Documents, BadRows]:
    """The documents of a file in its order, and its bad rows."""
    documents: Documents = []
    bad = []
    for first, b in read_file(path, **keys):
        ids = b.ids.to_pylist() if b.ids is not None else [None] * len(b.rows)
        rows = (b.rows + first).tolist()
        documents += zip(rows, [b.names[d] for d in b.domain], b.text.to_pylist(), ids, strict=True)
        bad += [(first + r.row, r.domain, r.reason) for r in b.bad]
    return documents, sorted(bad)


def compress(data: bytes, suffix: str) -> bytes:
    """As a file of this suffix holds it: .gz, .zst, .bz2, .xz or another."""
    return {".gz": gzip.compress, ".zst": zstandard.compress, ".bz2": bz2.compress, ".xz": lzma.compress}.get(
        f".{suffix.rpartition('.')[2]}", bytes
    )(data)


def write_rows(
    path: Path, texts: Sequence[str | bytes | None], ids: Sequence[Any], sets: Sequence[str | None], batch_rows: int = 4
) -> Path:
    """The rows {text, id, meta: {set}} as a file of the kind that the name says; bytes need not be UTF-8."""
    if path.suffix in COMPRESSED:
        plain = write_rows(path.with_suffix(""), texts, ids, sets).read_bytes()
        half = len(plain) // 2  # two frames
        path.write_bytes(compress(plain[:half], path.suffix) + compress(plain[half:], path.suffix))
        path.with_suffix("").unlink()
        return path
    escaped = [text.decode(errors="surrogateescape") if isinstance(text, bytes) else text for text in texts]
    if path.suffix in (".jsonl", ".ndjson", ".json"):
        lines = [
            json.dumps({"id": i, "text": text, "meta": {"set": s}}, ensure_ascii=isinstance(raw, str) and len(raw) % 2 == 0)
            for i, raw, text, s in zip(ids, texts, escaped, sets, strict=True)
        ]
        path.write_bytes("".join(f"{line}\n" for line in lines).encode(errors="surrogateescape"))
        return path
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = zip(ids, escaped, sets, strict=True)
            csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("id", "text", "meta.set"), *rows])
        return path
    stored = [text.encode() if isinstance(text, str) else text for text in texts]
    table = pa.table(
        {"id": ids, "text": pa.array(stored, pa.binary()).view(pa.string()), "meta": [{"set": s} for s in sets]}
    )  # fmt: skip
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=batch_rows)
    elif path.suffix == ".feather":
        pyarrow.feather.write_feather(table, str(path))
    else:
        with (pa.ipc.new_stream if path.suffix == ".arrow" else pa.ipc.new_file)(path, table.schema) as out:
            out.write_table(table, max_chunksize=batch_rows)
    return path
