"""Discovering domains: before the survey, a sample of the sources is embedded and clustered, and sources get topics.

    survey of the sources as they are → sample → embed → clusters → a recorded clustering → sources that label their rows

The survey proper and every later pass read rows that come with their topic as their domain (`corpus/topics.py`), so nothing else
changes. A clustering is recorded under a number. The same settings find it again, so sources that are added later get the same
topics; other settings make the next number, with how far it moved. Why: docs/decisions/171-discovered-domains.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from chameleon_data.arrays import F32, I64
from chameleon_data.corpus.clusterings import (
    CLUSTERING_FORMAT,
    Cluster,
    Clustering,
    next_number,
    read_clusterings,
    write_clustering,
)
from chameleon_data.corpus.fragments import Fragment
from chameleon_data.corpus.sample import SampleSpec
from chameleon_data.corpus.tokens import TokenCounter
from chameleon_data.corpus.topics import TOPICS_FORMAT, Topics, hashed_words, label_slices, read_topics
from chameleon_data.errors import InputError
from chameleon_data.hashing import fingerprint
from chameleon_data.pipelines.embed import embed_sample, group_sample_by_domain
from chameleon_data.pipelines.engine import Engine, Progress
from chameleon_data.pipelines.survey import survey_corpus
from chameleon_data.recipe import Domains, Embed, Input, Source
from chameleon_data.store.checksummed import write_table
from chameleon_data.store.paths import topics_path
from chameleon_data.store.store import Store
from chameleon_data.weights.clustering import (
    Clusters,
    assign_vectors,
    check_sample,
    cluster_vectors,
    distinctive_terms,
    learn_words,
    name_clusters,
    nearest_clusters,
    normalised_mutual_information,
    word_buckets,
)
from chameleon_data.weights.embedder import ColumnEmbedder, Embedder, in_precision

HELD_OUT_ONE_OF = 8
"""One document of so many is held out to measure how often words and vectors agree."""
EXAMPLES_SHOWN = 3
EXAMPLE_CHARACTERS = 160


def discover_domains(
    engine: Engine,
    store: Store,
    domains: Domains,
    embed: Embed,
    seed: int,
    fragments: Mapping[str, Sequence[Fragment]],
    sources: Mapping[str, Source],
    input: Input,
    embedder: Embedder | ColumnEmbedder,
    counter: TokenCounter,
    progress: Progress,
) -> Clustering:
    """The clustering that these settings ask for: the recorded one, or a new one, which is recorded."""
    if isinstance(embedder, Embedder):
        embedder = in_precision(embedder, embed.dtype, engine.gpus > 0)
    recorded = read_clusterings(store)
    asked = domains.asked
    split = asked is domains.refine
    key = fingerprint({
        "format": [TOPICS_FORMAT, CLUSTERING_FORMAT], "clusters": asked.clusters, "samples": asked.fraction or asked.drawn_of(0),
        "embedder": embedder.fingerprint, "seed": seed, "window": embed.window, "refine": sorted(sources) if split else None,
    })  # fmt: skip
    if domains.clustering is not None:
        chosen = [one for one in recorded if one.number == domains.clustering]
        if not chosen:
            raise InputError(
                f"domains.clustering: {store.url} has no clustering {domains.clustering}; leave the key out, or name one of "
                f"{', '.join(str(one.number) for one in recorded) or 'none'}"
            )
        if asked.assign == "embed" and chosen[0].embedder != embedder.fingerprint:
            raise InputError(
                f"domains.clustering: clustering {domains.clustering} was made with another embedder, or in another precision, "
                "which 'assign: embed' needs too; name that one in 'embed', or leave 'clustering' out"
            )
        return chosen[0]
    if known := [one for one in recorded if one.key == key]:
        return known[-1]
    spec = SampleSpec(asked.drawn_of(0), embed.window, seed, embed.column)
    survey = survey_corpus(engine, store, None, fragments, sources, input, spec, counter, progress)
    sample = survey.sample
    if asked.fraction is not None:
        samples = list[pa.Table]()
        for name in sorted(sources, key=str.encode):
            some = replace(spec, samples=asked.drawn_of(survey.tallies[name].rows))
            own = {name: fragments[name]}, {name: sources[name]}
            samples.append(survey_corpus(engine, store, None, *own, input, some, counter, progress).sample)
        sample = pa.concat_tables(samples)
    vectors = embed_sample(engine, store, embedder, sample, progress).vectors
    progress("cluster", 0, 0)
    of_source = group_sample_by_domain(sample)
    groups = {name: [name] for name in of_source} if split else {"": sorted(of_source)}
    found = [
        _cluster(
            source,
            pa.concat_tables([of_source[name] for name in names]),
            np.concatenate([vectors[name] for name in names]),
            asked.clusters,
            seed,
        )
        for source, names in groups.items()
    ]
    table = pa.concat_tables([one.table for one in found])
    device = found[0].found.device
    digest = hashlib.sha256(device.encode())
    for column in ("source", "name", "bias", "weights"):
        digest.update(fingerprint([str(value) for value in table[column].to_pylist()]).encode())
    topics = digest.hexdigest()
    write_table(store, topics_path(topics), table)
    documents = sum(one.documents for one in found)
    drift = None
    if recorded:
        labels = np.concatenate([one.label + 10**6 * i for i, one in enumerate(found)])
        drift = _measure_drift(read_topics(store, recorded[-1].topics), of_source, groups, labels)
    clustering = Clustering(
        next_number(store),
        key,
        topics,
        tuple(cluster for one in found for cluster in one.clusters),
        documents,
        sum(one.found.inertia * one.documents for one in found) / documents,
        sum(one.found.merged for one in found),
        sum(one.found.folded for one in found),
        sum(one.agreement * one.documents for one in found) / documents,
        drift,
        seed,
        embed.window,
        embedder.fingerprint,
        device,
    )
    write_clustering(store, clustering)
    return clustering


@dataclass(frozen=True)
class _Found:
    """The clusters of one source, or of all."""

    table: pa.Table
    clusters: list[Cluster]
    found: Clusters
    label: I64
    documents: int
    agreement: float


def _cluster(source: str, sample: pa.Table, vectors: F32, clusters: int, seed: int) -> _Found:
    """Cluster a sample, name the clusters, and learn to tell them by words."""
    order = np.lexsort((sample["lo"].to_numpy(), sample["hi"].to_numpy()))  # as no source's name or place decides anything
    sample, vectors = sample.take(pa.array(order)), vectors[order]
    check_sample(sample.num_rows, clusters, source)
    found = cluster_vectors(vectors, clusters, seed)
    count = len(found.centres)
    texts = [windows[0] for windows in sample["windows"].to_pylist()]
    terms = distinctive_terms(texts, found.label, count)
    names = name_clusters(terms, f"{source}/" if source else "")
    buckets = word_buckets(count)
    data, begin, end = _join(texts)
    row, bucket = hashed_words(data, begin, end, buckets)
    held_out = sample["lo"].to_numpy() % np.uint64(HELD_OUT_ONE_OF) == 0
    learned = ~held_out[row]
    place = np.cumsum(~held_out) - 1
    partly = learn_words(place[row[learned]], bucket[learned], found.label[~held_out], count, buckets)
    guess = label_slices(Topics(tuple(names), partly.bias, partly.weights), data, begin[held_out], end[held_out])
    agreement = float((guess == found.label[held_out]).mean()) if held_out.any() else 1.0
    model = learn_words(row, bucket, found.label, count, buckets)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
    _, distance = assign_vectors(unit, found.centres)
    nearest, sizes = nearest_clusters(found.centres), np.bincount(found.label, minlength=count)
    described = []
    by_cluster = np.split(np.lexsort((distance, found.label)), np.cumsum(sizes)[:-1])
    for number, (name, rows) in enumerate(zip(names, by_cluster, strict=True)):
        first = rows[:EXAMPLES_SHOWN]
        other = nearest[number]
        examples = tuple(" ".join(texts[i][: 2 * EXAMPLE_CHARACTERS].split())[:EXAMPLE_CHARACTERS] for i in first)
        size = int(sizes[number])
        described.append(
            Cluster(name, source, size, size / len(texts), terms[number], None if other is None else names[other], examples)
        )
    table = pa.table({
        "source": pa.array([source] * count, pa.string()),
        "name": pa.array(names, pa.string()),
        "bias": model.bias,
        "weights": pa.array([np.ascontiguousarray(column, "<i2").tobytes() for column in model.weights.T], pa.large_binary()),
        "centre": pa.array(list(found.centres), pa.list_(pa.float32())),
    })  # fmt: skip
    return _Found(table, described, found, found.label, len(texts), agreement)


def _join(texts: Sequence[str]) -> tuple[np.ndarray, I64, I64]:
    """The UTF-8 of all texts, and where each begins and ends."""
    encoded = [text.encode() for text in texts]
    ends = np.cumsum([len(one) for one in encoded], dtype=np.int64)
    return np.frombuffer(b"".join(encoded), np.uint8), np.concatenate([[0], ends[:-1]]), ends


def _measure_drift(
    before: Mapping[str, Topics], of_source: Mapping[str, pa.Table], groups: Mapping[str, Sequence[str]], after: I64
) -> float:
    """See `Clustering.drift`. `after`: topic of each document, group after group, in the order of hashes as in `_cluster`."""
    labels = []
    for names in groups.values():
        sample = pa.concat_tables(
            [of_source[name].append_column("from", pa.array([name] * len(of_source[name]))) for name in names]
        )
        order = np.lexsort((sample["lo"].to_numpy(), sample["hi"].to_numpy()))
        sample = sample.take(pa.array(order))
        data, begin, end = _join([windows[0] for windows in sample["windows"].to_pylist()])
        origin = np.array(sample["from"].to_pylist())
        own = np.zeros(len(origin), np.int64)
        for i, (source, topics) in enumerate(before.items()):
            rows = np.flatnonzero(origin == source) if source else np.arange(len(origin))
            own[rows] = label_slices(topics, data, begin[rows], end[rows]) + 1 + 10**6 * i
        labels.append(own)
    _, a = np.unique(np.concatenate(labels), return_inverse=True)
    _, b = np.unique(after, return_inverse=True)
    return 1 - normalised_mutual_information(a, b)
