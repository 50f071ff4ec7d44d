"""The steps of `tests.bench.scale` at a size that takes a second: they call the code as it is now."""

from __future__ import annotations

import pytest

from chameleon_data.versions import written
from tests.bench import scale


@pytest.mark.parametrize("step", scale.STEPS)
def test_steps_run(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {
        "DOMAINS": 20,
        "NAMES": scale.NAMES[:20],
        "SHARDS": 2_840,
        "COUNTS_IN_GROUP": 20 << 10,
        "FILES": 2_840,
        "ROWS": 10**9,
        "MOST_BUCKETS": 20 << 10,
        "MOST_RANGES": 255,
        "ROWS_DIVIDED": 2**10,
        "BYTES": 2_840 * 60 * 10**6,
    }
    for name, value in small.items():
        monkeypatch.setattr(scale, name, value)
    monkeypatch.setattr(written, "COUNTS_IN_GROUP", small["COUNTS_IN_GROUP"])
    scale.STEPS[step]()
