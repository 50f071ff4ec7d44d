"""The record of a version: what was asked, what was found, what was written, and the digests that prove it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from typing import Any

from chameleon_data.corpus.selection import Selection
from chameleon_data.corpus.survey import Survey, Tally
from chameleon_data.corpus.tokens import TokenCounter
from chameleon_data.errors import DefectError
from chameleon_data.plan.layout import Layout
from chameleon_data.plan.streams import Stream
from chameleon_data.recipe import Recipe
from chameleon_data.shards.formats.registry import FORMATS
from chameleon_data.shards.lay_out import build_digest
from chameleon_data.shards.receipts import Receipt
from chameleon_data.store.paths import BUILDS

MANIFEST_FORMAT = 1
TIMED_PASSES = ("survey", "embed and weigh", "plan", "write")
"""What is timed, in this order; the manifest's keys are sorted by name."""
RECORDED_PACKAGES = (
    "chameleon-data",
    "faiss-cpu",
    "faiss-gpu",
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


def writer_fingerprint(recipe: Recipe, counter: TokenCounter) -> dict[str, object]:
    """What decides the bytes of the shards beside the documents and their places; part of the plan digest."""
    formats = {f: FORMATS[f].WRITER for f in recipe.shards.formats}
    found: dict[str, object] = {"formats": formats, "compression": recipe.shards.compression, "tokens": counter.fingerprint}
    if recipe.shards.sequence_length != "none" or "megatron" in recipe.shards.formats:
        found["ids"] = {"end_of_text": counter.end_of_text, "dtype": counter.dtype.name}
    return found


def files_digest(files: Sequence[Mapping[str, Any]]) -> str:
    """`digest`: sha256 over the sorted (path in the build folder, sha256) of the shards."""
    lines = sorted(f"{f['path']}\0{f['sha256']}\n" for f in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def content_digest(receipts: Sequence[Receipt]) -> str:
    """sha256 over the shards' content hashes in order (`Receipt.content`): the documents and their order, nothing of the
    files."""
    return hashlib.sha256("\n".join(r.content for r in sorted(receipts, key=lambda r: r.shard)).encode()).hexdigest()


def make_manifest(
    recipe: Recipe,
    survey: Survey,
    census: Selection,
    weights: Mapping[str, Any],
    budget: int,
    layouts: Sequence[Layout],
    receipts: Sequence[Receipt],
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything that a reader of the version may ask, as plain JSON; paths are relative to `out`."""
    digest = build_digest([layout.plan for layout in layouts])
    folder = f"{BUILDS}/{digest}"
    ordered = sorted(receipts, key=lambda r: r.shard)
    _check_books(survey, census, layouts, ordered)
    shards = [
        {
            "path": f"{folder}/{f.path}",
            "format": f.format,
            "split": r.split,
            "shard": r.number,
            "rows": r.rows,
            "tokens": r.tokens,
            "bytes": f.bytes,
            "sha256": f.sha256,
            "domain_tokens": r.domain_tokens,
            "domain_rows": r.domain_rows,
        }
        for format in recipe.shards.formats
        for r in ordered
        for f in r.files
        if f.format == format
    ]
    files = [{"path": f.path, "sha256": f.sha256} for r in ordered for f in r.files]
    train, *rest = layouts
    by_split = {layout.plan.split: [r for r in ordered if r.split == layout.plan.split] for layout in layouts}
    return {
        "format": MANIFEST_FORMAT,
        "name": recipe.name,
        "recipe": recipe.model_dump(mode="json", by_alias=True),
        "priority": list(recipe.sources),  # the order of `sources`, which JSON with sorted keys does not keep; `dedup` goes by it
        "plan_digest": digest,
        "digest": files_digest(files),
        "content_digest": content_digest(ordered),
        "build": folder,
        "seed": train.plan.seed,
        "budget": budget,
        "shard_count": train.plan.shards,
        "shard_counts": {layout.plan.split: layout.plan.shards for layout in layouts},
        "unit": recipe.tokens.tokenizer or "bytes",
        "hash": train.plan.hash,
        "domains": {
            s.domain.name: _domain(s, by_split["train"])
            | _corpus(s, survey, census)
            | {"score": weights["scores"].get(s.domain.name), "weight_interval": weights["intervals"].get(s.domain.name)}
            for s in train.streams
        },
        "validation": {s.domain.name: _domain(s, by_split["validation"]) for layout in rest for s in layout.streams},
        "weights": dict(weights),
        "quarantine": survey.reasons,
        "shards": shards,
        "provenance": {**provenance, "writer": train.plan.writer, "python": platform.python_version()},
    }


def _check_books(survey: Survey, census: Selection, layouts: Sequence[Layout], receipts: Sequence[Receipt]) -> None:
    """What was read, planned and written must be the same rows."""
    for layout in layouts:
        mine = [r for r in receipts if r.split == layout.plan.split]
        for stream in layout.streams:
            name = stream.domain.name
            rows, tokens = sum(r.domain_rows.get(name, 0) for r in mine), sum(r.domain_tokens.get(name, 0) for r in mine)
            planned = int(stream.tokens.sum())
            if tokens != planned or (stream.packing is None and rows != int(stream.delivered.sum())):
                raise DefectError(
                    f"domain {name!r}, split {layout.plan.split}: {rows:,} rows with {tokens:,} tokens written, {planned:,} "
                    "tokens planned: the books do not balance; nothing was published"
                )
    for count in census.counts:
        tally, held = survey.tallies[count.name], census.held_out(count.name)
        if tally.read != count.rows + held + census.dropped[count.name] + tally.quarantined:
            raise DefectError(
                f"domain {count.name!r}: {tally.read:,} rows read are not {count.rows:,} usable + {held:,} held out + "
                f"{census.dropped[count.name]:,} copies + {tally.quarantined:,} quarantined; nothing was published"
            )


def _domain(stream: Stream, receipts: Sequence[Receipt]) -> dict[str, Any]:
    """What one split holds of a domain."""
    domain, name = stream.domain, stream.domain.name
    tokens = int(stream.tokens.sum())
    copies = [r.copies[name] for r in receipts if name in r.copies]
    return {
        "weight": float(domain.weight),
        "target_tokens": domain.quota,
        "tokens": tokens,
        "rows": sum(r.domain_rows.get(name, 0) for r in receipts),
        "epochs": tokens / domain.tokens,
        "available_tokens": domain.tokens,
        "available_rows": domain.rows,
        "available_bytes": domain.bytes,
        "largest_document": domain.largest,
        "multiset": f"{domain.multiset:032x}",
        "rows_written_once": stream.first_epoch_rows,
        "rows_not_selected": domain.rows - stream.first_epoch_rows,
        "copies_written": sum(c.rows for c in copies),
        "most_copies": max((c.most for c in copies), default=1),
    }


def _corpus(stream: Stream, survey: Survey, census: Selection) -> dict[str, Any]:
    """What the corpus holds of a domain beside what its train split may take."""
    name = stream.domain.name
    tally: Tally = survey.tallies[name]
    return {
        "rows_read": tally.read,
        "held_out": census.held_out(name),
        "copies_dropped": census.dropped[name],
        "quarantined": tally.quarantined,
    }


def package_versions() -> dict[str, str]:
    """Versions of the libraries that read, embed and write."""
    return {name: version for name in RECORDED_PACKAGES if (version := _version(name))}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def input_fragments(survey: Survey) -> list[dict[str, Any]]:
    """One line for each input fragment: source, URL, row group, stored bytes and the identity that the store gave it."""
    return [
        {"source": f.source, "url": f.url, "row_group": f.row_group, "bytes": f.size, "identity": f.identity}
        for p in survey.parts
        for f in p.fragments
    ]
