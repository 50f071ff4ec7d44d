"""A shard as Megatron's indexed dataset: tokens in .bin, where documents begin in .idx; and a table that describes the documents.

    .bin    the tokens of all documents, one after the other, uint16 or int32
    .idx    "MMIDIDX\\0\\0"; uint64 version 1; uint8 code of the type; uint64 documents n; uint64 n + 1;
            int32 lengths [n]; int64 places in .bin [n]; int64 0 … n, the first sequence of each document and the end
    .rows.parquet    the other columns of document i in row i, by which a trainer can log its loss by domain

A document is one sequence: a text's tokens as they are (`input_ids` a large_list, each ending in end-of-text), or a packed one.
uint16 stays uint16, which Megatron's reader takes up to 65,535, although its own writer leaves it at a vocabulary of 65,500.
There is no uint32, so that becomes int32. Nothing is compressed: the reader maps the files into memory.

A split's blend file lists "tokens prefix" of each shard, relative to the folder: what follows --data-path, or --train-data-path
and --valid-data-path, or what --data-args-path reads. The bytes are those of `IndexedDatasetBuilder` of megatron-core 0.16: files
of 2,048 tokens a document at 520 MB/s, four times as fast as the builder.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from chameleon_data.arrays import I64
from chameleon_data.errors import InputError
from chameleon_data.shards.formats import parquet
from chameleon_data.shards.formats.files import Encoded, IndexEntry, Level, pad_number, refuse_empty, refusing_damage
from chameleon_data.shards.rows import INPUT_IDS, TEXT_SCHEMA, column_array, conform, is_sequences, schema_of, sequence_schema

INDEX_MAGIC = b"MMIDIDX\x00\x00"
CODES = {"<i4": 4, "<u2": 8}
"""Megatron's numbers for the types that occur here."""
ROW_TABLE_GROUP = 2**20
"""Rows of a row group of .rows.parquet."""
_HEAD = len(INDEX_MAGIC) + 8 + 1 + 8 + 8

WRITER: dict[str, Any] = {"format": "megatron", "index": 1, "rows": {**parquet.WRITER, "row_group": ROW_TABLE_GROUP}}


def document_schema(dtype: pa.DataType) -> pa.Schema:
    """A row of a whole document's tokens, of uint16 or uint32."""
    return pa.schema([pa.field(INPUT_IDS, pa.large_list(dtype)), *list(TEXT_SCHEMA)[1:]])


def names(number: int, count: int, split: str, level: Level) -> tuple[str, ...]:
    prefix = f"{split}-{pad_number(number, count)}"
    return f"{prefix}.bin", f"{prefix}.idx", f"{prefix}.rows.parquet"


def encode(table: pa.Table, number: int, count: int, split: str, level: Level) -> Encoded:
    """Three files. InputError for rows of text, and for what Megatron's types do not hold."""
    if not is_sequences(table.schema):
        raise InputError("Megatron's format holds tokens, not text; name a tokenizer in 'tokens' of the recipe")
    rows, length = _conform(table)
    ids, lengths = _flat_ids(rows)
    if ids.dtype == np.uint32 and len(ids) and ids.max() >= 2**31:
        raise InputError(f"the token {ids.max():,}: Megatron's format ends at 2^31; use a tokenizer with smaller numbers")
    if len(lengths) and lengths.max() >= 2**31:
        raise InputError(f"a document of {lengths.max():,} tokens: Megatron's format ends at 2^31; lower 'input.max_document'")
    refuse_empty(rows, "an indexed dataset")
    stored = _stored_type(ids.dtype)
    table = rows.drop_columns([INPUT_IDS])
    table = table.replace_schema_metadata({"rows": f"{rows.schema.field(INPUT_IDS).type.value_type} {length or 'documents'}"})
    bin_name, idx_name, rows_name = names(number, count, split, level)
    bounds = [*range(0, rows.num_rows, ROW_TABLE_GROUP), rows.num_rows]
    files = {
        bin_name: pa.py_buffer(np.ascontiguousarray(ids, stored)),
        idx_name: pa.py_buffer(_encode_idx(lengths, stored)),
        rows_name: parquet.encode_table(table, bounds, None, typed=True),
    }
    return Encoded(files, _entry(bin_name, ids))


def decode(files: Mapping[str, pa.Buffer | bytes], where: str) -> tuple[pa.Table, IndexEntry]:
    """The rows, if the index is, byte for byte, the one of these documents; and the line of the blend file."""
    (bin_name, tokens), (_, idx), (_, table) = sorted(files.items())  # by their endings: bin, idx, rows
    with refusing_damage(where, "indexed dataset"):
        described = parquet.decode_table(table, _check_row_table)
        kind, _, length = (described.schema.metadata or {}).get(b"rows", b"").decode().partition(" ")
        dtype = {"uint16": pa.uint16(), "uint32": pa.uint32()}[kind]
        idx = pa.py_buffer(idx)
        if idx.size < _HEAD or idx.size != _HEAD + 20 * described.num_rows + 8:
            raise ValueError(f"an index of {idx.size:,} bytes for {described.num_rows:,} documents")
        lengths = np.frombuffer(idx, "<i4", described.num_rows, _HEAD).astype(np.int64)
        stored = _stored_type(dtype.to_pandas_dtype())
        total = int(lengths.sum())
        if np.any(lengths < 0) or not idx.equals(pa.py_buffer(_encode_idx(lengths, stored))):
            raise ValueError("an index that is not that of its documents")
        if total * np.dtype(stored).itemsize != len(tokens):
            raise ValueError(f"{len(tokens):,} bytes for {total:,} tokens")
        ids = np.frombuffer(tokens, stored)
        if len(ids) and ids.min() < 0:
            raise ValueError("a token below zero")
        values = pa.array(ids.astype(dtype.to_pandas_dtype(), copy=False))
        if length == "documents":
            offsets = pa.array(np.append(0, np.cumsum(lengths)))
            schema = pa.schema([document_schema(dtype).field(0), *text_schema_of(described.schema)])
            lists = pa.LargeListArray.from_arrays(offsets, values)
        else:
            if np.any(lengths != int(length)):
                raise ValueError("a packed sequence of another length")
            schema, lists = sequence_schema(int(length), dtype), pa.FixedSizeListArray.from_arrays(values, int(length))
        rows, _ = _conform(pa.table([lists, *described.columns], schema=schema))
    return rows, _entry(bin_name, _flat_ids(rows)[0])


def index(split: str, entries: Sequence[IndexEntry]) -> dict[str, bytes]:
    """The blend file."""
    return {f"{split}.blend.txt": "".join(f"{entry['tokens']} {entry['prefix']}\n" for entry in entries).encode()}


def _conform(table: pa.Table) -> tuple[pa.Table, int | None]:
    """Do what `rows.conform` does, for documents too. Returns the length of packed sequences as well."""
    kind = table.schema.field(INPUT_IDS).type
    if not pa.types.is_large_list(kind):
        rows = conform(table)
        return rows, rows.schema.field(INPUT_IDS).type.list_size
    if kind.value_type not in (pa.uint16(), pa.uint32()):
        raise ValueError(f"'{INPUT_IDS}' is {kind}; lists of uint16 or uint32 are expected")
    lists = table[INPUT_IDS]
    if lists.null_count or any(chunk.flatten().null_count for chunk in lists.chunks):
        raise ValueError(f"nulls in the column {INPUT_IDS!r}; a shard has none")
    at = table.schema.names.index(INPUT_IDS)
    empty = pa.array([""] * table.num_rows, pa.large_string())
    described = conform(table.remove_column(at).append_column("text", empty)).drop_columns(["text"])
    schema = pa.schema([document_schema(kind.value_type).field(0), *described.schema])
    return described.add_column(0, schema.field(INPUT_IDS), lists.combine_chunks()).cast(schema).combine_chunks(), None


def _check_row_table(schema: pa.Schema) -> None:
    if not any(schema.equals(rows) for rows in (text_schema_of(schema), pa.schema(list(sequence_schema(1, pa.uint16()))[1:]))):
        raise ValueError(f"the columns of its table are {schema.names}, not those of a shard")


def text_schema_of(schema: pa.Schema) -> pa.Schema:
    """The columns that stand beside a document, with the kept ones of this table."""
    return pa.schema(list(schema_of(pa.schema([TEXT_SCHEMA.field(0), *schema])))[1:])


def _stored_type(dtype: npt.DTypeLike) -> str:
    return "<u2" if np.dtype(dtype) == np.uint16 else "<i4"


def _flat_ids(rows: pa.Table) -> tuple[npt.NDArray[Any], I64]:
    """The tokens of all rows, and (rows) how many each has."""
    lists = column_array(rows, INPUT_IDS)
    if pa.types.is_fixed_size_list(lists.type):
        lengths = np.full(len(lists), lists.type.list_size, np.int64)
    else:
        lengths = pc.list_value_length(lists).to_numpy()
    return lists.flatten().to_numpy(), lengths


def _encode_idx(lengths: I64, stored: str) -> bytes:
    count = len(lengths)
    places = (np.cumsum(lengths) - lengths) * np.dtype(stored).itemsize
    head = INDEX_MAGIC + struct.pack("<QBQQ", 1, CODES[stored], count, count + 1)
    numbers = (lengths.astype("<i4"), places.astype("<i8"), np.arange(count + 1, dtype="<i8"))
    return head + b"".join(each.tobytes() for each in numbers)


def _entry(bin_name: str, ids: npt.NDArray[Any]) -> IndexEntry:
    return {"prefix": bin_name.removesuffix(".bin"), "tokens": len(ids)}
