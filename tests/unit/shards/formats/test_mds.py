"""MDS shards against the format written down row by row, and every lie that a head can tell.

The official writer and reader are in tests/official.
"""

from __future__ import annotations

import json
import struct

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chameleon_data.errors import InputError
from chameleon_data.plan.plan import TRAIN, VALIDATION
from chameleon_data.shards.formats import mds
from chameleon_data.shards.formats.files import Level
from chameleon_data.shards.rows import INPUT_IDS, TEXT_SCHEMA, conform
from tests.support.shard_rows import LEVELS, any_text, bytes_of, rechunk, sequence_rows, set_starts

texts = st.one_of(st.sampled_from(["", "\0", "é", "\U0001f98e", "a\r\n\0b", "x" * 70_000]), any_text)
numbers = st.integers(0, 2**32 - 1)
rows_of = st.lists(st.tuples(texts, any_text, numbers, texts, numbers, numbers), max_size=12)


def table_of(rows: list[tuple[object, ...]]) -> pa.Table:
    return pa.table([list(column) for column in zip(*rows, strict=True)] or [[]] * 6, names=TEXT_SCHEMA.names).cast(TEXT_SCHEMA)


THREE = table_of(
    [("one", "book", 0, "a" * 32, 0, 3), ("", "c4", 2, "b" * 32, 1, 0), ("zwei \U0001f98e\0", "bücher", 1, "c" * 32, 2, 7)]
)
SEQUENCES = sequence_rows(12)


def body_of(table: pa.Table, level: Level = None) -> pa.Buffer:
    return mds.encode_body(conform(table), level)


def rows_in(body: pa.Buffer | bytes, level: Level = None) -> pa.Table:
    table, named = mds.decode_body(body, level is not None, "shard")
    assert named == level
    return table


def naive(table: pa.Table, level: Level) -> bytes:
    """The format, written down row by row."""
    samples = []
    for row in table.to_pylist():
        doc_id, domain, text = (row.get(key, "").encode() for key in ("doc_id", "domain", "text"))
        domain_id, epoch, tokens = (struct.pack("<I", row[key]) for key in ("domain_id", "epoch", "tokens"))
        if INPUT_IDS in row:
            letter = "H" if table.schema.field(INPUT_IDS).type.value_type == pa.uint16() else "I"
            ids = struct.pack(f"<{len(row[INPUT_IDS])}{letter}", *row[INPUT_IDS])
            starts = json.dumps(row["doc_starts"]).encode()
            head = struct.pack("<3I", len(doc_id), len(starts), len(domain))
            samples.append(head + doc_id + starts + domain + domain_id + epoch + ids + tokens)
        else:
            head = struct.pack("<3I", len(doc_id), len(domain), len(text))
            samples.append(head + doc_id + domain + domain_id + epoch + text + tokens)
    config = json.dumps(mds._configuration(table.schema, level), sort_keys=True).encode()
    offsets = [4 + 4 * (len(samples) + 1) + len(config)]
    for sample in samples:
        offsets.append(offsets[-1] + len(sample))
    return struct.pack(f"<{len(offsets) + 1}I", len(samples), *offsets) + config + b"".join(samples)


# The bytes


@given(rows_of, st.sampled_from(LEVELS), st.data())
def test_any_rows_are_laid_out_as_the_format_says_and_come_back(rows, level: Level, data: st.DataObject) -> None:
    table = table_of(rows)
    body = body_of(table, level)
    assert body.to_pybytes() == naive(table, level)
    assert rows_in(body, level).equals(table)
    dictionary = table.set_column(1, "domain", table["domain"].dictionary_encode())
    assert body_of(rechunk(dictionary, data.draw(st.integers(0, len(rows)))), level).equals(body)


@given(st.integers(0, 12), st.integers(1, 40), st.sampled_from([pa.uint16(), pa.uint32()]), st.sampled_from(LEVELS))
def test_any_sequences_too(count: int, length: int, dtype: pa.DataType, level: Level) -> None:
    table = sequence_rows(count, length, dtype)
    body = body_of(table, level)
    assert body.to_pybytes() == naive(table, level)
    assert rows_in(body, level).equals(table)


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


def test_names_and_the_folder_of_a_split() -> None:
    assert mds.names(7, 9, TRAIN, 3) == ("shard.00007.mds.zstd",)
    assert mds.names(7, 9, VALIDATION, None) == ("validation/shard.00007.mds",)


# What is stored is not believed


@pytest.mark.parametrize("level", LEVELS)
def test_the_entry_changes_with_the_rows(level: Level) -> None:
    shard = mds.encode(THREE, 3, 9, VALIDATION, level)
    changed = mds.encode(THREE.set_column(5, "tokens", [[0, 1, 2]]), 3, 9, VALIDATION, level)
    assert mds.decode(changed.files, "")[1]["raw_data"] != shard.entry["raw_data"]


def test_the_head_may_say_nothing_but_what_the_entry_says() -> None:
    """A trainer reads the columns by the entry, other readers by the head."""
    (body,) = bytes_of(mds.encode(SEQUENCES, 0, 1, TRAIN, None)).values()
    compressed = body_of(SEQUENCES, 3).to_pybytes()
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
@settings(max_examples=200)
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


def test_each_lie_has_its_message() -> None:
    body = body_of(THREE).to_pybytes()
    first = struct.unpack_from("<I", body, 4)[0]

    def changed(place: int, value: bytes) -> bytes:
        return body[:place] + value + body[place + len(value) :]

    lies = {
        "7 bytes are too few for a head": body[:7],
        "4,294,967,295 rows do not fit": changed(0, b"\xff" * 4),
        "offsets do not rise": changed(8, struct.pack("<I", first - 1)),
        "configuration says more": changed(20, b" "),
        "column_names": body.replace(b'"text"', b'"evil"'),
        "sizes of row 0 do not add up": changed(first, struct.pack("<I", 2**32 - 1)),
        "text is not valid UTF-8": body.replace("\U0001f98e".encode(), b"\xf0\x9f\xa6x"),
    }
    for message, lie in lies.items():
        with pytest.raises(InputError, match=f"shard: damaged MDS shard .*{message}"):
            rows_in(lie)


@pytest.mark.parametrize("lie", [b"[0,  5]", b"[0, -5]", b"[0, 05]", b"[0, tr]", b"{0: 55}", b'"0, 55"', b"[0], 55", b"[0.055]"])
def test_starts_of_documents_are_one_list_of_numbers_spelled_in_one_way(lie: bytes) -> None:
    body = body_of(set_starts(SEQUENCES.slice(0, 1), [[0, 55]])).to_pybytes()
    assert rows_in(body)["doc_starts"].to_pylist() == [[0, 55]]
    assert body.count(b"[0, 55]") == 1
    with pytest.raises(InputError, match="shard: damaged MDS shard"):
        rows_in(body.replace(b"[0, 55]", lie))
