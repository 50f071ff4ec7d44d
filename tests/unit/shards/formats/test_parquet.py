"""Parquet shards: what the file holds beside the rows, and what is refused."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chameleon_data.errors import InputError
from chameleon_data.plan.plan import TRAIN, VALIDATION
from chameleon_data.shards.formats import parquet
from chameleon_data.shards.formats.files import Level
from chameleon_data.shards.rows import INPUT_IDS, ROW_OVERHEAD, TEXT_SCHEMA, equal_byte_bounds
from tests.support.shard_rows import LEVELS, replace_text, sequence_rows, set_starts, text_rows

ROWS = text_rows(500)
SEQUENCES = sequence_rows(40)


def encode(table: pa.Table, level: Level = 3) -> pa.Buffer:
    (data,) = parquet.encode(table, 0, 1, TRAIN, level).files.values()
    return data


def decode(data: pa.Buffer | bytes, where: str = "shard") -> pa.Table:
    return parquet.decode({"train-00000-of-00001.parquet": data}, where)[0]


def test_columns_that_are_dictionaries_give_the_same_bytes() -> None:
    dictionary = ROWS.set_column(1, "domain", ROWS["domain"].dictionary_encode())
    assert encode(dictionary).equals(encode(ROWS))


def test_bytes_do_not_depend_on_threads_or_on_what_was_written_before() -> None:
    table = text_rows(3000, 1000)
    before = encode(table)
    threads = pa.cpu_count()
    pa.set_cpu_count(4)
    try:
        assert encode(table).equals(before)
    finally:
        pa.set_cpu_count(threads)


def test_the_file_is_what_the_module_says() -> None:
    file = pq.ParquetFile(encode(ROWS))
    group = file.metadata.row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert list(columns) == TEXT_SCHEMA.names
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert {name for name, column in columns.items() if column.has_dictionary_page} == {"domain", "domain_id", "epoch"}
    assert {name for name, column in columns.items() if column.is_stats_set} == {
        "domain",
        "domain_id",
        "doc_id",
        "epoch",
        "tokens",
    }
    assert file.metadata.metadata is None
    assert (columns["tokens"].statistics.min, columns["tokens"].statistics.max) == (2**32 - 500, 2**32 - 1)
    assert [str(field.type) for field in file.schema_arrow] == ["string", "string", "uint32", "string", "uint32", "uint32"]


def test_polars_sees_lists_of_one_length() -> None:
    assert pl.read_parquet(encode(SEQUENCES).to_pybytes()).schema[INPUT_IDS] == pl.Array(pl.UInt16, 9)


def test_the_file_of_sequences_holds_no_statistics_of_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 10 * (18 + 8 + ROW_OVERHEAD))
    file = pq.ParquetFile(encode(set_starts(SEQUENCES, [[0, 7]] * 40)))
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [10] * 4
    ids, *others, starts = (file.metadata.row_group(0).column(i) for i in range(file.metadata.num_columns))
    assert (ids.path_in_schema, ids.is_stats_set, ids.compression) == ("input_ids.list.element", False, "ZSTD")
    assert all(column.is_stats_set for column in others)
    assert (starts.path_in_schema, starts.is_stats_set) == ("doc_starts.list.element", False)


def test_row_groups_hold_equal_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 100_000)
    sizes = np.random.default_rng(1).lognormal(6, 1.5, 2_000).astype(int)
    table = replace_text(text_rows(2000), ["x" * n for n in sizes])
    file = pq.ParquetFile(encode(table, None))
    bounds = equal_byte_bounds(table, 100_000)
    held = np.add.reduceat(sizes + ROW_OVERHEAD, bounds[:-1])
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == np.diff(bounds).tolist()
    assert len(held) == -(-held.sum() // 100_000)
    assert np.all(np.abs(held - held.sum() / len(held)) < sizes.max() + ROW_OVERHEAD)
    assert decode(encode(table, None)).equals(table)


def test_one_document_larger_than_groups_and_no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 1000)
    table = replace_text(text_rows(3), ["a", "b" * 50_000, "c"])
    bounds = equal_byte_bounds(table, 1000)
    assert np.all(np.diff(bounds) > 0)
    assert (bounds[0], bounds[-1]) == (0, 3)
    assert decode(encode(table)).equals(table)
    assert equal_byte_bounds(TEXT_SCHEMA.empty_table(), 1000).tolist() == [0]


@pytest.mark.parametrize("level", LEVELS)
def test_a_flipped_bit_of_any_page_is_refused(level: Level) -> None:
    data = encode(ROWS, level).to_pybytes()
    group = pq.ParquetFile(pa.BufferReader(data)).metadata.row_group(0)
    for number in range(group.num_columns):
        column = group.column(number)
        place = column.data_page_offset + column.total_compressed_size // 2
        if column.has_dictionary_page:  # two pages in that size, and short ones: the last byte is page data
            place = column.dictionary_page_offset + column.total_compressed_size - 1
        damaged = data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]
        with pytest.raises(InputError, match="damaged Parquet file"):
            decode(damaged)


def test_other_tables_are_refused() -> None:
    renamed = ROWS.rename_columns(["content", *TEXT_SCHEMA.names[1:]])
    retyped = ROWS.set_column(5, "tokens", ROWS["tokens"].cast(pa.int64()))
    lists = SEQUENCES.set_column(0, INPUT_IDS, SEQUENCES[INPUT_IDS].cast(pa.list_(pa.uint16())))
    sorted_rows = ROWS.select(sorted(TEXT_SCHEMA.names))
    for other in (renamed, retyped, ROWS.append_column("more", ROWS["tokens"]), sorted_rows, lists):
        sink = pa.BufferOutputStream()
        pq.write_table(other, sink, store_schema=False)
        with pytest.raises(
            InputError, match=r"shard-7: damaged .*(not those of a shard|sequences of one length|which no kept column is)"
        ):
            decode(sink.getvalue(), "shard-7")


def test_names_tell_the_split() -> None:
    assert parquet.names(3, 12, TRAIN, 3) == ("train-00003-of-00012.parquet",)
    assert parquet.names(0, 1, VALIDATION, None) == ("validation-00000-of-00001.parquet",)
