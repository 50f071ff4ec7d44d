"""What changed between two versions, as an HTML page of its own. It needs nothing beside itself, as the report."""

from __future__ import annotations

import numpy as np

from chameleon_data.versions.diff import Difference
from chameleon_data.versions.manifest import Manifest, name_tokens
from chameleon_data.views.report.canvas import INK, NATURAL, RULE, TARGET, draw_svg, new_axes, swatch
from chameleon_data.views.report.changes import (
    changed_inputs_table,
    documents_table,
    moved_weights_table,
    say_changes,
    values_table,
)
from chameleon_data.views.report.figures import DRAWN, Figure, Key
from chameleon_data.views.report.page import figure_style
from chameleon_data.views.report.template import fill_template
from chameleon_data.views.report.words import format_bytes, format_percent, format_whole, shorten_name


def render_difference(names: tuple[str, str], manifests: tuple[Manifest, Manifest], found: Difference) -> str:
    """The page. `names`: the versions, as OUT@V."""
    unit = name_tokens(manifests[1].unit)
    with figure_style():
        page = {
            "names": names,
            "conclusions": [f"From the first to the second, {say_changes(found)}", *_say_documents(found)],
            "moved": moved_figure(found),
            "weights": moved_weights_table(found, unit),
            "documents": documents_table(found.documents),
            "shards": _say_shards(found),
            "recipe": values_table("Keys of the recipe that changed", found.recipe),
            "inputs": changed_inputs_table(found.inputs),
            "lineage": values_table("Libraries and settings that changed", found.lineage),
            "made_by": manifests[1].provenance.code.version,
        }
    return fill_template("difference.html.j2", page)


def moved_figure(found: Difference) -> Figure:
    """Each domain's weight before and after, joined by a line; the largest moves first, of equal ones the largest weights."""
    pairs: list[tuple[str, float, float]] = [
        (name, facts["weight"][0] or 0.0, facts["weight"][1] or 0.0) for name, facts in found.domains.items()
    ]
    shown = sorted(pairs, key=lambda pair: (-round(abs(pair[2] - pair[1]), 9), -pair[2], pair[0]))[:DRAWN]
    moved = any(round(abs(after - before), 9) for _, before, after in shown)
    caption = "Weights before and after, the largest moves first" if moved else "Weights, of which none moved, the largest first"
    kind = "that moved most" if moved else "largest"
    pitch, left = 26.0, 16 + 7.3 * max(len(shorten_name(name)) for name, *_ in shown)
    height = pitch * len(shown)
    canvas, axes = new_axes(520, height + 54, left=left, right=16, top=8, bottom=46)
    y = pitch * (np.arange(len(shown)) + 0.5)
    before, after = (np.array(weights) for weights in ([pair[1] for pair in shown], [pair[2] for pair in shown]))
    axes.hlines(y, before, after, color=INK, lw=1.4)
    axes.plot(before, y, "o", ms=7, color=NATURAL, mew=0, clip_on=False)
    axes.plot(after, y, "o", ms=7, color=TARGET, mew=0, clip_on=False)
    for at, (name, *_) in zip(y, shown, strict=True):
        axes.annotate(
            shorten_name(name), (0, at), xycoords=("axes fraction", "data"), xytext=(-8, 0), textcoords="offset points",
            ha="right", va="center",
        )  # fmt: skip
    axes.set_ylim(height, 0)
    axes.set_xlim(0, 1.06 * max(float(before.max()), float(after.max()), 1e-6))
    axes.locator_params(axis="x", nbins=6)
    axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    axes.yaxis.set_visible(False)
    axes.grid(axis="x", color=RULE, lw=1)
    axes.set_xlabel("weight", labelpad=6)
    words = "; ".join(f"{shorten_name(n, 40)} {a:.1%} to {b:.1%}" for n, a, b in shown[:12])
    return Figure(
        draw_svg(canvas, "moved", f"Weights before and after: {words}"), caption,
        (Key("before", swatch("natural", "o")), Key("after", swatch("target", "o"))),
        f"The {DRAWN} {kind} of {len(pairs):,} domains; the table holds the others." if len(pairs) > DRAWN else None,
    )  # fmt: skip


def _say_documents(found: Difference) -> list[str]:
    """How many rows and documents both versions share."""
    kept, removed, new, gone = (sum(getattr(d, kind) for d in found.documents) for kind in ("kept", "removed", "new", "gone"))
    if not kept + removed:
        return []
    share = format_percent(kept / (kept + removed))
    return [
        f"{share} of the rows of the first version are in the second. {format_whole(new)} documents are new, "
        f"{format_whole(gone)} are gone."
    ]


def _say_shards(found: Difference) -> str:
    s = found.shards
    counts = f"{format_whole(s.before)} → {format_whole(s.after)}"
    if not s.shared:
        return f"{counts}; none is the same"
    return f"{counts}; {format_whole(s.shared)} are the same, byte for byte ({format_bytes(s.shared_bytes)})"
