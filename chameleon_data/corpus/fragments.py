"""Lists a source as fragments: files, and stretches of large ones. `source_files.py` finds the files, `boundaries.py` the places
at which they may be divided.

A fragment is the unit of listing. Its identity is the stored size and the store's own mark of a change: its ETag,
else a checksum, else a time. For a local file it is the times of content and inode, since `touch` and `cp -p` set only the first.
So a file that was replaced is another fragment, and reading it under the old identity is refused.

Cost beside the listing: the footer of each Parquet file, and some reads in each other file above 32 MiB, 16 files at a time.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from chameleon_data.corpus.boundaries import find_boundaries, read_arrow_blocks, read_arrow_footer
from chameleon_data.corpus.content import POINTERS, START_BYTES, explain_pointer, name_content
from chameleon_data.corpus.file_counts import SourceFiles
from chameleon_data.corpus.file_systems import ListingEntry, explain_read_errors, is_local, open_file_system
from chameleon_data.corpus.read_ahead import AHEAD_BYTES, ReadAhead
from chameleon_data.corpus.source_files import find_files
from chameleon_data.errors import InputError
from chameleon_data.recipe import Source, check_condition
from chameleon_data.store.urls import EXTRAS, scheme_of

FRAGMENT_BYTES = 32 * 2**20
"""Stored bytes above which a file is divided, where it can be."""
CHANGE_MARKS = ("ETag", "etag", "md5Hash", "md5", "crc32c", "blob_id", "oid", "mtime", "last_modified", "LastModified", "created")
"""Keys of a listing whose value changes when the file does, the surest first."""

Extent = Literal["all", "columns", "places"]
"""How much of a file is read: all of it from first to last, columns that lie apart, or some places of it."""
REMOTE_BLOCK_BYTES: dict[Extent, int] = {"all": AHEAD_BYTES, "columns": 8 * 2**20, "places": 2**18}
"""How much is read -> bytes of a request of a remote file."""
BLOCKS_KEPT = 4
"""Blocks of a remote file that fsspec keeps, unless `ReadAhead` reads it all."""
LARGEST_POINTER = 1024
"""Bytes below which a file may be a pointer to another one, in place of it."""
PADDING_BYTES = 2**16
"""Bytes at the end of a file in which its end mark is sought."""
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
"""What stands for null in the name of a folder."""


@dataclass(frozen=True)
class Fragment:
    """What is read in one go: a file, or a stretch of one."""

    source: str
    """Name of the source in the recipe."""
    url: str
    """Absolute path on this machine, or a URL."""
    format: str
    """jsonl, parquet, arrow, csv, tsv or txt."""
    compression: str
    """none, gzip, zstd, bz2 or xz, around the file as a whole."""
    begin: int
    """Where it begins in the file: 0, a row group of Parquet, a record batch of Arrow, or a stored byte of JSON lines."""
    end: int | None
    """Where the next one begins; None: it ends with the file. Its lines are those that begin behind one of its line ends, and at
    the start of a file the first one."""
    size: int
    """Stored bytes; of Parquet its share of the file by uncompressed size."""
    identity: str
    """It changes when the file does, and is the same for all fragments of one file."""

    @property
    def divided(self) -> bool:
        """Whether the file has other fragments."""
        return self.begin > 0 or self.end is not None


@dataclass(frozen=True)
class Listing:
    """What the paths of a source hold."""

    fragments: tuple[Fragment, ...]
    """Sorted by URL and place in the file; a Parquet file without row groups has none."""
    files: SourceFiles
    """The files in numbers, with those that are left out."""


def list_fragments(name: str, source: Source) -> Listing:
    """What the source called `name` holds; a file named twice counts once. Raises InputError for what cannot be found or read."""
    found, files = find_files(name, source.path)
    whole = [
        Fragment(
            name,
            file.url,
            file.format,
            file.compression,
            0,
            None,
            int(file.info.get("size") or 0),
            _identity(file.url, file.info),
        )
        for file in found
    ]
    for fragment in whole:
        if fragment.format != "txt":
            continue
        condition = () if source.where is None else check_condition(source.where)
        asked = {
            "domain": source.domain_keys,
            "keep": source.keep,
            "where": condition,
            "chat" if source.chat else "prompt": source.chat_columns,
        }
        lacking = [key for key, columns in asked.items() if any(hive_value(fragment.url, column) is None for column in columns)]
        for key in [*(["id"] if source.id else []), *lacking]:
            raise InputError(f"sources.{name}: {fragment.url}: a text file has no columns; leave '{key}' out")
    with ThreadPoolExecutor(16) as pool:
        parts = pool.map(_divide, whole)
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


def open_fragment(fragment: Fragment, extent: Extent) -> BinaryIO:
    """The fragment's file, open for reading; InputError if it is gone or is not the file that was listed.

    Of a remote file few blocks are kept, and where all is read the next one is on its way while one is parsed.
    """
    for function in _opening:
        function(fragment.url)
    with explain_read_errors(fragment.url):
        fs, path = open_file_system(fragment.url)
        fs.invalidate_cache(path)
        how: dict[str, Any] = {"cache_type": "none"}
        if extent != "all":
            how = {"cache_type": "blockcache", "cache_options": {"maxblocks": BLOCKS_KEPT}}
        opening = partial(fs.open, path, "rb", block_size=REMOTE_BLOCK_BYTES[extent], **how)
        opened = opening() if scheme_of(fragment.url) in EXTRAS else None  # what these packages ask at opening is all we ask
        info = opened.details if opened else fs.info(path)  # of this machine first: to open a pipe would wait
        if info["type"] != "file":
            raise InputError(f"{fragment.url}: not a regular file")
        if _identity(fragment.url, info) != fragment.identity:
            raise InputError(f"{fragment.url}: changed since it was listed; run the command again")
        file = cast(BinaryIO, opened or opening())
        if extent == "all" and info["size"] is not None and not is_local(fs):
            file = cast(BinaryIO, ReadAhead(file, info["size"], fragment.end))
        if (info["size"] or 0) < LARGEST_POINTER:
            content = name_content(file.read(START_BYTES))
            file.seek(0)
            if content in POINTERS:
                file.close()
                raise InputError(f"{fragment.url}: {explain_pointer(content)}")
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


def _divide(fragment: Fragment) -> list[Fragment]:
    """The fragments of a file, which is given as one."""
    large = fragment.size > FRAGMENT_BYTES
    if fragment.format == "parquet":
        return _join_units(fragment, _row_group_sizes(fragment))
    if not large or fragment.format not in ("arrow", "jsonl"):
        return [fragment]
    with explain_read_errors(fragment.url), open_fragment(fragment, "places") as file:
        if fragment.format == "arrow":
            sizes = _batch_sizes(file, fragment.size)
            return _join_units(fragment, sizes) if sizes else [fragment]
        begins = [0, *find_boundaries(file, fragment.url, fragment.compression, fragment.size, FRAGMENT_BYTES)]
    ends = [*begins[1:], fragment.size]
    pieces = [replace(fragment, begin=begin, end=end, size=end - begin) for begin, end in zip(begins, ends, strict=True)]
    return [*pieces[:-1], replace(pieces[-1], end=None)]


def _join_units(fragment: Fragment, sizes: list[int]) -> list[Fragment]:
    """Fragments of consecutive row groups or batches, which have these sizes."""
    ends = [0, *accumulate(sizes)]
    stored = [fragment.size * end // max(1, ends[-1]) for end in ends]  # they may be sizes unpacked
    begins = [0] if sizes else []
    for unit in range(1, len(sizes)):
        if stored[unit + 1] - stored[begins[-1]] > FRAGMENT_BYTES:
            begins.append(unit)
    return [
        replace(fragment, begin=begin, end=end, size=stored[len(sizes) if end is None else end] - stored[begin])
        for begin, end in zip(begins, [*begins[1:], None], strict=False)
    ]


def _row_group_sizes(fragment: Fragment) -> list[int]:
    """Bytes of each row group, unpacked: to look at a column's packed size aborts the process where the footer is damaged."""
    with explain_read_errors(fragment.url), open_fragment(fragment, "places") as file:
        try:
            footer = pq.ParquetFile(file, pre_buffer=False).metadata
        except pa.ArrowInvalid:
            refuse_what_follows(file, b"PAR1", fragment.url)
            raise
        return [footer.row_group(i).total_byte_size for i in range(footer.num_row_groups)]


def _batch_sizes(file: BinaryIO, size: int) -> list[int]:
    """Bytes of each record batch of an Arrow file; none where it is a stream, or damaged."""
    file.seek(0)
    if file.read(6) != b"ARROW1" or (found := read_arrow_footer(file, size)) is None:
        return []
    try:
        return [end - begin for begin, end in read_arrow_blocks(found[1])[1]]
    except (struct.error, IndexError):
        return []
