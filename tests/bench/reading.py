"""Reading back: `datasets` and StreamingDataset over our shards, and over shards of the same rows that they wrote themselves."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from chameleon_data.hashing import content_hashes, hex_digests
from chameleon_data.plan.plan import TRAIN
from chameleon_data.shards.formats import mds, parquet
from chameleon_data.shards.rows import TEXT_SCHEMA
from tests.bench.figures import Figure, median_seconds, show
from tests.support import streaming_reader
from tests.support.corpus import demo_texts

COPIES, SHARDS = 12, 4


def rows() -> list[pa.Table]:
    """The demo's texts a dozen times over, as the rows of some shards."""
    texts = [f"copy {copy}\n{text}" for copy in range(COPIES) for of in demo_texts().values() for text in of]
    array = pa.array(texts, pa.large_string())
    n = len(texts)
    table = pa.table(
        [array, ["a"] * n, [0] * n, hex_digests(*content_hashes(array)), [0] * n, [len(t) % 9000 for t in texts]],
        schema=TEXT_SCHEMA,
    )
    return [table.slice(n * s // SHARDS, n * (s + 1) // SHARDS - n * s // SHARDS) for s in range(SHARDS)]


def write_ours(tables: list[pa.Table], folder: Path) -> None:
    entries = []
    for number, table in enumerate(tables):
        for format, kind in ((parquet, "parquet"), (mds, "mds")):
            encoded = format.encode(table, number, SHARDS, TRAIN, 3)
            for name, data in encoded.files.items():
                (folder / kind).mkdir(parents=True, exist_ok=True)
                (folder / kind / name).write_bytes(data)
            entries += [encoded.entry] if kind == "mds" else []
    for name, data in mds.index(TRAIN, entries).items():
        (folder / "mds" / name).write_bytes(data)


def write_theirs(tables: list[pa.Table], folder: Path) -> None:
    import datasets

    (folder / "parquet").mkdir(parents=True)
    for number, table in enumerate(tables):
        datasets.Dataset(table).to_parquet(str(folder / "parquet" / f"train-{number:05}-of-{SHARDS:05}.parquet"))
    limit = sum(t.nbytes for t in tables) // SHARDS
    writer = streaming_reader.load().MDSWriter
    with writer(out=str(folder / "mds"), size_limit=limit, **streaming_reader.options(3)) as out:
        for table in tables:
            for row in table.to_pylist():
                out.write(
                    {
                        **row,
                        "domain_id": np.uint32(row["domain_id"]),
                        "epoch": np.uint32(row["epoch"]),
                        "tokens": np.uint32(row["tokens"]),
                    }
                )


def read_datasets(folder: Path, cache: Path) -> int:
    """Bytes of text, streamed."""
    import datasets

    place = str(folder / "parquet")
    found = datasets.load_dataset("parquet", data_dir=place, split="train", streaming=True, cache_dir=str(cache))
    return sum(len(row["text"]) for row in found)


def read_streaming(folder: Path) -> int:
    """The same of every sample of a StreamingDataset."""
    return sum(len(sample["text"]) for sample in streaming_reader.read_folder(folder / "mds"))


def run(repeats: int = 5) -> list[Figure]:
    """MB of text a second from our shards, as a share of what theirs give."""
    figures = []
    with tempfile.TemporaryDirectory() as name:
        base, tables = Path(name), rows()
        size = sum(t["text"].nbytes for t in tables)
        write_ours(tables, base / "ours")
        write_theirs(tables, base / "theirs")
        readers: dict[str, Callable[[Path], int]] = {
            "datasets": lambda folder: read_datasets(folder, base / "cache"), "StreamingDataset": read_streaming,
        }  # fmt: skip
        for reader, read in readers.items():
            if read(base / "ours") != read(base / "theirs"):
                raise SystemExit(f"{reader} reads other texts from our shards")
            ours, theirs = (median_seconds(partial(read, base / who), repeats) for who in ("ours", "theirs"))
            peer = f"{size / ours / 1e6:,.0f} MB/s of text; its own shards {size / theirs / 1e6:,.0f}"
            figures.append(Figure(f"reading back by {reader}", theirs / ours, "×", 0.9, peer))
        shutil.rmtree(base / "cache", ignore_errors=True)
    return figures


if __name__ == "__main__":
    show(run())
