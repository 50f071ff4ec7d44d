"""What every pass sends to its workers, in builds and proofs of two corpora that differ in their numbers of files and domains.

A closure that grows with files, parts, runs, ranges, shards or domains is seen here: it may grow by the digits of a number, so
what is small for a few hundred files is as small for a million, and for 10,000 domains. Passes of `evaluate` are not here
(tests/system/test_evaluate.py), and passes over samples send the embedder or landmarks, which have nothing of the corpus.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from chameleon_data.corpus import row_records
from chameleon_data.pipelines import lay_out as laying_out
from chameleon_data.pipelines.build import build_recipe
from chameleon_data.pipelines.engine import TASK_BYTES, Task
from chameleon_data.pipelines.verify import check_against_corpus, verify_on_engine
from chameleon_data.recipe_file import load_recipe
from chameleon_data.shards import grouping, levels
from chameleon_data.shards import lay_out as laying
from chameleon_data.store.store import Store
from chameleon_data.versions import verify as verifying
from chameleon_data.versions import written
from chameleon_data.versions.streaming import TableFunction
from tests.support.corpus import documents
from tests.support.inline_builds import CREATED, InlineEngine
from tests.support.paths import ROOT

MOST_BYTES = 10_000
GROWTH = 40
"""Bytes that digits may take."""
SHARD_BYTES = 2_000
SECTIONS = {
    "kept": {"input": {"dedup": "exact"}},
    "by id": {"input": {"dedup": "exact", "hash": "id"}, "survey": {"keep": False}},
}
SENT = r"(?:Task\(\s*|work = |stream\(|_join_ranges\()partial\((\w+)"
"""How a function of a pass stands in the code."""
OF_MODELS = {"_assign_part", "_train_branch", "_train_trial", "make_embedding", "_make_summing"}


class RecordingEngine(InlineEngine):
    """An engine that keeps the size of what it would have sent."""

    def __init__(self) -> None:
        self.closures: dict[str, int] = {}
        """Name of a pass's function -> bytes of it and its values."""
        self.arguments: dict[str, int] = {}
        """Name of a stream's function -> bytes of the largest table."""
        self.memory: dict[str, int] = {}
        """Name of a pass's function -> bytes that its tasks ask for."""

    def run(self, task: Task, numbers: Sequence[int]) -> Iterator[int]:
        assert isinstance(task.work, partial)
        self.memory[self._keep(task.work)] = task.memory
        assert all(isinstance(number, int) for number in numbers)
        return super().run(task, numbers)

    def stream(self, make: Callable[[], TableFunction], tables: Sequence[pa.Table], on_gpus: bool = False) -> Iterator[pa.Table]:
        assert isinstance(make, partial)
        largest = max(len(pickle.dumps(table)) for table in tables)
        name = self._keep(make)
        self.arguments[name] = max(largest, self.arguments.get(name, 0))
        return super().stream(make, tables, on_gpus)

    def _keep(self, work: partial[object]) -> str:
        """Keep its size under the names of its functions, and return that of the innermost."""
        size = len(pickle.dumps(work))
        functions = [work.func.__name__]
        while work.args and isinstance(work.args[0], partial):  # a function around the one that works
            work = work.args[0]
            functions.append(work.func.__name__)
        for name in functions:
            self.closures[name] = max(size, self.closures.get(name, 0))
        return functions[-1]


def write_corpus(folder: Path, files: int, domains: int) -> None:
    """26 short texts of each domain, of which six stand twice, in so many files of one source."""
    texts = [text[:200] for texts in documents().values() for text in texts[:20]]
    rows = [
        {"domain": f"domain {number:04d}", "text": f"{number} {copy % 20} {texts[(number + copy) % len(texts)]}"}
        for number in range(domains)
        for copy in range(26)
    ]
    folder.mkdir(parents=True)
    for file in range(files):
        lines = [json.dumps({"id": f"{file}-{at}", **row}) + "\n" for at, row in enumerate(rows[file::files])]
        (folder / f"{file}.jsonl").write_text("".join(lines))


def run_everything(folder: Path, files: int, domains: int, name: str) -> RecordingEngine:
    """Build a version and prove it, from so many files and domains."""
    engine, folder = RecordingEngine(), folder / name.replace(" ", "-") / f"{files:03d}"
    write_corpus(folder / "corpus", files, domains)
    names = [f"domain {number:04d}" for number in range(domains)]
    (folder / "weights.json").write_text(json.dumps(dict.fromkeys(names, 1 / domains)))
    sections = {
        "name": "closures",
        "out": f"memory://{folder.parent.parent.name}-{folder.parent.name}-{folder.name}",
        "sources": {"texts": {"path": str(folder / "corpus"), "domain": "domain", "id": "id" if name == "by id" else None}},
        "weights": {"from": str(folder / "weights.json")},
        "mix": {"budget": 7_000 * domains, "max_epochs": 8, "exhausted": "repeat", "validation": 0.5},
        "shards": {"size": SHARD_BYTES * domains // 3, "formats": ["parquet", "mds"], "lineage": True},
    }
    (folder / "recipe.yaml").write_text(json.dumps({**sections, **SECTIONS[name]}))
    recipe = load_recipe(folder / "recipe.yaml")
    scratch = Store(str(folder / "rows")) if name == "kept" else None
    manifest = build_recipe(recipe, engine, lambda *_: None, CREATED, scratch=scratch).manifest
    store = Store(recipe.out)
    assert verify_on_engine(engine, store, manifest, lambda *_: None).problems == ()
    assert check_against_corpus(engine, store, manifest, lambda *_: None) == []
    return engine


@pytest.fixture
def small_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pass has tasks, however small the corpus is: a part a file, 64 ranges of hashes, two levels of ranges of shards."""
    monkeypatch.setattr("chameleon_data.corpus.parts.PART_BYTES", 1)
    monkeypatch.setattr(row_records, "ROWS_ON_DRIVER", 20)
    monkeypatch.setattr(row_records, "ROWS_IN_GROUP", 20)
    monkeypatch.setattr(laying_out, "find_open_shards", lambda sketch, _: np.ones(sketch.plan.shards, bool))
    monkeypatch.setattr(laying_out, "largest_full_shard_counts", lambda plan: [count - 1 for count in plan.stage_shards])
    monkeypatch.setattr(grouping, "MOST_RANGES", 4)
    monkeypatch.setattr(grouping, "JOINED_BYTES", SHARD_BYTES)
    monkeypatch.setattr(grouping, "LARGEST_RANGE", 2 * SHARD_BYTES)
    monkeypatch.setattr(levels, "EXCHANGED_BYTES", 20_000)
    monkeypatch.setattr(laying, "ROWS_DIVIDED", 40)
    monkeypatch.setattr(verifying, "PROOF_RANGE_BYTES", SHARD_BYTES)
    monkeypatch.setattr(written, "RECEIPTS_IN_GROUP", 2)


def test_what_is_sent_does_not_grow_with_the_corpus(tmp_path: Path, small_tasks: None) -> None:
    seen: set[str] = set()
    for name in SECTIONS:
        few, many = (run_everything(tmp_path, *size, name) for size in ((2, 3), (16, 8)))
        assert few.closures.keys() == many.closures.keys()
        for work, size in many.closures.items():
            assert size < MOST_BYTES, work
            assert size <= few.closures[work] + GROWTH, work
        for make, size in many.arguments.items():
            assert size < MOST_BYTES, make
            assert size <= few.arguments[make] + GROWTH, make
        asks_for_more = {work for work, memory in many.memory.items() if memory > TASK_BYTES}
        assert asks_for_more == {"_cut_range", "_divide", "_exchange"}
        seen |= many.closures.keys()
    files = [file for folder in ("pipelines", "chameleon_data/versions") for file in (ROOT / folder).glob("*.py")]
    sent = {function for file in files for function in re.findall(SENT, file.read_text())} - OF_MODELS
    assert len(sent) > 12
    assert sent <= seen, "a pass that this test does not see"
