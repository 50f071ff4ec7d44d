"""From the survey, the plan and the receipts to the manifest of a build, once their books balance.

Why there are three digests: docs/decisions/062-digests.md.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import groupby

from chameleon_data.corpus.selection import Selection
from chameleon_data.corpus.survey import Survey
from chameleon_data.errors import DefectError
from chameleon_data.plan.layout import Layout
from chameleon_data.plan.plan import total_weights
from chameleon_data.plan.streams import Stream
from chameleon_data.recipe import Recipe
from chameleon_data.shards.lay_out import folder_digests, plan_digest
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
from chameleon_data.weights.mixture import MixtureDescription, WeighedStage


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
    layouts: Sequence[Sequence[Layout]],
    receipts: Sequence[Iterable[Receipt]],
    provenance: Provenance,
    timings: Mapping[str, float],
    expected: Mapping[str, float],
    reused: Mapping[str, str],
) -> Manifest:
    """The manifest of a finished build, whose tables are written here. Raises DefectError where rows read, planned and written
    are not the same rows.

    `layouts` are those of each folder, and `receipts` those of its shards in order. They are read once, and nothing of a single
    one is kept.
    """
    _check_read(survey, selection)
    mixture, weights = stages[0].mixture, total_weights([stage.target for stage in stages])
    trains, (_, *held_out) = [train for train, *_ in layouts], layouts[0]
    digests = folder_digests([[layout.plan for layout in of_folder] for of_folder in layouts])
    folders = [f"{BUILDS}/{digest}" for digest in digests]
    whole = (*layouts[0], *trains[1:])
    domain_ids = number_domains(stream.domain.name for layout in whole for stream in layout.streams)
    books: _Books = {layout.plan.split: defaultdict(_Written) for layout in whole}
    tables = Tables(
        shards=write_shard_table(store, _list_shards(receipts, folders, books, trains), domain_ids),
        inputs=write_input_table(store, list_input_files(survey)),
        map=write_map_table(store, mixture.map),
    )
    by_split = (trains, *([layout] for layout in held_out))
    for of_split in by_split:
        _check_written(of_split, books[of_split[0].plan.split], packed=recipe.packs_conversations)
    sums = sum_shards(read_rows(store, tables.shards, SHARD_SCHEMA), folders[0])
    return Manifest(
        name=recipe.name,
        recipe=recipe,
        priority=tuple(recipe.sources),
        plan_digest=plan_digest(digests),
        digest=sums.digest,
        content_digest=sums.content,
        build=folders[0],
        seed=trains[0].plan.seed,
        budget=sum(stage.budget for stage in stages),
        shard_count=trains[-1].plan.named_shards,
        shard_counts={of_split[-1].plan.split: of_split[-1].plan.named_shards for of_split in by_split},
        unit=recipe.tokens.tokenizer or "bytes",
        hash=recipe.input.hash,
        domain_ids=domain_ids,
        domains={
            of[0].domain.name: _domain(of, weights[of[0].domain.name], books["train"], survey, selection, mixture.description)
            for of in zip(*(train.streams for train in trains), strict=True)
        },
        stages=tuple(_stages(stages, trains, folders, books["train"])),
        validation={
            s.domain.name: _split_domain([s], s.domain.weights[0], books["validation"])
            for layout in held_out
            for s in layout.streams
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


def _list_shards(
    receipts: Sequence[Iterable[Receipt]], folders: Sequence[str], books: _Books, trains: Sequence[Layout]
) -> Iterator[ShardRecord]:
    """The shards of all folders by split and number, which are summed up in `books` as they pass."""
    by_split = groupby(receipts[0], lambda receipt: receipt.split)
    (_, first), *later = next(by_split), *receipts[1:]
    held_out = (receipt for _, of_split in by_split for receipt in of_split)
    for of_folder, folder, train in zip((first, *later, held_out), (*folders, folders[0]), (*trains, trains[0]), strict=True):
        yield from (_shard(receipt, folder) for receipt in _book(of_folder, books, train))


def _shard(receipt: Receipt, folder: str) -> ShardRecord:
    files = tuple(ShardFile(f"{folder}/{file.path}", file.format, file.bytes, file.sha256) for file in receipt.files)
    rows, tokens = dict(receipt.domain_rows), dict(receipt.domain_tokens)
    return ShardRecord(receipt.split, receipt.number, receipt.rows, receipt.tokens, receipt.content, rows, tokens, files)


def _book(receipts: Iterable[Receipt], books: _Books, train: Layout) -> Iterator[Receipt]:
    """The receipts of a folder, which are summed up in `books` as they pass. `train` is the folder's layout of that split."""
    plan, first = train.plan, train.plan.first_stage or 0
    for receipt in receipts:
        of_split, stage = books[receipt.split], first + plan.stage_of(receipt.number - plan.first_shard)
        for name, rows in receipt.domain_rows.items():
            of_split[name].rows += rows
            of_split[name].stage_rows[stage] += rows
            of_split[name].tokens += receipt.domain_tokens[name]
        for name, count in receipt.copies.items():
            of_split[name].copies += count.rows
            of_split[name].most_copies = max(of_split[name].most_copies, count.most)
        yield receipt


def _check_written(layouts: Sequence[Layout], books: Mapping[str, _Written], packed: bool) -> None:
    """Raise DefectError where the receipts of a split count something else than its plans deliver.

    `packed`: rows are sequences of several documents.
    """
    for streams in zip(*(layout.streams for layout in layouts), strict=True):
        name, planned = streams[0].domain.name, sum(int(stream.tokens.sum()) for stream in streams)
        written = books.get(name, _Written())
        whole = streams[0].packing is None and not packed
        if written.tokens != planned or (whole and written.rows != sum(int(stream.delivered.sum()) for stream in streams)):
            raise DefectError(
                f"domain {name!r}, split {layouts[0].plan.split}: {written.rows:,} rows with {written.tokens:,} tokens written, "
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


def _stages(
    stages: Sequence[WeighedStage], trains: Sequence[Layout], folders: Sequence[str], books: Mapping[str, _Written]
) -> Iterator[StageRecord]:
    """What the stages hold, those of one folder after those of another."""
    for train, folder in zip(trains, folders, strict=True):
        plan = train.plan
        for here, shards in enumerate(plan.stage_shards):
            number, ranges = (plan.first_stage or 0) + here, train.stages == here
            domains = {
                s.domain.name: StageDomain(
                    weight=float(s.domain.weights[here]),
                    target_tokens=s.domain.quotas[here],
                    tokens=int(s.tokens[ranges].sum()),
                    rows=books.get(s.domain.name, _Written()).stage_rows[number],
                )
                for s in train.streams
                if s.domain.quotas[here]
            }
            about, first = stages[number].mixture.description, stages[0].mixture.description
            build = folder if number and not here else None
            yield StageRecord(stages[number].budget, shards, domains, None if about == first else about, build)


def _domain(
    streams: Sequence[Stream],
    weight: str,
    books: Mapping[str, _Written],
    survey: Survey,
    selection: Selection,
    weights: MixtureDescription,
) -> DomainRecord:
    name, stages = streams[0].domain.name, sum(len(stream.domain.quotas) for stream in streams)
    tally, written = survey.tallies[name], _split_domain(streams, weight, books)
    return DomainRecord(
        **{field.name: getattr(written, field.name) for field in fields(written)},
        rows_read=tally.read,
        held_out=selection.held_out(name),
        copies_dropped=selection.dropped[name],
        filtered=tally.filtered,
        quarantined=tally.quarantined,
        score=weights.scores.get(name),
        weight_interval=weights.intervals.get(name) if stages == 1 else None,
    )


def _split_domain(streams: Sequence[Stream], weight: str, books: Mapping[str, _Written]) -> SplitRecord:
    """What a split holds of a domain, whose streams are those of each folder."""
    domain, tokens = streams[0].domain, sum(int(stream.tokens.sum()) for stream in streams)
    written, once = books.get(domain.name, _Written()), sum(stream.first_epoch_rows for stream in streams)
    return SplitRecord(
        weight=float(weight),
        target_tokens=sum(stream.domain.quota for stream in streams),
        tokens=tokens,
        rows=written.rows,
        epochs=tokens / domain.tokens,
        available_tokens=domain.tokens,
        available_rows=domain.rows,
        available_bytes=domain.bytes,
        largest_document=domain.largest,
        multiset=f"{domain.multiset:032x}",
        rows_written_once=once,
        rows_not_selected=domain.rows - once,
        copies_written=written.copies,
        most_copies=written.most_copies,
    )
