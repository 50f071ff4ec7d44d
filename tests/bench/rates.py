"""The rates by which `plan` says what a build costs: written to out/rates.json, for `plan --rates` and `build --rates`.

Builds of two sizes, with and without kept rows, give the fixed seconds of each pass and its core-seconds for a GB of text. Each
format's encoder is timed by itself on rows of one of these builds; the demo gives what embedding takes beside its windows.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import platform
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from chameleon_data.pipelines.build import build_recipe
from chameleon_data.pipelines.cost import EmbedRate, Rate, Rates
from chameleon_data.pipelines.engine import Engine
from chameleon_data.pipelines.local_engine import local_engine
from chameleon_data.plan.plan import TRAIN
from chameleon_data.recipe import Embed
from chameleon_data.recipe_file import load_recipe
from chameleon_data.shards.formats import parquet
from chameleon_data.shards.formats.registry import FORMATS
from chameleon_data.weights.embedder import Embedder, load_embedder, load_model
from tests.bench.build import CORES, make_corpus, recipe_for
from tests.bench.figures import Figure, show
from tests.support.corpus import demo_texts
from tests.support.paths import ROOT
from tests.support.static_models import save_static_copy

SIZES = (20e6, 200e6)
ROUNDS = 3
WINDOWS = 128
GPU_WINDOW = 0.0005
"""Seconds of a GPU for a window. Nobody measured it here: a guess, to be replaced by tests/device/embed.py's figure."""
IDS_ONLY = {"megatron"}
"""It stores token ids, of which there are none here; it is taken to cost what parquet does."""


def time_builds(engine: Engine, folder: Path) -> tuple[dict[str, Rate], pa.Table]:
    """Pass -> its rate; and the rows of a shard."""
    walls: dict[tuple[str, float], float] = {}
    shard = pa.table({})
    for size in SIZES:
        corpus = folder / f"corpus-{size:g}"
        make_corpus(corpus, int(size))
        for keep in (True, False):
            taken: dict[str, list[float]] = {}
            for _ in range(ROUNDS):
                shutil.rmtree(folder / "out", ignore_errors=True)
                plain = json.loads(recipe_for(folder, corpus, int(size)).read_text())
                plain |= {"survey": {"keep": "auto" if keep else False}, "shards": {"formats": ["parquet"], "size": "8MiB"}}
                (folder / "recipe.yaml").write_text(json.dumps(plain))
                built = build_recipe(load_recipe(folder / "recipe.yaml"), engine, lambda *_: None, "bench")
                for name, seconds in built.manifest.timings.items():
                    taken.setdefault(name if keep else f"{name} again", []).append(seconds)
            walls |= {(name, size): statistics.median(seconds) for name, seconds in taken.items()}
        path = next((folder / "out/builds").glob("*/parquet/*.parquet"))
        shard, _ = parquet.decode({path.name: path.read_bytes()}, path.name)
        shutil.rmtree(corpus)
    small, large = SIZES

    def fit(name: str, cores: int) -> Rate:
        slope = max(0.0, (walls[name, large] - walls[name, small]) / (large - small))
        return Rate(round(max(0.0, walls[name, small] - slope * small), 2), round(slope * 1e9 * cores, 2))

    rates = {name: fit(name, CORES) for name in ("survey", "write", "write again")} | {"plan": fit("plan", 1)}
    both, once = rates.pop("write again"), rates["write"]
    rates["read"] = Rate(round(max(0.0, both.fixed - once.fixed), 2), round(max(0.0, both.gigabyte - once.gigabyte), 2))
    return rates, shard


def time_formats(rows: pa.Table) -> tuple[dict[str, float], dict[str, float]]:
    """Format -> core-seconds a GB of text; and format -> bytes written for a byte of text."""
    text = pc.sum(pc.binary_length(rows["text"])).as_py()
    seconds, stored = {}, {}
    for name, form in FORMATS.items():
        if name in IDS_ONLY:
            continue
        start = time.perf_counter()
        files = form.encode(rows, 0, 1, TRAIN, 3).files
        seconds[name] = round((time.perf_counter() - start) / text * 1e9, 2)
        stored[name] = round(sum(pa.py_buffer(data).size for data in files.values()) / text, 3)
    for name in IDS_ONLY:
        seconds[name], stored[name] = seconds["parquet"], 0.5
    return seconds, stored


def time_embedding(engine: Engine, folder: Path) -> EmbedRate:
    texts = [[text[:1_000]] for texts in demo_texts().values() for text in texts]
    transformer = load_embedder(Embed())
    assert isinstance(transformer, Embedder)
    window = _time_windows(transformer, texts[:WINDOWS])
    static = load_embedder(Embed(model=str(save_static_copy(folder / "static", transformer))))
    assert isinstance(static, Embedder)
    static_window = _time_windows(static, texts)
    demo = load_recipe(ROOT / "jobs/recipes/demo/demo.yaml").model_copy(update={"out": str(folder / "demo")})
    built = build_recipe(demo, engine, lambda *_: None, "bench")
    windows = sum(min(demo.embed.drawn, d.available_rows) for d in built.manifest.domains.values())
    fixed = max(0.0, built.manifest.timings["embed and weigh"] - windows * window / CORES)
    return EmbedRate(round(fixed, 2), round(window, 4), round(static_window, 6), GPU_WINDOW)


def _time_windows(embedder: Embedder, texts: list[list[str]]) -> float:
    """Seconds for a window of text, once the model is loaded."""
    embedder.encode(texts[:8])
    start = time.perf_counter()
    embedder.encode(texts)
    return (time.perf_counter() - start) / len(texts)


def time_tokenizer() -> float:
    """Core-seconds of the demo's tokenizer for 10^9 bytes of text."""
    from tokenizers import Tokenizer

    embedder = load_embedder(Embed())
    assert isinstance(embedder, Embedder)
    tokenizer: Any = Tokenizer.from_str(load_model(embedder).tokenizer.backend_tokenizer.to_str())
    tokenizer.no_truncation()
    texts = [text for of_domain in demo_texts().values() for text in of_domain]
    start = time.perf_counter()
    tokenizer.encode_batch_fast(texts)
    return (time.perf_counter() - start) / sum(len(text.encode()) for text in texts) * 1e9


def measure() -> Rates:
    with tempfile.TemporaryDirectory() as name, local_engine(workers=CORES) as engine:
        folder = Path(name)
        passes, rows = time_builds(engine, folder)
        encode, stored = time_formats(rows)
        embed, tokenizer = time_embedding(engine, folder), time_tokenizer()
    write = Rate(passes["write"].fixed, round(max(0.0, passes["write"].gigabyte - encode["parquet"]), 2))
    where = f"{CORES} cores of {platform.machine()}, {datetime.date.today():%Y-%m-%d}, by make bench"
    return Rates(where, passes["survey"], round(tokenizer, 1), embed, passes["plan"], passes["read"], write, encode, stored, 1.0)


def run() -> list[Figure]:
    rates = measure()
    file = ROOT / "out/rates.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(dataclasses.asdict(rates), indent=2) + "\n")
    peer = f"written to {file}"
    return [
        Figure("survey", rates.survey.gigabyte, "core-s/GB", None, peer),
        Figure("second reading", rates.read.gigabyte, "core-s/GB"),
        Figure("write, without encoding", rates.write.gigabyte, "core-s/GB"),
        *(Figure(f"encode {name}", seconds, "core-s/GB") for name, seconds in rates.encode.items()),
        Figure("embed", 1 / rates.embed.window, "windows/core-s"),
        Figure("embed with static vectors", 1 / rates.embed.static_window, "windows/core-s"),
    ]


if __name__ == "__main__":
    show(run())
