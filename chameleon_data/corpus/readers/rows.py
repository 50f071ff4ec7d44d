"""The values in a reader: raw rows as a format stores them, the blocks they become, and the reasons for rows that are bad."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


class Fault(IntEnum):
    """Why a row cannot be used. A row has the first that is found: of the row as such, then its text, its domain, its id."""

    NONE = 0
    BROKEN_JSON = 1
    NOT_OBJECT = 2
    NO_TEXT = 3
    NULL_TEXT = 4
    NOT_STRING = 5
    BLANK = 6
    NOT_UTF8 = 7
    TOO_LONG = 8
    WRONG_COLUMNS = 9
    BROKEN_CSV = 10
    NO_DOMAIN = 11
    BAD_DOMAIN = 12
    NO_ID = 13
    DOMAIN_IS_FLOAT = 14
    DOMAIN_OF_OTHER_TYPE = 15
    ID_IS_FLOAT = 16
    ID_OF_OTHER_TYPE = 17
    ID_NOT_UTF8 = 18
    NO_NUMBER = 19
    COLUMN_NOT_UTF8 = 20
    NOT_JUDGED = 21
    NO_MESSAGES = 22
    NOT_MESSAGES = 23
    UNKNOWN_ROLE = 24
    TWO_SYSTEMS = 25
    NO_ASSISTANT = 26
    EMPTY_CONTENT = 27
    NOT_RENDERED = 28
    HALF_CHARACTER = 29


REASONS = (
    "", "broken JSON", "not an object", "no text", "null text", "text is not a string", "blank text", "invalid UTF-8",
    "longer than max_document", "wrong number of columns", "broken CSV", "no domain", "bad domain name", "no id",
    "domain is a float", "domain is neither a string nor an integer", "id is a float", "id is neither a string nor an integer",
    "id is not UTF-8", "domain is not a number", "a column is not UTF-8", "'where' cannot be evaluated for its values",
    "no conversation", "not a list of messages", "unknown role", "two system turns", "no assistant turn",
    "a turn without content", "the template refuses the conversation", "half of a surrogate pair",
)  # fmt: skip
"""The words for each `Fault`, in their order, as records and messages have them."""


class NotText:
    """Stands in the place of a value that is a string, but not UTF-8."""


NOT_TEXT = NotText()
Values = list[Any]
"""A column of values of any type: plain values as in `kept_columns.py`, or NOT_TEXT."""


@dataclass(frozen=True)
class Columns:
    """The columns that a file is read for."""

    text: str | None
    """None: conversations stand among `values`."""
    domain: str | None
    id: str | None
    values: tuple[str, ...] = ()
    """Those that may be of any type: kept ones, those of a condition, and those that name a domain together or by a number."""


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used: it is recorded in quarantine and never written to a shard."""

    row: int
    """Its number, as in `Block.rows`."""
    domain: str
    """The row's domain, or the name of its source where the row does not say one that can be used."""
    reason: str
    """One of `REASONS`, or of the survey's own."""


@dataclass(frozen=True)
class Block:
    """Consecutive rows of one fragment, validated."""

    text: pa.LargeStringArray
    """The usable texts: no nulls, valid UTF-8, not blank."""
    rows: npt.NDArray[np.int64]
    """Number in the fragment of each text, from 0: the line of JSONL, the record of CSV, the row of Parquet and Arrow."""
    names: tuple[str, ...]
    """Domains of this block, without repeats."""
    domain: npt.NDArray[np.int32]
    """Index into `names` for each text."""
    ids: pa.LargeStringArray | None
    """Id of each text, where the source names a key for it; integers in decimal."""
    vectors: pa.LargeListArray | None
    """Vector of each text in float32, where a column of them is asked for; null where it is missing, empty or not finite."""
    bad: tuple[BadRow, ...]
    """The rows of this stretch that cannot be used, by number."""
    end: int
    """Number of the row behind this stretch. Blank lines of JSONL are counted; a block of nothing else may be the last."""
    filtered: dict[str, int] = field(default_factory=dict)
    """Domain -> rows of this stretch that the source's condition leaves out; they are nowhere else here."""
    kept: dict[str, Values] = field(default_factory=dict)
    """Kept column -> its value for each text."""
    columns: pa.LargeBinaryArray | None = None
    """The kept columns of each text as bytes (`kept_columns.py`); None where the source keeps none."""

    def take(self, rows: npt.NDArray[np.int64], bad: tuple[BadRow, ...]) -> Block:
        """Some of the texts, beside these bad rows."""
        return replace(
            self,
            text=self.text.take(rows),
            rows=self.rows[rows],
            domain=self.domain[rows],
            ids=None if self.ids is None else self.ids.take(rows),
            vectors=None if self.vectors is None else self.vectors.take(rows),
            bad=bad,
            kept={name: [values[row] for row in rows.tolist()] for name, values in self.kept.items()},
            columns=None if self.columns is None else self.columns.take(rows),
        )


@dataclass(frozen=True)
class RawRows:
    """Consecutive rows as a format stores them, not yet validated. Each column has an entry for every row."""

    text: pa.LargeBinaryArray
    """No nulls; empty where the row has a fault."""
    rows: npt.NDArray[np.int64]
    """As in `Block.rows`."""
    fault: npt.NDArray[np.uint8]
    """The `Fault` that the reader found."""
    domain: pa.LargeBinaryArray | None
    """Integers in decimal; null where the row has no domain or one of another type."""
    ids: pa.LargeBinaryArray | None
    """Integers in decimal; null where the row has no id or one of another type."""
    vectors: pa.LargeListArray | None = None
    """As in `Block.vectors`."""
    valid_utf8: bool = False
    """Whether the reader has already checked that every text is UTF-8."""
    key_fault: npt.NDArray[np.uint8] | None = None
    """The `Fault` of the type of a domain or id that is null; none where it is None."""
    end: int | None = None
    """As in `Block.end`; None: these rows end with the last of them."""
    values: dict[str, Values] = field(default_factory=dict)
    """Column of `Columns.values` -> its value in each row."""

    def take(self, rows: npt.NDArray[np.int64]) -> RawRows:
        """Some of the rows."""
        return replace(
            self,
            text=self.text.take(rows),
            rows=self.rows[rows],
            fault=self.fault[rows],
            domain=None if self.domain is None else self.domain.take(rows),
            ids=None if self.ids is None else self.ids.take(rows),
            vectors=None if self.vectors is None else self.vectors.take(rows),
            key_fault=None if self.key_fault is None else self.key_fault[rows],
            values={name: [values[row] for row in rows.tolist()] for name, values in self.values.items()},
        )


def binary_array(values: list[bytes]) -> pa.LargeBinaryArray:
    """`pa.array(values, pa.large_binary())`, without growing the buffer as it goes."""
    offsets = np.zeros(len(values) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, values), np.int64, len(values)), out=offsets[1:])
    return pa.Array.from_buffers(pa.large_binary(), len(values), [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(values))])
