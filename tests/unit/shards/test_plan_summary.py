"""What a plan says of stages that are there already."""

from __future__ import annotations

import pytest

from chameleon_data.shards.plan_summary import PlannedFolder, describe_finished

FOLDERS = (PlannedFolder("a", 2, 9), PlannedFolder("b", 1, 3), PlannedFolder("c", 1, 2))


@pytest.mark.parametrize(
    ("finished", "said"),
    [
        ((0, 0, 0), ""),
        ((8, 0, 0), ""),
        ((9, 0, 0), "stages 1 and 2 are there already; only stages 3 and 4 are written"),
        ((9, 2, 0), "stages 1 and 2 are there already; only stages 3 and 4 are written"),
        ((9, 3, 0), "stages 1, 2 and 3 are there already; only stage 4 is written"),
        ((9, 3, 2), "stages 1, 2, 3 and 4 are there already"),
    ],
)
def test_a_stage_is_there_when_all_its_shards_are(finished: tuple[int, ...], said: str) -> None:
    assert describe_finished(FOLDERS, finished) == said
    assert describe_finished(FOLDERS[:1], finished[:1]) == "", "there is nothing that a stage was added to"
