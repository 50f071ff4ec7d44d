"""The report: one HTML file that shows what went into a version, why, and what proves it.

    manifest, and what `verify` found  →  tables (polars) and figures (matplotlib)  →  one page (jinja2)

The file needs nothing beside itself: no script, font or image from elsewhere. Its content policy lets a browser run none, since
the names of domains and files are strangers' text. The same manifest gives the same bytes. Cost: 10 domains of 256 samples each
take 0.6 s and 0.28 MB; 300 domains 0.8 s and 1.1 MB.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl
import yaml

from chameleon_data.corpus.clusterings import Clustering
from chameleon_data.versions.manifest import FormatSum, Manifest, name_tokens
from chameleon_data.views.report import figures, tables
from chameleon_data.views.report.canvas import INK, MUTED
from chameleon_data.views.report.changes import changed_inputs_table, moved_weights_table, values_table
from chameleon_data.views.report.conclusions import Before, conclude
from chameleon_data.views.report.domains import ReportRows, domain_frame, epoch_limit
from chameleon_data.views.report.template import fill_template
from chameleon_data.views.report.topics import topics_table
from chameleon_data.views.report.words import (
    format_percent,
    isolate_name,
    shorten_path,
)
from chameleon_data.weights.embedder import Embedder

if TYPE_CHECKING:
    from chameleon_data.recipe import Recipe
    from chameleon_data.versions.verify import Verification
    from chameleon_data.weights.mixture import Centre, LandmarksUsed, MixtureDescription
    from chameleon_data.weights.weigh import Match

FORMAT_TITLES = {"parquet": "Parquet", "mds": "MDS", "arrow": "Arrow", "jsonl": "JSON lines", "webdataset": "WebDataset",
                 "litdata": "LitData", "megatron": "Megatron"}  # fmt: skip
"""Format -> its name as its makers write it."""
WIDE_MARGIN = 0.15
"""Margin above which a wrong label is likely. Why: docs/decisions/081-misfiled-margin.md."""
FIGURE_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "chameleon-data", "text.parse_math": False, "font.size": 12, "text.color": INK,
    "xtick.color": MUTED, "ytick.color": MUTED, "axes.labelcolor": MUTED, "xtick.labelsize": 11, "ytick.labelsize": 11,
    "axes.labelsize": 11,
}  # fmt: skip
"""Settings of matplotlib."""


@dataclass(frozen=True)
class ReportPart:
    """A part of the page that a room above made: a comparison of mixtures."""

    title: str
    conclusion: str
    """What it says of the version's own mixture, in a sentence."""
    text: str
    draw: Callable[[], tuple[figures.Figure, ...]]
    """Draws its figures, in the page's style."""
    table: tables.ReportTable


@contextmanager
def figure_style() -> Iterator[None]:
    """Figures are drawn inside it."""
    import matplotlib as mpl

    with mpl.rc_context(FIGURE_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # by the font that measures; the browser has its own
        yield


def render_report(
    manifest: Manifest,
    rows: ReportRows,
    number: int | None,
    created: str | None,
    verification: Verification | None,
    evaluations: Sequence[ReportPart] = (),
    clustering: Clustering | None = None,
    lengths: pl.DataFrame | None = None,
    before: Before | None = None,
) -> str:
    """The page of a version, by its number and time of commit. `verification`: what `verify` found; None: it did not run.
    `clustering`: how its domains were discovered. `lengths`: as `measure_lengths` found them. `before`: the version before it."""
    domains = domain_frame(manifest)
    with figure_style():
        page = {
            "conclusions": conclude(manifest, domains, before, [part.conclusion for part in evaluations]),
            "before": before,
            "changes": _changes(before, name_tokens(manifest.unit)) if before else None,
            "evaluations": [(part, part.draw()) for part in evaluations],
            "clustering": clustering,
            "topics": topics_table(clustering, manifest) if clustering else None,
            "manifest": manifest,
            "unit": name_tokens(manifest.unit),
            "version": None if number is None else f"v{number}",
            "created": created,
            "proof": verification,
            "packed": manifest.recipe.shards.sequence_length != "none",
            "recipe": yaml.safe_dump(manifest.recipe.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True,
                                     width=110),
            "formats": [(FORMAT_TITLES[name], sums.bytes) for name, sums in ordered_formats(manifest)],
            **_mixture(manifest, domains, rows),
            **_written(manifest, domains, rows, verification),
            **_documents(domains, lengths),
        }  # fmt: skip
    return fill_template("page.html.j2", page)


def _mixture(manifest: Manifest, domains: pl.DataFrame, rows: ReportRows) -> dict[str, Any]:
    """The page's values that explain the weights."""
    about = manifest.weights
    measured, k = domains.filter(pl.col("score").is_not_null()), len(domains)
    misfiled = about.misfiled or ()
    return {
        "about": about,
        "k": k,
        "facts": describe_weights(about, manifest.recipe, k),
        "moved": tables.bounds_table(manifest, k),
        "mixture": figures.mixture_figure(domains),
        "natural": figures.natural_figure(domains, epoch_limit(manifest.recipe.mix), manifest.budget) if k > 1 else None,
        "mixture_table": tables.mixture_table(domains),
        "beside_table": tables.beside_table(about, domains),
        "leverage": figures.leverage_figure(measured) if len(measured) else None,
        "leverage_table": tables.leverage_table(measured, k) if len(measured) else None,
        "neighbours_table": tables.neighbours_table(about.neighbours or {}, domains),
        "settings_table": tables.settings_table(about),
        "affinity": (
            None if about.affinity is None else figures.affinity_figure(about.affinity, about.names, about.beyond_noise)
        ),
        "pairs_table": tables.pairs_table(about.pairs),
        "misfiled_table": tables.misfiled_table(misfiled),
        "misfiled_wide": sum(m.margin > WIDE_MARGIN for m in misfiled[: tables.MISFILED_LISTED]),
        "map": figures.map_figure(domains, rows.map) if rows.map else None,
    }


def _changes(before: Before, unit: str) -> dict[str, Any]:
    """The page's values on what changed since the version before."""
    changes = before.changes
    return {
        "weights": moved_weights_table(changes, unit),
        "recipe": values_table("Keys of the recipe that changed", changes.recipe),
        "inputs": changed_inputs_table(changes.inputs),
        "lineage": values_table("Libraries and settings behind it that changed", changes.lineage),
    }


def _documents(domains: pl.DataFrame, lengths: pl.DataFrame | None) -> dict[str, Any]:
    """The page's values on how long documents are."""
    return {
        "lengths": None if lengths is None else figures.lengths_figure(lengths, domains),
        "lengths_table": tables.lengths_table(domains, lengths),
        "measured": 0 if lengths is None else int(lengths["measured"].sum()),
    }


def _written(manifest: Manifest, domains: pl.DataFrame, rows: ReportRows, verification: Verification | None) -> dict[str, Any]:
    """The page's values that show what was read and written."""
    shards, limit = rows.shards, epoch_limit(manifest.recipe.mix)
    limited = {m.domain for m in manifest.weights.moved if m.bound == "epochs"}
    found, unit = verification, name_tokens(manifest.unit)
    inputs = sum(sums.files for sums in manifest.provenance.inputs.values())
    return {
        "totals": {c: int(domains[c].sum()) for c in ("tokens", "rows", "quarantined", "read")},
        "held_out": sum(record.rows for record in manifest.validation.values()),
        "epochs": figures.epochs_figure(domains, limit, limited),
        "epochs_table": tables.epochs_table(domains),
        "quota_table": tables.quota_table(domains),
        "validation_table": tables.validation_table(manifest.validation, manifest.domains, unit),
        "shares": figures.shares_figure(domains, shards, manifest.stages),
        "deviations": figures.deviations_figure(domains, shards, manifest.stages),
        "stages_table": tables.stages_table(manifest.stages, domains) if len(manifest.stages) > 1 else None,
        "worst_table": tables.worst_table(found.by_domain, unit) if found else None,
        "worst": [(w, format_percent(w.share)) for w in (found.whole, found.shard, found.prefix)] if found else [],
        "quarantine_table": tables.quarantine_table(manifest.quarantine, domains),
        "books_table": tables.books_table(domains),
        "packages": sorted(manifest.provenance.packages.items()),
        "inputs": inputs,
        "inputs_table": tables.inputs_table(rows.inputs, inputs),
        "timings_table": tables.timings_table(manifest.timings, manifest.expected, manifest.reused),
    }


def ordered_formats(manifest: Manifest) -> list[tuple[str, FormatSum]]:
    """The formats in the recipe's order."""
    order = manifest.recipe.shards.formats
    return sorted(manifest.formats.items(), key=lambda item: (order.index(item[0]) if item[0] in order else len(order), item[0]))


def describe_weights(about: MixtureDescription, recipe: Recipe, k: int) -> list[tuple[str, str]]:
    """How the weights of k domains were reached, as (term, value)."""
    computed = "computed from the data" if k > 1 else "all to the only domain"
    facts = [("Weights", computed if about.origin == "computed" else f"given by {about.origin}")]
    if about.centre is not None and k > 1:
        chosen = " (auto)" if recipe.weights.temperature == "auto" else ""
        temperature = "infinite: no tilt" if about.temperature is None else f"{about.temperature:.4g}{chosen}"
        sense = {
            "unseen": "domains not trained on: common domains get more (inverse leverage)",
            "trained": "the domains trained on: distinct domains get more (leverage)",
            "like": "samples of its own: domains near them get more",
        }
        facts += [
            ("Compared", "domains by their means" if about.level == "domain" else "samples"),
            ("Objective", about.objective),
            ("Target", sense[about.target or "unseen"]),
            ("Evidence", about.evidence),
            *describe_match(about.match),
            ("Preset, kernel", f"{about.preset}, {about.kernel}"),
            ("Temperature", temperature),
            *describe_centre(about.centre, about.kl, about.kl_after_bounds),
        ]
    if isinstance(about.embedder, Embedder):
        layer = f", layer {about.embedder.layer}" if about.embedder.layer else ""
        facts.append(("Embedded by", f"{about.embedder.model}{layer}"))
    elif about.embedder:
        facts.append(("Embedded by", f"the column {about.embedder.column}"))
    if about.movement:
        moved, widest = max((share, name) for name, share in about.movement.items())
        others = ", ".join(shorten_path(other.name) for other in about.other_embedders)
        facts.append(("Beside it", f"{others}: a weight moves by up to {100 * moved:.1f} % ({isolate_name(widest)})"))
    if about.rounds:
        steps = " → ".join(f"{r.samples:,}: ±{r.widest / 2:.3f}" for r in about.rounds)
        facts.append(("Samples a domain (auto)", steps))
    facts += [("Scored as one", ", ".join(isolate_name(name) for name in group)) for group in about.merged]
    if about.ridge is not None:
        facts.append(("Ridge λ", f"{about.ridge:.3g}{' (auto)' if recipe.leverage.ridge == 'auto' else ''}"))
    facts.append(("As spread out as", f"{about.effective_domains:.2f} equal domains, after bounds (there are {k:,})"))
    if about.affinity is not None or about.clipped_mass:
        facts.append(("Negative part removed", f"{100 * about.clipped_mass:.2f} % of the affinity's trace"))
    return facts + (describe_landmarks(about.nystrom) if about.nystrom else [])


def describe_centre(centre: Centre, kl: float | None, after: float | None) -> list[tuple[str, str]]:
    """What was tilted and how far, as (term, value)."""
    facts = [("Centre", shorten_path(centre.name) if centre.given else centre.name)]
    if kl is not None and after is not None:
        facts.append(("KL from the centre", f"{kl:.4f} nats before bounds, {after:.4f} after"))
    return facts


def describe_match(match: Match | None) -> list[tuple[str, str]]:
    """How near the weights come to a target's samples, as (term, value)."""
    if match is None:
        return []
    apart = f"{max(match.from_centre, 0.0):.3g} of the centre, {max(match.from_weights, 0.0):.3g} of the weights"
    return [("Samples of the target", f"{match.samples:,}"), ("Squared distance from it", apart)]


def describe_landmarks(used: LandmarksUsed) -> list[tuple[str, str]]:
    """What stood for a kernel that was not computed in full, as (term, value)."""
    kernel = used.kernel
    degree = f", degree {kernel.degree}" if kernel.name == "polynomial" else ""
    error = (
        "could not be measured" if used.error is None else f"{used.error:.2g}, measured on held-out samples; not a proved bound"
    )
    of_before = ", of an earlier version" if used.recorded else ""
    facts = [
        ("Kernel", f"{kernel.name}, bandwidth {kernel.bandwidth:.3g}{degree}"),
        ("Landmarks", f"{used.landmarks:,}{of_before}, digest {used.digest[:12]}"),
        ("Largest error of a weight", error),
    ]
    if gaps := {name: high - low for name, (low, high) in (used.bounds or {}).items()}:
        widest = max(gaps, key=lambda name: (gaps[name], name))
        proved = f"at most {gaps[widest]:.2g} above the computed one ({isolate_name(widest)}); before debiasing and scaling"
        facts.append(("Exact leverage, proved", proved))
    if used.residuals:
        domain, share = max(used.residuals.items(), key=lambda r: r[1])
        facts.append(("Not seen by landmarks", f"at most {100 * share:.1f} % of a domain ({isolate_name(domain)})"))
    return facts
