"""One zstd frame that says how long its content is and carries a checksum of it.

A frame that was cut, changed or extended is refused. No memory is taken for a size that the frame's bytes cannot hold: a block
of zstd is 4 bytes or more and gives at most 128 KiB. One thread, since more threads give other bytes.
What the levels cost: docs/decisions/101-zstd-level.md.
"""

from __future__ import annotations

import pyarrow as pa
import zstandard

from chameleon_data.shards.formats.files import refusing_damage

ZSTD_WRITER = {"zstandard": zstandard.__version__, "zstd": ".".join(map(str, zstandard.ZSTD_VERSION))}
"""What decides the bytes of a frame beside its content and level."""


def compress_frame(body: pa.Buffer | bytes, level: int) -> pa.Buffer:
    return pa.py_buffer(zstandard.ZstdCompressor(level=level, write_checksum=True, write_content_size=True).compress(body))


def decompress_frame(data: pa.Buffer | bytes, where: str, limit: int = 2**40) -> bytes:
    """The content, of less than `limit` bytes. InputError on a truncated, damaged or over-long frame and on bytes after it."""
    with refusing_damage(where, "zstd frame"):
        size = zstandard.get_frame_parameters(data).content_size
        if size >= min(limit, 2**17 * (1 + len(data) // 4)):  # "unknown" and "error" are the two largest numbers of 64 bits
            raise ValueError("it does not give a size that such a shard has")
        body: bytes = zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
    return body
