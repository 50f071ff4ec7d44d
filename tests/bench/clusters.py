"""Discovering domains: k-means beside scikit-learn's, labels a second, and agreement with labels that are known.

    python -m tests.bench.clusters                  the figures
    python -m tests.bench.clusters FOLDER           agreement on the corpora of a folder, a subfolder each, poured together

The vectors for k-means are made up: 2,000 directions of unequal weight with noise, which no cluster fits exactly. Agreement is
measured on real texts by TF-IDF vectors, as both sides get the same.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
from threadpoolctl import threadpool_limits

from chameleon_data.arrays import F32, I64
from chameleon_data.corpus.clusterings import label_sources
from chameleon_data.corpus.fragments import list_fragments
from chameleon_data.corpus.readers.blocks import read_blocks
from chameleon_data.corpus.sample import make_sample_spec
from chameleon_data.corpus.tokens import load_token_counter
from chameleon_data.corpus.topics import Topics, hashed_words, label_texts
from chameleon_data.pipelines.assign import assign_topics
from chameleon_data.pipelines.build import discover_recipe
from chameleon_data.recipe import Source
from chameleon_data.recipe_file import check_recipe
from chameleon_data.store.store import Store
from chameleon_data.weights.clustering import (
    assign_vectors,
    cluster_vectors,
    find_centres,
    learn_words,
    normalised_mutual_information,
    word_buckets,
)
from chameleon_data.weights.kernels.faiss_library import import_faiss
from chameleon_data.weights.tfidf import tfidf_vectors
from tests.bench.figures import Figure, show
from tests.support.corpus import demo_texts
from tests.support.inline_builds import INLINE
from tests.support.static_models import save_static_model

VECTORS, DIMENSIONS, DIRECTIONS, CLUSTERS, SEEDS = 200_000, 384, 2_000, 1_000, 3
LABELLED_CLUSTERS = 64
STATIC_WORDS, TRANSFORMER_TEXTS = 30_000, 500
TEXTS_A_CORPUS, AGREEMENT_SEEDS = 2_000, 8


def made_up_vectors(count: int, directions: int) -> F32:
    rng = np.random.default_rng(0)
    middles = rng.normal(size=(directions, DIMENSIONS)).astype(np.float32)
    weight = rng.pareto(1.5, directions) + 0.1
    x = middles[rng.choice(directions, count, p=weight / weight.sum())]
    x += 0.8 * rng.normal(size=x.shape).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def measure_k_means(count: int = VECTORS, clusters: int = CLUSTERS) -> list[Figure]:
    """Three seeds, since the peer stops early with some, which takes less time and leaves more inertia."""
    from sklearn.cluster import MiniBatchKMeans

    x, figures = made_up_vectors(count, max(2, count // 100)), list[Figure]()
    with threadpool_limits(1):
        import_faiss("bench")
        for seed in range(SEEDS):
            started = time.perf_counter()
            centres = find_centres(x, clusters, seed)
            ours = time.perf_counter() - started
            started = time.perf_counter()
            _, distance = assign_vectors(x, centres)
            assigning = time.perf_counter() - started
            started = time.perf_counter()
            peer = MiniBatchKMeans(clusters, batch_size=4096, n_init=1, random_state=seed).fit(x)
            theirs = time.perf_counter() - started
            _, of_peer = assign_vectors(x, peer.cluster_centers_.astype(np.float32))
            what = f"{clusters:,} clusters of {count:,} vectors, one thread, seed {seed}"
            beside = f"MiniBatchKMeans: {theirs:.3g} s; ours {ours:.3g} s"
            of_it = float(distance.mean() / of_peer.mean())
            figures += [
                Figure(f"k-means, {what}", theirs / ours, "×", 5.0, beside),
                Figure(f"its inertia, seed {seed}", of_it, "of it", 1.0, "MiniBatchKMeans", lower_is_better=True),
            ]
    return [*figures, Figure(f"assignment to {clusters:,} centres", count / assigning, "vectors/s a core")]


def measure_labels() -> Figure:
    texts = [text for own in demo_texts().values() for text in own]
    column = pa.array(texts, pa.large_string())
    rng = np.random.default_rng(0)
    buckets = word_buckets(LABELLED_CLUSTERS)
    weights = rng.integers(-9000, 0, (buckets, LABELLED_CLUSTERS)).astype(np.int16)
    names = tuple(f"t{i}" for i in range(LABELLED_CLUSTERS))
    topics = Topics(names, np.zeros(LABELLED_CLUSTERS, np.int64), weights)
    label_texts(topics, column, 0, 256)
    started = time.perf_counter()
    label_texts(topics, column, 0, 256)
    return Figure(
        f"topic by words, {LABELLED_CLUSTERS} topics", len(texts) / (time.perf_counter() - started), "documents/s a core"
    )


def measure_assignment(clusters: int = LABELLED_CLUSTERS) -> list[Figure]:
    """Every document of the demo, some times over, by its own vector: static ones of its words, and the demo's model."""
    texts = [text for own in demo_texts().values() for text in own]
    words = sorted({word for text in texts for word in text.split()})[:STATIC_WORDS]
    figures = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        vectors = np.random.default_rng(0).normal(size=(len(words) + 1, 256)).astype(np.float32)
        model = str(save_static_model(folder / "model", words, vectors))
        for name, copies, embed in (("static vectors", 8, {"model": model}), ("MiniLM", 1, {"window": 256})):
            corpus = folder / f"{copies}.jsonl"
            some = texts if copies > 1 else texts[:TRANSFORMER_TEXTS]
            corpus.write_bytes(b"".join(orjson.dumps({"text": f"{i} {t}"}) + b"\n" for i in range(copies) for t in some))
            recipe = check_recipe(
                {
                    "name": "bench", "out": str(folder / f"out-{copies}"), "sources": {"own": str(corpus)}, "embed": embed,
                    "domains": {"discover": {"clusters": clusters, "samples": len(texts), "assign": "embed"}},
                },
                folder,
            )  # fmt: skip
            clustering = discover_recipe(recipe, INLINE, lambda *_: None)
            store, counter = Store(recipe.out), load_token_counter(recipe.tokens, False, recipe.shards)
            assert recipe.domains is not None
            sources = label_sources(store, recipe.sources, clustering, recipe.domains)
            fragments = {source: list_fragments(source, recipe.sources[source]).fragments for source in sources}
            spec = make_sample_spec(recipe.embed, recipe.seed)
            started = time.perf_counter()
            assign_topics(INLINE, store, recipe.embed, fragments, sources, recipe.input, spec, counter, None, lambda *_: None)
            rate = copies * len(some) / (time.perf_counter() - started)
            what = f"topic by its own vector, {name}, {len(clustering.clusters)} topics"
            figures.append(Figure(what, rate, "documents/s a core"))
    return figures


def purity(label: I64, truth: I64) -> float:
    """Share of the documents that are of their cluster's most frequent true label."""
    joint = np.zeros((int(label.max()) + 1, int(truth.max()) + 1))
    np.add.at(joint, (label, truth), 1)
    return float(joint.max(axis=1).sum() / len(label))


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1) / len(values) ** 0.5)


def measure_agreement(texts: Mapping[str, Sequence[str]]) -> list[Figure]:
    """How far clusters agree with the labels, as many as there are of these: the mean over seeds, beside scikit-learn's. And how
    often words, learned from seven documents of eight, name the cluster of the eighth."""
    from sklearn.cluster import KMeans

    vectors = np.concatenate([x for _, x in sorted(tfidf_vectors({n: [[t] for t in own] for n, own in texts.items()}).items())])
    flat = [text for _, own in sorted(texts.items()) for text in own]
    truth = np.repeat(np.arange(len(texts)), [len(own) for _, own in sorted(texts.items())])
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    by_seed = [cluster_vectors(vectors, len(texts), seed) for seed in range(AGREEMENT_SEEDS)]
    with threadpool_limits(1):
        peers = [KMeans(len(texts), n_init=1, random_state=seed).fit(unit).labels_ for seed in range(AGREEMENT_SEEDS)]
    found, of_ours, of_peer = by_seed[0], [one.label for one in by_seed], [label.astype(np.int64) for label in peers]
    encoded = [text.encode() for text in flat]
    ends = np.cumsum([len(one) for one in encoded], dtype=np.int64)
    data, begin = np.frombuffer(b"".join(encoded), np.uint8), np.concatenate([[0], ends[:-1]])
    count, held_out = len(found.centres), np.arange(len(flat)) % 8 == 0
    buckets = word_buckets(count)
    row, bucket = hashed_words(data, begin, ends, buckets)
    learned = ~held_out[row]
    model = learn_words((np.cumsum(~held_out) - 1)[row[learned]], bucket[learned], found.label[~held_out], count, buckets)
    topics = Topics(tuple(map(str, range(count))), model.bias, model.weights)
    words = label_texts(topics, pa.array([flat[i] for i in np.flatnonzero(held_out)], pa.large_string()), 0, 10**6)
    figures, what = list[Figure](), f"{len(texts)} corpora poured together, {len(flat):,} documents, {AGREEMENT_SEEDS} seeds"
    for name, agree in ((f"{what}: NMI of clusters and labels", normalised_mutual_information), ("the same, purity", purity)):
        (ours, error), (theirs, of_theirs) = (mean_and_error([agree(one, truth) for one in own]) for own in (of_ours, of_peer))
        figures.append(Figure(name, ours, f"± {error:.3f}", None, f"scikit-learn's KMeans: {theirs:.3f} ± {of_theirs:.3f}"))
    return [
        *figures,
        Figure("topic by words as by vectors, held-out documents", float((words == found.label[held_out]).mean()), ""),
    ]


def read_corpora(folder: Path) -> dict[str, list[str]]:
    """Starts of some texts of each subfolder."""
    found: dict[str, list[str]] = {}
    for path in sorted(p for p in folder.iterdir() if p.is_dir()):
        source = Source(path=(str(path),))
        blocks = (b for f in list_fragments(path.name, source).fragments for b in read_blocks(f, source, 2**30))
        found[path.name] = [text[:1500] for block in blocks for text in block.text.to_pylist()][:TEXTS_A_CORPUS]
    return found


def run() -> list[Figure]:
    some = {name: [text[:1500] for text in own[:TEXTS_A_CORPUS]] for name, own in demo_texts().items()}
    return [*measure_k_means(), measure_labels(), *measure_assignment(), *measure_agreement(some)]


if __name__ == "__main__":
    show(measure_agreement(read_corpora(Path(sys.argv[1]))) if sys.argv[1:] else run())
