"""Compressed files of several frames, as other tools write them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import zstandard


def zstd_frames(pieces: Sequence[bytes]) -> bytes:
    """Each piece in a frame of its own, as `cat` or pzstd leave them."""
    return b"".join(zstandard.compress(piece) for piece in pieces)


def seekable_zstd(pieces: Sequence[bytes], sums: bool = False) -> bytes:
    """The same with a seek table at the end; `sums`: with the optional checksums."""
    frames = [zstandard.compress(piece) for piece in pieces]
    entries = b"".join(
        struct.pack("<II", len(frame), len(piece)) + (bytes(4) if sums else b"")
        for frame, piece in zip(frames, pieces, strict=True)
    )
    table = entries + struct.pack("<IB", len(frames), 0x80 if sums else 0) + b"\xb1\xea\x92\x8f"
    return b"".join(frames) + b"\x5e\x2a\x4d\x18" + struct.pack("<I", len(table)) + table


def bgzf(pieces: Sequence[bytes]) -> bytes:
    """Each piece, of less than 64 KiB, in a member that says its size, and the empty member that ends the file."""
    return b"".join(_member(piece) for piece in [*pieces, b""])


def _member(piece: bytes) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    body = packer.compress(piece) + packer.flush()
    head = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0"
    return head + struct.pack("<H", len(head) + len(body) + 9) + body + struct.pack("<II", zlib.crc32(piece), len(piece))
