"""A shard as one MDS file, the format of mosaicml-streaming (index version 2).

    uint32 count; uint32 offsets [count + 1]; the column configuration as JSON; then per row
    uint32 sizes of the columns that have no one size; the columns in the order of their names
        text, domain, doc_id in UTF-8; domain_id, epoch, tokens as uint32
        kept columns as JSON, since there is no other null; packed: input_ids, loss_mask and labels as arrays of one size, and
        doc_starts as JSON, since an array may not be empty

The train split lies at the folder's root and another in a folder of its name, each with an index.json: what
`StreamingDataset(split=...)` reads. A trainer decodes a shard by its entry there. So `decode` gives the entry that the bytes
have, and an index that says anything else is found by comparing.

The bytes are those of the official writer, which goes row by row. Rows of 2 kB encode at 4.5 GB/s on one core.
Why by columns: docs/decisions/036-rows-joined-by-columns.md.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from chameleon_data.corpus.conversations import message_objects, messages_array
from chameleon_data.errors import InputError
from chameleon_data.recipe import SHARD_COLUMNS
from chameleon_data.shards.formats.files import Encoded, IndexEntry, Level, pad_number, refusing_damage, split_folder
from chameleon_data.shards.formats.jsonl import type_of_values
from chameleon_data.shards.formats.row_bytes import (
    BYTES_TYPE,
    U32,
    decode_column,
    fixed_size_strings,
    join_sized_rows,
    read_offsets,
    read_sizes,
    separate_rows,
)
from chameleon_data.shards.formats.zstd import ZSTD_WRITER, compress_frame, decompress_frame
from chameleon_data.shards.rows import (
    DOC_STARTS,
    MESSAGES,
    TOOLS,
    TURN_TYPES,
    chat_schema,
    column_array,
    conform,
    is_sequences,
    is_token_column,
    kept_names,
    sequence_schema,
    text_schema,
    token_values,
)

LARGEST_MDS_SHARD = 2**32
"""Bytes; offsets are uint32, so a shard is shorter than this."""
HASHES = ("sha256", "xxh64")
"""What index.json holds of every file: sha256 for proof, xxh64 for trainers that check at 20 GB/s what they download."""

WRITER: dict[str, Any] = {"format": "mds", **ZSTD_WRITER, "hashes": list(HASHES)}


def names(number: int, count: int, split: str, level: Level) -> tuple[str, ...]:
    return (f"{split_folder(split)}shard.{pad_number(number, count)}.mds{'.zstd' if level else ''}",)


def encode(table: pa.Table, number: int, count: int, split: str, level: Level) -> Encoded:
    """Encode, compress and hash one shard. InputError at 4 GiB or more."""
    rows = conform(table)
    body = encode_body(rows, level)
    data = compress_frame(body, level) if level else body
    (name,) = names(number, count, split, level)
    return Encoded({name: data}, _entry(name, rows.schema, rows.num_rows, body, data, level))


def index(split: str, entries: Sequence[IndexEntry]) -> dict[str, bytes]:
    """index.json of these shards, in reading order, as the official writer spells it."""
    return {f"{split_folder(split)}index.json": json.dumps({"version": 2, "shards": list(entries)}, sort_keys=True).encode()}


def decode(files: Mapping[str, pa.Buffer | bytes], where: str) -> tuple[pa.Table, IndexEntry]:
    """The rows, and the entry of index.json that these bytes have under this name."""
    ((name, data),) = files.items()
    zipped = name.endswith(".zstd")
    body = decompress_frame(data, where, LARGEST_MDS_SHARD) if zipped else data
    table, level = decode_body(body, zipped, where)
    return table, _entry(name, table.schema, table.num_rows, body, data, level)


def encode_body(rows: pa.Table, level: Level) -> pa.Buffer:
    """The uncompressed file of rows that `conform` gave, byte for byte the one that MDSWriter makes of them.

    The configuration in the head names the level, as the official writer's does. InputError at 4 GiB or more.
    """
    count, columns = rows.num_rows, column_encodings(rows.schema)
    sized = [name for name in columns if not _value_size(columns[name])]
    strings = {name: _value_strings(rows, name, encoding) for name, encoding in columns.items()}
    lengths = np.stack([pc.binary_length(strings[name]).to_numpy() for name in sized], axis=1)  # (rows, sized)
    config = json.dumps(_configuration(rows.schema, level), sort_keys=True).encode()
    head_size = U32.itemsize * (count + 2) + len(config)
    row_sizes = lengths.sum(axis=1, dtype=np.int64) + U32.itemsize * len(sized) + _fixed_size(columns)
    offsets = head_size + np.append(0, np.cumsum(row_sizes))
    if offsets[-1] >= LARGEST_MDS_SHARD:
        raise InputError(f"an MDS shard of {offsets[-1]:,} bytes: the format ends at 4 GiB; lower 'shards.size' in the recipe")
    head = b"".join([U32.type(count).tobytes(), offsets.astype(U32).tobytes(), config])
    if not count:
        return pa.py_buffer(head)
    return join_sized_rows(lengths, list(strings.values()), head)


def _value_strings(rows: pa.Table, name: str, encoding: str) -> pa.Array:
    """(rows,) the values of a column as byte strings."""
    column = column_array(rows, name)
    if encoding == "str":
        return column.cast(BYTES_TYPE)
    if encoding == "json":
        return _json_strings(column) if name == DOC_STARTS else json_messages(column) if name == MESSAGES else json_values(column)
    return fixed_size_strings(token_values(rows, name) if is_token_column(rows.schema.field(name)) else column.to_numpy())


def json_values(column: pa.Array) -> pa.Array:
    """(rows,) values of a kept column, as json.dumps spells them."""
    return pa.array([json.dumps(value).encode() for value in column.to_pylist()], BYTES_TYPE)


def json_messages(column: pa.Array) -> pa.Array:
    """(rows,) `messages`, as json.dumps spells them."""
    return pa.array([json.dumps(turns).encode() for turns in message_objects(column, json.loads)], BYTES_TYPE)


def parse_json_messages(strings: pa.Array) -> pa.Array:
    """The inverse of `json_messages`. ValueError where they are not so spelled."""
    column = messages_array([json.loads(each) for each in strings.to_pylist()])
    if not json_messages(column).equals(strings):
        raise ValueError("messages are not written as they are")
    return column


def parse_json_values(strings: pa.Array) -> pa.Array:
    """The inverse of `json_values`. ValueError where they are not so spelled, or not of one type."""
    values = [json.loads(each) for each in strings.to_pylist()]
    column = pa.array(values, type_of_values(values))
    if not json_values(column).equals(strings):
        raise ValueError("a kept column is not written as its values are")
    return column


def _json_strings(lists: pa.Array) -> pa.Array:
    """(rows,) lists of numbers, as json.dumps spells them."""
    offsets = np.append(0, np.cumsum(pc.list_value_length(lists).to_numpy()))
    digits = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), lists.flatten().cast(pa.large_string()))
    inner = pc.binary_join(digits, pa.scalar(", ", pa.large_string())).cast(BYTES_TYPE)
    opening, closing, nothing = (pa.scalar(sign, BYTES_TYPE) for sign in (b"[", b"]", b""))
    return pc.binary_join_element_wise(opening, inner, closing, nothing)


def decode_body(data: pa.Buffer | bytes, zipped: bool, where: str) -> tuple[pa.Table, Level]:
    """The rows of an uncompressed shard, and the level that its head names: None unless it was `zipped`.

    No size in it is believed: InputError names the first that is wrong.
    """
    with refusing_damage(where, "MDS shard"):
        body = pa.py_buffer(data)
        if body.size < 2 * U32.itemsize:
            raise ValueError(f"{body.size} bytes are too few for a head")
        offsets = read_offsets(body, U32.itemsize, int(np.frombuffer(body, U32, 1)[0]))
        begin = U32.itemsize * (len(offsets) + 1)
        if not begin <= offsets[0] <= body.size or offsets[-1] != body.size:
            raise ValueError("the row offsets do not rise from the head to the end of the file")
        schema, level = _read_configuration(body.slice(begin, int(offsets[0]) - begin).to_pybytes(), zipped)
        encodings = column_encodings(schema)
        sized = [key for key in encodings if not _value_size(encodings[key])]
        sizes = read_sizes(body, offsets, len(sized), _fixed_size(encodings))
        widths = np.empty((len(sizes), 1 + len(encodings)), np.int64)  # of a row's sizes, then of its columns
        widths[:, 0] = U32.itemsize * len(sized)
        for number, (key, encoding) in enumerate(encodings.items(), 1):
            widths[:, number] = sizes[:, sized.index(key)] if key in sized else _value_size(encoding)
        columns = {}
        for (key, encoding), strings in zip(encodings.items(), separate_rows(body, int(offsets[0]), widths)[1:], strict=True):
            columns[key] = _decode_values(strings, schema.field(key), encoding)
        if MESSAGES in schema.names:
            schema = chat_schema(columns[MESSAGES].type, ((name, columns[name].type) for name in kept_names(schema)))
        elif not is_sequences(schema):
            schema = text_schema((name, columns[name].type) for name in kept_names(schema))
        return pa.table([columns[key] for key in schema.names], schema=schema), level


def _decode_values(strings: pa.Array, field: pa.Field, encoding: str) -> pa.Array:
    """The inverse of `_value_strings`. ValueError where these are not the byte strings of such a column."""
    if field.name == MESSAGES:
        return parse_json_messages(strings)
    if encoding == "json" and field.name != DOC_STARTS:
        return parse_json_values(strings)
    if encoding != "json":
        return decode_column(strings, field, "" if encoding == "str" else _stored_type(encoding).str)
    lists = pa.array([orjson.loads(each) for each in strings.to_pylist()], field.type)
    if not _json_strings(lists).equals(strings):
        raise ValueError(f"{field.name} is not written as a list of numbers is")
    return lists


def column_encodings(schema: pa.Schema) -> dict[str, str]:
    """Column -> MDS encoding, in the order of a row."""
    encodings = {name: "uint32" if schema.field(name).type == pa.uint32() else "str" for name in sorted(schema.names)}
    encodings |= dict.fromkeys(
        [name for name in encodings if name in (DOC_STARTS, MESSAGES, TOOLS) or name not in SHARD_COLUMNS], "json"
    )
    for field in filter(is_token_column, schema):
        encodings[field.name] = f"ndarray:{field.type.value_type}:{field.type.list_size}"
    return encodings


def _configuration(schema: pa.Schema, level: Level) -> dict[str, Any]:
    """What MDSWriter writes into the head of a shard and into its entry of index.json."""
    columns = column_encodings(schema)
    return {
        "version": 2,
        "format": "mds",
        "compression": f"zstd:{level}" if level else None,
        "hashes": list(HASHES),
        "size_limit": None,
        "column_names": list(columns),
        "column_encodings": list(columns.values()),
        "column_sizes": [_value_size(encoding) or None for encoding in columns.values()],
    }


def _read_configuration(config: bytes, zipped: bool) -> tuple[pa.Schema, Level]:
    """The schema of the rows, and the level. The configuration must be, byte for byte, the one that `encode` writes for them."""
    packed = re.search(rb'"ndarray:(uint16|uint32):([1-9][0-9]{0,9})"', config)
    if packed and int(packed[2]) < 2**31:
        turns = [name for name in TURN_TYPES if f'"{name}"'.encode() in config]
        schema = sequence_schema(int(packed[2]), pa.type_for_alias(packed[1].decode()), turns)
    else:  # of kept columns the configuration gives the names, and their values the types
        listed = re.search(rb'"column_names": (\["(?:[^"\\]|\\.|", ")*"\])', config)
        kept = [name for name in (json.loads(listed[1]) if listed else ()) if name not in SHARD_COLUMNS]
        columns = [(name, pa.large_string()) for name in kept]
        chat = listed is not None and MESSAGES in json.loads(listed[1])
        schema = chat_schema(pa.list_(pa.struct([("role", pa.string())])), columns) if chat else text_schema(columns)
    named = re.search(rb'"compression": "zstd:([1-9]|1[0-9])"', config) if zipped else None
    if zipped and not named:
        raise ValueError("its configuration lacks compression = zstd:1 to zstd:19")
    level = int(named[1]) if named else None
    expected = _configuration(schema, level)
    for key, value in expected.items():
        if json.dumps({key: value})[1:-1].encode() not in config:
            raise ValueError(f"its configuration lacks {key} = {value}")
    if config != json.dumps(expected, sort_keys=True).encode():
        raise ValueError("its configuration says more than it should")
    return schema, level


def _stored_type(encoding: str) -> np.dtype[Any]:
    return np.dtype(encoding.split(":")[1] if ":" in encoding else encoding).newbyteorder("<")


def _value_size(encoding: str) -> int:
    """Bytes of every value; 0 where they differ."""
    return (
        0
        if encoding in ("str", "json")
        else _stored_type(encoding).itemsize * int(encoding.split(":")[2] if ":" in encoding else 1)
    )


def _fixed_size(columns: Mapping[str, str]) -> int:
    """Bytes of a row that have one size in all rows, beside the sizes themselves."""
    return sum(map(_value_size, columns.values()))


def _entry(name: str, schema: pa.Schema, rows: int, body: pa.Buffer | bytes, data: pa.Buffer | bytes, level: Level) -> IndexEntry:
    """What index.json says of a shard stored under `name`. Without compression `data` is `body`, and there is no zip."""
    name = name.rpartition("/")[2]
    raw_name = name.removesuffix(".zstd")
    return {
        **_configuration(schema, level),
        "samples": rows,
        "raw_data": _file(raw_name, body),
        "zip_data": _file(name, data) if level else None,
    }


def _file(name: str, data: pa.Buffer | bytes) -> dict[str, Any]:
    hashes = {"sha256": hashlib.sha256(data).hexdigest(), "xxh64": xxhash.xxh64_hexdigest(data)}
    return {"basename": name, "bytes": len(data), "hashes": hashes}
