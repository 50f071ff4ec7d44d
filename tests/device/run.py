"""The embedder and the weights on a machine with a GPU: their speed, and whether GPU and CPU agree.

    PYTHONPATH=. python tests/device/run.py [--texts 512] [--window 256]

It needs numpy, scipy, pydantic, pyyaml, xxhash, torch, transformers, sentence-transformers and nothing else of this project's
dependencies. The model is the packaged all-MiniLM-L6-v2 where it is installed, else a random one of its shape. Prints one JSON
document; exits with 1 where a vector's cosine between the devices is below .999. Without a GPU, the CPU is compared with
`SentenceTransformer.encode`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from chameleon_data import domain_weights
from chameleon_data.corpus.model_files import find_packaged_model
from chameleon_data.recipe import Embed
from chameleon_data.weights.embedder import Embedder, load_embedder, load_model
from chameleon_data.weights.encode_texts import BATCH_TOKENS, encode_texts, token_batches

PACKAGED = "all-MiniLM-L6-v2"
LEAST_COSINE = 0.999
DOMAINS, WORDS_PER_DOMAIN, SHARED_WORDS = 6, 200, 400


def make_texts(count: int, longest: int) -> dict[str, list[str]]:
    """Domain -> texts of 4 to `longest` words, half of them from words of the domain's own."""
    words = [f"w{i}" for i in range(SHARED_WORDS + DOMAINS * WORDS_PER_DOMAIN)]
    texts = {}
    for domain in range(DOMAINS):
        rng = np.random.default_rng(domain)
        own = SHARED_WORDS + domain * WORDS_PER_DOMAIN
        texts[f"domain-{domain}"] = [
            " ".join(
                words[rng.integers(SHARED_WORDS) if rng.random() < 0.5 else own + rng.integers(WORDS_PER_DOMAIN)]
                for _ in range(rng.integers(4, longest))
            )
            for _ in range(count // DOMAINS)
        ]
    return texts


def make_random_model(folder: Path) -> str:
    """A random encoder of MiniLM's shape (6 layers, 384 numbers), with a tokenizer of the words of `make_texts`."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{i}" for i in range(SHARED_WORDS + DOMAINS * WORDS_PER_DOMAIN))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder / "encoder")
    shape = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
    BertModel(BertConfig(vocab_size=len(vocabulary), **shape)).save_pretrained(folder / "encoder")
    encoder = Transformer(str(folder / "encoder"), max_seq_length=512)
    SentenceTransformer(modules=[encoder, Pooling(384, "mean")], device="cpu").save(
        str(folder / "model"), create_model_card=False
    )
    return str(folder / "model")


def measure(model: Any, texts: list[str], window: int) -> tuple[np.ndarray, dict[str, Any]]:
    """(texts, dimensions) vectors on the device where the model is, and figures of the second of two runs."""
    encode_texts(model, texts[:64])  # what the first batches cost beside
    start = time.perf_counter()
    vectors = encode_texts(model, texts)
    seconds = time.perf_counter() - start
    lengths = np.array([len(ids) for ids in model.tokenizer(texts, truncation=True, max_length=window)["input_ids"]])
    batches = token_batches(lengths, BATCH_TOKENS[model.device.type])
    return vectors, {
        "device": str(model.device),
        "dtype": str(next(model.parameters()).dtype),
        "seconds": round(seconds, 3),
        "texts_per_second": round(len(texts) / seconds, 1),
        "tokens_per_second": round(float(lengths.sum()) / seconds),
        "batches": len(batches),
        "texts_per_batch": [min(map(len, batches)), max(map(len, batches))],
        "tokens_per_batch": BATCH_TOKENS[model.device.type],
    }


def weigh(vectors: np.ndarray, texts: dict[str, list[str]]) -> dict[str, dict[str, float]]:
    """Kernel -> domain -> weight."""
    ends = np.cumsum([len(own) for own in texts.values()])
    by_domain = dict(zip(texts, np.split(vectors, ends[:-1]), strict=True))
    return {kernel: domain_weights(by_domain, kernel=kernel).weights for kernel in ("linear", "cosine")}


def least_cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((np.einsum("ij,ij->i", a, b) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())


def run(count: int, window: int, folder: Path) -> dict[str, Any]:
    """All figures, as one JSON document holds them."""
    import torch

    packaged = find_packaged_model(PACKAGED) is not None
    embedder = load_embedder(Embed(model=PACKAGED if packaged else make_random_model(folder), window=window))
    assert isinstance(embedder, Embedder)
    texts = make_texts(count, window)
    flat = [text for own in texts.values() for text in own]
    model = load_model(embedder)
    named = PACKAGED if packaged else "random, of the shape of MiniLM"
    found: dict[str, Any] = {"model": named, "texts": len(flat), "window": window}
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
        on_gpu, found["cuda"] = measure(model, flat, window)
        on_cpu, found["cpu"] = measure(model.to("cpu"), flat, window)
        found["compared"], other = "cuda with cpu", on_gpu
    else:
        on_cpu, found["cpu"] = measure(model, flat, window)
        found["compared"], other = "cpu with SentenceTransformer.encode", model.encode(flat, show_progress_bar=False)
    found["least_cosine"] = least_cosine(on_cpu, other)
    found["weights"], others = weigh(on_cpu, texts), weigh(other, texts)
    found["largest_difference_of_a_weight"] = max(
        abs(weight - others[kernel][name]) for kernel, own in found["weights"].items() for name, weight in own.items()
    )
    found["agree"] = found["least_cosine"] >= LEAST_COSINE
    return found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=512)
    parser.add_argument("--window", type=int, default=256)
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        found = run(asked.texts, asked.window, Path(folder))
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
    return 0 if found["agree"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
