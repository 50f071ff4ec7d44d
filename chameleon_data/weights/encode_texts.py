"""Texts to vectors, in batches of about as many tokens each.

Texts are tokenised once and sorted by length, so that little is padding and intermediate results stay small. The texts of one
group alone decide what is run together. On a GPU a thread tokenises and pads the next batches meanwhile, in pinned memory, and
they are copied while the card computes. A batch for which the card has too little memory is halved, and so are those after it.
Why: docs/decisions/051-embedding-batches.md, 052-embedding-runtimes.md and 170-feeding-a-gpu.md. Cost: MiniLM, texts of up to 256
tokens, two cores of a busy machine: 36 a second.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from chameleon_data.arrays import F32
from chameleon_data.errors import InputError

BATCH_TOKENS = {"cpu": 2048, "cuda": 65536}
"""Tokens of one batch, padding included."""
TEXTS_TOKENISED_AT_ONCE = 256
BATCHES_AHEAD = 4
"""Batches that are ready before a GPU takes them."""
GPU_LOOK_SECONDS = 0.1
"""Seconds between two looks at how busy a GPU is."""
BATCHES_ON_GPU = 2
"""Batches that a GPU has at one time: one that it computes, and one that is copied there."""


@dataclass(frozen=True)
class EncodedGroups:
    """Vectors of some groups of texts, and what they took."""

    vectors: list[F32]
    """(texts, dimensions) of each group."""
    tokens: int
    """Tokens of the model that were read, padding left out. 0: the model does not say."""
    forward_seconds: float
    """Seconds in which the model computed, without tokenising, copies and waits; of all its seconds where it does not say."""
    busy: float | None = None
    """Share of the time in which the GPU was at work, as its driver (NVML) says. None: a CPU, or nobody says."""


@dataclass(frozen=True)
class _Batch:
    """Texts of one group that are run together."""

    group: int
    at: list[int]
    """Their places in the group."""
    rows: list[dict[str, Any]]
    """Their tensors without padding."""
    shared: dict[str, Any]
    features: dict[str, Any]
    """The same as (texts, longest) tensors; pinned for a GPU."""

    @property
    def size(self) -> int:
        """Tokens, padding included."""
        return max(map(_length, self.rows)) * len(self.rows)


def _length(row: dict[str, Any]) -> int:
    return len(row["attention_mask"])


def encode_texts(model: Any, texts: Sequence[str]) -> F32:
    """(texts, dimensions) embeddings by a SentenceTransformer, equal to its own `encode`, or by a LanguageModel."""
    return encode_groups(model, [texts]).vectors[0]


def encode_groups(model: Any, groups: Sequence[Sequence[str]]) -> EncodedGroups:
    """Embeddings of each group of texts. What is run together are texts of one group, so a vector depends on its group alone.

    Raises InputError where a GPU lacks the memory for one text.
    """
    import torch

    if not any(groups):
        return EncodedGroups([np.zeros((0, model.get_embedding_dimension() or 0), np.float32)] * len(groups), 0, 0.0)
    with torch.inference_mode():
        prompt = model.prompts.get(model.default_prompt_name) if model.default_prompt_name else None
        first = next(text for texts in groups for text in texts)
        if tokenise(model, [first], prompt)[0] is None:
            return _encode_bags(model, groups)
        batches = _make_batches(model, groups, prompt)
        run = _Run(model)
        rows: list[list[Any]] = [[None] * len(texts) for texts in groups]
        tokens = 0
        for batch in batches if model.device.type == "cpu" else _ahead(batches):
            tokens += sum(map(_length, batch.rows))
            run.add(batch)
        for group, at, vectors in run.end():
            for i, vector in zip(at, vectors, strict=True):
                rows[group][i] = vector
    width = next(len(vector) for group in rows for vector in group)
    return EncodedGroups([np.stack(g) if g else np.zeros((0, width), np.float32) for g in rows], tokens, run.seconds, run.busy)


def _encode_bags(model: Any, groups: Sequence[Sequence[str]]) -> EncodedGroups:
    """Encode with a model that has no attention mask (a bag of words, static vectors). It computes each text by itself."""
    started = time.perf_counter()
    texts = [text for group in groups for text in group]
    vectors = np.asarray(model.encode(texts, show_progress_bar=False), np.float32)
    ends = np.cumsum([len(group) for group in groups])[:-1]
    return EncodedGroups(np.split(vectors, ends), 0, time.perf_counter() - started)


def _make_batches(model: Any, groups: Sequence[Sequence[str]], prompt: str | None) -> Iterator[_Batch]:
    for number, texts in enumerate(groups):
        if not texts:
            continue
        rows, shared = tokenise(model, list(texts), prompt)
        if rows is None:
            raise InputError("embed.model: its tokenizer makes an attention mask of some texts and none of others; use another")
        for at in token_batches(np.array(list(map(_length, rows))), BATCH_TOKENS[model.device.type]):
            yield _pad(model, number, at, [rows[i] for i in at], shared)


def _pad(model: Any, group: int, at: list[int], rows: list[dict[str, Any]], shared: dict[str, Any]) -> _Batch:
    features = pad_rows(model.tokenizer, rows)
    if model.device.type == "cuda":
        features = {key: value.pin_memory() for key, value in features.items()}
    return _Batch(group, at, rows, shared, features)


def _ahead(batches: Iterator[_Batch]) -> Iterator[_Batch]:
    """The same batches, made by a thread before they are taken. Tokenising and padding leave Python's lock to others."""
    import torch

    ready: queue.Queue[Any] = queue.Queue(BATCHES_AHEAD)
    stopped = threading.Event()

    def put(item: Any) -> None:
        while not stopped.is_set():
            with suppress(queue.Full):
                ready.put(item, timeout=0.1)
                return

    def make() -> None:
        try:
            with torch.inference_mode():
                for batch in batches:
                    put(batch)
                    if stopped.is_set():
                        return
            put(None)
        except BaseException as error:  # noqa: BLE001 - it is raised where the batches are taken
            put(error)

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()


class _Run:
    """Batches on their way through the model."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._found: list[tuple[int, list[int], Any]] = []
        """Of each batch: its group, places in it, and the vectors, which may still be on their way from the GPU."""
        self._most: float = float("inf")
        """Tokens of a batch for which there is memory."""
        self._events: list[tuple[Any, Any]] = []
        """Of each batch on a GPU: marks before and after the model computes it."""
        self._copies: Any = None
        self._card = GpuUse()
        self.seconds = 0.0
        """Seconds in which the model computed; whole after `end`."""
        if model.device.type == "cuda":
            import torch

            self._copies = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch

    def add(self, batch: _Batch) -> None:
        """Give the model a batch; halves of it where the GPU lacks memory. A GPU may still be at it afterwards."""
        import torch

        if batch.size <= self._most or len(batch.at) == 1:
            try:
                self._found.append((batch.group, batch.at, self._forward(batch)))
                return
            except torch.cuda.OutOfMemoryError as error:
                if len(batch.at) == 1:
                    raise InputError(
                        f"embed: the GPU has too little memory for one text of {batch.size:,} tokens; lower 'embed.window', use "
                        "a smaller model, or a larger GPU"
                    ) from error
                self._most = batch.size // 2
            if self._copies is not None:
                torch.cuda.synchronize()
                torch.cuda.empty_cache()
        half = len(batch.at) // 2
        for part in (slice(half), slice(half, None)):
            self.add(_pad(self._model, batch.group, batch.at[part], batch.rows[part], batch.shared))

    def _forward(self, batch: _Batch) -> Any:
        if self._copies is None:
            started = time.perf_counter()
            encoded = self._model.forward(batch.features | batch.shared)["sentence_embedding"].float()
            self.seconds += time.perf_counter() - started
            return encoded
        return self._forward_on_gpu(batch)

    def _forward_on_gpu(self, batch: _Batch) -> Any:
        import torch

        if len(self._events) >= BATCHES_ON_GPU:
            self._events[-BATCHES_ON_GPU][1].synchronize()
        with torch.cuda.stream(self._copies):
            features = {key: value.to(self._model.device, non_blocking=True) for key, value in batch.features.items()}
        current = torch.cuda.current_stream()
        current.wait_stream(self._copies)
        for value in features.values():
            value.record_stream(current)
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]  # torch
        before.record()
        encoded = self._model.forward(features | batch.shared)["sentence_embedding"].float()
        after.record()
        vectors = torch.empty(encoded.shape, dtype=encoded.dtype, pin_memory=True)
        vectors.copy_(encoded, non_blocking=True)
        self._events.append((before, after))
        self._card.look()
        return vectors

    @property
    def busy(self) -> float | None:
        """As `EncodedGroups.busy`."""
        return self._card.share

    def end(self) -> Iterator[tuple[int, list[int], F32]]:
        """Yield each batch's group, the places of its texts in the group, and their vectors."""
        if self._copies is not None:
            import torch

            torch.cuda.synchronize()
            self.seconds = sum(before.elapsed_time(after) for before, after in self._events) / 1e3
        for group, at, vectors in self._found:
            yield group, at, vectors.numpy()


class GpuUse:
    """How busy this process's GPU is, by its driver: each answer is the share of the last sixth of a second to second."""

    def __init__(self) -> None:
        self._seen: list[int] = []
        self._next = 0.0

    def look(self) -> None:
        """Ask the driver, at most ten times a second. What it cannot tell stops nothing."""
        import torch

        if time.perf_counter() >= self._next:
            with suppress(Exception):  # no package nvidia-ml-py, or an error of that package's own
                self._seen.append(torch.cuda.utilization())
            self._next = time.perf_counter() + GPU_LOOK_SECONDS

    @property
    def share(self) -> float | None:
        """Mean of the answers, 0 to 1. None: there was none."""
        return float(np.mean(self._seen)) / 100 if self._seen else None


def token_batches(lengths: npt.NDArray[np.int64], tokens: int) -> list[list[int]]:
    """Indices of rows in batches of at most `tokens` when padded, or of one row. The longest rows come first."""
    order = np.argsort(-lengths, kind="stable").tolist()
    batches, start = [], 0
    while start < len(order):
        stop = start + max(1, tokens // int(lengths[order[start]]))
        batches.append(order[start:stop])
        start = stop
    return batches


def tokenise(model: Any, texts: list[str], prompt: str | None) -> tuple[list[dict[str, Any]] | None, dict[str, Any]]:
    """Each text's tensors without padding, and what the model reads beside them, such as the prompt's length.

    None in their place: the model has no attention mask, because it is a bag of words or of static vectors.
    """
    rows, shared = [], {}
    for start in range(0, len(texts), TEXTS_TOKENISED_AT_ONCE):
        features = model.preprocess(texts[start : start + TEXTS_TOKENISED_AT_ONCE], prompt=prompt)
        if "attention_mask" not in features:
            return None, {}
        shape = features["attention_mask"].shape
        each = {key: value for key, value in features.items() if getattr(value, "shape", None) == shape}
        shared = {key: value for key, value in features.items() if key not in each}
        for i, mask in enumerate(features["attention_mask"].bool()):
            rows.append({key: value[i][mask] for key, value in each.items()})
    return rows, shared


def pad_rows(tokenizer: Any, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The rows as (rows, longest) tensors; the attention mask is 0 at the padding."""
    import torch

    fill = {"input_ids": tokenizer.pad_token_id or 0}
    return {
        key: torch.nn.utils.rnn.pad_sequence(
            [row[key] for row in rows], batch_first=True, padding_value=fill.get(key, 0), padding_side=tokenizer.padding_side
        )
        for key in rows[0]
    }
