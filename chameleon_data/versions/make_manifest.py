"""From the survey, the plan and the receipts to the manifest of a build, once their books balance.

Why there are three digests: docs/decisions/062-digests.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields

from chameleon_data.corpus.selection import Selection
from chameleon_data.corpus.survey import Survey
from chameleon_data.errors import DefectError
from chameleon_data.plan.layout import Layout
from chameleon_data.plan.plan import total_weights
from chameleon_data.plan.streams import Stream
from chameleon_data.recipe import Recipe
from chameleon_data.shards.lay_out import build_digest
from chameleon_data.shards.receipts import Receipt
from chameleon_data.shards.rows import number_domains
from chameleon_data.store.paths import BUILDS
from chameleon_data.store.store import Store
from chameleon_data.versions.corpus_tables import write_input_table, write_map_table
from chameleon_data.versions.manifest import (
    DomainRecord,
    FormatSum,
    Manifest,
    Provenance,
    SplitRecord,
    StageDomain,
    StageRecord,
    Tables,
)
from chameleon_data.versions.provenance import list_input_files
from chameleon_data.versions.shard_table import ShardFile, ShardRecord, write_shard_table
from chameleon_data.weights.mixture import Mixture, MixtureDescription, WeighedStage


def digest_files(files: Mapping[str, str]) -> str:
    """`digest`: sha256 over the sorted lines of path in the build's folder -> sha256 of the file."""
    lines = sorted(f"{path}\0{sha256}\n" for path, sha256 in files.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def digest_contents(contents: Sequence[str]) -> str:
    """`content_digest`: sha256 over the shards' content hashes in order (`Receipt.content`).

    It depends on the documents and their order, and on nothing of the files.
    """
    return hashlib.sha256("\n".join(contents).encode()).hexdigest()


def make_manifest(
    store: Store,
    recipe: Recipe,
    survey: Survey,
    selection: Selection,
    stages: Sequence[WeighedStage],
    layouts: Sequence[Layout],
    receipts: Sequence[Receipt],
    provenance: Provenance,
    timings: Mapping[str, float],
    expected: Mapping[str, float],
    reused: Mapping[str, str],
) -> Manifest:
    """The manifest of a finished build, whose tables are written here. Raises DefectError where rows read, planned and written
    are not the same rows."""
    ordered = sorted(receipts, key=lambda receipt: receipt.shard)
    by_split = {layout.plan.split: [r for r in ordered if r.split == layout.plan.split] for layout in layouts}
    for layout in layouts:
        _check_written(layout, by_split[layout.plan.split], packed=recipe.packs_conversations)
    _check_read(survey, selection)
    (train, *rest), mixture, weights = layouts, stages[0].mixture, total_weights([stage.target for stage in stages])
    digest = build_digest([layout.plan for layout in layouts])
    folder = f"{BUILDS}/{digest}"
    domain_ids = number_domains(stream.domain.name for layout in layouts for stream in layout.streams)
    shards = (_shard(receipt, folder) for receipt in ordered)
    tables = Tables(
        shards=write_shard_table(store, shards, domain_ids),
        inputs=write_input_table(store, list_input_files(survey)),
        map=write_map_table(store, mixture.map),
    )
    return Manifest(
        name=recipe.name,
        recipe=recipe,
        priority=tuple(recipe.sources),
        plan_digest=digest,
        digest=digest_files({file.path: file.sha256 for receipt in ordered for file in receipt.files}),
        content_digest=digest_contents([receipt.content for receipt in ordered]),
        build=folder,
        seed=train.plan.seed,
        budget=sum(stage.budget for stage in stages),
        shard_count=train.plan.shards,
        shard_counts={layout.plan.split: layout.plan.shards for layout in layouts},
        unit=recipe.tokens.tokenizer or "bytes",
        hash=recipe.input.hash,
        domain_ids=domain_ids,
        domains={
            s.domain.name: _domain(s, weights[s.domain.name], by_split["train"], survey, selection, mixture.description)
            for s in train.streams
        },
        stages=tuple(_stage(number, stage, train, by_split["train"], mixture) for number, stage in enumerate(stages)),
        validation={
            s.domain.name: _split_domain(s, s.domain.weights[0], by_split["validation"])
            for layout in rest
            for s in layout.streams
        },
        weights=mixture.description,
        quarantine=survey.reasons,
        filtered={name: dict(counts) for name, counts in survey.filtered.items()},
        cut=survey.cut,
        messages=dict(survey.messages),
        columns=dict(survey.columns),
        formats={format: _sum_format(ordered, format) for format in recipe.shards.formats},
        tables=tables,
        provenance=provenance,
        timings=dict(timings),
        expected=dict(expected),
        reused=dict(reused),
    )


def _shard(receipt: Receipt, folder: str) -> ShardRecord:
    files = tuple(ShardFile(f"{folder}/{file.path}", file.format, file.bytes, file.sha256) for file in receipt.files)
    rows, tokens = dict(receipt.domain_rows), dict(receipt.domain_tokens)
    return ShardRecord(receipt.split, receipt.number, receipt.rows, receipt.tokens, receipt.content, rows, tokens, files)


def _sum_format(receipts: Sequence[Receipt], format: str) -> FormatSum:
    sizes = [file.bytes for receipt in receipts for file in receipt.files if file.format == format]
    return FormatSum(len(sizes), sum(sizes))


def _check_written(layout: Layout, receipts: Sequence[Receipt], packed: bool) -> None:
    """What the receipts of a split count is what its plan delivers. `packed`: rows are sequences of several documents."""
    for stream in layout.streams:
        name, planned = stream.domain.name, int(stream.tokens.sum())
        rows = sum(receipt.domain_rows.get(name, 0) for receipt in receipts)
        tokens = sum(receipt.domain_tokens.get(name, 0) for receipt in receipts)
        if tokens != planned or (stream.packing is None and not packed and rows != int(stream.delivered.sum())):
            raise DefectError(
                f"domain {name!r}, split {layout.plan.split}: {rows:,} rows with {tokens:,} tokens written, {planned:,} "
                "tokens planned: the books do not balance; nothing was published"
            )


def _check_read(survey: Survey, selection: Selection) -> None:
    """Rows read = usable + held out + copies dropped + filtered + quarantined, by domain."""
    for count in selection.counts:
        tally, held, dropped = survey.tallies[count.name], selection.held_out(count.name), selection.dropped[count.name]
        if tally.read != count.rows + held + dropped + tally.filtered + tally.quarantined:
            raise DefectError(
                f"domain {count.name!r}: {tally.read:,} rows read are not {count.rows:,} usable + {held:,} held out + "
                f"{dropped:,} copies + {tally.filtered:,} filtered + {tally.quarantined:,} quarantined; nothing was published"
            )


def _stage(number: int, stage: WeighedStage, train: Layout, receipts: Sequence[Receipt], first: Mixture) -> StageRecord:
    """What one stage holds. `first` is the mixture of the first stage."""
    here, plan = train.stages == number, train.plan
    own = [receipt for receipt in receipts if plan.stage_of(receipt.number) == number]
    domains = {
        s.domain.name: StageDomain(
            weight=float(s.domain.weights[number]),
            target_tokens=s.domain.quotas[number],
            tokens=int(s.tokens[here].sum()),
            rows=sum(receipt.domain_rows.get(s.domain.name, 0) for receipt in own),
        )
        for s in train.streams
        if s.domain.quotas[number]
    }
    about = stage.mixture.description
    return StageRecord(stage.budget, plan.stage_shards[number], domains, None if about == first.description else about)


def _domain(
    stream: Stream,
    weight: str,
    receipts: Sequence[Receipt],
    survey: Survey,
    selection: Selection,
    weights: MixtureDescription,
) -> DomainRecord:
    name = stream.domain.name
    tally, written = survey.tallies[name], _split_domain(stream, weight, receipts)
    return DomainRecord(
        **{field.name: getattr(written, field.name) for field in fields(written)},
        rows_read=tally.read,
        held_out=selection.held_out(name),
        copies_dropped=selection.dropped[name],
        filtered=tally.filtered,
        quarantined=tally.quarantined,
        score=weights.scores.get(name),
        weight_interval=weights.intervals.get(name) if len(stream.domain.quotas) == 1 else None,
    )


def _split_domain(stream: Stream, weight: str, receipts: Sequence[Receipt]) -> SplitRecord:
    domain, name = stream.domain, stream.domain.name
    tokens = int(stream.tokens.sum())
    copies = [receipt.copies[name] for receipt in receipts if name in receipt.copies]
    return SplitRecord(
        weight=float(weight),
        target_tokens=domain.quota,
        tokens=tokens,
        rows=sum(receipt.domain_rows.get(name, 0) for receipt in receipts),
        epochs=tokens / domain.tokens,
        available_tokens=domain.tokens,
        available_rows=domain.rows,
        available_bytes=domain.bytes,
        largest_document=domain.largest,
        multiset=f"{domain.multiset:032x}",
        rows_written_once=stream.first_epoch_rows,
        rows_not_selected=domain.rows - stream.first_epoch_rows,
        copies_written=sum(count.rows for count in copies),
        most_copies=max((count.most for count in copies), default=1),
    )
