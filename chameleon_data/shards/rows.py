"""A shard in every format: the rows, one protocol, and a module a format (`registry.FORMATS`).

A row is `text` (or, where documents are packed, `input_ids`: a fixed-size list of uint16 or uint32), `domain`, `doc_id`, `epoch`,
`tokens`. Every format holds the same rows in the same order; its bytes are a function of the rows, the shard's number, the split
and the compression alone. Files of the train split lie in the format's folder, those of another split in a folder of its name or
under names that begin with it, whatever the format's own readers expect.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from chameleon_data.errors import InputError

TEXT_SCHEMA = pa.schema(
    [
        ("text", pa.large_string()),
        ("domain", pa.string()),
        ("doc_id", pa.string()),
        ("epoch", pa.uint32()),
        ("tokens", pa.uint32()),
    ]
)
"""A row of text. `doc_id` is the document's hash as 32 hexadecimal digits; epochs count from 0."""

Compression = Literal["zstd", "none"]
IndexEntry = Mapping[str, Any]
"""What the index of a format says of one shard, as JSON; the format that made it is the only reader."""
INPUT_IDS = "input_ids"
ROW_OVERHEAD = 64  # bytes a row counts beside its text, so that a million empty-ish rows are more than one piece


def sequence_schema(length: int, dtype: pa.DataType) -> pa.Schema:
    """A row of packed tokens: `input_ids`, `length` of uint16 or uint32, in the place of `text`."""
    return pa.schema([pa.field(INPUT_IDS, pa.list_(dtype, length)), *list(TEXT_SCHEMA)[1:]])


def is_sequences(schema: pa.Schema) -> bool:
    """Whether these are rows of tokens rather than of text."""
    return INPUT_IDS in schema.names


def schema_of(found: pa.Schema) -> pa.Schema:
    """The schema that rows with these columns have in a shard. ValueError where they are of neither kind."""
    if not is_sequences(found):
        return TEXT_SCHEMA
    kind = found.field(INPUT_IDS).type
    if not pa.types.is_fixed_size_list(kind) or kind.value_type not in (pa.uint16(), pa.uint32()) or not kind.list_size:
        raise ValueError(f"'{INPUT_IDS}' is {kind}; sequences of one length, of uint16 or uint32, are expected")
    return sequence_schema(kind.list_size, kind.value_type)


def stored_schema(schema: pa.Schema) -> pa.Schema:
    """What formats with a schema of their own store of these rows: plain strings, since few readers know 64-bit ones."""
    return pa.schema([field.with_type(pa.string()) if field.type == pa.large_string() else field for field in schema])


def conform(table: pa.Table) -> pa.Table:
    """The table with the columns of its schema, at most one chunk each, no metadata. ValueError on other columns and on nulls."""
    schema = schema_of(table.schema)
    if sorted(table.column_names) != sorted(schema.names):
        raise ValueError(f"a shard has the columns {schema.names}, not {table.column_names}")
    rows = table.select(schema.names).cast(schema)
    nulls = [name for name in schema.names if rows[name].null_count]
    if INPUT_IDS in schema.names and any(chunk.flatten().null_count for chunk in rows[INPUT_IDS].chunks):
        nulls.append(INPUT_IDS)
    if nulls:
        raise ValueError(f"nulls in the column {nulls[0]!r}; a shard has none")
    return rows.combine_chunks()


def column_array(rows: pa.Table, name: str) -> pa.Array:
    """A column of a table that `conform` gave, as one array."""
    return rows[name].chunk(0) if rows[name].num_chunks else pa.array([], rows.schema.field(name).type)


def equal_byte_bounds(rows: pa.Table, size: int) -> npt.NDArray[np.int64]:
    """Row numbers where G = ceil(bytes / size) pieces of about equal bytes begin, and the number of rows at the end.

    With B bytes in all, piece g begins at the first row that starts at or after B g / G. No piece is empty.
    """
    if is_sequences(rows.schema):
        sizes = np.full(rows.num_rows, token_ids(rows).itemsize * token_ids(rows).shape[1] + ROW_OVERHEAD, np.int64)
    else:
        sizes = pc.binary_length(rows["text"]).to_numpy().astype(np.int64) + ROW_OVERHEAD
    starts, total = np.cumsum(sizes) - sizes, int(sizes.sum())
    count = -(-total // size)
    return np.unique(np.append(np.searchsorted(starts, [total * g // count for g in range(count)]), len(sizes)))


def refuse_empty(rows: pa.Table, format: str) -> None:
    """For a format in which no rows do not say what rows they would be."""
    if not rows.num_rows:
        raise InputError(f"a shard of no rows cannot be written as {format}; no plan has one")


def token_ids(rows: pa.Table) -> npt.NDArray[np.unsignedinteger[Any]]:
    """(rows, length) `input_ids` of a table that `conform` gave."""
    ids: npt.NDArray[np.unsignedinteger[Any]] = column_array(rows, INPUT_IDS).flatten().to_numpy()
    return ids.reshape(-1, rows.schema.field(INPUT_IDS).type.list_size)


def content_hash(table: pa.Table) -> str:
    """sha256 over the ordered (domain, document hash, epoch, tokens) of a shard; it says nothing of formats or libraries.

    Column by column, as Arrow holds them: domain names and hashes as text, each followed by a newline; epoch and tokens as
    little-endian uint32; and where rows are sequences, their ids as little-endian uint32.
    """
    digest = hashlib.sha256()
    for name in ("domain", "doc_id"):
        digest.update("\n".join([*table[name].to_pylist(), ""]).encode())
    for name in ("epoch", "tokens"):
        digest.update(table[name].to_numpy().astype("<u4").tobytes())
    if is_sequences(table.schema) and pa.types.is_fixed_size_list(table.schema.field(INPUT_IDS).type):
        digest.update(pc.list_flatten(table[INPUT_IDS]).to_numpy().astype("<u4").tobytes())
    return digest.hexdigest()


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
    """What decides the bytes beside rows and compression: format version, level, library versions. In the plan digest."""

    def names(self, number: int, count: int, split: str, compression: Compression) -> tuple[str, ...]:
        """Paths of the files of shard `number` of `count`, relative to the format's folder; they sort in the shards' order."""

    def encode(self, table: pa.Table, number: int, count: int, split: str, compression: Compression) -> Encoded:
        """The shard's files. ValueError for a table that is not of rows; InputError where the format cannot hold it."""

    def decode(self, files: Mapping[str, pa.Buffer | bytes], where: str) -> tuple[pa.Table, dict[str, Any]]:
        """The rows of a shard's files, and the entry that the index must have for them. InputError, with `where`, on damage."""

    def index(self, split: str, entries: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
        """Path -> bytes of the files that list a split's shards; empty for a format without such."""
