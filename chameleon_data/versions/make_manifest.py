"""From the survey, the plan and the receipts to the manifest of a build, once their books balance.

Why there are three digests: docs/decisions/062-digests.md.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields

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
    Manifest,
    Provenance,
    SplitRecord,
    StageDomain,
    StageRecord,
    Tables,
)
from chameleon_data.versions.provenance import list_input_files
from chameleon_data.versions.shard_table import SHARD_SCHEMA, ShardFile, ShardRecord, sum_shards, write_shard_table
from chameleon_data.versions.tables import read_rows
from chameleon_data.weights.mixture import Mixture, MixtureDescription, WeighedStage


@dataclass
class _Written:
    """What the receipts of one split say of one domain, summed up."""

    rows: int = 0
    stage_rows: Counter[int] = field(default_factory=Counter)
    """Stage -> rows; of the train split."""
    tokens: int = 0
    copies: int = 0
    most_copies: int = 1


_Books = dict[str, defaultdict[str, _Written]]
"""Split -> domain -> what was written."""


def make_manifest(
    store: Store,
    recipe: Recipe,
    survey: Survey,
    selection: Selection,
    stages: Sequence[WeighedStage],
    layouts: Sequence[Layout],
    receipts: Iterable[Receipt],
    provenance: Provenance,
    timings: Mapping[str, float],
    expected: Mapping[str, float],
    reused: Mapping[str, str],
) -> Manifest:
    """The manifest of a finished build, whose tables are written here. Raises DefectError where rows read, planned and written
    are not the same rows.

    `receipts` are those of all shards in order. They are read once, and nothing of a single one is kept.
    """
    _check_read(survey, selection)
    (train, *rest), mixture, weights = layouts, stages[0].mixture, total_weights([stage.target for stage in stages])
    digest = build_digest([layout.plan for layout in layouts])
    folder = f"{BUILDS}/{digest}"
    domain_ids = number_domains(stream.domain.name for layout in layouts for stream in layout.streams)
    books: _Books = {layout.plan.split: defaultdict(_Written) for layout in layouts}
    shards = (_shard(receipt, folder) for receipt in _book(receipts, books, train.plan.stage_of))
    tables = Tables(
        shards=write_shard_table(store, shards, domain_ids),
        inputs=write_input_table(store, list_input_files(survey)),
        map=write_map_table(store, mixture.map),
    )
    for layout in layouts:
        _check_written(layout, books[layout.plan.split], packed=recipe.packs_conversations)
    sums = sum_shards(read_rows(store, tables.shards, SHARD_SCHEMA), folder)
    return Manifest(
        name=recipe.name,
        recipe=recipe,
        priority=tuple(recipe.sources),
        plan_digest=digest,
        digest=sums.digest,
        content_digest=sums.content,
        build=folder,
        seed=train.plan.seed,
        budget=sum(stage.budget for stage in stages),
        shard_count=train.plan.shards,
        shard_counts={layout.plan.split: layout.plan.shards for layout in layouts},
        unit=recipe.tokens.tokenizer or "bytes",
        hash=recipe.input.hash,
        domain_ids=domain_ids,
        domains={
            s.domain.name: _domain(s, weights[s.domain.name], books["train"], survey, selection, mixture.description)
            for s in train.streams
        },
        stages=tuple(_stage(number, stage, train, books["train"], mixture) for number, stage in enumerate(stages)),
        validation={
            s.domain.name: _split_domain(s, s.domain.weights[0], books["validation"]) for layout in rest for s in layout.streams
        },
        weights=mixture.description,
        quarantine=survey.reasons,
        filtered={name: dict(counts) for name, counts in survey.filtered.items()},
        cut=survey.cut,
        messages=dict(survey.messages),
        columns=dict(survey.columns),
        formats={format: sums.formats[format] for format in recipe.shards.formats},
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


def _book(receipts: Iterable[Receipt], books: _Books, stage_of: Callable[[int], int]) -> Iterator[Receipt]:
    """The receipts, which are summed up in `books` as they pass. `stage_of` gives the stage of a shard of the train split."""
    for receipt in receipts:
        of_split, stage = books[receipt.split], stage_of(receipt.number)
        for name, rows in receipt.domain_rows.items():
            of_split[name].rows += rows
            of_split[name].stage_rows[stage] += rows
            of_split[name].tokens += receipt.domain_tokens[name]
        for name, count in receipt.copies.items():
            of_split[name].copies += count.rows
            of_split[name].most_copies = max(of_split[name].most_copies, count.most)
        yield receipt


def _check_written(layout: Layout, books: Mapping[str, _Written], packed: bool) -> None:
    """What the receipts of a split count is what its plan delivers. `packed`: rows are sequences of several documents."""
    for stream in layout.streams:
        name, planned = stream.domain.name, int(stream.tokens.sum())
        written = books.get(name, _Written())
        whole = stream.packing is None and not packed
        if written.tokens != planned or (whole and written.rows != int(stream.delivered.sum())):
            raise DefectError(
                f"domain {name!r}, split {layout.plan.split}: {written.rows:,} rows with {written.tokens:,} tokens written, "
                f"{planned:,} tokens planned: the books do not balance; nothing was published"
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


def _stage(number: int, stage: WeighedStage, train: Layout, books: Mapping[str, _Written], first: Mixture) -> StageRecord:
    """What one stage holds. `first` is the mixture of the first stage."""
    here, plan = train.stages == number, train.plan
    domains = {
        s.domain.name: StageDomain(
            weight=float(s.domain.weights[number]),
            target_tokens=s.domain.quotas[number],
            tokens=int(s.tokens[here].sum()),
            rows=books.get(s.domain.name, _Written()).stage_rows[number],
        )
        for s in train.streams
        if s.domain.quotas[number]
    }
    about = stage.mixture.description
    return StageRecord(stage.budget, plan.stage_shards[number], domains, None if about == first.description else about)


def _domain(
    stream: Stream,
    weight: str,
    books: Mapping[str, _Written],
    survey: Survey,
    selection: Selection,
    weights: MixtureDescription,
) -> DomainRecord:
    name = stream.domain.name
    tally, written = survey.tallies[name], _split_domain(stream, weight, books)
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


def _split_domain(stream: Stream, weight: str, books: Mapping[str, _Written]) -> SplitRecord:
    domain, tokens = stream.domain, int(stream.tokens.sum())
    written = books.get(domain.name, _Written())
    return SplitRecord(
        weight=float(weight),
        target_tokens=domain.quota,
        tokens=tokens,
        rows=written.rows,
        epochs=tokens / domain.tokens,
        available_tokens=domain.tokens,
        available_rows=domain.rows,
        available_bytes=domain.bytes,
        largest_document=domain.largest,
        multiset=f"{domain.multiset:032x}",
        rows_written_once=stream.first_epoch_rows,
        rows_not_selected=domain.rows - stream.first_epoch_rows,
        copies_written=written.copies,
        most_copies=written.most_copies,
    )
