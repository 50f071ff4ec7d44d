"""A corpus of 60 TB without the corpus: 10,000 domains, 10^6 files, 10^6 shards, 3 × 10^10 rows, with counts that are drawn.

    python -m tests.bench.scale          every step in a process of its own, and the model of the passes
    python -m tests.bench.scale STEP     one step in this process

The steps run the code of the driver, or of one task, on tables that are drawn and never read from a corpus:

    parts        the driver: files are grouped in parts, and the list of parts is written
    totals       the driver: the counts of 1,024 ranges of hashes add up to the counts of the domains
    plan         the driver: quotas, phases and the number of shards
    shards       the driver: the table of a million shards, of which each holds 8 domains
    wide         the same of 2,000 shards that hold each of the 10,000 domains, as a real mixture of such a size would
    inputs       the driver: the table of a million files
    range        one task: the rows of one of 1,024 ranges are counted

What the passes take on 64, 512 and 4,096 cores is modelled by `pipelines/cost.py` from the rates that come with it.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import numpy as np

from chameleon_data.corpus.copies import COPIES_SCHEMA
from chameleon_data.corpus.fragments import Fragment
from chameleon_data.corpus.parts import split_parts, write_part_list
from chameleon_data.corpus.row_records import ROWS_IN_RANGE, RowRecords, range_bits
from chameleon_data.corpus.sample import make_sample_spec
from chameleon_data.corpus.selection import _COUNTED, MOST_BUCKETS, RangedCorpus, SelectionRules, _Totals, count_records
from chameleon_data.corpus.tokens import TokenCounter
from chameleon_data.jobs.cli import OWN_PRICES
from chameleon_data.pipelines.cost import BuildSize, estimate_cost, read_prices, read_rates
from chameleon_data.plan.plan import TRAIN, DomainCount, StageTarget, make_plan
from chameleon_data.recipe import Embed, Input, Source
from chameleon_data.store.store import Store
from chameleon_data.versions.corpus_tables import InputFile, write_input_table
from chameleon_data.versions.shard_table import ShardFile, ShardRecord, write_shard_table
from tests.bench.figures import Figure, show
from tests.support.paths import ROOT

DOMAINS, FILES, SHARDS, ROWS, BYTES = 10_000, 10**6, 10**6, 3 * 10**10, 60 * 10**12
NAMES = [f"domain-{number:05d}" for number in range(DOMAINS)]
WIDE = 2_000
"""Shards that hold every domain."""
MOST_BYTES, MOST_SECONDS = 8 * 2**30, 600
"""What the driver may take for all steps together."""
CORES = (64, 512, 4_096)


def corpus() -> RangedCorpus:
    bits, rows = range_bits(ROWS), ROWS // DOMAINS
    depth = max(bits, min(12, (MOST_BUCKETS // DOMAINS).bit_length() - 1))
    assert rows
    groups = tuple(range(ROWS // ROWS_IN_RANGE + 2))
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


def plan() -> None:
    counts = count_domains()
    budget = sum(c.tokens for c in counts)
    weights = {c.name: f"{1 / DOMAINS:.4f}" for c in counts}
    made = make_plan(
        counts,
        [StageTarget(int(budget * 0.9), weights)],
        max_epochs=1,
        exhausted="redistribute",
        shard_bytes=BYTES // SHARDS,
        seed=0,
        hash="text",
        writer={},
    )
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


def _shards(count: int, domains: int) -> Iterator[ShardRecord]:
    for number in range(count):
        names = [NAMES[(number * domains + i) % DOMAINS] for i in range(domains)]
        files = tuple(
            ShardFile(f"builds/{'0' * 64}/{form}/{number}", form, 60_000_000, f"{number:064x}") for form in ("parquet", "mds")
        )
        held = dict.fromkeys(names, 3)
        yield ShardRecord(TRAIN, number, 30_000, 60_000_000, f"{number:064x}", held, held, files)


def _write_shards(count: int, domains: int) -> None:
    ids = {name: number for number, name in enumerate(NAMES)}
    with tempfile.TemporaryDirectory() as folder:
        write_shard_table(Store(folder), _shards(count, domains), ids)


def shards() -> None:
    _write_shards(SHARDS, 8)


def wide() -> None:
    _write_shards(WIDE, DOMAINS)


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
    rules = SelectionRules("none", False, 0, None, 0)
    each, groups = ROWS_IN_RANGE // ranges.ranges, ROWS // ROWS_IN_RANGE + 1

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
    "parts": parts, "totals": totals, "plan": plan, "shards": shards, "wide": wide, "inputs": inputs, "range": count_range,
}  # fmt: skip
OF_DRIVER = ("parts", "plan", "shards", "inputs")
"""Steps of one build's driver; `plan` contains `totals`, and `wide` is another form of `shards`."""


def measure(step: str) -> tuple[float, int]:
    """Seconds and peak bytes of a step in a process of its own, without Python's start and imports."""
    done = subprocess.run([sys.executable, "-m", "tests.bench.scale", step], capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{step}: {done.stderr[-2000:]}")
    found = json.loads(done.stdout)
    return found["seconds"], found["bytes"]


def size_of_build() -> BuildSize:
    """Of a build of 60 TB: parts of a file each, no rows kept, Parquet alone."""
    return BuildSize(
        stored=BYTES // 3, text=BYTES, rows=ROWS, files=FILES, parts=FILES, kept_parts=0, windows=DOMAINS * 256, shards=SHARDS,
        written=int(BYTES * 0.9), formats=("parquet",), tokenizer=False,
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
    figures.append(Figure("the driver's steps together", seconds, "s", MOST_SECONDS, "plan, parts, shards, inputs", True))
    figures.append(Figure("the driver's memory", memory / 2**30, "GiB", MOST_BYTES / 2**30, "of the largest step", True))
    return [*figures, *(figure for cores in CORES for figure in model(cores))]


def main() -> None:
    if not sys.argv[1:]:
        show(run())
        return
    began = time.perf_counter()
    STEPS[sys.argv[1]]()
    found = {"seconds": time.perf_counter() - began, "bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
