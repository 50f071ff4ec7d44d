"""A whole build from recorded weights beside what people use in its place, on the same files and two cores.

    python -m tests.bench.peers [GIGABYTES] [--repeats N] [--only NAME …]

Each is a command of its own, measured from its start to its end with all processes that it starts. The repeats take turns: every
peer once, then every peer again. What the peers run is in peer_programs.py, as a person who knows them would write it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.bench.build import GIGABYTE, make_corpus
from tests.bench.figures import Figure, show
from tests.support.paths import ROOT
from tests.support.whole_process import Run, measure

MEMORY = "2GB"
DATATROVE = "DATATROVE_PYTHON"
"""Environment variable with the Python of an environment that has `datatrove[io]`, whose pins are not ours."""
SHORT_DOCUMENTS = 1_000

Prepare = Callable[[Path, Path], list[str]]
"""(corpus, empty folder) -> the command that writes the folder."""


@dataclass(frozen=True)
class Peer:
    """One row of the table."""

    prepare: Prepare
    lacks: str
    """What it does not do."""


def program(name: str, python: str = sys.executable) -> Prepare:
    """A function of peer_programs.py."""
    return lambda corpus, out: [python, "-m", "tests.bench.peer_programs", name, str(corpus), str(out)]


def ours(format: str, *options: str) -> Prepare:
    """A build of the whole corpus with equal weights."""

    def prepare(corpus: Path, out: Path) -> list[str]:
        names = sorted(p.name for p in corpus.iterdir())
        return build(out, {n: str(corpus / n) for n in names}, dict.fromkeys(names, 1 / len(names)), format, *options)

    return prepare


def remix(corpus: Path, out: Path) -> list[str]:
    """A second build in the folder of a first one: the first domain gets half of its weight, the last one the rest."""
    names = sorted(p.name for p in corpus.iterdir())
    weights = dict.fromkeys(names, 1 / len(names))
    weights[names[0]], weights[names[-1]] = 0.5 * weights[names[0]], 1.5 * weights[names[-1]]
    return build(out, {n: str(corpus / n) for n in names}, weights, "parquet")


def short_documents(corpus: Path, out: Path) -> list[str]:
    """A build of 1,000 documents of one sentence in four domains; it does not read the corpus."""
    sources = {}
    for name in ("a", "b", "c", "d"):
        (out / name).mkdir()
        sources[name] = str(out / name / "part.jsonl")
        texts = (f"{name} speaks of matter {i % 17} in sentence {i}" for i in range(SHORT_DOCUMENTS // 4))
        Path(sources[name]).write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return build(out, sources, dict.fromkeys(sources, 0.25), "parquet")


def build(out: Path, sources: dict[str, str], weights: dict[str, float], format: str, *options: str) -> list[str]:
    """Write a recipe and its weights, and give the command that builds it."""
    (out / "weights.json").write_text(json.dumps(weights))
    (out / "recipe.yaml").write_text(json.dumps({
        "name": "bench", "out": str(out / "out"), "sources": sources, "weights": {"from": str(out / "weights.json")},
        "mix": {"max_epochs": 8}, "shards": {"formats": format},
    }))  # fmt: skip
    return [sys.executable, "-m", "chameleon_data.jobs.start", "build", str(out / "recipe.yaml"), *options]


OURS, OURS_MDS, OURS_2GB = "ours, Parquet", "ours, MDS", f"ours within {MEMORY}"
REMIX, SHORT = "ours, a re-mix with other weights", f"ours, {SHORT_DOCUMENTS:,} short documents"
DUCKDB, DUCKDB_2GB, POLARS = "DuckDB", f"DuckDB within {MEMORY}", "polars"
INTERLEAVE, SHUFFLE, TROVE = "interleave_datasets, MDSWriter", "Ray Data, random_shuffle", "datatrove"
SORT_LACKS = "no mixture or shares, no hashes, checks, resuming or versions"


def peers() -> dict[str, Peer]:
    """Name -> what can be measured here."""
    found = {
        OURS: Peer(ours("parquet"), ""),
        DUCKDB: Peer(program("duckdb"), SORT_LACKS),
        POLARS: Peer(program("polars"), f"{SORT_LACKS}; no limit of memory"),
        OURS_MDS: Peer(ours("mds"), ""),
        INTERLEAVE: Peer(
            program("interleave"),
            "mixes by chance, so no exact shares; shuffles 10,000 rows; hashes files, no rows; no checks, resuming or versions",
        ),
        SHUFFLE: Peer(program("random_shuffle"), SORT_LACKS),
        OURS_2GB: Peer(ours("parquet", "--memory", MEMORY), ""),
        DUCKDB_2GB: Peer(program("duckdb_2gb"), SORT_LACKS),
        SHORT: Peer(short_documents, ""),
    }
    if python := os.environ.get(DATATROVE):
        found[TROVE] = Peer(program("datatrove", python), "no mixture or shuffle, no hashes, checks or versions; resumes by file")
    return found


def take_turns(base: Path, corpus: Path, chosen: Sequence[str], repeats: int) -> dict[str, list[Run]]:
    """The runs of each peer. A re-mix follows our build in its folder."""
    runs: dict[str, list[Run]] = {}
    for _ in range(repeats):
        for name in chosen:
            with tempfile.TemporaryDirectory(dir=base) as folder:
                out = Path(folder)
                commands = {name: peers()[name].prepare}
                if name == OURS:
                    commands[REMIX] = remix
                for each, prepare in commands.items():
                    run = measure(base / "log", *prepare(corpus, out), cwd=ROOT)
                    runs.setdefault(each, []).append(run)
            os.sync()  # what one has written is on the disk before the next one starts
    return runs


def print_runs(gigabytes: float, runs: dict[str, list[Run]]) -> None:
    """One table with medians."""
    title = f"whole builds, {gigabytes:g} GB of text in .jsonl.zst; {os.cpu_count()} cores, load {os.getloadavg()[2]:.1f}"
    table = Table("", "seconds", "core-seconds", "memory", "others", "does not do", title=title)
    for column in table.columns[1:5]:
        column.justify = "right"
    for name, found in runs.items():
        lacks = peers()[name].lacks if name in peers() else ""
        if failures := [run.failure for run in found if run.failure]:
            lacks = f"[red]failed in {len(failures)} of {len(found)}: {escape(failures[0][:200])}[/] {lacks}"
        seconds = sorted(run.seconds for run in found)
        table.add_row(
            name,
            f"{statistics.median(seconds):.1f} ({seconds[0]:.1f} to {seconds[-1]:.1f})",
            f"{_median(found, 'core_seconds'):.1f}",
            f"{_median(found, 'memory') / 1e9:.2f} GB",
            f"{_median(found, 'load'):.1f}",
            lacks,
        )
    console = Console(width=150)
    console.print(table)
    console.print(
        "Medians; seconds with least and most. memory: largest sum of PSS. others: cores that other processes kept busy."
    )
    if DATATROVE not in os.environ:
        console.print(f"datatrove is not measured: set {DATATROVE} to the Python of an environment with datatrove\\[io].")


def run(gigabytes: float = 1.0, repeats: int = 3, only: Sequence[str] = ()) -> list[Figure]:
    """Print the table; give what ours takes as a share of each peer's time."""
    chosen = list(only) or list(peers())
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        if chosen != [SHORT]:
            make_corpus(base / "corpus", int(gigabytes * GIGABYTE))
        runs = take_turns(base, base / "corpus", chosen, repeats)
    print_runs(gigabytes, runs)
    seconds = {name: _median(found, "seconds") for name, found in runs.items() if not any(run.failure for run in found)}
    aims = [
        (OURS, DUCKDB, 1.2 if gigabytes < 4 else 1.0 if gigabytes < 16 else 0.8),
        (OURS, POLARS, None),
        (OURS, SHUFFLE, 0.25),
        (OURS, TROVE, 1.0 if gigabytes >= 4 else None),
        (OURS_MDS, INTERLEAVE, 0.25),
        (OURS_2GB, DUCKDB_2GB, None),
        (REMIX, OURS, 0.6),
    ]
    figures = [
        Figure(f"{own}, of {peer}", seconds[own] / seconds[peer], "×", aim, f"{seconds[own]:.1f} of {seconds[peer]:.1f} s", True)
        for own, peer, aim in aims
        if own in seconds and peer in seconds
    ]
    if SHORT in seconds:
        figures.append(Figure(SHORT, seconds[SHORT], "s", 2, "the whole process", True))
    return figures


def _median(runs: Sequence[Run], field: str) -> float:
    return statistics.median(getattr(run, field) for run in runs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("gigabytes", nargs="?", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=list(peers()), default=[])
    asked = parser.parse_args()
    show(run(asked.gigabytes, asked.repeats, asked.only))
