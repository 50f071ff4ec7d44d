"""One zstd frame that says how long its content is and carries a checksum of it.

So a frame that was cut, changed or extended is refused, and nobody allocates for a size that its bytes cannot hold: a block of
zstd takes 4 bytes or more and gives 128 KiB at most. One thread, since more give other bytes. Level 3: 220 MB/s.
"""

from __future__ import annotations

import pyarrow as pa
import zstandard

from chameleon_data.errors import InputError

LEVEL = 3
ZSTD_WRITER = {"zstandard": zstandard.__version__, "zstd": ".".join(map(str, zstandard.ZSTD_VERSION)), "level": LEVEL}
"""What decides the bytes of a frame beside its content."""


def compress_frame(body: pa.Buffer | bytes) -> pa.Buffer:
    return pa.py_buffer(zstandard.ZstdCompressor(level=LEVEL, write_checksum=True, write_content_size=True).compress(body))


def decompress_frame(data: pa.Buffer | bytes, where: str, limit: int = 2**40) -> bytes:
    """The content, of less than `limit` bytes. InputError on a truncated, damaged or over-long frame and on bytes after it."""
    try:
        size = zstandard.get_frame_parameters(data).content_size
        if size >= min(limit, 2**17 * (1 + len(data) // 4)):  # "unknown" and "error" are the two largest numbers of 64 bits
            raise InputError(f"{where}: its zstd frame does not give a size that such a shard has; build it again")
        body: bytes = zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
    except (zstandard.ZstdError, MemoryError) as error:
        raise InputError(f"{where}: damaged zstd frame ({error}); restore it from a copy or build it again") from error
    return body
