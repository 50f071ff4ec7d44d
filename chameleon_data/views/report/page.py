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
from dataclasses import dataclass, replace
from math import ceil, isfinite, log10
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from scipy.special import rel_entr

from chameleon_data.versions.manifest import TIMED_PASSES
from chameleon_data.views.report.figures import (
    INK,
    MUTED,
    affinity_figure,
    deviations_figure,
    epochs_figure,
    leverage_figure,
    map_figure,
    mixture_figure,
    shares_figure,
    short,
    weights_moved,
)

if TYPE_CHECKING:
    from chameleon_data.versions.verify import Verification

ROWS_LISTED = 500
"""Rows of a table; the manifest holds the others."""
NAMES_LISTED = {"parquet": "Parquet", "mds": "MDS", "arrow": "Arrow", "jsonl": "JSON lines", "webdataset": "WebDataset",
         "litdata": "LitData", "megatron": "Megatron"}  # fmt: skip
"""Formats as their makers write them."""
MISFILED_LISTED = 0.15
"""Margin above which, of ten real domains, .76 of the misplaced documents were and .006 of the others (`explain.py`)."""


@dataclass(frozen=True)
class TableColumn:
    label: str
    key: str
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


def render_report(manifest: Mapping[str, Any], verification: Verification | None, created: str | None) -> str:
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
            "moved": _moved(manifest, about, domains),
            "mixture": mixture_figure(domains),
            "mixture_table": _mixture_table(domains, totals),
            "beside_table": _beside_table(about, domains),
            "leverage": leverage_figure(measured, about) if len(measured) else None,
            "leverage_table": _leverage_table(measured, k) if len(measured) else None,
            "neighbours_table": _neighbours_table(about, domains),
            "settings_table": _settings_table(about),
            "affinity": affinity_figure(about) if about.get("affinity") is not None else None,
            "pairs_table": _pairs_table(about),
            "misfiled_table": _misfiled_table(about),
            "misfiled_wide": sum(m["margin"] > MISFILED_LISTED for m in (about.get("misfiled") or [])[:20]),
            "map": map_figure(domains, manifest["map"]) if manifest.get("map") else None,
            "epochs": epochs_figure(domains, manifest),
            "epochs_table": _epochs_table(domains),
            "validation_table": _validation_table(manifest),
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
        environment.filters |= {"whole": _whole, "compact": _compact, "size": _size, "ending": _ending}
        return environment.get_template("page.html.j2").render(page)


# The domains, one row each. Every figure and table shows them in this order and with these colours.


def _domains(manifest: Mapping[str, Any]) -> pl.DataFrame:
    """One row a domain, largest weight first."""
    about, domains = manifest["weights"], manifest["domains"]
    integers = {
        "quota": "target_tokens", "tokens": "tokens", "rows": "rows", "available_tokens": "available_tokens",
        "available_rows": "available_rows", "largest": "largest_document", "read": "rows_read", "once": "rows_written_once",
        "not_selected": "rows_not_selected", "quarantined": "quarantined", "held_out": "held_out",
        "copies_dropped": "copies_dropped", "copies_written": "copies_written", "most_copies": "most_copies",
    }  # fmt: skip
    length = manifest["recipe"]["shards"].get("sequence_length", "none")
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
        bound=pl.col("largest") if length == "none" else pl.lit(length),
        packed=pl.lit(length != "none"),
        off=(pl.col("tokens") - pl.col("quota")).abs() / (pl.col("largest") if length == "none" else pl.lit(length)),
        missing=pl.col("read") - pl.sum_horizontal("once", "not_selected", "held_out", "copies_dropped", "quarantined"),
    ).sort("weight", "name", descending=[True, False])


def _shards(manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The training shards in order, of one format and file: the others hold the same rows."""
    first = manifest["shards"][0]["format"]
    found = {int(s["shard"]): s for s in manifest["shards"] if s["format"] == first and s["split"] == "train"}
    return [found[number] for number in sorted(found)]


def _formats(manifest: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    """(format, files, bytes)"""
    found: dict[str, tuple[int, int]] = {}
    for s in manifest["shards"]:
        files, size = found.get(s["format"], (0, 0))
        found[s["format"]] = files + 1, size + s["bytes"]
    return [(NAMES_LISTED[name], *counts) for name, counts in found.items()]


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


def _ending(path: str) -> str:
    """The last two parts of a path or URL; a hub id as it is."""
    parts = [part for part in path.split("/") if part]
    return path if len(parts) <= 2 else "…/" + "/".join(parts[-2:])


def _percent(k: int) -> Callable[[float | None], str]:
    """Shares of k domains, with digits enough to tell two of them apart."""
    digits = max(2, ceil(log10(max(k, 1))))
    return lambda value: "–" if value is None else f"{100 * value:.{digits}f} %"


def _rounded(value: float) -> str:
    return f"{100 * value:.0f} %"


def _decimals(digits: int) -> Callable[[float | None], str]:
    return lambda value: "–" if value is None or not isfinite(value) else f"{value:.{digits}f}".replace("-", "−")


# Tables


def _table(
    caption: str, frame: pl.DataFrame, columns: Sequence[TableColumn], total: Mapping[str, str] | None = None
) -> ReportTable:
    rows = [[c.show(row[c.key]) for c in columns] for row in frame.head(ROWS_LISTED).iter_rows(named=True)]
    note = f"{len(frame) - ROWS_LISTED:,} more rows stand in the manifest, not here." if len(frame) > ROWS_LISTED else None
    return ReportTable(caption, tuple(columns), rows, [total.get(c.key, "") for c in columns] if total else None, note)


DOMAIN = TableColumn("Domain", "name", number=False)


def _mixture_table(domains: pl.DataFrame, totals: Mapping[str, int]) -> ReportTable:
    share = _percent(len(domains))
    between = pl.struct("low", "high").map_elements(
        lambda i: "–" if i["low"] is None else f"{share(i['low'])[:-2]} – {share(i['high'])}", return_dtype=pl.String
    )
    interval = "90 % interval by leverage" if weights_moved(domains) else "90 % interval"
    columns = [
        DOMAIN,
        TableColumn("Weight", "weight", share),
        TableColumn(interval, "interval"),
        TableColumn("Natural", "natural", share),
        TableColumn("Quota, tokens", "quota", _whole),
        TableColumn("Tokens written", "tokens", _whole),
        TableColumn("Off, tokens", "deviation", _signed),
        TableColumn("Off, of its bound", "off", _decimals(2)),
        TableColumn("Sequences" if domains["packed"].any() else "Documents", "rows", _whole),
        TableColumn("Epochs", "epochs", _decimals(2)),
    ]
    if not domains["low"].count():
        columns = [c for c in columns if c.key != "interval"]
    total = {
        "name": "All",
        "weight": share(1.0),
        "natural": share(1.0),
        "quota": _whole(totals["quota"]),
        "tokens": _whole(totals["tokens"]),
        "deviation": _signed(totals["tokens"] - totals["quota"]),
        "rows": _whole(totals["rows"]),
    }
    return _table("The mixture in numbers, a row a domain", domains.with_columns(interval=between), columns, total)


def _leverage_table(measured: pl.DataFrame, k: int) -> ReportTable:
    share = _percent(k)
    columns = [
        DOMAIN, TableColumn("Score", "score", _decimals(3)), TableColumn("Weight by leverage", "asked", share),
        TableColumn("Weight", "weight", share),
        TableColumn("Keeps its rank", "stability", lambda v: "–" if v is None else _rounded(v)),
    ]  # fmt: skip
    return _table("Leverage scores and the weights that follow from them", measured, columns)


def _beside_table(about: Mapping[str, Any], domains: pl.DataFrame) -> ReportTable | None:
    """Other mixtures beside this one; the last row says how far the weights are from each."""
    target = "By leverage alone" if about["origin"] == "computed" else "As given"
    own = {"natural": "Natural", "target": target, "uniform": "Uniform"}
    given = {n: m for n, m in (about.get("mixtures") or {}).items() if n != "target" or weights_moved(domains)}
    if not given or len(domains) == 1:
        return None
    files = sorted(n for n in given if n not in own and not n.startswith("natural^"))
    ends = [Path(n).name for n in files]
    labels = {n: own.get(n, n.capitalize()) for n in sorted(given.keys() - set(files))}
    labels |= {n: short(n if ends.count(end) > 1 else end, 40) for n, end in zip(files, ends, strict=True)}
    share, names, weight = _percent(len(domains)), domains["name"], domains["weight"].to_numpy()
    columns, total = [DOMAIN, TableColumn("Weight", "weight", share)], {"name": "Divergence, nats"}
    for index, (key, label) in enumerate(labels.items()):
        shares = np.array([given[key].get(n, 0.0) for n in names])
        domains = domains.with_columns(pl.Series(f"beside-{index}", shares))
        columns.append(TableColumn(label, f"beside-{index}", share))
        apart = float(rel_entr(weight, shares).sum())
        total[f"beside-{index}"] = f"{max(apart, 0.0):.4f}" if isfinite(apart) else "∞"
    return _table("The weights beside other mixtures", domains, columns, total)


def _neighbours_table(about: Mapping[str, Any], domains: pl.DataFrame) -> ReportTable | None:
    """The three domains that lower each one's leverage most."""
    found = about.get("neighbours") or {}

    def words(by: Mapping[str, Any]) -> str:
        """Isolated, so that a name that runs from right to left leaves the numbers where they are."""
        return f"\u2068{short(by['domain'], 30)}\u2069 {100 * by['lowers']:.1f}\u00a0%, cosine\u00a0{_decimals(2)(by['cosine'])}"

    rows = [{"name": n, **{f"by{i}": words(by) for i, by in enumerate(found[n][:3])}} for n in domains["name"] if found.get(n)]
    if not rows:
        return None
    labels = ("Lowered most by", "then by", "then by")
    columns = [TableColumn(label, f"by{i}", number=False) for i, label in enumerate(labels) if f"by{i}" in rows[0]]
    return _table("The domains that lower each one's leverage", pl.DataFrame(rows), [DOMAIN, *columns])


def _settings_table(about: Mapping[str, Any]) -> ReportTable | None:
    """Ridge down, temperature across: the share of the mixture that moves, and the perplexity."""
    found = about.get("sensitivity") or []
    if not found:
        return None
    used = (about["ridge"], about["temperature"])
    rows: dict[float, dict[str, str]] = {}
    refused = {s["refused"]: None for s in found if s["refused"]}
    for s in found:
        here = np.allclose((s["ridge"], s["temperature"]), used, rtol=1e-6, atol=0)
        moved = "in use" if here else "" if s["moved"] is None else f"{100 * s['moved']:.1f} %"
        cell = "refused" if s["refused"] else f"{moved}, {s['effective_domains']:.2f}"
        rows.setdefault(s["ridge"], {"name": f"λ = {s['ridge']:.3g}"})[f"{s['temperature']:.17g}"] = cell
    temperatures = dict.fromkeys(s["temperature"] for s in found)
    columns = [TableColumn(f"T = {t:.3g}", f"{t:.17g}", lambda v: v or "–") for t in temperatures]
    table = _table(
        "The mixture at other ridges and temperatures", pl.DataFrame(list(rows.values())),
        [TableColumn("Ridge, temperature", "name", number=False), *columns],
    )  # fmt: skip
    return replace(table, note=f"Refused: {'; '.join(refused)}.") if refused else table


def _pairs_table(about: Mapping[str, Any]) -> ReportTable | None:
    """The ten pairs of domains that are least apart."""
    if not about.get("pairs"):
        return None
    schema = {"first": pl.String, "second": pl.String, "separation": pl.Float64, "cosine": pl.Float64}
    columns = [
        TableColumn("Domain", "first", number=False), TableColumn("and", "second", number=False),
        TableColumn("Separation", "separation", _decimals(3)), TableColumn("Cosine", "cosine", _decimals(2)),
    ]  # fmt: skip
    return _table("The pairs of domains that are least apart", pl.DataFrame(about["pairs"][:10], schema=schema), columns)


def _misfiled_table(about: Mapping[str, Any]) -> ReportTable | None:
    if not about.get("misfiled"):
        return None
    schema = {**dict.fromkeys(("domain", "nearest", "text", "document"), pl.String), "margin": pl.Float64}
    columns = [
        TableColumn("Domain", "domain", number=False),
        TableColumn("Nearer to", "nearest", number=False),
        TableColumn("Margin", "margin", _decimals(3)),
        TableColumn("From its text", "text", lambda v: short(v, 120), number=False),
        TableColumn("Document", "document", number=False),
    ]
    return _table("Documents nearer to another domain", pl.DataFrame(about["misfiled"][:20], schema=schema), columns)


def _epochs_table(domains: pl.DataFrame) -> ReportTable:
    columns = [
        DOMAIN, TableColumn("Documents there", "available_rows", _whole), TableColumn("Tokens there", "available_tokens", _whole),
        TableColumn("Tokens written", "tokens", _whole), TableColumn("Epochs", "epochs", _decimals(2)),
    ]  # fmt: skip
    if domains["copies_written"].sum():
        columns += [
            TableColumn("Copies an epoch", "copies_written", _whole),
            TableColumn("Most of one text", "most_copies", _whole),
        ]
    return _table("How often each domain is read", domains, columns)


def _validation_table(manifest: Mapping[str, Any]) -> ReportTable | None:
    """What is held out of each domain."""
    held = manifest.get("validation")
    if not held:
        return None
    rows = [
        {"name": n, "rows": d["available_rows"], "tokens": d["tokens"],
         "share": d["available_tokens"] / (d["available_tokens"] + manifest["domains"][n]["available_tokens"])}
        for n, d in held.items()
    ]  # fmt: skip
    frame = pl.DataFrame(rows, schema={"name": pl.String, "rows": pl.Int64, "tokens": pl.Int64, "share": pl.Float64})
    columns = [
        DOMAIN, TableColumn("Documents", "rows", _whole), TableColumn("Tokens", "tokens", _whole),
        TableColumn("Of the domain", "share", lambda v: f"{100 * v:.2f} %"),
    ]  # fmt: skip
    return _table("Documents held out for validation", frame.sort("name"), columns)


def _worst_table(found: Verification) -> ReportTable:
    rows = [
        {"name": w.domain, "where": w.where, "off": w.tokens, "bound": w.bound, "share": w.share}
        for w in found.by_domain.values()
    ]
    frame = pl.DataFrame(
        rows, schema={"name": pl.String, "where": pl.String, "off": pl.Float64, "bound": pl.Int64, "share": pl.Float64}
    )
    columns = [
        DOMAIN, TableColumn("Where", "where", number=False), TableColumn("Tokens off", "off", lambda v: f"{v:,.0f}"),
        TableColumn("Bound", "bound", _whole), TableColumn("Of the bound", "share", _rounded),
    ]  # fmt: skip
    return _table("The worst prefix of each domain", frame.sort("share", "name", descending=[True, False]), columns)


def _quarantine_table(reasons: Mapping[str, Mapping[str, int]], domains: pl.DataFrame) -> ReportTable | None:
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
        DOMAIN, TableColumn("Reason", "reason", number=False), TableColumn("Rows", "rows", _whole),
        TableColumn("Of its rows", "share", lambda v: "–" if v is None else f"{100 * v:.3f} %"),
    ]  # fmt: skip
    return _table(
        "Rows set aside, by domain and reason", frame.sort("rows", "name", "reason", descending=[True, False, False]), columns
    )


def _books_table(domains: pl.DataFrame) -> ReportTable:
    columns = [
        DOMAIN, TableColumn("Read", "read", _whole), TableColumn("= written", "once", _whole),
        TableColumn("+ not selected", "not_selected", _whole), TableColumn("+ held out", "held_out", _whole),
        TableColumn("+ copies dropped", "copies_dropped", _whole), TableColumn("+ quarantined", "quarantined", _whole),
        TableColumn("Balance", "missing", lambda v: "✓ balanced" if v == 0 else f"✗ {_signed(v)}"),
    ]  # fmt: skip
    sums = {c.key: _whole(int(domains[c.key].sum())) for c in columns[1:-1]}
    broken = int((domains["missing"] != 0).sum())
    return _table(
        "Every row that was read, by domain", domains, columns,
        {"name": "All", **sums, "missing": f"✗ {broken:,} broken" if broken else "✓ balanced"},
    )  # fmt: skip


def _inputs_table(inputs: Sequence[Mapping[str, Any]]) -> ReportTable | None:
    if not inputs:
        return None
    schema = {"name": pl.String, "source": pl.String, "row_group": pl.Int64, "bytes": pl.Int64, "identity": pl.String}
    frame = pl.DataFrame([{**i, "name": i["url"], "identity": str(i["identity"])} for i in inputs], schema=schema)
    columns = [
        TableColumn("File", "name", number=False), TableColumn("Source", "source", number=False),
        TableColumn("Row group", "row_group", lambda v: "–" if v is None else _whole(v)), TableColumn("Bytes", "bytes", _whole),
        TableColumn("Identity", "identity", number=False),
    ]  # fmt: skip
    return _table("The files that were read", frame, columns)


def _timings_table(timings: Mapping[str, float]) -> ReportTable | None:
    if not timings:
        return None
    passes = [*(name for name in TIMED_PASSES if name in timings), *sorted(timings.keys() - set(TIMED_PASSES))]
    schema = {"name": pl.String, "seconds": pl.Float64}
    frame = pl.DataFrame({"name": passes, "seconds": [timings[name] for name in passes]}, schema=schema)
    frame = frame.with_columns(share=pl.col("seconds") / pl.max_horizontal(pl.col("seconds").sum(), 1e-9))
    columns = [
        TableColumn("Pass", "name", number=False),
        TableColumn("Seconds", "seconds", lambda v: f"{v:,.1f}"),
        TableColumn("Of all", "share", _rounded),
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
        if about.get("level"):
            facts.insert(1, ("Leverage of", f"{about['level']}s"))
    if embedder := about.get("embedder"):
        layer = f", layer {embedder['layer']}" if embedder.get("layer") else ""
        facts.append(("Embedded by", f"{embedder.get('model') or 'the column ' + embedder['column']}{layer}"))
    if rounds := about.get("rounds"):
        facts.append(("Samples a domain (auto)", " → ".join(f"{r['samples']:,}: ±{r['widest'] / 2:.3f}" for r in rounds)))
    if about.get("ridge") is not None:
        chosen = " (auto)" if manifest["recipe"].get("leverage", {}).get("ridge") == "auto" else ""
        facts.append(("Ridge λ", f"{about['ridge']:.3g}{chosen}"))
    facts.append(("As spread out as", f"{about['effective_domains']:.2f} equal domains, of {k:,}"))
    if about.get("affinity") is not None or about.get("clipped_mass"):
        facts.append(("Clipped by debiasing", f"{100 * about['clipped_mass']:.2f} % of the trace"))
    if about.get("nystrom"):
        facts += _landmarks(about["nystrom"])
    return facts


def _landmarks(nystrom: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What stood for a kernel that was not computed in full, as (term, value)."""
    kernel, error = nystrom["kernel"], nystrom["error"]
    degree = f", degree {kernel['degree']}" if kernel["name"] == "polynomial" else ""
    measured = "could not be measured" if error is None else f"{error:.2g}, as measured on held-out samples; not a proved bound"
    of_before = ", of an earlier version" if nystrom.get("recorded") else ""
    gaps = {name: high - low for name, (low, high) in (nystrom.get("bounds") or {}).items()}
    widest = max(gaps, key=lambda name: (gaps[name], name), default=None)
    proved = f"within {gaps[widest]:.2g} above that seen (\u2068{short(widest, 40)}\u2069 the widest)" if widest else None
    unseen = max(nystrom["residuals"].items(), key=lambda r: r[1], default=None)
    return [
        ("Kernel", f"{kernel['name']}, bandwidth {kernel['bandwidth']:.3g}{degree}"),
        ("Landmarks", f"{nystrom['landmarks']:,}{of_before}, digest {nystrom['digest'][:12]}"),
        ("Largest error of a weight", measured),
        *([("Exact leverage, proved", f"{proved}; before debiasing and scaling")] if proved else []),
        *([("Unseen by landmarks", f"at most {100 * unseen[1]:.1f} %, of \u2068{short(unseen[0], 40)}\u2069")] if unseen else []),
    ]


def _moved(manifest: Mapping[str, Any], about: Mapping[str, Any], domains: pl.DataFrame) -> ReportTable | None:
    """The bounds that acted on the weights."""
    moved = about.get("moved") or []
    if not moved:
        return None
    share = _percent(len(domains))
    groups = manifest["recipe"].get("weights", {}).get("groups") or {}

    def words(domain: str, bound: str) -> str:
        if not bound.startswith("group "):
            return {"epochs": "limit of epochs"}.get(bound, bound)
        members = [f"\u2068{short(n)}\u2069" for n in groups.get(domain, {}).get("domains", [])]
        more = f" and {len(members) - 4} more" if len(members) > 4 else ""
        return f"{bound.removeprefix('group ')} of the group" + (f": {', '.join(members[:4])}{more}" if members else "")

    rows = [
        {
            "name": m["domain"],
            "bound": words(m["domain"], m["bound"]),
            **{c: m[c] for c in ("before", "after", "shadow_price")},
        }
        for m in moved
    ]
    frame = pl.DataFrame(
        rows, schema={"name": pl.String, "bound": pl.String, **dict.fromkeys(("before", "after", "shadow_price"), pl.Float64)}
    )
    columns = [
        TableColumn("Domain or group" if any(m["bound"].startswith("group ") for m in moved) else "Domain", "name", number=False),
        TableColumn("Bound", "bound", number=False), TableColumn("Before", "before", share), TableColumn("After", "after", share),
        TableColumn("Shadow price, nats", "shadow_price", lambda v: "no limit" if v is None else f"{v:.3f}"),
    ]  # fmt: skip
    return _table("Bounds that moved a weight", frame, columns)
