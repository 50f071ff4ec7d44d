"""The catalogue: every version with its tags and links, in any copy of the folder, and whole after writers that overlap."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

import pytest

from chameleon_data.errors import InputError
from chameleon_data.store.paths import CATALOGUE
from chameleon_data.store.store import Store
from chameleon_data.versions.tags import tag_version
from chameleon_data.versions.versions import Version, commit_version, delete_version
from chameleon_data.views import catalogue
from chameleon_data.views.catalogue import refresh_catalogue, write_catalogue
from tests.support.manifests import example_manifest

HOSTILE = "z<script>document.title='owned'</script>"


def commit(store: Store, name: str, weight: float = 0.5, files: int = 2, **changes: Any) -> Version:
    domains = {"a": {"weight": weight, "tokens": 600}, HOSTILE: {"weight": 1 - weight, "tokens": 400}}
    shards = [
        {"path": f"builds/{name}/parquet/train-{n:05}.parquet", "format": "parquet", "shard": n, "bytes": 1_500}
        for n in range(files)
    ]
    of_all = {"domain_rows": {"a": 1}, "domain_tokens": {"a": 1}}
    shards = [{**shard, **of_all, "sha256": f"{shard['shard']:064x}"} for shard in shards]
    manifest = example_manifest(name, store, domains=domains, shards=shards, shard_counts={"train": files}, **changes)
    return commit_version(store, manifest, "2026-01-01T00:00:00+00:00")


def page_of(store: Store) -> str:
    return store.read(CATALOGUE).decode()


def links_of(page: str) -> list[str]:
    return [unquote(href) for href in re.findall(r'href="([^"]*)"', page)]


def test_versions_tags_changes_and_files_are_listed(store: Store) -> None:
    first, second = commit(store, "first"), commit(store, "second", weight=0.7)
    tag_version(store, second, "prod")
    store.write("reports/v2.html", b"a report")
    store.write("reports/v1-v2.html", b"a difference")
    store.write("reports/v2-ngram-forest.svg", b"no page")
    write_catalogue(store)
    page = page_of(store)
    assert re.findall(r'<section id="(v\d+)"', page) == ["v2", "v1"], "the newest first"
    assert page.count('class="tag"') == 1
    assert "prod" in page[: page.index('<section id="v1"')]
    assert "1 kB of text" in page
    moved = page.replace("\u00a0", " ").replace("\u2068", "").replace("\u2069", "")
    assert "Since v1, the recipe is the same; a moved most, from 50.0 % to 70.0 %." in moved
    links = links_of(page)
    assert {"reports/v2.html", "reports/v1-v2.html", f"_chameleon/manifests/{first.manifest}.json"} <= set(links)
    assert "reports/v1.html" not in links, "there is none"
    assert "builds/second/parquet/train-00001.parquet" in links
    assert not [link for link in links if ":" in link or link.startswith("/")], "links are relative, so a copy has its own"
    assert HOSTILE not in page


def test_many_files_are_told_by_their_table(store: Store) -> None:
    commit(store, "many", files=catalogue.FILES_LISTED + 1)
    write_catalogue(store)
    links = links_of(page_of(store))
    assert [link for link in links if link.startswith("_chameleon/tables/")]
    assert not [link for link in links if link.endswith("00001.parquet")]


def test_deleted_and_old_versions_are_told_in_a_line(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "VERSIONS_DETAILED", 1)
    first, *_ = [commit(store, name) for name in ("first", "second", "third")]
    delete_version(store, first, "2026-02-02T00:00:00+00:00")
    write_catalogue(store)
    page = page_of(store)
    assert re.findall(r'<section id="(v\d+)"', page) == ["v3", "v2"]
    assert page.count("manifests/") == 1, "of the newest only"
    assert "v1 (2026-02-02T00:00:00+00:00)" in page


def test_a_dataset_without_versions_has_a_catalogue(store: Store) -> None:
    write_catalogue(store)
    assert "There is no version." in page_of(store)


@pytest.mark.parametrize("between", ["version", "tag", "report"])
def test_what_comes_while_it_is_written_is_in_it(store: Store, monkeypatch: pytest.MonkeyPatch, between: str) -> None:
    """Another writer commits, and writes the page, after we have listed and before we write: ours must not be the last word."""
    first = commit(store, "first")
    render, came = catalogue.render_catalogue, []

    def render_slowly(of: Store) -> str:
        page = render(of)
        if not came:
            came.append(between)
            if between == "version":
                commit(store, "second")
            elif between == "tag":
                tag_version(store, first, "prod")
            else:
                store.write("reports/v1.html", b"a report")
            store.write(CATALOGUE, render(of).encode())
        return page

    monkeypatch.setattr(catalogue, "render_catalogue", render_slowly)
    write_catalogue(store)
    shown = {"version": 'id="v2"', "tag": "prod", "report": "reports/v1.html"}[between]
    assert shown in page_of(store)


def test_a_failure_to_write_is_told_and_ends_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(store, "first")

    def refuse(*_: Any) -> None:
        raise InputError("s3://bucket/out/index.html: access denied")

    told: list[str] = []
    monkeypatch.setattr(Store, "write", refuse)
    refresh_catalogue(store, told.append)
    assert told == [
        "index.html was not written (s3://bucket/out/index.html: access denied); the next build, tag or report writes it again"
    ]
