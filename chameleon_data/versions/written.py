"""What was written, from the receipts of a build: the tables of shards, and the sums over them.

Receipts are read here, one after the other. What they count by domain is shards times domains, so it is brought together in
groups of shards, by tasks where there are several. Of a group nothing remains here but its files of the table, and sums by
domain.
Why: docs/decisions/162-counts-by-domain.md.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from chameleon_data.arrays import I64
from chameleon_data.errors import InputError
from chameleon_data.hashing import canonical_json
from chameleon_data.plan.plan import TRAIN, Plan
from chameleon_data.shards.receipts import COUNTS_SCHEMA, READERS, ReceiptRows, read_receipts
from chameleon_data.shards.rows import encode_domain_ids
from chameleon_data.store.checksummed import read_table
from chameleon_data.store.paths import DOMAIN_IDS, BuildFolder
from chameleon_data.store.store import Store
from chameleon_data.versions.shard_table import DOMAIN_SCHEMA, FILE_TYPE, SHARD_SCHEMA
from chameleon_data.versions.streaming import StreamTables, TableFunction, stream_here
from chameleon_data.versions.tables import TableFile, write_rows

COUNTS_IN_GROUP, RECEIPTS_IN_GROUP = 1 << 21, 256
"""Shards times domains of a group, and its receipts, at most; a receipt is in one group."""


@dataclass(frozen=True)
class DomainSums:
    """What the shards of one split hold of each domain, by its number."""

    rows: I64
    """(stages, domains) rows; the validation split is stage 0."""
    tokens: I64
    """(stages, domains) tokens."""
    copies: I64
    """(domains,) rows of the first epoch that repeat an earlier row of the domain."""
    most_copies: I64
    """(domains,) the most copies of one document, the first one counted; 0 where none repeats."""


@dataclass(frozen=True)
class Written:
    """All shards of a build."""

    shards: tuple[TableFile, ...]
    """Files of the table of shards."""
    shard_domains: tuple[TableFile, ...]
    """Files of the table of what shards hold of each domain."""
    sums: Mapping[str, DomainSums]
    """Split -> what its shards hold."""


@dataclass
class _Group:
    """Shards of one stage of one split, in order, whose counts are brought together."""

    split: str
    stage: int
    folder: int
    """Place of its folder among those of the build."""
    pieces: list[tuple[int, int, int, int]] = field(default_factory=list)
    """Of each receipt its first shard and the one behind its last; and the same of those that are taken."""
    shards: int = 0

    def has_room(self, shards: int, domains: int) -> bool:
        """Whether a receipt of so many shards fits."""
        return len(self.pieces) < RECEIPTS_IN_GROUP and (self.shards + shards) * domains <= COUNTS_IN_GROUP


def gather_written(
    store: Store,
    builds: Sequence[BuildFolder],
    plans: Sequence[Plan],
    domain_ids: Mapping[str, int],
    stream: StreamTables,
    progress: Callable[[int, int], object],
) -> Written:
    """What the receipts of a build's folders say of its shards, whose tables are written here.

    `plans` are those of the train split in each folder. Where there are several groups of shards, `stream` brings their counts
    together, and `progress` is called with (groups done, groups).

    Memory: the bounds of each receipt, and sums by domain of each split and stage.
    """
    groups = list[_Group]()
    shards = write_rows(store, _list_shards(store, builds, plans, len(domain_ids), groups))
    make: Callable[[], TableFunction] = partial(make_join_function, store, builds, domain_ids)
    if len(groups) > len({(group.split, group.stage) for group in groups}):
        make = partial(_make_function_of_task, store, builds, hashlib.sha256(encode_domain_ids(domain_ids)).hexdigest())
        progress(0, len(groups))
    else:
        stream, progress = stream_here, _tell_nobody
    files, done = [list[TableFile]() for _ in groups], 0
    sums = {group.split: _no_sums(plans, domain_ids) for group in groups}
    for answer in stream(make, [_ask(number, group) for number, group in enumerate(groups)]):
        number = answer["number"][0].as_py()
        group, done = groups[number], done + 1
        files[number] = [TableFile(**file) for file in json.loads(answer["files"][0].as_py())]
        _add(sums[group.split], group.stage, np.frombuffer(answer["sums"][0].as_py(), np.int64).reshape(4, -1))
        progress(done, len(groups))
    return Written(shards, tuple(chain.from_iterable(files)), sums)


def _tell_nobody(done: int, total: int) -> None:
    """Progress for the few groups of a small build, which take no time."""


def _no_sums(plans: Sequence[Plan], domain_ids: Mapping[str, int]) -> DomainSums:
    stages, domains = sum(len(plan.stage_shards) for plan in plans), len(domain_ids)
    return DomainSums(*np.zeros((2, stages, domains), np.int64), *np.zeros((2, domains), np.int64))


def _add(sums: DomainSums, stage: int, found: I64) -> None:
    rows, tokens, copies, most = found
    sums.rows[stage] += rows
    sums.tokens[stage] += tokens
    sums.copies[:] += copies
    np.maximum(sums.most_copies, most, out=sums.most_copies)


def _list_shards(
    store: Store, builds: Sequence[BuildFolder], plans: Sequence[Plan], domains: int, groups: list[_Group]
) -> Iterator[pa.Table]:
    """The shards of all folders by split and number, as the table has them. Their groups are added to `groups` as they pass."""
    for folder, receipts in _by_split(store, builds):
        split, numbers = receipts.shards["split"][0].as_py(), receipts.shards["number"].to_numpy()
        plan, stage, shard = plans[folder], 0, receipts.shards["shard"].to_numpy()
        if split == TRAIN:
            stage = (plan.first_stage or 0) + plan.stage_of(int(numbers[0]) - plan.first_shard)
        if not (groups and (groups[-1].split, groups[-1].stage) == (split, stage) and groups[-1].has_room(len(shard), domains)):
            groups.append(_Group(split, stage, folder))
        groups[-1].pieces.append((receipts.span.start, receipts.span.stop, int(shard[0]), int(shard[-1]) + 1))
        groups[-1].shards += len(shard)
        yield _to_rows(receipts.shards, builds[folder].folder)


def _by_split(store: Store, builds: Sequence[BuildFolder]) -> Iterator[tuple[int, ReceiptRows]]:
    """The receipts of the train split, folder by folder, with the number of the folder; then those of the validation split, which
    lies in the first one."""
    first, held_out = read_receipts(store, builds[0]), list[ReceiptRows]()
    for receipts in first:
        if receipts.shards["split"][0].as_py() != TRAIN:
            held_out.append(receipts)
            break
        yield 0, receipts
    for folder, build in enumerate(builds[1:], start=1):
        yield from ((folder, receipts) for receipts in read_receipts(store, build))
    yield from ((0, receipts) for receipts in chain(held_out, first))


def _to_rows(receipts: pa.Table, folder: str) -> pa.Table:
    """The rows of the table of shards; paths of receipts are those in the build's folder."""
    lists = receipts["files"].combine_chunks()
    files = lists.flatten()
    paths = pc.binary_join_element_wise(folder, pc.struct_field(files, "path"), "/")
    columns = [paths, *(pc.struct_field(files, name) for name in FILE_TYPE.names[1:])]
    offsets = np.append(0, np.cumsum(pc.list_value_length(lists).to_numpy())).astype(np.int32)
    files = pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(columns, fields=list(FILE_TYPE)),
                                     type=SHARD_SCHEMA.field("files").type)  # fmt: skip
    kept = [receipts[name].combine_chunks() for name in ("split", "number", "rows", "tokens", "content")]
    return pa.table([*kept, files], schema=SHARD_SCHEMA)


def _ask(number: int, group: _Group) -> pa.Table:
    pieces = dict(zip(("start", "stop", "first", "behind"), zip(*group.pieces, strict=True), strict=True))
    asked = {"number": [number] * len(group.pieces), "folder": [group.folder] * len(group.pieces), **pieces}
    return pa.table({name: pa.array(values, pa.int32()) for name, values in asked.items()})


def _make_function_of_task(store: Store, builds: Sequence[BuildFolder], sha256: str) -> TableFunction:
    """`sha256` is that of the file beside the shards that numbers the domains. That file stays where another build of the plan
    ends meanwhile and removes what tasks share."""
    path = builds[0].file(DOMAIN_IDS)
    body = store.read(path)
    if hashlib.sha256(body).hexdigest() != sha256:
        raise InputError(f"{store.url}/{path}: damaged since it was written; run the same command again, which makes it anew")
    return make_join_function(store, builds, json.loads(body))


def make_join_function(store: Store, builds: Sequence[BuildFolder], domain_ids: Mapping[str, int]) -> TableFunction:
    """The function that takes the pieces of a group, a row each, and writes its part of the table of domains. It returns the
    `number` of the group, the `files` of the table as JSON, and the `sums` (rows, tokens, copies, most copies; domains) as bytes
    of int64."""

    def join(asked: pa.Table) -> pa.Table:
        build, pieces = builds[asked["folder"][0].as_py()], asked.select(["start", "stop", "first", "behind"]).to_pylist()
        with ThreadPoolExecutor(READERS) as pool:
            counts = pa.concat_tables(pool.map(lambda piece: _read_counts(store, build, **piece), pieces)).unify_dictionaries()
        domains = counts["domain"].combine_chunks()
        ids = np.array([domain_ids[name] for name in domains.dictionary.to_pylist()], np.int32)[domains.indices.to_numpy()]
        shard, rows, tokens, copies, most = (counts[name].to_numpy() for name in COUNTS_SCHEMA.names if name != "domain")
        sums = np.zeros((4, len(domain_ids)), np.int64)
        for sum_, values in zip(sums[:3], (rows, tokens, copies), strict=True):
            np.add.at(sum_, ids, values)
        np.maximum.at(sums[3], ids, most)
        wanted = np.concatenate([np.arange(piece["first"], piece["behind"]) for piece in pieces])
        ends = np.append(np.searchsorted(shard, wanted), len(shard)).astype(np.int32)
        lists = [
            pa.ListArray.from_arrays(ends, pa.array(values), type=kind.type)
            for values, kind in zip((ids, rows, tokens), DOMAIN_SCHEMA, strict=True)
        ]
        files = write_rows(store, _cut(pa.table(lists, schema=DOMAIN_SCHEMA), len(domain_ids)))
        said = canonical_json([vars(file) for file in files]).decode()
        return pa.table({"number": asked["number"].slice(0, 1), "files": [said], "sums": pa.array([sums.tobytes()], pa.binary())})

    return join


def _cut(table: pa.Table, domains: int) -> Iterator[pa.Table]:
    """The table in pieces; a file of a table ends behind one of them."""
    each = max(1, (1 << 18) // domains)
    return (table.slice(at, each) for at in range(0, len(table), each))


def _read_counts(store: Store, build: BuildFolder, start: int, stop: int, first: int, behind: int) -> pa.Table:
    counts = read_table(store, build.domain_counts_of(range(start, stop)))
    begin, end = np.searchsorted(counts["shard"].to_numpy(), [first, behind])
    return counts.slice(begin, end - begin)
