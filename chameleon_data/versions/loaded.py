"""A version as a value, for whoever reads it from Python: where its shards lie, what it holds, its proof, what changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from chameleon_data.errors import InputError
from chameleon_data.store.store import Store
from chameleon_data.versions.corpus_tables import InputFile, read_inputs
from chameleon_data.versions.diff import Difference, diff_versions
from chameleon_data.versions.manifest import Manifest, name_tokens
from chameleon_data.versions.references import open_dataset, resolve_version, split_target
from chameleon_data.versions.shard_table import ShardRecord, read_shards
from chameleon_data.versions.verify import Verification, verify_version
from chameleon_data.versions.versions import Version, read_manifest


@dataclass(frozen=True, repr=False)
class LoadedVersion:
    """One version of a dataset, and its manifest."""

    store: Store
    """The recipe's `out`."""
    version: Version
    manifest: Manifest

    @property
    def name(self) -> str:
        """OUT@vN, whatever it was loaded as: a tag may move."""
        return f"{self.store.url}@v{self.version.number}"

    def path(self, format: str) -> str:
        """The folder of the shards in one format, as a path or URL. Raises InputError for a format that was not written, and
        where stages were added, which lie in folders of their own: `paths` lists all."""
        folder, *others = self.paths(format)
        if others:
            raise InputError(
                f"{self.name}: lies in {1 + len(others)} folders, as stages were added to it; read those of `paths({format!r})` "
                "one after the other"
            )
        return folder

    def paths(self, format: str) -> tuple[str, ...]:
        """The folders of the shards in one format, to be read one after the other. InputError for a format that was not
        written."""
        formats = self.manifest.recipe.shards.formats
        if format not in formats:
            raise InputError(f"{self.name}: holds {' and '.join(formats)}, no {format}; name one of these")
        return tuple(f"{self.store.url.rstrip('/')}/{build}/{format}" for build in self.manifest.builds)

    def shards(self) -> Iterator[ShardRecord]:
        """Every shard with its counts and its files, by split, then by number."""
        return read_shards(self.store, self.manifest)

    def inputs(self) -> Iterator[InputFile]:
        """Every file of the corpus that was read, or row group of one."""
        return read_inputs(self.store, self.manifest)

    def verify(self) -> Verification:
        """Its proof from the stored bytes; `.ok` is False where a check fails, and `.problems` says which."""
        return verify_version(self.store, self.manifest)

    def diff(self, other: LoadedVersion | str) -> Difference:
        """What changed from this version to another one, which may be named as for `load_version`."""
        after = load_version(other) if isinstance(other, str) else other
        return diff_versions((self.store, self.manifest), (after.store, after.manifest))

    def __repr__(self) -> str:
        m = self.manifest
        rows, tokens = (sum(getattr(d, what) for d in m.domains.values()) for what in ("rows", "tokens"))
        return f"<{self.name}: {len(m.domains):,} domains, {rows:,} rows, {tokens:,} {name_tokens(m.unit)}>"


def load_version(target: str) -> LoadedVersion:
    """The version that OUT, OUT@v12, OUT@12, OUT@TAG or OUT@latest names. Raises InputError where there is none."""
    url, reference = split_target(target)
    store = open_dataset(url)
    version = resolve_version(store, reference)
    return LoadedVersion(store, version, read_manifest(store, version))
