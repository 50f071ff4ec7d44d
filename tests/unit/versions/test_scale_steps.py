"""The steps of `tests.bench.scale` that make a manifest, at a size that takes a second: they call the code as it is now."""

from __future__ import annotations

import pytest

from tests.bench import scale


@pytest.mark.parametrize("step", ["totals", "plan", "receipts", "wide", "inputs"])
def test_steps_run(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {
        "DOMAINS": 20,
        "NAMES": scale.NAMES[:20],
        "SHARDS": 600,
        "WIDE": 5,
        "FILES": 600,
        "ROWS": 10**7,
        "BYTES": 600 * 60 * 10**6,
    }
    for name, value in small.items():
        monkeypatch.setattr(scale, name, value)
    scale.STEPS[step]()
