"""Events of a build as OpenLineage's specification has them, without a client of theirs."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import replace
from datetime import datetime
from typing import Any

import jsonschema
import pyarrow as pa
import pytest

from chameleon_data.corpus.kept_columns import KeptColumn
from chameleon_data.shards.rows import LABELS, LOSS_MASK, sequence_schema
from chameleon_data.versions.manifest import FormatSum, InputSum, PackedTurns
from chameleon_data.versions.versions import Version
from chameleon_data.views.openlineage import LineageRun, name_dataset
from tests.support.manifests import example_manifest

FACET = {
    "type": "object",
    "required": ["_producer", "_schemaURL"],
    "properties": {"_producer": {"type": "string", "format": "uri"}, "_schemaURL": {"type": "string", "format": "uri"}},
}
FACETS = {"type": "object", "additionalProperties": FACET}
DATASET = {
    "type": "object",
    "required": ["namespace", "name"],
    "properties": {
        "namespace": {"type": "string"},
        "name": {"type": "string"},
        **dict.fromkeys(("facets", "inputFacets", "outputFacets"), FACETS),
    },
    "additionalProperties": False,
}  # fmt: skip
RUN_EVENT = {
    "type": "object",
    "required": ["eventTime", "producer", "schemaURL", "run", "job"],
    "properties": {
        "eventType": {"enum": ["START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"]},
        "eventTime": {"type": "string"},
        "producer": {"type": "string", "format": "uri"},
        "schemaURL": {"type": "string", "pattern": r"^https://openlineage\.io/spec/2-0-2/OpenLineage\.json#/\$defs/RunEvent$"},
        "run": {"type": "object", "required": ["runId"], "properties": {"runId": {"type": "string"}, "facets": FACETS}},
        "job": {
            "type": "object",
            "required": ["namespace", "name"],
            "properties": {"namespace": {"type": "string"}, "name": {"type": "string"}, "facets": FACETS},
        },
        "inputs": {"type": "array", "items": DATASET},
        "outputs": {"type": "array", "items": DATASET},
    },
    "additionalProperties": False,
}
"""What https://openlineage.io/spec/2-0-2/OpenLineage.json asks of a run event."""
WHEN = "2026-01-01T00:00:00.000+00:00"
SHA = "0" * 64


def events() -> dict[str, dict[str, Any]]:
    """One event of each kind, by kind."""
    recipe = {
        "name": "mix",
        "out": "s3://bucket/mixtures/mix",
        "sources": {"a": {"path": ["/data/a"]}, "b": {"path": ["x", "y"]}},
    }
    manifest = example_manifest("mix", recipe=recipe, domains={"a": {"rows": 7}}, validation={"a": {"rows": 3}})
    manifest = replace(
        manifest,
        formats={"parquet": FormatSum(2, 500), "mds": FormatSum(2, 600)},
        provenance=replace(manifest.provenance, inputs={"a": InputSum(3, 900, SHA), "b": InputSum(1, 1, SHA)}),
        columns={"url": KeptColumn("integer", {})},
    )
    version = Version(4, SHA, SHA, SHA, WHEN, "mix", 7, "bytes", 1)
    run = LineageRun(str(uuid.UUID(int=5)), "team", manifest.recipe)
    made = [run.start(WHEN), run.complete(WHEN, manifest, version)]
    made += [run.fail(WHEN, "FAIL", "no disk"), run.fail(WHEN, "ABORT", "stopped")]
    return {event["eventType"]: event for event in map(json.loads, made)}


@pytest.mark.parametrize("kind", ["START", "COMPLETE", "FAIL", "ABORT"])
def test_an_event_has_what_the_specification_asks_for(kind: str) -> None:
    event = events()[kind]
    jsonschema.Draft202012Validator(RUN_EVENT).validate(event)
    assert uuid.UUID(event["run"]["runId"]).int == 5
    assert datetime.fromisoformat(event["eventTime"]).tzinfo
    assert (event["job"]["namespace"], event["job"]["name"]) == ("team", "mix")
    datasets = [event["run"], event["job"], *event["inputs"], *event["outputs"]]
    groups = [of[key] for of in datasets for key in ("facets", "inputFacets", "outputFacets") if key in of]
    facets = {name: facet for group in groups for name, facet in group.items()}
    assert {"processing_engine", "jobType"} <= facets.keys()
    for name, facet in facets.items():
        schema = re.fullmatch(r"https://openlineage\.io/spec/facets/\d-\d-\d/(\w+)\.json#/\$defs/(\w+)", facet["_schemaURL"])
        assert schema, name
        assert schema[1] == schema[2]
        assert name.replace("_", "").lower() in schema[1].lower(), "the facet is under the key of its own schema"


def test_what_went_in_and_what_came_out() -> None:
    event = events()["COMPLETE"]
    names = [(dataset["namespace"], dataset["name"]) for dataset in event["inputs"]]
    assert names == [("file", "/data/a"), ("file", "x"), ("file", "y")]
    first, second, _ = event["inputs"]
    assert (first["inputFacets"]["inputStatistics"]["fileCount"], first["inputFacets"]["inputStatistics"]["size"]) == (3, 900)
    assert "inputFacets" not in second, "what was read is known of a source, not of each of its paths"
    (output,) = event["outputs"]
    assert (output["namespace"], output["name"]) == ("s3://bucket", "mixtures/mix")
    assert output["facets"]["version"]["datasetVersion"] == "v4"
    fields = [column["name"] for column in output["facets"]["schema"]["fields"]]
    assert fields == ["text", "domain", "domain_id", "doc_id", "epoch", "tokens", "url"]
    size = output["outputFacets"]["outputStatistics"]
    assert (size["rowCount"], size["size"], size["fileCount"]) == (10, 1_100, 4)
    types = {column["name"]: column["type"] for column in output["facets"]["schema"]["fields"]}
    assert (types["text"], types["domain"], types["tokens"], types["url"]) == ("string", "string", "integer", "integer")
    assert output["facets"]["lifecycleStateChange"]["lifecycleStateChange"] == "CREATE"
    assert "outputFacets" not in events()["START"]["outputs"][0], "nothing is there yet"
    for kind in ("START", "FAIL", "ABORT"):
        known = [(dataset["namespace"], dataset["name"]) for dataset in events()[kind]["inputs"]]
        assert known == names, "what is read is known from the recipe"
    assert events()["FAIL"]["run"]["facets"]["errorMessage"]["message"] == "no disk"


def test_the_text_of_conversations_is_their_messages() -> None:
    manifest = replace(example_manifest("mix", domains={"a": {"rows": 7}}), messages={"content": "string"})
    run = LineageRun(str(uuid.UUID(int=5)), "team", manifest.recipe)
    event = json.loads(run.complete(WHEN, manifest, Version(4, SHA, SHA, SHA, WHEN, "mix", 7, "bytes", 1)))
    assert event["outputs"][0]["facets"]["schema"]["fields"][0]["name"] == "messages"


@pytest.mark.parametrize("labels", [False, True])
def test_columns_of_packed_conversations_are_those_of_the_shards(labels: bool) -> None:
    manifest = example_manifest("mix", domains={"a": {"rows": 7}})
    recipe = manifest.recipe.model_copy(update={"shards": manifest.recipe.shards.model_copy(update={"sequence_length": 8})})
    writer = replace(manifest.provenance.writer, turns=PackedTurns(8, labels))
    manifest = replace(manifest, recipe=recipe, provenance=replace(manifest.provenance, writer=writer))
    run = LineageRun(str(uuid.UUID(int=5)), "team", recipe)
    event = json.loads(run.complete(WHEN, manifest, Version(4, SHA, SHA, SHA, WHEN, "mix", 7, "bytes", 1)))
    fields = [column["name"] for column in event["outputs"][0]["facets"]["schema"]["fields"]]
    assert fields == sequence_schema(8, pa.uint16(), [LOSS_MASK, *[LABELS] * labels]).names


@pytest.mark.parametrize(
    ("path", "namespace", "name"),
    [
        ("/data/a/*.jsonl", "file", "/data/a/*.jsonl"),
        ("s3://bucket/key/*.zst", "s3://bucket", "key/*.zst"),
        ("gs://bucket", "gs://bucket", "/"),
        ("abfs://box@account.dfs.core.windows.net/a", "abfs://box@account.dfs.core.windows.net", "a"),
        ("file:///data/a", "file", "/data/a"),
        ("local:///data/a", "file", "/data/a"),
    ],
)
def test_datasets_are_named_by_the_rules_for_stores(path: str, namespace: str, name: str) -> None:
    assert name_dataset(path) == {"namespace": namespace, "name": name}
