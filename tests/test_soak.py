"""The soak's pieces with few seeds; `make soak` has the many."""

from __future__ import annotations

import tempfile
import uuid
from pathlib import Path

import pytest

from tests.fuzz import FOLDER
from tests.soak import rot
from tests.soak.alone import small_recipe
from tests.soak.crash import HALVES, How, crash_at_every_step


@pytest.mark.parametrize(("kind", "how"), [("memory", "fail"), ("memory", "after"), ("local", "half")])
def test_a_build_that_is_struck_at_any_operation_goes_on(tmp_path: Path, kind: str, how: How) -> None:
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        root = f"memory://{uuid.uuid4().hex}" if kind == "memory" else folder
        struck = crash_at_every_step(tmp_path, lambda name: f"{root}/{name}", how)
    met = {s.split()[0] for s in struck}
    assert met == (set(HALVES) if how == "half" else {"read", "open", "create", "replace", "size", "walk", "delete"})
    assert len(struck) > (40 if how == "half" else 140)


def test_no_flipped_byte_ends_in_another_version(tmp_path: Path) -> None:
    root = f"memory://{uuid.uuid4().hex}"
    recipe = small_recipe(tmp_path, f"{root}/clean")
    digest, files, log = rot.clean(recipe)
    lies, refusals = zip(
        *(rot.flipped_in_flight(rot.elsewhere(recipe, f"{root}/flight-{n}"), n, digest, files) for n in range(20)), strict=True
    )
    assert sum(lies) > 100
    assert 10 < sum(refusals) < sum(lies)
    steps = range(12, len(log) - 3, 4)  # an unfinished build with something in it
    rotten = [rot.flipped_at_rest(rot.elsewhere(recipe, f"{root}/rest-{at}"), at, at, digest, files) for at in steps]
    kinds = {"summary.json", "sample.parquet", "documents.parquet", "quarantine.parquet"}
    assert kinds < {path.rpartition("/")[2] for path in rotten}
    assert [path for path in rotten if "/runs/" in path and path.endswith(".arrow")]
