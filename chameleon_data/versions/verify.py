"""Proof from the stored bytes alone that a version is what its manifest says; `checks` holds the single proofs.

Every file is read once, in ranges of shards that are proved by themselves (`verify_shards.py`), anywhere and in any order; what
was found joins in the order of the shards. Proved of the bytes:

    files      size, sha256, and the name that the recipe gives; indexes say what the shards do; nothing else lies beside them
    rows       the same in all formats; texts have the hash of their `doc_id`; each lies in the split where its hash belongs;
               `domain_id` is the domain's number, and `doc_starts` are where documents begin
    balance    each domain keeps its bound in the whole, in every stage and shard, and after every row of a stage; domains
               interleave as planned
    order      each domain's rows follow the order of hashes, and every epoch holds the documents that the survey counted
    copies     with `dedup`, no document stands twice

Proved of the manifest: quotas, totals, digests, and the books of rows. What the bytes do not say is in
docs/decisions/061-what-verify-cannot-prove.md; `against_corpus.py` proves it with the corpus at hand.

Memory of a task: two shards in each format. Of the process that asks: some 400 bytes a domain for each stretch of shards that is
not joined yet, and what the indexes say. Cost: about 160 MB of text a second and core, and with `dedup` a second more for 3
million documents. Why: docs/decisions/161-verify-in-ranges.md.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice, product

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from chameleon_data.arrays import I64
from chameleon_data.shards.formats.files import IndexEntry
from chameleon_data.shards.formats.registry import FORMATS
from chameleon_data.shards.rows import encode_domain_ids
from chameleon_data.store.paths import DOMAIN_IDS
from chameleon_data.store.store import Store
from chameleon_data.versions.checks.balance import Balance, BalanceFound, Deviation, describe_balance, find_broken_bounds
from chameleon_data.versions.checks.books import check_manifest, check_shard_table
from chameleon_data.versions.checks.copies import count_hash_bits, describe_copies
from chameleon_data.versions.checks.problems import ProblemList
from chameleon_data.versions.checks.split_facts import SplitFacts
from chameleon_data.versions.checks.text_order import Cuts, TextFound, conclude_texts
from chameleon_data.versions.checks.token_order import TokensFound, conclude_tokens
from chameleon_data.versions.manifest import Manifest
from chameleon_data.versions.proof_files import ShardRange, SplitEnd, share_cuts, share_ends, share_manifest, share_ranges
from chameleon_data.versions.shard_table import read_shard_rows
from chameleon_data.versions.streaming import StreamTables, TableFunction, stream_here
from chameleon_data.versions.verify_shards import (
    RangeFound,
    make_copy_finder,
    make_end_finder,
    make_range_check,
    make_range_sum,
    unpack_found,
)

PROOF_RANGE_BYTES, MOST_PROOF_RANGES = 64 << 20, 1024
"""Bytes of the shards of a range, or more where there would be more ranges than that."""
FILES_COMPARED = 1 << 16
"""Files that are compared at once with those that a version lists."""


@dataclass(frozen=True)
class Verification:
    """What `verify` found."""

    problems: tuple[str, ...]
    """One sentence each, of each check the first ones, then how many more there are; empty where everything holds."""
    files: int
    """Files of shards that the manifest lists."""
    rows: int
    """Rows that were read, each in one format."""
    bytes: int
    """Bytes that were read."""
    whole: Deviation
    """The domain that is furthest from its quota, of all splits."""
    shard: Deviation
    """The worst shard of all splits."""
    prefix: Deviation
    """The worst row of all splits."""
    by_domain: dict[str, Deviation]
    """The worst row of each domain in the train split."""
    total: int = 0
    """Problems, those without a sentence too."""

    @property
    def ok(self) -> bool:
        """Whether everything holds."""
        return not self.problems


def fits_one_range(manifest: Manifest) -> bool:
    """Whether the proof is so little work that nobody else needs to help."""
    return sum(sums.bytes for sums in manifest.formats.values()) <= PROOF_RANGE_BYTES


def verify_version(
    store: Store,
    manifest: Manifest,
    progress: Callable[[int, int], object] = lambda done, total: None,
    stream: StreamTables = stream_here,
    scratch: Store | None = None,
) -> Verification:
    """Prove a version. Problems are collected, not raised, so that one run names them all.

    `progress` is called with (bytes done, all bytes). `stream` runs the proofs of ranges. What its tasks share goes to `scratch`,
    which all processes must see; None: a folder of this machine.
    """
    problems, total = ProblemList(), sum(sums.bytes for sums in manifest.formats.values())
    facts = {split: SplitFacts(split, manifest) for split in manifest.shard_counts}
    progress(0, total)
    with ExitStack() as stack:
        if scratch is None:
            scratch = Store(stack.enter_context(tempfile.TemporaryDirectory(prefix="chameleon-")))
        share_manifest(scratch, manifest)
        ranges, last_shards = plan_ranges(store, scratch, facts, stream)
        cuts = _find_ends(store, scratch, facts, last_shards, stream)
        share_cuts(scratch, cuts)
        numbered = share_ranges(scratch, ranges)
        found = _join_ranges(partial(make_range_check, store, scratch, numbered), ranges, facts, stream, progress)
        if manifest.recipe.input.dedup != "none":
            whole = [split for split, one in found.items() if one.rows and facts[split].length is None]
            problems.add("copies", _find_copies(scratch, manifest, whole, stream))
    balances = {split: _conclude_split(store, facts[split], cuts[split], one, problems) for split, one in found.items()}
    problems.add("manifest", check_manifest(manifest))
    problems.add("table of shards", check_shard_table(store, manifest))
    for folder in manifest.builds:
        numbers = encode_domain_ids(manifest.domain_ids)
        problems.add("indexes", _check_index(store, f"{folder}/{DOMAIN_IDS}", numbers, "the manifest says"))
    problems.add("foreign files", _find_foreign_files(store, manifest))
    by_split = [balances[split] for split in manifest.shard_counts]
    return Verification(
        tuple(problems.sentences()),
        sum(sums.files for sums in manifest.formats.values()),
        sum(one.rows for one in found.values()),
        sum(one.bytes_read for one in found.values()),
        _worst(balance.whole for balance in by_split),
        _worst(balance.shard for balance in by_split),
        _worst(deviation for balance in by_split for deviation in balance.prefix),
        {deviation.domain: deviation for deviation in by_split[0].prefix},
        problems.total,
    )


def _worst(deviations: Iterable[Deviation]) -> Deviation:
    return max(deviations, key=lambda deviation: deviation.share)


def plan_ranges(
    store: Store, scratch: Store, facts: Mapping[str, SplitFacts], stream: StreamTables
) -> tuple[list[ShardRange], dict[str, I64]]:
    """The shards in ranges, each of one split; and for each split (domains,) the place in the table of the last shard that has
    rows of the domain, -1 for none. Rows of a split that the manifest does not name are in no range."""
    drafts = _divide_shards(store, facts)
    held = [np.zeros_like(facts[draft.split].quotas) for draft in drafts]
    last = {split: np.full(len(one.names), -1, np.int64) for split, one in facts.items()}
    asked = [pa.table({"number": [n], "split": [d.split], "start": [d.start], "stop": [d.stop]}) for n, d in enumerate(drafts)]
    for answer in stream(partial(make_range_sum, store, scratch), asked):
        number = answer["number"][0].as_py()
        held[number][:] = np.frombuffer(answer["held"][0].as_py(), np.int64).reshape(held[number].shape)
        of_split = last[drafts[number].split]
        np.maximum(of_split, np.frombuffer(answer["last"][0].as_py(), np.int64), out=of_split)
    before = {split: np.zeros_like(one.quotas) for split, one in facts.items()}
    ranges = list[ShardRange]()
    for draft, own in zip(drafts, held, strict=True):
        ranges.append(replace(draft, held=before[draft.split].copy()))
        before[draft.split] += own
    return ranges, last


def _divide_shards(store: Store, facts: Mapping[str, SplitFacts]) -> list[ShardRange]:
    """The ranges, which do not say yet what is before them."""
    manifest, nothing = next(iter(facts.values())).manifest, np.zeros((0, 0), np.int64)
    target = max(PROOF_RANGE_BYTES, sum(sums.bytes for sums in manifest.formats.values()) // MOST_PROOF_RANGES)
    drafts, at = list[ShardRange](), 0
    for table in read_shard_rows(store, manifest):
        sizes = _sum_lists(table["files"], pc.struct_field(_flatten(table["files"]), "bytes").to_numpy())
        for split, size in zip(table["split"].to_pylist(), sizes.tolist(), strict=True):
            last = drafts[-1] if drafts else None
            if split not in facts:
                pass
            elif last and last.split == split and last.stop == at and last.bytes < target:
                drafts[-1] = replace(last, stop=at + 1, bytes=last.bytes + size)
            else:
                drafts.append(ShardRange(len(drafts), split, at, at + 1, size, nothing))
            at += 1
    return drafts


def _flatten(column: pa.ChunkedArray) -> pa.Array:
    return pc.list_flatten(column).combine_chunks()


def _lengths(column: pa.ChunkedArray) -> I64:
    lengths: I64 = pc.list_value_length(column).to_numpy().astype(np.int64)
    return lengths


def _sum_lists(column: pa.ChunkedArray, values: I64) -> I64:
    """(rows,) sums of the values of each list."""
    ends = np.cumsum(_lengths(column))
    sums: I64 = np.diff(np.append(0, np.append(0, np.cumsum(values))[ends]))
    return sums


def _find_ends(
    store: Store, scratch: Store, facts: Mapping[str, SplitFacts], last_shards: Mapping[str, I64], stream: StreamTables
) -> dict[str, Cuts]:
    """Where the last epoch of each domain ends, for domains whose documents are repeated, and not all of them as often."""
    cuts, asked = {split: Cuts.unknown(len(one.names)) for split, one in facts.items()}, list[SplitEnd]()
    for split, one in facts.items():
        records = one.records.values()
        cut = np.array([d.tokens > d.available_tokens and d.tokens % d.available_tokens > 0 for d in records], bool)
        wanted = np.flatnonzero(cut & (last_shards[split] >= 0)) if one.length is None else np.zeros(0, np.int64)
        for shard in np.unique(last_shards[split][wanted]).tolist():
            asked.append(SplitEnd(split, shard, wanted[last_shards[split][wanted] == shard]))
    if not asked:
        return cuts
    ends = share_ends(scratch, asked)
    for answer in stream(partial(make_end_finder, store, scratch, ends), _numbers(len(asked))):
        for split, domain, epoch, rank in zip(*(answer[name].to_pylist() for name in answer.column_names), strict=True):
            cuts[split].epoch[domain], cuts[split].rank[domain] = epoch, rank
    return cuts


def _numbers(count: int) -> list[pa.Table]:
    """What tasks are asked: a table each, with a number."""
    return [pa.table({"number": [number]}) for number in range(count)]


def _join_ranges(
    make: Callable[[], TableFunction],
    ranges: Sequence[ShardRange],
    facts: Mapping[str, SplitFacts],
    stream: StreamTables,
    progress: Callable[[int, int], object],
) -> dict[str, RangeFound]:
    """What was found in each split. Stretches join with their neighbours as they come."""
    done, total = 0, sum(one.bytes for one in ranges)
    stretches: dict[int, tuple[int, RangeFound]] = {}
    """First range -> range behind the last one, and what was found."""
    ends: dict[int, int] = {}
    """Range behind the last one of a stretch -> its first."""
    for answer in stream(make, _numbers(len(ranges))):
        number, found = unpack_found(answer)
        start, stop = number, number + 1
        if start in ends and stretches[ends[start]][1].split == found.split:
            start = ends.pop(start)
            _, before = stretches.pop(start)
            before.join(facts[found.split], found)
            found = before
        if stop in stretches and stretches[stop][1].split == found.split:
            stop, later = stretches.pop(stop)
            del ends[stop]
            found.join(facts[found.split], later)
        stretches[start], ends[stop] = (stop, found), start
        done += ranges[number].bytes
        progress(done, total)
    joined: dict[str, RangeFound] = {}
    for _, (_, found) in sorted(stretches.items()):
        if found.split in joined:  # the table is forged: a split stands in it twice
            joined[found.split].join(facts[found.split], found)
        else:
            joined[found.split] = found
    for split, one in facts.items():  # a split of which the table, which is forged, has no shard
        joined.setdefault(
            split, RangeFound(split, BalanceFound.before(np.zeros_like(one.quotas)), TextFound.nothing(len(one.names)))
        )
    return joined


def _find_copies(scratch: Store, manifest: Manifest, splits: Sequence[str], stream: StreamTables) -> list[str]:
    """Documents that stand twice in the first epoch of a split."""
    said = []
    for split in splits:
        groups = [pa.table({"split": [split], "group": [group]}) for group in range(1 << count_hash_bits(manifest))]
        answers = [answer.to_pylist()[0] for answer in stream(partial(make_copy_finder, scratch), groups)]
        example = min((answer["example"] for answer in answers if answer["copies"]), default="")
        said += describe_copies(manifest, sum(answer["copies"] for answer in answers), example)
    return said


def _conclude_split(store: Store, facts: SplitFacts, cuts: Cuts, found: RangeFound, problems: ProblemList) -> Balance:
    """What can be said once every shard of a split was read."""
    problems.join(found.problems)
    if facts.length is None:
        conclude_texts(facts, cuts, found.texts, problems)
    else:
        for index in range(len(facts.names)):
            conclude_tokens(facts, index, found.tokens.get(index, TokensFound()), problems)
    balance = describe_balance(facts, found.balance)
    problems.add("bounds", find_broken_bounds(facts, balance))
    problems.add("indexes", _check_indexes(store, facts.manifest, facts.split, found.entries))
    return balance


def _check_indexes(store: Store, manifest: Manifest, split: str, entries: Mapping[str, Sequence[IndexEntry]]) -> list[str]:
    """A trainer decodes by what an index says of the shards, so it must be, byte for byte, what the shards say. `entries`: folder
    of a format -> what its index must say of each shard."""
    problems = []
    for folder in manifest.shards_by_build(split):
        for format in manifest.recipe.shards.formats:
            of_format = f"{folder}/{format}"
            for name, expected in FORMATS[format].index(split, entries.get(of_format, [])).items():
                path = f"{of_format}/{name}"
                problems += _check_index(store, path, expected, "the bytes of the shards say, in their order")
    return problems


def _check_index(store: Store, path: str, expected: bytes, who: str) -> list[str]:
    if not store.exists(path):
        return [f"{path}: missing"]
    return [] if store.read(path) == expected else [f"{path}: does not say what {who}"]


def _find_foreign_files(store: Store, manifest: Manifest) -> list[str]:
    """Files in the folders that trainers read, but not of this version."""
    formats, foreign = sorted(manifest.recipe.shards.formats), list[str]()
    indexes = [
        f"{folder}/{format}/{name}"
        for format in formats
        for split in manifest.shard_counts
        for folder in manifest.shards_by_build(split)
        for name in FORMATS[format].index(split, [])
    ]
    shards = [pc.struct_field(_flatten(table["files"]), "path") for table in read_shard_rows(store, manifest)]
    known = pa.concat_arrays([pa.array(indexes, pa.string()), *shards])
    for folder, format in product(manifest.builds, formats):
        listed, of_format = store.walk(f"{folder}/{format}"), list[str]()
        while some := [path for path, _ in islice(listed, FILES_COMPARED)]:
            of_format += pc.filter(pa.array(some), pc.invert(pc.is_in(pa.array(some), known))).to_pylist()
        foreign += sorted(of_format)
    return [f"{path}: this file is not part of this version" for path in foreign]
