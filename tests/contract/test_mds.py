"""MDS shards: the official writer is the oracle for the bytes, the official reader for the rows, MDS itself for refusals."""

from __future__ import annotations

import json
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chameleon_data.errors import InputError
from chameleon_data.plan.plan import TRAIN, VALIDATION
from chameleon_data.shards.formats import mds
from chameleon_data.shards.formats.zstd import decompress_frame
from chameleon_data.shards.rows import INPUT_IDS, TEXT_SCHEMA, Compression, Encoded, conform, token_ids
from tests.contract.test_parquet import some_sequences
from tests.support import streaming_reader

COMPRESSIONS: tuple[Compression, ...] = ("zstd", "none")

unicode = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)  # NUL, emoji and every plane; no lone surrogates
texts = st.one_of(st.sampled_from(["", "\0", "é", "\U0001f98e", "a\r\n\0b", "x" * 70_000]), unicode)
numbers = st.integers(0, 2**32 - 1)
rows_of = st.lists(st.tuples(texts, unicode, texts, numbers, numbers), max_size=12)


def table_of(rows: list[tuple[Any, ...]]) -> pa.Table:
    return pa.table([list(column) for column in zip(*rows, strict=True)] or [[]] * 5, names=TEXT_SCHEMA.names).cast(TEXT_SCHEMA)


THREE = table_of([("one", "book", "a" * 32, 0, 3), ("", "c4", "b" * 32, 1, 0), ("zwei \U0001f98e\0", "bücher", "c" * 32, 2, 7)])


@pytest.fixture(scope="module")
def streaming() -> Any:
    return streaming_reader.load_or_skip()


SEQUENCES = some_sequences(12)


def store(folder: Path, tables: list[pa.Table], compression: Compression, split: str = TRAIN) -> list[Encoded]:
    shards = [mds.encode(table, number, len(tables), split, compression) for number, table in enumerate(tables)]
    files = mds.index(split, [shard.entry for shard in shards]) | {k: v for shard in shards for k, v in shard.files.items()}
    for name, data in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    return shards


def body_of(table: pa.Table, compression: Compression = "none") -> pa.Buffer:
    return mds.encode_body(conform(table), compression)


def rows_in(body: pa.Buffer | bytes, compression: Compression = "none", name: str = "shard") -> pa.Table:
    return mds.decode_body(body, compression, name)


def data_of(shard: Encoded) -> bytes:
    (data,) = shard.files.values()
    return data.to_pybytes()


def naive(table: pa.Table, compression: Compression) -> bytes:
    """The format, written down row by row: for rows that the official package is not there to write."""
    samples = []
    for row in table.to_pylist():
        doc_id, domain, text = (row.get(key, "").encode() for key in ("doc_id", "domain", "text"))
        head = struct.pack("<3I", len(doc_id), len(domain), len(text))
        epoch, tokens = struct.pack("<I", row["epoch"]), struct.pack("<I", row["tokens"])
        if INPUT_IDS in row:
            letter = "H" if table.schema.field(INPUT_IDS).type.value_type == pa.uint16() else "I"
            ids = struct.pack(f"<{len(row[INPUT_IDS])}{letter}", *row[INPUT_IDS])
            samples.append(head[:8] + doc_id + domain + epoch + ids + tokens)
        else:
            samples.append(head + doc_id + domain + epoch + text + tokens)
    config = json.dumps(mds._configuration(table.schema, compression), sort_keys=True).encode()
    offsets = [4 + 4 * (len(samples) + 1) + len(config)]
    for sample in samples:
        offsets.append(offsets[-1] + len(sample))
    return struct.pack(f"<{len(offsets) + 1}I", len(samples), *offsets) + config + b"".join(samples)


# The bytes


@given(rows_of, st.sampled_from(COMPRESSIONS))
def test_any_rows_are_laid_out_as_the_format_says_and_come_back(rows: list[Any], compression: Compression) -> None:
    table = table_of(rows)
    body = body_of(table, compression)
    assert body.to_pybytes() == naive(table, compression)
    assert rows_in(body, compression).equals(table)


@given(st.integers(0, 12), st.integers(1, 40), st.sampled_from([pa.uint16(), pa.uint32()]), st.sampled_from(COMPRESSIONS))
def test_any_sequences_too(count: int, length: int, dtype: Any, compression: Compression) -> None:
    table = some_sequences(count, length, dtype)
    body = body_of(table, compression)
    assert body.to_pybytes() == naive(table, compression)
    assert rows_in(body, compression).equals(table)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    table=st.one_of(rows_of.filter(bool).map(table_of), st.builds(some_sequences, st.integers(1, 9), st.integers(1, 9),
                                                                  st.sampled_from([pa.uint16(), pa.uint32()]))),
    compression=st.sampled_from(COMPRESSIONS),
)  # fmt: skip
def test_the_official_writer_makes_the_same_file_and_the_same_index(streaming: Any, table: pa.Table, compression: Any) -> None:
    shard = mds.encode(table, 0, 1, TRAIN, compression)
    ((name, data),) = shard.files.items()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        streaming_reader.write_folder(folder, streaming_reader.as_rows(table), compression, table.schema)
        theirs = (folder / name).read_bytes()
        their_index = json.loads((folder / "index.json").read_text())
    body = data.to_pybytes()
    if compression == "zstd":  # another binding of zstd, without checksum: other frames, the same content
        theirs, body = decompress_frame(theirs, ""), decompress_frame(body, "")
        del their_index["shards"][0]["zip_data"]
    assert body == theirs
    entry = {k: v for k, v in shard.entry.items() if k != "zip_data" or compression == "none"}
    assert json.loads(mds.index(TRAIN, [entry])["index.json"]) == their_index


def test_no_rows_are_a_shard_too() -> None:
    empty = TEXT_SCHEMA.empty_table()
    assert body_of(empty).to_pybytes() == naive(empty, "none")
    assert rows_in(body_of(empty)).equals(empty)


@given(rows_of, st.data())
def test_chunks_slices_order_of_columns_and_dictionaries_do_not_change_a_byte(rows: list[Any], data: st.DataObject) -> None:
    table = table_of(rows)
    cut = data.draw(st.integers(0, len(rows)))
    padded = pa.concat_tables([THREE, table, THREE]).combine_chunks()
    window = padded.slice(3, len(rows))
    other = pa.concat_tables([window.slice(0, cut), window.slice(cut)]).select(sorted(TEXT_SCHEMA.names))
    other = other.set_column(1, "domain", other["domain"].dictionary_encode()).replace_schema_metadata({"a": "b"})
    assert body_of(other).equals(body_of(table))


def test_the_same_rows_give_the_same_frame_with_size_and_checksum() -> None:
    first, second = (data_of(mds.encode(THREE, 0, 1, TRAIN, "zstd")) for _ in range(2))
    assert first == second
    frame = zstandard.get_frame_parameters(first)
    assert frame.has_checksum
    assert frame.content_size == body_of(THREE, "zstd").size


def test_four_gibibytes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    size = body_of(THREE).size
    monkeypatch.setattr(mds, "LARGEST_MDS_SHARD", size + 1)
    assert body_of(THREE).size == size
    monkeypatch.setattr(mds, "LARGEST_MDS_SHARD", size)
    with pytest.raises(InputError, match=r"4 GiB; lower 'shards\.size'"):
        body_of(THREE)


def test_a_real_four_gibibytes_are_refused_before_they_are_joined() -> None:
    zeros = pa.py_buffer(np.zeros(2**32, np.uint8))  # never touched, so never in memory
    text = pa.LargeStringArray.from_buffers(2, pa.py_buffer(struct.pack("<3q", 0, 2**32, 2**32)), zeros)
    table = THREE.slice(0, 2).set_column(0, TEXT_SCHEMA.field("text"), text)
    with pytest.raises(InputError, match="4,294,967,"):
        body_of(table)


def test_nulls_and_other_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="columns"):
        body_of(THREE.drop_columns(["epoch"]))
    with pytest.raises(ValueError, match="nulls in the column 'domain'"):
        body_of(THREE.set_column(1, "domain", [["a", None, "b"]]))


# The official reader


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("validate_hash", mds.HASHES)
def test_streaming_dataset_reads_the_same_rows_in_the_same_order(
    streaming: Any, tmp_path: Path, compression: Compression, validate_hash: str
) -> None:
    tables = [THREE, table_of([(f"text {i} é", "d" * (i % 3 + 1), f"{i:032x}", i % 2, i) for i in range(300)]), THREE.slice(1, 1)]
    store(tmp_path, tables, compression)
    expected = [row for table in tables for row in streaming_reader.as_rows(table)]
    assert streaming_reader.read_folder(tmp_path, validate_hash) == expected
    assert {file.suffix for file in tmp_path.iterdir()} == {".json", ".zstd" if compression == "zstd" else ".mds"}


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_streaming_dataset_reads_sequences_and_each_split_by_its_name(
    streaming: Any, tmp_path: Path, compression: Compression
) -> None:
    store(tmp_path, [SEQUENCES.slice(0, 5), SEQUENCES.slice(5, 4)], compression)
    store(tmp_path, [SEQUENCES.slice(9)], compression, VALIDATION)
    for split, rows in ((None, SEQUENCES.slice(0, 9)), (VALIDATION, SEQUENCES.slice(9))):
        found = streaming_reader.read_folder(tmp_path, split=split)
        ids = np.stack([row.pop(INPUT_IDS) for row in found])
        assert ids.dtype == np.uint16
        assert np.array_equal(ids, token_ids(conform(rows)))
        assert found == rows.drop_columns([INPUT_IDS]).to_pylist()


def test_streaming_dataset_refuses_a_changed_byte(streaming: Any, tmp_path: Path) -> None:
    (shard,) = store(tmp_path, [THREE], "none")
    (name,) = shard.files
    (tmp_path / name).write_bytes(data_of(shard).replace(b"zwei", b"drei"))
    with pytest.raises(Exception, match="Checksum failure"):
        streaming_reader.read_folder(tmp_path)


def test_names_sort_in_order_for_any_count() -> None:
    assert mds.names(7, 9, TRAIN, "zstd") == ("shard.00007.mds.zstd",)
    assert mds.names(7, 9, VALIDATION, "none") == ("validation/shard.00007.mds",)
    for count in (1, 12, 100_000, 100_001, 2_000_000):
        some = sorted({0, 1, 9, 10, 99_999, 100_000, count - 1} & set(range(count)))
        names = [mds.names(number, count, TRAIN, "zstd") for number in some]
        assert names == sorted(set(names))


# What is stored is not believed


@pytest.mark.parametrize("table", [THREE, SEQUENCES], ids=["text", "sequences"])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_decode_gives_the_entry_that_encode_gave(compression: Compression, table: pa.Table) -> None:
    for split in (TRAIN, VALIDATION):
        shard = mds.encode(table, 3, 9, split, compression)
        rows, entry = mds.decode(shard.files, "somewhere")
        assert rows.equals(table)
        assert entry == shard.entry
    changed = mds.encode(table.set_column(4, "tokens", [list(range(table.num_rows))]), 3, 9, VALIDATION, compression)
    assert mds.decode(changed.files, "")[1]["raw_data"] != shard.entry["raw_data"]


def test_the_head_may_say_nothing_but_what_the_entry_says() -> None:
    """A trainer reads the columns by the entry, other readers by the head."""
    body = data_of(mds.encode(SEQUENCES, 0, 1, TRAIN, "none"))
    compressed = body_of(SEQUENCES, "zstd").to_pybytes()
    for lie, message in (
        (body.replace(b"uint16:9", b"uint32:9"), "column_sizes"),
        (body.replace(b"uint16:9", b"uint16:8"), "column_sizes"),
        (body.replace(b"uint16:9", b"uint64:9"), "column_names"),
        (body.replace(b'"xxh64"', b'"xxh32"'), "hashes"),
        (body.replace(b'"version": 2', b'"version": 3'), "version"),
        (body.replace(b'"size_limit": null', b'"size_limit": 1234'), "size_limit"),
        (body.replace(b'"version": 2', b'"version":2 '), "version"),
        (compressed, "compression"),
    ):
        with pytest.raises(InputError, match=message):
            mds.decode({"shard.00000.mds": lie}, "here")


@given(st.data())
@settings(max_examples=300)
def test_a_damaged_body_is_refused_or_its_rows_are_still_well_formed(data: st.DataObject) -> None:
    body = bytearray(body_of(THREE).to_pybytes())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(body) - 1) | st.integers(0, 19))
        body[place : place + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=5))
    try:
        table = rows_in(bytes(body))
    except InputError:
        return
    table.validate(full=True)
    assert table.schema.equals(TEXT_SCHEMA)
    assert table.num_rows == struct.unpack_from("<I", body)[0]


@pytest.mark.parametrize("length", [0, 1, 7, 8, 12, 19, 20, 100, -1])
def test_a_cut_body_is_refused(length: int) -> None:
    body = body_of(THREE).to_pybytes()
    with pytest.raises(InputError, match="not an MDS shard of ours"):
        rows_in(body[:length])
    with pytest.raises(InputError, match="not an MDS shard of ours"):
        rows_in(body + b"\0")


def test_each_lie_has_its_message() -> None:
    body = body_of(THREE).to_pybytes()
    first = struct.unpack_from("<I", body, 4)[0]

    def changed(place: int, value: bytes) -> bytes:
        return body[:place] + value + body[place + len(value) :]

    lies = {
        "4,294,967,295 rows do not fit": changed(0, b"\xff" * 4),
        "offsets do not rise": changed(8, struct.pack("<I", first - 1)),
        "configuration says more": changed(20, b" "),
        "column_names": body.replace(b'"text"', b'"evil"'),
        "sizes of row 0 do not add up": changed(first, struct.pack("<I", 2**32 - 1)),
        "text is not valid UTF-8": body.replace("\U0001f98e".encode(), b"\xf0\x9f\xa6x"),
    }
    for message, lie in lies.items():
        with pytest.raises(InputError, match=message):
            rows_in(lie)


def test_a_damaged_frame_is_refused() -> None:
    frame = data_of(mds.encode(THREE, 0, 1, TRAIN, "zstd"))
    huge = b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 2**32) + frame[13:]  # a header that claims 4 GiB
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(b"abc")
    flipped = frame[:60] + bytes([frame[60] ^ 1]) + frame[61:]
    for lie in (frame[:-1], frame[:20], b"", frame + b"x", frame + frame, flipped, huge, unsized, b"not zstd at all"):
        with pytest.raises(InputError, match="does not give a size" if lie in (huge, unsized) else "damaged zstd frame"):
            decompress_frame(lie, "", mds.LARGEST_MDS_SHARD)
