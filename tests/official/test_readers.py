"""Every format, read by the package that it comes from, and by the tables' readers that people use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from chameleon_data.plan.plan import TRAIN, VALIDATION
from chameleon_data.shards.formats import mds
from chameleon_data.shards.formats.files import Level
from chameleon_data.shards.formats.registry import FORMATS
from chameleon_data.shards.rows import INPUT_IDS, TEXT_SCHEMA, conform, token_ids
from tests.support import official_readers as official
from tests.support import streaming_reader
from tests.support.shard_rows import LEVELS, SEQUENCES, TEXTS, TURNS, document_rows, sequence_rows, text_rows

TABLES = {"text": TEXTS, "sequences": SEQUENCES, "turns": TURNS}
CASES = [(name, kind) for kind in TABLES for name in FORMATS if kind == "sequences" or name != "megatron"]


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("format", "kind"), CASES)
def test_the_official_reader_gives_the_rows_of_each_split_and_leaves_the_files(
    format: str, kind: str, level: Level, tmp_path: Path
) -> None:
    """The rows are the same in every format, since each gives those of one table in its order."""
    table = TABLES[kind]
    parts = {TRAIN: [table.slice(0, 280), table.slice(280, 10)], VALIDATION: [table.slice(290)]}
    for split, tables in parts.items():
        official.store(tmp_path, format, tables, split, level)
    before = snapshot(tmp_path)
    for split, tables in parts.items():
        assert official.read(tmp_path, format, split) == [row for each in tables for row in each.to_pylist()]
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("kind", TABLES)
def test_polars_and_pyarrow_read_the_files_of_a_folder(kind: str, tmp_path: Path) -> None:
    plain = TABLES[kind].to_pylist()
    for format, scan in (("arrow", pl.scan_ipc), ("jsonl", pl.scan_ndjson), ("parquet", pl.scan_parquet)):
        for level in LEVELS:
            folder = tmp_path / format / str(level)
            official.store(folder, format, [TABLES[kind].slice(0, 200), TABLES[kind].slice(200)], TRAIN, level)
            files = sorted(folder.iterdir())
            assert scan(files).collect().to_dicts() == plain
            if format != "jsonl":
                found = ds.dataset(list(map(str, files)), format=format).to_table()
                assert found.to_pylist() == plain
                assert not found.schema.metadata


def test_tokens_are_summed_by_polars_with_a_cast(tmp_path: Path) -> None:
    """polars sums a UInt32 as a UInt32 and wraps round at 4 billion tokens."""
    table = text_rows(500)
    official.store(tmp_path, "parquet", [table], TRAIN, 3)
    counted = pl.scan_parquet(tmp_path / "*.parquet").group_by("domain").agg(pl.col("tokens").cast(pl.Int64).sum()).collect()
    rows = table.to_pylist()
    assert dict(counted.iter_rows()) == {
        name: sum(row["tokens"] for row in rows if row["domain"] == name) for name in ("book", "bücher", "c4")
    }


def test_datasets_loads_a_folder_as_it_is_with_its_splits(tmp_path: Path) -> None:
    datasets = official.load("datasets")
    datasets.disable_progress_bars()
    for name, table, feature in (
        ("text", text_rows(40), datasets.Value("string")),
        ("sequences", sequence_rows(40), datasets.List(datasets.Value("uint16"), length=9)),
    ):
        folder = tmp_path / name
        official.store(folder, "parquet", [table.slice(0, 25), table.slice(25, 10)], TRAIN, 3)
        official.store(folder, "parquet", [table.slice(35)], VALIDATION, 3)
        loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
        assert loaded["train"].to_list() == table.slice(0, 35).to_pylist()
        assert loaded["validation"].to_list() == table.slice(35).to_pylist()
        assert loaded["train"].features[table.column_names[0]] == feature
        stream = datasets.load_dataset("parquet", data_files=str(folder / "train-*.parquet"), streaming=True, split="train")
        assert list(stream) == table.slice(0, 35).to_pylist()


def test_duckdb(tmp_path: Path) -> None:
    table = text_rows(500)
    official.store(tmp_path, "parquet", [table.slice(0, 300), table.slice(300)], TRAIN, 3)
    with official.load("duckdb").connect() as connection:
        found = connection.sql(f"select * from '{tmp_path}/*.parquet' order by filename, file_row_number").fetchall()
    assert found == [tuple(row[name] for name in TEXT_SCHEMA.names) for row in table.to_pylist()]


@pytest.mark.parametrize("dtype", [pa.uint16(), pa.uint32()])
def test_megatron_reads_whole_documents(dtype: pa.DataType, tmp_path: Path) -> None:
    table = document_rows(50, dtype)
    table = table.set_column(
        0, INPUT_IDS, pa.array([[0, 65_535, 65_500], *table[INPUT_IDS].to_pylist()[1:]], pa.large_list(dtype))
    )
    official.store(tmp_path, "megatron", [table.slice(0, 20), table.slice(20)], TRAIN, 3)
    assert official.read(tmp_path, "megatron", TRAIN) == table.to_pylist()


# StreamingDataset, in more ways


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("validate_hash", mds.HASHES)
def test_streaming_dataset_checks_either_hash_and_needs_no_other_file(tmp_path: Path, level: Level, validate_hash: str) -> None:
    streaming_reader.load_or_skip()
    tables = [TEXTS.slice(0, 3), text_rows(300), TEXTS.slice(1, 1)]
    official.store(tmp_path, "mds", tables, TRAIN, level)
    expected = [row for table in tables for row in streaming_reader.as_rows(table)]
    assert streaming_reader.read_folder(tmp_path, validate_hash) == expected
    assert {file.suffix for file in tmp_path.iterdir()} == {".json", ".zstd" if level else ".mds"}


def test_streaming_dataset_gives_arrays_of_the_stored_type(tmp_path: Path) -> None:
    streaming_reader.load_or_skip()
    official.store(tmp_path, "mds", [SEQUENCES], TRAIN, 3)
    ids = np.stack([row[INPUT_IDS] for row in streaming_reader.read_folder(tmp_path)])
    assert ids.dtype == np.uint16
    assert np.array_equal(ids, token_ids(conform(SEQUENCES)))


def test_streaming_dataset_refuses_a_changed_byte(tmp_path: Path) -> None:
    streaming_reader.load_or_skip()
    official.store(tmp_path, "mds", [TEXTS.slice(0, 3)], TRAIN, None)
    file = tmp_path / "shard.00000.mds"
    file.write_bytes(file.read_bytes().replace(b"</script>", b"</Script>"))
    with pytest.raises(Exception, match="Checksum failure"):
        streaming_reader.read_folder(tmp_path)
