"""Parts: fragments of one source, which one task reads.

The key of a part names all that its record depends on: the identities of its fragments, how these are read, and the token unit.

How large parts are is chosen for the corpus as it is, and a corpus grows. So a *division* records which fragments each part of a
source had. A part stays what it was, and its record is used, as long as its files are what they were and it holds at least half
of the smallest size; all other fragments are grouped anew, at the size for the corpus as it is now. A file that is added makes
no other part be read again but those that were so small. Without a division (caches were removed) everything is grouped anew.
Why: docs/decisions/152-sizes-of-parts.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from chameleon_data.corpus.fragments import Fragment
from chameleon_data.corpus.sample import SampleSpec
from chameleon_data.corpus.tokens import TokenCounter
from chameleon_data.corpus.topics import TOPICS_FORMAT
from chameleon_data.hashing import HASH_FUNCTION, fingerprint
from chameleon_data.recipe import Input, LabelledSource, Source
from chameleon_data.store.adapters import type_adapter
from chameleon_data.store.checksummed import read_table, write_table
from chameleon_data.store.numbered_rows import NumberedRows, write_numbered_rows
from chameleon_data.store.paths import DIVISIONS, PART_LISTS, assigned_path, division_path, survey_path
from chameleon_data.store.store import Store

SURVEY_FORMAT = 10
"""Part of every key. Raise it when a part's tables change, or what is counted."""
PART_BYTES = 32 * 2**20
"""Stored bytes of a part of a small corpus."""
LARGEST_PART_BYTES = 2**30
"""Stored bytes of a part of a large one: a task of half a minute, where bytes are counted."""
LARGEST_TOKENISED_BYTES = 2**27
"""The same where a tokenizer counts, which is slower by far."""
PARTS = 4096
"""Parts of a corpus, about, above which they grow."""
PART_FILES = 4096
DIVISIONS_AT_ONCE = 16
"""Divisions that are read or written at once."""

_PART_SCHEMA = pa.schema(
    [
        ("number", pa.int64()),
        ("key", pa.large_string()),
        ("sample", pa.large_string()),
        ("source", pa.large_string()),
        ("read_as", pa.large_string()),
        ("url", pa.large_string()),
        ("format", pa.large_string()),
        ("compression", pa.large_string()),
        ("begin", pa.int64()),
        ("end", pa.int64()),
        ("size", pa.int64()),
        ("identity", pa.large_string()),
        ("first_row", pa.int64()),
    ]
)
"""A list of parts on the store, one row a fragment. `number` is the part's; `read_as` is JSON; an `end` of -1 is the file's."""
_DIVISION_SCHEMA = pa.schema(
    [
        ("part", pa.int64()),
        ("url", pa.large_string()),
        ("begin", pa.int64()),
        ("end", pa.int64()),
        ("identity", pa.large_string()),
    ]
)
"""A division, one row a fragment; `end` as above."""
Division = tuple[tuple[tuple[str, int, int | None, str], ...], ...]
"""For each part of a source its fragments: URL, begin, end, identity."""


@dataclass(frozen=True)
class Part:
    """What one task reads: fragments of one source."""

    key: str
    """Fingerprint of all that its record depends on."""
    source: str
    """Name of the source."""
    read_as: Source
    """The source, which says how rows are read. Of its paths it holds the first alone, as there may be many."""
    fragments: tuple[Fragment, ...]
    sample: str
    """Name of the file with what it offers to the sample."""
    first_rows: tuple[int, ...]
    """Number in its file of each fragment's first row; 0 before the survey, which counts the rows of the fragments before it."""

    def path(self, name: str) -> str:
        """Where a file of the record lies on the store."""
        return survey_path(self.key, name)


@dataclass(frozen=True)
class PartList:
    """The parts of a corpus, on a store: a task that gets the number of a part reads that part alone."""

    store: Store
    rows: NumberedRows

    def read(self, number: int) -> Part:
        rows = self.rows.read(self.store, number)
        fragments = tuple(
            Fragment(
                row["source"],
                row["url"],
                row["format"],
                row["compression"],
                row["begin"],
                None if row["end"] < 0 else row["end"],
                row["size"],
                row["identity"],
            )
            for row in rows.to_pylist()
        )
        key, source, read_as, sample = (rows[name][0].as_py() for name in ("key", "source", "read_as", "sample"))
        first_rows = tuple(rows["first_row"].to_pylist())
        source_as_read = type_adapter(LabelledSource | Source).validate_json(read_as)
        return Part(key, source, source_as_read, fragments, sample, first_rows)


def write_part_list(store: Store, parts: Sequence[Part]) -> PartList:
    """Put the list of all parts on the store, for the tasks of a pass."""
    fragments = [fragment for part in parts for fragment in part.fragments]
    counts = np.array([len(part.fragments) for part in parts], np.int64)

    def of_part(values: Sequence[str]) -> pa.Array:
        """A value of each part, for each of its fragments."""
        codes, names = pa.array(values, pa.large_string()).dictionary_encode().indices, dict.fromkeys(values)
        return pa.array(list(names), pa.large_string()).take(pa.array(np.repeat(codes.to_numpy(), counts)))

    columns = [
        np.repeat(np.arange(len(parts)), counts),
        of_part([part.key for part in parts]),
        of_part([part.sample for part in parts]),
        of_part([part.source for part in parts]),
        of_part([part.read_as.model_dump_json() for part in parts]),
        [fragment.url for fragment in fragments],
        [fragment.format for fragment in fragments],
        [fragment.compression for fragment in fragments],
        [fragment.begin for fragment in fragments],
        [-1 if fragment.end is None else fragment.end for fragment in fragments],
        [fragment.size for fragment in fragments],
        [fragment.identity for fragment in fragments],
        [row for part in parts for row in part.first_rows],
    ]
    return PartList(store, write_numbered_rows(store, PART_LISTS, pa.table(columns, schema=_PART_SCHEMA)))


def name_files(part: Part) -> str:
    """The files of a part, for a message."""
    urls = list(dict.fromkeys(fragment.url for fragment in part.fragments))
    return urls[0] if len(urls) == 1 else f"{len(urls):,} files from {urls[0]} to {urls[-1]}"


def part_bytes(part: Part) -> int:
    """Stored bytes of a part's files, by which progress is told; at least one."""
    return max(1, sum(fragment.size for fragment in part.fragments))


def choose_part_bytes(corpus_bytes: int, tokenised: bool) -> int:
    """Stored bytes of a part, for a corpus of so many: from 32 MiB to 1 GiB, or 128 MiB where a tokenizer counts."""
    size, largest = PART_BYTES, LARGEST_TOKENISED_BYTES if tokenised else LARGEST_PART_BYTES
    while size < largest and corpus_bytes > PARTS * size:
        size *= 2
    return size


def split_parts(
    fragments: Mapping[str, Sequence[Fragment]],
    sources: Mapping[str, Source],
    input: Input,
    spec: SampleSpec,
    counter: TokenCounter,
    store: Store | None = None,
) -> tuple[Part, ...]:
    """Group the fragments of each source, by its name, into parts, which stay what they were by the divisions in `store`.

    In a part the fragments of a file that follow each other become one. The divisions are recorded.
    """
    readers = {name: _describe_reader(name, sources[name], input, spec.column, counter.fingerprint) for name in fragments}
    paths = {name: division_path(fingerprint([SURVEY_FORMAT, reader])) for name, reader in readers.items()}
    divisions = _read_divisions(store, paths) if store else {}
    size = choose_part_bytes(sum(f.size for some in fragments.values() for f in some), bool(counter.definition))
    parts, sample = list[Part](), f"sample-{fingerprint(asdict(spec))[:16]}.parquet"
    found: dict[str, Division] = {}
    for name, of_source in fragments.items():
        source = sources[name].model_copy(update={"path": sources[name].path[:1]})
        groups = _group(of_source, size, divisions.get(name, ()))
        found[name] = tuple(tuple((f.url, f.begin, f.end, f.identity) for f in group) for group in groups)
        for group, places in zip(groups, found[name], strict=True):
            key = fingerprint({"format": SURVEY_FORMAT, "reader": readers[name], "fragments": list(map(list, places))})
            read_as = _name_assigned(source, input, spec, places)
            parts.append(Part(key, name, read_as, group, sample, (0,) * len(group)))
    if store:
        _write_divisions(store, {paths[name]: found[name] for name in found if found[name] != divisions.get(name)})
    return tuple(parts)


def _name_assigned(source: Source, input: Input, spec: SampleSpec, places: Sequence[object]) -> Source:
    """The source of a part, with the name of the record of its texts' topics, where vectors decide them. The name stays where
    only the tokenizer, the kept columns or the source's name change."""
    if not isinstance(source, LabelledSource) or source.embedder is None:
        return source
    texts = [source.text, source.chat, source.tools, source.prompt, source.completion, source.template, source.where, spec.turns]
    part = fingerprint([TOPICS_FORMAT, source.embedder, source.seed, source.window, texts, input.max_document, places])
    return source.model_copy(update={"assigned": assigned_path(source.topics, part)})


def _group(fragments: Sequence[Fragment], size: int, division: Division) -> list[tuple[Fragment, ...]]:
    """Groups of fragments by their first ones: those of the division that stay, and the others of about `size` bytes."""
    place_of = {(f.url, f.begin): place for place, f in enumerate(fragments)}
    groups = [places for group in division if (places := _find_again(fragments, place_of, group))]
    stay = {place for places in groups for place in places}
    group, held = list[int](), 0
    for place, fragment in enumerate(fragments):
        if place in stay:
            continue
        if group and (held + fragment.size > size or len(group) >= PART_FILES):
            groups.append(group)
            group, held = [], 0
        group.append(place)
        held += fragment.size
    if group:
        groups.append(group)
    return [_join([fragments[place] for place in places]) for places in sorted(groups)]


def _find_again(
    fragments: Sequence[Fragment], place_of: Mapping[tuple[str, int], int], group: tuple[tuple[str, int, int | None, str], ...]
) -> list[int]:
    """Places of the fragments that a part had; none where one is not what it was, or the part is too small to stay."""
    places = []
    for url, begin, end, identity in group:
        place = place_of.get((url, begin))
        while place is not None:
            fragment = fragments[place]
            places.append(place)
            if fragment.identity != identity:
                return []
            if fragment.end == end:
                break
            place = place_of.get((url, fragment.end)) if fragment.end is not None else None
        if place is None:
            return []
    return places if sum(fragments[place].size for place in places) >= PART_BYTES // 2 else []


def _join(group: Sequence[Fragment]) -> tuple[Fragment, ...]:
    """The same stretches in fewer fragments."""
    joined: list[Fragment] = []
    for fragment in group:
        if joined and (joined[-1].url, joined[-1].end) == (fragment.url, fragment.begin):
            last = joined.pop()
            fragment = replace(last, end=fragment.end, size=last.size + fragment.size)
        joined.append(fragment)
    return tuple(joined)


def _read_divisions(store: Store, paths: Mapping[str, str]) -> dict[str, Division]:
    """Source -> how it was divided, of those that were."""
    here = store.list(DIVISIONS)
    there = {name: path for name, path in paths.items() if path in here}
    with ThreadPoolExecutor(DIVISIONS_AT_ONCE) as pool:
        tables = pool.map(lambda path: read_table(store, path), there.values())
        return {name: _decode_division(table) for name, table in zip(there, tables, strict=True)}


def _decode_division(table: pa.Table) -> Division:
    groups = defaultdict[int, list[tuple[str, int, int | None, str]]](list)
    for row in table.to_pylist():
        groups[row["part"]].append((row["url"], row["begin"], None if row["end"] < 0 else row["end"], row["identity"]))
    return tuple(tuple(group) for group in groups.values())


def _write_divisions(store: Store, divisions: Mapping[str, Division]) -> None:
    """Path -> division, in place of what was there."""

    def write(path: str) -> None:
        rows = [
            {"part": part, "url": url, "begin": begin, "end": -1 if end is None else end, "identity": identity}
            for part, group in enumerate(divisions[path])
            for url, begin, end, identity in group
        ]
        write_table(store, path, pa.Table.from_pylist(rows, _DIVISION_SCHEMA))

    with ThreadPoolExecutor(DIVISIONS_AT_ONCE) as pool:
        list(pool.map(write, divisions))


def _describe_reader(name: str, source: Source, input: Input, vectors: str | None, counter_fingerprint: str) -> dict[str, Any]:
    """All that decides what is read of a fragment, and recorded."""
    reader: dict[str, Any] = {
        "text": [source.chat, source.tools, source.prompt, source.completion] if source.holds_turns else source.text,
        "id": source.id,
        "domain": source.domain,
        "rename": source.rename,
        "keep": source.keep,
        "where": source.where,
        "name": name,
        "max_document": input.max_document,
        "hash": [HASH_FUNCTION, input.hash],
        "tokens": counter_fingerprint,
        "vectors": vectors,
    }
    if source.template is not None:
        reader["template"] = source.template
    if isinstance(source, LabelledSource):
        reader |= {"topics": source.topics, "seed": source.seed, "window": source.window, "embedder": source.embedder}
    return reader
