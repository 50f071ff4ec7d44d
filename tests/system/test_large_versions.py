"""Versions of 100,000 shards and 10,000 domains: their records stay small, and the verbs that read them work."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from chameleon_data.hashing import canonical_json
from chameleon_data.store.store import Store
from chameleon_data.versions.diff import diff_versions
from chameleon_data.versions.manifest import describe_manifest, encode_manifest
from chameleon_data.versions.versions import commit_version, list_versions, read_manifest
from chameleon_data.views.report.domains import SHARDS_DRAWN, read_report_rows
from chameleon_data.views.report.page import render_report
from tests.support.inline_builds import CREATED
from tests.support.large_versions import DOMAINS_A_SHARD, write_large_version

DOMAINS, SHARDS, INPUTS = 10_000, 100_000, 50_000
FACTS_OF_DOMAINS = ("domains", "validation", "weights", "domain_ids")
"""Keys of the JSON of which each holds a value, or a few, for each domain."""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two such versions, of the same shards."""
    store = Store(str(tmp_path_factory.mktemp("large") / "out"))
    for name in "ab":
        commit_version(store, write_large_version(store, name, DOMAINS, SHARDS, INPUTS), CREATED)
    return store


def test_beyond_the_facts_of_domains_the_record_is_small(large: Store) -> None:
    plain = describe_manifest(read_manifest(large, list_versions(large)[0]))
    facts = sum(len(canonical_json(plain[key])) for key in FACTS_OF_DOMAINS)
    assert len(canonical_json(plain)) - facts < 1e6
    assert len(canonical_json(plain["tables"])) < 10_000


def test_the_record_does_not_grow_with_shards_and_files(memory_store: Store) -> None:
    small, more = (encode_manifest(write_large_version(memory_store, "a", 10, 100 * n, 100 * n)) for n in (1, 100))
    assert len(more) - len(small) < 100


def test_the_verbs_that_read_records(large: Store, command: Callable[..., tuple[int, str, str]]) -> None:
    listed = json.loads(command("versions", large.url, "--json")[1])
    assert [(v["version"], v["domains"]) for v in listed] == [("v1", DOMAINS), ("v2", DOMAINS)]
    code, text, _ = command("show", large.url)
    assert (code, "shards  100,000" in text) == (0, True)
    shown = json.loads(command("show", large.url, "--json")[1])
    assert shown["shards"] == [file["path"] for file in shown["tables"]["shards"]]
    assert all(large.exists(path) for path in shown["shards"])


def test_the_difference_of_two(large: Store) -> None:
    sides = [(large, read_manifest(large, version)) for version in list_versions(large)]
    found = diff_versions(*sides)
    assert (found.shards.shared, found.shards.before) == (SHARDS, SHARDS)
    assert sum(d.kept for d in found.documents) == SHARDS * DOMAINS_A_SHARD
    assert len(found.documents) == DOMAINS
    assert found.inputs["s"].same == INPUTS


def test_the_page_stays_small_and_says_what_it_draws(large: Store) -> None:
    version = list_versions(large)[0]
    manifest = read_manifest(large, version)
    rows = read_report_rows(large, manifest)
    assert (len(rows.shards), len(rows.inputs)) == (SHARDS_DRAWN, 500)
    page = render_report(manifest, rows, 1, CREATED, None)
    assert len(page) < 3e6
    assert f"Drawn: {SHARDS_DRAWN:,} of 100,000 shards, at equal distances." in page
    assert "The 24 largest of 10,000 domains; the table holds the others." in page
    assert "9,500 more rows stand in the manifest" in page
    assert "49,500 more rows" in page
