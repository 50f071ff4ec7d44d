"""Lists a source as fragments: a file, or a row group of a Parquet file, each. `source_files.py` finds the files.

A fragment is the unit of work and of caching. Its identity is the stored size and the store's own mark of a change: its ETag,
else a checksum, else a time. For a local file it is the times of content and inode, since `touch` and `cp -p` set only the first.
So a file that was replaced is another fragment, and reading it under the old identity is refused.

Cost beside the listing: one footer for each Parquet file, 16 at a time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from chameleon_data.corpus.content import ANNEX_POINTER, LFS_POINTER, START_BYTES, name_content
from chameleon_data.corpus.file_counts import SourceFiles
from chameleon_data.corpus.file_systems import ListingEntry, explain_read_errors, open_file_system
from chameleon_data.corpus.source_files import find_files
from chameleon_data.errors import InputError
from chameleon_data.recipe import Source

CHANGE_MARKS = ("ETag", "etag", "md5Hash", "md5", "crc32c", "blob_id", "oid", "mtime", "last_modified", "LastModified", "created")
"""Keys of a listing whose value changes when the file does, the surest first."""

LARGEST_POINTER = 1024
"""Bytes below which a file may be a pointer to another one, in place of it."""
POINTERS = {LFS_POINTER: "git lfs pull", ANNEX_POINTER: "git annex get"}
PADDING_BYTES = 2**16
"""Bytes at the end of a file in which its end mark is sought."""
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
"""What stands for null in the name of a folder."""


@dataclass(frozen=True)
class Fragment:
    """What is read in one go: a file, or a row group of one."""

    source: str
    """Name of the source in the recipe."""
    url: str
    """Absolute path on this machine, or a URL."""
    format: str
    """jsonl, parquet, arrow, csv, tsv or txt."""
    compression: str
    """none, gzip, zstd, bz2 or xz, around the file as a whole."""
    row_group: int | None
    """Number of the row group in a Parquet file; None for a whole file."""
    size: int
    """Stored bytes; for a row group its share of the file by uncompressed size."""
    identity: str
    """It changes when the file does, and is the same for every row group of one file."""


@dataclass(frozen=True)
class Listing:
    """What the paths of a source hold."""

    fragments: tuple[Fragment, ...]
    """Sorted by URL and row group; a Parquet file without row groups has none."""
    files: SourceFiles
    """The files in numbers, with those that are left out."""


def list_fragments(name: str, source: Source) -> Listing:
    """What the source called `name` holds; a file named twice counts once. Raises InputError for what cannot be found or read."""
    found, files = find_files(name, source.path)
    whole = [
        Fragment(
            name, file.url, file.format, file.compression, None, int(file.info.get("size") or 0), _identity(file.url, file.info)
        )
        for file in found
    ]
    for fragment in whole:
        if fragment.format == "txt" and (source.id or (source.domain and hive_value(fragment.url, source.domain) is None)):
            key = "id" if source.id else "domain"
            raise InputError(f"sources.{name}: {fragment.url}: a text file has no columns; leave '{key}' out")
    with ThreadPoolExecutor(16) as pool:
        parts = pool.map(_row_groups, whole)
        return Listing(tuple(fragment for part in parts for fragment in part), files)


def hive_value(url: str, key: str | None) -> str | None:
    """The value of a key in the names of the folders above a file, as in /data/key=value/part-0.parquet; None where none has it.
    HIVE_NULL stands for null."""
    folders = [name for name in url.split("/")[:-1] if key and name.startswith(f"{key}=")]
    return unquote(folders[-1].partition("=")[2]) if folders else None


_opening: list[Callable[[str], object]] = []


def call_at_opening(function: Callable[[str], object]) -> None:
    """From now on call this with the URL of every fragment that is opened. If the process dies, another can say what it read."""
    _opening[:] = [function]


def open_fragment(fragment: Fragment, sequential: bool = True) -> BinaryIO:
    """The fragment's file, open for reading; InputError if it is gone or is not the file that was listed.

    Remote files are read in blocks of 8 MiB, of which at most four are kept.
    """
    for function in _opening:
        function(fragment.url)
    with explain_read_errors(fragment.url):
        fs, path = open_file_system(fragment.url)
        fs.invalidate_cache(path)
        info = fs.info(path)
        if info["type"] != "file":
            raise InputError(f"{fragment.url}: not a regular file")
        if _identity(fragment.url, info) != fragment.identity:
            raise InputError(f"{fragment.url}: changed since it was listed; run the command again")
        how: dict[str, Any] = (
            {"cache_type": "readahead"} if sequential else {"cache_type": "blockcache", "cache_options": {"maxblocks": 4}}
        )
        file = cast(BinaryIO, fs.open(path, "rb", block_size=8 * 2**20, **how))
        if (info["size"] or 0) < LARGEST_POINTER:
            content = name_content(file.read(START_BYTES))
            file.seek(0)
            if content in (LFS_POINTER, ANNEX_POINTER):
                file.close()
                raise InputError(
                    f"{fragment.url}: is {content}, not the file that it stands for; fetch that ({POINTERS[content]})"
                )
        return file


def refuse_what_follows(file: BinaryIO, magic: bytes, url: str) -> None:
    """Raise InputError where a file that should end with `magic` has it before other bytes, so that it is not cut."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - PADDING_BYTES))
    tail = file.read(PADDING_BYTES)
    end = tail.rfind(magic) + len(magic)
    if end > len(magic) and end < len(tail):
        raise InputError(
            f"{url}: from byte {size - len(tail) + end:,} on, behind its end mark, it holds something else; cut that off, "
            "or write the file again"
        )


def _identity(url: str, info: ListingEntry) -> str:
    """See `Fragment.identity`."""
    if "://" not in url:
        status = Path(url).stat()  # in nanoseconds, and of what a link points to
        return f"size={status.st_size} mtime={status.st_mtime_ns} ctime={status.st_ctime_ns}"
    key = next((key for key in CHANGE_MARKS if info.get(key)), "")
    mark = info.get(key, "")
    if isinstance(mark, datetime):  # some stores give a number in a listing, and a date for one file
        mark = mark.timestamp()
    return f"size={info.get('size')} {key.lower()}={mark}".replace('"', "")


def _row_groups(fragment: Fragment) -> list[Fragment]:
    """A fragment for each row group of a Parquet file; another file as it is."""
    if fragment.format != "parquet":
        return [fragment]
    with explain_read_errors(fragment.url), open_fragment(fragment, sequential=False) as file:
        try:
            footer = pq.ParquetFile(file, pre_buffer=False).metadata
        except pa.ArrowInvalid:
            refuse_what_follows(file, b"PAR1", fragment.url)
            raise
        sizes = [footer.row_group(i).total_byte_size for i in range(footer.num_row_groups)]
    # Uncompressed sizes: to look at a column's compressed size aborts the process where the footer is damaged. The sizes that are
    # made of them add up to that of the file.
    ends = [0, *accumulate(sizes)]
    bytes_at = [fragment.size * end // max(1, ends[-1]) for end in ends]
    return [replace(fragment, row_group=i, size=after - before) for i, (before, after) in enumerate(pairwise(bytes_at))]
