"""The report's part on discovered domains: what each is about, and its share before and after."""

from __future__ import annotations

from dataclasses import dataclass

from chameleon_data.corpus.clusterings import Clustering
from chameleon_data.versions.manifest import Manifest
from chameleon_data.views.report.tables import ReportTable, TableColumn, make_report_table
from chameleon_data.views.report.words import percent_formatter

TERMS_SHOWN = 6
MOST_EXAMPLES_IN_FULL, SHORT_EXAMPLE = 24, 60
"""Domains up to which examples are shown as they are recorded, and characters of each where there are more: a row stays low."""


@dataclass(frozen=True)
class TopicRow:
    """A discovered domain, as the page shows it."""

    name: str
    before: float
    """Share of the corpus' tokens."""
    after: float
    """Weight."""
    documents: int
    terms: str
    nearest: str
    examples: str


def topics_table(clustering: Clustering, manifest: Manifest) -> ReportTable:
    """The clusters that the version holds as domains, the largest first."""
    most = None if len(clustering.clusters) <= MOST_EXAMPLES_IN_FULL else SHORT_EXAMPLE
    total = max(1, sum(domain.available_tokens for domain in manifest.domains.values()))
    rows = [
        TopicRow(
            cluster.name,
            domain.available_tokens / total,
            domain.weight,
            cluster.documents,
            ", ".join(cluster.terms[:TERMS_SHOWN]),
            cluster.nearest or "",
            " ¶ ".join(example[:most] for example in cluster.examples),
        )
        for cluster in clustering.clusters
        if (domain := manifest.domains.get(cluster.name)) is not None
    ]
    columns = (
        TableColumn("Domain", "name", number=False),
        TableColumn("Before", "before", percent_formatter(len(rows))),
        TableColumn("After", "after", percent_formatter(len(rows))),
        TableColumn("Sampled documents", "documents", lambda number: f"{number:,}"),
        TableColumn("Terms", "terms", number=False),
        TableColumn("Nearest", "nearest", number=False),
        TableColumn("Three documents", "examples", number=False),
    )
    return make_report_table("Discovered domains, with their share of the tokens before and after", rows, columns)
