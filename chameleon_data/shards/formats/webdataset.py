"""A shard as one tar file, the format of WebDataset: a sample is the members that share a key.

    SSSSS-RRRRRRRRR.json             {"domain":"book","doc_id":"…","epoch":0,"tokens":12}
    SSSSS-RRRRRRRRR.txt              the text                    or, where documents are packed (and then before the .json),
    SSSSS-RRRRRRRRR.input_ids.npy    a numpy array

The key is the shard's number and the row's, so that it is unique in a split. The bytes are those of `webdataset.TarWriter` with
`mtime=0`: plain ustar, members in the order of their names, owner "bigdata", two blocks of zeros, then zeros up to 10,240 bytes.

The file is not compressed, whatever the recipe says: `webdataset` opens .tar through Python's tarfile, which knows zstd from
Python 3.14 on only, and gzip, which it does know, compresses at a fifth of zstd's speed. Headers and padding make the file 1.34
times as long as rows of 5 kB are.

A member is a header, its bytes and padding, so a row is a join of six byte strings. Headers are a template under three columns
of digits: row, size, checksum. Rows of 2 kB: 570 MB/s on one core, TarWriter 24.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from chameleon_data.errors import InputError
from chameleon_data.shards.formats import jsonl
from chameleon_data.shards.formats.row_bytes import BYTES_TYPE, byte_strings, fixed_size_strings, join_rows, zero_padding
from chameleon_data.shards.rows import (
    INPUT_IDS,
    TEXT_SCHEMA,
    Compression,
    Encoded,
    column_array,
    conform,
    is_sequences,
    refuse_empty,
    sequence_schema,
    token_ids,
)

TAR_BLOCK = tarfile.BLOCKSIZE
ROW_DIGITS = 9
JSON_COLUMNS = ["domain", "doc_id", "epoch", "tokens"]
"""What the JSON member of a row holds."""

WRITER: dict[str, Any] = {"format": "webdataset", "tar": "ustar", "strings": "RFC 8785"}
"""All that decides the bytes beside the rows; part of the plan digest."""


def names(number: int, count: int, split: str, compression: Compression) -> tuple[str, ...]:
    return (f"{split}-{number:0{max(5, len(str(count - 1)))}}.tar",)


def encode(table: pa.Table, number: int, count: int, split: str, compression: Compression) -> Encoded:
    """One file. InputError where there is no row."""
    rows = conform(table)
    refuse_empty(rows, "a WebDataset")
    (name,) = names(number, count, split, compression)
    return Encoded({name: _tar(rows, _digits_in(name))}, {})


def decode(files: Mapping[str, pa.Buffer | bytes], where: str) -> tuple[pa.Table, dict[str, Any]]:
    """The rows, if this is, byte for byte, the file that `encode` makes of them under this name; InputError otherwise."""
    ((name, data),) = files.items()
    try:
        table = _table(list(_members(memoryview(pa.py_buffer(data)))))
        if not _tar(table, _digits_in(name)).equals(pa.py_buffer(data)):
            raise InputError(f"{where}: not a tar file as we write it; restore it from a copy or build it again")
    except InputError:
        raise
    except (pa.ArrowException, ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        raise InputError(f"{where}: damaged tar file ({error}); restore it from a copy or build it again") from error
    return table, {}


def index(split: str, entries: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
    """None: a trainer names the shards by a pattern, train-{00000..00007}.tar."""
    return {}


def _digits_in(name: str) -> str:
    """The shard's number, as its file's name and its keys spell it."""
    return name.rpartition("/")[2].removesuffix(".tar").rpartition("-")[2]


def _tar(rows: pa.Table, shard: str) -> pa.Buffer:
    facts = np.frombuffer(jsonl.lines(rows.select(JSON_COLUMNS)), np.uint8)
    ends = np.flatnonzero(facts == ord("\n"))  # within a line there is none
    begins = np.append(0, ends + 1)
    about = byte_strings(begins, pa.py_buffer(facts))
    about = pc.binary_slice(about, 0, -1)
    if is_sequences(rows.schema):
        ids = token_ids(rows)
        head = _npy_head(ids.dtype.newbyteorder("<").str, ids.shape[1])
        data = fixed_size_strings(ids.astype(ids.dtype.newbyteorder("<"), copy=False))
        members = [("input_ids.npy", head, data), ("json", b"", about)]
    else:
        members = [("json", b"", about), ("txt", b"", column_array(rows, "text").cast(BYTES_TYPE))]
    parts, total = [], 0
    for at, (extension, start, data) in enumerate(members):
        sizes = pc.binary_length(data).to_numpy().astype(np.int64) + len(start)
        padding = -sizes % TAR_BLOCK
        total += int((TAR_BLOCK + sizes + padding).sum())
        if at == len(members) - 1:
            padding[-1] += 2 * TAR_BLOCK + -(total + 2 * TAR_BLOCK) % tarfile.RECORDSIZE
        parts += [fixed_size_strings(_headers(shard, extension, sizes, start)), data, zero_padding(padding)]
    return join_rows(parts)


def _headers(shard: str, extension: str, sizes: npt.NDArray[np.int64], start: bytes) -> npt.NDArray[np.uint8]:
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


def _in_digits(values: npt.NDArray[np.int64], width: int, radix: int) -> npt.NDArray[np.uint8]:
    """(rows, width) the numbers in ASCII, with leading zeros."""
    powers = radix ** np.arange(width - 1, -1, -1)
    return (values[:, None] // powers % radix + ord("0")).astype(np.uint8)


def _npy_head(dtype: str, length: int) -> bytes:
    """The head of a .npy file of so many numbers, version 1.0, as numpy writes it."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({length},), }}"
    padded = text + " " * (-(10 + len(text) + 1) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded.encode()


def _members(data: memoryview) -> Any:
    """The contents of the members, one after the other. Nothing of a header is believed but the size, and that only within
    the file: whoever reads on writes the file again and compares."""
    at = 0
    while at + TAR_BLOCK <= len(data) and data[at]:
        size = int(bytes(data[at + 124 : at + 135]), 8)
        if not 0 <= size <= len(data) - at - TAR_BLOCK:
            raise ValueError(f"a member of {size:,} bytes")
        yield data[at + TAR_BLOCK : at + TAR_BLOCK + size]
        at += TAR_BLOCK + size + -size % TAR_BLOCK


def _table(members: list[memoryview]) -> pa.Table:
    first, second = members[::2], members[1::2]
    if len(first) != len(second) or not first:
        raise ValueError("not two members a row")
    sequences = bytes(first[0][:6]) == b"\x93NUMPY"
    facts, data = (second, first) if sequences else (first, second)
    found = [orjson.loads(each) for each in facts]
    if sequences:
        length_of_head = 10 + int.from_bytes(data[0][8:10], "little")
        said = re.search(rb"'descr': '<u([24])'.*'shape': \(([1-9][0-9]{0,9}),\)", bytes(data[0][:length_of_head]))
        if said is None or int(said[2]) * int(said[1]) != len(data[0]) - length_of_head:
            raise ValueError("not a .npy file of tokens")
        schema = sequence_schema(int(said[2]), pa.uint16() if said[1] == b"2" else pa.uint32())
        kind = schema.field(INPUT_IDS).type
        ids = np.frombuffer(b"".join(each[length_of_head:] for each in data), f"<u{said[1].decode()}")
        rows = pa.FixedSizeListArray.from_arrays(pa.array(ids.astype(kind.value_type.to_pandas_dtype())), type=kind)
    else:
        schema = TEXT_SCHEMA
        rows = pa.array([bytes(each) for each in data], BYTES_TYPE).cast(pa.large_string())
    others = [pa.array([each[name] for each in found], schema.field(name).type) for name in JSON_COLUMNS]
    return conform(pa.table([rows, *others], schema=schema))
