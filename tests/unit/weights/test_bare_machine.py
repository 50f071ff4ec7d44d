"""The weights room on a machine with numpy, scipy, pydantic, pyyaml and xxhash alone, such as a bare GPU machine."""

from __future__ import annotations

import ast
import json
from functools import cache
from importlib.metadata import packages_distributions

import pytest

from tests.support.bare_machine import run_without
from tests.support.paths import ROOT

BARE = {
    "numpy", "scipy", "pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection", "yaml", "xxhash",
}  # fmt: skip
"""What is there, with what these packages need themselves."""
ROOM = ROOT / "chameleon_data" / "weights"
MODULES = sorted(
    ".".join(("chameleon_data", *file.relative_to(ROOM.parent).with_suffix("").parts)).removesuffix(".__init__")
    for file in ROOM.rglob("*.py")
)
NEEDED: dict[str, set[str]] = {
    "chameleon_data.weights.clustering": {"sklearn", "threadpoolctl"},
    "chameleon_data.weights.embedder": {"torch", "transformers", "sentence_transformers", "safetensors"},
    "chameleon_data.weights.encode_texts": {"torch"},
    "chameleon_data.weights.kernels.faiss_library": {"faiss", "threadpoolctl"},
    "chameleon_data.weights.kernels.landmark_records": {"pyarrow"},
    "chameleon_data.weights.language_model": {"torch", "transformers"},
    "chameleon_data.weights.tfidf": {"sklearn", "threadpoolctl"},
}
"""Module -> packages beside the bare ones that its functions import. No module imports them at its top."""


@cache
def others() -> set[str]:
    """Every installed package that is not on the bare machine."""
    return {name for name in packages_distributions() if name not in BARE and name != "chameleon_data"}


def test_every_module_is_imported_without_them() -> None:
    code = """
import importlib, json
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
print(len(sys.modules))
"""
    assert int(run_without(others(), code, json.dumps(MODULES))) > len(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_functions_import_no_more_than_the_table_says(module: str) -> None:
    path = ROOT.joinpath(*module.split("."))
    source = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8")
    names = set[str]()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    assert names & others() == NEEDED.get(module, set())


WEIGH = """
import json
import numpy as np
from chameleon_data import InputError, domain_weights
samples = {n: np.random.default_rng(i).normal(size=(40, 8)) + i * np.eye(8)[i] for i, n in enumerate("abcd")}
done = {}
for kernel in ("linear", "cosine", "rbf", "laplacian", "polynomial"):
    for level in ("domain", "sample"):
        for landmarks in (16, 1000):
            try:
                found = domain_weights(samples, kernel=kernel, level=level, landmarks=landmarks)
                done[f"{kernel} {level} {landmarks}"] = sum(found.weights.values())
            except InputError as error:
                done[f"{kernel} {level} {landmarks}"] = str(error)
print(json.dumps(done))
"""


def test_weights_need_faiss_only_where_landmarks_are_chosen() -> None:
    done = json.loads(run_without(others(), WEIGH))
    for case, answer in done.items():
        kernel, _, landmarks = case.split()
        if kernel in ("linear", "cosine") or landmarks == "1000":  # as many landmarks as samples are the samples
            assert answer == pytest.approx(1), case
        else:
            assert answer == (
                f"leverage.kernel: {kernel}: needs faiss; pip install '.[cpu]' in the repository of chameleon-data, "
                "or '.[gpu]' beside CUDA 12"
            )
