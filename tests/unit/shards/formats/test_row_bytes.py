"""Rows as joined byte strings, against a loop over rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chameleon_data.shards.formats import row_bytes

rows_of_two = st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=9)), min_size=1, max_size=9)


@settings(deadline=None)
@given(rows_of_two, st.binary(max_size=9), st.binary(max_size=9))
def test_a_join_is_head_then_sizes_and_values_of_each_row_then_tail_and_comes_apart(rows, head, tail) -> None:
    sizes = np.array([[len(value) for value in row] for row in rows], np.int64)
    columns = [pa.array([row[at] for row in rows], pa.large_binary()) for at in (0, 1)]
    body = row_bytes.join_sized_rows(sizes, columns, head, tail)
    naive = [np.array([len(value) for value in row], "<u4").tobytes() + b"".join(row) for row in rows]
    assert body.to_pybytes() == head + b"".join(naive) + tail
    offsets = len(head) + np.append(0, np.cumsum([len(row) for row in naive]))
    assert np.array_equal(row_bytes.read_sizes(body, offsets, 2), sizes)
    widths = np.insert(sizes, 0, 8, axis=1)
    assert [c.to_pylist() for c in row_bytes.separate_rows(body, len(head), widths)[1:]] == [c.to_pylist() for c in columns]


def test_sizes_and_offsets_that_do_not_fit_are_refused() -> None:
    body = row_bytes.join_sized_rows(np.array([[2]]), [pa.array([b"ab"], pa.large_binary())])
    with pytest.raises(ValueError, match="sizes of row 0 do not add up"):
        row_bytes.read_sizes(body, np.array([0, 5]), 1)
    with pytest.raises(ValueError, match="do not rise"):
        row_bytes.read_sizes(body, np.array([0, 7]), 1)
    with pytest.raises(ValueError, match="3 rows do not fit in 6 bytes"):
        row_bytes.read_offsets(body, 0, 3)


def test_numbers_come_back_or_are_refused_where_they_do_not_fit() -> None:
    stored = row_bytes.fixed_size_strings(np.array([1, 2**32 - 1], np.int64)).take(pa.array([0, 1]))
    assert row_bytes.decode_column(stored, pa.field("epoch", pa.uint32()), "<i8").to_pylist() == [1, 2**32 - 1]
    with pytest.raises(OverflowError, match="not a uint16"):
        row_bytes.decode_column(stored, pa.field("epoch", pa.uint16()), "<i8")
