"""The values in a reader: raw rows as a format stores them, the blocks they become, and the reasons for rows that are bad."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

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


REASONS = (
    "", "broken JSON", "not an object", "no text", "null text", "text is not a string", "blank text", "invalid UTF-8",
    "longer than max_document", "wrong number of columns", "broken CSV", "no domain", "bad domain name", "no id",
    "domain is a float", "domain is neither a string nor an integer", "id is a float", "id is neither a string nor an integer",
    "id is not UTF-8",
)  # fmt: skip
"""The words for each `Fault`, in their order, as records and messages have them."""


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


def binary_array(values: list[bytes]) -> pa.LargeBinaryArray:
    """`pa.array(values, pa.large_binary())`, without growing the buffer as it goes."""
    offsets = np.zeros(len(values) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, values), np.int64, len(values)), out=offsets[1:])
    return pa.Array.from_buffers(pa.large_binary(), len(values), [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(values))])
