"""Batches of texts by their tokens."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from chameleon_data.weights.encode_texts import token_batches


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
