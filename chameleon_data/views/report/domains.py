"""The domains of a version as a data frame, and rows of its tables: figures and tables of the page are made of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from chameleon_data.plan.plan import TRAIN
from chameleon_data.recipe import Mix
from chameleon_data.store.store import Store
from chameleon_data.versions.corpus_tables import InputFile, read_inputs, read_map
from chameleon_data.versions.manifest import Manifest, name_tokens
from chameleon_data.versions.shard_table import ShardRecord, sample_shards
from chameleon_data.weights.bounds import MovedWeight
from chameleon_data.weights.explain.movement import weight_ranges

SHARDS_DRAWN = 1_200
"""Shards that the page draws; of more, so many at equal distances."""
INPUTS_LISTED = 500
"""Fragments of the corpus that the page lists."""
INTEGERS = {
    "quota": "target_tokens", "tokens": "tokens", "rows": "rows", "available_tokens": "available_tokens",
    "available_rows": "available_rows", "largest": "largest_document", "read": "rows_read", "once": "rows_written_once",
    "not_selected": "rows_not_selected", "quarantined": "quarantined", "held_out": "held_out",
    "filtered": "filtered", "copies_dropped": "copies_dropped", "copies_written": "copies_written", "most_copies": "most_copies",
}  # fmt: skip
"""Column of the frame -> field of a domain's record."""

EXPLAINED = ("once", "not_selected", "held_out", "copies_dropped", "filtered", "quarantined")
"""What becomes of a row that is read."""


def domain_frame(manifest: Manifest) -> pl.DataFrame:
    """One row a domain, largest weight first; every figure and table has this order.

    Beside the record: `asked`, the weight before bounds with its interval `low` to `high`, and `least` to `most` by embedder, all
    with one stage; shares of the tokens `natural`, `realised` and `uniform`; `times`, the weight over the natural share; `bound`,
    the tokens that a domain may be off its quota, and `off`, the part of it that was used; `missing`, the rows that the books do
    not explain; `unit`, what a token is called.
    """
    about, records = manifest.weights, manifest.domains
    length, one_stage = manifest.recipe.shards.sequence_length, len(manifest.stages) == 1
    ranges = weight_ranges(about.unbounded, about.other_embedders) if about.other_embedders and one_stage else {}
    intervals = [d.weight_interval or (None, None) for d in records.values()]
    reals = {
        "weight": [d.weight for d in records.values()],
        "epochs": [d.epochs for d in records.values()],
        "score": [d.score for d in records.values()],
        "low": [low for low, _ in intervals],
        "high": [high for _, high in intervals],
        "asked": [about.unbounded.get(name, d.weight) if one_stage else d.weight for name, d in records.items()],
        "stability": [about.rank_stability.get(name) for name in records],
        "least": [ranges[name][0] if ranges else None for name in records],
        "most": [ranges[name][1] if ranges else None for name in records],
    }
    integers = {column: [getattr(d, field) for d in records.values()] for column, field in INTEGERS.items()}
    frame = pl.DataFrame(
        {"name": list(records), **integers, **reals},
        schema={"name": pl.String, **dict.fromkeys(INTEGERS, pl.Int64), **dict.fromkeys(reals, pl.Float64)},
    )
    bound = pl.col("largest") if length == "none" else pl.lit(length)
    return frame.with_columns(
        natural=pl.col("available_tokens") / pl.col("available_tokens").sum(),
        realised=pl.col("tokens") / pl.col("tokens").sum(),
        uniform=1 / pl.len(),
        times=pl.col("weight") / (pl.col("available_tokens") / pl.col("available_tokens").sum()),
        deviation=pl.col("tokens") - pl.col("quota"),
        bound=bound,
        packed=pl.lit(length != "none"),
        unit=pl.lit(name_tokens(manifest.unit)),
        off=(pl.col("tokens") - pl.col("quota")).abs() / bound,
        missing=pl.col("read") - pl.sum_horizontal(*EXPLAINED),
    ).sort("weight", "name", descending=[True, False])


def epoch_limit(mix: Mix) -> float | None:
    """How often a domain is written at most. None: there is no limit."""
    return {"redistribute": mix.max_epochs, "fail": 1.0, "repeat": None}[mix.exhausted]


def bounds_that_acted(manifest: Manifest) -> list[tuple[int, MovedWeight]]:
    """The bounds that moved a weight, each with its stage, counted from one."""
    stages = enumerate(manifest.stages, 1)
    return [(number, moved) for number, stage in stages for moved in (stage.weights or manifest.weights).moved]


def weights_moved(domains: pl.DataFrame) -> bool:
    """Whether bounds moved the weights; the intervals are for those before."""
    return not np.allclose(domains["asked"], domains["weight"], atol=1e-3)


@dataclass(frozen=True)
class ReportRows:
    """What the page shows of the tables beside a manifest."""

    shards: tuple[ShardRecord, ...]
    """Of the train split: all, or SHARDS_DRAWN at equal distances."""
    inputs: tuple[InputFile, ...]
    """The first files of the corpus."""
    map: dict[str, list[tuple[float, float]]]
    """Domain -> (x, y) of its sampled documents."""


def read_report_rows(store: Store, manifest: Manifest) -> ReportRows:
    """Read them. Raises InputError where a table is missing or damaged."""
    return ReportRows(
        sample_shards(store, manifest, TRAIN, SHARDS_DRAWN),
        tuple(read_inputs(store, manifest, INPUTS_LISTED)),
        read_map(store, manifest),
    )
