"""Corpora that bring a vector for each document, and recipes that weigh them: no model is loaded."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from chameleon_data.pipelines.build import weigh_recipe
from chameleon_data.pipelines.engine import Engine
from chameleon_data.pipelines.weigh import Weighed
from chameleon_data.recipe_file import load_recipe
from tests.support.inline_builds import INLINE

D = 12


def corpus(
    folder: Path, names: str = "abcd", documents: int = 60, missing: int = 0, sizes: tuple[int, ...] = (D,), far: str = ""
) -> None:
    """Domains as Parquet files of distinct texts, each with a vector near its domain's own."""
    for i, name in enumerate(names):
        generator = np.random.default_rng([7, i])
        middle = (30 if name in far else 3) * generator.normal(size=max(sizes))
        vectors: list[Any] = [middle[:size] + generator.normal(size=size) for size in (list(sizes) * documents)[:documents]]
        vectors[:missing] = [None] * missing
        texts = [f"text {j} of {name * 3}: {'x' * (j % 7)}" for j in range(documents)]
        (folder / name).mkdir(parents=True, exist_ok=True)
        half = documents // 2
        for part, rows in enumerate((slice(None, half), slice(half, None))):
            table = pa.table({"text": texts[rows], "vector": pa.array(vectors[rows], pa.list_(pa.float64()))})
            pq.write_table(table, folder / name / f"part-{part}.parquet", row_group_size=9)


def recipe(folder: Path, embed: dict[str, Any], names: Iterable[str] = "abcd", **sections: Any) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(json.dumps({
        "name": "t", "out": str(folder / "out"), "sources": {n: str(folder / "in" / n) for n in names}, "embed": embed,
        **sections,
    }))  # fmt: skip
    return path


def weigh(path: Path, engine: Engine = INLINE) -> Weighed:
    return weigh_recipe(load_recipe(path), engine, lambda *_: None)
