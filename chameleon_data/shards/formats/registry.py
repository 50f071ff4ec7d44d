"""The formats a recipe may name, each a module."""

from __future__ import annotations

from chameleon_data.shards.formats import arrow, jsonl, litdata, mds, megatron, parquet, webdataset
from chameleon_data.shards.rows import Format

FORMATS: dict[str, Format] = {
    "parquet": parquet,
    "mds": mds,
    "arrow": arrow,
    "jsonl": jsonl,
    "webdataset": webdataset,
    "litdata": litdata,
    "megatron": megatron,
}
"""Name in the recipe, and of the format's folder in the build -> module."""
