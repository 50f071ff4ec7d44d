"""The embed pass: one vector for each sampled document, on a pool of actors, with a GPU each where there are any.

The sample of one domain alone decides which documents are embedded together, so a vector does not depend on the number of
workers or on other domains. On CPUs each actor has one thread, since the order of sums changes with their number. A GPU gets more
documents together, and several such batches in a table, so that the next is tokenised while it computes.

Vectors are cached, one file for each sample of a domain. A document is known by its windows, so a larger sample embeds only what
the files of earlier samples lack. (A vector embedded beside other documents differs by some 2e-7, less than by other hardware.)

A sample's file is written once all its vectors are there. Until then they lie in files of batches, one every ten seconds. After a
kill the same sample makes the same batches, so those that are found there are taken, and vectors are the same to the last bit.
Why: docs/decisions/125-vectors-in-batches.md.
"""

from __future__ import annotations

import hashlib
import math
import secrets
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from chameleon_data.arrays import F32
from chameleon_data.errors import InputError
from chameleon_data.pipelines.engine import Engine, Progress, count_work
from chameleon_data.store.checksummed import read_table, write_table
from chameleon_data.store.paths import embedding_batches, embedding_folder
from chameleon_data.store.store import Store
from chameleon_data.versions.streaming import TableFunction
from chameleon_data.weights.embedder import ColumnEmbedder, Device, Embedder

DOCUMENTS_TOGETHER = {"cpu": 64, "cuda": 1024}
"""Documents of a domain that are embedded together, by the device. 1,024 fill some batches of a GPU."""
DOCUMENTS_PER_TABLE = {"cpu": 64, "cuda": 8192}
"""Documents that an actor gets at one time."""
DOCUMENTS_AT_ONCE = 256
"""Documents that are Python objects at one time, some 10 kB each with a vector."""
RECORD_SECONDS = 10.0
"""Time between two files of batches. A kill costs as much, and the batches that are at work."""
FILES_AT_ONCE = 16
"""Files of batches that are read at once."""


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
    pace: EmbeddingPace | None = None
    """How fast. None: nothing was embedded now."""


@dataclass(frozen=True)
class EmbeddingPace:
    """What it took to embed some documents now."""

    documents: int
    tokens: int
    """Of the model; 0 where it does not say."""
    seconds: float
    """From the first table given to an actor to the last answer, loading the model included."""
    encode_seconds: float
    """Seconds of all actors, without loading the model."""
    forward_seconds: float
    """Seconds of them in which the model computed."""
    busy_seconds: float
    """Seconds of them in which the GPUs were at work, as their driver says. NaN: CPUs, or nobody says."""
    device: Device

    def __add__(self, other: EmbeddingPace) -> EmbeddingPace:
        """The pace of two runs, one after the other."""
        return EmbeddingPace(
            self.documents + other.documents,
            self.tokens + other.tokens,
            self.seconds + other.seconds,
            self.encode_seconds + other.encode_seconds,
            self.forward_seconds + other.forward_seconds,
            self.busy_seconds + other.busy_seconds,
            self.device,
        )

    def describe(self) -> str:
        """One sentence for a person."""
        of_tokens = f"{self.tokens / self.seconds:,.0f} tokens/s" if self.tokens else "tokens not counted"
        share, busy = (part / max(self.encode_seconds, 1e-9) for part in (self.forward_seconds, self.busy_seconds))
        if self.device == "cpu":
            where, use = "CPUs", ""
        elif math.isnan(busy):
            where, use = "GPUs", "; nobody says how busy the GPUs were (pip install nvidia-ml-py)"
        else:
            where, use = "GPUs", f"; the GPUs were busy {busy:.0%} of it"
        return (
            f"{self.documents / self.seconds:,.0f} documents/s on {where}, {of_tokens}; the model computed {share:.0%} of the "
            f"actors' time{use}"
        )


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
    device: Device = "cuda" if missing and engine.gpus else "cpu"
    together = DOCUMENTS_TOGETHER[device]
    batches = [
        _Batch(name, paths[name], rows.slice(at, together).combine_chunks())
        for name, rows in new.items()
        for at in range(0, rows.num_rows, together)
    ]
    folder = embedding_batches(embedder.fingerprint)
    files = _read_batch_files(store, [path for path in cached if path.startswith(f"{folder}/")]) if batches else {}
    earlier = {key: vectors for file in files.values() for key, vectors in file.vectors.items()}
    found = {batch.key: earlier[batch.key] for batch in batches if batch.key in earlier}
    unembedded = [batch for batch in batches if batch.key not in found]
    embedded, pace = _embed_batches(
        engine, store, folder, embedder, device, unembedded, sum(map(len, found.values())), progress, files
    )
    found |= embedded
    for batch in batches:
        known[batch.domain] |= dict(zip(window_digests(batch.rows), found[batch.key], strict=True))
    for name in missing:
        rows, contents = domains[name], window_digests(domains[name])
        vectors = np.stack([known[name][content] for content in contents])
        write_table(store, paths[name], pa.table({
            "hi": rows["hi"], "lo": rows["lo"], "content": contents,
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
        }))  # fmt: skip
    written = {*cached, *paths.values()}
    store.remove([path for path, file in files.items() if file.samples <= written])
    tables = {name: read_table(store, path) for name, path in paths.items()}
    return EmbeddedSamples(
        {name: _stack(t["vector"]) for name, t in tables.items()},
        {name: t["lo"].to_numpy() for name, t in tables.items()},
        frozenset(batch.domain for batch in unembedded),
        sum(batch.rows.num_rows for batch in unembedded),
        pace,
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


@dataclass(frozen=True)
class _Batch:
    """Documents that are embedded together."""

    domain: str
    sample: str
    """Path of the sample's file."""
    rows: pa.Table

    @cached_property
    def key(self) -> str:
        return sample_fingerprint(self.rows)


@dataclass(frozen=True)
class _BatchFile:
    """Vectors of batches whose samples were not whole yet."""

    vectors: dict[str, F32]
    """Key of a batch -> (documents, dimensions)."""
    samples: frozenset[str]
    """Paths of their samples' files. Once all of these are written, the file of batches is not needed."""


def _embed_batches(
    engine: Engine,
    store: Store,
    folder: str,
    embedder: Embedder,
    device: Device,
    batches: Sequence[_Batch],
    done: int,
    progress: Progress,
    files: dict[str, _BatchFile],
) -> tuple[dict[str, F32], EmbeddingPace | None]:
    """Key of a batch -> its vectors, and how fast they came. They are recorded in files of `folder`, which are added to `files`.

    `done` documents of the samples were embedded before.
    """
    if not batches:
        return {}, None
    sample_of = {batch.key: batch.sample for batch in batches}
    tables = _fill_tables(batches, DOCUMENTS_PER_TABLE[device])
    new = sum(table.num_rows for table in tables)
    total = done + new
    progress("embed", done, total)
    vectors: dict[str, F32] = {}
    unrecorded: dict[str, F32] = {}
    costs = np.zeros(len(COSTS))
    started = recorded = time.monotonic()

    def record() -> None:
        path, samples = f"{folder}/{secrets.token_hex(8)}.parquet", [sample_of[key] for key in unrecorded]
        _write_batch_file(store, path, unrecorded, samples)
        files[path] = _BatchFile({}, frozenset(samples))
        unrecorded.clear()

    try:
        for answer in engine.stream(partial(make_embedding, embedder, device), tables, device == "cuda"):
            for key, of_batch in _split_by_batch(answer).items():
                vectors[key] = unrecorded[key] = of_batch
            costs += [answer[name][0].as_py() for name in COSTS]
            done += answer.num_rows
            progress("embed", done, total)
            if time.monotonic() - recorded >= RECORD_SECONDS:
                record()
                recorded = time.monotonic()
    except BaseException:  # Ctrl-C and SIGTERM too
        if unrecorded:
            with suppress(InputError):
                record()
        raise
    tokens, encode_seconds, forward_seconds, busy_seconds = costs.tolist()
    seconds = time.monotonic() - started
    return vectors, EmbeddingPace(new, int(tokens), seconds, encode_seconds, forward_seconds, busy_seconds, device)


def _fill_tables(batches: Sequence[_Batch], documents: int) -> list[pa.Table]:
    """Whole batches in tables of at most so many documents, or of one batch; columns `windows` and `batch`, its key."""
    tables: list[list[pa.Table]] = []
    room = 0
    for batch in batches:
        rows = batch.rows.select(["windows"]).append_column("batch", pa.array([batch.key] * batch.rows.num_rows))
        if rows.num_rows > room:
            tables.append([])
            room = documents
        tables[-1].append(rows)
        room -= rows.num_rows
    return [pa.concat_tables(some).combine_chunks() for some in tables]


def _split_by_batch(table: pa.Table) -> dict[str, F32]:
    """Key of a batch -> its vectors, of a table in which the rows of a batch stand together."""
    keys, vectors = table["batch"].to_numpy(), _stack(table["vector"])
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    return dict(zip(keys[starts].tolist(), np.split(vectors, starts[1:]), strict=True))


def _write_batch_file(store: Store, path: str, vectors: Mapping[str, F32], samples: Sequence[str]) -> None:
    """`samples` are the paths of the samples' files, one for each batch in `vectors`."""
    rows = [len(of_batch) for of_batch in vectors.values()]
    stacked = np.concatenate(list(vectors.values()))
    write_table(store, path, pa.table({
        "batch": np.repeat(list(vectors), rows), "sample": np.repeat(list(samples), rows),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(stacked.ravel()), stacked.shape[1]),
    }))  # fmt: skip


def _read_batch_files(store: Store, paths: Sequence[str]) -> dict[str, _BatchFile]:
    """Path -> what the file holds. A file that is gone is left out: another build, which wrote the samples' files, removed it."""
    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        files = dict(zip(paths, pool.map(partial(_read_batch_file, store), paths), strict=True))
    return {path: file for path, file in files.items() if file}


def _read_batch_file(store: Store, path: str) -> _BatchFile | None:
    try:
        table = read_table(store, path)
    except InputError:
        if store.exists(path):
            raise
        return None
    return _BatchFile(_split_by_batch(table), frozenset(table["sample"].unique().to_pylist()))


COSTS = ("tokens", "encode_seconds", "forward_seconds", "busy_seconds")
"""Columns of an actor's answer, the same in all its rows: what the whole table took."""


def make_embedding(embedder: Embedder, device: Device) -> TableFunction:
    """What an actor does with some documents: it adds their vectors, and `COSTS`. Rows of a batch stand together."""
    import torch

    if device == "cpu":
        torch.set_num_threads(1)

    def embed(table: pa.Table) -> pa.Table:
        keys, windows = table["batch"].to_numpy(), table["windows"].to_pylist()
        ends = [*np.flatnonzero(keys[1:] != keys[:-1]) + 1, len(keys)]
        groups = [windows[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        encoded = embedder.encode_groups(groups, device)
        size = sum(len(window.encode()) for of_document in windows for window in of_document)
        count_work("embed", {"rows": len(table), "tokens": encoded.tokens, "bytes": size})
        vectors = np.concatenate(encoded.vectors)
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
        table = table.drop_columns(["windows"]).append_column("vector", column)
        for name in COSTS:
            table = table.append_column(name, pa.array([float(getattr(encoded, name))] * len(table)))
        return table

    return embed
