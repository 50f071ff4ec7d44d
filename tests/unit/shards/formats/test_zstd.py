"""Frames of zstd: their size is known, and what is damaged is refused before memory is taken for it."""

from __future__ import annotations

import struct

import pytest
import zstandard

from chameleon_data.errors import InputError
from chameleon_data.plan.plan import TRAIN
from chameleon_data.shards.formats.registry import FORMATS
from chameleon_data.shards.formats.zstd import compress_frame, decompress_frame

LIMIT = 2**32


def test_the_same_content_gives_the_same_frame_with_size_and_checksum() -> None:
    first, second = (compress_frame(b"x" * 1000, 3).to_pybytes() for _ in range(2))
    assert first == second
    frame = zstandard.get_frame_parameters(first)
    assert (frame.has_checksum, frame.content_size) == (True, 1000)
    assert decompress_frame(first, "here") == b"x" * 1000


def test_a_damaged_frame_is_refused() -> None:
    frame = compress_frame(bytes(range(256)) * 4, 3).to_pybytes()
    huge = b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 2**32) + frame[13:]  # a header that claims 4 GiB
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(b"abc")
    flipped = frame[:60] + bytes([frame[60] ^ 1]) + frame[61:]
    for lie in (frame[:-1], frame[:20], b"", frame + b"x", frame + frame, flipped, huge, unsized, b"not zstd at all"):
        with pytest.raises(InputError, match="does not give a size" if lie in (huge, unsized) else "here: damaged zstd frame"):
            decompress_frame(lie, "here", LIMIT)


@pytest.mark.parametrize("format", ["jsonl", "mds"])
def test_formats_refuse_a_size_that_their_frame_cannot_hold(format: str) -> None:
    frame = compress_frame(b"x" * 1000, 3).to_pybytes()
    claims = b"\x28\xb5\x2f\xfd\xe4" + struct.pack("<Q", 2**39) + frame[7:]
    (name,) = FORMATS[format].names(0, 1, TRAIN, 3)
    with pytest.raises(InputError, match=r"here: damaged zstd frame \(it does not give a size that such a shard has\)"):
        FORMATS[format].decode({name: claims}, "here")
