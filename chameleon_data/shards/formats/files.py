"""What the files of all formats have in common: names that sort, an index that lists nothing, one sentence for damage."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import zstandard

from chameleon_data.errors import InputError, explaining, first_line
from chameleon_data.plan.plan import TRAIN

Level = int | None
"""Level of zstd, 1 to 19; None: not compressed."""
IndexEntry = dict[str, Any]
"""What the index of a format says of one shard, as JSON; the format that made it is the only reader."""
DAMAGE = (
    pa.ArrowException,
    zstandard.ZstdError,
    struct.error,
    ValueError,
    OSError,
    MemoryError,
    OverflowError,
    LookupError,
    TypeError,
    AttributeError,
)
"""What decoding raises where bytes are not those that were written."""


@dataclass(frozen=True)
class Encoded:
    """One shard, ready to be stored."""

    files: dict[str, pa.Buffer]
    """Path relative to the format's folder -> bytes; the paths are those of `Format.names`."""
    entry: IndexEntry
    """Empty for a format without an index."""


def pad_number(number: int, count: int) -> str:
    """The number of one of `count` shards, with zeros in front so that names sort in the order of the shards."""
    return f"{number:0{max(5, len(str(count - 1)))}}"


def name_by_split(number: int, count: int, split: str, suffix: str) -> str:
    """train-00003-of-00012.parquet: Hugging Face `datasets` reads the name of the split from the file's."""
    return f"{split}-{pad_number(number, count)}-of-{count:05}{suffix}"


def split_folder(split: str) -> str:
    """Folder of a split, for formats that know splits by folders: the root for train, else a folder of its name."""
    return "" if split == TRAIN else f"{split}/"


def no_index(split: str, entries: Sequence[IndexEntry]) -> dict[str, bytes]:
    """`Format.index` of a format whose file names say it all."""
    return {}


@contextmanager
def refusing_damage(where: str, what: str) -> Iterator[None]:
    """Raise InputError in the place of what decoding raises where bytes are damaged or not ours. `what` is the kind of file."""
    remedy = "restore it from a copy or build it again"
    with explaining(where, {DAMAGE: lambda error: f"damaged {what} ({first_line(error)}); {remedy}"}):
        yield


def refuse_empty(rows: pa.Table, what: str) -> None:
    """InputError where there is no row, for a format that then would not say which columns the rows have."""
    if not rows.num_rows:
        raise InputError(f"a shard without rows cannot be written as {what}; no plan has such a shard")
