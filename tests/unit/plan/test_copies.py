"""The numbering of copies against two lines that count."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chameleon_data.plan import copies
from chameleon_data.plan.copies import number_copies

small = st.integers(0, 3)
large = st.sampled_from([0, 1, 2**63, 2**63 + 1, 2**64 - 1])
TYPES = (np.int64, np.int64, np.uint64, np.uint64)


def naive(rows: list[tuple[int, ...]]) -> list[int]:
    """Each row's number is how often the row came before."""
    return [rows[:at].count(row) for at, row in enumerate(rows)]


def columns_of(rows: list[tuple[int, ...]]) -> list[np.ndarray]:
    return [np.array([row[i] for row in rows], kind) for i, kind in enumerate(TYPES)]


@settings(deadline=None)
@given(st.lists(st.tuples(small, small, large, large), max_size=40))
def test_copies_are_numbered_as_by_counting_them(rows):
    assert number_copies(*columns_of(rows)).tolist() == naive(rows)


def test_rows_that_share_a_hash_are_not_taken_for_copies(monkeypatch):
    """Every row has the same hash here, so that the columns alone decide."""
    monkeypatch.setattr(copies, "mix64", lambda columns, salt: np.zeros(len(columns[0]), np.uint64))
    rows = [(i % 2, i % 3, i % 5, 7) for i in range(60)]
    assert number_copies(*columns_of(rows)).tolist() == naive(rows)


@pytest.mark.parametrize("rows", [0, 1])
def test_no_row_and_one_row(rows):
    assert number_copies(np.zeros(rows, np.int64)).tolist() == [0] * rows
