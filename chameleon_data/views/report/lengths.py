"""How long documents are: quantiles of what is written, by domain, from some of the shards.

Every shard of a stage holds each domain's share, in the order of hashes, so a few shards at equal distances are a fair sample.
Two columns of each are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from chameleon_data.arrays import I64
from chameleon_data.errors import InputError
from chameleon_data.store.store import Store
from chameleon_data.versions.manifest import Manifest
from chameleon_data.versions.shard_table import ShardRecord

SHARDS_MEASURED = 8
"""Shards whose rows are measured: of 64 MiB each, these hold some 100,000 documents."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def measure_lengths(store: Store, manifest: Manifest, shards: Sequence[ShardRecord]) -> pl.DataFrame | None:
    """A row for each domain of these shards: `measured` is how many rows were, `q5`, `q25`, `q50`, `q75`, `q95` of their tokens.

    None where documents are packed in sequences or there are no Parquet shards. Raises InputError for a damaged shard.
    """
    if manifest.recipe.shards.sequence_length != "none" or "parquet" not in manifest.formats:
        return None
    step = max(1, -(-len(shards) // SHARDS_MEASURED))
    found: dict[str, list[I64]] = {}
    for shard in shards[::step]:
        for file in shard.of_format("parquet"):
            rows = pl.DataFrame(_read_columns(store, file.path))
            for (name,), group in rows.group_by("domain"):
                found.setdefault(str(name), []).append(group["tokens"].to_numpy())
    measured = [_describe(name, np.concatenate(parts)) for name, parts in sorted(found.items())]
    return pl.DataFrame(measured, orient="row", schema=_SCHEMA)


_COLUMNS = [f"q{round(100 * q)}" for q in QUANTILES]
_SCHEMA: dict[str, Any] = {"name": pl.String, "measured": pl.Int64, **dict.fromkeys(_COLUMNS, pl.Float64)}


def _describe(name: str, tokens: I64) -> tuple[Any, ...]:
    return (name, len(tokens), *np.quantile(tokens, QUANTILES, method="inverted_cdf").tolist())


def _read_columns(store: Store, path: str) -> pa.Table:
    try:
        with store.open(path) as source, pq.ParquetFile(source, pre_buffer=False) as file:
            return file.read(["domain", "tokens"], use_threads=False)
    except (pa.ArrowException, OSError) as error:
        where = f"{store.url.rstrip('/')}/{path}"
        raise InputError(f"{where}: damaged Parquet file ({error}); restore it from a copy or build it again") from error
