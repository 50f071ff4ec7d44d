"""A version as large as one of 60 TB has them, of logical rows: nothing but its records is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from chameleon_data.hashing import fingerprint
from chameleon_data.store.store import Store
from chameleon_data.versions.corpus_tables import INPUT_SCHEMA
from chameleon_data.versions.manifest import InputSum, Manifest
from chameleon_data.versions.shard_table import DOMAIN_SCHEMA, FILE_TYPE, SHARD_SCHEMA
from chameleon_data.versions.tables import write_rows
from tests.support.manifests import NOTHING, example_manifest

DOMAINS_A_SHARD = 10
"""Domains that have rows in a shard."""
BATCH = 10_000


def write_large_version(
    store: Store, name: str, domains: int, shards: int, inputs: int, domains_a_shard: int = DOMAINS_A_SHARD
) -> Manifest:
    """Its manifest, with the facts that a weighing leaves of each domain; tables lie on the store, that of the domains of shards
    only where a shard has some."""
    names = [f"domain-{number:05d}" for number in range(domains)]
    share = 1 / domains
    weights: dict[str, Any] = {
        "names": names, "unbounded": dict.fromkeys(names, share), "scores": dict.fromkeys(names, 1.0),
        "intervals": dict.fromkeys(names, (0.9 * share, 1.1 * share)), "rank_stability": dict.fromkeys(names, 0.5),
        "variance_of_mean": dict.fromkeys(names, 0.123456789012), "ridge": 1.0, "effective_domains": 100.0,
    }  # fmt: skip
    manifest = example_manifest(
        name, domains={key: {"weight": share} for key in names}, shard_counts={"train": shards}, shard_count=shards,
        weights=weights, formats={"parquet": {"files": shards, "bytes": 64 * shards}},
    )  # fmt: skip
    tables = replace(
        manifest.tables,
        shards=write_rows(store, _make_shards(shards, min(domains, domains_a_shard))),
        shard_domains=write_rows(store, _make_domains(domains, shards, min(domains, domains_a_shard)) if domains_a_shard else ()),
        inputs=write_rows(store, _make_inputs(inputs)),
    )
    sums = {"s": InputSum(inputs, 7 * inputs, fingerprint(name))}
    return replace(manifest, tables=tables, provenance=replace(manifest.provenance, inputs=sums))


def _make_shards(shards: int, domains_a_shard: int) -> Iterator[pa.Table]:
    for start in range(0, shards, BATCH):
        numbers = np.arange(start, min(start + BATCH, shards))
        ends = np.arange(len(numbers) + 1, dtype=np.int32)
        paths = [f"builds/{NOTHING}/parquet/train-{number:06d}-of-{shards:06d}.parquet" for number in numbers]
        hashes = [f"{number:064x}" for number in numbers]
        many = [pa.array(values) for values in (paths, ["parquet"] * len(numbers), np.full(len(numbers), 64), hashes)]
        files = pa.StructArray.from_arrays(many, fields=list(FILE_TYPE))
        columns = [
            pa.array(["train"] * len(numbers)), pa.array(numbers), pa.array(np.full(len(numbers), domains_a_shard)),
            pa.array(np.full(len(numbers), 5 * domains_a_shard)), pa.array(hashes),
            pa.ListArray.from_arrays(ends, files, type=SHARD_SCHEMA.field("files").type),
        ]  # fmt: skip
        yield pa.table(columns, schema=SHARD_SCHEMA)


def _make_domains(domains: int, shards: int, domains_a_shard: int) -> Iterator[pa.Table]:
    batch = max(1, BATCH * DOMAINS_A_SHARD // domains_a_shard)
    for start in range(0, shards, batch):
        numbers = np.arange(start, min(start + batch, shards))
        ids = ((numbers[:, None] * domains_a_shard + np.arange(domains_a_shard)) % domains).astype(np.int32).reshape(-1)
        ends = np.arange(len(numbers) + 1, dtype=np.int32) * domains_a_shard
        values = (ids, np.ones(len(ids), np.int64), np.full(len(ids), 5))
        lists = [
            pa.ListArray.from_arrays(ends, pa.array(v), type=kind.type) for v, kind in zip(values, DOMAIN_SCHEMA, strict=True)
        ]
        yield pa.table(lists, schema=DOMAIN_SCHEMA)


def _make_inputs(inputs: int) -> Iterator[pa.Table]:
    for start in range(0, inputs, BATCH):
        numbers = range(start, min(start + BATCH, inputs))
        same = {"source": "s", "format": "jsonl", "compression": "zstd", "bytes": 7, "identity": "i"}
        columns = {name: [same[name]] * len(numbers) for name in same}
        columns["url"] = [f"/corpus/{number:07d}.jsonl.zst" for number in numbers]
        yield pa.table([pa.array(columns[f.name], f.type) for f in INPUT_SCHEMA], schema=INPUT_SCHEMA)
