"""What importing costs, and who may import whom."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import chameleon_data
from tests.support.paths import ROOT

PACKAGE = ROOT / "chameleon_data"
FLOORS = (
    ("errors", "arrays"),
    ("hashing",),
    ("store", "plan"),
    ("recipe",),
    ("recipe_file",),
    ("corpus",),
    ("weights", "shards"),
    ("versions",),
    ("views",),
    ("evaluation",),
    ("pipelines",),
    ("jobs",),
)
"""Rooms of the package, from the ground up. A room imports rooms of lower floors and itself; no room on its own floor."""
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
HEAVY = ("ray", "torch", "faiss", "sentence_transformers", "transformers", "matplotlib", "polars", "pandas")
WALKED = os.walk(PACKAGE, followlinks=True)
ALL = sorted(Path(folder, name) for folder, _, names in WALKED for name in names if name.endswith(".py"))


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(tree: ast.AST, file: str = "") -> Iterator[str]:
    """Dotted names that a module imports anywhere, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import hides the room"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def upward(source: str, room: str, file: str = "") -> list[str]:
    """What a module of `room` imports from its own floor or above it, but not from its own room; or from no room at all."""
    names = [name.split(".")[1:] for name in imported(ast.parse(source), file) if name.startswith("chameleon_data.")]
    rooms = {parts[0] for parts in names if parts[0] in FLOOR}
    outside = [other for other in rooms - {room} if FLOOR[other] >= FLOOR[room]]
    if room in ("jobs", "views", "versions", "pipelines"):
        return sorted(outside)
    package = [parts[0] for parts in names if parts[0] not in FLOOR]  # chameleon_data.domain_weights: of the whole package
    return sorted([*outside, *package])


@pytest.mark.parametrize("file", ALL, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_run_downward_only(file: Path) -> None:
    if file != PACKAGE / "__init__.py":
        assert upward(file.read_text(encoding="utf-8"), room_of(file), str(file)) == []


@pytest.mark.parametrize(
    ("room", "source", "found"),
    [
        ("plan", "from chameleon_data.store.store import Store", ["store"]),
        ("weights", "def f():\n    from chameleon_data.shards import rows", ["shards"]),
        ("store", "import chameleon_data.recipe", ["recipe"]),
        ("corpus", "from chameleon_data import domain_weights", ["domain_weights"]),
        ("corpus", "from chameleon_data.corpus.tokens import Counter\nfrom chameleon_data.plan import plan", []),
    ],
)
def test_an_arrow_up_is_found(room: str, source: str, found: list[str]) -> None:
    assert upward(source, room) == found


def test_every_room_says_what_lives_there() -> None:
    rooms = [file for file in ALL if file.name == "__init__.py" and file.parent != PACKAGE]
    assert {file.parent.name for file in rooms} >= {"store", "plan", "corpus", "weights", "shards", "versions", "views"}
    assert [str(file) for file in rooms if not ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))] == []
    assert {room_of(file) for file in ALL} - {"__init__"} <= set(FLOOR)


def loaded_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_else() -> None:
    loaded = loaded_after("import chameleon_data")
    assert loaded & {*HEAVY, "numpy", "scipy", "pyarrow", "pydantic", "yaml", "chameleon_data.weights"} == set()


def test_weights_need_numpy_alone_of_the_heavy_packages() -> None:
    loaded = loaded_after("from chameleon_data import domain_weights; domain_weights({'a': [[1.0]]})")
    assert "numpy" in loaded
    assert loaded & {*HEAVY, "pyarrow"} == set()


@pytest.mark.parametrize("file", ALL, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_no_module_imports_a_heavy_package_at_its_top(file: Path) -> None:
    top = [node for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {a.name.split(".")[0] for n in top if isinstance(n, ast.Import) for a in n.names}
    names |= {(n.module or "").split(".")[0] for n in top if isinstance(n, ast.ImportFrom)}
    assert names & {"ray", "torch", "faiss", "sentence_transformers", "matplotlib"} == set()


def test_the_command_starts_without_what_weights_alone_need() -> None:
    """The submodules of scipy take .3 s; `import scipy` loads each at its first use."""
    loaded = loaded_after("import chameleon_data.jobs.cli, chameleon_data.pipelines.build")
    assert loaded & {"scipy.special", "scipy.optimize", "scipy.linalg", "scipy.spatial", *HEAVY} == {"polars"}


TESTS = sorted((ROOT / "tests").rglob("test_*.py"))


@pytest.mark.parametrize("file", TESTS, ids=lambda file: str(file.relative_to(ROOT / "tests")))
def test_no_test_module_imports_another(file: Path) -> None:
    """What two of them need is in tests/support. Those of rooms and contracts need neither Ray nor a model."""
    found = {name for name in imported(ast.parse(file.read_text(encoding="utf-8")), str(file)) if name.startswith("tests.")}
    assert [name for name in found if name.split(".")[1] not in ("support", "soak", "bench")] == []
    if file.relative_to(ROOT / "tests").parts[0] in ("unit", "contract"):
        names = set(imported(ast.parse(file.read_text(encoding="utf-8"))))
        assert [name for name in names if name.split(".")[0] in ("ray", "torch", "transformers", "sentence_transformers")] == []
        assert [name for name in names if name.startswith("tests.support.inline_builds")] == []


def test_public_names_are_there() -> None:
    for name in chameleon_data.__all__:
        assert getattr(chameleon_data, name) is not None
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = chameleon_data.nothing_such


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert chameleon_data.__version__ == project["version"]


def test_nothing_of_ours_is_installed_at_the_top() -> None:
    """A project with folders named jobs or pipelines would shadow ours, or ours theirs."""
    from setuptools import find_packages

    found = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]["find"]
    packages = find_packages(str(ROOT), include=found["include"])
    assert {name.split(".")[0] for name in packages} == {"chameleon_data"}
    assert {"chameleon_data.jobs", "chameleon_data.pipelines"} <= set(packages)
