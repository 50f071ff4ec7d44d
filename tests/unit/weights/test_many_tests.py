"""Holm's correction, against the rule as he wrote it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from chameleon_data.weights.many_tests import holm


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_the_step_down_rule(p: list[float]) -> None:
    adjusted = holm(np.array(p))
    rejected, order = set(), sorted(range(len(p)), key=lambda i: p[i])
    for rank, at in enumerate(order):  # the rule as Holm wrote it, at level .05
        if p[at] * (len(p) - rank) >= 0.05:
            break
        rejected.add(at)
    assert {i for i, value in enumerate(adjusted) if value < 0.05} == rejected


def test_holm_rejects_the_smallest_against_the_number_of_all_and_stops_at_the_first_that_fails() -> None:
    assert (holm(np.array([0.02, 0.01, 0.5, 0.013])) <= 0.05).tolist() == [True, True, False, True]
    assert (holm(np.array([0.02, 0.013, 0.5, 0.013])) <= 0.05).tolist() == [False] * 4, "0.013 is above 0.05 / 4"
    assert (holm(np.array([0.01, 0.01])) <= 0.05).tolist() == [True, True]
    assert len(holm(np.array([]))) == 0
