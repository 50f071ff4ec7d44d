"""A shard in every format: one protocol, a module a format, and the table of them.

A row is `text` (or, where documents are packed, `input_ids`: a fixed-size list of uint16 or uint32), `domain`, `doc_id`, `epoch`,
`tokens`. Every format holds the same rows in the same order; its bytes are a function of the rows, the shard's number, the split and
the compression alone. Files of the train split lie in the format's folder, those of another split in a folder of its name or under
names that begin with it, whatever the format's own readers expect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import pyarrow as pa

Compression = Literal["zstd", "none"]
TRAIN = "train"
VALIDATION = "validation"


@dataclass(frozen=True)
class Encoded:
    """One shard, ready to be stored."""

    files: dict[str, pa.Buffer]
    """Path relative to the format's folder -> bytes, as `Format.names` gives them."""
    entry: dict[str, Any]
    """What the format's index says of the shard; empty for a format without one."""


class Format(Protocol):
    """A module of this package."""

    WRITER: dict[str, Any]
    """What decides the bytes beside the rows and the compression: format version, level, library versions. In the plan digest."""

    def names(self, number: int, count: int, split: str, compression: Compression) -> tuple[str, ...]:
        """Paths of the files of shard `number` of `count`, relative to the format's folder; they sort in the shards' order."""

    def encode(self, table: pa.Table, number: int, count: int, split: str, compression: Compression) -> Encoded:
        """The shard's files. ValueError for a table that is not of rows; InputError where the format cannot hold it."""

    def decode(self, files: Mapping[str, bytes], where: str) -> tuple[pa.Table, dict[str, Any]]:
        """The rows of a shard's files, and the entry that the index must have for them. InputError, naming `where`, on damage."""

    def index(self, split: str, entries: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
        """Path -> bytes of the files that list a split's shards; empty for a format without such."""
