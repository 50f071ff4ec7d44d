"""Windows of text to vectors: by a sentence-transformers model, by a layer of a language model, or as the corpus brings them.

    vector of a document = mean over its windows of the model's sentence embedding
                           or of 1/t Σ h_l(token), t its real tokens, padding left out, l the middle one of the model's blocks

The second is what the paper embeds with (the middle hidden layer of a proxy GPT-2); blocks above l are not computed.

Windows are tokenised once, sorted by length and run in batches of about as many tokens each, so that little is padding and the
intermediate results stay small. What is run together is a function of the windows given and of nothing else.

Everything is float32, on a GPU too (torch leaves TF32 off for matrix products): a sample is small, bfloat16 would move a
vector by 4e-3, and weights are worth reproducing elsewhere. The model is a folder of data: safetensors, no code, no pickles.

Cost: MiniLM, windows of up to 256 tokens, 2 cores of a busy machine: 36 documents a second, 1.2 times a plain
`SentenceTransformer.encode` of the same documents (1.4 in a quiet run on longer ones) and .96 of the forward pass alone;
tokenising is 3 %. Importing takes 6 s and loading .3 s. Of a forward pass in float32 65 % are matrix products, which run at
190 GFLOP/s a core, its peak; attention takes 16 %, GELU 8 %, copies 6 %, and padding adds 5.7 % of tokens. So 1.5 is out of reach
with the same numbers. Tried on one core, the same 64 windows (torch 2.3 s), and left out:

    onnxruntime 1.32, exported by torch.onnx, all optimisations    3.8 s in the run in which torch took 2.6 (vectors to 2e-7)
    openvino 2026.4, the same graph, hint f32                      3.2 s in that run (vectors to 2e-7)
    oneDNN with packed weights, GELU fused                         5 to 12 % off a product, by torch's private operators
    attention written out, in place of torch's fused one           12.3 ms against 7.9 for 8 windows of 256 tokens
    three products in bfloat16 on AMX, to give float32             12.7 ms against 13.0 a product, without the splitting, at 3e-6
    bfloat16 on AMX                                                a product in .27 of the time, vectors off by 4e-3

torch.compile would need a compiler where the samples are embedded, and has the same products to do.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from chameleon_data import recipe
from chameleon_data.arrays import F32
from chameleon_data.corpus import model_files as hub
from chameleon_data.errors import InputError
from chameleon_data.hashing import fingerprint

EMBEDDER_FORMAT = 1  # of the vectors: raise it when the same model and windows give others
BATCH_TOKENS = {"cpu": 2048, "cuda": 65536}
"""Tokens of one batch, padding included. On CPUs 1,024 to 4,096 are fastest (8,192, which is 32 windows, 15 % slower): larger
intermediate results, 6 kB a token, exceed the 32 MB up to which glibc keeps freed memory, and every page is cleared anew."""
PACKAGES = ("safetensors", "sentence_transformers", "torch", "transformers")
"""What the extra `embed` installs."""
PICKLED_FILES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True)
class Embedder:
    """What embeds, as a value that travels; the model is loaded once in each process that encodes."""

    model: str
    """Hub id, folder, or a name that an installed package carries."""
    revision: str | None
    layer: int | Literal["middle"] | None
    """Block of a language model, from 1; None for a sentence-transformers model."""
    window: int
    """Tokens of the model, its special ones included; what is longer is cut off."""
    fingerprint: str
    """Of the model's files, the layer and the window: the same wherever they lie."""

    @property
    def key(self) -> str:
        """The recipe's key that names the model, for messages."""
        return "embed.model" if self.layer is None else "embed.causal_lm"

    def encode(self, windows: Sequence[Sequence[str]]) -> F32:
        """(documents, dimensions): the mean over each document's windows; each document has at least one.

        On CPUs the last bits may depend on the number of threads (1 and 2 gave the same) and on what is encoded together
        (2e-7). Raises InputError where the model cannot be loaded or its numbers are not finite.
        """
        counts = np.array([len(w) for w in windows], np.int64)
        if not counts.all():
            raise ValueError("a document without windows has no embedding")
        vectors = encode_texts(load_model(self), [text for document in windows for text in document])
        if not np.isfinite(vectors).all():
            bad = int((~np.isfinite(vectors)).any(axis=1).sum())
            raise InputError(f"{self.key}: {self.model} gave {bad} vectors of {len(vectors)} that are not finite; use another")
        if not len(counts):
            return vectors
        sums = np.add.reduceat(vectors.astype(np.float64), np.cumsum(counts) - counts, axis=0)
        return (sums / counts[:, None]).astype(np.float32)


@dataclass(frozen=True)
class ColumnEmbedder:
    """Vectors that the corpus brings along; nothing is computed."""

    column: str
    """Of the sources' files."""
    fingerprint: str
    """Of its name."""


def load_embedder(embed: recipe.Embed) -> Embedder | ColumnEmbedder:
    """The embedder that a recipe asks for; its files are found (or downloaded) and hashed, torch is not loaded."""
    if embed.column is not None:
        return ColumnEmbedder(embed.column, fingerprint({"column": embed.column}))
    named, key, layer = embed.model, "embed.model", None
    if embed.causal_lm is not None:
        named, key, layer = embed.causal_lm, "embed.causal_lm", embed.layer
    if named is None:
        raise ValueError("a recipe names one embedder")
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise InputError(
            f"{key}: needs {' and '.join(missing)}; pip install 'chameleon-data[embed]', or bring vectors ('embed.column') or "
            "weights ('weights.from')"
        )
    folder = hub.find_model_folder(named, embed.revision, key)
    revision = folder.name if folder.parent.name == "snapshots" else embed.revision
    return Embedder(named, revision, layer, embed.window, _fingerprint(folder, layer, embed.window, key))


def _fingerprint(folder: Path, layer: int | str | None, window: int, key: str) -> str:
    """Of the weights, vocabularies and settings (pooling and normalisation are among them) in a model's folder. 1 GB/s."""
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and any(path.match(p) for p in hub.DATA_FILES) and not any(name.match(p) for p in hub.OTHER_RUNTIMES):
            with path.open("rb") as file:
                files[name.as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
        if path.suffix in PICKLED_FILES and not any(path.parent.glob("*.safetensors")):
            raise InputError(f"{key}: {folder}: {name} is pickled and could run code; save the model with safetensors")
    if not {"modules.json", "config.json"} & files.keys() or not any(name.endswith(".safetensors") for name in files):
        raise InputError(f"{key}: {folder} is no model: it needs modules.json or config.json, and weights in safetensors")
    return fingerprint({"format": EMBEDDER_FORMAT, "files": files, "window": window, **({"layer": layer} if layer else {})})


@functools.lru_cache(maxsize=1)
def load_model(embedder: Embedder) -> Any:
    """The model, on the GPU where torch sees one. Refuses files other than those the embedder was made from."""
    folder = hub.find_model_folder(embedder.model, embedder.revision, embedder.key)
    if _fingerprint(folder, embedder.layer, embedder.window, embedder.key) != embedder.fingerprint:
        raise InputError(f"{embedder.key}: the files in {folder} changed, or differ between machines; use one model everywhere")
    import torch
    from safetensors import SafetensorError
    from transformers.utils import logging

    bars: Any = logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        if embedder.layer is not None:
            return _language_model(embedder, folder, device)
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(
            str(folder),
            device=device,
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True, "dtype": torch.float32},
        )
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
        raise InputError(f"{embedder.key}: {embedder.model} cannot be loaded: {str(error).splitlines()[0]}") from error
    finally:
        if shown:
            bars.enable_progress_bar()
    _check_window(embedder, model.max_seq_length, getattr(model.config, "max_position_embeddings", None))
    model.max_seq_length = embedder.window
    return model.eval()


def _check_window(embedder: Embedder, *limits: int | None) -> None:
    longest = min((limit for limit in limits if limit), default=embedder.window)
    if embedder.window > longest:
        raise InputError(f"embed.window: {embedder.model} reads {longest} tokens at once, not {embedder.window}; use {longest}")


@dataclass(frozen=True)
class LanguageModel:
    """A checkpoint up to one of its blocks, with what `encode_texts` asks of a SentenceTransformer."""

    transformer: Any
    block: Any
    """The one whose output is taken, before any norm that follows the last."""
    tokenizer: Any
    window: int
    prompts: ClassVar[dict[str, str]] = {}
    default_prompt_name: ClassVar[None] = None

    @property
    def device(self) -> Any:
        return self.transformer.device

    def get_embedding_dimension(self) -> int:
        return int(self.transformer.config.get_text_config().hidden_size)

    def preprocess(self, texts: list[str], prompt: str | None = None) -> dict[str, Any]:
        """`input_ids` and `attention_mask`, (texts, longest), with the special tokens that the tokenizer adds."""
        found: dict[str, Any] = self.tokenizer(
            texts, truncation=True, max_length=self.window, padding=True, return_tensors="pt", return_token_type_ids=False
        )
        if not found["attention_mask"].any(dim=1).all():
            raise InputError("embed.causal_lm: its tokenizer sees no token in a document; use another model")
        return found

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        """(texts, dimensions) means over the tokens that the attention mask holds."""

        class ReachedError(Exception):
            """How the blocks above are skipped."""

        def stop(_module: Any, _arguments: Any, output: Any) -> None:
            raise ReachedError(output[0] if isinstance(output, tuple) else output)

        handle = self.block.register_forward_hook(stop)
        try:
            self.transformer(**features)
            raise AssertionError("the block was not reached")
        except ReachedError as reached:
            (hidden,) = reached.args
        finally:
            handle.remove()
        mask = features["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        return {"sentence_embedding": (hidden * mask).sum(dim=1) / mask.sum(dim=1)}


def _language_model(embedder: Embedder, folder: Path, device: str) -> LanguageModel:
    import torch
    from transformers import AutoModel, AutoTokenizer

    safe: Any = {"local_files_only": True, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(str(folder), padding_side="right", truncation_side="right", **safe)
    if tokenizer.pad_token is None:  # what stands there is masked
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    transformer = AutoModel.from_pretrained(str(folder), use_safetensors=True, dtype=torch.float32, **safe)
    config = transformer.config.get_text_config()
    count = config.num_hidden_layers
    stacks = [m for m in transformer.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == count]
    if not stacks or config.is_encoder_decoder:
        raise InputError(
            f"{embedder.key}: {embedder.model} ({config.model_type}) is not one stack of blocks; use a causal or masked model"
        )
    layer = max(1, count // 2) if embedder.layer == "middle" else embedder.layer
    if not isinstance(layer, int) or layer > count:
        raise InputError(f"embed.layer: {embedder.model} has {count} layers, not {layer}; write 1 to {count}, or middle")
    _check_window(embedder, getattr(config, "max_position_embeddings", None))
    config.use_cache = False
    return LanguageModel(transformer.to(device).eval(), stacks[0][layer - 1], tokenizer, embedder.window)


def encode_texts(model: Any, texts: Sequence[str]) -> F32:
    """(texts, dimensions): embeddings of a SentenceTransformer, as its own `encode` gives them, faster, or of a LanguageModel."""
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
        for batch in token_batches(lengths, BATCH_TOKENS[model.device.type]):
            features = {key: value.to(model.device) for key, value in _pad(model.tokenizer, [rows[i] for i in batch]).items()}
            vectors = model.forward(features | shared)["sentence_embedding"]
            for i, vector in zip(batch, vectors.float().cpu().numpy(), strict=True):
                found[i] = vector
    return np.stack(found)


def token_batches(lengths: npt.NDArray[np.int64], tokens: int) -> list[list[int]]:
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
