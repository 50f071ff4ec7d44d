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
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from chameleon_data.errors import escape_unprintable, list_some

if TYPE_CHECKING:
    from chameleon_data.pipelines.build import Planned
    from chameleon_data.pipelines.weigh import Weighed
    from chameleon_data.versions.diff import Change, Difference
    from chameleon_data.versions.verify import Verification

PASS_TITLES = {
    "survey": "survey the corpus",
    "embed": "embed the samples",
    "read": "read and sort",
    "write": "write shards",
    "make": "make the shards again",
    "verify": "verify",
    "compare": "compare documents",
    "remove": "remove files",
}
DOTTED_KEY = re.compile(r"(.*)\.(\"(?:[^\"\\]|\\.)*\"|[^.\"]*)", re.DOTALL)
"""A dotted key as the key of its section, and its last part, which stands in quotes where it holds a dot itself."""
ESCAPED_IN_JSON = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""What JSON leaves as it is and a terminal may obey: other control characters, and those that turn the direction of writing."""
SILENT_SECONDS = 2.0
"""Seconds."""
WIDE_TABLE = 100
"""Characters of a terminal that shows all columns of a mixture; a narrower one leaves out what --json and the report say too."""
BOUNDS_SHOWN = 20
"""Bounds that are told on the terminal."""
LONG_VALUE = 60
"""Characters of a value in a line that holds two."""
LOG_WIDTH = None if sys.stdout.isatty() else 140  # a log file has no width


class Printable(Console):
    """Names and paths may look like markup ([/b], :x:), or hold what a terminal obeys: that is shown as \\x1b, not sent."""

    def render_str(self, text: str, **how: Any) -> Text:
        return super().render_str(escape_unprintable(text), **how)


out = Printable(highlight=False, markup=False, emoji=False, width=LOG_WIDTH)
err = Printable(highlight=False, markup=False, emoji=False, stderr=True)


@contextmanager
def show_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Progress of the passes: bars in a terminal, a line at the start, the end and every ten seconds elsewhere."""
    if err.is_terminal:
        columns = (SpinnerColumn(), TextColumn("{task.description:<18}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=err) as bars:
            tasks: dict[str, TaskID] = {}

            def draw(name: str, done: int, total: int) -> None:
                if name not in tasks:
                    tasks[name] = bars.add_task(PASS_TITLES[name], total=total)
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
            err.print(f"{PASS_TITLES[name]}: {done:,} of {total:,} ({seconds:.1f} s)")

    yield say


def delay_progress(progress: Callable[[str, int, int], None], name: str) -> Callable[[int, int], None]:
    """Progress of one pass that is silent at first: most answers are there by then."""
    start = time.monotonic()

    def tell(done: int, total: int) -> None:
        if time.monotonic() - start > SILENT_SECONDS:
            progress(name, done, total)

    return tell


def print_json(value: Any, to: TextIO | None = None) -> None:
    """To `sys.stdout`, if nothing else is said."""
    to = to or sys.stdout
    text = json.dumps(value, ensure_ascii=False, indent=2)
    text = ESCAPED_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    try:
        text.encode(to.encoding or "utf-8")
    except UnicodeEncodeError:  # a terminal of few characters, or a path that is not UTF-8
        text = json.dumps(value, indent=2)
    to.write(text + "\n")


def make_table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        number = column.startswith(">")
        table.add_column(column.lstrip(">"), justify="right" if number else "left", overflow="fold", no_wrap=number)
    return table


def print_pairs(rows: list[tuple[str, str]]) -> None:
    out.print()
    for key, value in rows:
        out.print(Text(f"{key:>14}", style="dim"), value, sep="  ", soft_wrap=True)


def print_outside(domains: dict[str, Any]) -> None:
    """Why weights lie outside their own intervals; the jackknife's are around the weight by leverage, so nothing else does it."""
    outside = [n for n, d in domains.items() if (i := d["weight_interval"]) and not i[0] <= d["weight"] <= i[1]]
    if outside:
        verb = "lies outside its own" if len(outside) == 1 else "lie outside theirs"
        told = f"intervals are of the weights by leverage alone, before priors and bounds moved them: {list_some(outside)} {verb}"
        out.print(Text(escape_unprintable(told), style="dim"), soft_wrap=True)


def print_notes(about: dict[str, Any], reused: dict[str, str]) -> None:
    for sentence in reused.values():
        out.print(Text(sentence, style="dim"), soft_wrap=True)
    for moved in about["moved"][:BOUNDS_SHOWN]:
        told = f"{moved['domain']}: {moved['before']:.4f} to {moved['after']:.4f} by its {moved['bound']}"
        out.print(Text("bound", style="yellow"), told, soft_wrap=True)
    if len(about["moved"]) > BOUNDS_SHOWN:
        out.print(
            Text("bound", style="yellow"), f"and {len(about['moved']) - BOUNDS_SHOWN:,} more; --json and the report list them"
        )
    for warning in [*about["warnings"], *about.get("near_duplicates", [])]:
        out.print(Text("note", style="yellow"), warning, soft_wrap=True)


def print_explanations(about: dict[str, Any]) -> None:
    """Other mixtures beside this one, and the neighbours that lower each domain's leverage most."""
    beside = about["mixtures"]
    table = make_table("domain", *(f">{Path(name).name}" for name in beside), "leverage lowered most by")
    for domain in about["names"]:
        near = (about.get("neighbours") or {}).get(domain, [])[:2]
        told = ", ".join(f"{n['domain']} ({n['lowers']:.0%})" for n in near)
        table.add_row(domain, *(f"{mixture[domain]:.4f}" for mixture in beside.values()), told)
    out.print()
    out.print(table)


def weights_table(weighed: Weighed) -> Table:
    described = weighed.describe()
    table = make_table("domain", ">weight", ">90 % interval", ">score", ">natural", ">documents", ">tokens", ">quarantined")
    for name, d in described["domains"].items():
        table.add_row(
            name, f"{d['weight']:.4f}", format_interval(d["weight_interval"]), format_decimal(d["score"]), f"{d['natural']:.4f}",
            f"{d['available_rows']:,}", f"{d['available_tokens']:,}", f"{d['quarantined']:,}",
        )  # fmt: skip
    return table


def mixture_table(manifest: dict[str, Any]) -> Table:
    domains = manifest["domains"]
    available, written = (sum(d[key] for d in domains.values()) for key in ("available_tokens", "tokens"))
    rows_are = ">sequences" if _packed(manifest) else ">documents"
    columns = ("domain", ">weight", ">90 % interval", ">natural", ">tokens", ">written", rows_are, ">epochs", ">quarantined")
    rows = [
        (name, f"{d['weight']:.4f}", format_interval(d["weight_interval"]), f"{d['available_tokens'] / available:.4f}",
         f"{d['tokens']:,}", f"{d['tokens'] / written:.4f}", f"{d['rows']:,}", f"{d['epochs']:.2f}", f"{d['quarantined']:,}")
        for name, d in domains.items()
    ]  # fmt: skip
    shown = [i for i in range(len(columns)) if out.width >= WIDE_TABLE or i not in (3, 5, 8)]
    table = make_table(*(columns[i] for i in shown))
    for row in rows:
        table.add_row(*(row[i] for i in shown))
    return table


def _packed(manifest: dict[str, Any]) -> bool:
    return bool(manifest.get("recipe", {}).get("shards", {}).get("sequence_length", "none") != "none")


def print_plan(planned: Planned) -> None:
    described = planned.describe()
    packed = planned.layouts[0].plan.packing is not None
    rows_are = ">sequences" if packed else ">documents"
    table = make_table("domain", ">weight", ">90 % interval", ">quota", ">tokens", rows_are, ">epochs")
    for name, d in described["domains"].items():
        table.add_row(
            name,
            f"{d['weight']:.4f}",
            format_interval(d["weight_interval"]),
            f"{d['target_tokens']:,}",
            f"{d['tokens']:,}",
            f"{d['rows']:,}",
            f"{d['epochs']:.2f}",
        )
    out.print(table)
    print_outside(described["domains"])
    print_exhausted(described["exhausted"])
    print_notes(described["weights"], planned.weighed.reused)
    for warning in described["warnings"]:
        out.print(Text("note", style="yellow"), warning, soft_wrap=True)
    shards, seconds = described["shard_count"], described["expected_seconds"]
    each = described["bytes"] // sum(described["shard_counts"].values())
    rows = [
        ("quota", f"weight × budget, in tokens; {'sequences' if packed else 'documents'} are written whole, which changes it "
         f"by at most {'one sequence' if packed else 'the largest document'}"),
        ("tokens", f"{described['tokens']:,} of {described['budget']:,} asked for"),
        ("shards", f"{shards:,}, of about {each:,} bytes{' each' if shards > 1 else ''} before compression"),
        ("expected", f"{f'{seconds:,.0f} s' if seconds >= 1 else 'under a second'} to write them on {planned.cpus:g} CPUs"),
        ("plan", described["plan_digest"]),
    ]  # fmt: skip
    print_pairs(rows)


def print_exhausted(policies: dict[str, Any]) -> None:
    """What each choice of `mix.exhausted` would do; nothing where it makes no difference."""
    done = {name: found for name, found in policies.items() if "refused" not in found}
    if len(done) == len(policies) and len({json.dumps(found) for found in done.values()}) == 1:
        return
    out.print()
    table = make_table("mix.exhausted", *(f">{name}" for name in done))
    for domain in next(iter(done.values()), {}):
        cells = (f"{found[domain]['target_tokens']:,} ({found[domain]['epochs']:.2f} epochs)" for found in done.values())
        table.add_row(domain, *cells)
    out.print(table)
    for name, found in policies.items():
        if "refused" in found:
            out.print(Text(f"{name} would refuse:", style="dim"), found["refused"], soft_wrap=True)


def format_interval(ends: list[float] | None) -> str:
    return f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else ""


def format_decimal(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def provenance_rows(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    from chameleon_data.versions.provenance import describe_provenance

    found = describe_provenance(manifest)
    rows = [("input", f"{name}: {count_noun(i['files'], 'file')}, {i['bytes']:,} bytes, {i['fingerprint'][:12]}…")
            for name, i in found["inputs"].items()]  # fmt: skip
    rows = [*rows[:12], ("", f"and {len(rows) - 12:,} sources more")] if len(rows) > 13 else rows
    told = {
        "tokenizer": format_facts(found["tokenizer"]),
        "embedder": format_facts(found["embedder"]), "weights": format_facts(found["weights"]), "landmarks": found["landmarks"],
        "code": format_facts(found["code"]), "packages": format_facts({"python": found["python"], **found["packages"]}),
    }  # fmt: skip
    return rows + [(key, value) for key, value in told.items() if value]


def format_facts(facts: dict[str, Any] | None) -> str:
    """What there is of these facts, in a line."""
    found: dict[str, Any] = {}
    for key, value in (facts or {}).items():
        found |= {k: v for k, v in (value if isinstance(value, dict) else {key: value}).items() if v is not None}
    return ", ".join(f"{key} {format_value(value)}" for key, value in found.items())


def format_value(value: Any) -> str:
    """A value of a recipe or a manifest as people read it: of a hash its beginning, of a long path its ends. --json has all."""
    if isinstance(value, list):
        return f"[{', '.join(map(format_value, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "–", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    text = f"{value:,}" if isinstance(value, int) else str(value)
    if re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", text):
        return f"{text[:12]}…"
    return text if len(text) <= LONG_VALUE else f"{text[:20]}…{text[20 - LONG_VALUE :]}"


def count_noun(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def print_difference(found: Difference) -> None:
    domains = make_table("domain", ">weight", ">tokens", ">epochs", ">rows kept", ">added", ">removed", ">documents new", ">gone")
    documents = {(d.split, d.domain): d for d in found.documents}
    splits = sorted({split for split, _ in documents} - {"train"})
    for split in ("train", *splits):
        for name, facts in found.domains.items():
            d = documents.get((split, name))
            counts = [f"{n:,}" for n in (d.kept, d.added, d.removed, d.new, d.gone)] if d else ["0"] * 5
            if split == "train":
                mixture = (
                    format_change(facts["weight"], ".4f"),
                    format_change(facts["tokens"], ","),
                    format_change(facts["epochs"], ".2f"),
                )
                domains.add_row(name, *mixture, *counts)
            elif d:
                domains.add_row(f"{name} ({split})", "", "", "", *counts)
    out.print(domains)
    s = found.shards
    shared = f"{s['shared']:,} the same, byte for byte ({s['shared_bytes']:,} bytes)" if s["shared"] else "none the same"
    moved = {source: {k: n for k, n in counts.items() if k != "same" and n} for source, counts in found.inputs.items()}
    sections = {
        "shards": [f"{s['before']:,} → {s['after']:,}, {shared}"],
        "recipe": format_changes(found.recipe),
        "lineage": format_changes(found.lineage),
        "inputs": [
            f"{source}: " + ", ".join(f"{count_noun(n, 'fragment')} {kind}" for kind, n in counts.items())
            for source, counts in moved.items()
            if counts
        ],
    }
    for title, lines in sections.items():
        first, *others = lines or ["the same"]
        print_pairs([(title, first), *(("", line) for line in others)])


def format_changes(changes: dict[str, Change]) -> list[str]:
    """A line a key, or a section of which one side has no key."""
    sections: dict[str, dict[str, Change]] = {}
    for key, change in changes.items():
        section, leaf = DOTTED_KEY.fullmatch(key).groups() if "." in key else (None, key)  # type: ignore[union-attr]
        sections.setdefault(section or key, {})[leaf] = change
    lines = []
    for section, leaves in sections.items():
        lacking = [all(change[side] is None for change in leaves.values()) for side in (0, 1)]
        if len(leaves) > 1 and any(lacking):
            before, after = ("–" if lacking[side] else format_facts({k: c[side] for k, c in leaves.items()}) for side in (0, 1))
            lines.append(f"{section}: {before} → {after}")
        else:
            lines += [
                f"{leaf if leaf == section else f'{section}.{leaf}'}: {format_change(change)}" for leaf, change in leaves.items()
            ]
    return lines


def format_change(change: Change, form: str = "") -> str:
    before, after = (format(value, form) if form and value is not None else format_value(value) for value in change)
    return before if before == after else f"{before} → {after}"


def describe_deviation(worst: Any) -> dict[str, Any]:
    return {"domain": worst.domain, "where": worst.where, "tokens": worst.tokens, "bound": worst.bound}


def print_verification(number: int, found: Verification, again: dict[str, int] | None) -> None:
    """`again`: what was read again of the corpus and agrees."""
    out.print(f"v{number}: {count_noun(found.rows, 'row')}, {count_noun(found.files, 'file')}, {found.bytes:,} bytes read")
    for name, worst in (("in the whole", found.whole), ("in a shard", found.shard), ("in a prefix", found.prefix)):
        out.print(
            f"  worst {name:<13} {worst.tokens:>10,.1f} tokens off its share, {worst.share:.3f} of its bound "
            f"({worst.domain}, {worst.where})", soft_wrap=True,
        )  # fmt: skip
    if again:
        counts = f"{count_noun(again['domains'], 'domain')} read again, {count_noun(again['rows'], 'row')}"
        out.print(f"  corpus              {counts}: the books and the plan agree", soft_wrap=True)
    for problem in found.problems:
        out.print(Text("✗", style="red"), problem, soft_wrap=True)
    if found.ok:
        out.print(Text("✓", style="green"), "every check holds")
    else:
        out.print(Text(f"{count_noun(len(found.problems), 'check')} failed", style="red"))
        advice = "missing or damaged files: restore them from a copy, or remove them and build again from the same corpus"
        out.print(advice, soft_wrap=True)
