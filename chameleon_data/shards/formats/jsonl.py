"""A shard as JSON lines in one zstd frame: what every language and every tool reads, at the price of its size and speed.

    {"text":"…","domain":"book","doc_id":"…","epoch":0,"tokens":12}\\n       keys in the order of the schema, UTF-8

A string is written as RFC 8785 (and JSON.stringify) has it: only the quotation mark, the backslash and the control characters
below U+0020 are escaped, the short way where there is one. So a raw newline ends a row and nothing else does; U+2028 and its
like stand as they are. The bytes are a function of the rows alone: `decode` writes the rows again and compares.

polars writes them, by columns: 400 MB/s of rows of 2 kB. orjson, fed row by row, gives the same bytes at .4 of that speed.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
import polars as pl
import pyarrow as pa

from chameleon_data.errors import InputError
from chameleon_data.shards.formats.zstd import ZSTD_WRITER, compress_frame, decompress_frame
from chameleon_data.shards.rows import INPUT_IDS, TEXT_SCHEMA, Compression, Encoded, conform, refuse_empty, sequence_schema

WRITER: dict[str, Any] = {"format": "jsonl", "strings": "RFC 8785", **ZSTD_WRITER}
"""Together with the compression, all that decides the bytes beside the rows; part of the plan digest."""


def names(number: int, count: int, split: str, compression: Compression) -> tuple[str, ...]:
    """Hugging Face `datasets` reads the split's name from the file's."""
    name = f"{split}-{number:0{max(5, len(str(count - 1)))}}-of-{count:05}.jsonl"
    return (f"{name}.zst" if compression == "zstd" else name,)


def encode(table: pa.Table, number: int, count: int, split: str, compression: Compression) -> Encoded:
    """One file. InputError where there is no row."""
    rows = conform(table)
    refuse_empty(rows, "JSON lines")
    body = lines(rows)
    (name,) = names(number, count, split, compression)
    return Encoded({name: compress_frame(body) if compression == "zstd" else body}, {})


def decode(files: Mapping[str, pa.Buffer | bytes], where: str) -> tuple[pa.Table, dict[str, Any]]:
    """The rows, if these are, byte for byte, the lines that `encode` makes of them; InputError otherwise.

    JSON does not tell uint16 from uint32: `input_ids` are of the smallest that holds this shard's (see `verify.have_same_rows`).
    """
    ((name, data),) = files.items()
    body = decompress_frame(data, where) if name.endswith(".zst") else pa.py_buffer(data).to_pybytes()
    try:
        found = [orjson.loads(line) for line in body.split(b"\n")[:-1]]
        table = _table(found)
        if not lines(table).equals(pa.py_buffer(body)):
            raise InputError(f"{where}: not JSON lines as we write them; restore the file from a copy or build it again")
    except InputError:
        raise
    except (pa.ArrowException, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
        raise InputError(f"{where}: damaged JSON lines ({error}); restore the file from a copy or build it again") from error
    return table, {}


def index(split: str, entries: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
    """None: the names say it all."""
    return {}


def lines(rows: pa.Table) -> pa.Buffer:
    """A line for each row, with the columns in the order that they have. No row has a line break inside."""
    sink = io.BytesIO()
    pl.DataFrame(rows).write_ndjson(sink)
    return pa.py_buffer(sink.getbuffer())


def _table(found: list[dict[str, Any]]) -> pa.Table:
    """The rows of these objects, if they are the rows of a shard; that they are nothing more is for the caller to see."""
    if INPUT_IDS not in found[0]:
        return conform(pa.table([pa.array([row[f.name] for row in found], f.type) for f in TEXT_SCHEMA], schema=TEXT_SCHEMA))
    ids = np.array([row[INPUT_IDS] for row in found])
    if ids.ndim != 2 or ids.dtype.kind != "i" or ids.min() < 0 or ids.max() >= 2**32:
        raise ValueError("sequences of other lengths, or of other numbers than tokens")
    dtype = pa.uint16() if ids.max() < 2**16 else pa.uint32()
    schema = sequence_schema(ids.shape[1], dtype)
    sequences = pa.FixedSizeListArray.from_arrays(
        ids.astype(dtype.to_pandas_dtype()).reshape(-1), type=schema.field(INPUT_IDS).type
    )
    others = [pa.array([row[f.name] for row in found], f.type) for f in list(schema)[1:]]
    return conform(pa.table([sequences, *others], schema=schema))
