"""Paired tests against scipy.stats, and the number of pairs against the power that it promises."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from chameleon_data.evaluation.intervals import compare_pairs, pairs_needed

DIFFERENCES = st.lists(st.floats(-1, 1).map(lambda x: round(x, 3)), min_size=2, max_size=9).filter(lambda x: len(set(x)) > 1)


@given(DIFFERENCES)
def test_tests_are_those_of_scipy(x: list[float]) -> None:
    found, band = compare_pairs(x, 0.1), 0.1
    reference = stats.ttest_1samp(x, 0)
    assert found.p == pytest.approx(reference.pvalue, abs=1e-9)
    assert found.interval == pytest.approx(tuple(reference.confidence_interval(0.95)), abs=1e-9)
    low = stats.ttest_1samp(x, -band, alternative="greater").pvalue
    high = stats.ttest_1samp(x, band, alternative="less").pvalue
    assert found.p_inside == pytest.approx(max(low, high), abs=1e-9)


def test_one_difference_and_equal_ones_have_their_answers() -> None:
    assert compare_pairs([0.2], 0.1).p is None
    same = compare_pairs([0.0, 0.0, 0.0], 0.1)
    assert (same.p, same.p_inside) == (1.0, 0.0)
    apart = compare_pairs([0.25, 0.25], 0.1)
    assert (apart.p, apart.p_inside) == (0.0, 1.0)


@pytest.mark.parametrize("effect", [0.3, 0.6, 1.0])
def test_so_many_pairs_have_the_power(effect: float) -> None:
    n = pairs_needed(effect, 1.0, band=0.0001)
    assert n is not None

    def power(pairs: int) -> float:
        reach = stats.t.ppf(0.975, pairs - 1)
        return float(stats.nct.sf(reach, pairs - 1, effect * sqrt(pairs)))

    assert power(n) > 0.78
    assert power(max(2, round(0.8 * n) - 1)) < 0.8


def test_a_mean_at_the_edge_of_the_band_that_is_no_difference_needs_too_many() -> None:
    assert pairs_needed(0.0, 1.0, 0.0001) is None
    assert pairs_needed(0.0, 1.0, 1.0) == pairs_needed(0.0, 2.0, 2.0)


def test_spread_raises_the_number() -> None:
    needed = [pairs_needed(0.01, spread, 0.005) for spread in (0.005, 0.01, 0.02)]
    assert needed == sorted(needed, key=lambda n: n or np.inf)
