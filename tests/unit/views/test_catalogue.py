"""The catalogue: every version with its tags and links, in any copy of the folder, and whole after writers that overlap."""

from __future__ import annotations

import re
from pathlib import Path
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
    domains = changes.pop("domains", {"a": {"weight": weight, "tokens": 600}, HOSTILE: {"weight": 1 - weight, "tokens": 400}})
    shards = changes.pop("shards", None) or [
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


def test_one_format_of_many_files_is_enough_for_the_table(tmp_path: Path) -> None:
    store, many = Store(str(tmp_path)), catalogue.FILES_LISTED + 1
    shards = [{"path": f"builds/b/parquet/{n}.parquet", "format": "parquet", "shard": n} for n in range(many)]
    commit(store, "b", files=many, shards=[*shards, {"path": "builds/b/megatron/all.bin", "format": "megatron", "shard": 0}])
    write_catalogue(store)
    links = links_of(page_of(store))
    assert not [link for link in links if link.endswith((".parquet", ".bin")) and link.startswith("builds/")]
    assert len([link for link in links if link.startswith("_chameleon/tables/")]) == 2, "one for each format"


def test_deleted_and_old_versions_are_told_in_a_line(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "VERSIONS_DETAILED", 1)
    first, *_ = [commit(store, name) for name in ("first", "second", "third")]
    delete_version(store, first, "2026-02-02T00:00:00+00:00")
    write_catalogue(store)
    page = page_of(store)
    assert re.findall(r'<section id="(v\d+)"', page) == ["v3", "v2"]
    assert page.count("manifests/") == 1, "of the newest only"
    assert "v1 (2026-02-02 00:00 UTC)" in page


def test_a_dataset_without_versions_has_a_catalogue(store: Store) -> None:
    write_catalogue(store)
    assert "There is no version." in page_of(store)


def section_of(page: str, number: int) -> str:
    return re.sub(r"\s+", " ", re.findall(rf'<section id="v{number}".*?</section>', page, re.S)[0])


def test_a_version_shows_its_largest_shares_equal_ones_by_name(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    weights = {"f": 0.05, "e": 0.1, "d": 0.1, "c": 0.3, "b": 0.2, "a": 0.2, "g": 0.05}
    commit(store, "seven", domains={name: {"weight": weight, "tokens": 100} for name, weight in weights.items()})
    write_catalogue(store)
    shares = re.findall(r"<bdi>([a-g])</bdi>", section_of(page_of(store), 1))
    assert shares == ["c", "a", "b", "d", "e"]


def test_each_version_shows_its_own_manifest_tags_and_files(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    versions = [commit(store, name) for name in ("first", "second", "third")]
    for tag in ("prod", "best"):
        tag_version(store, versions[1], tag)
    write_catalogue(store)
    for version, name in zip(versions, ("first", "second", "third"), strict=True):
        section = section_of(page_of(store), version.number)
        assert re.findall(r"manifests/([0-9a-f]{64})", section) == [version.manifest]
        assert set(re.findall(r"builds/(\w+)/parquet/train", section)) == {name}
        assert re.findall(r'class="tag">(?:<bdi>)?(\w+)', section) == (["best", "prod"] if name == "second" else [])


def test_each_format_has_its_own_files_and_size_by_links_that_a_browser_follows(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    sizes = {"parquet": 1_500, "mds": 2_500}
    shards = [
        {"path": f"builds/a #1/{kind}/train-{n:05}.{kind}", "format": kind, "shard": n, "bytes": size}
        for n in range(2)
        for kind, size in sizes.items()
    ]
    commit(store, "two", shards=shards)
    write_catalogue(store)
    page = page_of(store)
    for kind in sizes:
        assert page.count(f"builds/a%20%231/{kind}/train-00001.{kind}") == 1
    assert {"3 kB", "5 kB"} <= set(re.findall(r"\d+ kB", page)), "2 × 1,500 and 2 × 2,500"
    assert "builds/a #1" not in page


def test_tokens_are_told_as_tokens(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    commit(store, "tokens", unit="gpt2")
    write_catalogue(store)
    assert "1,000 tokens" in page_of(store)


@pytest.mark.parametrize("between", ["version", "tag", "report", "deletion"])
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
            elif between == "deletion":
                delete_version(store, first, "2026-02-02T00:00:00+00:00")
            else:
                store.write("reports/v1.html", b"a report")
            store.write(CATALOGUE, render(of).encode())
        return page

    monkeypatch.setattr(catalogue, "render_catalogue", render_slowly)
    write_catalogue(store)
    shown = {"version": 'id="v2"', "tag": "prod", "report": "reports/v1.html", "deletion": "There is no version."}[between]
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
