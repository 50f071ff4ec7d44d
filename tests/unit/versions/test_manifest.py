"""The manifest's type: what is written reads back, and whatever else is there is one error that names the file and the key."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from chameleon_data.errors import InputError
from chameleon_data.hashing import canonical_json
from chameleon_data.store.store import Store
from chameleon_data.versions import manifest as manifests
from chameleon_data.versions.manifest import decode_manifest, describe_manifest, encode_manifest, manifest_schema
from tests.support.manifests import EMBEDDER, LANDMARKS, example_manifest

INPUT = {
    "source": "z", "url": "/z/1", "format": "csv", "compression": "none", "bytes": 1, "identity": "i"
}  # fmt: skip
TABLE = {"path": f"_chameleon/tables/{'0' * 64}.parquet", "rows": 1, "bytes": 1}
WHERE = "/out/_chameleon/manifests/x.json"


def test_what_is_written_reads_back(memory_store: Store) -> None:
    manifest = example_manifest(
        "a", memory_store, domains={"ä": {"weight_interval": [0.1, 0.2], "score": 1.0}}, shards=[{"domain_rows": {"ä": 2}}],
        validation={"ä": {}}, map={"ä": [(0.5, -1.0)]}, weights={"nystrom": LANDMARKS, "embedder": EMBEDDER},
        recipe={"sources": {"z": "/z", "a": "/a"}}, inputs=[INPUT],
    )  # fmt: skip
    assert decode_manifest(encode_manifest(manifest), WHERE) == manifest
    assert list(manifest.recipe.sources) == ["z", "a"], "JSON keeps no order, 'priority' does"


def test_the_recipe_stands_under_its_own_keys() -> None:
    plain = describe_manifest(example_manifest(recipe={"weights": {"from": "/weights.json"}}))
    assert plain["recipe"]["weights"]["from"] == "/weights.json"
    assert json.loads(canonical_json(plain)) == plain


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m.update(more=1), "more: "),
        (lambda m: m["tables"]["shards"].append(TABLE | {"more": 1}), r"tables\.shards\.0\.more: "),
        (lambda m: m["tables"]["map"].append(TABLE | {"path": "../../etc/passwd"}), r"tables\.map\.0\.path: "),
        (lambda m: m["tables"]["map"].append(TABLE | {"path": f"{TABLE['path']}\n"}), r"tables\.map\.0\.path: "),
        (lambda m: m["tables"]["inputs"].append(TABLE | {"rows": 0}), r"tables\.inputs\.0\.rows: "),
        (lambda m: m["domain_ids"].clear(), "'domain_ids' does not number each domain"),
        (lambda m: m["recipe"].update(more=1), r"recipe\.more: "),
        (lambda m: m.pop("budget"), "budget: "),
        (lambda m: m.update(budget="10"), "budget: "),
        (lambda m: m.update(seed=1.5), "seed: "),
        (lambda m: m.update(digest="short"), "digest: "),
        (lambda m: m.update(hash="words"), "hash: "),
        (lambda m: m["domains"]["s"].update(rows=True), r"domains\.s\.rows: "),
        (lambda m: m["domains"]["s"].update(available_tokens=0), r"domains\.s\.available_tokens: "),
        (lambda m: m["domains"]["s"].update(multiset="x" * 32), r"domains\.s\.multiset: "),
        (lambda m: m.update(domains={}), "domains: "),
        (lambda m: m.update(priority=["s", "s"]), "'priority' does not name each source"),
        (lambda m: m.update(shard_counts={"train": 1, "validation": 1}), "'shard_counts' does not name the splits"),
        (lambda m: m["provenance"]["writer"].update(ids={"end_of_text": 0, "dtype": "uint16"}), "'provenance.writer.ids'"),
    ],
)
def test_anything_else_is_one_error_that_names_file_and_key(change: Callable[[dict[str, Any]], Any], says: str) -> None:
    plain = describe_manifest(example_manifest())
    change(plain)
    with pytest.raises(
        InputError, match=rf"^{WHERE}: damaged, or not written by chameleon-data \({says}.*restore it from a copy"
    ):
        decode_manifest(canonical_json(plain), WHERE)


def test_a_later_format_is_told_from_damage() -> None:
    plain = describe_manifest(example_manifest()) | {"format": manifests.MANIFEST_FORMAT + 1, "new": "things"}
    with pytest.raises(
        InputError,
        match=f"^{WHERE}: has format \\d+, this chameleon-data reads {manifests.MANIFEST_FORMAT}; install a newer one",
    ):
        decode_manifest(canonical_json(plain), WHERE)
    with pytest.raises(InputError, match=f"has format 1, this .* {manifests.MANIFEST_FORMAT}; use the release that wrote it"):
        decode_manifest(canonical_json(plain | {"format": 1}), WHERE)


OWN = [
    "CodeVersion", "DomainRecord", "FormatSum", "InputSum", "Provenance", "SplitRecord", "TableFile", "Tables", "TokenIds",
    "Writer",
]  # fmt: skip


def test_the_schema_says_what_each_field_is() -> None:
    schema = manifest_schema()
    for kind in (schema, *(schema["$defs"][name] for name in OWN)):
        assert [name for name, field in kind["properties"].items() if "description" not in field] == []
        assert kind["additionalProperties"] is False
