"""What changed between two versions, of one dataset or of two: recipe, mixture, documents, shards, inputs, lineage."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any

from chameleon_data.versions.compare_documents import DocumentChanges, SharedShards, Side, compare_documents, count_shared_shards
from chameleon_data.versions.corpus_tables import read_inputs
from chameleon_data.versions.manifest import DomainRecord, Manifest, StageRecord
from chameleon_data.versions.provenance import describe_lineage

Change = list[Any]
"""[before, after]; None for what is not there."""
COMPARED_FACTS = ("weight", "tokens", "rows", "epochs")
"""Fields of a domain's record that are shown side by side."""


@dataclass
class InputChanges:
    """Fragments of one source."""

    added: int = 0
    removed: int = 0
    changed: int = 0
    """The same file or row group with another identity."""
    same: int = 0


@dataclass(frozen=True)
class ManifestChanges:
    """What two manifests and their lists of files tell apart, without a look into the shards."""

    recipe: dict[str, Change]
    """Dotted key -> change."""
    domains: dict[str, dict[str, Change]]
    """Domain -> COMPARED_FACTS, as a pair each, changed or not; over all stages."""
    stages: tuple[dict[str, Change], ...]
    """The weights of each stage by domain, as a pair each, in the order of the training."""
    inputs: dict[str, InputChanges]
    """Source -> what became of its files."""
    lineage: dict[str, Change]
    """Dotted key -> change of what made the version: tokenizer, embedder, code, packages."""


@dataclass(frozen=True)
class Difference(ManifestChanges):
    """All that changed from one version to another."""

    documents: tuple[DocumentChanges, ...]
    """By split and domain, in order."""
    shards: SharedShards

    def describe(self) -> dict[str, Any]:
        """The difference as plain JSON."""
        return asdict(self)


def compare_manifests(before: Side, after: Side) -> ManifestChanges:
    """What changed, as far as the manifests tell. Lists of files are read for sources of which a file changed."""
    (_, a), (_, b) = before, after
    return ManifestChanges(
        _diff_recipes(a, b),
        _pair_domains(a.domains, b.domains),
        tuple(_pair_weights(*pair) for pair in zip_longest(a.stages, b.stages)),
        _diff_inputs(before, after),
        diff_values(describe_lineage(a), describe_lineage(b)),
    )


def diff_versions(before: Side, after: Side, progress: Callable[[int, int], None] = lambda done, total: None) -> Difference:
    """What one must know to go from the first version to the second. Raises InputError where a shard cannot be read."""
    documents = compare_documents(before, after, progress)
    return Difference(**vars(compare_manifests(before, after)), documents=documents, shards=count_shared_shards(before, after))


def diff_values(before: Any, after: Any) -> dict[str, Change]:
    """Dotted key -> [before, after], of the leaves of two nested mappings that differ; lists are leaves."""
    a, b = dict(_leaves(before)), dict(_leaves(after))
    return {key: [a.get(key), b.get(key)] for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key)}


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        yield prefix, value
        return
    for key, inner in value.items():
        name = json.dumps(key, ensure_ascii=False) if "." in key or '"' in key else key  # so that no two paths are spelled alike
        yield from _leaves(inner, f"{prefix}.{name}" if prefix else name)


def _diff_recipes(a: Manifest, b: Manifest) -> dict[str, Change]:
    """The keys that differ, and the order of the same sources: it decides which copy of a text `dedup` keeps."""
    changes = diff_values(*(m.recipe.model_dump(mode="json", by_alias=True) for m in (a, b)))
    if a.priority != b.priority and sorted(a.priority) == sorted(b.priority):
        changes["sources"] = [list(a.priority), list(b.priority)]
    return changes


def _pair_domains(a: Mapping[str, DomainRecord], b: Mapping[str, DomainRecord]) -> dict[str, dict[str, Change]]:
    names = sorted(a.keys() | b.keys(), key=str.encode)
    return {name: {fact: [getattr(side.get(name), fact, None) for side in (a, b)] for fact in COMPARED_FACTS} for name in names}


def _pair_weights(a: StageRecord | None, b: StageRecord | None) -> dict[str, Change]:
    """The weights of one stage; a version without it, or with the domain absent from it, has None."""
    sides = [side.domains if side else {} for side in (a, b)]
    names = sorted(sides[0].keys() | sides[1].keys(), key=str.encode)
    return {name: [side[name].weight if name in side else None for side in sides] for name in names}


def _diff_inputs(before: Side, after: Side) -> dict[str, InputChanges]:
    """Sources whose fingerprints agree are not looked at: all their files are the same."""
    (_, a), (_, b) = before, after
    sums = [manifest.provenance.inputs for manifest in (a, b)]
    same = {name for name in sums[0].keys() & sums[1].keys() if sums[0][name].fingerprint == sums[1][name].fingerprint}
    changes = {name: InputChanges(same=sums[0][name].files) for name in same}
    if len(same) == len(sums[0].keys() | sums[1].keys()):
        return dict(sorted(changes.items()))
    identities = [{(f.source, f.url): f.identity for f in read_inputs(*side) if f.source not in same}
                  for side in (before, after)]  # fmt: skip
    first, second = identities
    for fragment in first.keys() | second.keys():
        counts = changes.setdefault(fragment[0], InputChanges())
        if fragment not in first:
            counts.added += 1
        elif fragment not in second:
            counts.removed += 1
        elif first[fragment] == second[fragment]:
            counts.same += 1
        else:
            counts.changed += 1
    return dict(sorted(changes.items()))
