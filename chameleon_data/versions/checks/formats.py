"""A shard in all its formats: every file has its size and sha256, and all formats hold the same rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from chameleon_data.arrays import I64
from chameleon_data.corpus.conversations import encode_conversations
from chameleon_data.corpus.kept_columns import ARROW_TYPES, KeptColumn
from chameleon_data.errors import InputError, first_line
from chameleon_data.recipe import SHARD_COLUMNS
from chameleon_data.shards.formats.files import IndexEntry
from chameleon_data.shards.formats.registry import FORMATS
from chameleon_data.shards.rows import (
    DOC_STARTS,
    INPUT_IDS,
    LABELS,
    LOSS_MASK,
    MESSAGES,
    TEXT_SCHEMA,
    TOOLS,
    sequence_schema,
)
from chameleon_data.store.store import Store
from chameleon_data.versions.checks.counts import check_shard_counts
from chameleon_data.versions.manifest import Manifest, PackedTurns, TokenIds
from chameleon_data.versions.shard_table import ShardFile, ShardRecord

ROW_COLUMNS = TEXT_SCHEMA.names[1:]
"""Columns that every row has, beside its text or ids."""


@dataclass
class StoredShard:
    """What the files of one shard hold."""

    tables: dict[str, pa.Table] = field(default_factory=dict)
    """First file of a format -> its rows, of the formats that could be read."""
    entries: dict[str, IndexEntry] = field(default_factory=dict)
    """Format -> what its index must say of the shard."""
    bytes: int = 0
    """Bytes that were read."""
    problems: list[str] = field(default_factory=list)

    def choose(self) -> tuple[str, pa.Table]:
        """The file and the rows that stand for the shard: of a format with texts where there is one. Some format was read."""
        return max(self.tables.items(), key=lambda item: "text" in item[1].column_names)


def read_shard(store: Store, manifest: Manifest, length: int | None, record: ShardRecord) -> StoredShard:
    """The rows of one shard, read in every format; `length` is that of its sequences, where it holds such."""
    shard, ids, turns = StoredShard(), manifest.provenance.writer.ids, manifest.provenance.writer.turns
    by_format: dict[str, list[ShardFile]] = {}
    for file in record.files:
        by_format.setdefault(file.format, []).append(file)
    for format, of_format in by_format.items():
        path = of_format[0].path
        stored = _read_files(store, of_format, shard)
        if len(stored) < len(of_format):
            continue
        try:
            rows, shard.entries[format] = FORMATS[format].decode(stored, path)
        except InputError as error:
            shard.problems.append(str(error))
            continue
        if length and ids:
            sequences = _restore_sequences(rows, length, ids, turns)
            if sequences is None:
                shard.problems.append(f"{path}: does not hold sequences of {length:,} ids")
                continue
            rows = sequences
        try:
            shard.tables[path] = _restore_texts(_restore_kinds(rows, manifest.columns), manifest.messages)
        except (ValueError, TypeError) as error:
            shard.problems.append(f"{path}: holds no such conversations as 'messages' of the manifest says ({first_line(error)})")
            continue
        shard.problems += check_shard_counts(path, record, rows)
    shard.problems += _check_same_rows(shard, -1 if ids is None else ids.end_of_text)
    return shard


def _read_files(store: Store, files: Sequence[ShardFile], shard: StoredShard) -> dict[str, bytes]:
    """Path in the format's folder -> bytes, of the files that are as they were written."""
    stored = {}
    for file in files:
        if not store.exists(file.path):
            shard.problems.append(f"{file.path}: missing")
            continue
        data = store.read(file.path)
        shard.bytes += len(data)
        if len(data) != file.bytes:
            shard.problems.append(f"{file.path}: {len(data):,} bytes where the manifest says {file.bytes:,}")
        if hashlib.sha256(data).hexdigest() != file.sha256:
            shard.problems.append(f"{file.path}: its bytes are not the ones that were written (sha256 differs)")
        else:
            stored[file.path_in_format] = data
    return stored


def _check_same_rows(shard: StoredShard, end_of_text: int) -> list[str]:
    if len(shard.tables) < 2:
        return []
    path, rows = shard.choose()
    return [
        f"{other}: holds other rows than {path}"
        for other, others in shard.tables.items()
        if not have_same_rows(others, rows, end_of_text)
    ]


def _restore_kinds(rows: pa.Table, columns: Mapping[str, KeptColumn]) -> pa.Table:
    """Kept columns of the types that the manifest gives. JSON gives a column of nulls alone none."""
    for name, column in columns.items():
        at = rows.schema.get_field_index(name)
        kind = ARROW_TYPES[column.kind]
        if at >= 0 and rows.schema.field(at).type != kind and rows[name].null_count == rows.num_rows:
            rows = rows.set_column(at, pa.field(name, kind), pa.nulls(rows.num_rows, kind))
    return rows


def _restore_texts(rows: pa.Table, fields: Mapping[str, str]) -> pa.Table:
    """Conversations as texts, which are their canonical JSON: formats that store them in several ways are compared and proved as
    texts are."""
    if MESSAGES not in rows.column_names:
        return rows
    if rows.schema.field(MESSAGES).type.value_type.num_fields > len(fields):
        raise ValueError("fields that it does not name")
    text = encode_conversations(rows[MESSAGES], rows[TOOLS], fields)
    return rows.drop_columns([MESSAGES, TOOLS]).add_column(0, "text", text)


def _restore_sequences(rows: pa.Table, length: int, ids: TokenIds, turns: PackedTurns | None) -> pa.Table | None:
    """Rows of ids as lists of one length and type, where the format has others; None where the rows are no such sequences."""
    kind = pa.list_(pa.type_for_alias(ids.dtype), length)
    columns = () if turns is None else (LOSS_MASK, LABELS) if turns.labels else (LOSS_MASK,)
    if rows.column_names != sequence_schema(length, kind.value_type, columns).names:
        return None
    if rows.schema.field(INPUT_IDS).type == kind:
        return rows
    flat, ends = _flatten_ids(rows)
    if (np.diff(np.append(0, ends)) != length).any():
        return None
    column = pa.FixedSizeListArray.from_arrays(pa.array(flat).cast(kind.value_type), length)
    return rows.set_column(rows.column_names.index(INPUT_IDS), pa.field(INPUT_IDS, kind), column)


def have_same_rows(rows: pa.Table, others: pa.Table, end_of_text: int) -> bool:
    """Whether two formats hold the same documents in the same order. Texts are compared with texts and ids with ids; beside a
    text, ids must be as many as the row's tokens and end in end-of-text."""
    names = {*rows.column_names, *others.column_names}
    columns = [*ROW_COLUMNS, *sorted({DOC_STARTS, LOSS_MASK, LABELS} & names), *sorted(names - SHARD_COLUMNS)]
    if not {*columns} <= {*rows.column_names} & {*others.column_names} or not rows.select(columns).equals(others.select(columns)):
        return False
    if "text" in rows.column_names and "text" in others.column_names:
        return bool(rows["text"].equals(others["text"]))
    (ids, ends), *more = [_flatten_ids(table) for table in (rows, others) if "text" not in table.column_names]
    if more:
        return np.array_equal(ends, more[0][1]) and np.array_equal(ids, more[0][0])
    as_many = np.diff(np.append(0, ends)) == rows["tokens"].to_numpy().astype(np.int64) + 1
    return bool(as_many.all() and (ids[ends - 1] == end_of_text).all())


def _flatten_ids(rows: pa.Table) -> tuple[I64, I64]:
    """(tokens,) ids of all rows, and (rows,) where each row's ids end."""
    lengths = pc.list_value_length(rows[INPUT_IDS]).to_numpy().astype(np.int64)
    return pc.list_flatten(rows[INPUT_IDS]).to_numpy().astype(np.int64), np.cumsum(lengths)
