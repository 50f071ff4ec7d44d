"""Bodies in any number of buffers, gathered in any order, against a list."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chameleon_data.corpus import bodies
from chameleon_data.corpus.bodies import INLINE_BYTES, Bodies

VALUE = st.one_of(st.binary(max_size=INLINE_BYTES + 2), st.binary(min_size=20, max_size=60))
VALUES = st.lists(st.lists(VALUE, max_size=8), max_size=4)


@pytest.fixture(params=[{}, {"WINDOW_BYTES": 16}, {"LARGEST_VIEW": 1}], ids=str, scope="module")
def way(request):
    """Views of whole buffers, of windows of 16 bytes of them, and the join that is for bodies of 2 GiB."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in request.param.items():
            patch.setattr(bodies, name, value)
        yield


@given(VALUES, st.randoms())
def test_a_gathered_array_holds_the_values_in_the_order_asked_for(way, several, random):
    arrays = [pa.array([b"before", *values, b"behind"], pa.large_binary())[1:-1] for values in several]
    flat = [value for values in several for value in values]
    rows = [random.randrange(len(flat)) for _ in range(2 * len(flat))]
    found = Bodies.concatenate([Bodies.of(array) for array in arrays]).take(np.array(rows, np.int64)).gather()
    found.validate(full=True)
    assert found.type == pa.large_binary()
    assert found.to_pylist() == [flat[row] for row in rows]
