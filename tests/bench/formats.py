"""Encoding in memory, a format after the other: ours, beside what its own package does with the same rows, ready as dictionaries.

Rows of 2 kB of text, and sequences of 2,048 tokens. Both sides end with the bytes of a shard that is not compressed (for Arrow:
zstd on both sides), in memory; for litdata and Megatron, whose writers know files only, as files of /dev/shm on both sides.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from chameleon_data.plan.plan import TRAIN
from chameleon_data.shards.formats.files import Level
from chameleon_data.shards.formats.registry import FORMATS
from chameleon_data.shards.rows import DOC_STARTS, INPUT_IDS
from tests.bench.figures import Figure, median_seconds, show
from tests.bench.mds import _table
from tests.support import official_readers as official

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
AIMS = {"jsonl": 2.0, "webdataset": 5.0, "litdata": 5.0, "megatron": 2.0, "arrow": 0.8}


def run() -> list[Figure]:
    text = _table(2_000)
    generator = np.random.default_rng(0)
    count = text.num_rows // 2
    ids = pa.FixedSizeListArray.from_arrays(pa.array(generator.integers(0, 50_000, count * 2_048, np.uint16)), 2_048)
    starts = pa.array([[0, 500, 1_700]] * count, pa.list_(pa.uint32()))
    sequences = text.slice(0, count).set_column(0, INPUT_IDS, ids).append_column(DOC_STARTS, starts)
    figures = [_compare(format, text, "text", peer) for format, peer in TEXT_PEERS.items()]
    return figures + [_compare(format, sequences, "tokens", peer) for format, peer in TOKEN_PEERS.items()]


def _compare(format: str, table: pa.Table, kind: str, peer: tuple[str, Callable[[Any], Any]]) -> Figure:
    name, write = peer
    level: Level = 3 if format == "arrow" else None
    rows = table if format == "arrow" else official.litdata_items(table)  # numpy arrays, where tokens are
    ours = median_seconds(lambda: _ours(format, table, level), 3)
    theirs = median_seconds(lambda: write(rows), 3)
    size = table.nbytes / 1e6
    rates = f"{size / ours:,.0f} MB/s; {name}: {size / theirs:,.0f}"
    return Figure(f"{format} encoding, {kind}", theirs / ours, "×", AIMS[format], rates)


def _ours(format: str, table: pa.Table, level: Level) -> None:
    files = FORMATS[format].encode(table, 0, 1, TRAIN, level).files
    if format in ("litdata", "megatron"):
        with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
            for name, body in files.items():
                (Path(folder) / name).write_bytes(body)


def _json(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def _tar(rows: list[dict[str, Any]]) -> bytes:
    stream = io.BytesIO()
    with official.load("webdataset").TarWriter(stream, mtime=0) as writer:
        for number, row in enumerate(rows):
            facts = {key: value for key, value in row.items() if key not in ("text", INPUT_IDS)}
            facts |= {DOC_STARTS: row[DOC_STARTS].tolist()} if DOC_STARTS in row else {}
            data = {"txt": row["text"]} if "text" in row else {"input_ids.npy": row[INPUT_IDS]}
            writer.write({"__key__": f"{number:09}", "json": facts, **data})
    return stream.getvalue()


def _litdata(rows: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        writer = official.load("litdata.streaming.writer").BinaryWriter(folder, chunk_size=len(rows))
        for number, row in enumerate(rows):
            writer[number] = row
        writer.done()


def _megatron(rows: list[dict[str, Any]]) -> None:
    torch = official.load("torch")
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        module = official.load("megatron.core.datasets.indexed_dataset")
        builder = module.IndexedDatasetBuilder(f"{folder}/own.bin", dtype=np.uint16)
        for row in rows:
            builder.add_item(torch.from_numpy(row[INPUT_IDS]))
            builder.end_document()
        builder.finalize(f"{folder}/own.idx")


def _arrow(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd", use_threads=False)) as writer:
        writer.write_table(table, max_chunksize=2_000)
    return sink.getvalue()


TEXT_PEERS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "arrow": ("pyarrow by itself", _arrow),
    "jsonl": ("json.dumps", _json),
    "webdataset": ("TarWriter", _tar),
    "litdata": ("BinaryWriter", _litdata),
}
TOKEN_PEERS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "webdataset": ("TarWriter", _tar),
    "litdata": ("BinaryWriter", _litdata),
    "megatron": ("IndexedDatasetBuilder", _megatron),
}

if __name__ == "__main__":
    show(run())
