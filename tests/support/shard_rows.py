"""Rows for formats: text with whatever text may hold, packed sequences, and documents of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from chameleon_data.shards.formats.files import Encoded, Level
from chameleon_data.shards.rows import (
    DOC_STARTS,
    INPUT_IDS,
    LABELS,
    LOSS_MASK,
    TEXT_SCHEMA,
    make_labels,
    sequence_schema,
    token_ids,
)

LEVELS: tuple[Level, ...] = (3, None)
ODD = "".join(map(chr, [*range(0x100), 0x2028, 0x2029, 0xFEFF, 0xFFFD, 0xFFFF, 0x1F98E, 0x10FFFF])) + '"\\\r\n\\u0000</script>'
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
"""NUL, emoji and every plane; no lone surrogates."""


def text_rows(count: int, size: int = 50, seed: int = 0) -> pa.Table:
    """`count` rows of up to `size` characters, with what text may hold: nothing, NUL, other scripts, emoji."""
    generator = np.random.default_rng(seed)
    letters = np.array(list("abcdefghij \n\0é\U0001f98e漢"))
    texts = ["".join(letters[generator.integers(0, len(letters), generator.integers(0, size + 1))]) for _ in range(count)]
    return pa.table(
        {
            "text": texts,
            "domain": [("book", "bücher", "c4")[i % 3] for i in range(count)],
            "domain_id": [i % 3 for i in range(count)],
            "doc_id": [generator.bytes(16).hex() for _ in range(count)],
            "epoch": [i % 2 for i in range(count)],
            "tokens": [2**32 - 1 - i for i in range(count)],
        }
    ).cast(TEXT_SCHEMA)


def column_rows(count: int, seed: int = 0) -> pa.Table:
    """Rows of text with kept columns of every type, each with nulls in some places."""
    of_kind: dict[str, list[Any]] = {
        "a.b": [None if i % 4 == 1 else f"h\u00e9\u2028 {i}" for i in range(count)],
        "count": [None if i % 5 == 2 else (-1) ** i * (2**62 + i) for i in range(count)],
        "meta": [None if i % 3 == 2 else f'{{"a":[{i},null]}}' for i in range(count)],
        "right": [None if i % 6 == 3 else i % 2 == 0 for i in range(count)],
        "score": [None if i % 7 == 4 else i / 4 for i in range(count)],
    }
    kinds = [pa.large_string(), pa.int64(), pa.large_string(), pa.bool_(), pa.float64()]
    table = text_rows(count, seed=seed)
    for (name, values), kind in zip(of_kind.items(), kinds, strict=True):
        table = table.append_column(name, pa.array(values, kind))
    return table


def sequence_rows(count: int, length: int = 9, dtype: Any = None, seed: int = 0, most: int | None = None) -> pa.Table:
    """The same rows packed: `length` random tokens, up to `most`, in the place of a text, and where documents begin: nowhere in
    every third row, at 0 in the next."""
    dtype = dtype or pa.uint16()
    most = most or np.iinfo(dtype.to_pandas_dtype()).max
    ids = np.random.default_rng(seed).integers(0, most, count * length, dtype.to_pandas_dtype(), endpoint=True)
    column = pa.FixedSizeListArray.from_arrays(pa.array(ids), length)
    starts = [[*range(i % 3 - 1, length, 1 + i % 4)] if i % 3 else [] for i in range(count)]
    rows = text_rows(count).set_column(0, INPUT_IDS, column)
    return rows.append_column(DOC_STARTS, pa.array(starts, pa.list_(pa.uint32()))).cast(sequence_schema(length, dtype))


def turn_rows(count: int, length: int = 9, dtype: Any = None, seed: int = 0, labels: bool = True) -> pa.Table:
    """The same of packed conversations: besides a loss mask of zeros and ones, and labels."""
    rows = sequence_rows(count, length, dtype, seed, most=2**31 - 1 if dtype == pa.uint32() else None)
    mask = np.random.default_rng(seed).integers(0, 2, count * length, np.uint8)
    values = [mask, make_labels(token_ids(rows).reshape(-1), mask)][: 1 + labels]
    for name, of_tokens in zip((LOSS_MASK, LABELS), values, strict=False):
        rows = rows.append_column(name, pa.FixedSizeListArray.from_arrays(pa.array(of_tokens), length))
    return rows


def set_starts(rows: pa.Table, starts: Sequence[Sequence[int]]) -> pa.Table:
    """Packed rows that say so of where documents begin."""
    at = rows.schema.get_field_index(DOC_STARTS)
    return rows.set_column(at, rows.schema.field(at), pa.array(starts, rows.schema.field(at).type))


def document_rows(count: int, dtype: Any, seed: int = 0) -> pa.Table:
    """Tokenised documents of 0 to 9 tokens, which Megatron's format takes."""
    generator = np.random.default_rng(seed)
    most = min(2**31 - 1, np.iinfo(dtype.to_pandas_dtype()).max)
    lists = [generator.integers(0, most, generator.integers(0, 10), endpoint=True).tolist() for _ in range(count)]
    return text_rows(count).set_column(0, INPUT_IDS, pa.array(lists, pa.large_list(dtype)))


def replace_text(rows: pa.Table, texts: list[str]) -> pa.Table:
    return rows.set_column(0, TEXT_SCHEMA.field("text"), pa.array(texts, pa.large_string()))


def rechunk(table: pa.Table, cut: int) -> pa.Table:
    """The same rows in two chunks that are slices, with columns in another order and metadata."""
    count = table.num_rows
    padded = pa.concat_tables([table, table, table]).combine_chunks().slice(count, count)
    chunked = pa.concat_tables([padded.slice(0, cut), padded.slice(cut)]).select(sorted(table.column_names))
    return chunked.replace_schema_metadata({"a": "b"})


def bytes_of(shard: Encoded) -> dict[str, bytes]:
    """Path -> bytes of a shard's files."""
    return {name: body.to_pybytes() for name, body in shard.files.items()}


TEXTS = replace_text(text_rows(300), ["", ODD, *text_rows(297)["text"].to_pylist(), "x" * 300_000])
SEQUENCES = sequence_rows(300, 33)
TURNS = turn_rows(300, 33)
