"""A version against its corpus, read again: the one thing that the stored bytes alone cannot show.

The corpus is surveyed anew, and from that survey and the version's recorded weights everything follows again: the counts, the
plan, and which documents stand in which shard. Compared are the counts of every domain, the digest of the plan, and for every
shard and domain the sum of the hashes of its documents. What `verify` proves besides is their order, and that the texts have
these hashes.

Packed sequences do not say which documents they are of, so of those the counts and the plan are compared.
Cost: a survey, and routing its records, 3 million rows a second on one core.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from chameleon_data.census import Census, written_documents
from chameleon_data.errors import InputError
from chameleon_data.hashing import MODULUS, U64, multiset_hash
from chameleon_data.layout import build_digest, lay_out_splits
from chameleon_data.place import I64, CopyCounter, Layout, route
from chameleon_data.recipe import Recipe
from chameleon_data.shards import TRAIN, VALIDATION
from chameleon_data.storage import Store
from chameleon_data.survey import Part, Survey

Sums = dict[tuple[str, int, str], int]
"""(split, shard, domain) -> sum of the content hashes of its documents modulo 2^128."""


def recount(store: Store, recipe: Recipe, survey: Survey, census: Census, manifest: Mapping[str, Any]) -> tuple[list[str], Sums]:
    """What is wrong with a version by its corpus, and what each of its shards must hold; `store` holds the survey's records."""
    problems = _counts(survey, census, manifest)
    if problems:
        return problems, {}
    weights = {name: str(d["weight"]) for name, d in manifest["domains"].items()}
    writer = manifest["provenance"]["writer"]
    try:
        layouts = lay_out_splits(store, recipe, survey.parts, census, weights, manifest["budget"], writer)
    except InputError as error:
        return [f"the corpus does not give the plan of this version: {error}"], {}
    if build_digest([layout.plan for layout in layouts]) != manifest["plan_digest"]:
        return ["the corpus, the recipe and the weights give another plan than 'plan_digest'"], {}
    return [], {} if census.rules.packing else document_sums(store, survey.parts, census, layouts)


def _counts(survey: Survey, census: Census, manifest: Mapping[str, Any]) -> list[str]:
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


def document_sums(store: Store, parts: Sequence[Part], census: Census, layouts: Sequence[Layout]) -> Sums:
    """Which documents belong into each shard, from the records of the survey alone."""
    sums: Sums = {}
    of_split = {layout.plan.split: layout for layout in layouts}
    names = [s.domain.name for s in layouts[0].streams]
    code_of = pl.DataFrame({"domain": names, "code": np.arange(len(names))})
    for number, part in enumerate(parts):
        counters = {split: CopyCounter(layout.slots, number) for split, layout in of_split.items()}
        for split, documents in written_documents(store, number, part, census.copies, census.rules):
            named = documents.select(pl.col("domain").cast(pl.String))
            domain = named.join(code_of, on="domain", how="left", maintain_order="left")["code"].to_numpy()
            hi, lo = documents["hi"].to_numpy(), documents["lo"].to_numpy()
            copy = counters[split].number(domain, hi, lo)
            for row, _, shard in route(of_split[split].slots, domain, hi, lo, copy):
                for (at, index), some in _grouped(row, shard, domain[row]):
                    add_sum(sums, (split, at, names[index]), hi[some], lo[some])
    return sums


def add_sum(sums: Sums, key: tuple[str, int, str], hi: U64, lo: U64) -> None:
    sums[key] = (sums.get(key, 0) + multiset_hash(hi, lo)) % MODULUS


def _grouped(row: I64, shard: I64, domain: I64) -> Iterator[tuple[tuple[int, int], I64]]:
    order = np.lexsort((domain, shard))
    begins = np.flatnonzero(np.append(True, (np.diff(shard[order]) != 0) | (np.diff(domain[order]) != 0))[: len(order)])
    for begin, end in zip(begins.tolist(), [*begins[1:].tolist(), len(order)], strict=False):
        yield (int(shard[order[begin]]), int(domain[order[begin]])), row[order[begin:end]]
