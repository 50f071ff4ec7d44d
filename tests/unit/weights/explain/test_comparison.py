"""Mixtures to compare with."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chameleon_data import InputError
from chameleon_data.weights.explain.comparison import comparison_mixtures


def test_mixtures() -> None:
    found = comparison_mixtures({"b": 900, "a": 100}, {"a": 0.4, "b": 0.6}, {"ours.json": {"a": 3.0, "b": 1.0}})
    assert list(found) == ["uniform", "natural", "natural^0.7", "unbounded", "ours.json"]
    assert all(list(mixture) == ["a", "b"] for mixture in found.values())
    assert found["uniform"] == {"a": 0.5, "b": 0.5}
    assert found["natural"] == pytest.approx({"a": 0.1, "b": 0.9})
    share = 100**0.7 / (100**0.7 + 900**0.7)
    assert found["natural^0.7"] == pytest.approx({"a": share, "b": 1 - share})
    assert found["ours.json"] == pytest.approx({"a": 0.75, "b": 0.25})


@given(st.lists(st.integers(0, 2**52), min_size=1, max_size=9).filter(any), st.floats(0.05, 1))
def test_an_exponent_below_one_lifts_the_small(counts: list[int], alpha: float) -> None:
    found = comparison_mixtures({f"d{i}": n for i, n in enumerate(counts)}, alpha=alpha)
    assert all(sum(mixture.values()) == pytest.approx(1) for mixture in found.values())
    natural, tempered = (np.array(list(found[name].values())) for name in ("natural", f"natural^{alpha:g}"))
    order = np.argsort(natural)
    assert (np.diff(tempered[order]) >= 0).all()
    assert tempered.max() <= natural.max() * (1 + 1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({},), "no tokens"),
        (({"a": 0},), "no tokens"),
        (({"a": 1}, {"b": 1.0}), "mixture 'unbounded': a, b in it or in the corpus, not in both"),
        (({"a": 1}, None, {"x": {"a": -1.0}}), "mixture 'x': shares"),
        (({"a": 1}, None, {"natural": {"a": 1.0}}), "two mixtures.*'natural'"),
    ],
)
def test_mixtures_without_meaning_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(InputError, match=message):
        comparison_mixtures(*arguments)
