"""A text's topic is its own, whatever is embedded beside it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from chameleon_data.corpus.readers.rows import Block
from chameleon_data.corpus.sample import SampleSpec
from chameleon_data.corpus.topics import Topics
from chameleon_data.hashing import content_hashes
from chameleon_data.pipelines import assign
from chameleon_data.recipe import LabelledSource
from chameleon_data.weights.embedder import Embedder, EncodedDocuments

TEXTS = 60


def encode(self: Embedder, groups: Sequence[Sequence[Sequence[str]]], device: str) -> EncodedDocuments:
    """Vectors about the middle between two centres, which move by more than they differ with the number of texts in a group."""
    found = []
    for group in groups:
        angle = np.pi / 4 + np.array([1e-6 * (int(text) - TEXTS // 2) for (text,) in group]) + 1e-6 * (len(group) % 9)
        found.append(np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32))
    return EncodedDocuments(found, 0, 0.0, 0.0, 0.0, 0.0)


def test_texts_between_two_centres_are_told_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Embedder, "encode_groups", encode)
    monkeypatch.setattr(assign, "load_topics", lambda *_: {"": Topics(("a", "b"), np.zeros(2), np.zeros((1, 2), np.int16))})
    monkeypatch.setattr(assign, "load_centres", lambda *_: {"": np.eye(2, dtype=np.float32)})
    source = LabelledSource(path=("x",), topics_url="memory://x", topics="t", seed=0, window=8, embedder="e")

    def topics_of(numbers: Sequence[int]) -> list[int]:
        texts = pa.array([str(number) for number in numbers], pa.large_string())
        rows = np.arange(len(texts))
        block = Block(texts, rows, ("s",), np.zeros(len(texts), np.int32), None, None, (), len(texts))
        embedder = Embedder("model", None, None, 8, "e")
        spec = SampleSpec(64, 8, 0, None)
        return assign._topics_of(block, *content_hashes(texts), source, "s", embedder, "cpu", spec).tolist()

    together = topics_of(range(TEXTS))
    assert together == [topics_of([number])[0] for number in range(TEXTS)]
    assert together[::-1] == topics_of(range(TEXTS)[::-1])
    assert set(together) == {0, 1}
