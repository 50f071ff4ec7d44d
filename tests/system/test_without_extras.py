"""Builds in a process without torch, sentence-transformers and faiss, and what recipes that need them are told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.paths import ROOT

BUILDS = '''
import importlib.machinery
import sys
from pathlib import Path


class Without(importlib.machinery.PathFinder):
    """Finds all packages but these."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        missing = name in ("torch", "sentence_transformers", "transformers", "safetensors", "faiss")
        return None if missing else super().find_spec(name, path, target)


sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Without

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from chameleon_data.errors import InputError
from chameleon_data.recipe import Recipe
from chameleon_data.store.store import Store
from chameleon_data.versions.corpus_tables import read_map
from tests.support.inline_builds import build, write_small_recipe

folder = Path(sys.argv[1])
for i, name in enumerate("abc"):
    (folder / name).mkdir()
    vectors = np.random.default_rng(i).normal(i, 1, (30, 8)).tolist()
    pq.write_table(pa.table({"text": [f"{name} {j}" for j in range(30)], "vector": vectors}), folder / name / "part.parquet")


def recipe(out, **sections):
    return Recipe.model_validate({
        "name": "t", "out": str(folder / out), "sources": {n: str(folder / n) for n in "abc"}, "mix": {"budget": 300}, **sections,
    })


print("given", len(build(write_small_recipe(folder / "small", str(folder / "given"))).domains))
manifest = build(recipe("column", embed={"column": "vector"}))
points = read_map(Store(manifest.recipe.out), manifest)["a"]
print("column", len(manifest.domains), len(points), manifest.weights.misfiled is not None)
for sections in ({}, {"embed": {"column": "vector"}, "leverage": {"kernel": "rbf", "landmarks": 8}}):
    try:
        build(recipe("refused", **sections))
    except InputError as error:
        print(error)
assert not list((folder / "refused").glob("_chameleon/cache/survey/*")), "refused before the survey"
'''


def test_given_weights_and_a_column_of_vectors_need_neither_torch_nor_faiss(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", BUILDS, str(tmp_path)], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "given 3",
        "column 3 30 True",
        "embed.model: needs safetensors and sentence_transformers and torch and transformers; pip install "
        "'.[embed]' in the repository of chameleon-data, or bring vectors ('embed.column') or weights ('weights.from')",
        "leverage.kernel: rbf: needs faiss; pip install '.[cpu]' in the repository of chameleon-data, or '.[gpu]' beside CUDA 12",
    ]
