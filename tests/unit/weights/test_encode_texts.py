"""Batches of texts by their tokens, and how busy the GPU is that they run on."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chameleon_data.weights.encode_texts import GPU_LOOK_SECONDS, GpuUse, token_batches


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


def answer_by(monkeypatch: pytest.MonkeyPatch, utilization: Callable[[], int]) -> None:
    """In torch's place."""
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=SimpleNamespace(utilization=utilization)))


def test_a_gpu_is_looked_at_ten_times_a_second_where_its_driver_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([90, 50, 0])
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    answer_by(monkeypatch, lambda: next(answers))
    use = GpuUse()
    assert use.share is None
    for _ in range(3):
        use.look()
        now[0] += GPU_LOOK_SECONDS / 2
    assert use.share == pytest.approx(0.7), "the second look came too early"
    now[0] += GPU_LOOK_SECONDS
    use.look()
    assert use.share == pytest.approx(1.4 / 3)


@pytest.mark.parametrize(
    "error", [ModuleNotFoundError("pynvml"), RuntimeError("driver can't be loaded"), Exception("NVMLError_NotSupported")]
)
def test_a_driver_that_does_not_tell_stops_nothing(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise error

    answer_by(monkeypatch, refuse)
    use = GpuUse()
    use.look()
    assert use.share is None
