"""The embedder and the weights on a machine with a GPU: how well the card is fed, and what its precisions cost.

    PYTHONPATH=. python tests/device/embed.py            ten minutes of one GPU
    PYTHONPATH=. python tests/device/embed.py --small    a minute of a CPU, to see that it runs

It needs numpy, scipy, pydantic, pyyaml, xxhash, torch, transformers, sentence-transformers and nothing else of this project's
dependencies. The model is the packaged all-MiniLM-L6-v2 where it is installed, else a random one of its shape. It prints one JSON
document with the table:

    a  the bare loop: the model alone on batches that lie on the card, in each precision, and how far vectors and weights move
    b  our embedder, with so many documents together: wanted are .95 of the bare loop and a card that is 80 % busy
    c  memory that does not suffice: batches are halved, and the vectors are those of b
    d  a causal language model of about a billion random parameters at 2,048 tokens
    e  one round of k-means on the card and on the CPU; where faiss is installed, also the k-means that discovers domains

and exits with 1 where something that is wanted is not so: on a CPU what b wants is only shown.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from chameleon_data import domain_weights
from chameleon_data.corpus.model_files import find_packaged_model
from chameleon_data.recipe import Embed
from chameleon_data.weights import encode_texts as encoding
from chameleon_data.weights.clustering import assign_vectors, find_centres
from chameleon_data.weights.embedder import Device, Embedder, Precision, in_precision, load_embedder, load_model
from chameleon_data.weights.kernels.faiss_library import import_faiss

PACKAGED = "all-MiniLM-L6-v2"
DOMAINS, WORDS_PER_DOMAIN, SHARED_WORDS = 6, 200, 400
WANTED_SHARE, WANTED_BUSY = 0.95, 80.0
MOST_DIFFERENCE = {"float32": 1e-5, "tf32": 5e-3, "bfloat16": 3e-2}
"""Largest difference of a number of a vector of length one, from float32 on the same device."""
FAISS_POINTS_A_CENTRE, MOST_INERTIA = 128, 1e-3
"""Points that faiss clusters, and how far the mean squared distance may differ between devices."""
TOGETHER = (64, 256, 1024, 8192)


@dataclass(frozen=True)
class Sizes:
    """How much is done."""

    texts: int
    window: int
    parameters: dict[str, int]
    """Shape of the causal language model."""
    long_texts: int
    long_window: int
    points: int
    clusters: int


WHOLE = Sizes(
    60_000, 256, {"hidden_size": 2048, "num_hidden_layers": 22, "intermediate_size": 5632, "num_attention_heads": 16}, 512, 2048,
    1_000_000, 1024,
)  # fmt: skip
SMALL = Sizes(
    60, 32, {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64, "num_attention_heads": 4}, 6, 64, 2000, 16
)


def make_texts(count: int, longest: int) -> dict[str, list[str]]:
    """Domain -> texts of 4 to `longest` words, half of them from words of the domain's own."""
    words = np.array([f"w{i}" for i in range(SHARED_WORDS + DOMAINS * WORDS_PER_DOMAIN)])
    texts = {}
    for domain in range(DOMAINS):
        rng = np.random.default_rng(domain)
        lengths = rng.integers(4, longest, size=count // DOMAINS)
        own = SHARED_WORDS + domain * WORDS_PER_DOMAIN + rng.integers(WORDS_PER_DOMAIN, size=lengths.sum())
        drawn = words[np.where(rng.random(lengths.sum()) < 0.5, rng.integers(SHARED_WORDS, size=lengths.sum()), own)]
        texts[f"domain-{domain}"] = [" ".join(some) for some in np.split(drawn, np.cumsum(lengths)[:-1])]
    return texts


def save_tokenizer(folder: Path) -> int:
    """A tokenizer of the words of `make_texts`; returns the size of its vocabulary."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{i}" for i in range(SHARED_WORDS + DOMAINS * WORDS_PER_DOMAIN))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return len(vocabulary)


def make_random_encoder(folder: Path) -> str:
    """A random encoder of MiniLM's shape (6 layers, 384 numbers)."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    words = save_tokenizer(folder / "encoder")
    shape = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
    BertModel(BertConfig(vocab_size=words, **shape)).save_pretrained(folder / "encoder")
    encoder = Transformer(str(folder / "encoder"), max_seq_length=512)
    model = SentenceTransformer(modules=[encoder, Pooling(384, "mean")], device="cpu")
    model.save(str(folder / "model"), create_model_card=False)
    return str(folder / "model")


def make_random_causal_model(folder: Path, shape: Mapping[str, int]) -> str:
    from transformers import LlamaConfig, LlamaModel

    torch.manual_seed(0)
    words = save_tokenizer(folder)
    LlamaModel(LlamaConfig(vocab_size=words, max_position_embeddings=4096, **shape)).to(torch.bfloat16).save_pretrained(folder)
    return str(folder)


# The card


class Utilisation:
    """How busy the card is, in percent, looked at ten times a second. None: nobody says."""

    def __init__(self, device: Device) -> None:
        self._device, self._seen, self._stop = device, list[int](), threading.Event()

    def __enter__(self) -> Utilisation:
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        ask = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        while self._device == "cuda" and not self._stop.wait(0.1):
            with suppress(OSError, subprocess.SubprocessError, ValueError):
                self._seen.append(int(subprocess.run(ask, capture_output=True, text=True, check=True).stdout.split()[0]))

    @property
    def percent(self) -> float | None:
        return round(float(np.mean(self._seen)), 1) if self._seen else None


def wait_for(device: Device) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


# The table


def bare_loop(embedder: Embedder, device: Device, texts: list[str]) -> tuple[dict[str, Any], np.ndarray]:
    """The model alone, on batches that lie on the device: figures of the second of two runs, and the vectors."""
    model = load_model(embedder, device)
    with torch.inference_mode():
        rows, shared = encoding.tokenise(model, texts, None)
        assert rows is not None
        lengths = np.array([len(row["attention_mask"]) for row in rows])
        places = encoding.token_batches(lengths, encoding.BATCH_TOKENS[device])
        batches = [
            {key: value.to(model.device) for key, value in encoding.pad_rows(model.tokenizer, [rows[i] for i in at]).items()}
            for at in places
        ]
        for _ in range(2):
            wait_for(device)
            started = time.perf_counter()
            found = [model.forward(batch | shared)["sentence_embedding"] for batch in batches]
            wait_for(device)
            seconds = time.perf_counter() - started
    vectors = np.zeros((len(texts), found[0].shape[1]), np.float32)
    for at, some in zip(places, found, strict=True):
        vectors[at] = some.float().cpu().numpy()
    figures = {"texts_per_second": len(texts) / seconds, "tokens_per_second": int(lengths.sum()) / seconds}
    return {name: round(value, 1) for name, value in figures.items()}, vectors


def weigh(vectors: np.ndarray, texts: Mapping[str, list[str]]) -> dict[str, float]:
    ends = np.cumsum([len(own) for own in texts.values()])
    return domain_weights(dict(zip(texts, np.split(vectors, ends[:-1]), strict=True))).weights


def measure_precisions(
    embedder: Embedder, device: Device, texts: Mapping[str, list[str]]
) -> tuple[dict[str, Any], dict[str, float]]:
    """(a), and texts a second by precision."""
    flat = [text for own in texts.values() for text in own]
    table: dict[str, Any] = {}
    kinds: tuple[Precision, ...] = ("float32", "tf32", "bfloat16") if device == "cuda" else ("float32", "bfloat16")
    for dtype in kinds:
        figures, vectors = bare_loop(in_precision(embedder, dtype, device == "cuda"), device, flat)
        unit, weights = vectors / np.linalg.norm(vectors, axis=1, keepdims=True), weigh(vectors, texts)
        if dtype == "float32":
            exact, exact_weights = unit, weights
        figures["largest_difference_of_a_vector"] = float(np.abs(unit - exact).max())
        figures["largest_difference_of_a_weight"] = max(abs(weights[name] - exact_weights[name]) for name in weights)
        figures["as_wanted"] = figures["largest_difference_of_a_vector"] <= MOST_DIFFERENCE[dtype]
        table[dtype] = figures
    return table, {dtype: figures["texts_per_second"] for dtype, figures in table.items()}


def measure_embedder(embedder: Embedder, device: Device, texts: list[str], bare: float) -> tuple[dict[str, Any], np.ndarray]:
    """(b), and the vectors of the largest number of documents together."""
    table: dict[str, Any] = {}
    embedder.encode([[text] for text in texts[:64]], device)  # what the first batches cost beside
    for together in TOGETHER:
        groups = [[[text] for text in texts[at : at + together]] for at in range(0, len(texts), together)]
        with Utilisation(device) as utilisation:
            started = time.perf_counter()
            encoded = embedder.encode_groups(groups, device)
            seconds = time.perf_counter() - started
        share, busy = len(texts) / seconds / bare, utilisation.percent
        table[f"{together} documents"] = {
            "texts_per_second": round(len(texts) / seconds, 1), "tokens_per_second": round(encoded.tokens / seconds, 1),
            "share_of_the_bare_loop": round(share, 3), "forward_share": round(encoded.forward_seconds / seconds, 3),
            "busy_percent": busy, "as_wanted": share >= WANTED_SHARE and (busy is None or busy >= WANTED_BUSY),
        }  # fmt: skip
    return table, np.concatenate(encoded.vectors)


@contextmanager
def little_memory(model: Any, device: Device) -> Iterator[str]:
    """Meanwhile the model has no memory for a whole batch: by ballast on a GPU, by a fault that is made up on a CPU."""
    if device == "cuda":
        free, _ = torch.cuda.mem_get_info()
        torch.cuda.empty_cache()
        ballast = torch.empty(max(0, free - 2**30), dtype=torch.uint8, device="cuda")
        with patch.dict(encoding.BATCH_TOKENS, {"cuda": 2**22}):
            yield f"1 GiB of {(free / 2**30):.0f} free, batches of 4M tokens"
        del ballast
        torch.cuda.empty_cache()
        return
    forward = model.forward

    def fail(features: dict[str, Any]) -> Any:
        if features["input_ids"].numel() > 256:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory (made up)")
        return forward(features)

    with patch.object(model, "forward", fail):
        yield "made up: memory for 256 tokens"


def measure_out_of_memory(embedder: Embedder, device: Device, texts: list[str], expected: np.ndarray) -> dict[str, Any]:
    """(c)"""
    with little_memory(load_model(embedder, device), device) as how:
        found = embedder.encode([[text] for text in texts], device)
    off = float(np.abs(found - expected).max() / np.abs(expected).max())
    return {"how": how, "largest_difference": off, "as_wanted": off <= MOST_DIFFERENCE[embedder.dtype]}


def measure_causal_model(folder: Path, device: Device, sizes: Sizes) -> dict[str, Any]:
    """(d)"""
    embed = Embed(causal_lm=make_random_causal_model(folder, sizes.parameters), window=sizes.long_window)
    loaded = load_embedder(embed)
    assert isinstance(loaded, Embedder)
    embedder = in_precision(loaded, "auto", device == "cuda")
    model = load_model(embedder, device)
    rng = np.random.default_rng(1)
    texts = [[" ".join(f"w{i}" for i in rng.integers(SHARED_WORDS, size=sizes.long_window))] for _ in range(sizes.long_texts)]
    embedder.encode(texts[:2], device)
    with Utilisation(device) as utilisation:
        started = time.perf_counter()
        encoded = embedder.encode_groups([texts], device)
        seconds = time.perf_counter() - started
    return {
        "parameters": sum(p.numel() for p in model.transformer.parameters()), "dtype": embedder.dtype,
        "window": sizes.long_window, "texts_per_second": round(len(texts) / seconds, 2),
        "tokens_per_second": round(encoded.tokens / seconds), "forward_share": round(encoded.forward_seconds / seconds, 3),
        "busy_percent": utilisation.percent, "as_wanted": bool(np.isfinite(encoded.vectors[0]).all()),
    }  # fmt: skip


def measure_k_means(device: Device, sizes: Sizes) -> dict[str, Any]:
    """(e) One assignment of points to centres, and the sums of squares that it leaves."""
    generator = torch.Generator().manual_seed(0)
    points = torch.nn.functional.normalize(torch.randn(sizes.points, 384, generator=generator), dim=1)
    centres = points[: sizes.clusters].clone()
    table: dict[str, Any] = {}
    for kind in dict.fromkeys(("cpu", device)):
        x, c = points.to(kind), centres.to(kind)
        for _ in range(2):
            wait_for(device)
            started = time.perf_counter()
            nearest = [((part @ c.T).max(dim=1)) for part in x.split(65_536)]
            inertia = sum(float((2 - 2 * some.values.double()).sum()) for some in nearest)
            seconds = time.perf_counter() - started
        table[kind] = {"points_per_second": round(sizes.points / seconds), "inertia": inertia}
    table["as_wanted"] = abs(table[device]["inertia"] / table["cpu"]["inertia"] - 1) < 1e-4
    if find_spec("faiss"):
        faiss_table = measure_faiss(points[: FAISS_POINTS_A_CENTRE * sizes.clusters].numpy(), sizes.clusters)
        table["faiss"], table["as_wanted"] = faiss_table, table["as_wanted"] and faiss_table["as_wanted"]
    return table


def measure_faiss(points: np.ndarray, clusters: int) -> dict[str, Any]:
    """The centres by which domains are discovered, from the same starts on the CPU and on the card, where faiss sees it."""
    faiss = import_faiss("device")
    seen = faiss.get_num_gpus()
    table: dict[str, Any] = {}
    for kind, gpus in {"cpu": 0, "gpu": seen}.items() if seen else [("cpu", 0)]:
        with patch.object(faiss, "get_num_gpus", lambda gpus=gpus: gpus):
            started = time.perf_counter()
            centres = find_centres(points, clusters, 0)
            found = time.perf_counter()
            _, distance = assign_vectors(points, centres)
            done = time.perf_counter()
        table[kind] = {
            "centres_seconds": round(found - started, 2), "assigned_per_second": round(len(points) / (done - found)),
            "inertia": float(distance.mean()),
        }  # fmt: skip
    inertias = [row["inertia"] for row in table.values()]
    table["as_wanted"] = max(inertias) / min(inertias) - 1 < MOST_INERTIA
    return table


def run(sizes: Sizes, folder: Path) -> dict[str, Any]:
    """All figures, as one JSON document holds them."""
    device: Device = "cuda" if torch.cuda.is_available() else "cpu"
    packaged = find_packaged_model(PACKAGED) is not None
    named = PACKAGED if packaged else make_random_encoder(folder)
    embedder = load_embedder(Embed(model=named, window=sizes.window))
    assert isinstance(embedder, Embedder)
    texts = make_texts(sizes.texts, sizes.window)
    flat = [text for own in texts.values() for text in own]
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu", "torch": torch.__version__,
        "model": PACKAGED if packaged else "random, of the shape of MiniLM", "texts": len(flat), "window": sizes.window,
    }  # fmt: skip
    found["a"], bare = measure_precisions(embedder, device, texts)
    chosen = in_precision(embedder, "auto", device == "cuda")
    found["b"], vectors = measure_embedder(chosen, device, flat, bare[chosen.dtype])
    some = flat[: min(len(flat), 8192)]
    found["c"] = measure_out_of_memory(chosen, device, some, vectors[: len(some)])
    load_model.cache_clear()
    found["d"] = measure_causal_model(folder / "causal", device, sizes)
    load_model.cache_clear()
    found["e"] = measure_k_means(device, sizes)
    wanted = [*found["a"].values(), found["c"], found["d"], found["e"]]
    if device == "cuda":
        wanted.append(max(found["b"].values(), key=lambda row: row["share_of_the_bare_loop"]))
    found["as_wanted"] = all(row["as_wanted"] for row in wanted)
    return found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="little of everything, to see that it runs")
    parser.add_argument("--texts", type=int, help="texts to embed")
    asked = parser.parse_args(arguments)
    sizes = SMALL if asked.small else WHOLE
    if asked.texts:
        sizes = replace(sizes, texts=asked.texts)
    with tempfile.TemporaryDirectory() as folder:
        found = run(sizes, Path(folder))
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
    return 0 if found["as_wanted"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
