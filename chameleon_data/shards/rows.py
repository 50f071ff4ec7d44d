"""The rows of a shard, whatever format they are stored in.

    text        the document; or, where documents are packed, input_ids: a fixed-size list of uint16 or uint32; or messages:
                a list of structs, where they are conversations
    domain      name of the domain
    domain_id   number of the domain (`number_domains`), the same in all splits of a build
    doc_id      hash of the document; packed, of the one that the first token belongs to, wherever that document began
    epoch       of that document, from 0
    tokens      of the row, padding left out
    tools       conversations: the tools that they may call, as JSON text; null where there are none
    …           texts: the kept columns, in byte order of name, each a string, int64, float64 or boolean; they may be null
    doc_starts  packed: the places in `input_ids` at which a document begins, rising. 0 is among them only where the row does not
                go on with the document of the row before
    loss_mask   packed conversations: 1 for each of `input_ids` that a trainer learns from, else 0; padding has 0
    labels      packed conversations, where the recipe asks: `input_ids` where `loss_mask` is 1, else -100

Why: docs/decisions/130-domain-ids-and-document-starts.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from chameleon_data.arrays import string_offsets
from chameleon_data.corpus.conversations import FIELD_TYPES, FIRST_FIELDS
from chameleon_data.corpus.kept_columns import ARROW_TYPES
from chameleon_data.hashing import canonical_json
from chameleon_data.recipe import SHARD_COLUMNS

TEXT_SCHEMA = pa.schema(
    [
        ("text", pa.large_string()),
        ("domain", pa.string()),
        ("domain_id", pa.uint32()),
        ("doc_id", pa.string()),
        ("epoch", pa.uint32()),
        ("tokens", pa.uint32()),
    ]
)
"""A row of text. `doc_id` is 32 hexadecimal digits."""

INPUT_IDS = "input_ids"
MESSAGES = "messages"
TOOLS = "tools"
DOC_STARTS = "doc_starts"
LOSS_MASK = "loss_mask"
LABELS = "labels"
NO_LABEL = -100
"""The label of a token that no loss is computed of, in PyTorch."""
ROW_OVERHEAD = 64
"""Bytes that a row counts beside its text, so that a million rows of empty text are more than one row group."""


TURN_TYPES = {LOSS_MASK: pa.uint8(), LABELS: pa.int32()}
"""Columns of packed conversations that have a value for each of `input_ids`, and their types."""


def sequence_schema(length: int, dtype: pa.DataType, columns: Iterable[str] = ()) -> pa.Schema:
    """A row of packed tokens: `input_ids`, `length` of uint16 or uint32, in the place of `text`; last `doc_starts`, and those of
    TURN_TYPES that `columns` name."""
    starts = pa.field(DOC_STARTS, pa.list_(pa.uint32()))
    turns = [pa.field(name, pa.list_(kind, length)) for name, kind in TURN_TYPES.items() if name in {*columns}]
    return pa.schema([pa.field(INPUT_IDS, pa.list_(dtype, length)), *list(TEXT_SCHEMA)[1:], starts, *turns])


def text_schema(columns: Iterable[tuple[str, pa.DataType]]) -> pa.Schema:
    """A row of text with these kept columns, by name and type."""
    return pa.schema([*TEXT_SCHEMA, *(pa.field(name, kind) for name, kind in columns)])


def chat_schema(messages: pa.DataType, columns: Iterable[tuple[str, pa.DataType]]) -> pa.Schema:
    """A row of a conversation: `messages` in the place of `text`, and `tools` before kept columns."""
    tools = pa.field(TOOLS, pa.large_string())
    return pa.schema([pa.field(MESSAGES, messages), *list(TEXT_SCHEMA)[1:], tools, *(pa.field(*column) for column in columns)])


def kept_names(schema: pa.Schema) -> list[str]:
    """The kept columns of rows with these columns."""
    return [name for name in schema.names if name not in SHARD_COLUMNS]


def number_domains(names: Iterable[str]) -> dict[str, int]:
    """Domain -> `domain_id`: its place among the domains of all splits, in byte order of name."""
    return {name: number for number, name in enumerate(sorted(set(names), key=str.encode))}


def encode_domain_ids(domain_ids: Mapping[str, int]) -> bytes:
    """The file beside the shards that says which domain each `domain_id` is."""
    return canonical_json(dict(domain_ids))


def is_sequences(schema: pa.Schema) -> bool:
    """Whether these are rows of tokens rather than of text."""
    return INPUT_IDS in schema.names


def is_token_column(field: pa.Field) -> bool:
    """Whether a column has a value for each token of a sequence."""
    return bool(pa.types.is_fixed_size_list(field.type))


def schema_of(stored: pa.Schema) -> pa.Schema:
    """The schema that rows with these columns have in a shard. ValueError where they are of neither kind."""
    if not is_sequences(stored):
        kept = [(name, pa.large_string() if pa.types.is_string(stored.field(name).type) else stored.field(name).type)
                for name in kept_names(stored)]  # fmt: skip
        if foreign := [name for name, kind in kept if kind not in ARROW_TYPES.values()]:
            raise ValueError(f"{foreign[0]!r} is {stored.field(foreign[0]).type}, which no kept column is")
        kept = sorted(kept, key=lambda column: column[0].encode())
        if MESSAGES in stored.names:
            return chat_schema(_plain_messages(stored.field(MESSAGES).type), kept)
        return text_schema(kept)
    kind = stored.field(INPUT_IDS).type
    if not pa.types.is_fixed_size_list(kind) or kind.value_type not in (pa.uint16(), pa.uint32()) or not kind.list_size:
        raise ValueError(f"'{INPUT_IDS}' is {kind}; sequences of one length, of uint16 or uint32, are expected")
    return sequence_schema(kind.list_size, kind.value_type, stored.names)


def _plain_messages(stored: pa.DataType) -> pa.DataType:
    """The type of `messages` in memory. ValueError where it is none."""
    if not pa.types.is_list(stored) or not pa.types.is_struct(stored.value_type):
        raise ValueError(f"'{MESSAGES}' is {stored}; a list of structs is expected")
    fields = [(field.name, field.type) for field in stored.value_type]
    if [name for name, _ in fields][:2] != [*FIRST_FIELDS] or not {kind for _, kind in fields} <= {*FIELD_TYPES.values()}:
        raise ValueError(f"'{MESSAGES}' is {stored}; its structs begin with role and content, and hold plain values")
    return pa.list_(pa.struct(fields))


def stored_schema(schema: pa.Schema) -> pa.Schema:
    """The same with plain strings, for formats that store a schema: few readers know strings with 64-bit offsets."""
    return pa.schema([field.with_type(pa.string()) if field.type == pa.large_string() else field for field in schema])


def check_stored_schema(stored: pa.Schema, metadata: bool = False) -> None:
    """ValueError where a file's schema is not that of a shard, or, with `metadata`, has some. Done before any row is read, since
    a schema can be hostile."""
    if not stored.equals(stored_schema(schema_of(stored)), check_metadata=metadata):
        raise ValueError(f"its columns are {stored.names}, not those of a shard")


def conform(table: pa.Table) -> pa.Table:
    """The table with the columns of its schema, at most one chunk each, no metadata. ValueError on other columns and on nulls."""
    schema = schema_of(table.schema)
    if sorted(table.column_names) != sorted(schema.names):
        raise ValueError(f"a shard has the columns {schema.names}, not {table.column_names}")
    rows = table.select(schema.names).cast(schema)
    nulls = [name for name in schema.names if rows[name].null_count and name in SHARD_COLUMNS - {TOOLS}]
    lists = [name for name in (INPUT_IDS, DOC_STARTS, *TURN_TYPES) if name in schema.names]
    nulls += [name for name in lists if any(chunk.flatten().null_count for chunk in rows[name].chunks)]
    if nulls:
        raise ValueError(f"nulls in the column {nulls[0]!r}; a shard has none")
    return rows.combine_chunks()


def column_array(rows: pa.Table, name: str) -> pa.Array:
    """A column of a table that `conform` gave, as one array."""
    return rows[name].chunk(0) if rows[name].num_chunks else pa.array([], rows.schema.field(name).type)


def token_ids(rows: pa.Table) -> npt.NDArray[np.unsignedinteger[Any]]:
    """(rows, length) `input_ids` of a table that `conform` gave."""
    ids: npt.NDArray[np.unsignedinteger[Any]] = token_values(rows, INPUT_IDS)
    return ids


def token_values(rows: pa.Table, name: str) -> npt.NDArray[Any]:
    """(rows, length) a column of such a table that has a value for each token."""
    return np.asarray(column_array(rows, name).flatten().to_numpy()).reshape(-1, rows.schema.field(name).type.list_size)


def make_labels(ids: npt.NDArray[np.unsignedinteger[Any]], mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    """(rows, length) LABELS of INPUT_IDS and LOSS_MASK."""
    return np.where(mask == 1, ids.astype(np.int32), np.int32(NO_LABEL))


def equal_byte_bounds(rows: pa.Table, size: int) -> npt.NDArray[np.int64]:
    """Row numbers where G = ceil(bytes / size) groups of about equal bytes begin, and the number of rows at the end.

    With B bytes in all, group g begins at the first row that starts at or after B g / G. No group is empty.
    """
    if is_sequences(rows.schema):
        begun = pc.list_value_length(column_array(rows, DOC_STARTS)).to_numpy().astype(np.int64)
        widths = [field.type.list_size * field.type.value_type.byte_width for field in rows.schema if is_token_column(field)]
        sizes = sum(widths) + 4 * begun + ROW_OVERHEAD
    else:
        sizes = _body_sizes(rows) + ROW_OVERHEAD
        for name in kept_names(rows.schema):
            if pa.types.is_large_string(rows.schema.field(name).type):
                sizes += pc.binary_length(rows[name]).fill_null(0).to_numpy()
    starts, total = np.cumsum(sizes) - sizes, int(sizes.sum())
    count = -(-total // size)
    return np.unique(np.append(np.searchsorted(starts, [total * g // count for g in range(count)]), len(sizes)))


def _body_sizes(rows: pa.Table) -> npt.NDArray[np.int64]:
    """(rows,) bytes of the text, or of all texts of the messages."""
    if MESSAGES not in rows.schema.names:
        return np.asarray(pc.binary_length(rows["text"]).to_numpy(), np.int64)
    messages = column_array(rows, MESSAGES)
    sizes = np.zeros(len(messages.values), np.int64)
    for field in (field for field in messages.type.value_type if field.type in (FIELD_TYPES["string"], FIELD_TYPES["json"])):
        texts = pc.struct_field(messages.values, field.name).cast(pa.string())
        sizes += pc.binary_length(texts).fill_null(0).to_numpy()
    ends = np.append(0, np.cumsum(sizes))[messages.offsets.to_numpy()]
    return np.asarray(np.diff(ends), np.int64)


def content_hash(table: pa.Table) -> str:
    """sha256 over the ordered rows of a shard; it says nothing of formats or libraries.

    Texts and kept columns stand in it by their `doc_id`.

    Column by column: domain names and hashes as text, each followed by a newline; domain_id, epoch and tokens as little-endian
    uint32; and where rows are sequences, in the same way, their ids, how many documents begin in each, and where; then the loss
    mask of conversations, a byte a token. Labels follow from both.
    """
    digest = hashlib.sha256()
    nothing, newline = (pa.scalar(text, pa.large_string()) for text in ("", "\n"))
    for name in ("domain", "doc_id"):
        for chunk in pc.binary_join_element_wise(table[name].cast(pa.large_string()), nothing, newline).chunks:
            digest.update(chunk.buffers()[2].slice(0, int(string_offsets(chunk)[-1])))
    for name in ("domain_id", "epoch", "tokens"):
        digest.update(table[name].to_numpy().astype("<u4").tobytes())
    if DOC_STARTS in table.column_names:
        starts = table[DOC_STARTS]
        for numbers in (pc.list_flatten(table[INPUT_IDS]), pc.list_value_length(starts), pc.list_flatten(starts)):
            digest.update(numbers.to_numpy().astype("<u4").tobytes())
    if LOSS_MASK in table.column_names:
        digest.update(pc.list_flatten(table[LOSS_MASK]).to_numpy().astype("u1").tobytes())
    return digest.hexdigest()
