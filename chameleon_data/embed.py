"""Windows of text to vectors, by a sentence-transformers model.

    vector of a document = mean over its windows of the model's sentence embedding

Windows are tokenised once, sorted by length and run in batches of about as many tokens each, so that little is padding and the
intermediate results stay small. What is run together is a function of the windows given and of nothing else.

Everything is float32, on a GPU too (torch leaves TF32 off for matrix products): a sample is small, bfloat16 would move a
vector by 4e-3, and weights are worth reproducing elsewhere. The model is a folder of data: safetensors, no code, no pickles.

Cost: MiniLM, windows of up to 256 tokens, 2 cores of a busy machine: 36 documents a second, 1.2 times a plain
`SentenceTransformer.encode` of the same documents (1.4 in a quiet run on longer ones); tokenising is 3 %, the rest the forward
pass. Other back ends were not tried. bfloat16 on AMX took a third of the time in one run. Importing takes 6 s and loading .3 s.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from chameleon_data import hub, recipe
from chameleon_data.errors import InputError
from chameleon_data.hashing import fingerprint

F32 = npt.NDArray[np.float32]

FORMAT = 1  # of the vectors: raise it when the same model and windows give others
BATCH_TOKENS = {"cpu": 2048, "cuda": 65536}
"""Tokens of one batch, padding included. On CPUs 1,024 to 4,096 are fastest (8,192, which is 32 windows, 15 % slower): larger
intermediate results, 6 kB a token, exceed the 32 MB up to which glibc keeps freed memory, and every page is cleared anew."""
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True)
class Embedder:
    """What embeds, as a value that travels; the model is loaded once in each process that encodes."""

    model: str
    """Hub id, folder, or a name that an installed package carries."""
    revision: str | None
    window: int
    """Tokens of the model, its special ones included; what is longer is cut off."""
    fingerprint: str
    """Of the model's files and the window: the same wherever they lie."""

    def encode(self, windows: Sequence[Sequence[str]]) -> F32:
        """(documents, dimensions): the mean over each document's windows; each document has at least one.

        On CPUs the last bits may depend on the number of threads (1 and 2 gave the same). Raises InputError where
        the model cannot be loaded or its numbers are not finite.
        """
        counts = np.array([len(w) for w in windows], np.int64)
        if not counts.all():
            raise ValueError("a document without windows has no embedding")
        vectors = encode_texts(_load(self), [text for document in windows for text in document])
        if not np.isfinite(vectors).all():
            bad = int((~np.isfinite(vectors)).any(axis=1).sum())
            raise InputError(f"embed.model: {self.model} gave {bad} vectors of {len(vectors)} that are not finite; use another")
        if not len(counts):
            return vectors
        sums = np.add.reduceat(vectors.astype(np.float64), np.cumsum(counts) - counts, axis=0)
        return (sums / counts[:, None]).astype(np.float32)


def load_embedder(embed: recipe.Embed) -> Embedder:
    """The embedder that a recipe asks for; its files are found (or downloaded) and hashed, torch is not loaded."""
    folder = hub.model_folder(embed.model, embed.revision, "embed.model")
    revision = folder.name if folder.parent.name == "snapshots" else embed.revision
    return Embedder(embed.model, revision, embed.window, _fingerprint(folder, embed.window))


def _fingerprint(folder: Path, window: int) -> str:
    """Of the weights, vocabularies and settings (pooling and normalisation are among them) in a model's folder. 1 GB/s."""
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and any(path.match(p) for p in hub.DATA) and not any(name.match(p) for p in hub.OTHER_RUNTIMES):
            with path.open("rb") as file:
                files[name.as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
        if path.suffix in PICKLED and not any(path.parent.glob("*.safetensors")):
            raise InputError(f"embed.model: {folder}: {name} is pickled and could run code; save the model with safetensors")
    if not {"modules.json", "config.json"} & files.keys() or not any(name.endswith(".safetensors") for name in files):
        raise InputError(f"embed.model: {folder} is no model: it needs modules.json or config.json, and weights in safetensors")
    return fingerprint({"format": FORMAT, "files": files, "window": window})


@functools.lru_cache(maxsize=1)
def _load(embedder: Embedder) -> Any:
    """The model, on the GPU where torch sees one. Refuses files other than those the embedder was made from."""
    folder = hub.model_folder(embedder.model, embedder.revision, "embed.model")
    if _fingerprint(folder, embedder.window) != embedder.fingerprint:
        raise InputError(f"embed.model: the files in {folder} changed, or differ between machines; use one model everywhere")
    import torch
    from safetensors import SafetensorError
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    bars: Any = logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        model = SentenceTransformer(
            str(folder),
            device="cuda" if torch.cuda.is_available() else "cpu",
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True, "dtype": torch.float32},
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
        raise InputError(f"embed.model: {embedder.model} cannot be loaded: {str(error).splitlines()[0]}") from error
    finally:
        if shown:
            bars.enable_progress_bar()
    limits = [model.max_seq_length, getattr(model.config, "max_position_embeddings", None)]
    longest = min((limit for limit in limits if limit), default=embedder.window)
    if embedder.window > longest:
        raise InputError(f"embed.window: {embedder.model} reads {longest} tokens at once, not {embedder.window}; use {longest}")
    model.max_seq_length = embedder.window
    return model.eval()


def encode_texts(model: Any, texts: Sequence[str]) -> F32:
    """(texts, dimensions): sentence embeddings of a SentenceTransformer, as its own `encode` gives them, faster."""
    import torch

    if not texts:
        return np.zeros((0, model.get_embedding_dimension() or 0), np.float32)
    with torch.inference_mode():
        prompt = model.prompts.get(model.default_prompt_name) if model.default_prompt_name else None
        rows, shared = _tokenise(model, list(texts), prompt)
        if rows is None:  # no attention mask: a bag of words or static vectors, where nothing is padded
            return np.asarray(model.encode(list(texts), show_progress_bar=False), np.float32)
        lengths = np.array([len(row["attention_mask"]) for row in rows])
        found: list[Any] = [None] * len(rows)
        for batch in batches(lengths, BATCH_TOKENS[model.device.type]):
            features = {key: value.to(model.device) for key, value in _pad(model.tokenizer, [rows[i] for i in batch]).items()}
            vectors = model.forward(features | shared)["sentence_embedding"]
            for i, vector in zip(batch, vectors.float().cpu().numpy(), strict=True):
                found[i] = vector
    return np.stack(found)


def batches(lengths: npt.NDArray[np.int64], tokens: int) -> list[list[int]]:
    """Indices by falling length, equal ones in their order, in batches that hold at most `tokens` when padded, or one row."""
    order = np.argsort(-lengths, kind="stable").tolist()
    found, start = [], 0
    while start < len(order):
        stop = start + max(1, tokens // int(lengths[order[start]]))
        found.append(order[start:stop])
        start = stop
    return found


def _tokenise(model: Any, texts: list[str], prompt: str | None) -> tuple[list[dict[str, Any]] | None, dict[str, Any]]:
    """What the model reads of each text, without padding, and what it reads beside (the prompt's length, say)."""
    rows, shared = [], {}
    for start in range(0, len(texts), 256):
        features = model.preprocess(texts[start : start + 256], prompt=prompt)
        if "attention_mask" not in features:
            return None, {}
        shape = features["attention_mask"].shape
        each = {key: value for key, value in features.items() if getattr(value, "shape", None) == shape}
        shared = {key: value for key, value in features.items() if key not in each}
        for i, mask in enumerate(features["attention_mask"].bool()):
            rows.append({key: value[i][mask] for key, value in each.items()})
    return rows, shared


def _pad(tokenizer: Any, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The rows as (rows, longest) tensors; the attention mask is 0 where they are filled up."""
    import torch

    fill = {"input_ids": tokenizer.pad_token_id or 0}
    return {
        key: torch.nn.utils.rnn.pad_sequence(
            [row[key] for row in rows], batch_first=True, padding_value=fill.get(key, 0), padding_side=tokenizer.padding_side
        )
        for key in rows[0]
    }
