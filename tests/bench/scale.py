"""A corpus of 60 TB without the corpus: 10,000 domains, 10^6 files, 10^6 shards, 3 × 10^10 rows, with counts that are drawn.

    python -m tests.bench.scale          every step in a process of its own, and the model of the passes
    python -m tests.bench.scale STEP     one step in this process

The steps run the code of the driver, or of one task, on tables that are drawn and never read from a corpus:

    parts        the driver: files are grouped in parts, and the list of parts is written
    totals       the driver: the counts of 1,024 ranges of hashes add up to the counts of the domains
    plan         the driver: quotas, phases and the number of shards
    sketch       the driver: the layout of 256 super-ranges as far as histograms say it
    cuts         the driver: what 1,024 tasks found where bounds cut buckets adds up to the layout
    receipts     the driver: 62,500 receipts of a million shards become the table of shards, its digests, and sums by domain
    join         one task: what 208 shards hold of each of the 10,000 domains becomes a part of the table of domains
    inputs       the driver: the table of a million files
    table        the driver of verify: ranges are planned, and the table of a million shards is compared with the plan
    add up       one task of verify: what 976 shards hold of each of the 10,000 domains is added up
    merge        the driver of verify: what 1,024 tasks found of 10,000 domains joins
    range        one task: the rows of one of 1,024 ranges of hashes are counted
    cut          one task: the documents of one of 1,024 ranges of hashes are compared with the bounds of 256 super-ranges
    exchange     one task: the records of 2^24 rows, as a task puts them in order at the next level, are numbered and sorted

What the passes take on 64, 512 and 4,096 cores is modelled by `pipelines/cost.py` from the rates that come with it.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import cast

import numpy as np
import pyarrow as pa

from chameleon_data.corpus.copies import COPIES_SCHEMA
from chameleon_data.corpus.fragments import Fragment
from chameleon_data.corpus.parts import LARGEST_PART_BYTES, split_parts, write_part_list
from chameleon_data.corpus.row_records import MOST_ROWS_IN_GROUP, READ_ROWS, RowRecords, range_bits
from chameleon_data.corpus.sample import make_sample_spec
from chameleon_data.corpus.selection import _COUNTED, MOST_BUCKETS, RangedCorpus, SelectionRules, _Totals, count_records
from chameleon_data.corpus.tokens import TokenCounter
from chameleon_data.jobs.cli import OWN_PRICES
from chameleon_data.pipelines.cost import BuildSize, ExchangeSize, SelectionSize, estimate_cost, read_prices, read_rates
from chameleon_data.plan.copies import number_copies
from chameleon_data.plan.cuts import Documents, SlotCuts, cut_slots, finish_layout, in_cut_slots, sum_cuts
from chameleon_data.plan.layout import Layout, sketch_layout
from chameleon_data.plan.plan import TRAIN, DomainCount, Plan, StageTarget, make_plan
from chameleon_data.recipe import Embed, Input, Source
from chameleon_data.shards.grouping import MOST_RANGES, begin_ranges, divide_shards
from chameleon_data.shards.lay_out import ROWS_DIVIDED
from chameleon_data.shards.levels import EXCHANGED_BYTES
from chameleon_data.shards.receipts import COUNTS_SCHEMA, RECEIPT_SCHEMA
from chameleon_data.store.checksummed import write_table
from chameleon_data.store.paths import BuildFolder, table_path
from chameleon_data.store.store import Store
from chameleon_data.versions.checks.balance import BalanceFound
from chameleon_data.versions.checks.books import check_shard_table
from chameleon_data.versions.checks.split_facts import SplitFacts
from chameleon_data.versions.checks.text_order import OPEN, SUMS, TextFound
from chameleon_data.versions.corpus_tables import InputFile, write_input_table
from chameleon_data.versions.proof_files import ShardRange, share_manifest
from chameleon_data.versions.shard_table import SHARD_SCHEMA, sum_shards
from chameleon_data.versions.streaming import TableFunction
from chameleon_data.versions.tables import read_rows
from chameleon_data.versions.verify import _join_ranges, plan_ranges
from chameleon_data.versions.verify_shards import RangeFound, make_range_sum
from chameleon_data.versions.written import COUNTS_IN_GROUP, gather_written, make_join_function
from tests.bench.figures import Figure, show
from tests.support.large_versions import write_large_version
from tests.support.paths import ROOT

DOMAINS, FILES, SHARDS, ROWS, BYTES = 10_000, 10**6, 10**6, 3 * 10**10, 60 * 10**12
NAMES = [f"domain-{number:05d}" for number in range(DOMAINS)]
MOST_BYTES, MOST_SECONDS = 8 * 2**30, 600
"""What the driver may take for all steps together."""
CORES = (64, 512, 4_096)


_not_counted = [0.0]


@contextmanager
def untimed() -> Iterator[None]:
    """What happens meanwhile draws what a step works on, and is not part of its seconds."""
    began = time.perf_counter()
    yield
    _not_counted[0] += time.perf_counter() - began


def corpus() -> RangedCorpus:
    bits, rows = range_bits(ROWS), ROWS // DOMAINS
    depth = max(bits, min(12, (MOST_BUCKETS // DOMAINS).bit_length() - 1))
    assert rows
    groups = tuple(range(ROWS // MOST_ROWS_IN_GROUP + 2))
    return RangedCorpus(tuple(NAMES), (depth,) * DOMAINS, bits, groups, (0,), (0,))


def count_domains() -> tuple[DomainCount, ...]:
    """The counts of all domains, added up from ranges whose counts are drawn."""
    ranges, drawn = corpus(), np.random.default_rng(0)
    totals = _Totals(ranges)
    buckets = 1 << (ranges.depths[0] - ranges.bits)
    for number in range(ranges.ranges):
        rows = drawn.poisson(ROWS / DOMAINS / ranges.ranges / buckets, DOMAINS * buckets).astype(np.int64)
        tokens = rows * (BYTES // ROWS)
        table = np.zeros((len(_COUNTED), DOMAINS), np.uint64)
        table[0], table[1] = (a.reshape(DOMAINS, buckets).sum(1).astype(np.uint64) for a in (rows, tokens))
        table[2], table[3] = table[1], np.full(DOMAINS, 1_000_000, np.uint64)
        totals.add(number, list(table), [rows, tokens])
    return totals.counts()


def _plan(counts: Sequence[DomainCount]) -> Plan:
    budget = sum(c.tokens for c in counts)
    weights = {c.name: f"{1 / DOMAINS:.4f}" for c in counts}
    return make_plan(
        counts,
        [StageTarget(int(budget * 0.9), weights)],
        max_epochs=1,
        exhausted="redistribute",
        shard_bytes=BYTES // SHARDS,
        seed=0,
        hash="text",
        writer={},
    )


def plan() -> None:
    made = _plan(count_domains())
    assert len(made.digest) == 64
    assert 0.5 * SHARDS < made.shards < 2 * SHARDS, made.shards


def parts() -> None:
    source, stored = Source(path=("s3://bucket/corpus/*",)), BYTES // FILES // 3
    fragments = {
        name: tuple(
            Fragment(name, f"s3://bucket/{name}/{number:06d}.jsonl.zst", "jsonl", "zstd", 0, None, stored, f"{number:x}")
            for number in range(FILES // 100)
        )
        for name in NAMES[:100]
    }  # fmt: skip
    made = split_parts(fragments, dict.fromkeys(fragments, source), Input(), make_sample_spec(Embed(), 0), TokenCounter("bytes"))
    with tempfile.TemporaryDirectory() as folder:
        write_part_list(Store(folder), made)


def sketched() -> tuple[Layout, tuple[DomainCount, ...]]:
    """The layout of all domains in super-ranges, before documents are looked at."""
    counts = count_domains()
    made = _plan(counts)
    return sketch_layout(made, counts, begin_ranges(0, made.shards, -(-made.shards // MOST_RANGES))), counts


def sketch() -> None:
    assert sketched()[0].ranges == MOST_RANGES


def _documents(layout: Layout, share: float = 1.0) -> Documents:
    """The documents, or a share of them, of one of 1,024 ranges of hashes that lie in cut slots, with drawn hashes; gathered a
    million rows at a time, as a task does (`pipelines/lay_out.py`)."""
    drawn, left, found = np.random.default_rng(0), int(ROWS * share) // 1024, list[Documents]()
    while left:
        rows = min(left, READ_ROWS)
        hi, domain = drawn.integers(0, 2**54, rows, np.uint64), drawn.integers(0, DOMAINS, rows)
        part, tokens = drawn.integers(0, 58_000, rows), drawn.integers(1_000, 3_000, rows)
        some = Documents(part, domain, hi, drawn.integers(0, 2**64, rows, np.uint64), tokens)
        found.append(some.take(in_cut_slots(layout.slots, domain, hi)))
        left -= rows
    return Documents.concatenate(found)


def cut() -> None:
    layout, _ = sketched()
    assert len(cut_slots(layout, _documents(layout)).segments.slot) > DOMAINS // 10


def cuts() -> None:
    """The findings of one task stand for those of all, each in the slots of its own range of hashes. They have as many bounds as
    all documents would give, from a part of these, so that the memory is the driver's."""
    layout, _ = sketched()
    one = cut_slots(layout, _documents(layout, 1 / 16))
    buckets = np.int64(1) << layout.slots.depth[0]

    def of_range(number: int) -> SlotCuts:
        return replace(one, segments=replace(one.segments, slot=one.segments.slot + number * buckets // 1024))

    finished = finish_layout(layout, sum_cuts(layout, [of_range(number) for number in range(1024)]))
    assert finished.ranges == MOST_RANGES


def exchange() -> None:
    drawn, rows = np.random.default_rng(0), ROWS_DIVIDED
    hi, lo = drawn.integers(0, 2**64, (2, rows), np.uint64)
    domain = drawn.integers(0, DOMAINS // 7, rows)
    assert number_copies(domain, hi, lo).max() == 0
    assert len(np.lexsort((lo, hi, domain))) == rows


BUILD = BuildFolder("0" * 64, SHARDS, "corpus")
RECEIPT_SHARDS = 16
"""As many shards has a range of 60 TB."""
FORMS = ("parquet", "mds")


class _Listed(Store):
    """A store that says that the files of shards and the counts by domain are there; they are not."""

    def walk(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        yield from ((BUILD.file(f"{form}/{number:07d}"), 60_000_000) for number in range(SHARDS) for form in FORMS)
        yield from ((BUILD.domain_counts_of(span), 1) for span in _spans())


def _spans() -> list[range]:
    return [range(first, min(first + RECEIPT_SHARDS, SHARDS)) for first in range(0, SHARDS, RECEIPT_SHARDS)]


def _draw_receipt(shards: range) -> pa.Table:
    def describe(n: int) -> tuple[object, ...]:
        files = [{"path": f"{form}/{n:07d}", "format": form, "bytes": 60_000_000, "sha256": f"{n:064x}"} for form in FORMS]
        return n, TRAIN, n, 30_000, 60_000_000, f"{n:064x}", files, "{}"

    columns = zip(*map(describe, shards), strict=True)
    arrays = [pa.array(column, kind.type) for column, kind in zip(columns, RECEIPT_SCHEMA, strict=True)]
    return pa.table(arrays, schema=RECEIPT_SCHEMA)


def receipts() -> None:
    """The driver of a build. Each shard holds every domain; what tasks find in groups of shards is drawn, and `join` is one."""

    def stream(make: Callable[[], TableFunction], tables: Sequence[pa.Table]) -> Iterator[pa.Table]:
        found = np.ones((4, DOMAINS), np.int64)
        said = json.dumps([{"path": table_path("0" * 64), "rows": RECEIPT_SHARDS, "bytes": 30_000_000}] * 2)
        for number in range(len(tables)):
            yield pa.table({"number": [number], "files": [said], "sums": pa.array([found.tobytes()], pa.binary())})

    with tempfile.TemporaryDirectory() as folder:
        store = _Listed(folder)
        with untimed():
            for span in _spans():
                write_table(store, BUILD.receipt(span), _draw_receipt(span))
        one_stage = SimpleNamespace(first_stage=0, first_shard=0, stage_shards=(SHARDS,), stage_of=lambda _: 0)
        ids = {name: number for number, name in enumerate(NAMES)}
        written = gather_written(store, [BUILD], [cast(Plan, one_stage)], ids, stream, lambda *_: None)
        sums = sum_shards(partial(read_rows, store, written.shards, SHARD_SCHEMA), BUILD.folder)
        assert sums.formats["parquet"].files == SHARDS
        assert (written.sums[TRAIN].rows > 1).all()


def join() -> None:
    """One task: counts by domain of a group of shards, each of which holds every domain, become a part of their table."""
    receipts = COUNTS_IN_GROUP // DOMAINS // RECEIPT_SHARDS
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        spans = [range(first, first + RECEIPT_SHARDS) for first in range(0, receipts * RECEIPT_SHARDS, RECEIPT_SHARDS)]
        with untimed():
            drawn, size = np.random.default_rng(0), RECEIPT_SHARDS * DOMAINS
            domain = pa.DictionaryArray.from_arrays(pa.array(np.tile(np.arange(DOMAINS, dtype=np.int32), RECEIPT_SHARDS)), NAMES)
            for span in spans:
                shard = np.repeat(np.array(span, np.int32), DOMAINS)
                rows, tokens = drawn.poisson(3, size), drawn.poisson(6_000, size)
                columns = [shard, domain, rows, tokens, np.zeros(size, np.int64), np.zeros(size, np.int64)]
                write_table(store, BUILD.domain_counts_of(span), pa.table(columns, schema=COUNTS_SCHEMA))
        bounds = {"start": [span.start for span in spans], "stop": [span.stop for span in spans]}
        asked = pa.table({"number": [0] * len(spans), "folder": [0] * len(spans), **bounds, "first": bounds["start"],
                          "behind": bounds["stop"]})  # fmt: skip
        found = make_join_function(store, [BUILD], {name: number for number, name in enumerate(NAMES)})(asked)
        assert sum(file["rows"] for file in json.loads(found["files"][0].as_py())) == len(spans) * RECEIPT_SHARDS


def table() -> None:
    def stream(make: Callable[[], TableFunction], tables: Sequence[pa.Table]) -> Iterator[pa.Table]:
        held, last = np.ones((1, DOMAINS), np.int64), np.arange(DOMAINS)
        for number in range(len(tables)):
            found = {"held": held, "last": last}
            arrays = {name: pa.array([array.tobytes()], pa.binary()) for name, array in found.items()}
            yield pa.table({"number": [number], **arrays})

    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        with untimed():
            manifest = write_large_version(store, "large", DOMAINS, SHARDS, 1, domains_a_shard=0)
        ranges, _ = plan_ranges(store, store, {TRAIN: SplitFacts(TRAIN, manifest)}, stream)
        assert ranges[-1].stop == SHARDS
        assert check_shard_table(store, manifest), "what was drawn is no version"


def add_up() -> None:
    """One task of `verify`: what a range of shards holds of each domain is added up; each holds all of them."""
    shards = max(1, SHARDS // 1024)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        with untimed():
            manifest = write_large_version(store, "large", DOMAINS, shards, 1, domains_a_shard=DOMAINS)
            share_manifest(store, manifest)
        asked = pa.table({"number": [0], "split": [TRAIN], "start": [0], "stop": [shards]})
        found = make_range_sum(store, store)(asked)
        assert set(np.frombuffer(found["last"][0].as_py(), np.int64)) == {shards - 1}


def merge() -> None:
    with tempfile.TemporaryDirectory() as folder:
        manifest = write_large_version(Store(folder), "large", DOMAINS, 1024, 1)
    facts = SplitFacts(TRAIN, manifest)
    ranges = [ShardRange(number, TRAIN, number, number + 1, 64, np.zeros(DOMAINS, np.int64)) for number in range(1024)]

    def find(number: int) -> pa.Table:
        opened = np.zeros(2 * DOMAINS, OPEN)
        opened["domain"], opened["rows"], opened["shard"] = np.repeat(np.arange(DOMAINS), 2), 1, number
        opened["rank"] = (2 * number + np.tile([0, 1], DOMAINS)).astype(np.uint64)
        sums = np.zeros(DOMAINS, SUMS)
        sums["domain"], sums["rows"] = np.arange(DOMAINS), 3
        texts = replace(TextFound.nothing(DOMAINS), sums=sums, open=opened)
        balance = BalanceFound.before(np.full((1, DOMAINS), number))
        found = RangeFound(TRAIN, balance, texts, first_shard=number)
        return pa.table({"number": [number], "found": pa.array([found.pack()], pa.large_binary())})

    shuffled = np.random.default_rng(0).permutation(1024).tolist()
    told = _join_ranges(lambda: find, ranges, {TRAIN: facts}, lambda *_: map(find, shuffled), lambda *_: None)
    assert (told[TRAIN].texts.sums["rows"] == 3 * 1024).all()


def inputs() -> None:
    listed = (
        InputFile("web", f"s3://bucket/corpus/part-{number:07d}.jsonl.zst", "jsonl", "zstd", BYTES // FILES, f"{number:032x}")
        for number in range(FILES)
    )
    with tempfile.TemporaryDirectory() as folder:
        write_input_table(Store(folder), listed)


def count_range() -> None:
    """The rows of range 0, in the slices of all groups."""
    ranges, drawn = corpus(), np.random.default_rng(0)
    rules = SelectionRules("none", False, False, 0, None, 0)
    each, groups = MOST_ROWS_IN_GROUP // ranges.ranges, ROWS // MOST_ROWS_IN_GROUP + 1

    def records() -> Iterator[RowRecords]:
        for group in range(groups):
            hi, lo = drawn.integers(0, 2**64, (2, each), np.uint64)
            domain = drawn.integers(0, DOMAINS, each).astype(np.int32)
            tokens = drawn.integers(1, 4_000, each)
            yield RowRecords(np.full(each, group, np.int32), domain, hi >> np.uint64(ranges.bits), lo, tokens, tokens)

    counts = count_records(records(), COPIES_SCHEMA.empty_table(), rules, ranges, 0)
    assert int(counts[TRAIN].table[0].sum()) == each * groups


def totals() -> None:
    count_domains()


STEPS: dict[str, Callable[[], None]] = {
    "parts": parts, "totals": totals, "plan": plan, "sketch": sketch, "cuts": cuts, "receipts": receipts, "join": join,
    "inputs": inputs, "table": table, "add up": add_up, "merge": merge, "range": count_range, "cut": cut, "exchange": exchange,
}  # fmt: skip
OF_DRIVER = ("parts", "cuts", "receipts", "inputs", "table", "merge")
"""Steps of the driver of one build and of its `verify`. `cuts` contains `totals`, `plan` and `sketch`."""


def measure(step: str) -> tuple[float, int]:
    """Seconds and peak bytes of a step in a process of its own, without Python's start and imports."""
    done = subprocess.run([sys.executable, "-m", "tests.bench.scale", step], capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{step}: {done.stderr[-2000:]}")
    found = json.loads(done.stdout)
    return found["seconds"], found["bytes"]


def size_of_build() -> BuildSize:
    """Of a build of 60 TB: parts of 1 GiB, no rows kept, no copies dropped, Parquet alone."""
    written, size = int(BYTES * 0.9), BYTES // SHARDS
    first = -(-SHARDS // MOST_RANGES)
    small = (len(divide_shards(0, first, size) or ()) - 1) * MOST_RANGES
    domain_groups, part_groups = -(-ROWS // MOST_RANGES // ROWS_DIVIDED), -(-written // MOST_RANGES // EXCHANGED_BYTES)
    return BuildSize(
        stored=BYTES // 3, text=BYTES, rows=ROWS, files=FILES, parts=BYTES // 3 // LARGEST_PART_BYTES, kept_parts=0,
        windows=DOMAINS * 256, embedder="small transformer", shards=SHARDS,
        selection=SelectionSize(ROWS // MOST_ROWS_IN_GROUP, 1024, dedup=False),
        exchange=ExchangeSize(MOST_RANGES, MOST_RANGES, small, domain_groups, part_groups),
        written=written, formats=("parquet",), tokenizer=False,
    )  # fmt: skip


def model(cores: int) -> list[Figure]:
    rates, prices = read_rates(), read_prices(OWN_PRICES)
    figures = []
    for cost in estimate_cost(size_of_build(), rates, cores):
        requests = cost.read_requests + cost.write_requests
        moved = (cost.read + cost.moved + cost.written) / 1e12
        beside = (
            f"modelled: {requests:.2g} requests, {moved:.1f} TB, {cost.cpu_hours:,.0f} CPU hours, {cost.money(prices):,.0f} USD"
        )
        figures.append(Figure(f"{cost.name}, {cores:,} cores", cost.seconds / 3600, "h", None, beside))
    return figures


def run() -> list[Figure]:
    figures, seconds, memory = [], 0.0, 0
    for step in STEPS:
        taken, held = measure(step)
        if step in OF_DRIVER:
            seconds, memory = seconds + taken, max(memory, held)
        figures.append(Figure(step, taken, "s", None, f"{held / 2**30:.2f} GiB at its peak"))
    figures.append(Figure("the driver's steps together", seconds, "s", MOST_SECONDS, ", ".join(OF_DRIVER), True))
    figures.append(Figure("the driver's memory", memory / 2**30, "GiB", MOST_BYTES / 2**30, "of the largest step", True))
    return [*figures, *(figure for cores in CORES for figure in model(cores))]


def main() -> None:
    if not sys.argv[1:]:
        show(run())
        return
    began = time.perf_counter()
    STEPS[sys.argv[1]]()
    seconds, peak = time.perf_counter() - began - _not_counted[0], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {"seconds": seconds, "bytes": peak * 1024}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
