"""Pass 2: one feature vector a sampled document, on a pool of actors, with a GPU each where the cluster has them.

What is embedded together is a function of one domain's sample alone, so a vector does not depend on the number of workers or on
the other domains; on CPUs each actor computes with one thread, since the order of sums changes with their number. Vectors are
cached by (embedder, sample of the domain): adding a domain embeds that domain.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from chameleon_data.cache import read_table, write_table
from chameleon_data.embed import Embedder
from chameleon_data.errors import InputError
from chameleon_data.storage import Store
from pipelines.cluster import Progress, stream

CACHE = "_chameleon/cache/embed"
CHUNK = 64


@dataclass(frozen=True)
class Features:
    """Embedded samples, by domain, each sorted by hash."""

    vectors: dict[str, npt.NDArray[np.float32]]
    """(documents, dimensions) a domain."""
    hashes: dict[str, npt.NDArray[np.uint64]]
    """(documents) low half of the content hash, for jackknife groups."""
    embedded: int
    """Domains that were embedded now; the others were cached."""


def by_domain(sample: pa.Table) -> dict[str, pa.Table]:
    """The sample's rows of each domain, in their order."""
    names = pc.unique(sample["domain"]).to_pylist()
    return {name: sample.filter(pc.equal(sample["domain"], name)) for name in names}


def sample_fingerprint(rows: pa.Table) -> str:
    """sha256 of the documents of one domain's sample and of their windows."""
    digest = hashlib.sha256()
    for row in rows.select(["hi", "lo", "windows"]).to_pylist():
        digest.update(f"{row['hi']:016x}{row['lo']:016x}".encode())
        for window in row["windows"]:
            digest.update(hashlib.sha256(window.encode()).digest())
    return digest.hexdigest()


def embed(store: Store, embedder: Embedder, sample: pa.Table, progress: Progress) -> Features:
    """Vectors of all sampled documents; embeds what the cache lacks."""
    domains = by_domain(sample)
    paths = {name: f"{CACHE}/{embedder.fingerprint}/{sample_fingerprint(rows)}.parquet" for name, rows in domains.items()}
    cached = store.list(f"{CACHE}/{embedder.fingerprint}")
    missing = [name for name in domains if paths[name] not in cached]
    for name, table in _embedded(embedder, {name: domains[name] for name in missing}, progress).items():
        write_table(store, paths[name], table)
    tables = {name: read_table(store, path) for name, path in paths.items()}
    vectors = {name: np.stack(t["vector"].to_numpy(zero_copy_only=False)).astype(np.float32) for name, t in tables.items()}
    return Features(vectors, {name: t["lo"].to_numpy() for name, t in tables.items()}, len(missing))


def _embedded(embedder: Embedder, domains: Mapping[str, pa.Table], progress: Progress) -> dict[str, pa.Table]:
    import ray

    chunks = [rows.slice(at, CHUNK).combine_chunks() for rows in domains.values() for at in range(0, rows.num_rows, CHUNK)]
    total, found = sum(c.num_rows for c in chunks), []
    if not chunks:
        return {}
    progress("embed", 0, total)
    resources = ray.cluster_resources()
    if gpus := int(resources.get("GPU", 0)):
        pool = {"num_gpus": 1, "concurrency": (1, min(gpus, len(chunks)))}
    else:  # half a CPU each: a pool that takes every CPU leaves none to feed it, and the job waits for ever
        pool = {"num_cpus": 0.5, "concurrency": min(max(1, int(resources["CPU"])), len(chunks))}
    for row in stream(chunks, _actor(embedder), **pool):
        if row["error"]:
            raise InputError(row["error"])
        found.append(row)
        progress("embed", len(found), total)
    found.sort(key=lambda r: (r["domain"].encode(), r["hi"], r["lo"]))
    columns = {name: [r for r in found if r["domain"] == name] for name in domains}
    return {
        name: pa.table({
            "hi": pa.array([r["hi"] for r in rows], pa.uint64()),
            "lo": pa.array([r["lo"] for r in rows], pa.uint64()),
            "vector": pa.array([r["vector"] for r in rows], pa.list_(pa.float32(), len(rows[0]["vector"]))),
        })
        for name, rows in columns.items()
    }  # fmt: skip


def _actor(embedder: Embedder) -> type:
    """A class, because Ray Data loads a model once a process only for a class; the embedder travels in it."""

    class Actor:
        def __init__(self) -> None:
            import torch

            torch.set_num_threads(1)

        def __call__(self, table: pa.Table) -> pa.Table:
            try:
                vectors, error = embedder.encode(table["windows"].to_pylist()), ""
            except InputError as wrong:
                vectors, error = np.zeros((table.num_rows, 1), np.float32), str(wrong)
            return pa.table({
                **{name: table[name] for name in ("domain", "hi", "lo")},
                "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
                "error": [error] * table.num_rows,
            })  # fmt: skip

    return Actor
