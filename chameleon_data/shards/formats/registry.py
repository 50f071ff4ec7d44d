"""The formats that a recipe may name, each a module with the same five members.

Every format holds the same rows in the same order. Its bytes are a function of the rows, the shard's number, the split and the
level of compression alone. A new format is one module and one line in FORMATS.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import pyarrow as pa

from chameleon_data.shards.formats import arrow, jsonl, litdata, mds, megatron, parquet, webdataset
from chameleon_data.shards.formats.files import Encoded, IndexEntry, Level


class Format(Protocol):
    """A module of this package."""

    WRITER: dict[str, Any]
    """What decides the bytes beside rows and level: format version, sizes, library versions. Part of the plan digest."""

    def names(self, number: int, count: int, split: str, level: Level) -> tuple[str, ...]:
        """Paths of the files of shard `number` of `count`, relative to the format's folder. They sort in the shards' order."""

    def encode(self, table: pa.Table, number: int, count: int, split: str, level: Level) -> Encoded:
        """The shard's files. ValueError for a table that is not of rows; InputError where the format cannot hold it."""

    def decode(self, files: Mapping[str, pa.Buffer | bytes], where: str) -> tuple[pa.Table, IndexEntry]:
        """The rows of a shard's files, and the entry that the index must have for them. InputError, with `where`, on damage."""

    def index(self, split: str, entries: Sequence[IndexEntry]) -> dict[str, bytes]:
        """Path -> bytes of the files that list a split's shards; empty for a format without such files."""


FORMATS: dict[str, Format] = {
    "parquet": parquet,
    "mds": mds,
    "arrow": arrow,
    "jsonl": jsonl,
    "webdataset": webdataset,
    "litdata": litdata,
    "megatron": megatron,
}
"""Name in the recipe, and of the format's folder in the build -> module."""
