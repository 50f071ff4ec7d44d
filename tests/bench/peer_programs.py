"""What a person would write in place of a recipe, with each of the peers: one function each, run by a fresh Python.

    python -m tests.bench.peer_programs NAME CORPUS OUT

CORPUS is a folder of domains, each a folder of .jsonl.zst with `text` and `id`. All have two cores, compress with zstd at level 3
and write files of about 64 MB of text, but where a comment says why not. Nothing is imported at the top: each pays for its own.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

CORES = 2
LEVEL = 3
SHARD = 64 * 2**20
"""Bytes of text in a file."""
STORED = 20 * 10**6
"""About what SHARD is once compressed, for the peers that count the bytes of the file."""
GROUP = 4096
"""Rows of a Parquet row group, some 20 MB of the bench's texts. The usual 100,000 rows and more would be all of a file: one core
would write it, and DuckDB took half as long again."""


def duckdb(corpus: Path, out: Path, memory: str = "") -> None:
    """Sorted by a hash of the text, out of core where `memory` is not enough."""
    import duckdb

    settings: dict[str, str | bool | int | float | list[str]] = {
        "threads": CORES,
        "temp_directory": str(out / "spilled"),
        "preserve_insertion_order": False,
    }
    connection = duckdb.connect(config=settings)
    if memory:
        connection.execute(f"SET memory_limit = '{memory}'")
    connection.execute(
        f"""COPY (SELECT text, id FROM read_json('{corpus}/*/*.zst', format = 'newline_delimited', compression = 'zstd',
                                                 columns = {{text: 'VARCHAR', id: 'VARCHAR'}}) ORDER BY hash(text))
            TO '{out}/parquet' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL {LEVEL},
                                ROW_GROUP_SIZE {GROUP}, FILE_SIZE_BYTES {STORED})"""
    )


def duckdb_2gb(corpus: Path, out: Path) -> None:
    duckdb(corpus, out, "2GB")


def polars(corpus: Path, out: Path) -> None:
    """Sorted by a hash of the text, in memory."""
    os.environ["POLARS_MAX_THREADS"] = str(CORES)
    import polars as pl

    rows = pl.scan_ndjson(f"{corpus}/**/*.zst", schema={"text": pl.String, "id": pl.String})
    rows.sort(pl.col("text").hash()).sink_parquet(
        pl.PartitionBy(out / "parquet", approximate_bytes_per_file=SHARD),
        compression="zstd",
        compression_level=LEVEL,
        row_group_size=GROUP,
        mkdir=True,
        engine="streaming",
    )


def interleave(corpus: Path, out: Path) -> None:
    """A process a core, each with every other file of every domain; one index over both folders."""
    import multiprocessing

    from tests.support.streaming_reader import load

    processes = [multiprocessing.get_context("spawn").Process(target=_interleave, args=(corpus, out, n)) for n in range(CORES)]
    for process in processes:
        process.start()
    load()
    from streaming.base.util import merge_index

    for process in processes:
        process.join()
        if process.exitcode:
            sys.exit("a writer failed")
    merge_index(str(out / "mds"), keep_local=True)


def _interleave(corpus: Path, out: Path, number: int) -> None:
    """Rows of all domains by equal probabilities, each until it is used up, shuffled in a buffer of 10,000."""
    import datasets
    from datasets.distributed import split_dataset_by_node

    from tests.support.streaming_reader import load

    streams = []
    for domain in sorted(corpus.iterdir()):
        files = sorted(map(str, domain.iterdir()))
        stream = datasets.load_dataset("json", data_files=files, split="train", streaming=True)
        streams.append(split_dataset_by_node(stream, number, CORES))
    mixed = datasets.interleave_datasets(
        streams, probabilities=[1 / len(streams)] * len(streams), seed=0, stopping_strategy="all_exhausted_without_replacement"
    ).shuffle(seed=0, buffer_size=10_000)
    options = {"compression": f"zstd:{LEVEL}", "hashes": ["sha256", "xxh64"], "size_limit": SHARD}
    with load().MDSWriter(out=str(out / f"mds/{number}"), columns={"text": "str", "id": "str"}, **options) as writer:
        for row in mixed:
            writer.write(row)


def random_shuffle(corpus: Path, out: Path) -> None:
    """A block for each file that is to be written; Ray's own choice, 160 blocks for half a GB, takes twice as long."""
    import ray
    import ray.data

    ray.init(num_cpus=CORES, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    files = sorted(corpus.rglob("*.zst"))
    blocks = max(1, round(sum(file.stat().st_size for file in files) / STORED))
    rows = ray.data.read_json(
        list(map(str, files)), arrow_open_stream_args={"compression": "zstd"}, file_extensions=None, override_num_blocks=blocks
    )
    rows.random_shuffle(seed=0).write_parquet(str(out / "parquet"), compression="zstd", compression_level=LEVEL)


def datatrove(corpus: Path, out: Path) -> None:
    """It has no shuffle of texts: rows are read and written in their order."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import ParquetWriter

    class LevelledWriter(ParquetWriter):
        """ParquetWriter has no option for the level, and pyarrow's own is 1."""

        def _write(self, document, file_handler, filename):
            import pyarrow as pa
            import pyarrow.parquet as pq

            name = self._get_filename_with_file_id(filename)
            if name not in self._writers:
                schema = pa.RecordBatch.from_pylist([document]).schema
                self._writers[name] = pq.ParquetWriter(file_handler, schema, compression="zstd", compression_level=LEVEL)
            super()._write(document, file_handler, filename)

    reader = JsonlReader(str(corpus), recursive=True, glob_pattern="**/*.zst", compression="zstd")
    writer = LevelledWriter(str(out / "parquet"), compression="zstd", batch_size=GROUP, max_file_size=STORED)
    tasks = len(list(corpus.rglob("*.zst")))
    LocalPipelineExecutor([reader, writer], tasks=tasks, workers=CORES, logging_dir=str(out / "logs")).run()


PROGRAMS: dict[str, Callable[[Path, Path], None]] = {
    program.__name__: program for program in (duckdb, duckdb_2gb, polars, interleave, random_shuffle, datatrove)
}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
