"""Finds the files of a source: what its paths, patterns and folders reach.

Everything that is reached is taken, refused, or counted among what is left out, with its reason. In a folder, and below a folder
that a pattern matches, the files with known endings are taken; a file that a pattern itself matches must have one. A name without
an ending, as Hadoop and Spark give, is known by its first bytes. Left out are

    names that begin with . or _   what writers leave behind, such as _temporary and ._x; not `_year=2020`, which is a key of hive
    endings that are not read      and names without an ending whose content is not known
    notes of libraries             dataset_info.json and LICENSE.txt beside data with other endings
    endings that lie               JSON in `.pq`, plain text in `.jsonl.xz`; refused where the path names the file itself
    second names                   a link beside its target, or a file that two patterns reach

Object stores have keys that are also prefixes: the file `a.jsonl` beside `a.jsonl/b.jsonl`. A pattern that matches both takes the
file. Cost: a listing for each pattern, or for each folder on its way; 1,000 local files take 0.2 s.
Why: docs/decisions/121-what-a-folder-holds.md.
"""

from __future__ import annotations

import difflib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from chameleon_data.corpus.content import (
    COMPRESSIONS,
    OTHER_ENCODINGS,
    PEEKED_BYTES,
    POINTERS,
    explain_pointer,
    name_content,
)
from chameleon_data.corpus.file_counts import SourceFiles
from chameleon_data.corpus.file_systems import (
    ListingEntry,
    explain_read_errors,
    is_local,
    open_file_system,
    pattern_matcher,
    url_in,
)
from chameleon_data.corpus.unpack import UNPACKING_ERRORS, unpack
from chameleon_data.errors import OS_ERROR_REMEDIES, InputError, explaining
from chameleon_data.store.urls import refuse_secrets

FORMAT_OF_SUFFIX = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".jsonlines": "jsonl", ".jl": "jsonl", ".json": "jsonl",
    ".csv": "csv", ".tsv": "tsv", ".txt": "txt", ".md": "txt",
    ".parquet": "parquet", ".pq": "parquet", ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow",
}  # fmt: skip
COMPRESSION_OF_SUFFIX = {".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zstd": "zstd", ".bz2": "bz2", ".xz": "xz"}
KNOWN_SUFFIXES = (
    ".jsonl .ndjson .jl .json .csv .tsv .txt .md (each also with .gz .zst .bz2 .xz), .parquet .pq .arrow .feather .ipc"
)
NOTES = re.compile(
    r"dataset_infos?\.json|dataset_dict\.json|state\.json"
    r"|cache-[0-9a-f]{16}(_\d{5}_of_\d{5})?\.arrow"  # what `Dataset.map` returned, kept beside the rows that it was given
)
"""Names, in lower case, of files that `datasets` writes beside its data."""
NOTES_BESIDE_OTHERS = re.compile(
    r"(config|index|manifest|metadata|schema|.+\.metadata)\.json"
    r"|(licen[cs]e|notice|readme|requirements|checksums?|(md5|sha1|sha256|sha512)sums?)\.txt"
)
"""Files that may be data, but are notes beside data with other endings; so is Markdown, in a folder of such data or above it."""
MOST_OPENED = 10_000
"""Files that one path reaches, up to which the start of each is compared with its ending. Of more, reading them tells it."""
MOST_NEIGHBOURS = 10_000
"""Files of a folder that are compared with the name of one that is missing."""
NO_ENDING = re.compile(r"|\.c?[0-9]+")
"""The last suffix of a name that does not say what the file holds, as of part-00000 and part-00000.c000."""
_MAGIC = re.compile(r"[*?\[]")

HIDDEN, NOTE, SECOND_NAME, SHADOWED, FOLDERS_NAME = (
    "a name that begins with . or _", "a note beside the data", "a second name of a file", "below the name of a file",
    "a name that ends with /",
)  # fmt: skip
FOLDER_MARKS = ("/", "_$folder$")
"""Ends of the keys that some tools put in an object store for a folder, with nothing in them; Hadoop's is the second."""
UNKNOWN = "no ending, and content that is not known"
JSON_LINES, TEXT = "JSON lines", "plain text"
STANDS_FOR_OTHERS = (*POINTERS, *OTHER_ENCODINGS)
"""Content that is not left out but refused, since data are missing with it."""
OWN_REFUSALS = (b"FEA1", b"PARE")
"""First bytes of Feather version 1 and of encrypted Parquet, which are refused as such."""
LONGEST_MAGIC = 10
"""Bytes of the longest mark that tells a content, that of bz2."""


@dataclass(frozen=True)
class FoundFile:
    """A file to read."""

    url: str
    """Absolute path on this machine, or a URL."""
    info: ListingEntry
    format: str
    """As in `Fragment`."""
    compression: str
    """As in `Fragment`."""


@dataclass(frozen=True)
class _Reached:
    """A file that a path of a source reaches."""

    info: ListingEntry
    named: bool
    """Whether the path names it or matches its own name, not a folder above it."""
    below: str | None
    """Folder or start of a pattern below which names count as hidden; None for a file that is named as it is."""


def find_files(name: str, paths: Sequence[str]) -> tuple[tuple[FoundFile, ...], SourceFiles]:
    """The files of the source called `name`, sorted by URL, and what was found in numbers.

    Raises InputError for what cannot be found or read.
    """
    left_out: Counter[str] = Counter()
    files: dict[Any, tuple[str, ListingEntry, str, str]] = {}  # by what tells one file from another
    for pattern in paths:
        refuse_secrets(pattern)
        where = f"sources.{name}: {pattern}"
        with explaining(where, {OSError: _explain_shortage}), explain_read_errors(where):
            fs, path = open_file_system(pattern)
            fs.invalidate_cache()
            for reached, kind in _take(fs, path, where, left_out):
                url = url_in(fs, reached.info["name"])
                key = _real_name(url) if is_local(fs) else url
                if key in files:
                    left_out[SECOND_NAME] += 1
                    if files[key][0] <= url:
                        continue
                files[key] = (url, reached.info, *kind)
    found = tuple(FoundFile(*file) for file in sorted(files.values(), key=lambda file: file[0]))
    read = Counter(file.format for file in found)
    return found, SourceFiles(dict(sorted(read.items())), dict(sorted((+left_out).items())))


def _explain_shortage(error: OSError) -> str | None:
    """What this machine lacks, such as open files. Nothing tries a listing again, as a task is."""
    return OS_ERROR_REMEDIES.get(error.errno or 0)


def kind_of_name(path: str) -> tuple[str, str] | None:
    """Format and compression by suffix; None where no reader fits."""
    name = PurePosixPath(path.lower())
    compression = COMPRESSION_OF_SUFFIX.get(name.suffix, "none")
    kind = FORMAT_OF_SUFFIX.get(name.suffix if compression == "none" else PurePosixPath(name.stem).suffix)
    if kind is None or (compression != "none" and kind in ("parquet", "arrow")):
        return None
    return kind, compression


def _take(fs: Any, path: str, where: str, left_out: Counter[str]) -> Iterator[tuple[_Reached, tuple[str, str]]]:
    """The files to read of one path, folder or pattern, with their format and compression; the others are counted."""
    taken: list[tuple[_Reached, tuple[str, str] | None]] = []
    for reached in _reach(fs, path, where, left_out):
        full = reached.info["name"]
        if _is_folder_mark(reached.info):
            continue
        if full.endswith("/"):
            left_out[FOLDERS_NAME] += 1
            continue
        if reached.below is not None and _hidden(full, reached.below):
            left_out[HIDDEN] += 1
            continue
        if not full.isprintable():  # it would stand in messages, manifests and quarantine lists
            raise InputError(f"{where}: {full!a} has characters in its name that are not printable; rename it")
        kind = kind_of_name(full)
        if reached.info["type"] != "file" and (kind or reached.named):
            raise InputError(f"{where}: {full} is not a regular file but a pipe, a device or a dead link; leave it out")
        taken.append((reached, kind))
    with ThreadPoolExecutor(16) as pool:
        unknown = [reached for reached, kind in taken if not kind and _says_nothing(reached.info["name"])]
        contents = dict(zip(map(id, unknown), pool.map(lambda r: _kind_of_content(fs, r.info["name"]), unknown), strict=True))
        known = [reached for reached, kind in taken if kind]
        lies = {}
        if len(known) <= MOST_OPENED:
            found = pool.map(lambda r: _content_that_differs(fs, r.info), known)
            lies = {id(reached): content for reached, content in zip(known, found, strict=True) if content}
    data = [r.info["name"] for r, kind in taken if kind and not _may_be_note(r.info["name"])]
    suffixes, holders = {_suffix(name) for name in data}, _folders_above(data)
    number = 0
    for reached, kind in taken:
        full = reached.info["name"]
        kind = kind or contents.get(id(reached))
        if not kind and reached.named:
            raise InputError(f"{where}: {full} has a suffix that no reader knows; narrow the pattern. Known are {KNOWN_SUFFIXES}")
        if not kind:
            left_out[UNKNOWN if _says_nothing(full) else f"ending {_suffix(full)}"] += 1
        elif reached.below is not None and _is_note(full, suffixes, holders):
            left_out[NOTE] += 1
        elif (content := lies.get(id(reached))) and full.rstrip("/") == path.rstrip("/") and kind[0] in ("parquet", "arrow"):
            raise InputError(f"{where}: its name ends with {_suffix(full)}, but it holds {content}; name it as what it is")
        elif content and full.rstrip("/") != path.rstrip("/"):  # a text file that is named is refused when it is read
            left_out[f"ending {_suffix(full)} that holds {content}"] += 1
        else:
            number += 1
            yield reached, kind
    if not number:
        for reached, _ in taken:
            if content := lies.get(id(reached)):
                lying = f"{PurePosixPath(reached.info['name']).name} holds {content}"
                raise InputError(f"{where}: no file there holds what its name says, {lying}; name it as what it is")
        raise InputError(f"{where}: no file there has a suffix that can be read; known are {KNOWN_SUFFIXES}")


def _reach(fs: Any, path: str, where: str, left_out: Counter[str]) -> Iterator[_Reached]:
    """Every file that a path, folder or pattern reaches; what a name that exists looks like does not matter."""
    if not _MAGIC.search(path) or _exists(fs, path):
        if is_local(fs) and not os.path.lexists(path):
            raise InputError(f"{where}: no such file; {_near(Path(path))}")
        info = fs.info(path)
        if info["type"] != "directory":
            if not is_local(fs):  # a key may also be the beginning of others
                name = info["name"].rstrip("/")
                left_out[SHADOWED] += sum(below["name"].rstrip("/") != name for below in _files_below(fs, name))
            yield _Reached(info, True, None)
        else:
            yield from (_Reached(below, False, path) for below in _files_below(fs, path))
        return
    root, parts = _split_pattern(fs, path)
    asked = any(_is_hidden(part) for part in parts)  # the pattern itself asks for such names
    matches: dict[str, list[ListingEntry]] = {}
    try:
        for info in _expand(fs, root, parts):
            matches.setdefault(info["name"].rstrip("/"), []).append(info)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    if not matches:
        raise InputError(f"{where} matches no file; check the path, or name a folder")
    for name, infos in matches.items():
        files = [info for info in infos if info["type"] != "directory"]
        yield from (_Reached(info, True, None if asked else root) for info in files)
        if len(files) < len(infos):
            below = [info for info in _files_below(fs, name) if not _is_folder_mark(info)]
            if files:
                left_out[SHADOWED] += sum(info["name"].rstrip("/") != name for info in below)
            elif not asked and _hidden(name, root):
                left_out[HIDDEN] += len(below)
            else:
                yield from (_Reached(info, False, name) for info in below if info["name"] not in matches)


def _is_folder_mark(info: ListingEntry) -> bool:
    """Whether this is an empty object that stands for a folder."""
    return info["name"].endswith(FOLDER_MARKS) and not info["size"]


def _split_pattern(fs: Any, path: str) -> tuple[str, list[str]]:
    """The folder that a pattern starts at, and its parts from there on. A part that is the name of a folder is that name."""
    parts = path.split("/")
    count = 0
    while count < len(parts) - 1:
        if _MAGIC.search(parts[count]) and not _exists(fs, "/".join(parts[: count + 1])):
            break
        count += 1
    return "/".join(parts[:count]), parts[count:]


def _expand(fs: Any, root: str, parts: Sequence[str]) -> Iterator[ListingEntry]:
    """The files and folders below `root` that the parts of a pattern match."""
    part, *rest = parts
    if part == "**":
        matches = pattern_matcher("/".join(parts))
        folders: set[str] = set()
        for info in _files_below(fs, root):
            inside = info["name"][len(root) :].lstrip("/")
            if matches(inside):
                yield info
            names = inside.split("/")[:-1]
            above = ("/".join(names[:end]) for end in range(1, len(names) + 1))
            for folder in (folder for folder in above if folder not in folders and matches(folder)):
                folders.add(folder)
                yield {"name": f"{root}/{folder}", "type": "directory", "size": 0}
        return
    literal = not _MAGIC.search(part)
    matches = pattern_matcher(part)
    for info in _children(fs, root):
        name = info["name"].rstrip("/").rpartition("/")[2]
        if name == part if literal else matches(name):
            if not rest:
                yield info
            elif info["type"] == "directory":
                yield from _expand(fs, info["name"].rstrip("/"), rest)


def _children(fs: Any, folder: str) -> Iterable[ListingEntry]:
    """What lies in a folder itself. In an object store one name may be a file and a folder."""
    if is_local(fs):
        return _walk(fs, folder or "/", depth=1)
    try:
        return [info for info in fs.ls(folder, detail=True) if info["name"].rstrip("/") != folder.rstrip("/")]
    except FileNotFoundError:
        return []


def _files_below(fs: Any, folder: str) -> Iterable[ListingEntry]:
    """The files in a folder and below it."""
    if is_local(fs):
        return (info for info in _walk(fs, folder or "/") if info["type"] != "directory")
    return [info for info in fs.find(folder, detail=True).values() if info["type"] != "directory"]


def _walk(fs: Any, folder: str, depth: int | None = None, above: tuple[str, ...] = ()) -> Iterator[ListingEntry]:
    """Everything below a local folder in the order of names. Links are followed, but not in a circle."""
    real = os.path.realpath(folder)
    if real in above or depth == 0 or not Path(folder).is_dir():
        return
    for path in sorted(map(str, Path(folder).iterdir())):
        try:
            info: ListingEntry = fs.info(path)
        except OSError:  # a dead link, or one that loops
            info = {"name": path, "type": "other", "size": 0}
        yield info
        if info["type"] == "directory":
            yield from _walk(fs, path, None if depth is None else depth - 1, (*above, real))


def _exists(fs: Any, path: str) -> bool:
    return os.path.lexists(path) if is_local(fs) else bool(fs.exists(path))


def _real_name(path: str) -> tuple[int, int] | str:
    """What all names of a local file share: for a file with several hard links its inode, else the path that links lead to."""
    status = Path(path).stat()
    return (status.st_dev, status.st_ino) if status.st_nlink > 1 else os.path.realpath(path)


def _near(path: Path) -> str:
    """A remedy: the file that was probably meant."""
    beside = [other.name for other in islice(path.parent.iterdir(), MOST_NEIGHBOURS)] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, beside, n=1, cutoff=0.8)
    return f"did you mean {path.parent / close[0]}?" if close else "check the path"


def _hidden(path: str, root: str) -> bool:
    return any(map(_is_hidden, path[len(root) :].strip("/").split("/")))


def _is_hidden(name: str) -> bool:
    """Whether Spark hides a file of this name. A key of hive may begin with an underscore."""
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def _suffix(path: str) -> str:
    """The last suffix of a name, with the one before it where that is a compression's."""
    name = PurePosixPath(path.lower())
    return (PurePosixPath(name.stem).suffix if name.suffix in COMPRESSION_OF_SUFFIX else "") + name.suffix


def _says_nothing(path: str) -> bool:
    """Whether a name says nothing about the content of its file."""
    name = PurePosixPath(path.lower())
    inner = PurePosixPath(name.stem) if name.suffix in COMPRESSION_OF_SUFFIX else name
    return NO_ENDING.fullmatch(inner.suffix) is not None


def _may_be_note(path: str) -> bool:
    name = PurePosixPath(path.lower())
    return bool(NOTES.fullmatch(name.name) or NOTES_BESIDE_OTHERS.fullmatch(name.name)) or name.suffix == ".md"


def _is_note(path: str, suffixes: set[str], holders: set[str]) -> bool:
    """Whether this is a note. `suffixes` are those of the data that the path reaches, `holders` the folders in which, or below
    which, they lie."""
    name = PurePosixPath(path.lower())
    if name.suffix == ".md":
        return path.rpartition("/")[0] in holders
    beside_others = NOTES_BESIDE_OTHERS.fullmatch(name.name) and _suffix(path) not in suffixes
    return bool(suffixes and (NOTES.fullmatch(name.name) or beside_others))


def _folders_above(paths: Iterable[str]) -> set[str]:
    """All folders in which, or below which, these files lie."""
    found: set[str] = set()
    for folder in {path.rpartition("/")[0] for path in paths}:
        above = folder
        while above not in found:
            found.add(above)
            above = above.rpartition("/")[0]
    return found


def _content_that_differs(fs: Any, info: ListingEntry) -> str | None:
    """What a file holds by its first bytes, where its ending says something else. None: it may hold what it says."""
    kind = kind_of_name(info["name"])
    if kind is None or info["type"] != "file":
        return None
    with fs.open(info["name"], "rb", block_size=PEEKED_BYTES) as file:
        start = file.read(PEEKED_BYTES)
    content, (format, compression) = name_content(start), kind
    if len(start) < LONGEST_MAGIC or start[:4] in OWN_REFUSALS or content in STANDS_FOR_OTHERS:
        return None  # what is cut, and what has a sentence of its own, is refused when it is read
    if compression != "none":
        return None if content == compression else content or _name_text(start)
    if format in ("parquet", "arrow"):
        return None if content.lower() == format else content or _name_text(start)
    return content or (JSON_LINES if format in ("csv", "tsv") and _name_text(start) == JSON_LINES else None)


def _name_text(start: bytes) -> str | None:
    """What text is called in messages; None where the bytes are no text."""
    line = start.removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")[0]
    if line.startswith(b"{"):
        with suppress(ValueError):
            return JSON_LINES if isinstance(orjson.loads(line), dict) else TEXT
    text = start.decode("utf-8", errors="ignore")
    return TEXT if len(text.encode()) >= len(start) - 3 and "\0" not in text else None  # a letter may be cut at the end


def _kind_of_content(fs: Any, path: str) -> tuple[str, str] | None:
    """Format and compression by the first bytes of a file; None where these do not say."""
    with fs.open(path, "rb", block_size=PEEKED_BYTES) as file:
        start = file.read(PEEKED_BYTES)
        file.seek(0)
        content, compression = name_content(start), "none"
        if content in COMPRESSIONS:
            compression, start = content, b""
            with suppress(*UNPACKING_ERRORS):  # reading the file raises them again
                start = unpack(file, path, compression).read(PEEKED_BYTES)
            content = name_content(start)
    if content in POINTERS:
        raise InputError(f"{path}: {explain_pointer(content)}")
    if content in ("Parquet", "Arrow") and compression == "none":
        return content.lower(), compression
    if content:
        return None
    line, end, _ = start.removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")
    if re.match(rb"\[\s*\{", start.lstrip()):
        return "jsonl", compression
    if not line.startswith(b"{"):
        return None
    if end or len(start) < PEEKED_BYTES:
        with suppress(ValueError):
            return ("jsonl", compression) if isinstance(orjson.loads(line), dict) else None
        return None
    return "jsonl", compression
