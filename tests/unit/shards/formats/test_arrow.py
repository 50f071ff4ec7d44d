"""Arrow IPC files: batches of equal bytes, plain strings."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pytest

from chameleon_data.errors import InputError
from chameleon_data.plan.plan import TRAIN
from chameleon_data.shards.formats import arrow
from chameleon_data.shards.formats.files import Level
from tests.support.shard_rows import LEVELS, SEQUENCES, TEXTS, set_starts


def test_record_batches_hold_equal_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow, "RECORD_BATCH_BYTES", 10 * (66 + 8 + 64))
    (body,) = arrow.encode(set_starts(SEQUENCES, [[0, 7]] * 300), 0, 1, TRAIN, 3).files.values()
    with pa.ipc.open_file(body) as reader:
        assert [reader.get_batch(i).num_rows for i in range(reader.num_record_batches)] == [10] * 30


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("table", [TEXTS, SEQUENCES], ids=["text", "sequences"])
def test_any_reader_sees_plain_strings_and_lists_of_one_length(table: pa.Table, level: Level) -> None:
    (body,) = arrow.encode(table, 0, 1, TRAIN, level).files.values()
    found = pa.ipc.open_file(body).read_all()
    assert found.to_pylist() == table.to_pylist()
    assert found.schema.field(0).type in (pa.string(), pa.list_(pa.uint16(), 33))
    assert pl.read_ipc(body.to_pybytes()).to_dicts() == table.to_pylist()


def test_other_columns_and_metadata_are_refused_before_a_row_is_read() -> None:
    for other in (TEXTS.drop_columns(["epoch"]), TEXTS.replace_schema_metadata({"a": "b"})):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, other.schema) as writer:
            writer.write_table(other)
        with pytest.raises(InputError, match=r"here: damaged Arrow file .*not those of a shard"):
            arrow.decode({"": sink.getvalue()}, "here")
