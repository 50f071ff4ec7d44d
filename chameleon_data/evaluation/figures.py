"""What a comparison looks like: a forest plot of the differences from uniform, and trained against unseen domains as a trade-off.

The report shows both. `standalone_svg` makes files of them that any viewer opens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from chameleon_data.evaluation.comparison import Comparison, JudgedMixture, Metric, MetricDifference, metrics_of
from chameleon_data.evaluation.mixtures import OWN
from chameleon_data.views.report.canvas import ACTED, INK, RULE, TARGET, draw_svg, new_axes, swatch
from chameleon_data.views.report.figures import Figure, Key
from chameleon_data.views.report.page import ReportPart, figure_style
from chameleon_data.views.report.tables import DOMAIN, ReportTable, TableColumn
from chameleon_data.views.report.words import shorten_name

SERIES = (("trained", TARGET, "target", "o"), ("unseen", ACTED, "acted", "s"))
"""Metric, placeholder of its colour, the page's variable, marker."""
PLAIN_COLOURS = {
    "ink": "#1d2423", "muted": "#5a6664", "rule": "#e3e8e6", "target": "#12805f", "acted": "#c2570c", "surface": "#ffffff",
}  # fmt: skip
"""Variables of the page -> colours of a file that stands alone."""


def make_report_part(comparison: Comparison, number: int) -> ReportPart:
    """The section of a report on one comparison; `number` tells its figures from those of others."""
    judged = "counts of trigrams" if comparison.parameters is None else f"{comparison.parameters:,} parameters"
    shared = f", {comparison.branch} in common" if comparison.branch else ", from scratch"
    seeds = f"{comparison.seeds} seed{'s' * (comparison.seeds > 1)}"
    text = (
        f"Differences from uniform in held-out bits per byte; below zero is better. Judge: {comparison.judge} ({judged}), "
        f"{comparison.tokens:,} tokens{shared if comparison.parameters else ''}. Fixed before: {seeds}, and a band of "
        f"±{comparison.band:g} inside which a difference is called none."
    )

    def draw() -> tuple[Figure, ...]:
        return draw_figures(comparison, f"{number}")

    title = f"By {comparison.judge.replace('_', '-')}"
    return ReportPart(title, _conclude(comparison), text, draw, comparison_table(comparison))


def _conclude(comparison: Comparison) -> str:
    """What the judge says of the version's own weights against uniform, or of what was compared where they were not."""
    judge = comparison.judge.replace("_", "-")
    own = next((mixture for mixture in comparison.mixtures if mixture.name == OWN and mixture.differences), None)
    if own is None:
        return f"On held-out text of this version, {judge} compared {len(comparison.mixtures):,} mixtures."
    labels: dict[Metric, str] = {"trained": "trained domains", "unseen": "domains not trained on"}
    said = [
        f"{found.verdict} on {label} ({_signed(found.mean)} bits per byte)"
        for metric, label in labels.items()
        if (found := own.differences.get(metric))
    ]
    return f"On held-out text of this version, against equal shares and judged by {judge}: {', '.join(said)}."


def draw_figures(comparison: Comparison, suffix: str) -> tuple[Figure, ...]:
    """The forest plot and, where domains are unseen, the trade-off. To be drawn in the report's style."""
    forest = forest_figure(comparison, f"forest{suffix}")
    return (forest, trade_off_figure(comparison, f"trade-off{suffix}")) if comparison.unseen else (forest,)


def forest_figure(comparison: Comparison, name: str = "forest") -> Figure:
    """A row for each mixture: its differences with 95 % intervals, and the band."""
    shown = _compared(comparison)
    series = [s for s in SERIES if s[0] in comparison.mixtures[0].means]
    pitch = 18.0 * len(series) + 12
    height = pitch * len(shown)
    left = 16 + 7.3 * max((len(shorten_name(m.name)) for m in shown), default=8)
    canvas, axes = new_axes(440 + left - 120, height + 54, left=left, right=16, top=8, bottom=46)
    axes.axvspan(-comparison.band, comparison.band, color=RULE, lw=0)
    axes.axvline(0, color=INK, lw=1)
    for row, mixture in enumerate(shown):
        axes.annotate(
            shorten_name(mixture.name), (0, pitch * (row + 0.5)), xycoords=("axes fraction", "data"), xytext=(-8, 0),
            textcoords="offset points", ha="right", va="center",
        )  # fmt: skip
        for at, (metric, colour, _, shape) in enumerate(series):
            found = mixture.differences[metric]
            low, high = interval_of(found)
            y = pitch * (row + 0.5) + 16 * (at - (len(series) - 1) / 2)
            axes.plot([low, high], [y, y], color=colour, lw=1.6, solid_capstyle="butt")
            axes.plot([found.mean], [y], shape, ms=6, color=colour, mew=0)
    axes.set_ylim(height, 0)
    axes.locator_params(axis="x", nbins=6)
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:+.3g}".replace("-", "−") if x else "0")
    axes.yaxis.set_visible(False)
    axes.grid(axis="x", color=RULE, lw=1)
    axes.set_xlabel("bits per byte less those of uniform", labelpad=6)
    words = "; ".join(f"{m.name} {m.differences['trained' if 'trained' in m.differences else 'worst'].mean:+.4f}" for m in shown)
    legend = [Key(f"{metric} domains", swatch(variable, shape)) for metric, _, variable, shape in series]
    return Figure(
        draw_svg(canvas, name, f"Forest plot of differences from uniform: {words}"), "Difference from uniform, 95 % intervals",
        (*legend, Key("band of no difference", swatch("rule", "band"))),
    )  # fmt: skip


def trade_off_figure(comparison: Comparison, name: str = "trade-off") -> Figure:
    """Each mixture by what it does on trained and on unseen domains; the lower left is better on both."""
    shown = [m for m in _compared(comparison) if "trained" in m.differences and "unseen" in m.differences]
    canvas, axes = new_axes(440, 330, left=70, right=16, top=8, bottom=46)
    axes.axvline(0, color=INK, lw=1)
    axes.axhline(0, color=INK, lw=1)
    for mixture in shown:
        x, y = mixture.differences["trained"], mixture.differences["unseen"]
        axes.plot(interval_of(x), [y.mean, y.mean], color=TARGET, lw=1, alpha=0.5)
        axes.plot([x.mean, x.mean], interval_of(y), color=TARGET, lw=1, alpha=0.5)
        axes.plot([x.mean], [y.mean], "o", ms=6, color=ACTED if mixture.chosen else TARGET, mew=0)
        axes.annotate(shorten_name(mixture.name), (x.mean, y.mean), xytext=(6, 5), textcoords="offset points", fontsize=10)
    axes.margins(0.16)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda x, _: f"{x:+.3g}".replace("-", "−") if x else "0")
    axes.locator_params(nbins=6)
    axes.grid(color=RULE, lw=1)
    axes.set_xlabel("trained domains, difference from uniform", labelpad=6)
    axes.set_ylabel("unseen domains", labelpad=6)
    words = "; ".join(f"{m.name} {m.differences['trained'].mean:+.4f}, {m.differences['unseen'].mean:+.4f}" for m in shown)
    keys = [Key("a mixture, 95 % intervals", swatch("target", "o"))]
    if any(m.chosen for m in shown):
        keys.append(Key("chosen by the text that it is judged by", swatch("acted", "o")))
    return Figure(
        draw_svg(canvas, name, f"Trained against unseen domains: {words}"), "Trained against unseen domains, bits per byte",
        tuple(keys),
    )  # fmt: skip


def comparison_table(comparison: Comparison) -> ReportTable:
    """A row for each mixture, as the command prints it."""
    metrics = metrics_of(comparison)
    columns = [TableColumn("Mixture", DOMAIN.key, number=False), TableColumn(f"Bits per byte, {metrics[0]}", "bits")]
    columns += [TableColumn(f"{metric.capitalize()}", metric) for metric in metrics]
    columns.append(TableColumn("Verdict on trained, unseen", "verdict", number=False))
    rows = []
    for mixture in comparison.mixtures:
        cells = [_signed(mixture.differences[m].mean) if m in mixture.differences else "" for m in metrics]
        verdicts = [mixture.differences[m].verdict for m in ("trained", "unseen") if m in mixture.differences]
        said = ", ".join(verdicts) + (" (chosen by this text: a bound)" if mixture.chosen else "")
        rows.append([shorten_name(mixture.name, 60), f"{mixture.means[metrics[0]]:.4f}", *cells, said])
    return ReportTable("Mixtures by held-out bits per byte, differences from uniform", tuple(columns), rows)


def standalone_svg(comparison: Comparison) -> dict[str, str]:
    """Name -> SVG file of each figure, on white."""
    with figure_style():
        figures = draw_figures(comparison, "")
    names = ("forest", "trade-off")
    return {name: _stand_alone(str(figure.svg)) for name, figure in zip(names, figures, strict=False)}


def _stand_alone(svg: str) -> str:
    svg = re.sub(r"var\(--(\w+)\)", lambda m: PLAIN_COLOURS.get(m[1], "#1d2423"), svg)
    head = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" style="background:#fff" '
    head += 'font-family="sans-serif" '
    return svg.replace("<svg ", head, 1).replace(' href="#', ' xlink:href="#')


def interval_of(found: MetricDifference) -> tuple[float, float]:
    """The 95 % interval over seeds or domains, else over documents."""
    return found.interval or found.documents or (found.mean, found.mean)


def _compared(comparison: Comparison) -> Sequence[JudgedMixture]:
    return [mixture for mixture in comparison.mixtures if mixture.differences]


def _signed(value: float) -> str:
    return f"{np.round(value, 4):+.4f}".replace("-", "−")
