"""A shard as JSON lines in one zstd frame, which every language reads; it is the largest and the slowest of the formats.

    {"text":"…","domain":"book","domain_id":0,"doc_id":"…","epoch":0,"tokens":12}\\n       keys in the order of the schema, UTF-8

A string is written as RFC 8785 (and JSON.stringify) has it: only the quotation mark, the backslash and the control characters
below U+0020 are escaped, in the short form where there is one. So a raw newline ends a row and nothing else does; U+2028 and its
like stand as they are. The bytes are a function of the rows alone: `decode` writes the rows again and compares.
polars writes 400 MB/s of rows of 2 kB. Why: docs/decisions/035-json-lines-by-columns.md.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
import polars as pl
import pyarrow as pa

from chameleon_data.corpus.conversations import message_objects, messages_array
from chameleon_data.recipe import SHARD_COLUMNS
from chameleon_data.shards.formats.files import (
    Encoded,
    IndexEntry,
    Level,
    name_by_split,
    no_index,
    refuse_empty,
    refusing_damage,
)
from chameleon_data.shards.formats.zstd import ZSTD_WRITER, compress_frame, decompress_frame
from chameleon_data.shards.rows import (
    INPUT_IDS,
    MESSAGES,
    TEXT_SCHEMA,
    chat_schema,
    column_array,
    conform,
    is_sequences,
    sequence_schema,
    text_schema,
)

WRITER: dict[str, Any] = {"format": "jsonl", "strings": "RFC 8785", **ZSTD_WRITER}

index = no_index


def names(number: int, count: int, split: str, level: Level) -> tuple[str, ...]:
    return (name_by_split(number, count, split, ".jsonl.zst" if level else ".jsonl"),)


def encode(table: pa.Table, number: int, count: int, split: str, level: Level) -> Encoded:
    """One file. InputError where there is no row."""
    rows = conform(table)
    refuse_empty(rows, "JSON lines")
    body = encode_lines(rows)
    (name,) = names(number, count, split, level)
    return Encoded({name: compress_frame(body, level) if level else body}, {})


def decode(files: Mapping[str, pa.Buffer | bytes], where: str) -> tuple[pa.Table, IndexEntry]:
    """The rows, if these are, byte for byte, the lines that `encode` makes of them.

    JSON does not tell uint16 from uint32: `input_ids` are of the smallest type that holds this shard's.
    """
    ((name, data),) = files.items()
    body = decompress_frame(data, where) if name.endswith(".zst") else pa.py_buffer(data).to_pybytes()
    with refusing_damage(where, "JSON lines"):
        objects = [orjson.loads(line) for line in body.split(b"\n")[:-1]]
        if INPUT_IDS in objects[0]:
            table = _sequence_rows(objects)
        else:
            table = chat_rows(objects) if MESSAGES in objects[0] else _text_rows(objects)
        if not encode_lines(table).equals(pa.py_buffer(body)):
            raise ValueError("other bytes than these rows are written as")
    return table, {}


def encode_lines(rows: pa.Table) -> pa.Buffer:
    """A line for each row, with the columns in the order that they have. No row has a line break inside."""
    if MESSAGES in rows.schema.names:
        messages = message_objects(column_array(rows, MESSAGES), lambda text: orjson.Fragment(text))
        others = rows.drop_columns([MESSAGES]).to_pylist()
        lines = [orjson.dumps({MESSAGES: turns, **row}) for turns, row in zip(messages, others, strict=True)]
        return pa.py_buffer(b"".join(line + b"\n" for line in lines))
    sink = io.BytesIO()
    pl.DataFrame(rows).write_ndjson(sink)
    return pa.py_buffer(sink.getbuffer())


def rows_from_objects(objects: Sequence[Mapping[str, Any]], body: pa.Array, schema: pa.Schema) -> pa.Table:
    """Rows of `schema`: `body` is its first column, the others are the values of these objects. Text has kept columns besides."""
    if not is_sequences(schema) and MESSAGES not in schema.names:
        names = sorted({*objects[0]} - SHARD_COLUMNS, key=str.encode)
        schema = text_schema((name, type_of_values([o[name] for o in objects])) for name in names)
    return conform(pa.table([body, *(pa.array([o[f.name] for o in objects], f.type) for f in list(schema)[1:])], schema=schema))


def chat_rows(objects: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows of conversations, of the types that JSON tells apart."""
    messages = messages_array([o[MESSAGES] for o in objects])
    names = sorted({*objects[0]} - SHARD_COLUMNS, key=str.encode)
    schema = chat_schema(messages.type, ((name, type_of_values([o[name] for o in objects])) for name in names))
    return rows_from_objects(objects, messages, schema)


def type_of_values(values: Sequence[Any]) -> pa.DataType:
    """The type of a kept column that holds these values, as JSON tells them apart; a string where all are null."""
    kinds = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.large_string()}
    found = {kinds[type(value)] for value in values if value is not None}
    if len(found) > 1:
        raise ValueError(f"a column of {' and '.join(sorted(map(str, found)))}")
    return next(iter(found), pa.large_string())


def _text_rows(objects: Sequence[Mapping[str, Any]]) -> pa.Table:
    return rows_from_objects(objects, pa.array([o["text"] for o in objects], pa.large_string()), TEXT_SCHEMA)


def _sequence_rows(objects: Sequence[Mapping[str, Any]]) -> pa.Table:
    ids = np.array([o[INPUT_IDS] for o in objects])
    if ids.ndim != 2 or ids.dtype.kind != "i" or ids.min() < 0 or ids.max() >= 2**32:
        raise ValueError("sequences of several lengths, or of other numbers than tokens")
    dtype = np.uint16 if ids.max() < 2**16 else np.uint32
    body = pa.FixedSizeListArray.from_arrays(pa.array(ids.astype(dtype).reshape(-1)), ids.shape[1])
    return rows_from_objects(objects, body, sequence_schema(ids.shape[1], body.type.value_type, objects[0]))
