"""The sentences with which the report begins: what a version is, why, and what may be expected of it.

Each is made of the numbers that the page shows further below, so that none can say anything else. What training showed is cited
from `weights/evidence.py` alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import polars as pl

from chameleon_data.versions.diff import ManifestChanges
from chameleon_data.versions.manifest import Manifest
from chameleon_data.views.report.changes import say_changes
from chameleon_data.views.report.domains import bounds_that_acted, epoch_limit
from chameleon_data.views.report.words import (
    format_percent,
    format_times,
    format_whole,
    isolate_name,
    list_names,
    short_percent_formatter,
)
from chameleon_data.weights.evidence import BitsDifference, find_evidence
from chameleon_data.weights.explain.closeness import CLOSER

if TYPE_CHECKING:
    from chameleon_data.weights.mixture import MixtureDescription

NEAR = 0.05
"""A share is the natural one where it differs from it by less than this part."""
BOUNDS_TOLD = 3
"""Bounds that have a sentence of their own."""


@dataclass(frozen=True)
class Conclusion:
    """One sentence, or two."""

    text: str
    section: str
    """The section of the page that shows its numbers."""


@dataclass(frozen=True)
class Before:
    """The version before this one."""

    number: int
    changes: ManifestChanges


def conclude(
    manifest: Manifest, domains: pl.DataFrame, before: Before | None, evaluated: Sequence[str]
) -> tuple[Conclusion, ...]:
    """What to know of a version. `domains` is its `domain_frame`; `evaluated`: a sentence of each evaluation of it."""
    sections: dict[str, list[str]] = {
        "mixture": [*_say_shares(domains), *_say_bounds(manifest)],
        "evaluation": [*evaluated] or [*_say_expected(manifest, len(domains))],
        "epochs": [*_say_use(domains)],
        "books": [*_say_unusable(domains)],
        "affinity": [*_say_closest(manifest.weights)],
        "changes": [f"Since v{before.number}, {say_changes(before.changes)}"] if before else [],
    }
    return tuple(Conclusion(text, section) for section, texts in sections.items() for text in texts)


def _say_shares(domains: pl.DataFrame) -> Iterator[str]:
    """The largest share, and the domains that moved most against their share of the corpus."""
    unit, share = domains["unit"][0], short_percent_formatter(len(domains))
    rows = domains.select("name", "weight", "natural").rows()
    name, weight, natural = rows[0]
    if len(rows) == 1:
        yield f"All {unit} come from one domain, {isolate_name(name)}."
        return
    times = {n: w / of_corpus for n, w, of_corpus in rows}
    yield (
        f"{isolate_name(name)} gets the largest share of the {unit}, {share(weight)}. That is "
        f"{format_times(times[name])} its natural share, {share(natural)}."
    )
    most, least = max(times, key=lambda n: times[n]), min(times, key=lambda n: times[n])
    if max(times[most] - 1, 1 - times[least]) < NEAR:
        yield "Every domain gets its natural share, its share of the corpus, or nearly so."
        return
    yield (
        f"Against natural shares, {isolate_name(most)} is raised most, to {format_times(times[most])} its own, and "
        f"{isolate_name(least)} is lowered most, to {format_times(times[least])}."
    )


def _say_bounds(manifest: Manifest) -> Iterator[str]:
    """What floors, caps, groups and the limit of epochs did."""
    moved, limit = bounds_that_acted(manifest), epoch_limit(manifest.recipe.mix)
    share = short_percent_formatter(len(manifest.domains))
    for number, m in moved[:BOUNDS_TOLD]:
        held = {
            "epochs": f"held at {limit or 0:g} epochs", "cap": "held at its cap", "floor": "raised to its floor",
            "group cap": "as a group held at its cap", "group floor": "as a group raised to its floor",
        }[m.bound]  # fmt: skip
        where = f"In stage {number} " if len(manifest.stages) > 1 else ""
        now, alone = share(m.after), share(m.before)
        yield f"{where}{isolate_name(m.domain)} is {held}: it gets {now}, where the weights alone would give {alone}."
    if (rest := len(moved) - BOUNDS_TOLD) > 0:
        yield f"{rest:,} more bound{'s' * (rest > 1)} moved a weight."


def _say_expected(manifest: Manifest, k: int) -> Iterator[str]:
    """What training of small models lets one expect of these weights, against equal shares."""
    about, weights = manifest.weights, manifest.recipe.weights
    if k == 1:
        return
    if about.origin != "computed":
        yield "The weights were given, so nothing is known of what they do; chameleon-data evaluate compares them with others."
        return
    if len(manifest.stages) > 1:
        yield (
            "The weights change in the course of the training, which no training run has measured, so no gain can be promised; "
            "chameleon-data evaluate compares mixtures on held-out text."
        )
        return
    finding = find_evidence(weights, manifest.recipe.leverage)
    if finding is None:
        yield (
            "No training run has measured weights of these settings, so no gain can be promised; chameleon-data evaluate "
            "compares them with others on held-out text."
        )
        return
    parts = [
        f"{_expect(difference)} on {label} ({difference} bits per byte)"
        for label, difference in (
            ("trained domains", finding.trained),
            ("domains not trained on", finding.unseen),
        )
        if difference
    ]
    moved = " Bounds and priors came after, and were not part of it." if about.moved or weights.prior else ""
    yield f"Against equal shares, expect {' and '.join(parts)}, as small decoders showed ({finding.mixture}).{moved}"


def _expect(difference: BitsDifference) -> str:
    return {"no difference": "no difference", "better": "a little better", "worse": "worse"}[difference.verdict]


def _say_closest(about: MixtureDescription) -> Iterator[str]:
    """Domains that are alike, where neither their other distances nor the noise of the sample explain it."""
    affinity, marks = about.affinity, about.beyond_noise
    if affinity is None or marks is None:
        return
    pairs = combinations(range(len(affinity)), 2)
    closer = [pair for pair in pairs if marks[pair[0]][pair[1]] == CLOSER and affinity[pair[0]][pair[1]] > 0]
    if closer:
        names = list_names([about.names[at] for at in max(closer, key=lambda pair: affinity[pair[0]][pair[1]])])
        others = len(closer) - 1
        more = f", as {'is' if others == 1 else 'are'} {others:,} more pair{'s' * (others > 1)}" if others else ""
        yield (
            f"{names} are closer than their distances from the other domains let expect{more}; the noise of the sample does not "
            "explain it."
        )


def _say_use(domains: pl.DataFrame) -> Iterator[str]:
    """How much of the corpus is written, and what is written more than once."""
    there, once = int(domains["available_rows"].sum()), int(domains["once"].sum())
    if once == there:
        yield f"All {format_whole(there)} documents that may be trained on are in it."
    else:
        share, counts = format_percent(once / there), f"{format_whole(once)} of {format_whole(there)}"
        yield f"{share} of the documents that may be trained on are in it ({counts}); the others are beyond their domain's share."
    repeated = domains.filter(pl.col("epochs") > 1).sort("epochs", "name", descending=[True, False])
    if len(repeated):
        most = repeated["epochs"][0]
        names = list_names(repeated["name"].to_list())
        verb = "are" if len(repeated) > 1 else "is"
        at_most = f"at most {most:.2f} times" if len(repeated) > 1 else f"{most:.2f} times"
        yield f"{names} {verb} read more than once, {at_most}."


def _say_unusable(domains: pl.DataFrame) -> Iterator[str]:
    bad, read = int(domains["quarantined"].sum()), int(domains["read"].sum())
    if bad:
        yield f"{format_whole(bad)} of {format_whole(read)} rows held no usable text and were set aside."
