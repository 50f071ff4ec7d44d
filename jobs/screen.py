"""What a person sees: progress of the passes, tables and sentences on the terminal, and one JSON document where it is asked for.

Answers go to `out`, progress and messages to `err`. Names, paths and reasons are strangers' text: none of it is taken for markup
or sent to a terminal as a command.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from chameleon_data.errors import printable

if TYPE_CHECKING:
    from chameleon_data.difference import Change, Difference
    from chameleon_data.verify import Verification
    from pipelines.build import Planned
    from pipelines.weigh import Weighed

PASSES = {
    "survey": "survey the corpus",
    "embed": "embed the samples",
    "read": "read and sort",
    "write": "write shards",
    "make": "make the shards again",
    "verify": "verify",
    "compare": "compare documents",
    "remove": "remove files",
}
UNPRINTED = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""What JSON leaves as it is and a terminal may obey: other control characters, and those that turn the direction of writing."""
SILENT = 2.0
"""Seconds."""
WIDE_TABLE = 100
"""Characters of a terminal that shows all columns of a mixture; a narrower one leaves out what --json and the report say too."""
SHOWN = 20
"""Bounds that are told on the terminal."""
WIDE = None if sys.stdout.isatty() else 140  # a log file has no width


class Printable(Console):
    """Names and paths may look like markup ([/b], :x:), or hold what a terminal obeys: that is shown as \\x1b, not sent."""

    def render_str(self, text: str, **how: Any) -> Text:
        return super().render_str(printable(text), **how)


out = Printable(highlight=False, markup=False, emoji=False, width=WIDE)
err = Printable(highlight=False, markup=False, emoji=False, stderr=True)


@contextmanager
def narrated() -> Iterator[Callable[[str, int, int], None]]:
    """Progress of the passes: bars in a terminal, a line at the start, the end and every ten seconds elsewhere."""
    if err.is_terminal:
        columns = (SpinnerColumn(), TextColumn("{task.description:<18}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=err) as bars:
            tasks: dict[str, TaskID] = {}

            def draw(name: str, done: int, total: int) -> None:
                if name not in tasks:
                    tasks[name] = bars.add_task(PASSES[name], total=total)
                bars.update(tasks[name], completed=done, total=total)

            yield draw
        return
    started: dict[str, float] = {}
    spoken: dict[str, float] = {}

    def say(name: str, done: int, total: int) -> None:
        now = time.monotonic()
        if name not in started or done == total or now - spoken[name] > 10:
            seconds = now - started.setdefault(name, now)
            spoken[name] = now
            err.print(f"{PASSES[name]}: {done:,} of {total:,} ({seconds:.1f} s)")

    yield say


def patient(progress: Callable[[str, int, int], None], name: str) -> Callable[[int, int], None]:
    """Progress of one pass that is silent at first: most answers are there by then."""
    start = time.monotonic()

    def tell(done: int, total: int) -> None:
        if time.monotonic() - start > SILENT:
            progress(name, done, total)

    return tell


def print_json(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False, indent=2)
    text = UNPRINTED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # a terminal of few characters, or a path that is not UTF-8
        text = json.dumps(value, indent=2)
    sys.stdout.write(text + "\n")


def table_of(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        number = column.startswith(">")
        table.add_column(column.lstrip(">"), justify="right" if number else "left", overflow="fold", no_wrap=number)
    return table


def print_pairs(rows: list[tuple[str, str]]) -> None:
    out.print()
    for key, value in rows:
        out.print(Text(f"{key:>14}", style="dim"), value, sep="  ", soft_wrap=True)


def print_notes(about: dict[str, Any], reused: dict[str, str]) -> None:
    for sentence in reused.values():
        out.print(Text(sentence, style="dim"), soft_wrap=True)
    for moved in about["moved"][:SHOWN]:
        told = f"{moved['domain']}: {moved['before']:.4f} to {moved['after']:.4f} by its {moved['bound']}"
        out.print(Text("bound", style="yellow"), told, soft_wrap=True)
    if len(about["moved"]) > SHOWN:
        out.print(Text("bound", style="yellow"), f"and {len(about['moved']) - SHOWN:,} more; --json and the report list them")
    for warning in [*about["warnings"], *about.get("near_duplicates", [])]:
        out.print(Text("note", style="yellow"), warning, soft_wrap=True)


def print_explanations(about: dict[str, Any]) -> None:
    """Other mixtures beside this one, and the neighbours that lower each domain's leverage most."""
    beside = about["mixtures"]
    table = table_of("domain", *(f">{Path(name).name}" for name in beside), "leverage lowered most by")
    for domain in about["names"]:
        near = (about.get("neighbours") or {}).get(domain, [])[:2]
        told = ", ".join(f"{n['domain']} ({n['lowers']:.0%})" for n in near)
        table.add_row(domain, *(f"{mixture[domain]:.4f}" for mixture in beside.values()), told)
    out.print()
    out.print(table)


def weights_table(weighed: Weighed) -> Table:
    described = weighed.describe()
    table = table_of("domain", ">weight", ">90 % interval", ">score", ">natural", ">documents", ">tokens", ">quarantined")
    for name, d in described["domains"].items():
        table.add_row(
            name, f"{d['weight']:.4f}", interval(d["weight_interval"]), decimal(d["score"]), f"{d['natural']:.4f}",
            f"{d['available_rows']:,}", f"{d['available_tokens']:,}", f"{d['quarantined']:,}",
        )  # fmt: skip
    return table


def mixture_table(manifest: dict[str, Any]) -> Table:
    domains = manifest["domains"]
    available, written = (sum(d[key] for d in domains.values()) for key in ("available_tokens", "tokens"))
    rows_are = ">sequences" if _packed(manifest) else ">documents"
    columns = ("domain", ">weight", ">90 % interval", ">natural", ">tokens", ">written", rows_are, ">epochs", ">quarantined")
    rows = [
        (name, f"{d['weight']:.4f}", interval(d["weight_interval"]), f"{d['available_tokens'] / available:.4f}",
         f"{d['tokens']:,}", f"{d['tokens'] / written:.4f}", f"{d['rows']:,}", f"{d['epochs']:.2f}", f"{d['quarantined']:,}")
        for name, d in domains.items()
    ]  # fmt: skip
    shown = [i for i in range(len(columns)) if out.width >= WIDE_TABLE or i not in (3, 5, 8)]
    table = table_of(*(columns[i] for i in shown))
    for row in rows:
        table.add_row(*(row[i] for i in shown))
    return table


def _packed(manifest: dict[str, Any]) -> bool:
    return bool(manifest.get("recipe", {}).get("shards", {}).get("sequence_length", "none") != "none")


def print_plan(planned: Planned) -> None:
    described = planned.describe()
    rows_are = ">sequences" if planned.layouts[0].plan.packing else ">documents"
    table = table_of("domain", ">weight", ">90 % interval", ">quota", ">tokens", rows_are, ">epochs")
    for name, d in described["domains"].items():
        table.add_row(name, f"{d['weight']:.4f}", interval(d["weight_interval"]), f"{d['target_tokens']:,}", f"{d['tokens']:,}",
                      f"{d['rows']:,}", f"{d['epochs']:.2f}")  # fmt: skip
    out.print(table)
    print_exhausted(described["exhausted"])
    print_notes(described["weights"], planned.weighed.reused)
    for warning in described["warnings"]:
        out.print(Text("note", style="yellow"), warning, soft_wrap=True)
    rows = [
        ("shards", f"{described['shard_count']:,} of about {described['shard_bytes']:,} bytes"),
        ("tokens", f"{described['tokens']:,} of {described['budget']:,} asked for"),
        ("bytes", f"about {described['bytes']:,}, before compression"),
        ("expected", f"{described['expected_seconds']:,.0f} s to write them on {planned.cpus:g} CPUs"),
        ("plan", described["plan_digest"]),
    ]
    print_pairs(rows)


def print_exhausted(policies: dict[str, Any]) -> None:
    """What each choice of `mix.exhausted` would do; nothing where it makes no difference."""
    done = {name: found for name, found in policies.items() if "refused" not in found}
    if len(done) == len(policies) and len({json.dumps(found) for found in done.values()}) == 1:
        return
    out.print()
    table = table_of("mix.exhausted", *(f">{name}" for name in done))
    for domain in next(iter(done.values()), {}):
        cells = (f"{found[domain]['target_tokens']:,} ({found[domain]['epochs']:.2f} epochs)" for found in done.values())
        table.add_row(domain, *cells)
    out.print(table)
    for name, found in policies.items():
        if "refused" in found:
            out.print(Text(f"{name} would refuse:", style="dim"), found["refused"], soft_wrap=True)


def interval(ends: list[float] | None) -> str:
    return f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else ""


def decimal(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def lineage_rows(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    from chameleon_data.lineage import lineage

    found = lineage(manifest)
    rows = [("input", f"{name}: {i['files']:,} files, {i['bytes']:,} bytes, {i['fingerprint'][:16]}")
            for name, i in found["inputs"].items()]  # fmt: skip
    rows = [*rows[:12], ("", f"and {len(rows) - 12:,} sources more")] if len(rows) > 13 else rows
    told = {
        "tokenizer": facts_told(found["tokenizer"]),
        "embedder": facts_told(found["embedder"]), "weights": facts_told(found["weights"]), "landmarks": found["landmarks"],
        "code": facts_told(found["code"]), "packages": facts_told({"python": found["python"], **found["packages"]}),
    }  # fmt: skip
    return rows + [(key, value) for key, value in told.items() if value]


def facts_told(facts: dict[str, Any] | None) -> str:
    """What there is of these facts, in a line; of a hash its beginning."""
    texts: dict[str, str] = {}
    for key, value in (facts or {}).items():
        texts |= {k: str(v) for k, v in (value if isinstance(value, dict) else {key: value}).items() if v is not None}
    return ", ".join(f"{key} {value[:16] if len(value) in (40, 64) else value}" for key, value in texts.items())


def print_difference(found: Difference) -> None:
    domains = table_of("domain", ">weight", ">tokens", ">epochs", ">rows kept", ">added", ">removed", ">documents new", ">gone")
    documents = {(d.split, d.domain): d for d in found.documents}
    splits = sorted({split for split, _ in documents} - {"train"})
    for split in ("train", *splits):
        for name, facts in found.domains.items():
            d = documents.get((split, name))
            counts = [f"{n:,}" for n in (d.kept, d.added, d.removed, d.new, d.gone)] if d else ["0"] * 5
            if split == "train":
                mixture = changed(facts["weight"], ".4f"), changed(facts["tokens"], ","), changed(facts["epochs"], ".2f")
                domains.add_row(name, *mixture, *counts)
            elif d:
                domains.add_row(f"{name} ({split})", "", "", "", *counts)
    out.print(domains)
    s = found.shards
    shared = f"{s['shared']:,} of them are the same bytes ({s['shared_bytes']:,})"
    print_pairs([("shards", f"{s['before']:,} → {s['after']:,}; {shared}")])
    for title, some in (("recipe", found.recipe), ("lineage", found.lineage)):
        print_pairs([(title, f"{key}: {changed(change)}") for key, change in some.items()] or [(title, "the same")])
    moved = {source: {k: n for k, n in counts.items() if k != "same" and n} for source, counts in found.inputs.items()}
    told = [("inputs", f"{source}: {facts_told(counts)}") for source, counts in moved.items() if counts]
    print_pairs(told or [("inputs", "the same")])


def changed(change: Change, form: str = "") -> str:
    before, after = ("–" if value is None else format(value, form) if form else str(value) for value in change)
    return before if before == after else f"{before} → {after}"


def worst_of(worst: Any) -> dict[str, Any]:
    return {"domain": worst.domain, "where": worst.where, "tokens": worst.tokens, "bound": worst.bound}


def print_verification(number: int, found: Verification) -> None:
    out.print(f"v{number}: {found.rows:,} rows, {found.files:,} files, {found.bytes:,} bytes read")
    for name, worst in (("in the whole", found.whole), ("in a shard", found.shard), ("in a prefix", found.prefix)):
        out.print(
            f"  worst {name:<13} {worst.tokens:>10,.1f} tokens off its share, {worst.share:.3f} of its bound "
            f"({worst.domain}, {worst.where})", soft_wrap=True,
        )  # fmt: skip
    for problem in found.problems:
        out.print(Text("✗", style="red"), problem, soft_wrap=True)
    if found.ok:
        out.print(Text("✓", style="green"), "every check holds")
    else:
        out.print(Text(f"{len(found.problems)} check(s) failed", style="red"))
