"""The embed pass: one vector for each sampled document, on a pool of actors, with a GPU each where there are any.

The sample of one domain alone decides which documents are embedded together, so a vector does not depend on the number of
workers or on other domains. On CPUs each actor has one thread, since the order of sums changes with their number.

Vectors are cached, one file for each sample of a domain. A document is known by its windows, so a larger sample embeds only what
the files of earlier samples lack. (A vector embedded beside other documents differs by some 2e-7, less than by other hardware.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from chameleon_data.arrays import F32
from chameleon_data.errors import InputError
from chameleon_data.pipelines.engine import Engine, Progress, TableFunction
from chameleon_data.store.checksummed import read_table, write_table
from chameleon_data.store.paths import embedding_folder
from chameleon_data.store.store import Store
from chameleon_data.weights.embedder import ColumnEmbedder, Embedder

DOCUMENTS_PER_TASK = 64
DOCUMENTS_AT_ONCE = 256
"""Documents that are Python objects at one time, some 10 kB each with a vector."""


@dataclass(frozen=True)
class EmbeddedSamples:
    """Vectors of the sampled documents of each domain, sorted by hash."""

    vectors: dict[str, F32]
    """Domain -> (documents, dimensions)."""
    hashes: dict[str, npt.NDArray[np.uint64]]
    """Domain -> (documents) low half of the content hash, from which jackknife groups are made."""
    newly: frozenset[str] | None
    """Domains of which documents were embedded now. None: the vectors came with the corpus."""
    documents: int
    """Documents that were embedded now."""


def group_sample_by_domain(sample: pa.Table) -> dict[str, pa.Table]:
    """The sample's rows of each domain, in their order."""
    encoded = sample["domain"].combine_chunks().dictionary_encode()
    codes = encoded.indices.to_numpy()
    unordered = bool((codes[1:] < codes[:-1]).any())
    ordered = sample.take(pa.array(np.argsort(codes, kind="stable"))) if unordered else sample
    ends = np.cumsum(np.bincount(codes, minlength=len(encoded.dictionary))).tolist()
    names = encoded.dictionary.to_pylist()
    return {name: ordered.slice(start, end - start) for name, start, end in zip(names, [0, *ends], ends, strict=False)}


def sample_fingerprint(rows: pa.Table) -> str:
    """sha256 of the documents in one domain's sample, their windows and the vectors that came with them."""
    digest = hashlib.sha256()
    for batch in rows.select(["hi", "lo", "windows", "vector"]).to_batches(max_chunksize=DOCUMENTS_AT_ONCE):
        for row in batch.to_pylist():
            digest.update(f"{row['hi']:016x}{row['lo']:016x}".encode())
            for window in row["windows"]:
                digest.update(hashlib.sha256(window.encode()).digest())
            if row["vector"] is not None:
                digest.update(np.array(row["vector"], "<f4").tobytes())
    return digest.hexdigest()


def window_digests(rows: pa.Table) -> list[str]:
    """sha256 of each document's windows, which are all that the embedder sees of it."""
    return [hashlib.sha256("\0".join(windows).encode()).hexdigest() for windows in rows["windows"].to_pylist()]


def embed_sample(
    engine: Engine, store: Store, embedder: Embedder | ColumnEmbedder, sample: pa.Table, progress: Progress
) -> EmbeddedSamples:
    """Vectors of all sampled documents. Embeds those that the cache lacks, and writes them there."""
    domains = group_sample_by_domain(sample)
    if isinstance(embedder, ColumnEmbedder):
        return _take_column(embedder, domains)
    cache = embedding_folder(embedder.fingerprint)
    folders = {name: f"{cache}/{hashlib.sha256(name.encode()).hexdigest()[:16]}" for name in domains}
    paths = {name: f"{folders[name]}/{sample_fingerprint(rows)}.parquet" for name, rows in domains.items()}
    cached = store.list(cache)
    missing = [name for name in domains if paths[name] not in cached]
    known: dict[str, dict[str, F32]] = {name: {} for name in missing}
    for name in missing:
        for path in (path for path in cached if path.startswith(f"{folders[name]}/")):
            earlier = read_table(store, path)
            known[name] |= dict(zip(earlier["content"].to_pylist(), _stack(earlier["vector"]), strict=True))
    new = {}
    for name in missing:
        mask = [content not in known[name] for content in window_digests(domains[name])]
        new[name] = domains[name].filter(pa.array(mask))
    unembedded = {name: rows for name, rows in new.items() if rows.num_rows}
    for name, vectors in _embed_rows(engine, embedder, unembedded, progress).items():
        known[name] |= dict(zip(window_digests(new[name]), vectors, strict=True))
    for name in missing:
        rows, contents = domains[name], window_digests(domains[name])
        vectors = np.stack([known[name][content] for content in contents])
        write_table(store, paths[name], pa.table({
            "hi": rows["hi"], "lo": rows["lo"], "content": contents,
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
        }))  # fmt: skip
    tables = {name: read_table(store, path) for name, path in paths.items()}
    return EmbeddedSamples(
        {name: _stack(t["vector"]) for name, t in tables.items()},
        {name: t["lo"].to_numpy() for name, t in tables.items()},
        frozenset(unembedded),
        sum(rows.num_rows for rows in new.values()),
    )


def _take_column(embedder: ColumnEmbedder, domains: Mapping[str, pa.Table]) -> EmbeddedSamples:
    """The vectors that the corpus holds."""
    vectors = {}
    for name, rows in domains.items():
        lengths = pc.unique(pc.list_value_length(rows["vector"])).to_pylist()
        if len(lengths) != 1:
            raise InputError(
                f"embed.column: {embedder.column!r} holds vectors of {' and '.join(map(str, sorted(lengths)))} numbers in domain "
                f"{name!r}; embed all of it with one model"
            )
        vectors[name] = _stack(rows["vector"])
    return EmbeddedSamples(vectors, {name: rows["lo"].to_numpy() for name, rows in domains.items()}, None, 0)


def _stack(vectors: pa.ChunkedArray) -> F32:
    """(rows, dimensions) from a column of lists of equal length."""
    return np.asarray(pc.list_flatten(vectors).to_numpy(), np.float32).reshape(len(vectors), -1)


def _embed_rows(engine: Engine, embedder: Embedder, domains: Mapping[str, pa.Table], progress: Progress) -> dict[str, F32]:
    """Domain -> (documents, dimensions)."""
    chunks = [
        rows.select(["domain", "hi", "lo", "windows"]).slice(at, DOCUMENTS_PER_TASK).combine_chunks()
        for rows in domains.values()
        for at in range(0, rows.num_rows, DOCUMENTS_PER_TASK)
    ]
    total, done = sum(chunk.num_rows for chunk in chunks), 0
    if not chunks:
        return {}
    progress("embed", 0, total)
    vectors: dict[tuple[str, int, int], F32] = {}
    for answer in engine.stream(partial(_make_embedding, embedder), chunks):
        places = zip(*(answer[name].to_pylist() for name in ("domain", "hi", "lo")), strict=True)
        vectors |= dict(zip(places, _stack(answer["vector"]), strict=True))
        done += answer.num_rows
        progress("embed", done, total)
    return {
        name: np.stack([vectors[name, r["hi"], r["lo"]] for r in rows.select(["hi", "lo"]).to_pylist()])
        for name, rows in domains.items()
    }


def _make_embedding(embedder: Embedder) -> TableFunction:
    """What an actor does with some documents: it adds their vectors."""
    import torch

    torch.set_num_threads(1)

    def embed(table: pa.Table) -> pa.Table:
        vectors = embedder.encode(table["windows"].to_pylist())
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
        return table.drop_columns(["windows"]).append_column("vector", column)

    return embed
