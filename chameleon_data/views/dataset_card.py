"""A version as a dataset card: the README.md of a repository on the Hugging Face hub, with what laws on training data ask for.

The European template for the public summary of training data (Regulation (EU) 2024/1689, article 53 (1) d) and California's
AB 2013 (Civil Code § 3111) ask which sources, how many data points, of what kind, under which licences, and how they were
processed. The manifest answers most; what nobody told it is asked for, not made up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from chameleon_data.versions.manifest import Manifest
from chameleon_data.versions.versions import Version
from chameleon_data.views.report.words import format_bytes, format_percent

_MARKS = ("1", "1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")
SIZES = ((1_000, "n<1K"), *((10 ** (3 + n), f"{_MARKS[n]}<n<{_MARKS[n + 1]}") for n in range(1, 10)))
"""Rows below which a dataset is in a category of sizes of the hub."""


def dataset_card(manifest: Manifest, version: Version) -> str:
    """The card as Markdown. Its paths are relative to the build's folder, which is what a repository holds."""
    parts = [
        _front_matter(manifest),
        f"# {_cell(manifest.name)}",
        describe_in_words(manifest),
        "## What it holds",
        _mixture(manifest),
        "## Where it is from",
        _sources(manifest),
        "## How it was made",
        _making(manifest, version),
        "## What this card cannot know",
        "Whether the texts hold personal data or works under copyright, when they were collected, and who licensed them, unless "
        "the table above says so. Whoever publishes this dataset adds it here.",
    ]
    return "\n\n".join(parts) + "\n"


def describe_in_words(manifest: Manifest) -> str:
    """Two sentences about what a version is."""
    unit = "bytes of text" if manifest.unit == "bytes" else "tokens"
    tokens, rows = (sum(getattr(d, key) for d in manifest.domains.values()) for key in ("tokens", "rows"))
    heaviest = sorted(manifest.domains.items(), key=lambda item: -item[1].weight)[:3]
    shares = ", ".join(f"{_cell(name)} {format_percent(domain.weight, 1)}" for name, domain in heaviest)
    what = "sequences of token ids" if manifest.recipe.shards.sequence_length != "none" else "documents"
    return (
        f"A mixture of {len(manifest.domains):,} domains for training language models: {tokens:,} {unit} in {rows:,} {what}, "
        f"shuffled, with exact shares ({shares}{', …' if len(manifest.domains) > 3 else ''})."
    )


def licences_of(manifest: Manifest) -> list[str]:
    """The licences that the recipe gives for its sources."""
    return sorted({source.license for source in manifest.recipe.sources.values() if source.license})


def origins_of(manifest: Manifest) -> list[str]:
    """Where the recipe says that its sources are from."""
    return sorted({source.origin for source in manifest.recipe.sources.values() if source.origin})


def _front_matter(manifest: Manifest) -> str:
    rows = sum(domain.rows for domain in manifest.domains.values())
    licences = [(source.license or "unknown").lower() for source in manifest.recipe.sources.values()]
    one = licences[0] if len(set(licences)) == 1 else "other"
    about: dict[str, Any] = {
        "pretty_name": manifest.name,
        "license": one,
        "task_categories": ["text-generation"],
        "tags": ["chameleon-data", "mixture"],
        "size_categories": [next((name for most, name in SIZES if rows < most), "n>1T")],
    }
    if "parquet" in manifest.recipe.shards.formats:
        files = [{"split": split, "path": f"parquet/{split}-*.parquet"} for split in manifest.shard_counts]
        about["configs"] = [{"config_name": "default", "data_files": files}]
    return f"---\n{yaml.safe_dump(about, sort_keys=False, allow_unicode=True)}---"


def _mixture(manifest: Manifest) -> str:
    unit = "bytes" if manifest.unit == "bytes" else "tokens"
    rows = [
        (_cell(name), f"{d.weight:.4f}", f"{d.tokens:,}", f"{d.rows:,}", f"{d.epochs:.2f}")
        for name, d in sorted(manifest.domains.items(), key=lambda item: -item[1].weight)
    ]
    table = _table(("domain", "share", unit, "rows", "epochs"), rows)
    held = sum(record.rows for record in manifest.validation.values())
    files = "; ".join(f"{total.files:,} of {format}, {format_bytes(total.bytes)}" for format, total in manifest.formats.items())
    after = [f"Files: {files}."]
    if held:
        after.append(f"A validation split holds {held:,} further rows, of texts that the train split has none of.")
    return "\n\n".join([table, *after])


def _sources(manifest: Manifest) -> str:
    rows = []
    for name, source in manifest.recipe.sources.items():
        read = manifest.provenance.inputs[name]
        size = f"{read.files:,} {'file' if read.files == 1 else 'files'}, {format_bytes(read.bytes)}"
        rows.append((_cell(name), _cell(source.origin or "not given"), _cell(source.license or "not given"), size))
    return _table(("source", "origin", "licence", "read"), rows)


def _making(manifest: Manifest, version: Version) -> str:
    recipe = manifest.recipe
    keys = ("rows_read", "quarantined", "filtered", "copies_dropped", "held_out", "rows_not_selected")
    read, quarantined, filtered, copies, held_out, beyond = (
        sum(getattr(d, key) for d in manifest.domains.values()) for key in keys
    )
    facts = [
        f"Made by chameleon-data {manifest.provenance.code.version} as version {version.number} on {version.created}; "
        f"digest `{manifest.digest}`, content `{manifest.content_digest}`.",
        f"Weights: {'given' if recipe.weights.from_ else f'computed from samples of the texts, to {recipe.weights.objective}'}; "
        f"seed {manifest.seed}.",
        f"A token is {'a byte of UTF-8' if manifest.unit == 'bytes' else 'a token of ' + _cell(str(recipe.tokens.tokenizer))}.",
        f"Of {read:,} rows that were read, {quarantined:,} were unusable, {filtered:,} were left out by a rule of the recipe, "
        f"{copies:,} were copies of others, {held_out:,} are held out, and {beyond:,} lie beyond their domain's share.",
        f"Nothing else was filtered, and no text was changed. Prove it: `chameleon-data verify OUT@v{version.number}`.",
    ]
    return "\n".join(f"- {fact}" for fact in facts)


def _table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [columns, ("---",) * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    """A stranger's text in a line or a cell of Markdown."""
    for sign in "\\`*_{}[]<>|#":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())
