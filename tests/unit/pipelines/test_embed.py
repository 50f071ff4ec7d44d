"""The embed pass: what a stopped run embedded is not embedded again, and no vector depends on where it stopped."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from chameleon_data.corpus.sample import SAMPLE_SCHEMA
from chameleon_data.pipelines import embed, engine
from chameleon_data.store.checksummed import write_table
from chameleon_data.store.store import Store
from chameleon_data.versions.streaming import TableFunction
from chameleon_data.weights.embedder import Embedder, EncodedDocuments

EMBEDDER = Embedder("m", None, None, 256, "f" * 64)
DOCUMENTS = {"a": 150, "b": 70, "c": 3}
"""Documents of each domain; they make 3, 2 and 1 batches of 64, and the last two travel together."""


class Killed(BaseException):
    """In place of a signal."""


def draw_sample(documents: dict[str, int] = DOCUMENTS) -> pa.Table:
    rows = [
        {
            "domain": name,
            "hi": number,
            "lo": 7 * number,
            "tokens": 1,
            "priority": 0.0,
            "windows": [f"{name} {number}"],
            "vector": None,
        }
        for name, most in documents.items()
        for number in range(most)
    ]
    return pa.Table.from_pylist(rows, SAMPLE_SCHEMA)


class StoppingEngine:
    """Ends with `Killed` after some tables; counts the documents that it was given."""

    def __init__(self, tables: int, at_the_end: Callable[[], object] = lambda: None, gpus: int = 0) -> None:
        self.gpus, self._left, self._at_the_end = gpus, tables, at_the_end
        self.documents = 0

    def stream(self, make: Callable[[], TableFunction], tables: Sequence[pa.Table], on_gpus: bool) -> Iterator[pa.Table]:
        assert on_gpus == bool(self.gpus)
        for table, answer in zip(tables, map(make(), tables), strict=True):
            if not self._left:
                self._at_the_end()
                raise Killed
            self._left -= 1
            self.documents += table.num_rows
            yield answer


@pytest.fixture(autouse=True)
def encode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors that say beside how many others, and beside which, a document was embedded."""

    def encode_groups(_: Embedder, groups: list[list[list[str]]], device: str) -> EncodedDocuments:
        vectors = []
        for group in groups:
            lengths = [sum(map(ord, windows[0])) for windows in group]
            vectors.append(np.array([[n, len(lengths), sum(lengths)] for n in lengths], np.float32))
        return EncodedDocuments(vectors, 10 * sum(map(len, groups)), 4.0, 2.0, 1.5, 0.5 if device == "cuda" else math.nan)

    monkeypatch.setattr(Embedder, "encode_groups", encode_groups)


def run(store: Store, engine: Any, sample: pa.Table, told: list[tuple[int, int]] | None = None) -> embed.EmbeddedSamples:
    progress: Any = (lambda *_: None) if told is None else (lambda _, done, total: told.append((done, total)))
    return embed.embed_sample(engine, store, EMBEDDER, sample, progress)


def assert_same(found: embed.EmbeddedSamples, expected: embed.EmbeddedSamples) -> None:
    assert found.vectors.keys() == expected.vectors.keys()
    for name, vectors in expected.vectors.items():
        np.testing.assert_array_equal(found.vectors[name], vectors)


@pytest.mark.parametrize("tables", [1, 2, 4])
def test_a_stopped_run_goes_on_with_the_batches_that_it_lacks(tmp_path: Path, tables: int) -> None:
    whole = run(Store(str(tmp_path / "whole")), StoppingEngine(99), draw_sample())
    store, stopped, rest = Store(str(tmp_path / "out")), StoppingEngine(tables), StoppingEngine(99)
    with pytest.raises(Killed):
        run(store, stopped, draw_sample())
    told: list[tuple[int, int]] = []
    found = run(store, rest, draw_sample(), told)
    assert_same(found, whole)
    assert stopped.documents + rest.documents == sum(DOCUMENTS.values())
    assert told[0] == (stopped.documents, sum(DOCUMENTS.values()))
    assert found.documents == rest.documents
    assert not [path for path in store.list() if "batches" in path], "they go once the samples are whole"


def test_documents_are_counted_with_their_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: Counter[str] = Counter()
    monkeypatch.setattr(engine, "_counting", [lambda name, amount, number: counted.update({f"{name} {amount}": number})])
    sample, rows = draw_sample(), sum(DOCUMENTS.values())
    run(Store(str(tmp_path)), StoppingEngine(99), sample)
    size = sum(len(window) for windows in sample["windows"].to_pylist() for window in windows)
    assert counted == {"embed rows": rows, "embed tokens": 10 * rows, "embed bytes": size}


def test_a_kill_costs_what_came_since_the_last_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill leaves no time to write anything: what lay on the disk in that moment is all."""
    monkeypatch.setattr(embed, "RECORD_SECONDS", 0.0)
    copy = partial(shutil.copytree, tmp_path / "out", tmp_path / "copy")
    with pytest.raises(Killed):
        run(Store(str(tmp_path / "out")), StoppingEngine(4, copy), draw_sample())
    rest = StoppingEngine(99)
    found = run(Store(str(tmp_path / "copy")), rest, draw_sample())
    assert_same(found, run(Store(str(tmp_path / "whole")), StoppingEngine(99), draw_sample()))
    assert rest.documents == sum(DOCUMENTS.values()) - 64 - 64 - 22 - 64


def test_a_run_that_was_stopped_while_samples_were_written_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed, "RECORD_SECONDS", 0.0)
    written: list[str] = []

    def stop_at_the_second(store: Store, path: str, table: pa.Table) -> None:
        if "batches" not in path:
            written.append(path)
        if len(written) == 2:
            raise Killed
        write_table(store, path, table)

    store = Store(str(tmp_path / "out"))
    monkeypatch.setattr(embed, "write_table", stop_at_the_second)
    with pytest.raises(Killed):
        run(store, StoppingEngine(99), draw_sample())
    monkeypatch.setattr(embed, "write_table", write_table)
    rest = StoppingEngine(99)
    assert_same(run(store, rest, draw_sample()), run(Store(str(tmp_path / "whole")), StoppingEngine(99), draw_sample()))
    assert rest.documents == 0
    assert not [path for path in store.list() if "batches" in path]


def test_another_sample_leaves_the_batches_of_a_stopped_run_to_it(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "out"))
    with pytest.raises(Killed):
        run(store, StoppingEngine(2), draw_sample())
    run(store, StoppingEngine(99), draw_sample({"a": 40}))
    (batches,) = [path for path in store.list() if "batches" in path]
    rest = StoppingEngine(99)
    run(store, rest, draw_sample({"a": 150}))
    assert rest.documents < 150
    assert not store.exists(batches)


def test_a_file_of_batches_that_is_removed_meanwhile_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two builds of one sample: the one that ends first removes the files that both know."""
    store = Store(str(tmp_path / "out"))
    with pytest.raises(Killed):
        run(store, StoppingEngine(2), draw_sample())
    read = embed.read_table

    def remove_first(store: Store, path: str) -> pa.Table:
        store.remove([path] if "batches" in path else [])
        return read(store, path)

    monkeypatch.setattr(embed, "read_table", remove_first)
    rest = StoppingEngine(99)
    run(store, rest, draw_sample())
    assert rest.documents == sum(DOCUMENTS.values())


@pytest.mark.parametrize("gpus", [0, 2])
def test_the_pace_is_that_of_the_actors(tmp_path: Path, gpus: int) -> None:
    found = run(Store(str(tmp_path / "out")), StoppingEngine(99, gpus=gpus), draw_sample())
    pace = found.pace
    assert pace is not None
    tables = 1 if gpus else 5
    costs = (pace.documents, pace.tokens, pace.encode_seconds, pace.forward_seconds, pace.device)
    assert costs == (223, 2230, 2.0 * tables, 1.5 * tables, "cuda" if gpus else "cpu")
    said = "the model computed 75% of the actors' time" + ("; the GPUs were busy 25% of it" if gpus else "")
    assert pace.describe().endswith(said)
    assert "pip install nvidia-ml-py" in replace(pace, device="cuda", busy_seconds=math.nan).describe()
    assert run(Store(str(tmp_path / "out")), StoppingEngine(99, gpus=gpus), draw_sample()).pace is None


def test_a_gpu_gets_many_batches_at_once_and_a_vector_still_depends_on_its_domain_alone(tmp_path: Path) -> None:
    """The vectors say beside how many others a document was embedded: at most 1,024, of its own domain."""
    engine = StoppingEngine(99, gpus=1)
    found = run(Store(str(tmp_path / "out")), engine, draw_sample({"a": 1500, "b": 70}))
    assert [sorted(set(found.vectors[name][:, 1].tolist())) for name in "ab"] == [[476.0, 1024.0], [70.0]]
    alone = run(Store(str(tmp_path / "alone")), StoppingEngine(99, gpus=1), draw_sample({"a": 1500}))
    np.testing.assert_array_equal(found.vectors["a"], alone.vectors["a"])
