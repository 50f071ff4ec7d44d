"""Chunks of litdata: every bit of the head means something. The bytes are compared with litdata's in tests/official."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from chameleon_data.errors import InputError
from chameleon_data.plan.plan import TRAIN
from chameleon_data.shards.formats import litdata
from chameleon_data.shards.formats.files import Level
from chameleon_data.shards.formats.zstd import compress_frame, decompress_frame
from tests.support.shard_rows import LEVELS, SEQUENCES, TEXTS

NAME = "chunk-00000.bin"


def chunk_of(table: object, level: Level) -> bytes:
    return litdata.encode(table, 0, 1, TRAIN, level).files[NAME].to_pybytes()


@pytest.mark.parametrize(("level", "size"), [(3, 24 + 4 * 301 + 2 * 24), (None, 4 * 302)])
def test_every_bit_of_the_head_means_something(level: Level, size: int) -> None:
    body = chunk_of(SEQUENCES, level)
    for at in [*range(40), *range(size - 60, size)]:
        lie = bytearray(body)
        lie[at] ^= 1
        with pytest.raises(InputError, match="here"):
            litdata.decode({NAME: bytes(lie)}, "here")


@pytest.mark.parametrize("level", LEVELS)
def test_bytes_that_no_row_asks_for_are_refused(level: Level) -> None:
    """A row that begins later than the rows do, with all sizes as they should be."""
    body = chunk_of(TEXTS.slice(1, 3), level)
    if level is None:
        offsets = np.frombuffer(body, "<u4", 4, 4) + 4
        lie = body[:4] + offsets.tobytes() + b"more" + body[20:]
    else:
        offsets = np.frombuffer(body, "<u4", 4, 24).astype(np.int64) + 4
        end = 24 + 16 + 24 + struct.unpack_from("<I", body, 56)[0]
        frame = compress_frame(b"more" + decompress_frame(body[64:end], ""), level)
        lie = b"".join([litdata._framed_head(offsets, np.array([frame.size])), frame, body[end:]])
    with pytest.raises(InputError, match="bytes that no row asks for"):
        litdata.decode({NAME: lie}, "here")


def test_sizes_that_are_not_there_are_refused_before_they_are_allocated() -> None:
    plain, framed = (chunk_of(SEQUENCES.slice(0, 3), level) for level in (None, 3))
    for lie in (
        b"\xff" * 4 + plain[4:],
        framed[:12] + b"\xff" * 4 + framed[16:],
        framed[:20] + b"\xff" * 4 + framed[24:],
    ):
        with pytest.raises(InputError, match="here: damaged chunk of litdata"):
            litdata.decode({NAME: lie}, "here")


def test_starts_of_documents_are_whole_numbers() -> None:
    """A byte that belongs to the next value, with sizes that add up."""
    body = bytearray(chunk_of(SEQUENCES.slice(1, 1), None))
    first = struct.unpack_from("<I", body, 4)[0]
    sizes = list(struct.unpack_from("<7I", body, first))
    sizes[2] -= 1
    sizes[6] += 1
    struct.pack_into("<7I", body, first, *sizes)
    with pytest.raises(InputError, match="here: damaged chunk of litdata"):
        litdata.decode({NAME: bytes(body)}, "here")


def test_four_gibibytes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litdata, "LARGEST_CHUNK", len(chunk_of(SEQUENCES, None)) // 2)
    with pytest.raises(InputError, match=r"4 GiB; lower 'shards\.size'"):
        litdata.encode(SEQUENCES, 0, 1, TRAIN, 3)


def test_chunks_of_one_split_have_one_configuration() -> None:
    entries = [litdata.encode(table, 0, 1, TRAIN, 3).entry for table in (SEQUENCES, TEXTS)]
    with pytest.raises(InputError, match="not all of the same kind"):
        litdata.index(TRAIN, entries)
