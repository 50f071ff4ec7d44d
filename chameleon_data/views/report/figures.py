"""The report's figures: bars, the heat map, the map of documents and the balance of shards."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import scipy
from markupsafe import Markup

from chameleon_data.arrays import F64, I64
from chameleon_data.versions.manifest import StageRecord
from chameleon_data.versions.shard_table import ShardRecord
from chameleon_data.views.report.canvas import (
    ACTED,
    HUES,
    INK,
    NATURAL,
    RULE,
    SURFACE,
    TARGET,
    WRITTEN,
    draw_svg,
    hue,
    marker,
    new_axes,
    swatch,
)
from chameleon_data.views.report.domains import weights_moved
from chameleon_data.views.report.words import format_bytes, format_compact, shorten_name
from chameleon_data.weights.explain.closeness import CLOSER, FARTHER, FEWEST_DOMAINS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

DRAWN = 24
"""Domains that bars show and the map colours, largest weight first; the tables hold the others."""
MAP_POINTS_DRAWN = 6_000
"""Documents on the map. Of more, every n-th of each domain is drawn."""
NAMED_CELLS, NUMBERED_CELLS = 60, 14
"""Most domains of which the heat map shows the names, and numbers in its cells."""
PAIRS_NAMED = 12
"""Most pairs of a kind that the heat map's words name."""
SLICES = 120
"""Steps along the shards. More shards share a step."""
NAMED_POINTS, LARGE_POINTS, POINTS_DRAWN = 16, 60, 2_000
"""Most points of a scatter plot that are named, that are large, and that are drawn; of more, those of the largest weights."""
DEVIATIONS_DRAWN = 2_000
"""Points of deviations; more are drawn as a band."""


@dataclass(frozen=True)
class Key:
    """One entry of a legend."""

    label: str
    swatch: Markup


@dataclass(frozen=True)
class Figure:
    svg: Markup
    caption: str
    legend: tuple[Key, ...] = ()
    note: str | None = None


def _rest(domains: pl.DataFrame, drawn: int = DRAWN) -> str | None:
    return f"The {drawn:,} largest of {len(domains):,} domains; the table holds the others." if len(domains) > drawn else None


def _longest(names: Iterable[str]) -> float:
    """Pixels for the names at the left of a figure."""
    return 16 + 7.3 * max(len(shorten_name(n)) for n in names)


def mixture_figure(domains: pl.DataFrame) -> Figure:
    """Two bars for each domain: its weight and its natural share. The uniform share is one line."""
    shown = domains.head(DRAWN)
    series = [("weight", TARGET), ("natural", NATURAL)]
    pitch, bar = 44.0, 9.0
    height = pitch * len(shown)
    canvas, axes = new_axes(440, height + 44, left=4, right=16, top=8, bottom=36)
    axes.set_ylim(height, 0)
    top = pitch * np.arange(len(shown))
    for index, (column, colour) in enumerate(series):
        axes.barh(top + 20 + bar / 2 + index * (bar + 1), shown[column].to_numpy(), height=bar, color=colour, clip_on=False)
    for at, name in zip(top, shown["name"], strict=True):
        axes.text(0, at + 13, shorten_name(name, 48), va="baseline", ha="left")
    axes.axvline(float(domains["uniform"][0]), color=INK, lw=1, ls=(0, (4, 3)))
    spread = shown.with_row_index("at").filter(pl.col("low").is_not_null())
    legend = [Key("weight", swatch("target")), Key("natural share", swatch("natural")), Key("uniform", swatch("ink", "line"))]
    if len(spread):
        y, x = pitch * spread["at"].to_numpy() + 20 + bar / 2, spread["asked"].to_numpy()
        reach = np.abs(np.stack([x - spread["low"].to_numpy(), spread["high"].to_numpy() - x]))
        axes.errorbar(x, y, xerr=reach, fmt="o", ms=3.4, color=INK, mec=SURFACE, mew=0.8, lw=1.2, capsize=2.5)
        before = "before bounds, with its 90 % interval" if weights_moved(domains) else "its 90 % interval"
        legend.insert(1, Key(before, swatch("ink", "interval")))
    largest = max(float(shown[c].max() or 0) for c in ("weight", "natural", "asked", "uniform"))  # type: ignore[arg-type]
    axes.set_xlim(0, 1.04 * max(largest, float(spread["high"].max() or 0)))  # type: ignore[arg-type]
    _percent_axis(axes)
    unit = domains["unit"][0]
    words = "; ".join(
        f"{shorten_name(n, 40)} {w:.1%}, natural {a:.1%}" for n, w, a in shown.select("name", "weight", "natural").rows()[:12]
    )
    return Figure(
        draw_svg(canvas, "mixture", f"Bar chart of each domain's share of the {unit}: {words}"),
        f"Weight, the share of the {unit} that is asked for, by domain", tuple(legend), _rest(domains),
    )  # fmt: skip


def natural_figure(domains: pl.DataFrame, limit: float | None, budget: int) -> Figure:
    """Weights against natural shares, both on scales of powers of ten, with the most that `limit` epochs allow of `budget`
    tokens. A domain that bounds moved has a tail from where it was."""
    from matplotlib.ticker import LogLocator, NullLocator

    shown = domains.head(POINTS_DRAWN)
    size = 7.0 if len(shown) <= LARGE_POINTS else 3.4
    canvas, axes = new_axes(440, 400, left=54, right=20, top=14, bottom=46)
    axes.set_xscale("log")
    axes.set_yscale("log")
    natural, weight, asked = (shown[column].to_numpy() for column in ("natural", "weight", "asked"))
    shares = np.concatenate([weight, asked, domains["uniform"].to_numpy()])
    ends = np.geomspace(0.7 * natural.min(), 1.5 * natural.max(), 50)
    low, high = 0.75 * float(shares[shares > 0].min()), 1.35 * float(shares.max())
    axes.set_xlim(ends[0], ends[-1])
    axes.set_ylim(low, high)
    axes.plot(ends, ends, color=NATURAL, lw=1.4)
    axes.axhline(float(domains["uniform"][0]), color=INK, lw=1, ls=(0, (4, 3)))
    legend = [
        Key("a domain", swatch("target", "o")),
        Key("natural share", swatch("natural", "dash")),
        Key("uniform", swatch("ink", "line")),
    ]
    held = np.zeros(len(shown), np.bool_)
    if limit is not None:
        most = limit * float(domains["available_tokens"].sum()) / max(budget, 1)
        axes.fill_between(ends, most * ends, high, where=list(most * ends < high), color=ACTED, alpha=0.1, lw=0)
        axes.plot(ends, most * ends, color=ACTED, lw=1.2)
        legend.append(Key(f"more than {limit:g} epochs", swatch("acted", "band")))
        held = weight > 0.999 * most * natural
    for x, y, before in zip(natural, weight, asked, strict=True):
        if before > 0 and abs(before - y) > 0.02 * y:
            axes.plot([x, x], [before, y], color=INK, lw=1)
            axes.plot([x], [before], "o", ms=0.6 * size, mfc=SURFACE, mec=INK, mew=1)
    for chosen, colour in ((~held, TARGET), (held, ACTED)):
        edge = 0.8 if size > 4 else 0.3
        axes.plot(natural[chosen], weight[chosen], "o", ms=size, color=colour, mec=SURFACE, mew=edge, clip_on=False)
    if held.any():
        legend.insert(1, Key("held at the limit", swatch("acted", "o")))
    if weights_moved(domains):
        legend.insert(1, Key("before bounds", swatch("ink", "ring")))
    if len(shown) <= NAMED_POINTS:
        _name_points(axes, natural, weight, [shorten_name(name, 16) for name in shown["name"]])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    axes.grid(color=RULE, lw=1)
    axes.set_xlabel("natural share", labelpad=5)
    axes.set_ylabel("weight", labelpad=4)
    words = "; ".join(f"{shorten_name(n, 40)} {t:.2f} times" for n, t in shown.select("name", "times").rows()[:12])
    return Figure(
        draw_svg(canvas, "natural", f"Scatter plot of weights against natural shares: {words}"),
        "Weight against natural share: above the diagonal a domain gets more than it has of the corpus", tuple(legend),
        _rest(domains, POINTS_DRAWN),
    )  # fmt: skip


def _name_points(axes: Axes, x: F64, y: F64, names: Sequence[str]) -> None:
    """Names beside points, moved up or down until none covers another; at the right edge to the left of their point."""
    places = axes.transData.transform(np.stack([x, y], axis=1))
    edge = axes.transAxes.transform((1, 1))[0]
    left = np.array([px + 12 + 6.2 * len(name) > edge for (px, _), name in zip(places, names, strict=True)])
    middles = places + np.array([[(-1 if at else 1) * (9 + 3.1 * len(n)), 0.0] for at, n in zip(left, names, strict=True)])
    for (px, py), name in zip(_apart(middles, names), names, strict=True):
        axes.annotate(name, (px, py), xycoords="figure pixels", ha="center", va="center", fontsize=11)


def _percent_axis(axes: Axes) -> None:
    axes.locator_params(axis="x", nbins=6)
    axes.xaxis.set_major_formatter(lambda x, _: f"{100 * x:g} %")
    axes.yaxis.set_visible(False)
    axes.grid(axis="x", color=RULE, lw=1)


def _single_bars(
    shown: pl.DataFrame, column: str, colours: Sequence[str], label: str, numbers: str, reach: float
) -> tuple[Canvas, Axes]:
    """One bar a domain, with its name at the left and its number at the right."""
    pitch, left = 26.0, _longest(shown["name"])
    height = pitch * len(shown)
    canvas, axes = new_axes(440, height + 54, left=left, right=48, top=8, bottom=46)
    y, x = pitch * (np.arange(len(shown)) + 0.5), shown[column].to_numpy()
    axes.barh(y, x, height=14, color=list(colours))
    axes.set_ylim(height, 0)
    axes.set_xlim(0, reach)
    for at, value, name in zip(y, x, shown["name"], strict=True):
        axes.annotate(shorten_name(name), (0, at), xytext=(-8, 0), textcoords="offset points", ha="right", va="center")
        axes.annotate(
            numbers.format(value), (1, at), xycoords=("axes fraction", "data"), xytext=(46, 0), textcoords="offset points",
            ha="right", va="center", fontsize=11,
        )  # fmt: skip
    axes.locator_params(axis="x", nbins=5)
    axes.yaxis.set_visible(False)
    axes.grid(axis="x", color=RULE, lw=1)
    axes.set_xlabel(label, labelpad=6)
    return canvas, axes


def leverage_figure(measured: pl.DataFrame) -> Figure:
    shown = measured.head(DRAWN)
    mean = float(np.mean(measured["score"].to_numpy()))
    canvas, axes = _single_bars(
        shown, "score", [TARGET] * len(shown), "leverage score", "{:.2f}" if mean > 0.05 else "{:.4f}",
        1.05 * max(float(shown["score"].to_numpy().max()), mean),
    )  # fmt: skip
    axes.axvline(mean, color=INK, lw=1, ls=(0, (4, 3)))
    words = "; ".join(f"{shorten_name(n, 40)} {s:.2f}" for n, s in shown.select("name", "score").rows()[:20])
    return Figure(
        draw_svg(canvas, "leverage", f"Bar chart of leverage scores: {words}"), "Kernel ridge leverage score, by domain",
        (Key("score", swatch("target")), Key("mean of all domains", swatch("ink", "line"))), _rest(measured),
    )  # fmt: skip


def affinity_figure(
    affinity: Sequence[Sequence[float]], names: Sequence[str], beyond_noise: Sequence[Sequence[int]] | None
) -> Figure:
    """Heat map of the (k, k) affinity in two hues, which fade towards zero and so suit a light and a dark page. Pairs that
    `mark_pairs` found have a mark."""
    matrix, k = np.asarray(affinity, np.float64), len(names)
    order = alike_together(matrix)
    matrix, names = matrix[np.ix_(order, order)], [names[i] for i in order]
    marks = np.zeros((k, k), np.int64) if beyond_noise is None else np.asarray(beyond_noise, np.int64)[np.ix_(order, order)]
    scale = float(np.trace(matrix)) / k or 1.0
    matrix = matrix / scale
    strength = np.abs(matrix) / (float(np.abs(matrix).max()) or 1.0)
    image = np.empty((k, k, 4))
    image[..., :3] = np.where(matrix[..., None] >= 0, (0.11, 0.55, 0.45), (0.83, 0.40, 0.16))
    image[..., 3] = 0.72 * strength
    named = k <= NAMED_CELLS
    cell = max(34.0, 400 / k) if k <= NUMBERED_CELLS else max(11.0, 420 / k) if named else 480 / k
    side = cell * k
    margin = _longest(names) if named else 8.0
    canvas, axes = new_axes(side + margin + 8, side + margin + 8, left=margin, right=8, top=margin, bottom=8)
    axes.imshow(image, interpolation="none", aspect="auto")
    axes.set_xticks(np.arange(k) if named else [])
    axes.set_yticks(np.arange(k) if named else [])
    if named:
        size = 11.0 if k <= 30 else 9.0
        axes.xaxis.tick_top()
        axes.set_xticklabels([""] * k)
        axes.set_yticklabels([""] * k)
        for at, name in enumerate(names):
            axes.annotate(
                shorten_name(name), (0, at), xycoords=("axes fraction", "data"), xytext=(-7, 0), textcoords="offset points",
                ha="right", va="center", fontsize=size,
            )  # fmt: skip
            axes.annotate(
                shorten_name(name), (at, 1), xycoords=("data", "axes fraction"), xytext=(0.35 * size, 7),
                textcoords="offset points", ha="left", va="baseline", rotation=90, rotation_mode="anchor", fontsize=size,
            )  # fmt: skip
        for edge in np.arange(-0.5, k, 1.0) if k <= 30 else ():
            axes.axhline(edge, color=SURFACE, lw=1)
            axes.axvline(edge, color=SURFACE, lw=1)
    if k <= NUMBERED_CELLS:
        for row, column in np.ndindex(k, k):
            value = f"{matrix[row, column]:.2f}".replace("-", "−")
            axes.text(column, row, "0" if value in ("0.00", "−0.00") else value, ha="center", va="center_baseline", fontsize=10)
    legend = [Key("alike", swatch("alike")), Key("opposed", swatch("opposed"))]
    corner, across = (0.36, 5.0) if k <= NUMBERED_CELLS else (0.0, 0.42 * cell)
    for mark, fill, shape, label in (
        (CLOSER, INK, "o", "closer than noise explains"),
        (FARTHER, SURFACE, "ring", "farther than noise explains"),
    ):
        rows, columns = np.nonzero(marks == mark)
        if named and len(rows):
            axes.plot(columns + corner, rows - corner, "o", ms=across, mfc=fill, mec=INK, mew=1.0)
            legend.append(Key(label, swatch("ink", shape)))
    axes.set_xlim(-0.5, k - 0.5)
    axes.set_ylim(k - 0.5, -0.5)
    unnamed = None if named else f"Too many domains to name here ({k:,}); the picture shows their order of likeness."
    return Figure(
        draw_svg(canvas, "affinity", f"Heat map of the affinity of {k} domains{_name_marked(marks, names)}"),
        "Centred affinity over its mean diagonal; domains that are alike stand side by side", tuple(legend),
        " ".join(filter(None, (unnamed, None if beyond_noise is None or k < FEWEST_DOMAINS else _count_marked(marks)))) or None,
    )  # fmt: skip


def _name_marked(marks: I64, names: Sequence[str]) -> str:
    """The marked pairs in words, for a reader who does not see the picture."""
    parts = []
    for mark, label in ((CLOSER, "closer"), (FARTHER, "farther")):
        pairs = [(row, column) for row, column in np.argwhere(marks == mark).tolist() if row < column]
        told = "; ".join(f"{shorten_name(names[a], 40)} and {shorten_name(names[b], 40)}" for a, b in pairs[:PAIRS_NAMED])
        more = f"; {len(pairs) - PAIRS_NAMED:,} more" if len(pairs) > PAIRS_NAMED else ""
        parts += [f". Pairs {label} than noise explains: {told}{more}"] if pairs else []
    return "".join(parts)


def _count_marked(marks: I64) -> str:
    """What the marks mean, and how many pairs have one."""
    closer, farther = (int(np.count_nonzero(marks == mark)) // 2 for mark in (CLOSER, FARTHER))
    return (
        f"Of {len(marks) * (len(marks) - 1) // 2:,} pairs, {closer:,} {'is' if closer == 1 else 'are'} closer and {farther:,} "
        "farther apart than their distances from all other domains and the noise of the sample explain. Noise alone would mark a "
        "pair in at most one version of twenty (jackknife, Holm's correction)."
    )


def alike_together(matrix: F64) -> list[int]:
    """An order of the domains that puts near ones side by side, by average linkage of the kernel's distances."""
    k = len(matrix)
    if k < 3:
        return list(range(k))
    diagonal = np.diag(matrix)
    squares = diagonal[:, None] + diagonal[None] - matrix - matrix.T
    distance = np.sqrt(np.maximum(squares[np.triu_indices(k, 1)], 0.0))
    return [
        int(i)
        for i in scipy.cluster.hierarchy.leaves_list(
            scipy.cluster.hierarchy.linkage(distance, "average", optimal_ordering=k <= 200)
        )
    ]


def map_figure(domains: pl.DataFrame, points: Mapping[str, Sequence[Sequence[float]]]) -> Figure:
    side, few = 560.0, 0 < len(points) <= 16
    canvas, axes = new_axes(side, 0.8 * side, left=6, right=6, top=6, bottom=6)
    total = sum(map(len, points.values()))
    step = max(1, ceil(total / MAP_POINTS_DRAWN))
    drawn = {n: np.asarray(points[n], np.float64)[::step] for n in domains["name"] if len(points.get(n, ()))}
    rest = [xy for n, xy in drawn.items() if n in set(domains["name"][DRAWN:])]
    if rest:
        x, y = np.concatenate(rest).T
        axes.plot(x, y, "o", ms=3, color=NATURAL, alpha=0.5, mew=0, gid="of-rest", clip_on=False)
    legend: list[Key] = []
    centres: list[tuple[str, float, float]] = []
    for index, name in enumerate(domains["name"][:DRAWN]):
        if name not in drawn:
            continue
        shape = marker(index)
        axes.plot(
            *drawn[name].T, shape, ms=3.6 if shape == "D" else 4.2, color=hue(index), alpha=0.75, mew=0,
            gid=f"of-{len(legend)}", clip_on=False,
        )  # fmt: skip
        legend.append(Key(name, swatch(f"hue{index % HUES}", shape)))
        x, y = np.median(drawn[name], axis=0)
        centres.append((name, float(x), float(y)))
    if rest:
        legend.append(Key(f"{len(rest):,} smaller domains", swatch("natural", "o")))
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.margins(0.03)
    axes.apply_aspect()
    if few:
        for (x, y), (name, *_) in zip(
            _apart(axes.transData.transform([c[1:] for c in centres]), [shorten_name(c[0]) for c in centres]),
            centres,
            strict=True,
        ):
            axes.annotate(
                shorten_name(name), (x, y), xycoords="figure pixels", ha="center", va="center", fontsize=11, weight="bold"
            )
    return Figure(
        draw_svg(canvas, "map", f"Scatter plot of {total:,} sampled documents in two dimensions, by domain"),
        "Each mark is a sampled document, on the two directions in which the sample varies most (PCA of its embeddings)",
        tuple(legend),
        f"Drawn: {sum(map(len, drawn.values())):,} of {total:,} documents, evenly from each domain." if step > 1 else None,
    )


def _apart(centres: F64, words: Sequence[str]) -> F64:
    """Places for words near their centres (pixels), moved up or down until none covers another."""
    places = np.array(centres, np.float64)
    reach = np.array([3.6 * len(w) for w in words])
    for _ in range(200):
        moved = False
        for i in range(len(places)):
            for j in range(i):
                gap = 14 - abs(places[i, 1] - places[j, 1])
                if gap > 0 and abs(places[i, 0] - places[j, 0]) < reach[i] + reach[j]:
                    up, down = (i, j) if places[i, 1] >= places[j, 1] else (j, i)
                    places[up, 1] += gap / 2 + 0.01
                    places[down, 1] -= gap / 2 + 0.01
                    moved = True
        if not moved:
            break
    return places


def epochs_figure(domains: pl.DataFrame, limit: float | None, limited: Collection[str]) -> Figure:
    """`limit`: the most epochs of a domain; `limited`: the domains that it held back."""
    shown = domains.head(DRAWN)
    colours = [ACTED if n in limited else TARGET for n in shown["name"]]
    reach = max(float(shown["epochs"].to_numpy().max()), limit or 0.0)
    canvas, axes = _single_bars(shown, "epochs", colours, "epochs", "{:.2f}", 1.05 * reach)
    legend = [Key("epochs written", swatch("target"))]
    if limited:
        legend.append(Key("held at the limit", swatch("acted")))
    if limit is not None:
        axes.axvline(limit, color=INK, lw=1, ls=(0, (4, 3)))
        legend.append(Key(f"limit, {limit:g}", swatch("ink", "line")))
    words = "; ".join(f"{shorten_name(n, 40)} {e:.2f}" for n, e in shown.select("name", "epochs").rows()[:20])
    return Figure(
        draw_svg(canvas, "epochs", f"Bar chart of epochs: {words}"), f"Times that each domain's {domains['unit'][0]} are written",
        tuple(legend), _rest(domains),
    )  # fmt: skip


def lengths_figure(lengths: pl.DataFrame, domains: pl.DataFrame) -> Figure:
    """A box for each domain: half of its documents lie in it, nine of ten within its whiskers; the scale is logarithmic."""
    from matplotlib.ticker import LogLocator, NullLocator

    shown = domains.head(DRAWN).join(lengths, on="name", how="inner", maintain_order="left")
    pitch, left, unit = 26.0, _longest(shown["name"]), domains["unit"][0]
    height = pitch * len(shown)
    canvas, axes = new_axes(440, height + 54, left=left, right=16, top=8, bottom=46)
    axes.set_xscale("log")
    least, below, middle, above, most = (np.maximum(shown[q].to_numpy(), 1) for q in ("q5", "q25", "q50", "q75", "q95"))
    y = pitch * (np.arange(len(shown)) + 0.5)
    axes.hlines(y, least, most, color=TARGET, lw=1.4)
    axes.barh(y, above - below, left=below, height=12, color=WRITTEN)
    axes.vlines(middle, y - 7, y + 7, color=INK, lw=2)
    for at, name in zip(y, shown["name"], strict=True):
        axes.annotate(
            shorten_name(name), (0, at), xycoords=("axes fraction", "data"), xytext=(-8, 0), textcoords="offset points",
            ha="right", va="center",
        )  # fmt: skip
    axes.set_ylim(height, 0)
    axes.set_xlim(0.7 * float(least.min()), 1.4 * float(most.max()))
    axes.xaxis.set_major_locator(LogLocator(numticks=6))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(
        lambda tokens, _: format_bytes(round(tokens)) if unit == "bytes" else format_compact(round(tokens))
    )
    axes.yaxis.set_visible(False)
    axes.grid(axis="x", color=RULE, lw=1)
    axes.set_xlabel("length of a document" if unit == "bytes" else "tokens of a document", labelpad=6)
    words = "; ".join(f"{shorten_name(n, 40)} {q:,.0f}" for n, q in shown.select("name", "q50").rows()[:20])
    return Figure(
        draw_svg(canvas, "lengths", f"Box plot of the lengths of documents in {unit}, medians: {words}"),
        "Lengths of the documents written, by domain",
        (
            Key("median", swatch("ink")), Key("half of the documents", swatch("written")),
            Key("nine of ten", swatch("target", "dash")),
        ),
        _rest(domains),
    )  # fmt: skip


def _by_shard(domains: pl.DataFrame, shards: Sequence[ShardRecord]) -> F64:
    """(shards, k) tokens."""
    place = {name: index for index, name in enumerate(domains["name"])}
    tokens = np.zeros((len(shards), len(place)))
    for row, shard in zip(tokens, shards, strict=True):
        for name, held in shard.domain_tokens.items():
            if name in place:
                row[place[name]] = held
    return tokens


def _shard_axis(axes: Axes, shards: int) -> None:
    axes.set_xlim(0, shards)
    step = next(s * 10**power for power in range(19) for s in (1, 2, 5) if shards <= 7 * s * 10**power)
    numbers = range(0, shards, step)
    axes.set_xticks([number + 0.5 for number in numbers], [f"{number:,}" for number in numbers])  # at the middle of its step
    axes.set_xlabel("shard", labelpad=4)


def _slices(drawn: int, count: int) -> tuple[I64, F64]:
    """(slices + 1,) where slices of the drawn shards begin, and where they lie among all `count` shards."""
    edges = np.unique(np.linspace(0, drawn, min(drawn, SLICES) + 1).astype(np.int64))
    return edges, edges.astype(np.float64) * (count / drawn)


def _drawn_of(drawn: int, count: int) -> str | None:
    return f"Drawn: {drawn:,} of {count:,} shards, at equal distances." if drawn < count else None


def _draw_stages(axes: Axes, stages: Sequence[StageRecord], height: float) -> None:
    """A line where each stage but the first begins, and at this height the number of each for which there is room."""
    begin, count = 0, sum(stage.shards for stage in stages)
    for number, stage in enumerate(stages if len(stages) > 1 else (), 1):
        if begin:
            axes.axvline(begin, color=INK, lw=1.2)
        if stage.shards >= count / 8:
            axes.text(begin + stage.shards / 2, height, f"stage {number}", ha="center", va="bottom", fontsize=11, clip_on=False)
        begin += stage.shards


def shares_figure(domains: pl.DataFrame, shards: Sequence[ShardRecord], stages: Sequence[StageRecord]) -> Figure:
    """Stacked shares of the domains over the course of the training, a step for each shard. Stripes that are straight within a
    stage show an even mixture. `shards` are those that are drawn."""
    count = sum(stage.shards for stage in stages)
    tokens = _by_shard(domains, shards)
    edges, places = _slices(len(shards), count)
    summed = np.add.reduceat(tokens, edges[:-1], axis=0)
    most = HUES
    if tokens.shape[1] > most:
        summed = np.concatenate([summed[:, : most - 1], summed[:, most - 1 :].sum(axis=1, keepdims=True)], axis=1)
    share = summed / np.maximum(summed.sum(axis=1, keepdims=True), 1)
    tops = np.concatenate([np.zeros((len(share), 1)), np.cumsum(share, axis=1)], axis=1)
    tops = np.concatenate([tops, tops[-1:]])
    canvas, axes = new_axes(440, 280, left=46, top=8 if len(stages) == 1 else 26, bottom=42)
    names = domains["name"].to_list()
    legend = []
    for index in range(share.shape[1]):
        rest = tokens.shape[1] > most and index == most - 1
        axes.fill_between(
            places, tops[:, index], tops[:, index + 1], step="post", color=NATURAL if rest else hue(index), lw=0.6, ec=SURFACE
        )
        label = f"{tokens.shape[1] - most + 1:,} others" if rest else names[index]
        legend.append(Key(label, swatch("natural" if rest else f"hue{index}")))
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(lambda y, _: f"{100 * y:.0f} %")
    _shard_axis(axes, count)
    _draw_stages(axes, stages, 1.01)
    return Figure(
        draw_svg(canvas, "shares", f"Stacked shares of the domains in each of {len(shards):,} shards"),
        "Share of each domain in every shard",
        tuple(legend),
        _drawn_of(len(shards), count),
    )


def deviations_figure(domains: pl.DataFrame, shards: Sequence[ShardRecord], stages: Sequence[StageRecord]) -> Figure:
    """Tokens of every domain in every shard, less quota / shards of the stage, over the domain's bound. It is proved to lie in -1
    to 1. `shards` are those that are drawn."""
    ends = np.cumsum([stage.shards for stage in stages])
    count, stage_of = int(ends[-1]), np.searchsorted(ends, [shard.shard for shard in shards], "right")
    even = np.array(
        [
            [stage.domains[n].target_tokens / stage.shards if n in stage.domains else 0.0 for n in domains["name"]]
            for stage in stages
        ]
    )  # (stages, k) tokens of a shard
    off = (_by_shard(domains, shards) - even[stage_of]) / domains["bound"].to_numpy()
    one = "sequence" if domains["packed"].any() else "document"
    edges, places = _slices(len(shards), count)
    at = np.array([shard.shard for shard in shards]) + 0.5
    high = np.maximum.reduceat(off.max(axis=1), edges[:-1])
    low = np.minimum.reduceat(off.min(axis=1), edges[:-1])
    canvas, axes = new_axes(440, 280, left=46, top=8, bottom=42)
    axes.fill_between(places, np.append(low, low[-1]), np.append(high, high[-1]), step="post", color=TARGET, alpha=0.16, lw=0)
    if off.size <= DEVIATIONS_DRAWN:
        axes.plot(np.repeat(at, off.shape[1]), off.ravel(), "o", ms=3, color=TARGET, alpha=0.7, mew=0, clip_on=False)
    for bound in (-1, 1):
        axes.axhline(bound, color=INK, lw=1, ls=(0, (4, 3)))
    row, domain = np.unravel_index(int(np.abs(off).argmax()), off.shape)
    worst, name, shard = float(off[row, domain]), domains["name"][int(domain)], shards[int(row)].shard
    axes.plot([shard + 0.5], [worst], "o", ms=8, mfc="none", mec=ACTED, mew=1.6, clip_on=False)
    reach = 1.15 * max(1.0, abs(worst))
    axes.set_ylim(-reach, reach)
    axes.locator_params(axis="y", nbins=5)
    axes.yaxis.set_major_formatter(lambda y, _: f"{y:+.1f}".replace("-", "−") if y else "0")
    axes.grid(axis="y", color=RULE, lw=1)
    _shard_axis(axes, count)
    return Figure(
        draw_svg(
            canvas,
            "deviations",
            f"Deviations from an even split in each of {len(shards):,} shards; the largest is {worst:+.2f} of a {one}",
        ),
        f"{domains['unit'][0].capitalize()} away from an even split, in units of "
        f"{'one sequence' if one == 'sequence' else 'the domain’s largest document'}",
        (
            Key(
                "a domain in a shard" if off.size <= DEVIATIONS_DRAWN else "all domains",
                swatch("target", "o" if off.size <= DEVIATIONS_DRAWN else "band"),
            ),
            Key(f"furthest: {shorten_name(name, 40)}, shard {shard:,}", swatch("acted", "o")),
            Key(f"proved bound, one {one}", swatch("ink", "line")),
        ),
        _drawn_of(len(shards), count),
    )
