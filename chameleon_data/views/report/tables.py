"""The report's tables. Each is a caption, columns, and rows of text as it is shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import scipy

from chameleon_data.versions.corpus_tables import InputFile
from chameleon_data.versions.manifest import TIMED_PASSES, DomainRecord, Manifest, SplitRecord, StageRecord
from chameleon_data.views.report.domains import bounds_that_acted, weights_moved
from chameleon_data.views.report.words import (
    decimal_formatter,
    format_percent,
    format_signed,
    format_whole,
    isolate_name,
    percent_formatter,
    shorten_name,
)

if TYPE_CHECKING:
    from chameleon_data.recipe import Group
    from chameleon_data.versions.checks.balance import Deviation
    from chameleon_data.weights.bounds import MovedWeight
    from chameleon_data.weights.explain.near_duplicates import Pair
    from chameleon_data.weights.explain.neighbours import Neighbour
    from chameleon_data.weights.mixture import MisfiledDocument, MixtureDescription

ROWS_LISTED = 500
"""Rows of a table; the manifest holds the others."""
NEIGHBOURS_LISTED, PAIRS_LISTED, MISFILED_LISTED, MEMBERS_LISTED = 3, 10, 20, 4
"""Neighbours of a domain, pairs of domains, misfiled documents, and domains of a group."""


@dataclass(frozen=True)
class TableColumn:
    label: str
    key: str
    """Column of a frame, or field of a record."""
    show: Callable[[Any], str] = str
    number: bool = True
    """Set to the right, in figures of one width."""


@dataclass(frozen=True)
class ReportTable:
    caption: str
    """What a screen reader says first."""
    columns: tuple[TableColumn, ...]
    rows: list[list[str]]
    """As shown; the first cell names the row."""
    total: list[str] | None = None
    note: str | None = None


def _text(label: str, key: str, show: Callable[[Any], str] = str) -> TableColumn:
    """A column of text."""
    return TableColumn(label, key, show, number=False)


DOMAIN = _text("Domain", "name")


def make_report_table(
    caption: str,
    records: pl.DataFrame | Sequence[object],
    columns: Sequence[TableColumn],
    total: Mapping[str, str] | None = None,
    there_are: int | None = None,
) -> ReportTable:
    """A row for each row of a frame, or for each record. `total`: key of a column -> its cell in the last row. `there_are`: rows
    in all, where only the first ones are given."""
    first = records[:ROWS_LISTED]
    values = first.to_dicts() if isinstance(first, pl.DataFrame) else [vars(record) for record in first]
    rows = [[c.show(row[c.key]) for c in columns] for row in values]
    more = (there_are or len(records)) - len(first)
    note = f"{more:,} more rows stand in the manifest, not here." if more else None
    return ReportTable(caption, tuple(columns), rows, [total.get(c.key, "") for c in columns] if total else None, note)


# Of the mixture


def stages_table(stages: Sequence[StageRecord], domains: pl.DataFrame) -> ReportTable:
    """Shares of the tokens that each stage holds, and all of them; `domains` give the order."""
    share, unit = percent_formatter(len(domains)), domains["unit"][0]
    held = [sum(domain.tokens for domain in stage.domains.values()) for stage in stages]
    keys = [f"stage {number}" for number in range(1, len(stages) + 1)]
    rows = domains.select("name", "tokens").to_dicts()
    for row in rows:
        row["all"] = share(row["tokens"] / sum(held))
        for key, stage, total in zip(keys, stages, held, strict=True):
            row[key] = share(stage.domains[row["name"]].tokens / total) if row["name"] in stage.domains else "absent"
    columns = [DOMAIN, *(TableColumn(key.capitalize(), key) for key in keys), TableColumn("All", "all")]
    sums = {key: f"{format_whole(total)} {unit}" for key, total in zip(keys, held, strict=True)}
    frame = pl.DataFrame(rows).drop("tokens")
    return make_report_table("Shares over the course of the training", frame, columns, {**sums, "all": format_whole(sum(held))})


def mixture_table(domains: pl.DataFrame) -> ReportTable:
    share, unit = percent_formatter(len(domains)), domains["unit"][0]

    def show_ends(low: str, high: str) -> pl.Expr:
        return pl.struct(low=low, high=high).map_elements(
            lambda i: "–" if i["low"] is None else f"{share(i['low'])[:-2]} – {share(i['high'])}", return_dtype=pl.String
        )

    columns = [
        DOMAIN,
        TableColumn("Weight", "weight", share),
        TableColumn("90 % interval before bounds" if weights_moved(domains) else "90 % interval", "interval"),
        TableColumn("By embedder", "range"),
        TableColumn("Natural share", "natural", share),
        TableColumn("Times natural", "times", decimal_formatter(2)),
        TableColumn(f"{unit.capitalize()} written", "tokens", format_whole),
        TableColumn("Sequences" if domains["packed"].any() else "Documents", "rows", format_whole),
        TableColumn("Epochs", "epochs", decimal_formatter(2)),
    ]
    absent = {key for key, ends in (("interval", "low"), ("range", "least")) if not domains[ends].count()}
    columns = [c for c in columns if c.key not in absent]
    total = {
        "name": "All",
        "weight": share(1.0),
        "natural": share(1.0),
    }
    total |= {key: format_whole(int(domains[key].sum())) for key in ("tokens", "rows")}
    return make_report_table(
        "The mixture in numbers, a row a domain",
        domains.with_columns(interval=show_ends("low", "high"), range=show_ends("least", "most")),
        columns,
        total,
    )


def quota_table(domains: pl.DataFrame) -> ReportTable:
    """What was written of each domain beside what was asked for, and the share of the bound that this took."""
    unit = domains["unit"][0]
    columns = [
        DOMAIN,
        TableColumn(f"Quota, {unit}", "quota", format_whole),
        TableColumn(f"{unit.capitalize()} written", "tokens", format_whole),
        TableColumn(f"Off, {unit}", "deviation", format_signed),
        TableColumn(f"Bound, {unit}", "bound", format_whole),
        TableColumn("Off, of its bound", "off", decimal_formatter(2)),
        TableColumn("Weight", "weight", percent_formatter(len(domains))),
        TableColumn("Share written", "realised", percent_formatter(len(domains))),
    ]
    total = {key: format_whole(int(domains[key].sum())) for key in ("quota", "tokens")}
    total |= {"name": "All", "deviation": format_signed(int(domains["deviation"].sum()))}
    return make_report_table("Written against asked for", domains, columns, total)


def bounds_table(manifest: Manifest, k: int) -> ReportTable | None:
    """The bounds that acted on the weights of k domains, in each stage."""
    acted = bounds_that_acted(manifest)
    if not acted:
        return None
    share = percent_formatter(k)
    groups: dict[str, Group] = {}
    for stage in manifest.recipe.stages:
        groups |= stage.weights.groups

    def describe(m: MovedWeight) -> str:
        if not m.bound.startswith("group "):
            return "limit of epochs" if m.bound == "epochs" else m.bound
        members = [isolate_name(n, 22) for n in groups[m.domain].domains] if m.domain in groups else []
        more = f" and {len(members) - MEMBERS_LISTED} more" if len(members) > MEMBERS_LISTED else ""
        listed = f": {', '.join(members[:MEMBERS_LISTED])}{more}" if members else ""
        return f"{m.bound.removeprefix('group ')} of the group{listed}"

    rows = pl.DataFrame(
        [(m.domain, number, describe(m), m.before, m.after, m.shadow_price) for number, m in acted],
        {
            "name": pl.String,
            "stage": pl.Int64,
            "bound": pl.String,
            "before": pl.Float64,
            "after": pl.Float64,
            "price": pl.Float64,
        },
        orient="row",
    )
    columns = [
        _text("Domain or group" if any(m.bound.startswith("group ") for _, m in acted) else "Domain", "name"),
        *([TableColumn("Stage", "stage", format_whole)] if len(manifest.stages) > 1 else []),
        _text("Bound", "bound"),
        TableColumn("Before", "before", share),
        TableColumn("After", "after", share),
        TableColumn("Shadow price, nats", "price", lambda v: "no limit" if v is None else f"{v:.3f}"),
    ]
    return make_report_table("Bounds that moved a weight", rows, columns)


def beside_table(about: MixtureDescription, domains: pl.DataFrame) -> ReportTable | None:
    """Other mixtures beside this one; the last row says how far the weights are from each."""
    unbounded = "Before bounds" if about.origin == "computed" else "As given"
    own = {"natural": "Natural", "unbounded": unbounded, "uniform": "Uniform"}
    given = {n: m for n, m in (about.mixtures or {}).items() if n != "unbounded" or weights_moved(domains)}
    if not given or len(domains) == 1:
        return None
    files = sorted(n for n in given if n not in own and not n.startswith("natural^"))
    ends = [Path(n).name for n in files]
    labels = {n: own.get(n, n.capitalize()) for n in sorted(given.keys() - set(files))}
    labels |= {n: shorten_name(n if ends.count(end) > 1 else end, 40) for n, end in zip(files, ends, strict=True)}
    share, names, weight = percent_formatter(len(domains)), domains["name"], domains["weight"].to_numpy()
    columns, total = [DOMAIN, TableColumn("Weight", "weight", share)], {"name": "Divergence, nats"}
    for index, (key, label) in enumerate(labels.items()):
        shares = np.array([given[key].get(n, 0.0) for n in names])
        domains = domains.with_columns(pl.Series(f"beside-{index}", shares))
        columns.append(TableColumn(label, f"beside-{index}", share))
        apart = float(scipy.special.rel_entr(weight, shares).sum())
        total[f"beside-{index}"] = f"{max(apart, 0.0):.4f}" if isfinite(apart) else "∞"
    return make_report_table("The weights beside other mixtures", domains, columns, total)


# Of leverage and affinity


def leverage_table(measured: pl.DataFrame, k: int) -> ReportTable:
    share = percent_formatter(k)
    columns = [
        DOMAIN,
        TableColumn("Score", "score", decimal_formatter(3)),
        TableColumn("Weight before bounds", "asked", share),
        TableColumn("Weight", "weight", share),
        TableColumn("Keeps its rank", "stability", format_percent),
    ]
    return make_report_table("Leverage scores and the weights that follow from them", measured, columns)


def neighbours_table(neighbours: Mapping[str, Sequence[Neighbour]], domains: pl.DataFrame) -> ReportTable | None:
    """The three domains that lower each one's leverage most."""
    cosine = decimal_formatter(2)

    def describe(by: Neighbour) -> str:
        return f"{isolate_name(by.domain, 30)} {100 * by.lowers:.1f}\u00a0%, cosine\u00a0{cosine(by.cosine)}"

    rows = [
        {"name": n, **{f"by{i}": describe(by) for i, by in enumerate(neighbours[n][:NEIGHBOURS_LISTED])}}
        for n in domains["name"]
        if neighbours.get(n)
    ]
    if not rows:
        return None
    labels = ("Lowered most by", "then by", "then by")
    columns = [_text(label, f"by{i}") for i, label in enumerate(labels) if f"by{i}" in rows[0]]
    return make_report_table("The domains that lower each one's leverage", pl.DataFrame(rows), [DOMAIN, *columns])


def settings_table(about: MixtureDescription) -> ReportTable | None:
    """Ridge down, temperature across: the share of the mixture that moves, and the perplexity."""
    if not about.sensitivity:
        return None
    used = (about.ridge or 0.0, about.temperature or 0.0)
    rows: dict[float, dict[str, str]] = {}
    refused = {s.refused: None for s in about.sensitivity if s.refused}
    for s in about.sensitivity:
        in_use = np.allclose((s.ridge, s.temperature), used, rtol=1e-6, atol=0)
        moved = "in use" if in_use else "" if s.moved is None else f"{100 * s.moved:.1f} %"
        cell = "refused" if s.refused else f"{moved}, {s.effective_domains:.2f}"
        rows.setdefault(s.ridge, {"name": f"λ = {s.ridge:.3g}"})[f"{s.temperature:.17g}"] = cell
    temperatures = dict.fromkeys(s.temperature for s in about.sensitivity)
    columns = [TableColumn(f"T = {t:.3g}", f"{t:.17g}", lambda v: v or "–") for t in temperatures]
    caption = "The mixture at other ridges and temperatures"
    table = make_report_table(caption, pl.DataFrame(list(rows.values())), [_text("Ridge, temperature", "name"), *columns])
    return replace(table, note=f"Refused: {'; '.join(refused)}.") if refused else table


def pairs_table(pairs: Sequence[Pair]) -> ReportTable | None:
    columns = [
        _text("Domain", "first"),
        _text("and", "second"),
        TableColumn("Separation", "separation", decimal_formatter(3)),
        TableColumn("Cosine", "cosine", decimal_formatter(2)),
    ]
    return make_report_table("The pairs of domains that are least apart", pairs[:PAIRS_LISTED], columns) if pairs else None


def misfiled_table(misfiled: Sequence[MisfiledDocument]) -> ReportTable | None:
    columns = [
        _text("Domain", "domain"),
        _text("Nearer to", "nearest"),
        TableColumn("Margin", "margin", decimal_formatter(3)),
        _text("From its text", "text", lambda text: shorten_name(text, 120)),
        _text("Document", "document"),
    ]
    return make_report_table("Documents nearer to another domain", misfiled[:MISFILED_LISTED], columns) if misfiled else None


# Of what was written


def epochs_table(domains: pl.DataFrame) -> ReportTable:
    unit = domains["unit"][0].capitalize()
    columns = [
        DOMAIN,
        TableColumn(f"{unit} there", "available_tokens", format_whole),
        TableColumn(f"{unit} written", "tokens", format_whole),
        TableColumn("Epochs", "epochs", decimal_formatter(2)),
    ]
    if domains["copies_written"].sum():
        columns.append(TableColumn("Copies an epoch", "copies_written", format_whole))
        columns.append(TableColumn("Most of one text", "most_copies", format_whole))
    return make_report_table("How often each domain is read", domains, columns)


def lengths_table(domains: pl.DataFrame, lengths: pl.DataFrame | None) -> ReportTable:
    """Documents of the corpus by domain: how many, their mean and the largest; where shards were measured, the written median."""
    unit = domains["unit"][0]
    frame = domains.with_columns(mean=pl.col("available_tokens") / pl.col("available_rows"))
    columns = [
        DOMAIN,
        TableColumn("Documents there", "available_rows", format_whole),
        TableColumn(f"Mean, {unit}", "mean", lambda v: format_whole(round(v))),
        TableColumn(f"Largest, {unit}", "largest", format_whole),
    ]
    if lengths is not None:
        frame = frame.join(lengths, on="name", how="left", maintain_order="left")
        columns.insert(2, TableColumn(f"Median written, {unit}", "q50", lambda v: "–" if v is None else format_whole(round(v))))
    return make_report_table("Lengths of documents", frame, columns)


def validation_table(held_out: Mapping[str, SplitRecord], train: Mapping[str, DomainRecord], unit: str) -> ReportTable | None:
    """What is held out of each domain; `unit` is what tokens are called."""
    if not held_out:
        return None
    rows = [
        (n, d.available_rows, d.tokens, d.available_tokens / (d.available_tokens + train[n].available_tokens))
        for n, d in sorted(held_out.items())
    ]
    frame = pl.DataFrame(rows, {"name": pl.String, "rows": pl.Int64, "tokens": pl.Int64, "share": pl.Float64}, orient="row")
    columns = [
        DOMAIN,
        TableColumn("Documents", "rows", format_whole),
        TableColumn(unit.capitalize(), "tokens", format_whole),
        TableColumn("Of the domain", "share", lambda v: format_percent(v, 2)),
    ]
    return make_report_table("Documents held out for validation", frame, columns)


def worst_table(by_domain: Mapping[str, Deviation], unit: str) -> ReportTable:
    """The worst prefix of each domain, as `verify` found it; `unit` is what tokens are called."""
    rows = [(w.domain, w.where, w.tokens, w.bound, w.share) for w in by_domain.values()]
    schema = {"name": pl.String, "where": pl.String, "off": pl.Float64, "bound": pl.Int64, "share": pl.Float64}
    columns = [
        DOMAIN,
        _text("Where", "where"),
        TableColumn(f"{unit.capitalize()} off", "off", lambda v: f"{v:,.0f}"),
        TableColumn("Bound", "bound", format_whole),
        TableColumn("Of the bound", "share", format_percent),
    ]
    frame = pl.DataFrame(rows, schema, orient="row").sort("share", "name", descending=[True, False])
    return make_report_table("The worst prefix of each domain", frame, columns)


def quarantine_table(reasons: Mapping[str, Mapping[str, int]], domains: pl.DataFrame) -> ReportTable | None:
    rows = [(name, reason, count) for name, counts in reasons.items() for reason, count in counts.items() if count]
    if not rows:
        return None
    found = pl.DataFrame(rows, {"name": pl.String, "reason": pl.String, "rows": pl.Int64}, orient="row")
    # A domain without a usable row is in no plan, so it is not among `domains`.
    frame = found.join(domains.select("name", "read"), on="name", how="left").with_columns(share=pl.col("rows") / pl.col("read"))
    columns = [
        DOMAIN,
        _text("Reason", "reason"),
        TableColumn("Rows", "rows", format_whole),
        TableColumn("Of its rows", "share", lambda v: format_percent(v, 3)),
    ]
    frame = frame.sort("rows", "name", "reason", descending=[True, False, False])
    return make_report_table("Rows set aside, by domain and reason", frame, columns)


def books_table(domains: pl.DataFrame) -> ReportTable:
    columns = [
        DOMAIN,
        TableColumn("Read", "read", format_whole),
        TableColumn("= written", "once", format_whole),
        TableColumn("+ not selected", "not_selected", format_whole),
        TableColumn("+ held out", "held_out", format_whole),
        TableColumn("+ copies dropped", "copies_dropped", format_whole),
        TableColumn("+ filtered", "filtered", format_whole),
        TableColumn("+ quarantined", "quarantined", format_whole),
        TableColumn("Balance", "missing", lambda v: "✓ balanced" if v == 0 else f"✗ {format_signed(v)}"),
    ]
    sums = {c.key: format_whole(int(domains[c.key].sum())) for c in columns[1:-1]}
    broken = int((domains["missing"] != 0).sum())
    total = {"name": "All", **sums, "missing": f"✗ {broken:,} broken" if broken else "✓ balanced"}
    return make_report_table("Every row that was read, by domain", domains, columns, total)


# Of where it comes from


def inputs_table(inputs: Sequence[InputFile], files: int) -> ReportTable | None:
    """The first files of the corpus, of so many."""
    columns = [
        _text("File", "url"),
        _text("Source", "source"),
        TableColumn("Bytes", "bytes", format_whole),
        _text("Identity", "identity"),
    ]
    return make_report_table("The files that were read", inputs, columns, there_are=files) if inputs else None


def timings_table(timings: Mapping[str, float], expected: Mapping[str, float], reused: Mapping[str, str]) -> ReportTable | None:
    """Seconds of each pass beside its estimate, which is for a pass that finds nothing of an earlier run."""
    if not timings:
        return None
    passes = [*(name for name in TIMED_PASSES if name in timings), *sorted(timings.keys() - set(TIMED_PASSES))]
    all_seconds = sum(timings.values())
    rows = [
        (
            name,
            timings[name],
            timings[name] / max(all_seconds, 1e-9),
            expected.get(name),
            _compare(name, timings, expected, reused),
        )
        for name in passes
    ]
    columns = [
        _text("Pass", "name"),
        TableColumn("Seconds", "seconds", lambda v: f"{v:,.1f}"),
        TableColumn("Of all", "share", format_percent),
        TableColumn("Estimated before", "expected", lambda v: "" if v is None else f"{v:,.1f}"),
        _text("Estimate against actual", "off"),
    ]
    types = {"name": pl.String, "seconds": pl.Float64, "share": pl.Float64, "expected": pl.Float64, "off": pl.String}
    frame = pl.DataFrame(rows, types, orient="row")
    total = {"name": "All", "seconds": f"{all_seconds:,.1f}", "expected": f"{sum(expected.values()):,.1f}" if expected else ""}
    return make_report_table("Seconds that each pass took", frame, columns, total)


def _compare(name: str, timings: Mapping[str, float], expected: Mapping[str, float], reused: Mapping[str, str]) -> str:
    if name not in expected:
        return ""
    if any(name.split()[0] == key.split()[0] for key in reused):  # "embed" of "embed and weigh"
        return "not comparable: some was done before"
    return f"{expected[name] / timings[name] - 1:+.0%}" if timings[name] else ""
