"""The record of a version: what was asked, what was found, what was written, and the digests that prove it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from typing import Any

from chameleon_data.errors import InputError
from chameleon_data.formats import FORMATS
from chameleon_data.place import Stream
from chameleon_data.plan import Plan
from chameleon_data.recipe import Recipe
from chameleon_data.survey import Survey, Tally

FORMAT = 1
PACKAGES = (
    "chameleon-data",
    "faiss-cpu",
    "fsspec",
    "numpy",
    "orjson",
    "polars",
    "pyarrow",
    "ray",
    "sentence-transformers",
    "tokenizers",
    "torch",
    "xxhash",
    "zstandard",
)


def writer(recipe: Recipe, tokens: str) -> dict[str, object]:
    """What decides the bytes of the shards beside the documents and their places; part of the plan digest."""
    formats = {f: FORMATS[f].WRITER for f in recipe.shards.formats}
    return {"formats": formats, "compression": recipe.shards.compression, "tokens": tokens}


def files_digest(files: Sequence[Mapping[str, Any]]) -> str:
    """`digest`: sha256 over the sorted (path in the build folder, sha256) of the shards."""
    lines = sorted(f"{f['path']}\0{f['sha256']}\n" for f in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def content_digest(receipts: Sequence[Mapping[str, Any]]) -> str:
    """sha256 over the shards' content hashes in order (`exchange.content_hash`): the documents and their order, nothing of the
    files."""
    return hashlib.sha256("\n".join(r["content"] for r in sorted(receipts, key=lambda r: r["shard"])).encode()).hexdigest()


def make_manifest(
    recipe: Recipe,
    survey: Survey,
    weights: Mapping[str, Any],
    budget: int,
    plan: Plan,
    streams: Sequence[Stream],
    receipts: Sequence[Mapping[str, Any]],
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything that a reader of the version may ask, as plain JSON; paths are relative to `out`."""
    folder = f"builds/{plan.digest}"
    ordered = sorted(receipts, key=lambda r: r["shard"])
    _check_books(survey, streams, ordered)
    shards = [
        {
            "path": f"{folder}/{f['path']}",
            "format": f["format"],
            "split": "train",
            "shard": r["shard"],
            "rows": r["rows"],
            "tokens": r["tokens"],
            "bytes": f["bytes"],
            "sha256": f["sha256"],
            "domain_tokens": r["domain_tokens"],
            "domain_rows": r["domain_rows"],
        }
        for f_index in range(len(recipe.shards.formats))
        for r in ordered
        for f in [r["files"][f_index]]
    ]
    files = [f for r in ordered for f in r["files"]]
    return {
        "format": FORMAT,
        "name": recipe.name,
        "recipe": recipe.model_dump(mode="json", by_alias=True),
        "plan_digest": plan.digest,
        "digest": files_digest(files),
        "content_digest": content_digest(ordered),
        "build": folder,
        "seed": plan.seed,
        "budget": budget,
        "shard_count": plan.shards,
        "unit": recipe.tokens.tokenizer or "bytes",
        "hash": plan.hash,
        "domains": {s.domain.name: _domain(s, survey, weights) for s in streams},
        "weights": dict(weights),
        "quarantine": survey.reasons,
        "shards": shards,
        "provenance": {**provenance, "writer": plan.writer, "python": platform.python_version()},
    }


def _check_books(survey: Survey, streams: Sequence[Stream], receipts: Sequence[Mapping[str, Any]]) -> None:
    """What was read, planned and written must be the same rows."""
    for stream in streams:
        name, tally = stream.domain.name, survey.tallies[stream.domain.name]
        written = sum(r["domain_rows"].get(name, 0) for r in receipts)
        tokens = sum(r["domain_tokens"].get(name, 0) for r in receipts)
        if tally.read != tally.rows + tally.quarantined or (written, tokens) != (
            int(stream.rows.sum()),
            int(stream.tokens.sum()),
        ):
            raise InputError(
                f"domain {name!r}: {tally.read:,} rows read, {tally.rows:,} usable, {tally.quarantined:,} quarantined; "
                f"{written:,} rows with {tokens:,} tokens written, {int(stream.rows.sum()):,} with "
                f"{int(stream.tokens.sum()):,} planned: the books do not balance, which is a defect; nothing was published"
            )


def _domain(stream: Stream, survey: Survey, weights: Mapping[str, Any]) -> dict[str, Any]:
    domain, name = stream.domain, stream.domain.name
    tally: Tally = survey.tallies[name]
    tokens = int(stream.tokens.sum())
    return {
        "weight": float(domain.weight),
        "target_tokens": domain.quota,
        "tokens": tokens,
        "rows": int(stream.rows.sum()),
        "epochs": tokens / domain.tokens,
        "available_tokens": domain.tokens,
        "available_rows": domain.rows,
        "available_bytes": domain.bytes,
        "largest_document": domain.largest,
        "multiset": f"{domain.multiset:032x}",
        "rows_read": tally.read,
        "rows_written_once": stream.first_epoch_rows,
        "rows_not_selected": domain.rows - stream.first_epoch_rows,
        "quarantined": tally.quarantined,
        "score": weights["scores"].get(name),
        "weight_interval": weights["intervals"].get(name),
    }


def packages() -> dict[str, str]:
    """Versions of the libraries that read, embed and write."""
    return {name: version for name in PACKAGES if (version := _version(name))}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def corpus_fingerprints(survey: Survey) -> list[dict[str, Any]]:
    """One line for each input fragment: source, URL, row group, stored bytes and the identity that the store gave it."""
    return [
        {"source": f.source, "url": f.url, "row_group": f.row_group, "bytes": f.size, "identity": f.identity}
        for p in survey.parts
        for f in p.fragments
    ]
