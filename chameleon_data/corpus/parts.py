"""Parts: consecutive fragments of one source, which one task reads.

The key of a part names all that its record depends on: the identities of its fragments, how these are read, and the token unit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import pyarrow as pa

from chameleon_data.corpus.fragments import Fragment
from chameleon_data.corpus.sample import SampleSpec
from chameleon_data.hashing import HASH_FUNCTION, fingerprint
from chameleon_data.recipe import Input, LabelledSource, Source
from chameleon_data.store.adapters import type_adapter
from chameleon_data.store.numbered_rows import NumberedRows, write_numbered_rows
from chameleon_data.store.paths import PART_LISTS, survey_path
from chameleon_data.store.store import Store

SURVEY_FORMAT = 9
"""Part of every key. Raise it when a part's tables change, or what is counted."""
PART_BYTES = 32 * 2**20
PART_FILES = 4096

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


@dataclass(frozen=True)
class Part:
    """What one task reads: consecutive fragments of one source."""

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

    read_as = {name: source.model_dump_json() for name, source in {part.source: part.read_as for part in parts}.items()}
    columns = [
        np.repeat(np.arange(len(parts)), counts),
        of_part([part.key for part in parts]),
        of_part([part.sample for part in parts]),
        of_part([part.source for part in parts]),
        of_part([read_as[part.source] for part in parts]),
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


def split_parts(
    fragments: Mapping[str, Sequence[Fragment]],
    sources: Mapping[str, Source],
    input: Input,
    spec: SampleSpec,
    counter_fingerprint: str,
) -> tuple[Part, ...]:
    """Group the fragments of each source, by its name, into parts of about 32 MiB as stored.

    In a part the fragments of a file that follow each other become one.
    """
    parts, sample = [], f"sample-{fingerprint(asdict(spec))[:16]}.parquet"
    for name, fragments_of_source in fragments.items():
        read_as = sources[name].model_copy(update={"path": sources[name].path[:1]})
        for group in _group(fragments_of_source):
            key = _part_key(name, read_as, input, spec.column, counter_fingerprint, group)
            parts.append(Part(key, name, read_as, group, sample, (0,) * len(group)))
    return tuple(parts)


def _group(fragments: Sequence[Fragment]) -> Iterator[tuple[Fragment, ...]]:
    group, size = list[Fragment](), 0
    for fragment in fragments:
        if group and (size + fragment.size > PART_BYTES or len(group) >= PART_FILES):
            yield tuple(group)
            group, size = [], 0
        if group and (group[-1].url, group[-1].end) == (fragment.url, fragment.begin):
            last = group.pop()
            group.append(replace(last, end=fragment.end, size=last.size + fragment.size))
        else:
            group.append(fragment)
        size += fragment.size
    if group:
        yield tuple(group)


def _part_key(
    name: str, source: Source, input: Input, vectors: str | None, counter_fingerprint: str, group: Sequence[Fragment]
) -> str:
    reader: dict[str, object] = {
        "text": [source.chat, source.tools, source.prompt, source.completion] if source.is_chat else source.text,
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
    if isinstance(source, LabelledSource):
        reader |= {"topics": source.topics, "seed": source.seed, "window": source.window}
    identities = [[f.url, f.begin, f.end, f.identity] for f in group]
    return fingerprint({"format": SURVEY_FORMAT, "reader": reader, "fragments": identities})
