"""A build as OpenLineage events, which catalogues of lineage such as Marquez and DataHub read: what went in, and what came out.

A run is one START and one COMPLETE, FAIL or ABORT. Datasets are named as the specification names files and objects: the namespace
`file` with an absolute path, or `s3://bucket` with a key. Sources: https://openlineage.io/spec/2-0-2/OpenLineage.json and the
facets beside it; https://openlineage.io/docs/spec/naming.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from chameleon_data import __version__
from chameleon_data.recipe import Recipe
from chameleon_data.versions.manifest import Manifest
from chameleon_data.versions.versions import Version
from chameleon_data.views.croissant import FIELDS

SPECIFICATION = "https://openlineage.io/spec"
RUN_EVENT = f"{SPECIFICATION}/2-0-2/OpenLineage.json#/$defs/RunEvent"
PRODUCER = f"https://pypi.org/project/chameleon-data/{__version__}"
FACETS = {
    "schema": "1-2-0/SchemaDatasetFacet", "version": "1-0-1/DatasetVersionDatasetFacet",
    "lifecycleStateChange": "1-0-1/LifecycleStateChangeDatasetFacet",
    "outputStatistics": "1-0-2/OutputStatisticsOutputDatasetFacet", "inputStatistics": "1-0-0/InputStatisticsInputDatasetFacet",
    "processing_engine": "1-1-1/ProcessingEngineRunFacet", "errorMessage": "1-0-1/ErrorMessageRunFacet",
    "jobType": "2-0-4/JobTypeJobFacet",
}  # fmt: skip
"""Facet -> its version and its name in the specification."""

Datasets = list[dict[str, Any]]
"""Datasets of an event, as plain JSON."""


@dataclass(frozen=True)
class LineageRun:
    """One run of a build."""

    id: str
    """A UUID."""
    namespace: str
    """The group of jobs that a catalogue of lineage shows it in."""
    recipe: Recipe

    def start(self, when: str) -> str:
        """The event that it began, as JSON. `when` is an ISO 8601 time."""
        return self._event("START", when, self._inputs(None), [self._output()])

    def complete(self, when: str, manifest: Manifest, version: Version) -> str:
        """The event that it ended well: what was read by source, and the version that it made, or found."""
        return self._event("COMPLETE", when, self._inputs(manifest), [self._output(manifest, version)])

    def fail(self, when: str, how: Literal["FAIL", "ABORT"], message: str) -> str:
        """The event that it failed, or was stopped."""
        error = _facet("errorMessage", {"message": message, "programmingLanguage": "Python"})
        return self._event(how, when, self._inputs(None), [self._output()], {"errorMessage": error})

    def _event(
        self, kind: str, when: str, inputs: Datasets, outputs: Datasets, more: dict[str, dict[str, Any]] | None = None
    ) -> str:
        engine = _facet("processing_engine", {"name": "chameleon-data", "version": __version__})
        job = _facet("jobType", {"processingType": "BATCH", "integration": "CHAMELEON_DATA", "jobType": "BUILD"})
        event = {
            "eventType": kind,
            "eventTime": when,
            "run": {"runId": self.id, "facets": {"processing_engine": engine, **(more or {})}},
            "job": {"namespace": self.namespace, "name": self.recipe.name, "facets": {"jobType": job}},
            "inputs": inputs,
            "outputs": outputs,
            "producer": PRODUCER,
            "schemaURL": RUN_EVENT,
        }
        return json.dumps(event, ensure_ascii=False)

    def _inputs(self, manifest: Manifest | None) -> Datasets:
        """A dataset for each path of a source; where a source has one path, what was read of it."""
        inputs = manifest.provenance.inputs if manifest else {}
        datasets = []
        for name, source in self.recipe.sources.items():
            for path in source.path:
                dataset: dict[str, Any] = name_dataset(path)
                if len(source.path) == 1 and (read := inputs.get(name)):
                    statistics = _facet("inputStatistics", {"size": read.bytes, "fileCount": read.files})
                    dataset["inputFacets"] = {"inputStatistics": statistics}
                datasets.append(dataset)
        return datasets

    def _output(self, manifest: Manifest | None = None, version: Version | None = None) -> dict[str, Any]:
        """The dataset in `out`; once there is a version, with its number, columns and size."""
        dataset: dict[str, Any] = name_dataset(self.recipe.out)
        if manifest and version:
            sums = manifest.formats.values()
            rows = sum(record.rows for split in manifest.shard_counts for record in manifest.split_domains(split).values())
            dataset["facets"] = {
                "version": _facet("version", {"datasetVersion": f"v{version.number}"}),
                "schema": _facet("schema", {"fields": _list_columns(manifest)}),
                "lifecycleStateChange": _facet("lifecycleStateChange", {"lifecycleStateChange": "CREATE"}),
            }
            size = {"rowCount": rows, "size": sum(s.bytes for s in sums), "fileCount": sum(s.files for s in sums)}
            dataset["outputFacets"] = {"outputStatistics": _facet("outputStatistics", size)}
        return dataset


def name_dataset(path: str) -> dict[str, str]:
    """The namespace and name of a path or URL."""
    scheme, separator, rest = path.partition("://")
    if not separator or scheme in ("file", "local"):
        return {"namespace": "file", "name": rest if separator else path}
    place, _, key = rest.partition("/")
    return {"namespace": f"{scheme}://{place}", "name": key or "/"}


def _facet(name: str, values: dict[str, Any]) -> dict[str, Any]:
    facet = FACETS[name]
    schema = f"{SPECIFICATION}/facets/{facet}.json#/$defs/{facet.partition('/')[2]}"
    return {"_producer": PRODUCER, "_schemaURL": schema, **values}


def _list_columns(manifest: Manifest) -> list[dict[str, str]]:
    """The columns of the rows, the kept ones last."""
    body = {"name": "input_ids", "type": "list", "description": "a sequence of token ids"}
    if manifest.recipe.shards.sequence_length == "none":
        body = {"name": "text", "type": "string", "description": FIELDS["text"][1]}
        if manifest.messages:
            body = {"name": "messages", "type": "list", "description": "the messages of a conversation"}
    fixed = [
        {"name": name, "type": "string" if kind == "sc:Text" else "integer", "description": meaning}
        for name, (kind, meaning) in FIELDS.items()
        if name != "text"
    ]
    if manifest.recipe.shards.sequence_length != "none":
        fixed.append({"name": "doc_starts", "type": "list", "description": "the places at which documents begin"})
    if turns := manifest.provenance.writer.turns:
        fixed.append({"name": "loss_mask", "type": "list", "description": "1 where a trainer learns the token"})
        if turns.labels:
            fixed.append({"name": "labels", "type": "list", "description": "the ids that are learned, and -100 elsewhere"})
    return [body, *fixed, *({"name": name, "type": column.kind} for name, column in manifest.columns.items())]
