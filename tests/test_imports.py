"""What importing costs, and who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import chameleon_data

ROOT = Path(__file__).parent.parent
LAYERS = {
    "chameleon_data": {"pipelines", "jobs", "ray"},
    "pipelines": {"jobs"},
}
HEAVY = ("ray", "torch", "faiss", "sentence_transformers", "transformers", "matplotlib", "polars", "pandas")


def imported(file: Path) -> set[str]:
    """Top-level packages that a file imports anywhere, inside functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import hides the layer"
            found.add((node.module or "").split(".")[0])
    return found


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_run_downward_only(layer: str) -> None:
    upward = {str(file.relative_to(ROOT)): sorted(imported(file) & LAYERS[layer]) for file in (ROOT / layer).rglob("*.py")}
    assert {file: names for file, names in upward.items() if names} == {}


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


@pytest.mark.parametrize("file", sorted((ROOT / "chameleon_data").glob("*.py")), ids=lambda file: file.stem)
def test_no_module_imports_a_heavy_package_at_its_top(file: Path) -> None:
    top = [node for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {a.name.split(".")[0] for n in top if isinstance(n, ast.Import) for a in n.names}
    names |= {(n.module or "").split(".")[0] for n in top if isinstance(n, ast.ImportFrom)}
    assert names & {"ray", "torch", "faiss", "sentence_transformers", "matplotlib"} == set()


def test_public_names_are_there() -> None:
    for name in chameleon_data.__all__:
        assert getattr(chameleon_data, name) is not None
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = chameleon_data.nothing_such


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert chameleon_data.__version__ == project["version"]
