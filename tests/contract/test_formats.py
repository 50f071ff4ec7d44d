"""What every format promises: rows come back, bytes depend on the rows alone, names sort, damage is refused.

What is particular to one format is in tests/unit/shards/formats; other projects' readers and writers are in tests/official.
"""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chameleon_data.errors import InputError
from chameleon_data.plan.plan import TRAIN, VALIDATION
from chameleon_data.shards.formats.files import Level
from chameleon_data.shards.formats.registry import FORMATS
from chameleon_data.shards.rows import INPUT_IDS
from chameleon_data.versions.checks.formats import have_same_rows
from tests.support.shard_rows import (
    LEVELS,
    SEQUENCES,
    TEXTS,
    TURNS,
    any_text,
    bytes_of,
    column_rows,
    document_rows,
    rechunk,
    replace_text,
    sequence_rows,
    text_rows,
    turn_rows,
)

OF_TEXT = [name for name in FORMATS if name != "megatron"]
WITHOUT_SCHEMA = ["jsonl", "webdataset", "litdata", "megatron"]
"""A file of no rows in these would not say which columns the rows have."""
EXACT = ["jsonl", "webdataset", "litdata"]
"""These decode by writing the rows again and comparing."""
UNCOMPRESSED = ["webdataset", "megatron"]
TABLES = {"text": TEXTS, "sequences": SEQUENCES, "columns": column_rows(40), "turns": TURNS}
SMALL = {"text": TEXTS.slice(1, 3), "sequences": SEQUENCES.slice(0, 3), "columns": column_rows(3), "turns": TURNS.slice(0, 3)}
CASES = [(name, kind) for kind in TABLES for name in (FORMATS if kind == "sequences" else OF_TEXT)]


@st.composite
def tables(draw: st.DrawFn, format: str) -> pa.Table:
    """Any rows that the format holds."""
    count = draw(st.integers(1, 20))
    if format == "megatron" or draw(st.booleans()):
        dtype, seed = draw(st.sampled_from([pa.uint16(), pa.uint32()])), draw(st.integers(0, 9))
        if format == "megatron" and draw(st.booleans()):
            return document_rows(count, dtype, seed)
        if format != "megatron" and draw(st.booleans()):
            return turn_rows(count, draw(st.integers(1, 40)), dtype, seed, draw(st.booleans()))
        most = 2**31 - 1 if format == "megatron" and dtype == pa.uint32() else None
        return sequence_rows(count, draw(st.integers(1, 40)), dtype, seed, most)
    texts = st.lists(any_text, min_size=count, max_size=count)
    rows = column_rows(count) if draw(st.booleans()) else text_rows(count)
    return replace_text(rows, draw(texts)).set_column(1, "domain", pa.array(draw(texts), pa.string()))


@settings(deadline=None, max_examples=25)
@given(st.data())
@pytest.mark.parametrize("format", FORMATS)
def test_any_rows_come_back_and_chunks_do_not_change_a_byte(format: str, data: st.DataObject) -> None:
    table, level = data.draw(tables(format)), data.draw(st.sampled_from(LEVELS))
    shard = FORMATS[format].encode(table, 3, 7, VALIDATION, level)
    found, entry = FORMATS[format].decode(shard.files, "here")
    assert have_same_rows(found, table, end_of_text=-1)
    assert found.equals(table) or format == "jsonl"  # JSON does not tell uint16 from uint32
    assert entry == shard.entry
    assert json.loads(json.dumps(entry)) == entry  # it is kept in a receipt
    again = FORMATS[format].encode(rechunk(table, data.draw(st.integers(0, 20))), 3, 7, VALIDATION, level)
    assert bytes_of(again) == bytes_of(shard)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", TABLES)
def test_all_formats_hold_the_same_rows_in_the_same_order(kind: str, level: Level) -> None:
    for format in [format for format, other in CASES if other == kind]:
        shard = FORMATS[format].encode(TABLES[kind], 0, 1, TRAIN, level)
        found, entry = FORMATS[format].decode(shard.files, format)
        assert have_same_rows(found, TABLES[kind], end_of_text=-1), format
        assert entry == shard.entry


@pytest.mark.parametrize("format", FORMATS)
def test_names_sort_in_the_order_of_shards_and_no_two_meet(format: str) -> None:
    for level in LEVELS:
        for count in (1, 12, 100_000, 100_001, 2_000_000):
            numbers = sorted(n for n in {0, 1, 9, 10, 99_999, 100_000, count - 1} if n < count)
            names = {s: [FORMATS[format].names(n, count, s, level) for n in numbers] for s in (TRAIN, VALIDATION)}
            for files in (of_one for of_split in names.values() for of_one in zip(*of_split, strict=True)):
                assert list(files) == sorted(files)
            everything = [name for of_split in names.values() for of_shard in of_split for name in of_shard]
            everything += [name for split in names for name in FORMATS[format].index(split, [])]
            assert len(set(everything)) == len(everything)
            assert not any(name.startswith("/") or ".." in name for name in everything)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("level", LEVELS)
def test_files_have_the_names_that_were_promised(format: str, level: Level) -> None:
    for split in (TRAIN, VALIDATION):
        shard = FORMATS[format].encode(SMALL["sequences"], 3, 100_001, split, level)
        assert tuple(shard.files) == FORMATS[format].names(3, 100_001, split, level)


@pytest.mark.parametrize("format", FORMATS)
def test_the_level_changes_the_bytes_of_formats_that_compress_and_no_row(format: str) -> None:
    table = SEQUENCES if format == "megatron" else TEXTS
    shards = [FORMATS[format].encode(table, 0, 1, TRAIN, level) for level in (1, 3, 19, None)]
    decoded = [FORMATS[format].decode(shard.files, "here") for shard in shards]
    assert all(have_same_rows(rows, table, end_of_text=-1) for rows, _ in decoded)
    assert [entry for _, entry in decoded] == [shard.entry for shard in shards]
    written = {b"".join(bytes_of(shard).values()) for shard in shards}
    assert len(written) == (1 if format in UNCOMPRESSED else 4)


@pytest.mark.parametrize("format", FORMATS)
def test_the_writer_says_what_it_is(format: str) -> None:
    said = FORMATS[format].WRITER
    assert said["format"] == format
    assert json.loads(json.dumps(said)) == said


# What cannot be written


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("level", LEVELS)
def test_a_shard_without_rows_comes_back_or_is_refused(format: str, level: Level) -> None:
    for table in (SEQUENCES.slice(0, 0), TEXTS.slice(0, 0)):
        if format in WITHOUT_SCHEMA:
            with pytest.raises(InputError, match=r"without rows|holds tokens, not text"):
                FORMATS[format].encode(table, 0, 1, TRAIN, level)
        else:
            found, _ = FORMATS[format].decode(FORMATS[format].encode(table, 0, 1, TRAIN, level).files, "here")
            assert found.equals(table)


@pytest.mark.parametrize("format", FORMATS)
def test_nulls_and_other_columns_are_refused(format: str) -> None:
    lists = pa.FixedSizeListArray.from_arrays(pa.array([1, None] * 300, pa.uint16()), 2)
    for wrong, message in (
        (SEQUENCES.drop_columns(["epoch"]), "columns"),
        (SEQUENCES.append_column("more", SEQUENCES["epoch"]), "columns"),
        (SEQUENCES.set_column(0, INPUT_IDS, lists), "nulls in the column 'input_ids'"),
        (SEQUENCES.set_column(1, "domain", pa.array([None] * 300, pa.string())), "nulls in the column 'domain'"),
        (SEQUENCES.set_column(0, INPUT_IDS, SEQUENCES[INPUT_IDS].cast(pa.list_(pa.uint16()))), "sequences of one length"),
        (SEQUENCES.set_column(0, INPUT_IDS, SEQUENCES[INPUT_IDS].cast(pa.list_(pa.int32(), 33))), "sequences of one length"),
    ):
        with pytest.raises(ValueError, match=message):
            FORMATS[format].encode(wrong, 0, 1, TRAIN, None)


# What is stored is not believed


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
@pytest.mark.parametrize(("format", "kind"), CASES)
def test_a_damaged_file_is_refused_or_holds_rows_that_are_well_formed(format: str, kind: str, data: st.DataObject) -> None:
    level = data.draw(st.sampled_from(LEVELS))
    files = {k: bytearray(v) for k, v in bytes_of(FORMATS[format].encode(SMALL[kind], 0, 1, TRAIN, level)).items()}
    name = data.draw(st.sampled_from(sorted(files)))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(files[name])) | st.integers(0, 40))
        files[name][place : place + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=5))
    damaged = {name: bytes(body) for name, body in files.items()}
    try:
        found, _ = FORMATS[format].decode(damaged, "here")
    except InputError:
        return
    found.validate(full=True)
    assert found.num_rows
    if format in EXACT and level is None:  # then it is the whole file of other rows
        assert bytes_of(FORMATS[format].encode(found, 0, 1, TRAIN, level)) == damaged


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("format", "kind"), CASES)
def test_a_cut_file_and_an_extended_one_are_refused(format: str, kind: str, level: Level) -> None:
    files = bytes_of(FORMATS[format].encode(SMALL[kind], 0, 1, TRAIN, level))
    for name, body in files.items():
        lengths = {0, 1, 7, 8, 24, 40, 100, len(body) // 2, len(body) - 9, len(body) - 1}
        for lie in [body[:length] for length in sorted(lengths) if length < len(body)] + [body + b"\0", body + body]:
            if lie == body + body and name.endswith((".arrow", ".parquet", ".jsonl")):
                continue  # these are read from their end, or have the rows twice
            with pytest.raises(InputError, match=r"here: damaged .*; restore it from a copy or build it again"):
                FORMATS[format].decode(files | {name: lie}, "here")


@pytest.mark.parametrize("format", FORMATS)
def test_text_that_is_not_utf8_is_refused(format: str) -> None:
    rows = SEQUENCES.slice(0, 1).set_column(1, "domain", pa.array(["plain words"], pa.string()))
    files = bytes_of(FORMATS[format].encode(rows, 0, 1, TRAIN, None))
    (name,) = [name for name, body in files.items() if b"words" in body]
    with pytest.raises(InputError, match="here: damaged"):
        FORMATS[format].decode(files | {name: files[name].replace(b"words", b"w\xffrds")}, "here")
