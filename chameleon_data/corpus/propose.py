"""Looks at a folder nobody has described yet, and proposes the sources of a recipe: which files belong together, which column
holds the text, and which tells the domain.

    folders below it        a source each; `key=value` folders are one source, whose domain is that key
    files in it             a source for each start of a name, such as code for code-00001-of-00012.jsonl
    train, test, … beside   train alone: text that others are measured on is not trained on

Only the first rows of a few files are read. A person corrects what is proposed wrongly, so each choice has its reason.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

from chameleon_data.corpus.file_systems import open_file_system, url_in
from chameleon_data.corpus.readers.first_records import first_records
from chameleon_data.corpus.source_files import COMPRESSION_OF_SUFFIX, FoundFile, find_files
from chameleon_data.errors import InputError

FILES_LOOKED_AT = 3
ROWS_LOOKED_AT = 64
"""Rows of each of these files."""
TEXT_KEYS = ("text", "raw_content", "content", "body", "document", "code", "article", "story", "markdown", "abstract")
"""Usual names of the column that holds the text, the surest first."""
DOMAIN_KEYS = ("domain", "source", "subset", "redpajama_set_name", "pile_set_name", "set_name", "category", "lang", "language")
"""Usual names of a column that tells where a row is from."""
ID_KEYS = ("id", "doc_id", "document_id", "uuid", "_id", "url", "blob_id", "warc_record_id")
"""Usual names of a column that tells rows apart."""
NAMES_OF_HELD_OUT = ("test", "validation", "valid", "val", "dev", "eval", "heldout", "held_out")
"""Usual names of what is not trained on."""
TRAINED = ("train", "training")
NO_NAMES = ("", "part", "shard", "data", "chunk", "file", "split", "output", "corpus", "documents", *TRAINED)
"""Starts of file names that say nothing of what a file holds."""
SHORT_TEXT = 40
"""Characters; a mean below is rarely that of documents."""
SMALL_SOURCE, SMALL_OF_ALL = 2**16, 1_000
"""Stored bytes of a source, and how often all sources hold its bytes: one with less of both may be a stray file."""
MOST_STEMS = 32
"""Starts of names that are taken for sources; where a folder has more, its files are one."""
NUMBERING = re.compile(r"([-_.]?(part|shard|chunk))?([-_.]?\d+)?([-_.]of[-_.]\d+)?([-_.]c\d+)?$", re.IGNORECASE)
_HIVE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=.*")


@dataclass(frozen=True)
class ProposedSource:
    """One source of the recipe."""

    name: str
    paths: tuple[str, ...]
    """Folders, files or patterns, below the folder that was looked at."""
    formats: tuple[str, ...]
    files: int
    bytes: int
    """Stored bytes of these files."""
    text: str | None
    """Column of the text; None where no column looks like one, or files have no columns (`txt`)."""
    domain: str | None
    """Column of the domain; None where all its rows are of one."""
    id: str | None
    """Column that tells rows apart, where one does; the recipe need not have it."""
    rows: int
    """Rows that were looked at."""
    characters: int
    """Mean length of their texts."""
    example: str
    """The start of one text."""
    notes: tuple[str, ...]
    """Sentences about what was chosen, or could not be."""


@dataclass(frozen=True)
class Proposal:
    """What a folder seems to hold."""

    folder: str
    sources: tuple[ProposedSource, ...]
    left_out: Mapping[str, int]
    """Reason -> files that no source takes."""


def propose_sources(folder: str) -> Proposal:
    """Look at a folder, or at what a URL names. Raises InputError where nothing in it can be read."""
    try:
        found, files = find_files("folder", [folder])
    except InputError as error:
        raise InputError(str(error).removeprefix("sources.folder: ")) from None
    fs, path = open_file_system(folder)
    root = url_in(fs, path).rstrip("/")
    if len(found) == 1 and found[0].url == root:
        raise InputError(f"{folder}: is one file; name the folder that holds your files")
    left_out = Counter(files.left_out)
    while len(first := {_inside(file.url, root)[0] for file in found}) == 1 and len(_inside(found[0].url, root)) > 1:
        (only,) = first
        if _HIVE.fullmatch(only):
            break
        root = f"{root}/{only}"
    groups = _group(found, root, left_out)
    names = _distinct(groups)
    alone = len(groups) == 1
    proposed = tuple(
        _propose(name, paths, files, hive, alone) for name, (_, paths, files, hive) in zip(names, groups, strict=True)
    )
    total = sum(source.bytes for source in proposed)
    return Proposal(folder, tuple(_doubt_small(source, total) for source in proposed), dict(left_out))


def _doubt_small(source: ProposedSource, total: int) -> ProposedSource:
    """With a note, where the source is a stray file rather than a domain. `total`: bytes of all sources."""
    if source.bytes >= SMALL_SOURCE or source.bytes * SMALL_OF_ALL >= total:
        return source
    note = f"{source.bytes:,} bytes of {total:,} are little for a domain; delete it here, or add its path to another source"
    return replace(source, notes=(*source.notes, note))


_Group = tuple[str, tuple[str, ...], list[FoundFile], str | None]
"""Name, paths, files, and the key of hive folders."""


def _inside(url: str, root: str) -> list[str]:
    return url.removeprefix(root).strip("/").split("/")


def _group(found: Sequence[FoundFile], root: str, left_out: Counter[str]) -> list[_Group]:
    """The files by source."""
    name = root.rpartition("/")[2] or "corpus"
    folders: dict[str, list[FoundFile]] = defaultdict(list)
    stems: dict[str, list[FoundFile]] = defaultdict(list)
    for file in found:
        first, *rest = _inside(file.url, root)
        if rest:
            folders[first].append(file)
        else:
            stems[_stem(first)].append(file)
    keys = {match[1] if (match := _HIVE.fullmatch(folder)) else None for folder in folders}
    if len(keys) == 1 and None not in keys and not stems:
        return [(name, (root,), list(found), keys.pop())]
    _leave_held_out(folders, left_out)
    _leave_held_out(stems, left_out)
    if not folders and (len(stems) == 1 or len(stems) > MOST_STEMS or all(stem.lower() in NO_NAMES for stem in stems)):
        whole = len(found) == sum(map(len, stems.values()))
        return [(name, (root,) if whole else _patterns(root, stems, found), [f for files in stems.values() for f in files], None)]
    groups: list[_Group] = [(folder, (f"{root}/{folder}",), files, None) for folder, files in sorted(folders.items())]
    if len(stems) > MOST_STEMS or (folders and stems and all(len(files) == 1 for files in stems.values()) and len(stems) > 1):
        together = [file for files in stems.values() for file in files]
        return [*groups, (name, tuple(sorted(file.url for file in together)), together, None)]
    for stem, files in sorted(stems.items()):
        taken = _patterns(root, {stem: files}, found)
        groups.append((stem if stem.lower() not in NO_NAMES else name, taken, files, None))
    return groups


def _stem(file: str) -> str:
    """The start of a file's name without endings and numbering."""
    name = file.partition(".")[0]
    return NUMBERING.sub("", name)


def _patterns(root: str, stems: Mapping[str, Sequence[FoundFile]], found: Sequence[FoundFile]) -> tuple[str, ...]:
    """Paths of the files of some stems: a pattern for each ending where one matches these files and no other of the folder, else
    their names."""
    names = [file.url.removeprefix(f"{root}/") for file in found]
    paths = list[str]()
    for stem, files in stems.items():
        by_ending: dict[str, set[str]] = defaultdict(set)
        for file in files:
            by_ending[_ending(file.url)].add(file.url.removeprefix(f"{root}/"))
        for ending, wanted in by_ending.items():
            tried = (f"{stem}*{ending}", f"{stem}[-_.]*{ending}", f"{stem}[0-9]*{ending}")
            exact = next((p for p in tried if len(wanted) > 1 and {n for n in names if fnmatchcase(n, p)} == wanted), None)
            paths += [f"{root}/{exact}"] if exact else [f"{root}/{name}" for name in sorted(wanted)]
    return tuple(sorted(paths))


def _ending(url: str) -> str:
    """The suffix of a file's name that says what it holds, with that of its compression."""
    path = PurePosixPath(url)
    inner = PurePosixPath(path.stem).suffix if path.suffix.lower() in COMPRESSION_OF_SUFFIX else ""
    return inner + path.suffix


def _leave_held_out(groups: dict[str, list[FoundFile]], left_out: Counter[str]) -> None:
    """Take out what looks like text to measure on, where there is text to train on beside it."""
    if any(name.lower() in TRAINED for name in groups):
        for name in [name for name in groups if name.lower() in NAMES_OF_HELD_OUT]:
            left_out[f"'{name}', which looks like held-out text"] += len(groups.pop(name))


def _distinct(groups: Sequence[_Group]) -> list[str]:
    """The names of the sources, told apart where two are the same."""
    seen, names = Counter[str](), list[str]()
    for name, _, files, _ in groups:
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}-{files[0].format}-{seen[name]}")
    return names


def _propose(name: str, paths: tuple[str, ...], files: Sequence[FoundFile], hive: str | None, alone: bool) -> ProposedSource:
    """Look into some files of a source. Where it is the only one, a column may tell domains."""
    notes = list[str]()
    formats = tuple(sorted({file.format for file in files}))
    rows = list[dict[str, Any]]()
    for file in _some_files(files):
        try:
            rows += first_records(file, ROWS_LOOKED_AT)
        except InputError as error:
            notes.append(f"{error}")
    columns = _strings_by_column(rows)
    text = _choose_text(columns, notes)
    texts = columns.get(text, []) if text else []
    if not texts and formats == ("txt",):
        notes.append("each file of text is one document")
    elif text is None and rows:
        notes.append(f"no column looks like text; the rows have {', '.join(sorted(map(str, rows[0]))) or 'none'}")
    if len(formats) > 1:
        notes.append(f"holds several formats ({', '.join(formats)}); if it holds one corpus twice, narrow the path")
    domain = hive or (_choose_domain(columns, text, notes) if alone else None)
    if not (alone or hive):
        notes += _suggest_domain(columns, text)
    mean = sum(map(len, texts)) // len(texts) if texts else 0
    size = sum(int(file.info.get("size") or 0) for file in files)
    example = " ".join(texts[0][:200].split())[:80] if texts else ""
    id = _choose_id(columns, len(rows))
    return ProposedSource(name, paths, formats, len(files), size, text, domain, id, len(rows), mean, example, tuple(notes))


def _some_files(files: Sequence[FoundFile]) -> list[FoundFile]:
    """The first, the middle and the last file, and the first of each format."""
    chosen = {0, len(files) // 2, len(files) - 1}
    seen = set[str]()
    for number, file in enumerate(files):
        if file.format not in seen:
            seen.add(file.format)
            chosen.add(number)
    return [files[number] for number in sorted(chosen)]


def _strings_by_column(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Column -> its strings. A field of a nested value is a column whose name has a dot."""
    columns: dict[str, list[str]] = defaultdict(list)

    def walk(values: Mapping[str, Any], before: str) -> Iterator[tuple[str, str]]:
        for key, value in values.items():
            if isinstance(value, Mapping):
                yield from walk(value, f"{before}{key}.")
            elif isinstance(value, str) and "." not in str(key):
                yield f"{before}{key}", value

    for row in rows:
        for column, value in walk(row, ""):
            columns[column].append(value)
    return dict(columns)


def _depth(column: str) -> int:
    """How deep a field is nested."""
    return column.count(".")


def _choose_text(columns: Mapping[str, Sequence[str]], notes: list[str]) -> str | None:
    if not columns:
        return None
    mean = {name: sum(map(len, values)) / len(values) for name, values in columns.items()}
    longest = max(mean, key=lambda name: mean[name])
    usual = next(
        (name for key in TEXT_KEYS for name in sorted(columns, key=_depth) if name.rpartition(".")[2].lower() == key), None
    )
    chosen = usual if usual is not None and mean[usual] * 2 >= min(mean[longest], 4 * SHORT_TEXT) else longest
    if mean[chosen] < SHORT_TEXT:
        notes.append(f"'{chosen}' is the longest text, but has {mean[chosen]:.0f} characters on average; are these documents?")
    elif chosen != longest:
        notes.append(f"'{chosen}' is taken for the text by its name; '{longest}' is longer ({mean[longest]:,.0f} characters)")
    elif usual is None:
        notes.append(f"'{chosen}' is taken for the text, as the longest column ({mean[chosen]:,.0f} characters)")
    return chosen


def _choose_domain(columns: Mapping[str, Sequence[str]], text: str | None, notes: list[str]) -> str | None:
    """A column with a usual name and few values, which come again."""
    for key in DOMAIN_KEYS:
        for column in sorted(columns, key=_depth):
            values = columns[column]
            seen = Counter(values)
            if column == text or column.rpartition(".")[2].lower() != key or len(seen) < 2 or len(seen) * 4 > len(values):
                continue
            some = ", ".join(value for value, _ in seen.most_common(4))
            notes.append(f"'{column}' tells {len(seen)} domains in the rows that were looked at: {some}")
            return column
    return None


def _suggest_domain(columns: Mapping[str, Sequence[str]], text: str | None) -> Iterator[str]:
    """A sentence on a column with a usual name, where the source has the domain of its own name among others."""
    named = [column for key in DOMAIN_KEYS for column in columns if column.rpartition(".")[2].lower() == key and column != text]
    for column in named[:1]:
        seen = Counter(columns[column])
        if len(seen) * 4 > len(columns[column]):  # of each row its own, such as a URL
            return
        some = ", ".join(value for value, _ in seen.most_common(3))
        yield f"has a column '{column}' ({some}, …); `domain: {column}` makes a domain of each of its values"


def _choose_id(columns: Mapping[str, Sequence[str]], rows: int) -> str | None:
    """A column with a usual name whose values all differ."""
    for key in ID_KEYS:
        for column in sorted(columns, key=_depth):
            values = columns[column]
            if column.rpartition(".")[2].lower() == key and len(values) == rows == len(set(values)):
                return column
    return None
