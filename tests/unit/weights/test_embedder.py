"""The part of embedding that needs no model; models are loaded in tests/system/test_models.py."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chameleon_data.recipe import Embed
from chameleon_data.weights.embedder import token_batches


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60), st.integers(1, 1000))
def test_batches_hold_every_row_once_within_the_budget(lengths, tokens):
    found = token_batches(np.array(lengths), tokens)
    assert sorted(i for batch in found for i in batch) == list(range(len(lengths)))
    ordered = [lengths[i] for batch in found for i in batch]
    assert ordered == sorted(lengths, reverse=True)
    for batch, following in zip(found, [*found[1:], []], strict=True):
        longest = lengths[batch[0]]
        assert len(batch) == 1 or longest * len(batch) <= tokens
        assert not following or longest * (len(batch) + 1) > tokens


@pytest.mark.parametrize(
    ("asked", "says"),
    [({"model": "a", "causal_lm": "b"}, "give one of"), ({"column": "v", "causal_lm": "b"}, "give one of"),
     ({"layer": 3}, "counts the blocks"), ({"column": "v", "window": 99}, "finished vectors"), ({"model": None}, "give one of")],
)  # fmt: skip
def test_one_embedder_at_a_time(asked, says):
    with pytest.raises(ValueError, match=says):
        Embed(**asked)
