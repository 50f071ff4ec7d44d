"""Parquet shards: the same bytes for the same rows, the same rows in every reader, damage refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chameleon_data.errors import InputError
from chameleon_data.plan.plan import TRAIN, VALIDATION
from chameleon_data.shards.formats import parquet
from chameleon_data.shards.rows import INPUT_IDS, TEXT_SCHEMA, Compression, sequence_schema


def some_rows(count: int, size: int = 50, seed: int = 0) -> pa.Table:
    """`count` rows of up to `size` characters, with what text may hold: nothing, NUL, other scripts, emoji."""
    generator = np.random.default_rng(seed)
    letters = np.array(list("abcdefghij \n\0é\U0001f98e漢"))
    texts = ["".join(letters[generator.integers(0, len(letters), generator.integers(0, size + 1))]) for _ in range(count)]
    return pa.table(
        {
            "text": texts,
            "domain": [("book", "bücher", "c4")[i % 3] for i in range(count)],
            "doc_id": [generator.bytes(16).hex() for _ in range(count)],
            "epoch": [i % 2 for i in range(count)],
            "tokens": [2**32 - 1 - i for i in range(count)],
        }
    ).cast(TEXT_SCHEMA)


def some_sequences(count: int, length: int = 9, dtype: Any = None, seed: int = 0) -> pa.Table:
    """The same rows packed: `length` random tokens in the place of a text."""
    dtype = dtype or pa.uint16()
    most = np.iinfo(dtype.to_pandas_dtype()).max
    ids = np.random.default_rng(seed).integers(0, most, count * length, dtype.to_pandas_dtype(), endpoint=True)
    column = pa.FixedSizeListArray.from_arrays(pa.array(ids), length)
    return some_rows(count).set_column(0, INPUT_IDS, column).cast(sequence_schema(length, dtype))


ROWS = some_rows(500)
PLAIN = ROWS.to_pylist()
SEQUENCES = some_sequences(40)


def encode(table: pa.Table, compression: Compression = "zstd") -> pa.Buffer:
    (data,) = parquet.encode(table, 0, 1, TRAIN, compression).files.values()
    return data


def decode(data: pa.Buffer | bytes, where: str = "shard") -> pa.Table:
    table, entry = parquet.decode({"train-00000-of-00001.parquet": data}, where)
    assert entry == {}
    return table


@pytest.fixture(scope="module", params=["zstd", "none"])
def folder(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of ROWS, as a build leaves them."""
    here: Path = tmp_path_factory.mktemp("parquet")
    for number, part in enumerate((ROWS.slice(0, 300), ROWS.slice(300))):
        for name, data in parquet.encode(part, number, 2, TRAIN, request.param).files.items():
            (here / name).write_bytes(data)
    return here


# Readers


def test_pyarrow(folder: Path) -> None:
    table = ds.dataset(folder, format="parquet").to_table()
    assert table.to_pylist() == PLAIN
    assert [str(field.type) for field in table.schema] == ["string", "string", "string", "uint32", "uint32"]
    assert not table.schema.metadata


def test_polars(folder: Path) -> None:
    frame = pl.scan_parquet(folder / "*.parquet").collect()
    assert frame.to_dicts() == PLAIN
    assert frame.schema["text"] == pl.String
    assert frame.schema["tokens"] == pl.UInt32
    # the cast is needed: polars sums a UInt32 as a UInt32 and wraps round at 4 billion tokens
    counted = pl.scan_parquet(folder / "*.parquet").group_by("domain").agg(pl.col("tokens").cast(pl.Int64).sum()).collect()
    assert dict(counted.iter_rows()) == {
        name: sum(row["tokens"] for row in PLAIN if row["domain"] == name) for name in ("book", "bücher", "c4")
    }


def test_datasets_loads_the_folder_as_it_is(folder: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="Hugging Face datasets is not installed")
    datasets.disable_progress_bars()
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path))
    assert list(loaded) == ["train"]  # from the files' names
    assert loaded["train"].to_list() == PLAIN
    assert loaded["train"].features["text"] == datasets.Value("string")
    stream = datasets.load_dataset("parquet", data_files=str(folder / "*.parquet"), streaming=True, split="train")
    assert list(stream) == PLAIN


@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_sequences_and_splits_in_every_reader(compression: Compression, tmp_path: Path) -> None:
    """Both splits lie in one folder, and readers see sequences of one length."""
    datasets = pytest.importorskip("datasets", reason="Hugging Face datasets is not installed")
    datasets.disable_progress_bars()
    for split, number, count, begin, rows in ((TRAIN, 0, 2, 0, 25), (TRAIN, 1, 2, 25, 10), (VALIDATION, 0, 1, 35, 5)):
        table = SEQUENCES.slice(begin, rows)
        for name, data in parquet.encode(table, number, count, split, compression).files.items():
            (tmp_path / name).write_bytes(data)
    loaded = datasets.load_dataset(str(tmp_path), cache_dir=str(tmp_path / "cache"))
    assert loaded["train"].to_list() == SEQUENCES.slice(0, 35).to_pylist()
    assert loaded["validation"].to_list() == SEQUENCES.slice(35).to_pylist()
    assert loaded["train"].features[INPUT_IDS] == datasets.List(datasets.Value("uint16"), length=9)
    frame = pl.read_parquet(tmp_path / "train-*.parquet")
    assert frame.schema[INPUT_IDS] == pl.Array(pl.UInt16, 9)
    assert frame.to_dicts() == SEQUENCES.slice(0, 35).to_pylist()
    assert ds.dataset(sorted(map(str, tmp_path.glob("train-*")))).to_table().to_pylist() == SEQUENCES.slice(0, 35).to_pylist()


def test_duckdb(folder: Path) -> None:
    duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed; it is no dependency")
    with duckdb.connect() as connection:
        found = connection.sql(f"select * from '{folder}/*.parquet' order by filename, file_row_number").fetchall()
    assert found == [tuple(row[name] for name in TEXT_SCHEMA.names) for row in PLAIN]


# Bytes


rows_of = st.lists(
    st.tuples(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
        st.sampled_from(["a", "é", ""]),
        st.text("0123456789abcdef", min_size=32, max_size=32),
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**32 - 1),
    ),
    max_size=20,
)


@settings(deadline=None)
@given(rows_of, st.integers(0, 20), st.sampled_from(["zstd", "none"]))
def test_the_same_rows_give_the_same_bytes_and_come_back(rows: list[Any], cut: int, compression: Compression) -> None:
    table = pa.table([list(c) for c in zip(*rows, strict=True)] or [[]] * 5, names=TEXT_SCHEMA.names).cast(TEXT_SCHEMA)
    data = encode(table, compression)
    assert decode(data).equals(table)
    other = pa.concat_tables([ROWS, table]).combine_chunks().slice(ROWS.num_rows)
    other = pa.concat_tables([other.slice(0, cut), other.slice(cut)]).select(sorted(TEXT_SCHEMA.names))
    other = other.set_column(1, "domain", other["domain"].dictionary_encode()).replace_schema_metadata({"pandas": "{}"})
    assert encode(other, compression).equals(data)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 20), st.integers(1, 40), st.sampled_from([pa.uint16(), pa.uint32()]), st.integers(0, 20))
def test_sequences_come_back(count: int, length: int, dtype: Any, cut: int) -> None:
    table = some_sequences(count, length, dtype)
    data = encode(table)
    assert decode(data).equals(table)
    assert encode(pa.concat_tables([table.slice(0, cut), table.slice(cut)])).equals(data)


def test_bytes_do_not_depend_on_threads_or_on_what_was_written_before() -> None:
    table = some_rows(3000, 3000)
    before = encode(table, "zstd")
    threads = pa.cpu_count()
    pa.set_cpu_count(4)
    try:
        assert encode(table, "zstd").equals(before)
    finally:
        pa.set_cpu_count(threads)


def test_the_file_is_what_the_note_says() -> None:
    file = pq.ParquetFile(encode(ROWS, "zstd"))
    group = file.metadata.row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert list(columns) == TEXT_SCHEMA.names
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert {name for name, column in columns.items() if column.has_dictionary_page} == {"domain", "epoch"}
    assert {name for name, column in columns.items() if column.is_stats_set} == {"domain", "doc_id", "epoch", "tokens"}
    assert file.metadata.metadata is None
    assert (columns["tokens"].statistics.min, columns["tokens"].statistics.max) == (2**32 - 500, 2**32 - 1)


def test_the_file_of_sequences_holds_no_statistics_of_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 10 * (18 + parquet.ROW_OVERHEAD))
    file = pq.ParquetFile(encode(SEQUENCES))
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [10] * 4
    ids, *others = (file.metadata.row_group(0).column(i) for i in range(file.metadata.num_columns))
    assert (ids.path_in_schema, ids.is_stats_set, ids.compression) == ("input_ids.list.element", False, "ZSTD")
    assert all(column.is_stats_set for column in others)


def test_row_groups_hold_equal_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 100_000)
    sizes = np.random.default_rng(1).lognormal(6, 1.5, 2_000).astype(int)
    table = pa.table(
        {
            "text": ["x" * n for n in sizes],
            "domain": ["d"] * 2000,
            "doc_id": ["0" * 32] * 2000,
            "epoch": [0] * 2000,
            "tokens": sizes,
        }
    ).cast(TEXT_SCHEMA)
    file = pq.ParquetFile(encode(table, "none"))
    bounds = parquet.row_groups(table)
    held = np.add.reduceat(sizes + parquet.ROW_OVERHEAD, bounds[:-1])
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == np.diff(bounds).tolist()
    largest = sizes.max() + parquet.ROW_OVERHEAD
    assert len(held) == -(-held.sum() // 100_000)
    assert np.all(np.abs(held - held.sum() / len(held)) < largest)
    assert decode(encode(table, "none")).equals(table)


def test_one_document_larger_than_groups_and_no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 1000)
    texts = ["a", "b" * 50_000, "c"]
    table = some_rows(3).set_column(0, TEXT_SCHEMA.field("text"), pa.array(texts, pa.large_string()))
    bounds = parquet.row_groups(table)
    assert np.all(np.diff(bounds) > 0)
    assert (bounds[0], bounds[-1]) == (0, 3)
    assert decode(encode(table, "zstd")).equals(table)
    assert parquet.row_groups(TEXT_SCHEMA.empty_table()).tolist() == [0]
    assert decode(encode(TEXT_SCHEMA.empty_table(), "zstd")).equals(TEXT_SCHEMA.empty_table())


def test_nulls_and_other_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="columns"):
        encode(ROWS.drop_columns(["epoch"]), "zstd")
    null = pa.FixedSizeListArray.from_arrays(pa.array([1, None] * 40, pa.uint16()), 2)
    with pytest.raises(ValueError, match="nulls in the column 'input_ids'"):
        encode(SEQUENCES.set_column(0, INPUT_IDS, null))
    for wrong in (pa.list_(pa.uint16()), pa.list_(pa.int32(), 9)):
        with pytest.raises(ValueError, match="sequences of one length"):
            encode(SEQUENCES.set_column(0, INPUT_IDS, SEQUENCES[INPUT_IDS].cast(wrong)))
    with pytest.raises(ValueError, match="nulls in the column 'text'"):
        encode(ROWS.slice(0, 1).set_column(0, TEXT_SCHEMA.field("text"), pa.array([None], pa.large_string())), "zstd")


# Damage


@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_a_flipped_bit_of_any_page_is_refused(compression: Compression) -> None:
    data = encode(ROWS, compression).to_pybytes()
    group = pq.ParquetFile(pa.BufferReader(data)).metadata.row_group(0)
    for number in range(group.num_columns):
        column = group.column(number)
        place = column.data_page_offset + column.total_compressed_size // 2
        if column.has_dictionary_page:  # two pages in that size, and short ones: the last byte is page data
            place = column.dictionary_page_offset + column.total_compressed_size - 1
        damaged = data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]
        with pytest.raises(InputError, match="damaged Parquet file"):
            decode(damaged)


def test_cut_files_and_other_tables_are_refused() -> None:
    data = encode(ROWS, "zstd").to_pybytes()
    for lie in (b"", data[:-1], data[: len(data) // 2], b"PAR1" * 5):
        with pytest.raises(InputError, match="shard-7: damaged"):
            decode(lie, "shard-7")
    renamed = ROWS.rename_columns(["content", *TEXT_SCHEMA.names[1:]])
    retyped = ROWS.set_column(4, "tokens", ROWS["tokens"].cast(pa.int64()))
    lists = SEQUENCES.set_column(0, INPUT_IDS, SEQUENCES[INPUT_IDS].cast(pa.list_(pa.uint16())))
    sorted_rows = ROWS.select(sorted(TEXT_SCHEMA.names))
    for other in (renamed, retyped, ROWS.append_column("more", ROWS["domain"]), sorted_rows, lists):
        sink = pa.BufferOutputStream()
        pq.write_table(other, sink, store_schema=False)
        with pytest.raises(InputError, match=r"not a shard of ours|sequences of one length"):
            decode(sink.getvalue())


def test_names_sort_and_tell_the_split() -> None:
    assert parquet.names(3, 12, TRAIN, "zstd") == ("train-00003-of-00012.parquet",)
    assert parquet.names(0, 1, VALIDATION, "none") == ("validation-00000-of-00001.parquet",)
    names = [parquet.names(number, 2_000_001, TRAIN, "zstd") for number in (0, 99_999, 100_000, 2_000_000)]
    assert names == sorted(names)
    assert len(parquet.names(99_999, 100_000, TRAIN, "zstd")[0]) == len(parquet.names(0, 100_000, TRAIN, "zstd")[0])
