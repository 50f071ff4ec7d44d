"""The manifest: the record of a version. What was asked, what the corpus held, what was written, and the digests that prove it.

It is read and written here. A build makes one (`make_manifest.py`), and nothing ever changes it. Its own sha256 is its name on
the store. It holds sums over domains, sources and formats. What there is of every shard, file or document stands in tables
beside it, which it names (`tables.py`), so its size does not grow with the number of shards or files.
Why: docs/decisions/160-tables-beside-the-manifest.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, with_config

from chameleon_data.corpus.file_counts import SourceFiles
from chameleon_data.corpus.kept_columns import KeptColumn
from chameleon_data.errors import InputError
from chameleon_data.plan.plan import TRAIN, VALIDATION, StageTarget
from chameleon_data.recipe import Recipe
from chameleon_data.versions.records import STRICT, Digest, decode_record, describe_record, encode_record, record_schema
from chameleon_data.versions.tables import TableFile
from chameleon_data.weights.mixture import MixtureDescription

MANIFEST_FORMAT = 7
TIMED_PASSES = ("survey", "embed and weigh", "plan", "write")
"""Passes of a build whose seconds are recorded, in the order in which they run."""


@dataclass(frozen=True)
class SplitRecord:
    """What one split holds of a domain, and what there was of it to take."""

    weight: float
    """Share of the split's tokens that was asked for; the weights of a split sum to one."""
    target_tokens: int
    """Quota: weight × budget in tokens, rounded down; packed, rounded down to whole sequences."""
    tokens: int
    """Tokens written."""
    rows: int
    """Rows written: documents, or sequences where documents are packed."""
    epochs: float
    """Tokens written over tokens available."""
    available_tokens: Annotated[int, Field(ge=1)]
    """Tokens of the domain's documents that may go into this split: one epoch."""
    available_rows: int
    """Documents that may go into this split, copies included."""
    available_bytes: int
    """Bytes of their texts."""
    largest_document: int
    """Tokens of the largest document."""
    multiset: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    """Sum of the documents' hashes modulo 2^128, in hexadecimal."""
    rows_written_once: int
    """Documents written at least once."""
    rows_not_selected: int
    """Documents never written, because the quota ends before them."""
    copies_written: int
    """Rows of the first epoch that repeat an earlier row of the domain."""
    most_copies: int
    """The most copies of one document in the first epoch; 1 where none repeats."""


@dataclass(frozen=True)
class DomainRecord(SplitRecord):
    """A domain in the train split, its score, and the books of its rows: read = written once + not selected + held out + copies
    dropped + filtered + quarantined."""

    rows_read: int
    """Rows of the corpus, usable or not."""
    held_out: int
    """Documents in the validation split."""
    copies_dropped: int
    """Rows that `input.dedup` left out."""
    filtered: int
    """Rows that `where` of their source or `shards.overlong: drop` left out; `filtered` of the manifest gives the rules."""
    quarantined: int
    """Rows set aside as unusable; `quarantine` gives the reasons."""
    score: float | None
    """Leverage score, mean one over the domains (reference preset: sum one). None: not measured."""
    weight_interval: tuple[float, float] | None
    """90 % interval of the weight before bounds. None: not measured, or a weight over several stages."""


@dataclass(frozen=True)
class StageDomain:
    """What a stage of the training holds of a domain."""

    weight: float
    """Share of the stage's tokens that was asked for; the weights of a stage sum to one."""
    target_tokens: int
    """Quota: weight × budget of the stage in tokens, rounded down; packed, rounded down to whole sequences."""
    tokens: int
    """Tokens written."""
    rows: int
    """Rows written."""


@dataclass(frozen=True)
class StageRecord:
    """One stage of the training. Its shards follow those of the stage before."""

    budget: Annotated[int, Field(ge=1)]
    """Tokens that it was to hold."""
    shards: Annotated[int, Field(ge=1)]
    """Shards of the train split that are the stage's."""
    domains: Annotated[dict[str, StageDomain], Field(min_length=1)]
    """Domain -> what the stage holds of it; one that is absent has no key."""
    weights: MixtureDescription | None
    """How its weights came about. None: as those of the first stage, which `weights` of the manifest describes."""
    build: str | None
    """Folder of its shards, where it begins one of its own. None: its shards lie in the folder of the stage before it."""


@dataclass(frozen=True)
class FormatSum:
    """All shards in one format."""

    files: int
    """Files of the shards; indexes are not counted."""
    bytes: int
    """Their sizes."""


@dataclass(frozen=True)
class InputSum:
    """All files of one source."""

    files: int
    """Files that were read."""
    bytes: int
    """Stored bytes."""
    fingerprint: Digest
    """sha256 over the URLs and identities; another one where a file changed."""


@dataclass(frozen=True)
class Tables:
    """The tables beside the manifest, each in files of consecutive rows. `versions/tables.py` writes and reads them."""

    shards: tuple[TableFile, ...]
    """One row a shard, by split, then by number."""
    shard_domains: tuple[TableFile, ...]
    """What each shard holds of each domain, in the same order."""
    inputs: tuple[TableFile, ...]
    """One row a file of the corpus, in the order of its parts."""
    map: tuple[TableFile, ...]
    """One row a sampled document in a picture of the embeddings, by domain; empty where nothing was embedded."""


@dataclass(frozen=True)
class CodeVersion:
    """The code that built the version."""

    version: str
    """Version of the package."""
    commit: str | None
    """Commit that was checked out. None: the package did not run from a git checkout."""
    sources: Digest
    """sha256 over the package's files, which tells a checkout with changes from a clean one."""


@dataclass(frozen=True)
class TokenIds:
    """How token ids are stored."""

    end_of_text: int
    """The id that ends every text, and fills sequences up."""
    dtype: str
    """`uint16` or `uint32`."""


@dataclass(frozen=True)
class PackedTurns:
    """How conversations are packed."""

    length: int
    """Tokens of a sequence."""
    labels: bool
    """Whether there is a column of labels."""


@dataclass(frozen=True)
class Writer:
    """What decides the bytes of the shards, beside the documents and their places. It is part of the plan digest."""

    formats: dict[str, dict[str, JsonValue]]
    """Format -> version, sizes and libraries of its encoder."""
    compression: str
    """`zstd` or `none`."""
    level: int | None
    """Level of zstd. None: the shards are not compressed."""
    tokens: str
    """Fingerprint of what counts tokens."""
    ids: TokenIds | None
    """None: no format stores token ids."""
    columns: dict[str, str]
    """Kept column -> its kind."""
    messages: dict[str, str]
    """Field of the messages of conversations -> its type in Arrow."""
    turns: PackedTurns | None
    """None: rows are no packed conversations."""

    def describe(self) -> dict[str, Any]:
        """The writer as plain JSON, as the plan digest has it: without those of the last four fields that say nothing."""
        plain = describe_record(self)
        return {key: value for key, value in plain.items() if value or key not in ("ids", "columns", "messages", "turns")}


@dataclass(frozen=True)
class Provenance:
    """The corpus, the libraries and the code that a version was made of and by."""

    inputs: dict[str, InputSum]
    """Source -> its files that were read; `tables.inputs` lists them."""
    files: dict[str, SourceFiles]
    """Source -> the files found at its paths: read by format, and left out by reason."""
    tokenizer: str
    """Fingerprint of what counts tokens."""
    packages: dict[str, str]
    """Library -> version, of those that read, embed and write."""
    code: CodeVersion
    """The code that built it."""
    python: str
    """Version of Python."""
    writer: Writer
    """What decided the bytes of the shards."""


@with_config(STRICT)
@dataclass(frozen=True, kw_only=True)
class Manifest:
    """All that a version is. Paths are relative to the dataset's folder, so a copied folder still verifies."""

    format: int = MANIFEST_FORMAT
    """Number of this layout of the manifest."""
    name: str
    """The recipe's name for the mixture."""
    recipe: Recipe
    """The recipe with its defaults filled in and its paths absolute."""
    priority: tuple[str, ...]
    """Sources in the recipe's order, which `input.dedup` goes by; JSON objects have no order."""
    plan_digest: Digest
    """sha256 over everything that decides the bytes of the shards."""
    digest: Digest
    """sha256 over the sorted (path in its build's folder, sha256) of the shards' files."""
    content_digest: Digest
    """sha256 over the rows in order, whatever the formats and libraries."""
    build: str
    """Folder of the build, `builds/<digest>`: of the first stage, those that follow it there, and the validation split."""
    seed: int
    """The recipe's seed."""
    budget: int
    """Tokens that the train split was to hold."""
    shard_count: int
    """Shards of the train split."""
    shard_counts: dict[str, Annotated[int, Field(ge=1)]]
    """Split -> shards."""
    unit: str
    """What a token is: `bytes`, or the tokenizer."""
    hash: Literal["text", "id"]
    """What identifies a document: its text, or its id."""
    domain_ids: dict[str, int]
    """Domain -> `domain_id` of its rows: its place among the domains of all splits, in byte order of name."""
    domains: Annotated[dict[str, DomainRecord], Field(min_length=1)]
    """The train split by domain, all stages together."""
    stages: Annotated[tuple[StageRecord, ...], Field(min_length=1)]
    """The train split by stage, in the order of its shards; one where the recipe names none."""
    validation: dict[str, SplitRecord]
    """The validation split by domain; empty where nothing is held out."""
    weights: MixtureDescription
    """How the weights of the first stage came about: scores, bounds that acted, embedder, warnings."""
    quarantine: dict[str, dict[str, int]]
    """Domain or source -> reason -> rows set aside."""
    filtered: dict[str, dict[str, int]]
    """Domain or source -> condition (`where`) or rule -> rows that it left out, also of a domain of which it leaves none."""
    cut: dict[str, int]
    """Domain -> packed conversations that end with their sequence, since they are longer (`shards.overlong: cut`)."""
    messages: dict[str, str]
    """Field of the messages of conversations -> its kind, as of a kept column; empty where documents are texts."""
    columns: dict[str, KeptColumn]
    """Kept column -> its type, and where it is missing; in byte order of name."""
    formats: dict[str, FormatSum]
    """Format -> its files summed up, of all splits."""
    tables: Tables
    """Where the rows are that are too many for this record: shards, files of the corpus, the map of the sample."""
    provenance: Provenance
    """What the version was made of and by."""
    timings: dict[str, float]
    """Pass -> seconds."""
    expected: dict[str, float]
    """Pass -> seconds that were estimated before it wrote, for a build that finds nothing of an earlier one."""
    reused: dict[str, str]
    """Pass -> a sentence about the work of earlier runs that it did not do again."""

    @property
    def builds(self) -> tuple[str, ...]:
        """Folders of the shards, in the order of the training; several where stages were added to a build."""
        return (self.build, *(stage.build for stage in self.stages if stage.build is not None))

    def shards_by_build(self, split: str) -> dict[str, range]:
        """Folder -> numbers of the shards of a split that lie in it, in order."""
        if split != TRAIN:
            return {self.build: range(self.shard_counts[split])}
        found, build, behind = {self.build: range(0)}, self.build, 0
        for stage in self.stages:
            if stage.build is not None:
                build, found[stage.build] = stage.build, range(behind, behind)
            behind += stage.shards
            found[build] = range(found[build].start, behind)
        return found

    def split_domains(self, split: str) -> Mapping[str, SplitRecord]:
        """The records of a split, in byte order of the domains' names."""
        records: Mapping[str, SplitRecord] = self.domains if split == TRAIN else self.validation
        return dict(sorted(records.items(), key=lambda item: item[0].encode()))


def stage_targets(manifest: Manifest) -> tuple[StageTarget, ...]:
    """What the stages of the train split were to hold."""
    return tuple(
        StageTarget(stage.budget, {name: str(domain.weight) for name, domain in stage.domains.items()})
        for stage in manifest.stages
    )


def name_tokens(unit: str) -> str:
    """What tokens are called: bytes where no tokenizer makes them. `unit` is that of a manifest."""
    return "bytes" if unit == "bytes" else "tokens"


def describe_manifest(manifest: Manifest) -> dict[str, Any]:
    """The manifest as plain JSON, which `show --json` and `build --json` print."""
    return describe_record(manifest)


def manifest_schema() -> dict[str, Any]:
    """The JSON schema of a manifest."""
    return record_schema(Manifest)


def encode_manifest(manifest: Manifest) -> bytes:
    """The bytes of the manifest's file; their sha256 is its name."""
    return encode_record(manifest)


def decode_manifest(body: bytes, where: str) -> Manifest:
    """The manifest in a file's bytes. Raises InputError, with the path or URL `where`, where it holds anything else."""
    manifest = decode_record(Manifest, body, where)
    recipe, priority = manifest.recipe, manifest.priority
    stores_ids = recipe.shards.sequence_length != "none" or "megatron" in recipe.shards.formats
    if sorted(priority) != sorted(recipe.sources):
        wrong = "'priority' does not name each source of the recipe once"
    elif set(manifest.domain_ids) != {*manifest.domains, *manifest.validation}:
        wrong = "'domain_ids' does not number each domain"
    elif set(manifest.shard_counts) != {TRAIN, *([VALIDATION] if manifest.validation else [])}:
        wrong = "'shard_counts' does not name the splits that have domains"
    elif sum(stage.shards for stage in manifest.stages) != manifest.shard_counts[TRAIN]:
        wrong = "'stages' have not as many shards as 'shard_counts' says"
    elif len({*manifest.builds}) < len(manifest.builds) or manifest.stages[0].build is not None:
        wrong = "'stages' name a folder twice, or one for the first stage"
    elif {name for stage in manifest.stages for name in stage.domains} != {*manifest.domains}:
        wrong = "'stages' do not name the domains of the train split"
    elif stores_ids != (manifest.provenance.writer.ids is not None):
        wrong = "'provenance.writer.ids' is not there where the recipe stores token ids, or only there"
    else:
        ordered = recipe.model_copy(update={"sources": {name: recipe.sources[name] for name in priority}})
        return replace(manifest, recipe=ordered)
    raise InputError(f"{where}: damaged, or not written by chameleon-data ({wrong}); restore it from a copy")
