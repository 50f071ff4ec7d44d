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

from chameleon_data import mds
from chameleon_data.errors import InputError
from chameleon_data.parquet import SCHEMA
from tests import streaming_reader

COMPRESSIONS: tuple[mds.Compression, ...] = ("zstd", "none")

unicode = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)  # NUL, emoji and every plane; no lone surrogates
texts = st.one_of(st.sampled_from(["", "\0", "é", "\U0001f98e", "a\r\n\0b", "x" * 70_000]), unicode)
numbers = st.integers(0, 2**32 - 1)
rows_of = st.lists(st.tuples(texts, unicode, texts, numbers, numbers), max_size=12)


def table_of(rows: list[tuple[Any, ...]]) -> pa.Table:
    return pa.table([list(column) for column in zip(*rows, strict=True)] or [[]] * 5, names=SCHEMA.names).cast(SCHEMA)


THREE = table_of([("one", "book", "a" * 32, 0, 3), ("", "c4", "b" * 32, 1, 0), ("zwei \U0001f98e\0", "bücher", "c" * 32, 2, 7)])


@pytest.fixture(scope="module")
def streaming() -> Any:
    return streaming_reader.load_or_skip()


def store(folder: Path, tables: list[pa.Table], compression: mds.Compression) -> list[mds.Shard]:
    shards = [mds.shard(table, number, len(tables), compression) for number, table in enumerate(tables)]
    for shard in shards:
        (folder / shard.name).write_bytes(shard.data)
    (folder / "index.json").write_bytes(mds.index([shard.entry for shard in shards]))
    return shards


def naive(table: pa.Table, compression: mds.Compression) -> bytes:
    """The format, written down row by row: for rows that the official package is not there to write."""
    samples = []
    for row in table.to_pylist():
        doc_id, domain, text = (row[key].encode() for key in ("doc_id", "domain", "text"))
        head = struct.pack("<3I", len(doc_id), len(domain), len(text))
        samples.append(head + doc_id + domain + struct.pack("<I", row["epoch"]) + text + struct.pack("<I", row["tokens"]))
    config = json.dumps(mds._configuration(compression), sort_keys=True).encode()
    offsets = [4 + 4 * (len(samples) + 1) + len(config)]
    for sample in samples:
        offsets.append(offsets[-1] + len(sample))
    return struct.pack(f"<{len(offsets) + 1}I", len(samples), *offsets) + config + b"".join(samples)


# The bytes


@given(rows_of, st.sampled_from(COMPRESSIONS))
def test_any_rows_are_laid_out_as_the_format_says_and_come_back(rows: list[Any], compression: mds.Compression) -> None:
    table = table_of(rows)
    body = mds.encode(table, compression)
    assert body.to_pybytes() == naive(table, compression)
    assert mds.decode(body).equals(table)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=rows_of.filter(bool), compression=st.sampled_from(COMPRESSIONS))
def test_the_official_writer_makes_the_same_file_and_the_same_index(streaming: Any, rows: list[Any], compression: Any) -> None:
    table = table_of(rows)
    shard = mds.shard(table, 0, 1, compression)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        streaming_reader.write_folder(folder, streaming_reader.as_rows(table), compression)
        theirs = (folder / shard.name).read_bytes()
        their_index = json.loads((folder / "index.json").read_text())
    body = shard.data.to_pybytes()
    if compression == "zstd":  # another binding of zstd, without checksum: other frames, the same content
        theirs, body = mds.decompress(theirs), mds.decompress(body)
        del their_index["shards"][0]["zip_data"]
    assert body == theirs
    our_index = json.loads(mds.index([{k: v for k, v in shard.entry.items() if k != "zip_data" or compression == "none"}]))
    assert our_index == their_index


def test_no_rows_are_a_shard_too() -> None:
    empty = SCHEMA.empty_table()
    assert mds.encode(empty, "none").to_pybytes() == naive(empty, "none")
    assert mds.decode(mds.encode(empty, "none")).equals(empty)


@given(rows_of, st.data())
def test_chunks_slices_order_of_columns_and_dictionaries_do_not_change_a_byte(rows: list[Any], data: st.DataObject) -> None:
    table = table_of(rows)
    cut = data.draw(st.integers(0, len(rows)))
    padded = pa.concat_tables([THREE, table, THREE]).combine_chunks()
    window = padded.slice(3, len(rows))
    other = pa.concat_tables([window.slice(0, cut), window.slice(cut)]).select(sorted(SCHEMA.names))
    other = other.set_column(1, "domain", other["domain"].dictionary_encode()).replace_schema_metadata({"a": "b"})
    assert mds.encode(other, "zstd").equals(mds.encode(table, "zstd"))


def test_the_same_rows_give_the_same_frame_with_size_and_checksum() -> None:
    first, second = (mds.shard(THREE, 0, 1, "zstd").data for _ in range(2))
    assert first.equals(second)
    frame = zstandard.get_frame_parameters(first)
    assert frame.has_checksum
    assert frame.content_size == mds.encode(THREE, "zstd").size


def test_four_gibibytes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    size = mds.encode(THREE, "none").size
    monkeypatch.setattr(mds, "LIMIT", size + 1)
    assert mds.encode(THREE, "none").size == size
    monkeypatch.setattr(mds, "LIMIT", size)
    with pytest.raises(InputError, match=r"4 GiB; lower 'shards\.size'"):
        mds.encode(THREE, "none")


def test_a_real_four_gibibytes_are_refused_before_they_are_joined() -> None:
    zeros = pa.py_buffer(np.zeros(2**32, np.uint8))  # never touched, so never in memory
    text = pa.LargeStringArray.from_buffers(2, pa.py_buffer(struct.pack("<3q", 0, 2**32, 2**32)), zeros)
    table = THREE.slice(0, 2).set_column(0, SCHEMA.field("text"), text)
    with pytest.raises(InputError, match="4,294,967,"):
        mds.encode(table, "none")


def test_nulls_and_other_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="columns"):
        mds.encode(THREE.drop_columns(["epoch"]), "none")
    with pytest.raises(ValueError, match="nulls in the column 'domain'"):
        mds.encode(THREE.set_column(1, "domain", [["a", None, "b"]]), "none")


# The official reader


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("validate_hash", mds.HASHES)
def test_streaming_dataset_reads_the_same_rows_in_the_same_order(
    streaming: Any, tmp_path: Path, compression: mds.Compression, validate_hash: str
) -> None:
    tables = [THREE, table_of([(f"text {i} é", "d" * (i % 3 + 1), f"{i:032x}", i % 2, i) for i in range(300)]), THREE.slice(1, 1)]
    store(tmp_path, tables, compression)
    expected = [row for table in tables for row in streaming_reader.as_rows(table)]
    assert streaming_reader.read_folder(tmp_path, validate_hash) == expected
    assert {file.suffix for file in tmp_path.iterdir()} == {".json", ".zstd" if compression == "zstd" else ".mds"}


def test_streaming_dataset_refuses_a_changed_byte(streaming: Any, tmp_path: Path) -> None:
    (shard,) = store(tmp_path, [THREE], "none")
    (tmp_path / shard.name).write_bytes(shard.data.to_pybytes().replace(b"zwei", b"drei"))
    with pytest.raises(Exception, match="Checksum failure"):
        streaming_reader.read_folder(tmp_path)


def test_names_sort_in_order_for_any_count() -> None:
    assert mds.shard_name(7, 9, "zstd") == "shard.00007.mds.zstd"
    assert mds.shard_name(7, 9, "none") == "shard.00007.mds"
    for count in (1, 12, 100_000, 100_001, 2_000_000):
        some = sorted({0, 1, 9, 10, 99_999, 100_000, count - 1} & set(range(count)))
        names = [mds.shard_name(number, count, "zstd") for number in some]
        assert names == sorted(set(names))


# What is stored is not believed


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_read_checks_every_claim_of_the_index(compression: mds.Compression) -> None:
    shard = mds.shard(THREE, 3, 9, compression)
    assert mds.read(shard.data, json.loads(mds.index([shard.entry]))["shards"][0]).equals(THREE)
    for key in ["raw_data"] if compression == "none" else ["raw_data", "zip_data"]:
        for claim, lie in (("bytes", 7), ("hashes", {"sha256": "0" * 64}), ("hashes", {})):
            with pytest.raises(InputError, match=rf"index\.json says {key}"):
                mds.read(shard.data, {**shard.entry, key: {**shard.entry[key], claim: lie}})
    with pytest.raises(InputError, match="says samples = 4"):
        mds.read(shard.data, {**shard.entry, "samples": 4})
    with pytest.raises(InputError):
        mds.read(shard.data, {})
    changed = mds.shard(THREE.set_column(4, "tokens", [[3, 0, 8]]), 3, 9, compression)
    with pytest.raises(InputError, match="raw_data"):
        mds.read(changed.data, shard.entry)


@given(st.data())
@settings(max_examples=300)
def test_a_damaged_body_is_refused_or_its_rows_are_still_well_formed(data: st.DataObject) -> None:
    body = bytearray(mds.encode(THREE, "none").to_pybytes())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(body) - 1) | st.integers(0, 19))
        body[place : place + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=5))
    try:
        table = mds.decode(bytes(body))
    except InputError:
        return
    table.validate(full=True)
    assert table.schema.equals(SCHEMA)
    assert table.num_rows == struct.unpack_from("<I", body)[0]


@pytest.mark.parametrize("length", [0, 1, 7, 8, 12, 19, 20, 100, -1])
def test_a_cut_body_is_refused(length: int) -> None:
    body = mds.encode(THREE, "none").to_pybytes()
    with pytest.raises(InputError, match="not an MDS shard of ours"):
        mds.decode(body[:length])
    with pytest.raises(InputError, match="not an MDS shard of ours"):
        mds.decode(body + b"\0")


def test_each_lie_has_its_message() -> None:
    body = mds.encode(THREE, "none").to_pybytes()
    first = struct.unpack_from("<I", body, 4)[0]

    def changed(place: int, value: bytes) -> bytes:
        return body[:place] + value + body[place + len(value) :]

    lies = {
        "4,294,967,295 rows do not fit": changed(0, b"\xff" * 4),
        "offsets do not rise": changed(8, struct.pack("<I", first - 1)),
        "configuration is not JSON": changed(20, b"x"),
        "column_names": body.replace(b'"text"', b'"evil"'),
        "sizes of row 0 do not add up": changed(first, struct.pack("<I", 2**32 - 1)),
        "text is not valid UTF-8": body.replace("\U0001f98e".encode(), b"\xf0\x9f\xa6x"),
    }
    for message, lie in lies.items():
        with pytest.raises(InputError, match=message):
            mds.decode(lie, "shard.00000.mds")


def test_a_damaged_frame_is_refused() -> None:
    frame = mds.shard(THREE, 0, 1, "zstd").data.to_pybytes()
    huge = b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 2**32) + frame[13:]  # a header that claims 4 GiB
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(b"abc")
    flipped = frame[:60] + bytes([frame[60] ^ 1]) + frame[61:]
    for lie in (frame[:-1], frame[:20], b"", frame + b"x", frame + frame, flipped, huge, unsized, b"not zstd at all"):
        with pytest.raises(InputError, match="a size below 4 GiB" if lie in (huge, unsized) else "damaged zstd frame"):
            mds.decompress(lie)


def test_an_index_comes_back_and_what_is_not_one_is_refused() -> None:
    shards = [mds.shard(THREE, number, 2, "zstd") for number in range(2)]
    data = mds.index([shard.entry for shard in shards])
    assert [mds.stored_name(entry) for entry in mds.read_index(data)] == [shard.name for shard in shards]
    assert mds.stored_name(mds.shard(THREE, 0, 1, "none").entry) == "shard.00000.mds"
    twice = mds.index([shards[0].entry] * 2)
    outside = data.replace(b"shard.00000.mds.zstd", b"../hard.00000.mds.zstd")
    nested = b'{"version": 2, "shards": ' + b"[" * 100_000
    texts = (b"", b"{}", b"[]", b'{"version": 2}', b'{"version": 1, "shards": []}', b'{"version": 2, "shards": [3]}', b"\xff")
    for lie in (*texts, twice, outside, nested, b'{"version": 2, "shards": [{}]}', data[:-1]):
        with pytest.raises(InputError, match=r"index\.json: "):
            mds.read_index(lie)
