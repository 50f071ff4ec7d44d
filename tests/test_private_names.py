"""Private names of Ray, which change without a word: those that are used, each with the reason why no public one serves."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.support.paths import ROOT

FILES = sorted(path for top in ("chameleon_data", "jobs", "pipelines") for path in (ROOT / top).rglob("*.py"))
ALLOWED = {
    "ray._private.utils": "set_sigterm_handler: ray.init has no argument that leaves a process its own handler of SIGTERM",
    "ray._private.services": "get_node: the 30 s that Ray waits for its own processes are a number in its code",
}


def private_names(source: str) -> Iterator[str]:
    """Dotted names of Ray of which a part begins with an underscore."""
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{name.name}" for name in node.names]
        elif isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        elif isinstance(node, ast.Attribute):
            names = [ast.unparse(node)]
        for name in names:
            if name.split(".")[0] == "ray" and any(part.startswith("_") for part in name.split(".")):
                yield name


def test_private_names_of_ray_are_those_with_a_reason() -> None:
    found = {name for file in FILES for name in private_names(file.read_text(encoding="utf-8"))}
    assert found == ALLOWED.keys()


@pytest.mark.parametrize(
    "source",
    ["import ray._private.state", "from ray._raylet import x", "from ray.data import _internal", "ray.util._x()", "ray.a._b.c"],
)
def test_a_private_name_is_found(source: str) -> None:
    assert list(private_names(source))
