"""The bytes of a format are those of its official writer."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chameleon_data.plan.plan import TRAIN
from chameleon_data.shards.formats import litdata, mds, megatron, webdataset
from chameleon_data.shards.formats.files import Level
from chameleon_data.shards.formats.zstd import compress_frame, decompress_frame
from chameleon_data.shards.rows import INPUT_IDS
from tests.support import official_readers as official
from tests.support import streaming_reader
from tests.support.shard_rows import (
    LEVELS,
    SEQUENCES,
    TEXTS,
    TURNS,
    any_text,
    document_rows,
    replace_text,
    sequence_rows,
    text_rows,
    turn_rows,
)

TABLES = [TEXTS, SEQUENCES, sequence_rows(9, 2048, pa.uint32()), TURNS]
KINDS = ["text", "uint16", "uint32", "turns"]
some_texts = st.lists(any_text | st.just("x" * 70_000), min_size=1, max_size=9)
any_table = st.one_of(
    some_texts.map(lambda texts: replace_text(text_rows(len(texts)), texts)),
    st.builds(sequence_rows, st.integers(1, 9), st.integers(1, 9), st.sampled_from([pa.uint16(), pa.uint32()])),
    st.builds(turn_rows, st.integers(1, 9), st.integers(1, 9), st.sampled_from([pa.uint16(), pa.uint32()])),
)


@pytest.fixture(scope="module")
def streaming() -> Any:
    return streaming_reader.load_or_skip()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=any_table, level=st.sampled_from([1, *LEVELS]))
def test_mds_writer_makes_the_same_file_and_the_same_index(streaming: Any, table: pa.Table, level: Level) -> None:
    shard = mds.encode(table, 0, 1, TRAIN, level)
    ((name, data),) = shard.files.items()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        streaming_reader.write_folder(folder, streaming_reader.as_rows(table), level, table.schema)
        theirs = (folder / name).read_bytes()
        their_index = json.loads((folder / "index.json").read_text())
    body = data.to_pybytes()
    if level:  # another binding of zstd, without checksum: other frames, the same content
        theirs, body = decompress_frame(theirs, ""), decompress_frame(body, "")
        del their_index["shards"][0]["zip_data"]
    assert body == theirs
    entry = {k: v for k, v in shard.entry.items() if k != "zip_data" or level is None}
    assert json.loads(mds.index(TRAIN, [entry])["index.json"]) == their_index


@pytest.mark.parametrize("table", TABLES, ids=KINDS)
def test_tar_writer_makes_the_same_file(table: pa.Table) -> None:
    ((name, body),) = webdataset.encode(table, 12, 100_001, TRAIN, 3).files.items()
    assert name == "train-000012.tar"
    assert body.to_pybytes() == official.tar_of(official.tar_samples(table, "000012"))


@pytest.mark.parametrize("table", TABLES, ids=KINDS)
def test_litdata_makes_the_same_chunk_up_to_our_types_behind_it(table: pa.Table, tmp_path: Path) -> None:
    theirs = official.litdata_chunk(official.litdata_items(table), tmp_path)
    plain, framed = (litdata.encode(table, 0, 1, TRAIN, level) for level in (None, 3))
    tail = json.dumps(plain.entry["config"]["data_format"]).encode()
    assert plain.files["chunk-00000.bin"].to_pybytes() == theirs + tail

    class OurFrames:
        def compress(self, data: bytes) -> bytes:
            return compress_frame(data, 3).to_pybytes()

    packed = official.load("litdata.streaming.framed_zstd").pack_framed_zstd(theirs, OurFrames(), 256)
    assert framed.files["chunk-00000.bin"].to_pybytes() == packed + tail


@pytest.mark.parametrize("level", LEVELS)
def test_litdata_writes_the_same_index(level: Level, tmp_path: Path) -> None:
    codec = "zstd" if level else None
    writer = official.load("litdata.streaming.writer").BinaryWriter(str(tmp_path), chunk_size=300, compression=codec)
    for number, item in enumerate(official.litdata_items(SEQUENCES)):
        writer[number] = item
    writer.done()
    writer.merge()
    theirs = json.loads((tmp_path / "index.json").read_text())
    ours = json.loads(litdata.index(TRAIN, [litdata.encode(SEQUENCES, 0, 1, TRAIN, level).entry])["index.json"])
    assert ours["config"] == theirs["config"] | {"chunk_size": None}
    assert set(ours["chunks"][0]) == set(theirs["chunks"][0])


@pytest.mark.parametrize("dtype", [pa.uint16(), pa.uint32()])
def test_megatrons_builder_makes_the_same_files(dtype: pa.DataType, tmp_path: Path) -> None:
    for table in (document_rows(40, dtype), sequence_rows(40, 9, dtype, most=2**31 - 1 if dtype == pa.uint32() else None)):
        files = megatron.encode(table, 0, 1, TRAIN, 3).files
        theirs = official.indexed_dataset(table[INPUT_IDS].to_pylist(), np.uint16 if dtype == pa.uint16() else np.int32, tmp_path)
        assert (files["train-00000.bin"].to_pybytes(), files["train-00000.idx"].to_pybytes()) == theirs
