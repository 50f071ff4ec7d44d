"""How batches reach the model: each group by itself, ahead of it, halved where memory runs out; and GPUs that do not work."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch

from chameleon_data.errors import InputError
from chameleon_data.recipe import Embed
from chameleon_data.weights.embedder import load_embedder
from chameleon_data.weights.encode_texts import _ahead, encode_groups, encode_texts, pad_rows


class FakeTokenizer:
    pad_token_id = 0
    padding_side = "right"


class FakeModel:
    """Its vectors are the lengths of texts, by words; it has memory for so many tokens, and counts what it is given."""

    prompts: ClassVar[dict[str, str]] = {}
    default_prompt_name = None
    tokenizer = FakeTokenizer()
    device = torch.device("cpu")

    def __init__(self, most: int) -> None:
        self._most = most
        self.given: list[int] = []

    def preprocess(self, texts: list[str], prompt: str | None) -> dict[str, Any]:
        rows = [
            {"input_ids": torch.ones(len(t.split()), dtype=torch.int64), "attention_mask": torch.ones(len(t.split()))}
            for t in texts
        ]
        return pad_rows(self.tokenizer, rows)

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        self.given.append(features["input_ids"].numel())
        if self.given[-1] > self._most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return {"sentence_embedding": features["attention_mask"].sum(dim=1, keepdim=True)}

    def get_embedding_dimension(self) -> int:
        return 1


LENGTHS = [5, 300, 12, 90, 7, 64, 256, 33, 8, 8, 120, 240]


def texts_of(lengths: list[int]) -> list[str]:
    return [" ".join(["word"] * n) for n in lengths]


def test_where_memory_runs_out_batches_are_halved_and_stay_so():
    model = FakeModel(500)
    found = encode_texts(model, texts_of(LENGTHS * 3))
    assert found[:, 0].tolist() == LENGTHS * 3
    failed = [tokens for tokens in model.given if tokens > 500]
    assert failed == [1800, 900], "halved twice, and no later batch was too large"


def test_a_text_that_does_not_fit_alone_is_an_error():
    with pytest.raises(InputError, match=r"too little memory for one text of 300 tokens; lower 'embed\.window'"):
        encode_texts(FakeModel(299), texts_of(LENGTHS))


def test_groups_are_batched_each_by_itself():
    groups = [texts_of(LENGTHS), [], texts_of([3]), texts_of([256] * 20)]
    model = FakeModel(10**9)
    found = encode_groups(model, groups)
    assert [v[:, 0].tolist() for v in found.vectors] == [LENGTHS, [], [3], [256] * 20]
    assert found.tokens == sum(LENGTHS) + 3 + 256 * 20
    assert 3 in model.given, "the text of the third group is run alone"


def test_batches_made_ahead_are_the_same_and_a_fault_in_making_them_is_raised():
    assert list(_ahead(iter(range(50)))) == list(range(50))

    def fail():
        yield 1
        raise InputError("the tokenizer fails")

    taken = _ahead(fail())
    assert next(taken) == 1
    with pytest.raises(InputError, match="the tokenizer fails"):
        next(taken)
    given_up = _ahead(iter(range(10**9)))
    assert next(given_up) == 0
    given_up.close()  # ends the thread


def test_a_gpu_that_torch_cannot_use_is_an_error_with_the_reason(monkeypatch):
    embedder = load_embedder(Embed(window=32))
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(InputError, match=r"is given a GPU, and torch cannot use it \(torch .* is built without CUDA\); install"):
        embedder.encode([["a text"]], "cuda")
    monkeypatch.setattr(torch.version, "cuda", "12.8")

    def no_driver(*_: object, **__: object) -> None:
        raise RuntimeError("Found no NVIDIA driver on your system.")

    monkeypatch.setattr(torch, "zeros", no_driver)
    with pytest.raises(InputError, match=r"torch cannot use it \(Found no NVIDIA driver on your system\.\); mend its driver"):
        embedder.encode([["a text"]], "cuda")
