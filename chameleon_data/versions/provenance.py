"""Where a version comes from: the corpus, the libraries and the code, recorded by a build and summed up for a person."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import chameleon_data
from chameleon_data.corpus.conversations import FIELD_TYPES
from chameleon_data.corpus.kept_columns import kinds_of
from chameleon_data.corpus.survey import Survey
from chameleon_data.corpus.tokens import TokenCounter
from chameleon_data.hashing import fingerprint
from chameleon_data.recipe import Shards
from chameleon_data.shards.formats.registry import FORMATS
from chameleon_data.versions.corpus_tables import InputFile
from chameleon_data.versions.manifest import CodeVersion, InputSum, Manifest, PackedTurns, Provenance, TokenIds, Writer
from chameleon_data.weights.mixture import describe_mixture

PACKAGE = Path(__file__).parents[1]
GIT_SECONDS = 5.0
"""Until git's answer is given up; it takes some milliseconds."""
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
"""Libraries that read, embed and write."""
WEIGHT_FACTS = ("origin", "given", "objective", "preset", "kernel", "level", "target", "ridge", "temperature", "kl")


def gather_provenance(survey: Survey, counter: TokenCounter, shards: Shards) -> Provenance:
    """What a build records of its corpus, its libraries and its code."""
    return Provenance(
        inputs=sum_inputs(list_input_files(survey)),
        files=dict(survey.files),
        tokenizer=counter.fingerprint,
        packages=package_versions(),
        code=code_version(),
        python=platform.python_version(),
        writer=describe_writer(shards, counter, survey),
    )


def list_input_files(survey: Survey) -> tuple[InputFile, ...]:
    """Every file of the corpus, in the order of its parts, however it was divided."""
    files: dict[tuple[str, str], InputFile] = {}
    for f in (fragment for part in survey.parts for fragment in part.fragments):
        before = files.get((f.source, f.url))
        size = f.size + (before.bytes if before else 0)
        files[f.source, f.url] = InputFile(f.source, f.url, f.format, f.compression, size, f.identity)
    return tuple(files.values())


def describe_writer(shards: Shards, counter: TokenCounter, survey: Survey) -> Writer:
    """What decides the bytes of shards that these libraries write for this section of a recipe."""
    stores_ids = shards.sequence_length != "none" or "megatron" in shards.formats
    ids = TokenIds(counter.required_end, counter.dtype.name) if stores_ids else None
    formats: dict[str, dict[str, Any]] = {format: FORMATS[format].WRITER for format in shards.formats}
    turns = PackedTurns(counter.length, shards.labels) if counter.length else None
    columns = kinds_of(survey.columns)
    messages = {name: str(FIELD_TYPES[kind]) for name, kind in survey.messages.items()}
    return Writer(formats, shards.compression, shards.zstd_level, counter.fingerprint, ids, columns, messages, turns)


def package_versions() -> dict[str, str]:
    """Library -> version, of those that are installed."""
    found = {}
    for name in RECORDED_PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


@functools.cache
def code_version() -> CodeVersion:
    """The package that runs."""
    digest = hashlib.sha256()
    folders = os.walk(PACKAGE, followlinks=True)  # in a checkout, pipelines and jobs are links
    for file in sorted(Path(folder, name) for folder, _, names in folders for name in names if name.endswith(".py")):
        digest.update(f"{file.relative_to(PACKAGE).as_posix()}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return CodeVersion(chameleon_data.__version__, commit_of(PACKAGE.parent), digest.hexdigest())


def commit_of(checkout: Path) -> str | None:
    """The commit that is checked out in a folder; None where it is no git checkout, or git is not installed."""
    git = checkout / ".git"  # a folder, or the file of a worktree; a folder above it would be another project
    if not git.exists():
        return None
    command = ["git", f"--git-dir={git}", "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=GIT_SECONDS)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def sum_inputs(inputs: Iterable[InputFile]) -> dict[str, InputSum]:
    """Source -> its files summed up, in order of the names."""
    by_source: dict[str, list[InputFile]] = {}
    for file in inputs:
        by_source.setdefault(file.source, []).append(file)
    return {source: _sum_files(files) for source, files in sorted(by_source.items())}


def _sum_files(files: Sequence[InputFile]) -> InputSum:
    return InputSum(len(files), sum(file.bytes for file in files), fingerprint(sorted([f.url, f.identity] for f in files)))


def describe_lineage(manifest: Manifest) -> dict[str, Any]:
    """What made a version, beside its recipe and its corpus, as plain JSON: `show` prints it and `diff` compares it."""
    provenance, weights = manifest.provenance, describe_mixture(manifest.weights)
    return {
        "tokenizer": {"name": manifest.unit, "fingerprint": provenance.tokenizer},
        "embedder": weights["embedder"],
        "weights": {key: weights[key] for key in WEIGHT_FACTS}
        | {"centre": manifest.weights.centre and manifest.weights.centre.name},
        "landmarks": None if manifest.weights.nystrom is None else manifest.weights.nystrom.digest,
        "seed": manifest.seed,
        "code": asdict(provenance.code),
        "python": provenance.python,
        "packages": provenance.packages,
        "writer": provenance.writer.describe(),
    }
