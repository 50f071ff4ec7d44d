"""The report: one HTML file that shows what went into a version, why, and what proves it.

    manifest, and what `verify` found  →  tables (polars) and figures (matplotlib)  →  one page (jinja2)

The file needs nothing beside itself: no script, font or image from elsewhere, and a content policy under which a browser runs
none, since domain and file names are strangers' text. Figures are inline SVG whose colours are CSS variables, so that they
follow light and dark, and whose words are words, which a browser can set in any alphabet. A function of its arguments: the same
manifest gives the same bytes. Cost: 10 domains of 256 samples each 0.6 s and 0.28 MB; 300 domains 0.8 s and 1.1 MB.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isfinite, log10
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from chameleon_data.figures import (
    INK,
    MUTED,
    affinity_figure,
    deviations_figure,
    epochs_figure,
    leverage_figure,
    map_figure,
    mixture_figure,
    shares_figure,
    shifted,
)

if TYPE_CHECKING:
    from chameleon_data.verify import Verification

LISTED = 500
"""Rows of a table; the manifest holds the others."""


@dataclass(frozen=True)
class Column:
    label: str
    key: str
    show: Callable[[Any], str] = str
    number: bool = True
    """Set to the right, in figures of one width."""


@dataclass(frozen=True)
class Table:
    caption: str
    """What a screen reader says first."""
    columns: tuple[Column, ...]
    rows: list[list[str]]
    """As shown; the first cell names the row."""
    total: list[str] | None = None
    note: str | None = None


def render(manifest: Mapping[str, Any], verification: Verification | None, created: str | None) -> str:
    """The page. `verification`: what `verify` found of this version, None where it did not run; `created`: its time of commit."""
    import matplotlib as mpl

    domains = _domains(manifest)
    about, k = manifest["weights"], len(domains)
    totals = {c: int(domains[c].sum()) for c in ("tokens", "rows", "quota", "quarantined", "available_tokens", "read")}
    shards = _shards(manifest)
    measured = domains.filter(pl.col("score").is_not_null())
    settings: dict[Any, Any] = {
        "svg.fonttype": "none", "svg.hashsalt": "chameleon-data", "text.parse_math": False, "font.size": 12,
        "text.color": INK, "xtick.color": MUTED, "ytick.color": MUTED, "axes.labelcolor": MUTED, "xtick.labelsize": 11,
        "ytick.labelsize": 11, "axes.labelsize": 11,
    }  # fmt: skip
    with mpl.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # of the font that measures; the browser has its own
        page = {
            "manifest": manifest,
            "version": manifest.get("version"),
            "reused": manifest.get("reused"),
            "about": about,
            "created": created,
            "proof": verification,
            "k": k,
            "totals": totals,
            "domains": domains,
            "facts": _facts(manifest, about, k),
            "moved": _moved(about, domains),
            "mixture": mixture_figure(domains),
            "mixture_table": _mixture_table(domains, totals),
            "leverage": leverage_figure(measured, about) if len(measured) else None,
            "leverage_table": _leverage_table(measured, k) if len(measured) else None,
            "affinity": affinity_figure(about) if about.get("affinity") is not None else None,
            "pairs_table": _pairs_table(about) if about.get("affinity") is not None else None,
            "map": map_figure(domains, manifest["map"]) if manifest.get("map") else None,
            "epochs": epochs_figure(domains, manifest),
            "epochs_table": _epochs_table(domains),
            "shares": shares_figure(domains, shards),
            "deviations": deviations_figure(domains, shards),
            "shards_seen": len(shards),
            "worst_table": _worst_table(verification) if verification else None,
            "worst": [(w, _rounded(w.share)) for w in (verification.whole, verification.shard, verification.prefix)]
            if verification
            else [],
            "quarantine_table": _quarantine_table(manifest["quarantine"], domains),
            "books_table": _books_table(domains),
            "recipe": yaml.safe_dump(manifest["recipe"], sort_keys=False, allow_unicode=True, width=110),
            "packages": sorted(manifest["provenance"].get("packages", {}).items()),
            "inputs": len(manifest["provenance"].get("inputs", [])),
            "inputs_table": _inputs_table(manifest["provenance"].get("inputs", [])),
            "timings_table": _timings_table(manifest.get("timings", {})),
            "formats": _formats(manifest),
        }
        environment = Environment(
            loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
            lstrip_blocks=True,
        )  # fmt: skip
        environment.filters |= {"whole": _whole, "compact": _compact, "size": _size}
        return environment.get_template("report.html.j2").render(page)


# The domains, one row each. Every figure and table shows them in this order and with these colours.


def _domains(manifest: Mapping[str, Any]) -> pl.DataFrame:
    """One row a domain, largest weight first."""
    about, domains = manifest["weights"], manifest["domains"]
    integers = {
        "quota": "target_tokens", "tokens": "tokens", "rows": "rows", "available_tokens": "available_tokens",
        "available_rows": "available_rows", "largest": "largest_document", "read": "rows_read", "once": "rows_written_once",
        "not_selected": "rows_not_selected", "quarantined": "quarantined",
    }  # fmt: skip
    intervals = [d["weight_interval"] or (None, None) for d in domains.values()]
    target, stability = about.get("target") or {}, about.get("rank_stability") or {}
    reals = {
        "weight": [d["weight"] for d in domains.values()], "epochs": [d["epochs"] for d in domains.values()],
        "score": [d["score"] for d in domains.values()], "low": [low for low, _ in intervals],
        "high": [high for _, high in intervals], "asked": [target.get(n, d["weight"]) for n, d in domains.items()],
        "stability": [stability.get(n) for n in domains],
    }  # fmt: skip
    frame = pl.DataFrame(
        {"name": list(domains), **{c: [d[key] for d in domains.values()] for c, key in integers.items()}, **reals},
        schema={"name": pl.String, **dict.fromkeys(integers, pl.Int64), **dict.fromkeys(reals, pl.Float64)},
    )
    return frame.with_columns(
        natural=pl.col("available_tokens") / pl.col("available_tokens").sum(),
        realised=pl.col("tokens") / pl.col("tokens").sum(),
        uniform=1 / pl.len(),
        deviation=pl.col("tokens") - pl.col("quota"),
        off=(pl.col("tokens") - pl.col("quota")).abs() / pl.col("largest"),
        missing=pl.col("read") - pl.col("once") - pl.col("not_selected") - pl.col("quarantined"),
    ).sort("weight", "name", descending=[True, False])


def _shards(manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The shards in order, of one format: the others hold the same rows."""
    first = manifest["shards"][0]["format"]
    return sorted((s for s in manifest["shards"] if s["format"] == first), key=lambda s: int(s["shard"]))


def _formats(manifest: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    """(format, files, bytes)"""
    found: dict[str, tuple[int, int]] = {}
    for s in manifest["shards"]:
        files, size = found.get(s["format"], (0, 0))
        found[s["format"]] = files + 1, size + s["bytes"]
    return [(name, *counts) for name, counts in found.items()]


# Numbers as people read them


def _whole(value: int) -> str:
    return f"{value:,}".replace("-", "−")


def _signed(value: int) -> str:
    return "0" if value == 0 else f"{value:+,}".replace("-", "−")


def _compact(value: int) -> str:
    for limit, unit in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**4, "k")):
        if value >= limit:
            return f"{value / (limit if unit != 'k' else 1000):.3g} {unit}"
    return f"{value:,}"


def _size(value: int) -> str:
    for limit, unit in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if value >= limit:
            return f"{value / limit:.3g} {unit}"
    return f"{value} B"


def _percent(k: int) -> Callable[[float | None], str]:
    """Shares of k domains, with digits enough to tell two of them apart."""
    digits = max(2, ceil(log10(max(k, 1))))
    return lambda value: "–" if value is None else f"{100 * value:.{digits}f} %"


def _rounded(value: float) -> str:
    return f"{100 * value:.0f} %"


def _decimals(digits: int) -> Callable[[float | None], str]:
    return lambda value: "–" if value is None or not isfinite(value) else f"{value:.{digits}f}".replace("-", "−")


# Tables


def _table(caption: str, frame: pl.DataFrame, columns: Sequence[Column], total: Mapping[str, str] | None = None) -> Table:
    rows = [[c.show(row[c.key]) for c in columns] for row in frame.head(LISTED).iter_rows(named=True)]
    note = f"{len(frame) - LISTED:,} more rows stand in the manifest, not here." if len(frame) > LISTED else None
    return Table(caption, tuple(columns), rows, [total.get(c.key, "") for c in columns] if total else None, note)


DOMAIN = Column("Domain", "name", number=False)


def _mixture_table(domains: pl.DataFrame, totals: Mapping[str, int]) -> Table:
    share = _percent(len(domains))
    between = pl.struct("low", "high").map_elements(
        lambda i: "–" if i["low"] is None else f"{share(i['low'])[:-2]} – {share(i['high'])}", return_dtype=pl.String
    )
    interval = "90 % interval by leverage" if shifted(domains) else "90 % interval"
    columns = [
        DOMAIN, Column("Weight", "weight", share), Column(interval, "interval"), Column("Natural", "natural", share),
        Column("Quota, tokens", "quota", _whole), Column("Tokens written", "tokens", _whole),
        Column("Off, tokens", "deviation", _signed), Column("Off, of largest document", "off", _decimals(2)),
        Column("Documents", "rows", _whole), Column("Epochs", "epochs", _decimals(2)),
    ]  # fmt: skip
    if not domains["low"].count():
        columns = [c for c in columns if c.key != "interval"]
    total = {
        "name": "All", "weight": share(1.0), "natural": share(1.0), "quota": _whole(totals["quota"]),
        "tokens": _whole(totals["tokens"]), "deviation": _signed(totals["tokens"] - totals["quota"]),
        "rows": _whole(totals["rows"]),
    }  # fmt: skip
    return _table("The mixture in numbers, a row a domain", domains.with_columns(interval=between), columns, total)


def _leverage_table(measured: pl.DataFrame, k: int) -> Table:
    share = _percent(k)
    columns = [
        DOMAIN, Column("Score", "score", _decimals(3)), Column("Weight by leverage", "asked", share),
        Column("Weight", "weight", share),
        Column("Keeps its rank", "stability", lambda v: "–" if v is None else _rounded(v)),
    ]  # fmt: skip
    return _table("Leverage scores and the weights that follow from them", measured, columns)


def _pairs_table(about: Mapping[str, Any]) -> Table:
    """The ten pairs of domains that are most alike."""
    names, matrix = about["names"], np.asarray(about["affinity"], np.float64)
    matrix = matrix / (float(np.trace(matrix)) / len(names) or 1.0)
    one, other = np.triu_indices(len(names), 1)
    first = np.argsort(-matrix[one, other], kind="stable")[:10]
    frame = pl.DataFrame(
        {"name": [names[i] for i in one[first]], "other": [names[j] for j in other[first]], "affinity": matrix[one, other][first]}
    )
    columns = [DOMAIN, Column("and", "other", number=False), Column("Affinity", "affinity", _decimals(2))]
    return _table("The pairs of domains that are most alike", frame, columns)


def _epochs_table(domains: pl.DataFrame) -> Table:
    columns = [
        DOMAIN, Column("Documents there", "available_rows", _whole), Column("Tokens there", "available_tokens", _whole),
        Column("Tokens written", "tokens", _whole), Column("Epochs", "epochs", _decimals(2)),
    ]  # fmt: skip
    return _table("How often each domain is read", domains, columns)


def _worst_table(found: Verification) -> Table:
    rows = [
        {"name": w.domain, "where": w.where, "off": w.tokens, "bound": w.bound, "share": w.share}
        for w in found.by_domain.values()
    ]
    frame = pl.DataFrame(
        rows, schema={"name": pl.String, "where": pl.String, "off": pl.Float64, "bound": pl.Int64, "share": pl.Float64}
    )
    columns = [
        DOMAIN, Column("Where", "where", number=False), Column("Tokens off", "off", lambda v: f"{v:,.0f}"),
        Column("Bound", "bound", _whole), Column("Of the bound", "share", _rounded),
    ]  # fmt: skip
    return _table("The worst prefix of each domain", frame.sort("share", "name", descending=[True, False]), columns)


def _quarantine_table(reasons: Mapping[str, Mapping[str, int]], domains: pl.DataFrame) -> Table | None:
    rows = [
        {"name": name, "reason": reason, "rows": count}
        for name, found in reasons.items()
        for reason, count in found.items()
        if count
    ]
    if not rows:
        return None
    found = pl.DataFrame(rows, schema={"name": pl.String, "reason": pl.String, "rows": pl.Int64})
    # A domain of which no row was usable is in no plan, and so not among `domains`.
    frame = found.join(domains.select("name", "read"), on="name", how="left").with_columns(share=pl.col("rows") / pl.col("read"))
    columns = [
        DOMAIN, Column("Reason", "reason", number=False), Column("Rows", "rows", _whole),
        Column("Of its rows", "share", lambda v: "–" if v is None else f"{100 * v:.3f} %"),
    ]  # fmt: skip
    return _table(
        "Rows set aside, by domain and reason", frame.sort("rows", "name", "reason", descending=[True, False, False]), columns
    )


def _books_table(domains: pl.DataFrame) -> Table:
    columns = [
        DOMAIN, Column("Read", "read", _whole), Column("= written", "once", _whole),
        Column("+ not selected", "not_selected", _whole), Column("+ quarantined", "quarantined", _whole),
        Column("Balance", "missing", lambda v: "✓ balanced" if v == 0 else f"✗ {_signed(v)}"),
    ]  # fmt: skip
    sums = {c: _whole(int(domains[c].sum())) for c in ("read", "once", "not_selected", "quarantined")}
    broken = int((domains["missing"] != 0).sum())
    return _table(
        "Every row that was read, by domain", domains, columns,
        {"name": "All", **sums, "missing": f"✗ {broken:,} broken" if broken else "✓ balanced"},
    )  # fmt: skip


def _inputs_table(inputs: Sequence[Mapping[str, Any]]) -> Table | None:
    if not inputs:
        return None
    schema = {"name": pl.String, "source": pl.String, "row_group": pl.Int64, "bytes": pl.Int64, "identity": pl.String}
    frame = pl.DataFrame([{**i, "name": i["url"], "identity": str(i["identity"])} for i in inputs], schema=schema)
    columns = [
        Column("File", "name", number=False), Column("Source", "source", number=False),
        Column("Row group", "row_group", lambda v: "–" if v is None else _whole(v)), Column("Bytes", "bytes", _whole),
        Column("Identity", "identity", number=False),
    ]  # fmt: skip
    return _table("The files that were read", frame, columns)


def _timings_table(timings: Mapping[str, float]) -> Table | None:
    if not timings:
        return None
    frame = pl.DataFrame(
        {"name": list(timings), "seconds": list(timings.values())}, schema={"name": pl.String, "seconds": pl.Float64}
    )
    frame = frame.with_columns(share=pl.col("seconds") / pl.max_horizontal(pl.col("seconds").sum(), 1e-9))
    columns = [
        Column("Pass", "name", number=False),
        Column("Seconds", "seconds", lambda v: f"{v:,.1f}"),
        Column("Of all", "share", _rounded),
    ]
    return _table("Seconds that each pass took", frame, columns, {"name": "All", "seconds": f"{frame['seconds'].sum():,.1f}"})


# Sentences


def _facts(manifest: Mapping[str, Any], about: Mapping[str, Any], k: int) -> list[tuple[str, str]]:
    """How the weights were reached, as (term, value)."""
    computed = "computed from the data" if k > 1 else "all to the only domain"
    facts = [("Weights", computed if about["origin"] == "computed" else f"given by {about['origin']}")]
    if about.get("temperature") is not None:
        wish = manifest["recipe"].get("weights", {}).get("temperature")
        chosen = " (auto)" if wish == "auto" else ""
        sense = {"pretrain": "pretrain: what others share gets more", "finetune": "finetune: what is distinct gets more"}
        facts += [
            ("Objective", sense.get(about["objective"], about["objective"])),
            ("Preset, kernel", f"{about['preset']}, {about['kernel']}"),
            ("Temperature", f"{about['temperature']:.4g}{chosen}"),
        ]
    if about.get("ridge") is not None:
        chosen = " (auto)" if manifest["recipe"].get("leverage", {}).get("ridge") == "auto" else ""
        facts.append(("Ridge λ", f"{about['ridge']:.3g}{chosen}"))
    facts.append(("As spread out as", f"{about['effective_domains']:.2f} equal domains, of {k:,}"))
    if about.get("affinity") is not None or about.get("clipped_mass"):
        facts.append(("Clipped by debiasing", f"{100 * about['clipped_mass']:.2f} % of the trace"))
    return facts


def _moved(about: Mapping[str, Any], domains: pl.DataFrame) -> Table | None:
    """The bounds that acted on the weights."""
    moved = about.get("moved") or []
    if not moved:
        return None
    share = _percent(len(domains))
    words = {"floor": "floor", "cap": "cap", "epochs": "limit of epochs"}
    rows = [
        {
            "name": m["domain"],
            "bound": words.get(m["bound"], m["bound"]),
            **{c: m[c] for c in ("before", "after", "shadow_price")},
        }
        for m in moved
    ]
    frame = pl.DataFrame(
        rows, schema={"name": pl.String, "bound": pl.String, **dict.fromkeys(("before", "after", "shadow_price"), pl.Float64)}
    )
    columns = [
        DOMAIN, Column("Bound", "bound", number=False), Column("Before", "before", share), Column("After", "after", share),
        Column("Shadow price, nats", "shadow_price", lambda v: "no limit" if v is None else f"{v:.3f}"),
    ]  # fmt: skip
    return _table("Bounds that moved a weight", frame, columns)
