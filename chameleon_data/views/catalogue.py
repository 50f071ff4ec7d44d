"""The catalogue of a dataset: `index.html` in its folder, with every version, what changed from one to the next, and links.

It is a static file with relative links, so it works from a folder, a web server or a bucket, and in any copy of them. It says
nothing that versions, tags and pages do not say, and whoever changes one of these writes it again. Versions and tags are never
replaced; this page is. So it is listed again after it was written, and written again if something came in between: the last
writer has seen every version. Why: docs/decisions/193-static-catalogue.md.
Cost: three listings and one put, and a request for each version and, of the newest VERSIONS_DETAILED, each manifest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from chameleon_data.errors import InputError
from chameleon_data.store.paths import (
    CATALOGUE,
    DELETED,
    REPORTS,
    TAGS,
    VERSIONS,
    difference_path,
    manifest_path,
    report_path,
)
from chameleon_data.store.store import Store
from chameleon_data.versions.diff import compare_manifests
from chameleon_data.versions.manifest import Manifest, name_tokens
from chameleon_data.versions.shard_table import list_shards
from chameleon_data.versions.tags import list_tags
from chameleon_data.versions.versions import Version, list_deleted, list_versions, read_manifest
from chameleon_data.views.report.changes import say_changes
from chameleon_data.views.report.page import FORMAT_TITLES, ordered_formats
from chameleon_data.views.report.template import fill_template
from chameleon_data.views.report.words import format_bytes, format_compact, short_percent_formatter

VERSIONS_DETAILED = 20
"""Newest versions of which the page shows files and changes; of the others it shows a line."""
FILES_LISTED = 24
"""Files of a format that have a link each; of more, the table of shards has one."""
SHARES_SHOWN = 5
"""Largest weights of a version that the page shows."""
WRITES = 5
"""How often the page is written anew because something came in between."""


@dataclass(frozen=True)
class Link:
    """A file of the dataset."""

    label: str
    href: str
    """Relative to the dataset's folder."""
    size: str = ""


@dataclass(frozen=True)
class Download:
    """The shards of a version in one format."""

    title: str
    folders: tuple[str, ...]
    files: tuple[Link, ...]
    """Each file; empty where there are too many."""
    count: int
    size: str


@dataclass(frozen=True)
class CatalogueEntry:
    """A version, as the page shows it."""

    number: int
    version: Version
    tags: tuple[str, ...]
    size: str
    """Tokens or bytes of the train split."""
    shares: tuple[tuple[str, str], ...]
    """The largest weights; empty for an old version."""
    changes: str
    """What changed since the version before, in a sentence; empty for the first and for an old one."""
    links: tuple[Link, ...]
    """Its report, its difference from the version before, its manifest."""
    downloads: tuple[Download, ...]


def refresh_catalogue(store: Store, tell: Callable[[str], None]) -> None:
    """Write the catalogue. A failure is told in one sentence, and ends nothing: the versions are there without it."""
    try:
        write_catalogue(store)
    except InputError as error:
        tell(f"{CATALOGUE} was not written ({error}); the next build, tag or report writes it again")


def write_catalogue(store: Store) -> None:
    """Write `index.html` as the dataset stands when this returns, but for writers that are still at it."""
    for _ in range(WRITES):
        before = _list_state(store)
        store.write(CATALOGUE, render_catalogue(store).encode())
        if _list_state(store) == before:
            return


def render_catalogue(store: Store) -> str:
    """The page."""
    versions = list_versions(store)
    tags: dict[int, list[str]] = {}
    for name, entry in list_tags(store).items():
        tags.setdefault(entry.version, []).append(name)
    pages = set(store.list(REPORTS))
    entries, manifest = list[CatalogueEntry](), None
    for at in reversed(range(len(versions))):
        version, before = versions[at], versions[at - 1] if at else None
        names = tuple(tags.get(version.number, ()))
        if len(entries) >= VERSIONS_DETAILED:
            entries.append(CatalogueEntry(version.number, version, names, _say_size(version), (), "", (), ()))
            continue
        manifest = manifest or read_manifest(store, version)
        earlier = read_manifest(store, before) if before else None
        entries.append(_describe(store, version, names, manifest, before, earlier, pages))
        manifest = earlier
    deleted = [(version.number, when) for version, when in list_deleted(store).items()]
    name = entries[0].version.name if entries else "dataset"
    return fill_template("catalogue.html.j2", {"name": name, "entries": entries, "deleted": deleted})


def _describe(
    store: Store,
    version: Version,
    tags: tuple[str, ...],
    manifest: Manifest,
    before: Version | None,
    earlier: Manifest | None,
    pages: set[str],
) -> CatalogueEntry:
    links = [Link("manifest", quote(manifest_path(version.manifest)))]
    if before and (page := difference_path(before.number, version.number)) in pages:
        links.insert(0, Link(f"difference from v{before.number}", page))
    if (page := report_path(version.number)) in pages:
        links.insert(0, Link("report", page))
    changes = ""
    if before and earlier:
        changes = f"Since v{before.number}, {say_changes(compare_manifests((store, earlier), (store, manifest)))}"
    share = short_percent_formatter(len(manifest.domains))
    heaviest = sorted(((n, d.weight) for n, d in manifest.domains.items()), key=lambda share: (-share[1], share[0]))
    return CatalogueEntry(
        version.number,
        version,
        tags,
        _say_size(version),
        tuple((name, share(weight)) for name, weight in heaviest[:SHARES_SHOWN]),
        changes,
        tuple(links),
        _list_downloads(store, manifest),
    )


def _list_downloads(store: Store, manifest: Manifest) -> tuple[Download, ...]:
    few = all(sums.files <= FILES_LISTED for sums in manifest.formats.values())
    files = [file for shard in list_shards(store, manifest) for file in shard.files] if few else []
    downloads = []
    for name, sums in ordered_formats(manifest):
        links = [Link(f.path.rpartition("/")[2], quote(f.path), format_bytes(f.bytes)) for f in files if f.format == name]
        if not few:
            links = [Link("the list of all files, as Parquet", quote(table.path)) for table in manifest.tables.shards]
        folders = tuple(quote(f"{build}/{name}/") for build in manifest.builds)
        downloads.append(Download(FORMAT_TITLES[name], folders, tuple(links), sums.files, format_bytes(sums.bytes)))
    return tuple(downloads)


def _say_size(version: Version) -> str:
    if name_tokens(version.unit) == "bytes":
        return f"{format_bytes(version.tokens)} of text"
    return f"{format_compact(version.tokens)} tokens"


def _list_state(store: Store) -> list[set[str]]:
    """The names of all that the page is made of; none of them ever changes what it holds, but pages, which only links lead to."""
    return [set(store.list(folder)) for folder in (VERSIONS, DELETED, TAGS, REPORTS)]
