"""What the first bytes of a file say that it holds, whatever its name says."""

from __future__ import annotations

START_BYTES = 2**9
"""So many bytes from the start of a file are enough for `name_content`."""
PEEKED_BYTES = 2**14
"""Bytes that are looked at beforehand where a file may be packed, or its name does not say what it holds."""
COMPRESSIONS = ("gzip", "zstd", "bz2", "xz")
"""The compressions that have a reader."""
LFS_POINTER = "a pointer of Git LFS"
ANNEX_POINTER = "a pointer of git-annex"
POINTERS = {LFS_POINTER: "git lfs pull", ANNEX_POINTER: "git annex get"}
"""Content that stands for another file -> the command that fetches that."""
OTHER_ENCODINGS = ("UTF-16", "UTF-32")
"""Encodings of text that have no reader."""
_MAGIC = {
    b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ\0": "xz", b"\x04\x22\x4d\x18": "lz4",
    b"PAR1": "Parquet", b"ARROW1": "Arrow", b"\xff\xff\xff\xff": "Arrow",
    b"\xff\x06\0\0sNaPpY": "snappy", b"\x1f\x9d": "data of compress", b"]\0\0": "LZMA", b"Rar!\x1a\x07": "RAR",
    b"PK\x03\x04": "zip", b"7z\xbc\xaf": "7-Zip", b"%PDF-": "PDF", b"Obj\x01": "Avro", b"SQLite format 3\0": "SQLite",
    b"\x89HDF\r\n": "HDF5", b"\x93NUMPY": "NumPy", b"\x80\x04\x95": "a pickle", b"\x80\x05\x95": "a pickle",
    b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16",
    b"version https://git-lfs": LFS_POINTER, b"/annex/objects/": ANNEX_POINTER,
}  # fmt: skip
"""First bytes -> what such a file holds. The first that fits counts: UTF-32 begins as UTF-16 does."""
_MAGIC |= {bytes([0x50 + i, 0x2A, 0x4D, 0x18]): "zstd" for i in range(16)}  # a frame to skip, which may come first
_MAGIC |= {b"BZh%d%b" % (i, block): "bz2" for i in range(1, 10) for block in (b"1AY&SY", b"\x17rE8P\x90")}
_TAR_MAGIC = slice(257, 262), b"ustar"
"""Where a tar has its mark, which is not at its start: behind the name and the facts of its first file."""


def name_content(start: bytes) -> str:
    """What a file with these first bytes holds; empty for text, and for all that is not known."""
    place, mark = _TAR_MAGIC
    if start[place] == mark and b"\0" in start[:257]:
        return "tar"
    return next((content for magic, content in _MAGIC.items() if start.startswith(magic)), "")


def explain_pointer(content: str) -> str:
    """Why a file that is one of POINTERS cannot be read, and what to do."""
    return f"is {content}, not the file that it stands for; fetch that ({POINTERS[content]})"
