"""Counts: the manifest gives as many rows, tokens and copies as the rows show."""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from chameleon_data.versions.manifest import SplitRecord
from chameleon_data.versions.shard_table import ShardRecord


def check_shard_counts(path: str, shard: ShardRecord, rows: pa.Table) -> list[str]:
    """The rows that `path` holds, and their tokens, in all and by domain, are those that the manifest lists for the shard."""
    counted = (
        pl.DataFrame(rows.select(["domain", "tokens"])).group_by("domain").agg(pl.len(), pl.col("tokens").cast(pl.Int64).sum())
    )
    domain_rows = dict(counted.select("domain", "len").iter_rows())
    domain_tokens = dict(counted.select("domain", "tokens").iter_rows())
    found = (domain_rows, domain_tokens, rows.num_rows, sum(domain_tokens.values()))
    if found == (shard.domain_rows, shard.domain_tokens, shard.rows, shard.tokens):
        return []
    return [f"{path}: holds other counts of rows or tokens than the manifest says"]


def check_largest_document(name: str, record: SplitRecord, largest: int, every_document: bool, unit: str) -> list[str]:
    """No document of the domain is larger than the manifest says, and where each was seen (`every_document`), one is as large.
    `unit`: what tokens are called."""
    if largest > record.largest_document or (every_document and largest < record.largest_document):
        return [f"domain {name!r}: its largest document has {largest:,} {unit}, 'largest_document' is another number"]
    return []


def check_domain_totals(name: str, record: SplitRecord, rows: int, tokens: int, once: int, packed: bool, unit: str) -> list[str]:
    """Rows, tokens, epochs and documents written at least once (`once`) are those that the manifest gives for the domain."""
    epochs = tokens / record.available_tokens
    if (record.rows, record.tokens, record.epochs, record.rows_written_once) == (rows, tokens, epochs, once):
        return []
    if packed:
        counted = f"sequences with {tokens:,} {unit} of {once:,} documents"
    else:
        counted = f"rows with {tokens:,} {unit}, {once:,} documents written once"
    return [
        f"domain {name!r}: {rows:,} {counted}, where the manifest says {record.rows:,}, {record.tokens:,} and "
        f"{record.rows_written_once:,} in {record.epochs:g} epochs"
    ]


def check_copies_written(name: str, record: SplitRecord, copies: int, most: int) -> list[str]:
    """The first epoch repeats as many rows, and one document as often, as the manifest says."""
    if (record.copies_written, record.most_copies) == (copies, most):
        return []
    return [
        f"domain {name!r}: {copies:,} rows of its first epoch are copies, at most {most:,} of one document, where the manifest "
        f"says {record.copies_written:,} and {record.most_copies:,}"
    ]
