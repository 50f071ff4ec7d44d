"""What a build costs, before it is run: seconds, bytes, requests and money of each pass.

A pass takes `fixed` seconds, whatever the machine, and a number of core-seconds for each GB of text, which its tasks share:

    seconds = fixed + gigabytes × rate / min(CPUs, tasks)        CPU hours = (fixed + gigabytes × rate) / 3600

The rates are measured on a machine by `make bench`, which writes them as a file, or are those of `rates.json` here. Bytes and
requests follow from the plan; `python -m tests.bench.requests` counts them on the wire. Requests are those of an object store; a
folder of this machine has as many opened files. Left out are some 60 requests of any build: a probe, active records, the commit.
Money is these numbers times the prices of a file that a person edits. Error on the demo and on 200 MB:
docs/decisions/167-cost-before.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from chameleon_data.corpus.read_ahead import AHEAD_BYTES
from chameleon_data.errors import InputError, explain_errno, explaining, list_some
from chameleon_data.recipe import say_fault
from chameleon_data.shards.runs import RECORD_FILE_BYTES, RUN_BYTES
from chameleon_data.weights.embedder import EmbedderKind

RATES_FORMAT = 2
OWN_RATES = Path(__file__).with_name("rates.json")
"""Rates that were measured while this was written; the file says on which machine."""
OPEN_REQUESTS, LOOK_REQUESTS = 1, 2
"""Requests to open a file of the corpus, beside those of its blocks; and to look at its start while it is listed."""
PART_REQUESTS, SPILL_REQUESTS = 8, 5
"""Requests of the driver for what the survey left of a part; and of a task that reads a part again, for what it has to know."""
RECORD_BYTES, SENT_RECORD_BYTES = 26, 44
"""Bytes of a row's record in the survey, and of one on its way to ranges that are divided."""
RANGED_RECORD_BYTES = 40
"""Bytes of a row's record once it lies by range of its hash."""
SLICE_REQUESTS = 2
"""Requests of a task for each sliced file: its part of the index, and the rows."""
SORT_SECONDS, COUNT_SECONDS, CUT_SECONDS, DIVIDE_SECONDS = 3e-7, 2e-7, 1.3e-6, 1e-6
"""Core-seconds for a row: to sort its record by hash, to count it, to compare it with bounds, and to put it in order in its
range. See docs/scale.md."""
EXCHANGE_SECONDS = 5.0
"""Core-seconds to send 10^9 bytes of rows further: they are read, put in order and written, and not encoded. Guessed."""
TIMED_WITH = {
    "sort": "survey", "copies": "survey", "ranges": "survey", "cut": "plan",
    "read": "write", "divide": "write", "exchange": "write",
}  # fmt: skip
"""Pass -> the pass whose seconds, as a version records them, contain it."""
SURVEY_FILES = 4
"""Files that the survey writes for a part."""
VECTOR_BYTES = 1_536
"""Of a sampled document: 384 numbers of four bytes."""
GIGABYTE = 1e9
_Record = TypeVar("_Record")


@dataclass(frozen=True)
class Rate:
    """How long a pass takes."""

    fixed: float
    """Seconds, whatever the size: processes that start, models that load, the driver's own work."""
    gigabyte: float
    """Core-seconds for 10^9 bytes of text."""


@dataclass(frozen=True)
class EmbedRate:
    """How long embedding and weighing take."""

    fixed: float
    """Seconds until the model is loaded, and for the weights."""
    window: float
    """Core-seconds for a window of text without a GPU, by a small transformer, which is all-MiniLM-L6-v2."""
    static_window: float
    """The same by static vectors, whose cost is that of their tokenizer."""
    gpu_window: float
    """Seconds of a GPU for a window, by a small transformer."""


@dataclass(frozen=True)
class Rates:
    """What one core of a machine does."""

    machine: str
    """Where and when they were measured, in words."""
    survey: Rate
    """Reading compressed JSON lines, hashing, counting and keeping rows."""
    tokenizer: float
    """Core-seconds more for 10^9 bytes of text where a tokenizer counts tokens."""
    embed: EmbedRate
    plan: Rate
    """Of the driver alone."""
    read: Rate
    """The second reading, where rows are not kept: reading, sorting and writing runs."""
    write: Rate
    """Gathering the rows of shards and putting them in order, without encoding."""
    encode: dict[str, float]
    """Format -> core-seconds to encode, compress and hash 10^9 bytes of text."""
    stored: dict[str, float]
    """Format -> bytes written for a byte of text."""
    run_bytes: float
    """Bytes of runs for a byte of text."""
    format: int = RATES_FORMAT


@dataclass(frozen=True)
class Prices:
    """What things cost, in one currency. All but the currency may be 0."""

    currency: str
    cpu_hour: float
    """An hour of one CPU, with its memory."""
    gpu_hour: float
    """An hour of one GPU, with the machine around it."""
    read_requests: float
    """A million requests that read."""
    write_requests: float
    """A million requests that write or list."""
    gigabyte_moved: float
    """10^9 bytes between machines and store; mostly free within a region."""
    gigabyte_month: float
    """Keeping 10^9 bytes for a month."""


@dataclass(frozen=True)
class SelectionSize:
    """In how many tasks the records of rows are looked at."""

    groups: int
    """Groups of parts whose records one task sorts."""
    ranges: int
    """Ranges of hashes; if there is one, the driver looks at it."""
    dedup: bool
    """Whether copies are dropped."""


@dataclass(frozen=True)
class ExchangeSize:
    """To how many ranges of shards rows go."""

    first: int
    """Ranges of the first level, of all splits."""
    divided: int
    """Ranges of any level that are too large for one task; none: there is one level."""
    small: int
    """Ranges that one task each writes."""
    domain_groups: int
    """Groups of domains in which a range is divided."""
    part_groups: int
    """Groups of parts whose rows one task sends further."""


@dataclass(frozen=True)
class BuildSize:
    """What the cost of a build depends on."""

    stored: int
    """Bytes of the corpus as its files hold it."""
    text: int
    """Bytes of its usable text."""
    rows: int
    files: int
    """Files, or row groups, that are read by themselves."""
    parts: int
    kept_parts: int
    """Parts whose rows the survey keeps."""
    windows: int
    """Windows of text that are embedded; 0 where weights are given."""
    embedder: EmbedderKind
    """What embeds them."""
    shards: int
    """Of all splits."""
    selection: SelectionSize
    exchange: ExchangeSize
    written: int
    """Bytes of text (or token ids) in the shards, before compression."""
    formats: tuple[str, ...]
    tokenizer: bool
    """Whether a tokenizer counts tokens."""


@dataclass(frozen=True)
class PassCost:
    """What a pass takes, started with nothing recorded."""

    name: str
    seconds: float
    """On the machines that were said."""
    cpu_hours: float
    gpu_hours: float
    read: int
    """Bytes of the corpus, and records, that are read."""
    moved: int
    """Bytes of text between passes: kept rows and runs, written or read."""
    written: int
    """Bytes that stay: records and shards."""
    read_requests: int
    write_requests: int
    doubt: str = ""
    """Why the seconds may be far off; empty where nothing is known to be."""

    def money(self, prices: Prices) -> float:
        """What the pass costs, in the currency of the prices. Keeping what is written is not counted."""
        return (
            self.cpu_hours * prices.cpu_hour
            + self.gpu_hours * prices.gpu_hour
            + (self.read_requests * prices.read_requests + self.write_requests * prices.write_requests) / 1e6
            + (self.read + self.moved + self.written) / GIGABYTE * prices.gigabyte_moved
        )


def estimate_cost(size: BuildSize, rates: Rates, cpus: float, gpus: int = 0) -> tuple[PassCost, ...]:
    """The passes of a build of this size on so many CPUs and GPUs, in the order in which they run.

    Raises InputError where the rates lack one of the formats.
    """
    if lacking := [form for form in size.formats if form not in rates.encode or form not in rates.stored]:
        raise InputError(f"rates: say nothing of the formats {list_some(lacking)}; measure them with 'make bench'")
    text, parts = size.text / GIGABYTE, max(1, size.parts)
    again = 1 - size.kept_parts / parts
    """Share of the text that is read twice."""
    files = max(1, size.files)
    readings = files * (OPEN_REQUESTS + -(-size.stored // (files * AHEAD_BYTES)))
    records = size.rows * RECORD_BYTES
    kept = int(size.text * (1 - again))
    runs = int(size.text * again * rates.run_bytes)
    unkept = size.parts - size.kept_parts
    run_files = unkept * -(-runs // (unkept * RUN_BYTES)) if unkept else 0  # of a part's, a range has its rows in one
    record_files = unkept * -(-int(size.rows * again) * SENT_RECORD_BYTES // (unkept * RECORD_FILE_BYTES)) if unkept else 0
    selection, exchange = size.selection, size.exchange
    ranged, slices = size.rows * RANGED_RECORD_BYTES, SLICE_REQUESTS * selection.groups * selection.ranges
    shards = int(sum(size.written * rates.stored[form] for form in size.formats))
    encode = rates.write.gigabyte + sum(rates.encode[form] for form in size.formats)
    embedding = _embed_and_weigh(size, rates.embed, cpus, gpus)
    costs = [
        _spread("survey", rates.survey.fixed, text * (rates.survey.gigabyte + rates.tokenizer * size.tokenizer), cpus, parts,
                read=size.stored, moved=kept, written=records, gets=readings + LOOK_REQUESTS * files,
                puts=SURVEY_FILES * parts),
        embedding,
        _spread("plan", rates.plan.fixed, text * rates.plan.gigabyte, 1, 1, read=records, gets=PART_REQUESTS * parts),
    ]  # fmt: skip
    if selection.ranges > 1:
        tasks, seconds = selection.ranges, size.rows * COUNT_SECONDS
        costs[1:1] = [
            _spread("sort", 0.0, size.rows * SORT_SECONDS, cpus, selection.groups,
                    read=records, written=ranged, gets=2 * parts, puts=selection.groups),
            *([_spread("copies", 0.0, seconds, cpus, tasks, read=ranged, gets=2 * slices, puts=parts)] * selection.dedup),
            _spread("ranges", 0.0, seconds, cpus, tasks, read=ranged, gets=slices, puts=2 * tasks),
        ]  # fmt: skip
        costs.append(_spread("cut", 0.0, size.rows * CUT_SECONDS, cpus, tasks, read=ranged, gets=slices, puts=tasks))
    if unkept:
        reading = text * again * (rates.read.gigabyte + rates.tokenizer * size.tokenizer)
        gets = int(readings * again) + SPILL_REQUESTS * unkept
        puts = run_files + (record_files if exchange.divided else 0) + unkept
        amounts = {"read": int(size.stored * again), "moved": runs, "gets": gets, "puts": puts}
        costs.append(_spread("read", rates.read.fixed, reading, cpus, unkept, **amounts))
    written = size.written / GIGABYTE
    searches = SLICE_REQUESTS * unkept * exchange.small
    if exchange.divided:
        asked, tasks = SLICE_REQUESTS * record_files * exchange.first, exchange.divided * exchange.domain_groups
        costs.append(_spread("divide", 0.0, size.rows * DIVIDE_SECONDS, cpus, tasks,
                             read=records, gets=asked * exchange.domain_groups, puts=tasks))  # fmt: skip
    if exchange.divided and unkept:
        sent, tasks = SLICE_REQUESTS * unkept * exchange.first, exchange.divided * exchange.part_groups
        costs.append(_spread("exchange", 0.0, runs / GIGABYTE * EXCHANGE_SECONDS, cpus, tasks,
                             moved=2 * runs, gets=sent, puts=2 * tasks))  # fmt: skip
        searches = SLICE_REQUESTS * exchange.part_groups * exchange.small
    costs.append(
        _spread("write", rates.write.fixed, written * encode, cpus, size.shards, moved=size.written, written=shards,
                gets=searches, puts=size.shards * len(size.formats) + 2 * exchange.small)
    )  # fmt: skip
    return tuple(costs)


def _embed_and_weigh(size: BuildSize, rate: EmbedRate, cpus: float, gpus: int) -> PassCost:
    """What the pass takes. Static vectors have one rate with and without a GPU, since their tokenizer is what takes time."""
    on_gpu = gpus > 0 and size.embedder != "none"
    window = {"none": 0.0, "static": rate.static_window}.get(size.embedder, rate.gpu_window if on_gpu else rate.window)
    embed, doubt = size.windows * window, ""
    if size.windows and size.embedder == "other":
        doubt = "nobody has measured this model; the rate is that of all-MiniLM-L6-v2, and a larger model takes longer"
    seconds = rate.fixed + embed / max(1.0, gpus if on_gpu else cpus) if size.windows else 0.0
    cpu_hours, gpu_hours = (0.0, embed / 3600) if on_gpu else (embed / 3600, 0.0)
    return PassCost("embed and weigh", seconds, cpu_hours, gpu_hours, 0, 0, size.windows * VECTOR_BYTES, 0, 0, doubt)


def _spread(
    name: str, fixed: float, core_seconds: float, cpus: float, tasks: int,
    read: int = 0, moved: int = 0, written: int = 0, gets: int = 0, puts: int = 0,
) -> PassCost:  # fmt: skip
    """A pass whose tasks run on all CPUs."""
    seconds = fixed + core_seconds / max(1.0, min(cpus, tasks))
    return PassCost(name, seconds, (fixed + core_seconds) / 3600, 0.0, read, moved, written, gets, puts)


def seconds_by_timed_pass(costs: Sequence[PassCost]) -> dict[str, float]:
    """Pass whose seconds a version records -> its estimate, with those of the passes that it contains."""
    seconds: dict[str, float] = {}
    for cost in costs:
        name = TIMED_WITH.get(cost.name, cost.name)
        seconds[name] = round(seconds.get(name, 0.0) + cost.seconds, 2)
    return seconds


def describe_cost(costs: Sequence[PassCost], prices: Prices, rates: Rates) -> dict[str, Any]:
    """The costs as plain JSON, which `plan --json` prints. Keeping what is written costs `month` each month."""
    passes = [{**asdict(cost), "money": cost.money(prices)} for cost in costs]
    names = [field.name for field in fields(PassCost) if field.name not in ("name", "doubt")]
    total = {name: sum(one[name] for one in passes) for name in [*names, "money"]}
    month = sum(cost.written for cost in costs) / GIGABYTE * prices.gigabyte_month
    return {"passes": passes, "total": total, "month": month, "currency": prices.currency, "rates": rates.machine}


def read_rates(file: Path = OWN_RATES) -> Rates:
    """The rates in a file that `make bench` wrote. Raises InputError where it holds anything else."""
    with explaining(str(file), {OSError: explain_errno, ValueError: "holds no JSON; name a file that 'make bench' wrote"}):
        plain = json.loads(file.read_text(encoding="utf-8"))
    rates = _as(Rates, plain, file, "name a file that 'make bench' wrote")
    if rates.format != RATES_FORMAT:
        raise InputError(f"{file}: rates of format {rates.format}, and not {RATES_FORMAT}; measure them again with 'make bench'")
    return rates


def read_prices(file: Path) -> Prices:
    """The prices in a YAML file. Raises InputError where it holds anything else."""
    with explaining(str(file), {OSError: explain_errno, yaml.YAMLError: "is no YAML; jobs/prices.yaml shows the form"}):
        plain = yaml.safe_load(file.read_text(encoding="utf-8"))
    prices = _as(Prices, plain, file, "jobs/prices.yaml shows every key")
    if any(isinstance(price, float) and price < 0 for price in asdict(prices).values()):
        raise InputError(f"{file}: a price is below zero; correct it")
    return prices


def _as(kind: type[_Record], plain: Any, file: Path, advice: str) -> _Record:
    known: Mapping[str, Any] = plain if isinstance(plain, dict) else {}
    if unknown := sorted(map(str, known.keys() - {field.name for field in fields(kind)})):  # type: ignore[arg-type]
        raise InputError(f"{file}: no such key: {list_some(unknown)}; {advice}")
    try:
        return TypeAdapter(kind).validate_python(plain)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise InputError(f"{file}: {where}: {say_fault(fault['type'], fault['msg'])}; {advice}") from error
