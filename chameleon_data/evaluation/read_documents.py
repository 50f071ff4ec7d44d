"""The documents of a version, by domain, read from its shards as a trainer reads them: Parquet by pyarrow, else MDS by streaming.

A shard is sorted by place in the mixture, so a domain's rows come in the order of its stream, which hashes and the seed alone
decide. Reading from the first shard until a domain has enough therefore gives the beginning of its stream, the same in every
version whose corpus and seed are the same, whatever its weights. Rows of later epochs repeat those of the first, and are passed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from chameleon_data.errors import InputError, explaining
from chameleon_data.plan.plan import TRAIN
from chameleon_data.store.store import Store
from chameleon_data.versions.manifest import Manifest
from chameleon_data.versions.shard_table import list_shards

Rows = Iterable[tuple[str, str, int]]
"""(domain, text, epoch)."""


def read_split(store: Store, manifest: Manifest, split: str, most: Mapping[str, int]) -> dict[str, list[str]]:
    """Domain -> texts of its first documents in a split, at least `most` bytes of each where there are so many.

    Raises InputError for a version of token ids, and for one that has neither Parquet nor MDS shards.
    """
    documents: dict[str, list[str]] = {name: [] for name in most}
    wanted = {name: size for name, size in most.items() if size > 0}
    for domain, text, epoch in _read_rows(store, manifest, split):
        if epoch or domain not in wanted:
            continue
        documents[domain].append(text)
        wanted[domain] -= len(text.encode())
        if wanted[domain] <= 0:
            del wanted[domain]
            if not wanted:
                break
    return documents


def _read_rows(store: Store, manifest: Manifest, split: str) -> Iterator[tuple[str, str, int]]:
    shards = manifest.recipe.shards
    if manifest.recipe.is_chat:
        raise InputError(f"{store.url}: this version holds conversations, and mixtures are compared on texts")
    if shards.sequence_length != "none":
        raise InputError(f"{store.url}: this version holds token ids; build one with 'shards.sequence_length: none' to evaluate")
    if "parquet" in shards.formats:
        of_split = (shard for shard in list_shards(store, manifest) if shard.split == split)
        return _read_parquet(store, (file.path for shard in of_split for file in shard.of_format("parquet")))
    if "mds" in shards.formats:
        folders = (f"{store.url.rstrip('/')}/{build}/mds" for build in manifest.shards_by_build(split))
        return (row for folder in folders for row in _read_mds(folder, split))
    raise InputError(f"{store.url}: texts are read from Parquet or MDS shards; add one of them to 'shards.formats' and build")


def _read_parquet(store: Store, paths: Iterable[str]) -> Iterator[tuple[str, str, int]]:
    for path in paths:
        damaged = "is damaged; `chameleon-data verify` says which files are"
        with explaining(f"{store.url}/{path}", {pa.ArrowException: damaged}), store.open(path) as file:
            parquet = pq.ParquetFile(file, pre_buffer=False, page_checksum_verification=True)
            for group in range(parquet.num_row_groups):
                rows = parquet.read_row_group(group, ["domain", "text", "epoch"], use_threads=False)
                yield from zip(*(rows[name].to_pylist() for name in ("domain", "text", "epoch")), strict=True)


def _read_mds(folder: str, split: str) -> Iterator[tuple[str, str, int]]:
    missing = "these shards are MDS alone, which mosaicml-streaming reads; install it, or add parquet to 'shards.formats'"
    with explaining(folder, {ImportError: missing}):
        from streaming import StreamingDataset
    with tempfile.TemporaryDirectory(prefix="chameleon-") as cache:
        rows = StreamingDataset(remote=folder, local=cache, split=None if split == TRAIN else split, shuffle=False, batch_size=1)
        for number in range(len(rows)):
            row = rows[number]
            yield row["domain"], row["text"], int(row["epoch"])
