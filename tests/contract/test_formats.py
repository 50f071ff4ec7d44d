"""Every format: the official reader gives the same rows, the official writer the same bytes, and what is damaged is refused."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pyarrow as pa
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chameleon_data.errors import InputError
from chameleon_data.plan.plan import TRAIN, VALIDATION
from chameleon_data.shards.formats import arrow, jsonl, litdata, megatron, webdataset
from chameleon_data.shards.formats.registry import FORMATS
from chameleon_data.shards.rows import INPUT_IDS, TEXT_SCHEMA, Compression
from chameleon_data.versions.verify import have_same_rows
from tests.contract.test_parquet import some_rows, some_sequences
from tests.support import official_readers as official

COMPRESSIONS: tuple[Compression, ...] = ("zstd", "none")
OF_TEXT = [name for name in FORMATS if name != "megatron"]
WITHOUT_SCHEMA = ["jsonl", "webdataset", "litdata", "megatron"]
"""No rows in these do not say of what."""
ODD = "".join(map(chr, [*range(0x100), 0x2028, 0x2029, 0xFEFF, 0xFFFD, 0xFFFF, 0x1F98E, 0x10FFFF])) + '"\\\r\n\\u0000</script>'
TEXTS = some_rows(300).set_column(
    0, "text", pa.array(["", ODD, *some_rows(297)["text"].to_pylist(), "x" * 300_000], pa.large_string())
)
SEQUENCES = some_sequences(300, 33)
TABLES = {"text": TEXTS, "sequences": SEQUENCES}
CASES = [(name, kind) for kind in TABLES for name in (FORMATS if kind == "sequences" else OF_TEXT)]


def some_documents(count: int, dtype: Any, seed: int = 0) -> pa.Table:
    """Tokenised documents of 0 to 9 tokens."""
    generator = np.random.default_rng(seed)
    most = min(2**31 - 1, np.iinfo(dtype.to_pandas_dtype()).max)
    lists = [generator.integers(0, most, generator.integers(0, 10), endpoint=True).tolist() for _ in range(count)]
    return some_rows(count).set_column(0, INPUT_IDS, pa.array(lists, pa.large_list(dtype)))


def storable(table: pa.Table, format: str) -> pa.Table:
    """Megatron ends at 2^31."""
    if format != "megatron" or table.schema.field(INPUT_IDS).type.value_type != pa.uint32():
        return table
    ids = table[INPUT_IDS].combine_chunks()
    halved = pa.array(ids.flatten().to_numpy() // 2)
    return table.set_column(0, INPUT_IDS, pa.FixedSizeListArray.from_arrays(halved, type=ids.type))


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# Readers


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize(("format", "kind"), CASES)
def test_the_official_reader_gives_the_rows_of_each_split_and_leaves_the_files(
    format: str, kind: str, compression: Compression, tmp_path: Path
) -> None:
    table = TABLES[kind]
    parts = {TRAIN: [table.slice(0, 280), table.slice(280, 10)], VALIDATION: [table.slice(290)]}
    for split, tables in parts.items():
        official.store(tmp_path, format, tables, split, compression)
    before = snapshot(tmp_path)
    for split, tables in parts.items():
        assert official.read(tmp_path, format, split) == [row for each in tables for row in each.to_pylist()]
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("kind", TABLES)
def test_all_formats_give_the_same_sequence_of_documents(kind: str, tmp_path: Path) -> None:
    parts = [TABLES[kind].slice(begin, 100) for begin in (0, 100, 200)]
    found = {}
    for format in [format for format, other in CASES if other == kind]:
        official.store(tmp_path / format, format, parts, TRAIN, "zstd")
        rows = official.read(tmp_path / format, format, TRAIN)
        found[format] = [(row["domain"], row["doc_id"], row["epoch"], row["tokens"]) for row in rows]
    assert len(found["parquet"]) == 300
    assert [format for format in found if found[format] != found["parquet"]] == []


@pytest.mark.parametrize("kind", TABLES)
def test_polars_and_pyarrow_too(kind: str, tmp_path: Path) -> None:
    table = TABLES[kind]
    plain = table.to_pylist()
    for format in ("arrow", "jsonl", "parquet"):
        for compression in COMPRESSIONS:
            folder = tmp_path / format / compression
            official.store(folder, format, [table.slice(0, 200), table.slice(200)], TRAIN, compression)
            files = sorted(folder.iterdir())
            scan = {"arrow": pl.scan_ipc, "jsonl": pl.scan_ndjson, "parquet": pl.scan_parquet}[format]
            assert scan(files).collect().to_dicts() == plain
            if format == "arrow":
                found = pa.concat_tables([pa.ipc.open_file(file).read_all() for file in files])
                assert found.to_pylist() == plain
                assert found.schema.field(0).type in (pa.string(), pa.list_(pa.uint16(), 33))


@pytest.mark.parametrize("dtype", [pa.uint16(), pa.uint32()])
def test_megatron_reads_whole_documents(dtype: Any, tmp_path: Path) -> None:
    table = some_documents(50, dtype)
    table = table.set_column(
        0, INPUT_IDS, pa.array([[0, 65_535, 65_500], *table[INPUT_IDS].to_pylist()[1:]], pa.large_list(dtype))
    )
    official.store(tmp_path, "megatron", [table.slice(0, 20), table.slice(20)], TRAIN, "zstd")
    assert official.read(tmp_path, "megatron", TRAIN) == table.to_pylist()


# Bytes


@settings(deadline=None, max_examples=25)
@given(st.data())
@pytest.mark.parametrize("format", FORMATS)
def test_any_rows_come_back_and_chunks_do_not_change_a_byte(format: str, data: st.DataObject) -> None:
    count, cut = data.draw(st.integers(1, 20)), data.draw(st.integers(0, 20))
    if format == "megatron" or data.draw(st.booleans()):
        dtype = data.draw(st.sampled_from([pa.uint16(), pa.uint32()]))
        if format == "megatron" and data.draw(st.booleans()):
            table = some_documents(count, dtype, data.draw(st.integers(0, 9)))
        else:
            table = storable(some_sequences(count, data.draw(st.integers(1, 40)), dtype), format)
    else:
        texts = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), min_size=count, max_size=count)
        table = some_rows(count).set_column(0, TEXT_SCHEMA.field("text"), pa.array(data.draw(texts), pa.large_string()))
        table = table.set_column(1, "domain", pa.array(data.draw(texts), pa.string()))
    compression = data.draw(st.sampled_from(COMPRESSIONS))
    shard = FORMATS[format].encode(table, 3, 7, VALIDATION, compression)
    found, entry = FORMATS[format].decode(shard.files, "here")
    assert have_same_rows(found, table, end_of_text=-1)
    assert found.equals(table) or format == "jsonl"
    assert entry == shard.entry
    assert json.loads(json.dumps(entry)) == entry  # it is kept in a receipt
    padded = pa.concat_tables([table, table, table]).combine_chunks().slice(count, count)
    chunked = pa.concat_tables([padded.slice(0, cut), padded.slice(cut)]).select(sorted(table.column_names))
    again = FORMATS[format].encode(chunked.replace_schema_metadata({"a": "b"}), 3, 7, VALIDATION, compression)
    assert {name: body.to_pybytes() for name, body in again.files.items()} == {
        name: body.to_pybytes() for name, body in shard.files.items()
    }


def test_the_bytes_of_json_lines_are_those_of_two_other_writers() -> None:
    for table in TABLES.values():
        (body,) = jsonl.encode(table, 0, 1, TRAIN, "none").files.values()
        rows = table.to_pylist()
        assert body.to_pybytes() == b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)
        spelled = json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode()
        assert body.to_pybytes() == spelled[1:-1].replace(b"},{", b"}\n{") + b"\n"


@pytest.mark.parametrize("table", [*TABLES.values(), some_sequences(9, 2048, pa.uint32())], ids=["text", "uint16", "uint32"])
def test_the_bytes_of_a_tar_file_are_tar_writers(table: pa.Table) -> None:
    ((name, body),) = webdataset.encode(table, 12, 100_001, TRAIN, "zstd").files.items()
    assert name == "train-000012.tar"
    assert body.to_pybytes() == official.tar_of(official.tar_samples(table, "000012"))


@pytest.mark.parametrize("table", [*TABLES.values(), some_sequences(9, 20, pa.uint32())], ids=["text", "uint16", "uint32"])
def test_the_bytes_of_a_chunk_are_litdatas(table: pa.Table, tmp_path: Path) -> None:
    items = official.litdata_items(table)
    theirs = official.litdata_chunk(items, tmp_path)
    plain, framed = (litdata.encode(table, 0, 1, TRAIN, compression) for compression in ("none", "zstd"))
    tail = json.dumps(plain.entry["config"]["data_format"]).encode()
    assert plain.files["chunk-00000.bin"].to_pybytes() == theirs + tail

    class OurFrames:
        def compress(self, data: bytes) -> bytes:
            return litdata.compress_frame(data).to_pybytes()

    packed = official.load("litdata.streaming.framed_zstd").pack_framed_zstd(theirs, OurFrames(), 256)
    assert framed.files["chunk-00000.bin"].to_pybytes() == packed + tail


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_the_index_of_litdata_says_what_its_writer_says(compression: Compression, tmp_path: Path) -> None:
    codec = "zstd" if compression == "zstd" else None
    writer = official.load("litdata.streaming.writer").BinaryWriter(str(tmp_path), chunk_size=300, compression=codec)
    for number, item in enumerate(official.litdata_items(SEQUENCES)):
        writer[number] = item
    writer.done()
    writer.merge()
    theirs = json.loads((tmp_path / "index.json").read_text())
    entry = litdata.encode(SEQUENCES, 0, 1, TRAIN, compression).entry
    ours = json.loads(litdata.index(TRAIN, [entry])["index.json"])
    assert ours["config"] == theirs["config"] | {"chunk_size": None}
    assert set(ours["chunks"][0]) == set(theirs["chunks"][0])
    with pytest.raises(InputError, match="not all of the same kind"):
        litdata.index(TRAIN, [entry, litdata.encode(TEXTS, 0, 1, TRAIN, compression).entry])


@pytest.mark.parametrize("dtype", [pa.uint16(), pa.uint32()])
def test_the_bytes_of_an_indexed_dataset_are_its_builders(dtype: Any, tmp_path: Path) -> None:
    for table in (some_documents(40, dtype), storable(some_sequences(40, 9, dtype), "megatron")):
        files = megatron.encode(table, 0, 1, TRAIN, "zstd").files
        theirs = official.indexed_dataset(table[INPUT_IDS].to_pylist(), np.uint16 if dtype == pa.uint16() else np.int32, tmp_path)
        assert (files["train-00000.bin"].to_pybytes(), files["train-00000.idx"].to_pybytes()) == theirs


def test_the_blend_file_weighs_by_tokens() -> None:
    entries = [megatron.encode(SEQUENCES.slice(0, rows), number, 2, TRAIN, "none").entry for number, rows in enumerate((300, 7))]
    assert megatron.index(TRAIN, entries) == {"train.blend.txt": b"9900 train-00000\n231 train-00001\n"}


def test_record_batches_hold_equal_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow, "RECORD_BATCH_BYTES", 10 * (66 + 64))
    (body,) = arrow.encode(SEQUENCES, 0, 1, TRAIN, "zstd").files.values()
    with pa.ipc.open_file(body) as reader:
        assert [reader.get_batch(i).num_rows for i in range(reader.num_record_batches)] == [10] * 30


@pytest.mark.parametrize("format", FORMATS)
def test_names_sort_and_no_two_meet(format: str) -> None:
    for compression in COMPRESSIONS:
        for count in (1, 12, 100_000, 100_001, 2_000_000):
            numbers = sorted(n for n in {0, 1, 9, 10, 99_999, 100_000, count - 1} if n < count)
            found = {s: [FORMATS[format].names(n, count, s, compression) for n in numbers] for s in (TRAIN, VALIDATION)}
            for files in (of_one for names in found.values() for of_one in zip(*names, strict=True)):
                assert list(files) == sorted(files)
            everything = [name for names in found.values() for of_one in names for name in of_one]
            everything += [name for split in found for name in FORMATS[format].index(split, [])]
            assert len(set(everything)) == len(everything)
            assert not any(name.startswith("/") or ".." in name for name in everything)


@pytest.mark.parametrize("format", FORMATS)
def test_the_writer_says_what_it_is(format: str) -> None:
    said = FORMATS[format].WRITER
    assert said["format"] == format
    assert json.loads(json.dumps(said)) == said


# What cannot be written


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_no_rows_are_right_or_refused(format: str, compression: Compression) -> None:
    for table in (SEQUENCES.slice(0, 0), TEXTS.slice(0, 0)):
        if format in WITHOUT_SCHEMA:
            with pytest.raises(InputError, match=r"no rows|holds tokens, not text"):
                FORMATS[format].encode(table, 0, 1, TRAIN, compression)
        else:
            found, _ = FORMATS[format].decode(FORMATS[format].encode(table, 0, 1, TRAIN, compression).files, "here")
            assert found.equals(table)


@pytest.mark.parametrize("format", FORMATS)
def test_nulls_and_other_columns_are_refused(format: str) -> None:
    lists = pa.FixedSizeListArray.from_arrays(pa.array([1, None] * 300, pa.uint16()), 2)
    for wrong, message in (
        (SEQUENCES.drop_columns(["epoch"]), "columns"),
        (SEQUENCES.append_column("more", SEQUENCES["epoch"]), "columns"),
        (SEQUENCES.set_column(0, INPUT_IDS, lists), "nulls"),
        (SEQUENCES.set_column(1, "domain", pa.array([None] * 300, pa.string())), "nulls"),
    ):
        with pytest.raises(ValueError, match=message):
            FORMATS[format].encode(wrong, 0, 1, TRAIN, "none")


def test_what_a_format_does_not_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="holds tokens, not text; name a tokenizer"):
        megatron.encode(TEXTS, 0, 1, TRAIN, "none")
    for column in (pa.array([[2**31]], pa.large_list(pa.uint32())), pa.array([[2**31]], pa.list_(pa.uint32(), 1))):
        with pytest.raises(InputError, match="the token 2,147,483,648"):
            megatron.encode(TEXTS.slice(0, 1).set_column(0, INPUT_IDS, column), 0, 1, TRAIN, "none")
    with pytest.raises(ValueError, match="lists of uint16 or uint32"):
        megatron.encode(
            TEXTS.slice(0, 1).set_column(0, INPUT_IDS, pa.array([[1]], pa.large_list(pa.int32()))), 0, 1, TRAIN, "none"
        )
    with pytest.raises(ValueError, match="nulls in the column 'input_ids'"):
        megatron.encode(
            TEXTS.slice(0, 1).set_column(0, INPUT_IDS, pa.array([[None]], pa.large_list(pa.uint16()))), 0, 1, TRAIN, "none"
        )
    size = litdata.encode(SEQUENCES, 0, 1, TRAIN, "none").files["chunk-00000.bin"].size
    monkeypatch.setattr(litdata, "LARGEST_CHUNK", size // 2)
    with pytest.raises(InputError, match=r"4 GiB; lower 'shards\.size'"):
        litdata.encode(SEQUENCES, 0, 1, TRAIN, "zstd")


# What is stored is not believed

SMALL = {"text": TEXTS.slice(1, 3), "sequences": SEQUENCES.slice(0, 3)}


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
@pytest.mark.parametrize(("format", "kind"), CASES)
def test_a_damaged_file_is_refused_or_holds_rows_that_are_well_formed(format: str, kind: str, data: st.DataObject) -> None:
    compression = data.draw(st.sampled_from(COMPRESSIONS))
    shard = FORMATS[format].encode(SMALL[kind], 0, 1, TRAIN, compression)
    files = {name: bytearray(body.to_pybytes()) for name, body in shard.files.items()}
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
    if format in ("jsonl", "webdataset", "litdata") and compression == "none":  # then it is the whole file of other rows
        again = FORMATS[format].encode(found, 0, 1, TRAIN, compression).files
        assert {name: body.to_pybytes() for name, body in again.items()} == damaged


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize(("format", "kind"), CASES)
def test_a_cut_file_and_an_extended_one_are_refused(format: str, kind: str, compression: Compression) -> None:
    shard = FORMATS[format].encode(SMALL[kind], 0, 1, TRAIN, compression)
    files = {name: body.to_pybytes() for name, body in shard.files.items()}
    for name, body in files.items():
        lengths = {0, 1, 7, 8, 24, 40, 100, len(body) // 2, len(body) - 9, len(body) - 1}
        for lie in [body[:length] for length in sorted(lengths) if length < len(body)] + [body + b"\0", body + body]:
            if lie == body + body and name.endswith((".arrow", ".parquet", ".jsonl")):
                continue  # these are read from their end, or have the rows twice
            with pytest.raises(InputError, match="here"):
                FORMATS[format].decode(files | {name: lie}, "here")


def test_sizes_that_are_not_there_are_refused_before_they_are_allocated() -> None:
    frame = zstandard.ZstdCompressor(write_checksum=True).compress(b"x" * 1000)
    claims = b"\x28\xb5\x2f\xfd\xe4" + struct.pack("<Q", 2**39) + frame[7:]
    (body,) = webdataset.encode(SMALL["text"], 0, 1, TRAIN, "none").files.values()
    tar = bytearray(body.to_pybytes())
    tar[124:135] = b"7" * 11
    backwards = bytearray(body.to_pybytes())
    backwards[124:135] = b"-0000001000"
    chunk = litdata.encode(SMALL["sequences"], 0, 1, TRAIN, "none").files["chunk-00000.bin"].to_pybytes()
    framed = litdata.encode(SMALL["sequences"], 0, 1, TRAIN, "zstd").files["chunk-00000.bin"].to_pybytes()
    for format, name, lie in (
        ("jsonl", "train-00000-of-00001.jsonl.zst", claims),
        ("mds", "shard.00000.mds.zstd", claims),
        ("webdataset", "train-00000.tar", bytes(tar)),
        ("webdataset", "train-00000.tar", bytes(backwards)),
        ("litdata", "chunk-00000.bin", b"\xff" * 4 + chunk[4:]),
        ("litdata", "chunk-00000.bin", framed[:12] + b"\xff" * 4 + framed[16:]),
        ("litdata", "chunk-00000.bin", framed[:20] + b"\xff" * 4 + framed[24:]),
    ):
        with pytest.raises(InputError, match="here.*does not give a size" if lie == claims else "here"):
            FORMATS[format].decode({name: lie}, "here")
    files = {name: body.to_pybytes() for name, body in megatron.encode(SMALL["sequences"], 0, 1, TRAIN, "none").files.items()}
    for at in range(9, 34):
        idx = bytearray(files["train-00000.idx"])
        idx[at] ^= 0x40
        with pytest.raises(InputError, match="here"):
            megatron.decode(files | {"train-00000.idx": bytes(idx)}, "here")


def test_every_bit_of_the_head_of_a_litdata_chunk_means_something() -> None:
    rows = SEQUENCES.slice(0, 300)
    for compression, size in (("zstd", 24 + 4 * 301 + 2 * 24), ("none", 4 * 302)):
        body = litdata.encode(rows, 0, 1, TRAIN, compression).files["chunk-00000.bin"].to_pybytes()  # type: ignore[arg-type]
        for at in [*range(40), *range(size - 60, size)]:
            lie = bytearray(body)
            lie[at] ^= 1
            with pytest.raises(InputError, match="here"):
                litdata.decode({"chunk-00000.bin": bytes(lie)}, "here")


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_bytes_that_no_row_of_a_litdata_chunk_asks_for_are_refused(compression: Compression) -> None:
    """A row that begins later than the rows do, with all sizes as they should be."""
    body = litdata.encode(SMALL["text"], 0, 1, TRAIN, compression).files["chunk-00000.bin"].to_pybytes()
    if compression == "none":
        offsets = np.frombuffer(body, "<u4", 4, 4) + 4
        lie = body[:4] + offsets.tobytes() + b"more" + body[20:]
    else:
        offsets = np.frombuffer(body, "<u4", 4, 24).astype(np.int64) + 4
        end = 24 + 16 + 24 + struct.unpack_from("<I", body, 56)[0]
        frame = litdata.compress_frame(b"more" + litdata.decompress_frame(body[64:end], ""))
        lie = b"".join([litdata._head(offsets, np.array([frame.size])), frame, body[end:]])
    with pytest.raises(InputError, match="bytes that no row asks for"):
        litdata.decode({"chunk-00000.bin": lie}, "here")


def test_text_in_an_arrow_file_that_is_not_utf8_is_refused() -> None:
    rows = TEXTS.slice(0, 1).set_column(0, TEXT_SCHEMA.field("text"), pa.array(["plain words"], pa.large_string()))
    (body,) = arrow.encode(rows, 0, 1, TRAIN, "none").files.values()
    with pytest.raises(InputError, match="here: damaged Arrow file"):
        arrow.decode({"": body.to_pybytes().replace(b"words", b"w\xffrds")}, "here")


def test_a_shard_under_the_name_of_another_is_told_by_its_keys() -> None:
    (body,) = webdataset.encode(SMALL["text"], 3, 9, TRAIN, "none").files.values()
    with pytest.raises(InputError, match="not a tar file as we write it"):
        webdataset.decode({"train-00004.tar": body}, "here")


@pytest.mark.parametrize(
    "lie",
    [b'{"text":"a", "domain":"b","doc_id":"c","epoch":0,"tokens":1}\n', b'{"text":"a","domain":"b","doc_id":"c","epoch":0}\n',
     b'{"text":"\\u0041","domain":"b","doc_id":"c","epoch":0,"tokens":1}\n', b"[1]\n", b"7\n", b"\n", b"[" * 100_000 + b"\n",
     b'{"text":"a","domain":"b","doc_id":"c","epoch":0,"tokens":1,"tokens":1}\n', b'{"input_ids":[],"domain":"b"}\n',
     b'{"input_ids":[1.5],"domain":"b","doc_id":"c","epoch":0,"tokens":1}\n',
     b'{"input_ids":[true],"domain":"b","doc_id":"c","epoch":0,"tokens":1}\n',
     b'{"input_ids":[4294967296],"domain":"b","doc_id":"c","epoch":0,"tokens":1}\n',
     b'{"text":"a","domain":"b","doc_id":"c","epoch":-1,"tokens":1}\n',
     b'{"text":null,"domain":"b","doc_id":"c","epoch":0,"tokens":1}\n',
     b'{"text":"a","domain":"b","doc_id":"c","epoch":0,"tokens":1}',
     b'{"text":"\\ud800","domain":"b","doc_id":"c","epoch":0,"tokens":1}\n'],
)  # fmt: skip
def test_json_that_means_the_same_or_nothing_is_refused(lie: bytes) -> None:
    good = b'{"text":"a","domain":"b","doc_id":"c","epoch":0,"tokens":1}\n'
    assert jsonl.decode({"train-00000-of-00001.jsonl": good}, "here")[0].num_rows == 1
    with pytest.raises(InputError, match="here"):
        jsonl.decode({"train-00000-of-00001.jsonl": lie}, "here")
