"""The content hash of a shard against its definition, computed here row by row."""

from __future__ import annotations

import hashlib
import struct

import pyarrow as pa
import pytest

from chameleon_data.shards.rows import content_hash

ROWS = [("law", "a1", 0, 0, 7), ("code", "", 1, 2, 70_000), ("é\u2028", "b" * 300, 2, 0, 0), ("code", "a1", 1, 1, 2**32 - 1)]
"""(domain, doc_id, domain_id, epoch, tokens) of each row."""
NUMBERS = {"domain_id": pa.int32(), "epoch": pa.uint32(), "tokens": pa.int64()}


def rows_in_chunks(*sizes: int) -> pa.Table:
    domain, doc_id, *numbers = zip(*ROWS, strict=True)
    columns = {"domain": pa.array(domain).dictionary_encode(), "doc_id": pa.array(doc_id, pa.large_string())}
    columns |= {name: pa.array(values, kind) for (name, kind), values in zip(NUMBERS.items(), numbers, strict=True)}
    table, begin, chunks = pa.table(columns), 0, list[pa.Table]()
    for size in sizes:
        chunks.append(table.slice(begin, size))
        begin += size
    return pa.concat_tables(chunks)


def hash_by_definition(rows: list[tuple[str, str, int, int, int]]) -> str:
    texts = b"".join(f"{row[column]}\n".encode() for column in (0, 1) for row in rows)
    return hashlib.sha256(texts + b"".join(struct.pack("<I", row[column]) for column in (2, 3, 4) for row in rows)).hexdigest()


@pytest.mark.parametrize("sizes", [(4,), (1, 3), (2, 0, 1, 1)])
def test_it_is_the_hash_of_the_columns_in_any_chunks(sizes: tuple[int, ...]) -> None:
    assert content_hash(rows_in_chunks(*sizes)) == hash_by_definition(ROWS)


def test_it_is_of_the_rows_of_a_slice_alone() -> None:
    assert content_hash(rows_in_chunks(2, 2).slice(1, 2)) == hash_by_definition(ROWS[1:3])
    assert content_hash(rows_in_chunks(4).slice(4)) == hash_by_definition([])
