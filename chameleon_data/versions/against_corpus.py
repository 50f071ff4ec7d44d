"""A version against its corpus, read again: the one thing that the stored bytes alone cannot show.

The corpus is surveyed anew, and from that survey and the version's recorded weights everything follows again: the counts, the
plan, and the rows of each shard in their order. Compared are the counts of every domain, the digest of the plan, and of every
shard the hash over its domains, documents, epochs and tokens, and over its ids where rows are packed sequences (`content_hash`
of rows.py). What `verify` proves besides is that texts have the hashes that stand for them.

Where each text stands follows from the survey's records; for sequences the corpus is read and cut into ids once more. Memory: a
shard, on each worker. Cost beside the survey: for a million texts 3 s of one busy core and 70 MB of runs (800 MB in 150,000
documents: 8 s of survey, 3.4 s); for sequences another survey and their ids as runs. A sum of hashes for each shard and domain
took .4 s for a million texts, and said nothing of order, nor of sequences.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from chameleon_data.corpus.selection import Selection
from chameleon_data.corpus.survey import Part, Survey
from chameleon_data.errors import InputError
from chameleon_data.plan.layout import Layout
from chameleon_data.plan.plan import TRAIN, VALIDATION
from chameleon_data.recipe import Recipe
from chameleon_data.shards.lay_out import ShardSpec, build_digest, lay_out_splits
from chameleon_data.shards.spill import spill, spill_records
from chameleon_data.store.paths import BuildFolder
from chameleon_data.store.store import Store

ShardContents = dict[tuple[str, int], str]
"""(split, shard) -> `content_hash` of its rows."""


def check_plan_against_corpus(
    store: Store, recipe: Recipe, survey: Survey, census: Selection, manifest: Mapping[str, Any]
) -> tuple[list[str], tuple[Layout, ...]]:  # fmt: skip
    """What is wrong with the counts and the plan of a version by its corpus; if nothing is, its layouts, to make its shards
    from. `store` holds the survey's records."""
    problems = _counts(survey, census, manifest)
    if problems:
        return problems, ()
    weights = {name: str(d["weight"]) for name, d in manifest["domains"].items()}
    writer = {key: value for key, value in manifest["provenance"]["writer"].items() if value is not None}
    try:
        layouts = lay_out_splits(
            store,
            recipe.mix,
            recipe.shards,
            recipe.input.hash,
            recipe.seed,
            survey.parts,
            census,
            weights,
            manifest["budget"],
            writer,
        )
    except InputError as error:
        return [f"the corpus does not give the plan of this version: {error}"], ()
    if build_digest([layout.plan for layout in layouts]) != manifest["plan_digest"]:
        return ["the corpus, the recipe and the weights give another plan than 'plan_digest'"], ()
    return [], layouts


def spill_for_check(store: Store, build: BuildFolder, job: ShardSpec, number: int, part: Part, copies: pa.Table) -> None:
    """The runs of a part, as far as `assemble.hash_shard` needs them."""
    (spill if job.rules.packing else spill_records)(store, build, job, number, part, copies)


def _counts(survey: Survey, census: Selection, manifest: Mapping[str, Any]) -> list[str]:
    problems = []
    sides = {TRAIN: manifest["domains"], VALIDATION: manifest["validation"]}
    for split, said in sides.items():
        found = {c.name: c for c in census.splits.get(split, ())}
        if absent := sorted(set(found) ^ set(said)):
            problems.append(f"domain {absent[0]!r} is in the corpus or in the {split} split, and not in both")
            continue
        for name, d in said.items():
            c = found[name]
            counted = [c.rows, c.tokens, c.bytes, c.largest, f"{c.multiset:032x}"]
            keys = ("available_rows", "available_tokens", "available_bytes", "largest_document", "multiset")
            if counted != [d[key] for key in keys]:
                problems.append(
                    f"domain {name!r}: the corpus now holds {c.rows:,} documents with {c.tokens:,} tokens for its {split} "
                    f"split, not the {d['available_rows']:,} with {d['available_tokens']:,} that the version was made from"
                )
    for name, d in manifest["domains"].items():
        tally = survey.tallies.get(name)
        if tally and [tally.read, tally.quarantined] != [d["rows_read"], d["quarantined"]]:
            problems.append(
                f"domain {name!r}: {tally.read:,} rows are read of the corpus now and {tally.quarantined:,} of them set aside, "
                f"not {d['rows_read']:,} and {d['quarantined']:,}"
            )
    return problems
