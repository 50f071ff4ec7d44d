"""The embedder of a recipe: a sentence-transformers model, a layer of a language model, or vectors that the corpus brings.

    vector of a document = mean over its windows of the model's embedding of a window

An embedder is a small value that travels to workers, which load its model once. Its fingerprint is that of the model's files and
of the precision, so what was embedded is known wherever they lie. A model is a folder of data: safetensors, no code, no pickles.
Cost: importing torch takes 6 s, loading MiniLM .3 s; `encode_texts.py` says what embedding costs.
"""

from __future__ import annotations

import functools
import hashlib
import json
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from chameleon_data import recipe
from chameleon_data.arrays import F32
from chameleon_data.corpus.model_files import DATA_FILES, OTHER_RUNTIMES, find_model_folder
from chameleon_data.errors import DefectError, InputError, say_install
from chameleon_data.hashing import fingerprint
from chameleon_data.weights.encode_texts import encode_groups
from chameleon_data.weights.language_model import check_window, load_language_model
from chameleon_data.weights.tfidf import TFIDF

EMBEDDER_FORMAT = 1
"""Raise it when the same model and windows give other vectors."""
EMBEDDING_PACKAGES = ("safetensors", "sentence_transformers", "torch", "transformers")
"""Packages of the extra `embed`."""
Precision = Literal["float32", "tf32", "bfloat16"]
Device = Literal["cpu", "cuda"]
EmbedderKind = Literal["none", "static", "small transformer", "other"]
"""What decides how long a window takes. none: nothing is computed. small transformer: one of all-MiniLM-L6-v2's shape."""
SMALL_TRANSFORMER = {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536}
PICKLED_FILES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True)
class Embedder:
    """A model that embeds, by name. The model itself is loaded once in each process that encodes."""

    model: str
    """Hub id, folder, or a name that an installed package carries."""
    revision: str | None
    """Commit on the hub. None: of a folder or package."""
    layer: int | Literal["middle"] | None
    """Block of a language model, counted from 1. None: a sentence-transformers model."""
    window: int
    """Tokens of the model read of a text, its special ones included; what is longer is cut off."""
    fingerprint: str
    """Names the model's files, the layer, the window and the precision; the same wherever the files lie."""
    dtype: Precision = "float32"
    """Numbers that the model computes in. tf32: float32 with matrix products in TF32, on a GPU."""

    @property
    def key(self) -> str:
        """The recipe's key that names the model, for messages."""
        return "embed.model" if self.layer is None else "embed.causal_lm"

    def encode(self, windows: Sequence[Sequence[str]], device: Device = "cpu") -> F32:
        """(documents, dimensions) the mean over each document's windows, of which it has at least one.

        On CPUs the last bits may depend on the number of threads and on what is encoded together (2e-7). Raises InputError where
        the model cannot be loaded or its numbers are not finite, and where torch cannot use the device.
        """
        return self.encode_groups([windows], device).vectors[0]

    def encode_groups(self, groups: Sequence[Sequence[Sequence[str]]], device: Device = "cpu") -> EncodedDocuments:
        """`encode` of several groups of documents. A vector depends on its group alone."""
        started = time.perf_counter()
        counts = [np.array([len(w) for w in windows], np.int64) for windows in groups]
        if not all(count.all() for count in counts):
            raise DefectError("a document without windows has no embedding")
        texts = [[text for document in windows for text in document] for windows in groups]
        model = load_model(self, device)
        loaded = time.perf_counter()
        encoded = encode_groups(model, texts)
        means = []
        for vectors, count in zip(encoded.vectors, counts, strict=True):
            if bad := int((~np.isfinite(vectors)).any(axis=1).sum()):
                what = f"{bad} vectors of {len(vectors)} that are not finite"
                raise InputError(f"{self.key}: {self.model} gave {what}; use another")
            if len(count):
                sums = np.add.reduceat(vectors.astype(np.float64), np.cumsum(count) - count, axis=0)
                means.append((sums / count[:, None]).astype(np.float32))
            else:
                means.append(vectors)
        seconds = time.perf_counter() - started
        encode_seconds = seconds - (loaded - started)
        busy_seconds = float("nan") if encoded.busy is None else encoded.busy * encode_seconds
        return EncodedDocuments(means, encoded.tokens, seconds, encode_seconds, encoded.forward_seconds, busy_seconds)


@dataclass(frozen=True)
class EncodedDocuments:
    """Vectors of some groups of documents, and what they took."""

    vectors: list[F32]
    """(documents, dimensions) of each group."""
    tokens: int
    """Tokens of the model that were read; 0 where it does not say."""
    seconds: float
    """Seconds in all."""
    encode_seconds: float
    """The same without loading the model."""
    forward_seconds: float
    """Seconds of them in which the model computed."""
    busy_seconds: float
    """Seconds of them in which the GPU was at work, as its driver says. NaN: a CPU, or nobody says."""


@dataclass(frozen=True)
class ColumnEmbedder:
    """Vectors that the corpus brings; nothing is computed."""

    column: str
    """Column of the sources' files that holds them."""
    fingerprint: str
    """Names the column."""


def refuse_missing_packages(embed: recipe.Embed) -> None:
    """Raise InputError where a recipe names a model and what runs it is not installed. Nothing is imported."""
    missing = [name for name in EMBEDDING_PACKAGES if find_spec(name) is None]
    if TFIDF in embed.also and find_spec("sklearn") is None:
        raise InputError(f"embed.also: tfidf needs scikit-learn; {say_install('embed')}, or leave it out")
    key = "embed.also" if set(embed.also) - {TFIDF} else "embed.causal_lm" if embed.causal_lm else "embed.model"
    if missing and (embed.column is None or key == "embed.also"):
        raise InputError(
            f"{key}: needs {' and '.join(missing)}; {say_install('embed')}, "
            "or bring vectors ('embed.column') or weights ('weights.from')"
        )


def other_embed(embed: recipe.Embed, model: str) -> recipe.Embed:
    """The section that would have this model of `embed.also` in the place of its own."""
    return embed.model_copy(update={"model": model, "causal_lm": None, "column": None, "revision": None, "layer": "middle"})


def load_embedder(embed: recipe.Embed) -> Embedder | ColumnEmbedder:
    """The embedder that a recipe asks for. Its files are found, or downloaded, and hashed; torch is not loaded.

    Raises InputError where packages or files are missing, or where the files are no model or could run code.
    """
    if embed.column is not None:
        return ColumnEmbedder(embed.column, fingerprint({"column": embed.column}))
    named, key, layer = embed.model, "embed.model", None
    if embed.causal_lm is not None:
        named, key, layer = embed.causal_lm, "embed.causal_lm", embed.layer
    if named is None:
        raise DefectError("a recipe without an embedder passed its own check")
    refuse_missing_packages(embed)
    folder = find_model_folder(named, embed.revision, key)
    revision = folder.name if folder.parent.name == "snapshots" else embed.revision
    return Embedder(named, revision, layer, embed.window, _fingerprint(folder, layer, embed.window, key))


def find_kind(embedder: Embedder | ColumnEmbedder | None) -> EmbedderKind:
    """The kind of an embedder, by the files of its model. None is one that is not there."""
    if embedder is None or isinstance(embedder, ColumnEmbedder):
        return "none"
    if embedder.layer is not None:
        return "other"
    folder = find_model_folder(embedder.model, embedder.revision, embedder.key)
    try:
        modules = json.loads((folder / "modules.json").read_text("utf-8"))
        first = min(modules, key=lambda module: module["idx"])
        if first["type"].rpartition(".")[2] == "StaticEmbedding":
            return "static"
        shape = json.loads((folder / first["path"] / "config.json").read_text("utf-8"))
        return "small transformer" if {key: shape.get(key) for key in SMALL_TRANSFORMER} == SMALL_TRANSFORMER else "other"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # what else it may be shows when it is loaded
        return "other"


def in_precision(embedder: Embedder, dtype: recipe.Dtype, gpu: bool) -> Embedder:
    """The embedder with the numbers that `embed.dtype` asks for, where it will run on GPUs or on CPUs."""
    if dtype == "tf32" and not gpu:
        raise InputError("embed.dtype: tf32 is a GPU's, and the engine has none; use float32, or auto")
    chosen: Precision = ("bfloat16" if gpu else "float32") if dtype == "auto" else dtype
    return replace(embedder, dtype=chosen, fingerprint=_add_precision(embedder.fingerprint, chosen))


def _add_precision(files: str, dtype: Precision) -> str:
    """The fingerprint of an embedder from that of its files, the layer and the window, which float32 leaves as it is."""
    return files if dtype == "float32" else fingerprint({"files": files, "dtype": dtype})


def _fingerprint(folder: Path, layer: int | str | None, window: int, key: str) -> str:
    """Hash a model's weights, vocabularies and settings (pooling and normalisation too), the layer and the window; 1 GB/s."""
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and any(path.match(p) for p in DATA_FILES) and not any(name.match(p) for p in OTHER_RUNTIMES):
            with path.open("rb") as file:
                files[name.as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
        if path.suffix in PICKLED_FILES and not any(path.parent.glob("*.safetensors")):
            raise InputError(f"{key}: {folder}: {name} is pickled and could run code; save the model with safetensors")
    if not {"modules.json", "config.json"} & files.keys() or not any(name.endswith(".safetensors") for name in files):
        raise InputError(f"{key}: {folder} is no model: it needs modules.json or config.json, and weights in safetensors")
    return fingerprint({"format": EMBEDDER_FORMAT, "files": files, "window": window, **({"layer": layer} if layer else {})})


def check_gpu() -> None:
    """Raise InputError, with the reason, where this process has a GPU and torch cannot use it."""
    import torch

    if torch.version.cuda is None and torch.version.hip is None:
        reason, remedy = f"torch {torch.__version__} is built without CUDA", "install one with CUDA there"
    else:
        try:
            torch.zeros(1, device="cuda")
            return
        except (RuntimeError, AssertionError) as error:
            reason, remedy = str(error).splitlines()[0], "mend its driver"
    raise InputError(
        f"embed: a worker on {socket.gethostname()} is given a GPU, and torch cannot use it ({reason}); {remedy}, or run without "
        "GPUs: CUDA_VISIBLE_DEVICES='' on one machine, nodes without GPUs on a cluster"
    )


@functools.lru_cache(maxsize=1)
def load_model(embedder: Embedder, device: Device = "cpu") -> Any:
    """The model on a device, in its precision. Raises InputError for other files than the embedder was made from."""
    folder = find_model_folder(embedder.model, embedder.revision, embedder.key)
    files = _fingerprint(folder, embedder.layer, embedder.window, embedder.key)
    if _add_precision(files, embedder.dtype) != embedder.fingerprint:
        raise InputError(f"{embedder.key}: the files in {folder} changed, or differ between machines; use one model everywhere")
    if device == "cuda":
        check_gpu()
    import torch
    from safetensors import SafetensorError
    from transformers.utils import logging

    bars: Any = logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    if device == "cuda":
        torch.set_float32_matmul_precision("high" if embedder.dtype == "tf32" else "highest")
    dtype = torch.bfloat16 if embedder.dtype == "bfloat16" else torch.float32
    try:
        if embedder.layer is not None:
            return load_language_model(folder, device, embedder.model, embedder.layer, embedder.window, dtype)
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(
            str(folder),
            device=device,
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True, "dtype": torch.float32},
        )
        _set_precision(model, dtype)
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
        raise InputError(f"{embedder.key}: {embedder.model} cannot be loaded: {str(error).splitlines()[0]}") from error
    finally:
        if shown:
            bars.enable_progress_bar()
    check_window(embedder.model, embedder.window, model.max_seq_length, getattr(model.config, "max_position_embeddings", None))
    _set_window(model, embedder.window)
    return model.eval()


def _set_window(model: Any, window: int) -> None:
    """Have a SentenceTransformer read so many tokens of a text at most."""
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    if isinstance(model[0], StaticEmbedding):  # its length is without bound and cannot be set
        model[0].tokenizer.enable_truncation(window)
    else:
        model.max_seq_length = window


def _set_precision(model: Any, dtype: Any) -> None:
    """Have the transformer of a SentenceTransformer compute in `dtype`. What follows it, such as pooling, stays in float32."""
    import torch

    if dtype == torch.float32 or not hasattr(model[0], "auto_model"):
        return
    model[0].auto_model.to(dtype)

    def widen(_module: Any, _arguments: Any, features: dict[str, Any]) -> dict[str, Any]:
        return {key: value.float() if getattr(value, "dtype", None) == dtype else value for key, value in features.items()}

    model[0].register_forward_hook(widen)
