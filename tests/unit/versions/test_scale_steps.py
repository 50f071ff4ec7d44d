"""The steps of `tests.bench.scale` at a size that takes a second: they call the code as it is now."""

from __future__ import annotations

import pytest

from tests.bench import scale


@pytest.mark.parametrize("step", [step for step in scale.STEPS if step != "cut"])  # so few rows lie in no slot that is cut
def test_steps_run(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {
        "DOMAINS": 20,
        "NAMES": scale.NAMES[:20],
        "SHARDS": 600,
        "WIDE": 5,
        "FILES": 600,
        "ROWS": 10**7,
        "MOST_BUCKETS": 20 << 10,
        "MOST_RANGES": 32,
        "ROWS_DIVIDED": 2**10,
        "BYTES": 600 * 60 * 10**6,
    }
    for name, value in small.items():
        monkeypatch.setattr(scale, name, value)
    scale.STEPS[step]()
