"""Kept columns: what a source carries through to the shards beside the text, as values, as types, and as bytes.

A value is null, a boolean, an integer of 64 bits, a float, a string, or JSON text (`Json`) for anything else. The columns of a
row are one canonical JSON object: keys sorted, nulls left out, whole floats written as integers, and no byte where nothing is
there. So equal columns are equal bytes, whatever file format they came from.

A row that keeps columns is told from its copies by them. Their hash goes into the low 32 bits of the high half of the content
hash (`mix_columns`), which orders a stream last of all. So which of several equal texts comes follows from the rows alone, and a
text stays where it is when another column is kept. Why: docs/decisions/180-columns-in-the-hash.md.

On their way to the shards the columns lie behind the text in one body: text, columns, bytes of the columns in 4 bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from chameleon_data.arrays import U64, byte_lengths
from chameleon_data.corpus.bodies import Bodies
from chameleon_data.hashing import canonical_json, content_hashes

SIZE_BYTES = 4
"""Bytes behind a body that say how long its columns are."""
LARGEST_WHOLE_FLOAT = 2**53
"""Above it a float does not hold every integer."""
ARROW_TYPES = {
    "string": pa.large_string(), "integer": pa.int64(), "float": pa.float64(), "boolean": pa.bool_(), "json": pa.large_string(),
}  # fmt: skip
"""Kind of a kept column -> its type in a shard. `json` is text that holds JSON."""


class Json(str):
    """JSON text that stands for a value of no plain type."""

    __slots__ = ()


def plain_value(value: Any) -> Any:
    """A value that JSON has, as a kept column holds it. A float that is no number is null."""
    kind = type(value)
    if value is None or kind is str or kind is bool:
        return value
    if kind is int:
        return value if -(2**63) <= value < 2**63 else Json(value)
    if kind is float:
        return value if math.isfinite(value) else None
    return Json(canonical_json(value).decode())


def kind_of(value: Any) -> str:
    """The kind of a value that is not null. `wide integer`: one that a float may not hold."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer" if -LARGEST_WHOLE_FLOAT <= value <= LARGEST_WHOLE_FLOAT else "wide integer"
    if isinstance(value, float):
        return "float"
    return "json" if isinstance(value, Json) else "string"


def join_kinds(kinds: Iterable[str]) -> str | None:
    """The kind of a column that holds values of these kinds; None where no type holds them all. `string` where there are none."""
    found = set(kinds)
    if found == {"integer", "float"}:
        return "float"
    if found == {"integer", "wide integer"} or found == {"wide integer"}:
        return "integer"
    return None if len(found) > 1 else next(iter(found), "string")


@dataclass(frozen=True)
class ColumnTally:
    """What one column held in some rows."""

    files: dict[str, str]
    """Kind -> the first file with a value of it."""
    missing: int
    """Rows without a value."""

    @classmethod
    def of(cls, values: Sequence[Any], file: str) -> ColumnTally:
        """The tally of `values`, which are some rows of `file`."""
        kinds = dict.fromkeys(kind_of(value) for value in values if value is not None)
        return cls(dict.fromkeys(kinds, file), sum(value is None for value in values))

    def __add__(self, later: ColumnTally) -> ColumnTally:
        """The tally of these rows and of `later` ones together."""
        return ColumnTally({**later.files, **self.files}, self.missing + later.missing)


@dataclass(frozen=True)
class KeptColumn:
    """A column of the shards that is carried through."""

    kind: str
    """`string`, `integer`, `float`, `boolean`, or `json`: text that holds JSON."""
    missing: dict[str, int]
    """Source -> usable rows without a value, of the sources that keep the column and have such rows."""


def kinds_of(columns: Mapping[str, KeptColumn]) -> dict[str, str]:
    """Kept column -> its kind."""
    return {name: column.kind for name, column in columns.items()}


def encode_columns(columns: Mapping[str, Sequence[Any]], rows: int) -> pa.LargeBinaryArray:
    """(rows,) the columns of each row, as bytes."""
    names = sorted(columns)
    encoded = [
        canonical_json(found)
        if (found := {n: whole_number(v) for n, v in zip(names, row, strict=True) if v is not None})
        else b""
        for row in zip(*(columns[name] for name in names), strict=True)
    ]
    return pa.array(encoded if names else [b""] * rows, pa.large_binary())


def whole_number(value: Any) -> Any:
    """A float that is a whole number as an integer."""
    whole = type(value) is float and value.is_integer() and abs(value) <= LARGEST_WHOLE_FLOAT
    return int(value) if whole else value


def encode_table_columns(rows: pa.Table, names: Sequence[str]) -> pa.LargeBinaryArray:
    """(rows,) the same of the columns of a shard."""
    return encode_columns({name: rows[name].to_pylist() for name in names}, rows.num_rows)


def decode_columns(columns: pa.LargeBinaryArray, kinds: Mapping[str, str]) -> list[pa.Array]:
    """(rows,) each column; `kinds` names them, in this order."""
    import orjson

    found = [orjson.loads(row) if row else {} for row in columns.to_pylist()]
    return [pa.array([row.get(name) for row in found], ARROW_TYPES[kind]) for name, kind in kinds.items()]


def mix_columns(hi: U64, columns: pa.LargeBinaryArray) -> U64:
    """(rows,) the high halves of the hashes of rows with these columns; as they are where nothing is kept."""
    low = content_hashes(columns)[1] & np.uint64(0xFFFFFFFF)
    return hi ^ np.where(byte_lengths(columns) > 0, low, np.uint64(0))


def join_columns(text: pa.LargeStringArray, columns: pa.LargeBinaryArray) -> pa.LargeBinaryArray:
    """(rows,) bodies that hold both."""
    sizes = byte_lengths(columns).astype("<u4")
    ends = pa.Array.from_buffers(pa.binary(SIZE_BYTES), len(sizes), [None, pa.py_buffer(sizes)]).cast(pa.large_binary())
    return pc.binary_join_element_wise(text.cast(pa.large_binary()), columns, ends, pa.scalar(b"", pa.large_binary()))


def split_columns(bodies: Bodies) -> tuple[Bodies, Bodies]:
    """Where the texts and the columns of some bodies lie; nothing but the sizes is copied."""
    end = bodies.begin + bodies.size - SIZE_BYTES
    sizes = Bodies(bodies.buffers, bodies.buffer, end, np.full(len(end), SIZE_BYTES, np.int64)).gather()
    size = np.frombuffer(sizes.buffers()[2] or b"", "<u4", len(end)).astype(np.int64)
    text = Bodies(bodies.buffers, bodies.buffer, bodies.begin, end - size - bodies.begin)
    return text, Bodies(bodies.buffers, bodies.buffer, end - size, size)
