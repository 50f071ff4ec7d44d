"""Clusterings: how domains were discovered, one record a number, which is never changed nor removed.

_chameleon/domains/00000003.json       the clustering, for people
_chameleon/domains/<sha256>.parquet    its topics, by which texts are labelled (`topics.py`)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from chameleon_data.errors import InputError
from chameleon_data.recipe import Domains, LabelledSource, Source
from chameleon_data.store.adapters import type_adapter
from chameleon_data.store.checksummed import read_record, write_record
from chameleon_data.store.paths import TOPICS, clustering_path
from chameleon_data.store.store import Store

CLUSTERING_FORMAT = 3
"""Raise it when a field of `Clustering` or a column of its table changes."""


@dataclass(frozen=True)
class Cluster:
    """A discovered domain, as people see it."""

    name: str
    source: str
    """The source that it refines; empty where it was discovered over all sources."""
    documents: int
    """Documents of the sample."""
    share: float
    """The same as a share of the sample, of its source or of all."""
    terms: tuple[str, ...]
    """Its most distinctive words, the first first."""
    nearest: str | None
    """The cluster with the nearest centre."""
    examples: tuple[str, ...]
    """Starts of the documents nearest to the centre."""


@dataclass(frozen=True)
class Clustering:
    """How domains were discovered, as its record holds it."""

    number: int
    """Counted in this `out`; a new clustering has the next."""
    key: str
    """Fingerprint of the settings, which find it again."""
    topics: str
    """Names the table by which texts are labelled."""
    clusters: tuple[Cluster, ...]
    documents: int
    """Documents that were embedded."""
    inertia: float
    """Mean squared distance of a document, of length one, from its centre."""
    merged: int
    """Clusters that were too small; their documents went to the next nearest."""
    folded: int
    """Clusters that were one with another."""
    agreement: float
    """Share of held-out documents whose words give the cluster that is nearest to their vector."""
    drift: float | None
    """1 - normalised mutual information of the topics of these documents by this clustering and by the one before."""
    seed: int
    window: int
    embedder: str
    """Fingerprint of what made the vectors."""
    device: Literal["cpu", "gpu"]
    """What computed the centres; those of the two differ by rounding."""
    format: int = CLUSTERING_FORMAT

    def say(self) -> str:
        """One sentence for a person."""
        moved = "" if self.drift is None else f"; 1 - NMI with clustering {self.number - 1}: {self.drift:.2f}"
        where = "; k-means on GPUs" if self.device == "gpu" else ""
        small = f"; {self.merged:,} more were too small, and their documents went to the next nearest" if self.merged else ""
        same = f"; {self.folded:,} more were the same as another" if self.folded else ""
        found = f"clustering {self.number}: {len(self.clusters):,} domains from {self.documents:,} embedded documents"
        agreed = f"; words give the nearest cluster to {self.agreement:.0%} of held-out documents"
        return found + small + same + agreed + moved + where

    def describe(self) -> dict[str, object]:
        """What `domains --json` prints."""
        return asdict(self)


def write_clustering(store: Store, clustering: Clustering) -> None:
    """Record it under its number, which nobody has yet."""
    write_record(store, clustering_path(clustering.number), asdict(clustering), new=True)


def label_sources(
    store: Store, sources: Mapping[str, Source], clustering: Clustering, domains: Domains
) -> dict[str, LabelledSource]:
    """The sources, as they are read with the topics of a clustering for domains."""
    refined = {cluster.source for cluster in clustering.clusters}
    labelled: dict[str, LabelledSource] = {}
    for name, source in sources.items():
        if "" not in refined and name not in refined:
            raise InputError(
                f"domains.clustering: clustering {clustering.number} knows no source {name!r}; leave the key out, so that a new "
                "one is made"
            )
        labelled[name] = LabelledSource(
            **source.model_dump(),
            topics_url=store.url,
            topics=clustering.topics,
            seed=clustering.seed,
            window=clustering.window,
            embedder=clustering.embedder if domains.asked.assign == "embed" else None,
        )
    return labelled


def read_clustering(store: Store, number: int) -> Clustering:
    """The clustering with this number."""
    for one in read_clusterings(store):
        if one.number == number:
            return one
    raise InputError(f"{store.url}: the record of clustering {number} is gone, so nobody knows the domains of its rows")


def find_clustering(store: Store, domains: Domains | None) -> Clustering | None:
    """The clustering that a version's recipe names; None where its sources say their domains."""
    return read_clustering(store, domains.clustering) if domains and domains.clustering else None


def next_number(store: Store) -> int:
    """The number of a new clustering."""
    taken = [path for path in store.list(TOPICS) if path.endswith(".json")]
    return int(max(taken).rpartition("/")[2].removesuffix(".json")) + 1 if taken else 1


def read_clusterings(store: Store) -> list[Clustering]:
    """All that are recorded, by number."""
    records = [read_record(store, path) for path in sorted(store.list(TOPICS)) if path.endswith(".json")]
    adapter = type_adapter(Clustering)
    return [adapter.validate_python(record) for record in records if record.get("format") == CLUSTERING_FORMAT]
