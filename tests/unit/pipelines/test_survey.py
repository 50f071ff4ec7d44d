"""What the pass over the corpus sends to its workers."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence

import pytest

from chameleon_data.corpus.fragments import Fragment
from chameleon_data.corpus.sample import SampleSpec
from chameleon_data.corpus.tokens import load_token_counter
from chameleon_data.pipelines.engine import Task
from chameleon_data.pipelines.survey import survey_corpus
from chameleon_data.recipe import Input, Source, Tokens
from chameleon_data.store.store import Store


class _SeenError(Exception):
    pass


class _Recording:
    """An engine that keeps what it was to send, and does nothing."""

    cpus, gpus = 1.0, 0
    task: Task
    numbers: Sequence[int]

    def run(self, task: Task, numbers: Sequence[int]) -> Iterator[int]:
        self.task, self.numbers = task, numbers
        raise _SeenError

    def stream(self, *_: object) -> Iterator[object]:
        raise AssertionError


@pytest.mark.parametrize("files", [10, 100_000])
def test_what_is_sent_does_not_grow_with_the_corpus(memory_store: Store, files: int) -> None:
    names = [f"domain-{i:04d}" for i in range(files // 10)]
    fragments = {
        name: [
            Fragment(name, f"s3://bucket/{name}/{i:08d}.jsonl.zst", "jsonl", "zstd", 0, None, 4 * 2**20, f"e={i}")
            for i in range(10)
        ]
        for name in names
    }
    sources = {name: Source(path=(f"s3://bucket/{name}",)) for name in names}
    spec, counter = SampleSpec(64, 256, 0, None), load_token_counter(Tokens())
    engine = _Recording()
    with pytest.raises(_SeenError):
        survey_corpus(engine, memory_store, None, fragments, sources, Input(), spec, counter, lambda *_: None)
    assert len(engine.numbers) == (2 if files < 100 else 1) * len(names), "parts of a larger corpus are larger"
    assert len(pickle.dumps(engine.task.work)) < 10_000
    parts = engine.task.work.args[2]
    assert parts.read(len(engine.numbers) - 1).fragments == tuple(fragments[names[-1]][8 if files < 100 else 0 :])
