"""Megatron's indexed datasets: what they hold, and what an index may say. The bytes are compared in tests/official."""

from __future__ import annotations

import pyarrow as pa
import pytest

from chameleon_data.errors import InputError
from chameleon_data.plan.plan import TRAIN
from chameleon_data.shards.formats import megatron
from chameleon_data.shards.rows import INPUT_IDS
from tests.support.shard_rows import SEQUENCES, TEXTS, bytes_of, sequence_rows

ONE = TEXTS.slice(0, 1)


def test_the_blend_file_weighs_by_tokens() -> None:
    entries = [megatron.encode(SEQUENCES.slice(0, rows), number, 2, TRAIN, None).entry for number, rows in enumerate((300, 7))]
    assert megatron.index(TRAIN, entries) == {"train.blend.txt": b"9900 train-00000\n231 train-00001\n"}


def test_text_is_refused() -> None:
    with pytest.raises(InputError, match="holds tokens, not text; name a tokenizer"):
        megatron.encode(TEXTS, 0, 1, TRAIN, None)


@pytest.mark.parametrize("rows", [ONE, sequence_rows(1, 1, pa.uint32())], ids=["documents", "sequences"])
def test_a_token_that_int32_does_not_hold_is_refused(rows: pa.Table) -> None:
    kind = pa.large_list(pa.uint32()) if rows is ONE else rows.schema.field(INPUT_IDS).type
    with pytest.raises(InputError, match="the token 2,147,483,648"):
        megatron.encode(rows.set_column(0, INPUT_IDS, pa.array([[2**31]], kind)), 0, 1, TRAIN, None)


@pytest.mark.parametrize(
    ("ids", "kind", "message"),
    [(1, pa.int32(), "lists of uint16 or uint32"), (None, pa.uint16(), "nulls in the column 'input_ids'")],
)
def test_other_numbers_and_nulls_are_refused(ids: int | None, kind: pa.DataType, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        megatron.encode(ONE.set_column(0, INPUT_IDS, pa.array([[ids]], pa.large_list(kind))), 0, 1, TRAIN, None)


def test_every_number_in_the_head_of_an_index_is_checked() -> None:
    files = bytes_of(megatron.encode(SEQUENCES.slice(0, 3), 0, 1, TRAIN, None))
    for at in range(9, 34):
        idx = bytearray(files["train-00000.idx"])
        idx[at] ^= 0x40
        with pytest.raises(InputError, match="here: damaged indexed dataset"):
            megatron.decode(files | {"train-00000.idx": bytes(idx)}, "here")
