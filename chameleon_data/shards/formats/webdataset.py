"""A shard as one tar file, the format of WebDataset: a sample is the members that share a key.

    SSSSS-RRRRRRRRR.json             {"domain":"book","domain_id":0,"doc_id":"…","epoch":0,"tokens":12}
    SSSSS-RRRRRRRRR.txt              the text                    or, of conversations, .messages.json; or, packed (before .json),
    SSSSS-RRRRRRRRR.input_ids.npy    a numpy array

The key is the shard's number and the row's, so that it is unique in a split. The bytes are those of `webdataset.TarWriter` with
`mtime=0`: plain ustar, members in the order of their names, owner "bigdata", two blocks of zeros, then zeros up to 10,240 bytes.
The file is not compressed, whatever the recipe says, and 1.34 times as long as rows of 5 kB are.

A member is a header, its bytes and padding, so a row is a join of six byte strings. Headers are a template under three columns
of digits: row, size, checksum. Rows of 2 kB: 570 MB/s on one core. Why: docs/decisions/038-tar-without-compression.md.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from chameleon_data.arrays import I64
from chameleon_data.errors import InputError
from chameleon_data.shards.formats import jsonl
from chameleon_data.shards.formats.files import (
    Encoded,
    IndexEntry,
    Level,
    no_index,
    pad_number,
    refuse_empty,
    refusing_damage,
)
from chameleon_data.shards.formats.mds import json_messages, parse_json_messages
from chameleon_data.shards.formats.row_bytes import BYTES_TYPE, byte_strings, fixed_size_strings, join_rows, zero_padding
from chameleon_data.shards.rows import MESSAGES, TEXT_SCHEMA, column_array, conform, is_sequences, sequence_schema, token_ids

TAR_BLOCK = tarfile.BLOCKSIZE
ROW_DIGITS = 9
NAME_BYTES = 100
"""Bytes of a name, at the start of a header."""
NPY_MAGIC = b"\x93NUMPY"

WRITER: dict[str, Any] = {"format": "webdataset", "tar": "ustar", "strings": "RFC 8785"}

index = no_index
"""A trainer names the shards by a pattern, train-{00000..00007}.tar."""


def names(number: int, count: int, split: str, level: Level) -> tuple[str, ...]:
    return (f"{split}-{pad_number(number, count)}.tar",)


def encode(table: pa.Table, number: int, count: int, split: str, level: Level) -> Encoded:
    """One file. InputError where there is no row."""
    rows = conform(table)
    refuse_empty(rows, "a WebDataset")
    (name,) = names(number, count, split, level)
    return Encoded({name: _encode_tar(rows, _number_in(name))}, {})


def decode(files: Mapping[str, pa.Buffer | bytes], where: str) -> tuple[pa.Table, IndexEntry]:
    """The rows, if this is, byte for byte, the file that `encode` makes of them under this name."""
    ((name, data),) = files.items()
    with refusing_damage(where, "tar file"):
        whole = memoryview(pa.py_buffer(data))
        members = list(_read_members(whole))
        second = TAR_BLOCK + len(members[0]) + -len(members[0]) % TAR_BLOCK if members else 0
        table = _decode_members(members, b".messages.json" in bytes(whole[second : second + NAME_BYTES]))
        if not _encode_tar(table, _number_in(name)).equals(pa.py_buffer(data)):
            raise ValueError("other bytes than these rows are written as under this name")
    return table, {}


def _number_in(name: str) -> str:
    """The shard's number, as its file's name and its keys spell it."""
    return name.rpartition("/")[2].removesuffix(".tar").rpartition("-")[2]


def _encode_tar(rows: pa.Table, shard: str) -> pa.Buffer:
    lines = np.frombuffer(jsonl.encode_lines(rows.select(rows.schema.names[1:])), np.uint8)  # of all but the body
    begins = np.append(0, np.flatnonzero(lines == ord("\n")) + 1)  # within a line there is no line break
    objects = pc.binary_slice(byte_strings(begins, pa.py_buffer(lines)), 0, -1)
    if is_sequences(rows.schema):
        ids = token_ids(rows)
        start = _npy_start(ids.dtype.newbyteorder("<").str, ids.shape[1])
        members = [("input_ids.npy", start, fixed_size_strings(ids)), ("json", b"", objects)]
    elif MESSAGES in rows.schema.names:
        members = [("json", b"", objects), ("messages.json", b"", json_messages(column_array(rows, MESSAGES)))]
    else:
        members = [("json", b"", objects), ("txt", b"", column_array(rows, "text").cast(BYTES_TYPE))]
    strings, total = [], 0
    for at, (extension, start, data) in enumerate(members):
        sizes = pc.binary_length(data).to_numpy().astype(np.int64) + len(start)
        padding = -sizes % TAR_BLOCK
        total += int((TAR_BLOCK + sizes + padding).sum())
        if at == len(members) - 1:
            padding[-1] += 2 * TAR_BLOCK + -(total + 2 * TAR_BLOCK) % tarfile.RECORDSIZE
        strings += [fixed_size_strings(_headers(shard, extension, sizes, start)), data, zero_padding(padding)]
    return join_rows(strings)


def _headers(shard: str, extension: str, sizes: I64, start: bytes) -> npt.NDArray[np.uint8]:
    """(rows, 512 + len(start)) the members' headers, each followed by how their contents start."""
    if sizes.max() >= 8**11:
        raise InputError(f"a document of {sizes.max():,} bytes: a tar file's member ends at 8 GiB; lower 'input.max_document'")
    info = tarfile.TarInfo(f"{shard}-{'0' * ROW_DIGITS}.{extension}")
    info.mode, info.uname, info.gname = 0o444, "bigdata", "bigdata"
    template = np.frombuffer(info.tobuf(tarfile.USTAR_FORMAT), np.uint8)
    headers = np.repeat(template[None], len(sizes), axis=0)
    headers[:, len(shard) + 1 : len(shard) + 1 + ROW_DIGITS] = _in_digits(np.arange(len(sizes)), ROW_DIGITS, 10)
    headers[:, 124:135] = _in_digits(sizes, 11, 8)
    headers[:, 148:156] = ord(" ")  # as the checksum counts itself
    headers[:, 148:154] = _in_digits(headers.sum(axis=1, dtype=np.int64), 6, 8)
    headers[:, 154] = 0
    return np.hstack([headers, np.broadcast_to(np.frombuffer(start, np.uint8), (len(sizes), len(start)))])


def _in_digits(values: I64, width: int, radix: int) -> npt.NDArray[np.uint8]:
    """(rows, width) the numbers in ASCII, with leading zeros."""
    powers = radix ** np.arange(width - 1, -1, -1)
    return (values[:, None] // powers % radix + ord("0")).astype(np.uint8)


def _npy_start(dtype: str, length: int) -> bytes:
    """The beginning of a .npy file of so many numbers, version 1.0, as numpy writes it."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({length},), }}"
    padded = text + " " * (-(10 + len(text) + 1) % 64) + "\n"
    return NPY_MAGIC + b"\x01\x00" + len(padded).to_bytes(2, "little") + padded.encode()


def _read_members(data: memoryview) -> Iterator[memoryview]:
    """The contents of the members, one after the other. Nothing of a header is believed but the size, and that only within the
    file: the caller writes the file again and compares."""
    at = 0
    while at + TAR_BLOCK <= len(data) and data[at]:
        size = int(bytes(data[at + 124 : at + 135]), 8)
        if not 0 <= size <= len(data) - at - TAR_BLOCK:
            raise ValueError(f"a member of {size:,} bytes")
        yield data[at + TAR_BLOCK : at + TAR_BLOCK + size]
        at += TAR_BLOCK + size + -size % TAR_BLOCK


def _decode_members(members: list[memoryview], chat: bool) -> pa.Table:
    first, second = members[::2], members[1::2]
    if len(first) != len(second) or not first:
        raise ValueError("not two members a row")
    if bytes(first[0][: len(NPY_MAGIC)]) == NPY_MAGIC:
        body = _decode_arrays(first)
        objects = [orjson.loads(each) for each in second]
        schema = sequence_schema(body.type.list_size, body.type.value_type, objects[0])
        return jsonl.rows_from_objects(objects, body, schema)
    if chat:
        turns = pa.array([bytes(each) for each in second], BYTES_TYPE)
        columns = [orjson.loads(each) for each in first]
        parse_json_messages(turns)
        return jsonl.chat_rows([{**row, MESSAGES: orjson.loads(each)} for row, each in zip(columns, second, strict=True)])
    text = pa.array([bytes(each) for each in second], BYTES_TYPE).cast(pa.large_string())
    return jsonl.rows_from_objects([orjson.loads(each) for each in first], text, TEXT_SCHEMA)


def _decode_arrays(files: list[memoryview]) -> pa.Array:
    """(rows,) the token ids of .npy files that all are like the first."""
    begin = 10 + int.from_bytes(files[0][8:10], "little")
    said = re.search(rb"'descr': '(<u[24])'.*'shape': \(([1-9][0-9]{0,9}),\)", bytes(files[0][:begin]))
    if said is None:
        raise ValueError("not a .npy file of tokens")
    ids = np.frombuffer(b"".join(file[begin:] for file in files), said[1].decode())
    if len(ids) != len(files) * int(said[2]):
        raise ValueError("a .npy file of another length")
    return pa.FixedSizeListArray.from_arrays(pa.array(ids.astype(ids.dtype.newbyteorder("="))), int(said[2]))
