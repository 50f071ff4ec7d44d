"""From the survey, the plan and the receipts to the manifest of a build, once their books balance.

Why there are three digests: docs/decisions/062-digests.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import partial

from chameleon_data.corpus.selection import Selection
from chameleon_data.corpus.survey import Survey
from chameleon_data.errors import DefectError
from chameleon_data.plan.layout import Layout
from chameleon_data.plan.plan import TRAIN, VALIDATION, total_weights
from chameleon_data.plan.streams import Stream
from chameleon_data.recipe import Recipe
from chameleon_data.shards.lay_out import folder_digests, plan_digest
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
from chameleon_data.versions.shard_table import SHARD_SCHEMA, sum_shards
from chameleon_data.versions.tables import read_rows
from chameleon_data.versions.written import DomainSums, Written
from chameleon_data.weights.mixture import MixtureDescription, WeighedStage


def make_manifest(
    store: Store,
    recipe: Recipe,
    survey: Survey,
    selection: Selection,
    stages: Sequence[WeighedStage],
    layouts: Sequence[Sequence[Layout]],
    written: Written,
    provenance: Provenance,
    timings: Mapping[str, float],
    expected: Mapping[str, float],
    reused: Mapping[str, str],
) -> Manifest:
    """The manifest of a finished build, whose tables of inputs and of the map are written here. Raises DefectError where rows
    read, planned and written are not the same rows.

    `layouts` are those of each folder, and `written` is what their receipts say.
    """
    _check_read(survey, selection)
    mixture, weights = stages[0].mixture, total_weights([stage.target for stage in stages])
    trains, (_, *held_out) = [train for train, *_ in layouts], layouts[0]
    digests = folder_digests([[layout.plan for layout in of_folder] for of_folder in layouts])
    folders = [f"{BUILDS}/{digest}" for digest in digests]
    whole = (*layouts[0], *trains[1:])
    domain_ids = number_domains(stream.domain.name for layout in whole for stream in layout.streams)
    tables = Tables(
        shards=written.shards,
        shard_domains=written.shard_domains,
        inputs=write_input_table(store, list_input_files(survey)),
        map=write_map_table(store, mixture.map),
    )
    by_split = (trains, *([layout] for layout in held_out))
    for of_split in by_split:
        _check_written(of_split, domain_ids, written.sums[of_split[0].plan.split], packed=recipe.packs_conversations)
    sums = sum_shards(partial(read_rows, store, tables.shards, SHARD_SCHEMA), folders[0])
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
            (name := of[0].domain.name): _domain(
                of, weights[name], written.sums[TRAIN], domain_ids[name], survey, selection, mixture.description
            )
            for of in zip(*(train.streams for train in trains), strict=True)
        },
        stages=tuple(_stages(stages, trains, folders, domain_ids, written.sums[TRAIN])),
        validation={
            s.domain.name: _split_domain([s], s.domain.weights[0], written.sums[VALIDATION], domain_ids[s.domain.name])
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


def _check_written(layouts: Sequence[Layout], domain_ids: Mapping[str, int], written: DomainSums, packed: bool) -> None:
    """Raise DefectError where the receipts of a split count something else than its plans deliver.

    `packed`: rows are sequences of several documents.
    """
    for streams in zip(*(layout.streams for layout in layouts), strict=True):
        name, planned = streams[0].domain.name, sum(int(stream.tokens.sum()) for stream in streams)
        rows, tokens = (int(sums[:, domain_ids[name]].sum()) for sums in (written.rows, written.tokens))
        whole = streams[0].packing is None and not packed
        if tokens != planned or (whole and rows != sum(int(stream.delivered.sum()) for stream in streams)):
            raise DefectError(
                f"domain {name!r}, split {layouts[0].plan.split}: {rows:,} rows with {tokens:,} tokens written, "
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
    stages: Sequence[WeighedStage],
    trains: Sequence[Layout],
    folders: Sequence[str],
    domain_ids: Mapping[str, int],
    written: DomainSums,
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
                    rows=int(written.rows[number, domain_ids[s.domain.name]]),
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
    written: DomainSums,
    domain_id: int,
    survey: Survey,
    selection: Selection,
    weights: MixtureDescription,
) -> DomainRecord:
    name, stages = streams[0].domain.name, sum(len(stream.domain.quotas) for stream in streams)
    tally, of_split = survey.tallies[name], _split_domain(streams, weight, written, domain_id)
    return DomainRecord(
        **{field.name: getattr(of_split, field.name) for field in fields(of_split)},
        rows_read=tally.read,
        held_out=selection.held_out(name),
        copies_dropped=selection.dropped[name],
        filtered=tally.filtered,
        quarantined=tally.quarantined,
        score=weights.scores.get(name),
        weight_interval=weights.intervals.get(name) if stages == 1 else None,
    )


def _split_domain(streams: Sequence[Stream], weight: str, written: DomainSums, domain_id: int) -> SplitRecord:
    """What a split holds of a domain, whose streams are those of each folder."""
    domain, tokens = streams[0].domain, sum(int(stream.tokens.sum()) for stream in streams)
    once = sum(stream.first_epoch_rows for stream in streams)
    return SplitRecord(
        weight=float(weight),
        target_tokens=sum(stream.domain.quota for stream in streams),
        tokens=tokens,
        rows=int(written.rows[:, domain_id].sum()),
        epochs=tokens / domain.tokens,
        available_tokens=domain.tokens,
        available_rows=domain.rows,
        available_bytes=domain.bytes,
        largest_document=domain.largest,
        multiset=f"{domain.multiset:032x}",
        rows_written_once=once,
        rows_not_selected=domain.rows - once,
        copies_written=int(written.copies[domain_id]),
        most_copies=max(1, int(written.most_copies[domain_id])),
    )
