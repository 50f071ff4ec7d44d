"""What a recipe names in files and other datasets, resolved for the weigh pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from chameleon_data import InputError
from chameleon_data.pipelines.weigh import read_named_weights


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("gone.json", r"gone\.json cannot be read \(No such file or directory\); correct the path"),
        ("shard.json", "is not text in UTF-8; name a JSON or YAML file"),
        ("nowhere@v1", "nowhere: no dataset is there"),
        ("folder@v1", "folder: a folder, but no dataset is there"),
    ],
)
def test_weights_that_are_not_there_are_told_with_their_key(tmp_path: Path, given: str, message: str) -> None:
    (tmp_path / "shard.json").write_bytes(b"\xff\xfe")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=rf"^weights\.from: .*{message}"):
        read_named_weights("weights.from", str(tmp_path / given), ["a"])
