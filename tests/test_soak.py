"""The soak's pieces with few seeds; `make soak` has the many."""

from __future__ import annotations

import tempfile
import uuid
from pathlib import Path

import pytest

from tests.fuzz import FOLDER
from tests.soak.crash import HALVES, How, crash_at_every_step


@pytest.mark.parametrize(("kind", "how"), [("memory", "fail"), ("memory", "after"), ("local", "half")])
def test_a_build_that_is_struck_at_any_operation_goes_on(tmp_path: Path, kind: str, how: How) -> None:
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        root = f"memory://{uuid.uuid4().hex}" if kind == "memory" else folder
        struck = crash_at_every_step(tmp_path, lambda name: f"{root}/{name}", how)
    met = {s.split()[0] for s in struck}
    assert met == (set(HALVES) if how == "half" else {"read", "open", "create", "replace", "size", "walk", "delete"})
    assert len(struck) > (40 if how == "half" else 140)
