"""The report's part on what changed: since the version before, and, on a page of its own, between any two versions."""

from __future__ import annotations

import json
from collections.abc import Mapping

import polars as pl

from chameleon_data.versions.compare_documents import DocumentChanges
from chameleon_data.versions.diff import Change, InputChanges, ManifestChanges
from chameleon_data.views.report.tables import DOMAIN, ReportTable, TableColumn, make_report_table
from chameleon_data.views.report.words import (
    decimal_formatter,
    format_whole,
    isolate_name,
    percent_digits,
    percent_formatter,
    short_percent_formatter,
    shorten_name,
)

VALUE_SHOWN = 200
"""Characters of a value of the recipe."""


def moved_weights_table(changes: ManifestChanges, unit: str) -> ReportTable:
    """Weight, tokens and epochs of each domain before and after, the largest move first, of equal ones the largest weight; `unit`
    is what tokens are called."""
    rows = [(name, *facts["weight"], *facts["tokens"], *facts["epochs"]) for name, facts in changes.domains.items()]
    ends = [f"{fact}-{end}" for fact in ("weight", "tokens", "epochs") for end in ("before", "after")]
    kinds = [pl.Float64, pl.Float64, pl.Int64, pl.Int64, pl.Float64, pl.Float64]
    schema = {"name": pl.String, **dict(zip(ends, kinds, strict=True))}
    frame = pl.DataFrame(rows, schema, orient="row").with_columns(
        moved=pl.col("weight-after").fill_null(0.0) - pl.col("weight-before").fill_null(0.0)
    )
    share, epochs, called = percent_formatter(len(rows)), decimal_formatter(2), unit.capitalize()
    digits = percent_digits(len(rows))
    columns = [
        DOMAIN,
        TableColumn("Weight before", "weight-before", share),
        TableColumn("after", "weight-after", share),
        TableColumn("Moved, points", "moved", lambda v: "0" if v == 0 else f"{100 * v:+.{digits}f}".replace("-", "−")),
        TableColumn(f"{called} before", "tokens-before", format_whole),
        TableColumn("after", "tokens-after", format_whole),
        TableColumn("Epochs before", "epochs-before", epochs),
        TableColumn("after", "epochs-after", epochs),
    ]
    frame = frame.sort(pl.col("moved").abs(), "weight-after", "name", descending=[True, True, False], nulls_last=True)
    return make_report_table("Weights before and after", frame, columns)


def values_table(caption: str, changes: Mapping[str, Change]) -> ReportTable | None:
    """Keys of the recipe, or facts of the lineage, before and after."""
    if not changes:
        return None
    rows = [(key, *map(_show_value, change)) for key, change in changes.items()]
    frame = pl.DataFrame(rows, {"name": pl.String, "before": pl.String, "after": pl.String}, orient="row")
    columns = [
        TableColumn(label, key, number=False) for label, key in (("Key", "name"), ("Before", "before"), ("After", "after"))
    ]
    return make_report_table(caption, frame, columns)


def changed_inputs_table(inputs: Mapping[str, InputChanges]) -> ReportTable | None:
    """What became of the files of each source of which one changed."""
    rows = [(n, c.added, c.removed, c.changed, c.same) for n, c in inputs.items() if c.added or c.removed or c.changed]
    if not rows:
        return None
    kinds = ("added", "removed", "changed", "same")
    frame = pl.DataFrame(rows, {"name": pl.String, **dict.fromkeys(kinds, pl.Int64)}, orient="row")
    columns = [TableColumn("Source", "name", number=False), *(TableColumn(k.capitalize(), k, format_whole) for k in kinds)]
    return make_report_table("Files of the sources", frame, columns)


def documents_table(documents: tuple[DocumentChanges, ...]) -> ReportTable | None:
    """Rows and documents by split and domain."""
    if not documents:
        return None
    kinds = ("kept", "added", "removed", "new", "gone")
    rows = [(d.domain, d.split, d.kept, d.added, d.removed, d.new, d.gone) for d in documents]
    schema = {"name": pl.String, "split": pl.String, **dict.fromkeys(kinds, pl.Int64)}
    labels = ("Rows kept", "Rows added", "Rows removed", "Documents new", "Documents gone")
    columns = [DOMAIN, TableColumn("Split", "split", number=False)]
    columns += [TableColumn(label, kind, format_whole) for label, kind in zip(labels, kinds, strict=True)]
    frame = pl.DataFrame(rows, schema, orient="row")
    total = {"name": "All", **{kind: format_whole(int(frame[kind].sum())) for kind in kinds}}
    return make_report_table("Documents before and after", frame, columns, total)


def say_changes(changes: ManifestChanges) -> str:
    """The keys of the recipe that changed and the largest move of a weight: a sentence that may follow another's words."""
    shares = {name: [weight or 0.0 for weight in facts["weight"]] for name, facts in changes.domains.items()}
    name, (old, new) = max(shares.items(), key=lambda item: round(abs(item[1][1] - item[1][0]), 9))
    keys = sorted({key.partition(".")[0] for key in changes.recipe})
    recipe = f"the recipe changed in {', '.join(keys)}" if keys else "the recipe is the same"
    if old == new:
        return f"{recipe}; no weight moved."
    share = short_percent_formatter(len(shares))
    return f"{recipe}; {isolate_name(name)} moved most, from {share(old)} to {share(new)}."


def _show_value(value: object) -> str:
    """A value of a recipe as people write it."""
    if value is None:
        return "–"
    if isinstance(value, int) and not isinstance(value, bool):
        return format_whole(value)
    return shorten_name(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), VALUE_SHOWN)
