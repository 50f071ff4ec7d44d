"""A version against its corpus, read again. It proves what the stored bytes alone cannot show.

The corpus is surveyed anew. From that survey and the version's recorded weights everything follows again: the counts, the plan,
and the rows of each shard in their order. Compared are the counts of every domain, the digest of the plan, and the content hash
of every shard, which `verify` proves of the stored bytes, as it proves that texts have the hashes that stand for them.

Where each text stands follows from the survey's records; for sequences the corpus is read and cut into ids once more. Memory: a
shard on each worker. Cost beside the survey: for a million texts 3 s of one busy core.
Why: docs/decisions/061-what-verify-cannot-prove.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa

from chameleon_data.corpus.parts import Part
from chameleon_data.corpus.selection import Selection
from chameleon_data.corpus.survey import Survey
from chameleon_data.errors import InputError
from chameleon_data.plan.layout import Layout
from chameleon_data.plan.plan import TRAIN, VALIDATION, Plan
from chameleon_data.shards.lay_out import ShardSpec, folder_digests, plan_digest, plan_splits
from chameleon_data.shards.spill import spill, spill_records
from chameleon_data.store.paths import BuildFolder
from chameleon_data.store.store import Store
from chameleon_data.versions.manifest import Manifest, name_tokens, stage_targets

LayOut = Callable[[Sequence[Sequence[Plan]]], tuple[tuple[Layout, ...], ...]]
"""The layouts of the plans of each folder."""


def check_plan_against_corpus(
    survey: Survey, selection: Selection, manifest: Manifest, lay_out: LayOut
) -> tuple[list[str], tuple[tuple[Layout, ...], ...]]:
    """Sentences on what is wrong with the counts and the plan of a version, by its corpus; and the layouts of its folders, as
    `lay_out` makes them of plans, where nothing is."""
    problems = [
        *(problem for split in (TRAIN, VALIDATION) for problem in _check_available(selection, manifest, split)),
        *_check_read(survey, manifest),
    ]
    if problems:
        return problems, ()
    recipe = manifest.recipe
    try:
        plans = plan_splits(
            recipe.mix,
            recipe.shards,
            recipe.input.hash,
            recipe.seed,
            selection,
            stage_targets(manifest),
            manifest.provenance.writer.describe(),
        )
        layouts = lay_out(plans)
    except InputError as error:
        return [f"the corpus does not give the plan of this version: {error}"], ()
    if plan_digest(folder_digests([[layout.plan for layout in of_folder] for of_folder in layouts])) != manifest.plan_digest:
        return ["the corpus, the recipe and the weights give another plan than 'plan_digest'"], ()
    return [], layouts


def _check_available(selection: Selection, manifest: Manifest, split: str) -> list[str]:
    """The documents that may go into a split are, by domain, as many as were recorded, and the same ones."""
    problems, recorded = [], manifest.split_domains(split)
    counts = {count.name: count for count in selection.splits.get(split, ())}
    if odd := sorted(set(counts) ^ set(recorded)):
        return [f"domain {odd[0]!r} is in the corpus or in the {split} split, and not in both"]
    unit = name_tokens(manifest.unit)
    for name, domain in recorded.items():
        count = counts[name]
        counted = (count.rows, count.tokens, count.bytes, count.largest, f"{count.multiset:032x}")
        if counted != (
            domain.available_rows,
            domain.available_tokens,
            domain.available_bytes,
            domain.largest_document,
            domain.multiset,
        ):
            problems.append(
                f"domain {name!r}: the corpus now holds {count.rows:,} documents with {count.tokens:,} {unit} for its {split} "
                f"split, not the {domain.available_rows:,} with {domain.available_tokens:,} that the version was made from"
            )
    return problems


def _check_read(survey: Survey, manifest: Manifest) -> list[str]:
    """Rows read and set aside are, by domain, as many as were recorded."""
    problems = []
    for name, domain in manifest.domains.items():
        tally = survey.tallies.get(name)
        if tally and (tally.read, tally.filtered, tally.quarantined) != (domain.rows_read, domain.filtered, domain.quarantined):
            problems.append(
                f"domain {name!r}: {tally.read:,} rows are read of the corpus now, {tally.filtered:,} of them left out by a "
                f"condition and {tally.quarantined:,} set aside, not {domain.rows_read:,}, {domain.filtered:,} and "
                f"{domain.quarantined:,}"
            )
    if survey.cut != manifest.cut:
        problems.append("other conversations of the corpus are longer than a sequence now than 'cut' says")
    if dict(survey.columns) != manifest.columns or dict(survey.messages) != manifest.messages:
        problems.append("the kept columns of the corpus have other types now, or are missing in other rows, than 'columns' says")
    return problems


def spill_for_check(store: Store, build: BuildFolder, job: ShardSpec, number: int, part: Part, copies: pa.Table) -> None:
    """The runs of a part, as far as `assemble.hash_range` needs them."""
    (spill if job.rules.packing or job.counter.length else spill_records)(store, build, job, number, part, copies)
