"""What the tasks of a proof share, in a folder that all of them see, so that a task carries a number alone.

    manifest.json     the manifest: some 300 bytes a domain
    ranges/…          each range of shards, with the tokens that each domain has before it
    ends/…            each shard in which domains have their last row, with these domains
    cuts.parquet      where the last epochs of domains end

Whoever proves a version removes the folder at the end. Why: docs/decisions/150-tasks-carry-numbers.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa

from chameleon_data.arrays import I64
from chameleon_data.store.checksummed import read_table, write_table
from chameleon_data.store.numbered_rows import NumberedRows, write_numbered_rows
from chameleon_data.store.store import Store
from chameleon_data.versions.checks.split_facts import SplitFacts
from chameleon_data.versions.checks.text_order import Cuts
from chameleon_data.versions.manifest import Manifest, decode_manifest, encode_manifest

RANGES_IN_FILE = 8
"""Ranges that lie in one file; with 10,000 domains it has 640 kB."""
_MANIFEST, _RANGES, _ENDS, _CUTS = "manifest.json", "ranges", "ends", "cuts.parquet"


@dataclass(frozen=True)
class ShardRange:
    """Consecutive shards of one split."""

    number: int
    """Its place among all ranges."""
    split: str
    start: int
    """Its first shard, in the table of shards."""
    stop: int
    bytes: int
    """Size of the files of its shards, in all formats together."""
    held: I64
    """(stages, domains of the split) tokens in the shards of the split before it."""


@dataclass(frozen=True)
class SplitEnd:
    """A shard in which some domains of a split have their last row."""

    split: str
    shard: int
    """Its place in the table of shards."""
    domains: I64
    """Indices of these domains."""


def share_manifest(scratch: Store, manifest: Manifest) -> None:
    scratch.write(_MANIFEST, encode_manifest(manifest))


@lru_cache(maxsize=1)
def read_shared_manifest(scratch: Store) -> Manifest:
    """The manifest that `share_manifest` put there. A process keeps the one that it read last."""
    return decode_manifest(scratch.read(_MANIFEST), f"{scratch.url}/{_MANIFEST}")


def read_shared_facts(scratch: Store) -> dict[str, SplitFacts]:
    """Split -> what that manifest says of it."""
    manifest = read_shared_manifest(scratch)
    return {split: SplitFacts(split, manifest) for split in manifest.shard_counts}


def share_ranges(scratch: Store, ranges: Sequence[ShardRange]) -> NumberedRows:
    names = ("number", "start", "stop", "bytes")
    columns = {name: pa.array([getattr(one, name) for one in ranges], pa.int64()) for name in names}
    texts = pa.array([one.split for one in ranges], pa.large_string())
    held = pa.array([one.held.tobytes() for one in ranges], pa.large_binary())
    return write_numbered_rows(scratch, _RANGES, pa.table({**columns, "split": texts, "held": held}), RANGES_IN_FILE)


def read_shared_range(scratch: Store, ranges: NumberedRows, facts: Mapping[str, SplitFacts], number: int) -> ShardRange:
    """The range of a number; `facts` are those of each split."""
    (row,) = ranges.read(scratch, number).to_pylist()
    held = np.frombuffer(row["held"], np.int64).reshape(facts[row["split"]].quotas.shape)
    return ShardRange(**{**row, "held": held})


def share_ends(scratch: Store, ends: Sequence[SplitEnd]) -> NumberedRows:
    """The ends by their place in `ends`."""
    sizes = [len(end.domains) for end in ends]
    domains = np.concatenate([end.domains for end in ends])
    return write_numbered_rows(scratch, _ENDS, pa.table({
        "number": np.repeat(np.arange(len(ends)), sizes),
        "split": pa.array(np.repeat([end.split for end in ends], sizes), pa.large_string()),
        "shard": np.repeat([end.shard for end in ends], sizes),
        "domain": domains,
    }))  # fmt: skip


def read_shared_end(scratch: Store, ends: NumberedRows, number: int) -> SplitEnd:
    rows = ends.read(scratch, number)
    return SplitEnd(rows["split"][0].as_py(), rows["shard"][0].as_py(), rows["domain"].to_numpy())


def share_cuts(scratch: Store, cuts: Mapping[str, Cuts]) -> None:
    """Put the cuts of each split there; where nobody looked, nothing stands."""
    known = {split: np.flatnonzero(one.epoch >= 0) for split, one in cuts.items()}
    write_table(scratch, _CUTS, pa.table({
        "split": pa.array(np.repeat(list(known), [len(at) for at in known.values()]), pa.large_string()),
        "domain": np.concatenate(list(known.values())),
        "epoch": np.concatenate([cuts[split].epoch[at] for split, at in known.items()]),
        "rank": np.concatenate([cuts[split].rank[at] for split, at in known.items()]),
    }))  # fmt: skip


def read_shared_cuts(scratch: Store, facts: Mapping[str, SplitFacts]) -> dict[str, Cuts]:
    """Split -> its cuts; `facts` are those of each split."""
    rows, cuts = read_table(scratch, _CUTS), dict[str, Cuts]()
    splits, domain = rows["split"].to_numpy(), rows["domain"].to_numpy()
    for split, one in facts.items():
        cuts[split], own = Cuts.unknown(len(one.names)), splits == split
        cuts[split].epoch[domain[own]] = rows["epoch"].to_numpy()[own]
        cuts[split].rank[domain[own]] = rows["rank"].to_numpy()[own]
    return cuts
