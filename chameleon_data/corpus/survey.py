"""The survey: one pass over the corpus that counts everything the plan needs.

The corpus is read in *parts*: one large file, or some small ones. Each part leaves four files on the store, under a key of what
they depend on: the identities of its fragments, how these are read, and the token unit. The files are

    documents.parquet       hash, tokens and bytes of each row in the order of reading, 20 to 30 bytes a row
    quarantine.parquet      the rows that cannot be used
    sample-<spec>.parquet   what the part offers to a sample; another seed, number or window makes another one
    summary.json            its counts (`PartSummary`), written last: a part that has one is recorded

Where there is room, its rows are kept too (`kept_rows.py`). A part that is recorded is not read again; where only another sample
is asked for, it is drawn from the rows kept. The survey is the sum of its parts, so nothing depends on how the corpus is split.
"""

from __future__ import annotations

import math
import tempfile
import time
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from chameleon_data.arrays import I64, U64, Mask, byte_lengths
from chameleon_data.corpus.conversations import field_kinds, order_fields, shown_texts
from chameleon_data.corpus.file_counts import SourceFiles
from chameleon_data.corpus.fragments import Fragment
from chameleon_data.corpus.kept_columns import (
    ColumnTally,
    KeptColumn,
    encode_columns,
    join_columns,
    join_kinds,
    mix_columns,
    split_columns,
)
from chameleon_data.corpus.kept_rows import RowKeeper, check_kept_rows, open_kept_file, read_kept_files
from chameleon_data.corpus.parts import Part, choose_part_bytes, part_bytes
from chameleon_data.corpus.readers.blocks import BLOCK_BYTES, read_blocks
from chameleon_data.corpus.readers.rows import REASONS, BadRow, Block, Fault
from chameleon_data.corpus.row_store import RowStore
from chameleon_data.corpus.sample import SAMPLE_SCHEMA, SampleSpec, merge_samples, sample_candidates
from chameleon_data.corpus.tokens import LONG_LEFT_OUT, SPELLS_END, TEMPLATE_REFUSES, TOKENIZER_FAILS, TOO_LONG, TokenCounter
from chameleon_data.errors import InputError
from chameleon_data.hashing import MODULUS, content_hashes, multiset_hash
from chameleon_data.recipe import Input, LabelledSource, Source
from chameleon_data.store.adapters import type_adapter
from chameleon_data.store.checksummed import (
    GroupWriter,
    read_groups,
    read_record,
    read_table,
    write_record,
    write_sealed,
    write_table,
)
from chameleon_data.store.paths import SURVEY_CACHE
from chameleon_data.store.store import Store

SUMMARY_FORMAT = 4
"""Raise it when a field of `PartSummary` changes. A part whose summary has another number is surveyed again."""
SUMMARIES_AT_ONCE = 16
"""Summaries that are read at once."""
LONG_TASK_SECONDS = 60.0
"""A file that one task reads for longer is told."""
MOST_DOMAINS = 2**16
"""Domains of a corpus. This is ten times the largest corpus that was weighed; a column with more values holds no domains."""

ROW_RECORD_SCHEMA = pa.schema(
    [
        ("domain", pa.dictionary(pa.int32(), pa.string())),
        ("hi", pa.uint64()),
        ("lo", pa.uint64()),
        ("tokens", pa.int64()),
        ("bytes", pa.int64()),
    ]
)
"""`documents.parquet`. A row of 0 tokens is in quarantine, and stands here so that a second reading sees the same rows."""
QUARANTINE_SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("fragment", pa.int32()),
        ("row", pa.int64()),
        ("domain", pa.string()),
        ("reason", pa.string()),
    ]
)
"""`quarantine.parquet`; as in `BadRow`. `fragment` is the number of the fragment in the part."""
COUNT_FILES = ("documents.parquet", "quarantine.parquet", "summary.json")
"""A part's record but for the sample."""
BLANK_REASONS = (REASONS[Fault.BLANK], REASONS[Fault.NULL_TEXT])
"""The reasons that `input.max_blank` counts; `input.max_bad` counts the others."""
TOKEN_FAULTS = {
    0: "no tokens",
    SPELLS_END: "the tokenizer makes end-of-text of what the text says",
    TOKENIZER_FAILS: "the tokenizer fails on the text",
    TEMPLATE_REFUSES: "the chat template refuses the conversation",
    TOO_LONG: "longer than a sequence",
}
"""The reasons for texts that the tokenizer cannot use, by what it counts; they stand beside those of the readers."""
DROP_RULE = "shards.overlong: drop"
"""The rule by which conversations that are longer than a sequence are filtered; it stands beside the sources' conditions."""


@dataclass(frozen=True)
class Tally:
    """Counts of one domain; they add up."""

    read: int = 0
    """Rows, usable or not."""
    rows: int = 0
    """Usable rows."""
    tokens: int = 0
    bytes: int = 0
    """Bytes of the usable texts in UTF-8."""
    largest: int = 0
    """Most tokens of a document."""
    multiset: int = 0
    """Sum of the content hashes modulo 2^128."""
    quarantined: int = 0
    """Rows that cannot be used."""
    unembedded: int = 0
    """Rows without a usable vector in `embed.column`; they are written, and are not in the sample."""
    filtered: int = 0
    """Rows that the source's condition leaves out, and those of DROP_RULE."""
    dropped: int = 0
    """Those of DROP_RULE alone."""
    cut: int = 0
    """Usable conversations that are cut at the end of a sequence."""

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.read + other.read,
            self.rows + other.rows,
            self.tokens + other.tokens,
            self.bytes + other.bytes,
            max(self.largest, other.largest),
            (self.multiset + other.multiset) % MODULUS,
            self.quarantined + other.quarantined,
            self.unembedded + other.unembedded,
            self.filtered + other.filtered,
            self.dropped + other.dropped,
            self.cut + other.cut,
        )


@dataclass(frozen=True)
class PartSummary:
    """What was counted in one part, as `summary.json` holds it."""

    seconds: float
    """Seconds of one core to read and count the part."""
    tallies: dict[str, Tally]
    """Domain -> its counts, those without a usable row included."""
    reasons: dict[str, dict[str, int]]
    """Domain -> reason -> rows in quarantine."""
    fragment_rows: tuple[int, ...]
    """Rows of each fragment, blank lines of JSONL included."""
    columns: dict[str, ColumnTally]
    """Kept column -> what the usable rows hold in it."""
    messages: dict[str, ColumnTally]
    """Field of the messages of conversations -> what it holds; `missing` is not counted."""
    format: int = SUMMARY_FORMAT


@dataclass(frozen=True)
class Survey:
    """All parts together."""

    parts: tuple[Part, ...]
    tallies: dict[str, Tally]
    """Domain -> its counts, those without a usable row included."""
    sample: pa.Table
    """Schema SAMPLE_SCHEMA, sorted by (domain, hash)."""
    seconds: float
    """Seconds of one core to read and count everything; the plan's expected duration rests on it."""
    reasons: dict[str, dict[str, int]]
    """Domain -> reason -> rows in quarantine."""
    recorded: int = 0
    """Number of parts that an earlier run had recorded."""
    missing_room: str = ""
    """Why the rows of the other parts are not kept; empty where they are."""
    files: Mapping[str, SourceFiles] = field(default_factory=dict)
    """Source -> the files that were found at its paths."""
    part_rows: tuple[int, ...] = ()
    """Usable rows of each part."""
    long_tasks: tuple[str, ...] = ()
    """Sentences about files that one task reads for long, as nothing divides them."""
    columns: Mapping[str, KeptColumn] = field(default_factory=dict)
    """Kept column -> its type, in byte order of name."""
    messages: Mapping[str, str] = field(default_factory=dict)
    """Field of the messages of conversations -> its kind; empty where documents are texts."""
    filtered: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Domain -> condition of a source, or DROP_RULE -> rows that it leaves out."""

    @property
    def cut(self) -> dict[str, int]:
        """Domain -> conversations that are cut at the end of a sequence, where there are any."""
        return {name: tally.cut for name, tally in self.tallies.items() if tally.cut}


def hash_documents(block: Block, hash: str) -> tuple[U64, U64]:
    """(rows,) high and low half of each row's hash: of its text; with `hash: id` the high half of its id; and where columns are
    kept, these are mixed into the high half.

    The high half decides the order of the stream, the low half whether two texts are equal.
    """
    hi, lo = hash_texts(block, hash)
    return hi if block.columns is None else mix_columns(hi, block.columns), lo


def hash_texts(block: Block, hash: str) -> tuple[U64, U64]:
    """The same without kept columns. A sample is drawn by it, so that weights do not depend on what is kept."""
    hi, lo = content_hashes(block.text)
    return content_hashes(block.ids)[0] if hash == "id" else hi, lo


def survey_part(
    store: Store, part: Part, input: Input, spec: SampleSpec, counter: TokenCounter, keep: RowStore | None
) -> PartSummary | None:
    """Read one part and record it, and keep its rows in `keep`. Memory: a block of text, the part's share of the sample, and a
    file of rows.

    Returns what was counted; None where the part was recorded, and only its sample was drawn from its rows. Raises InputError
    for a file that cannot be read and for too many domains.
    """
    if keep and not (keep.columns and input.hash == "id") and _sample_kept_rows(store, part, spec, keep):
        return None
    started = time.monotonic()
    keeper = RowKeeper(keep, part.key) if keep else None
    tallies: defaultdict[str, Tally] = defaultdict(Tally)
    reasons: defaultdict[str, Counter[str]] = defaultdict(Counter)
    columns: dict[str, ColumnTally] = {}
    messages: dict[str, ColumnTally] = {}
    sample = SAMPLE_SCHEMA.empty_table()
    fragment_rows: list[int] = []
    with tempfile.TemporaryDirectory(prefix="chameleon-") as folder:
        files = {name: Path(folder) / name for name in ("documents.parquet", "quarantine.parquet")}
        with (
            pq.ParquetWriter(
                files["documents.parquet"], ROW_RECORD_SCHEMA, compression="zstd", use_dictionary=["domain"]
            ) as writer,
            pq.ParquetWriter(files["quarantine.parquet"], QUARANTINE_SCHEMA, compression="zstd") as quarantine,
        ):
            documents = GroupWriter(writer)
            for number, fragment in enumerate(part.fragments):
                fragment_rows.append(0)
                for read in read_blocks(fragment, part.read_as, input.max_document, vectors=spec.column):
                    _check_number(tallies.keys() | set(read.names), f"sources.{part.source}: {fragment.url}")
                    ids, cut = None, np.zeros(len(read.text), bool)
                    if keep and keep.ids:
                        ids, tokens = counter.tokenise(read.text)
                    else:
                        tokens, cut = counter.count_and_cut(read.text)
                    size = byte_lengths(read.text)
                    hi, lo = hash_documents(read, input.hash)
                    if len(read.text):
                        documents.write(_row_records(read, hi, lo, np.maximum(tokens, 0), size))
                    usable, left_out = tokens > 0, tokens == LONG_LEFT_OUT
                    block, (hi, lo, tokens, size) = drop_rows_without_tokens(read, tokens, [hi, lo, tokens, size])
                    for name, tally in (*_tally_block(block, hi, lo, tokens, size), *_tally_long(read, left_out, cut & usable)):
                        tallies[name] += tally
                    for name, values in block.kept.items():
                        columns[name] = columns.get(name, ColumnTally({}, 0)) + ColumnTally.of(values, fragment.url)
                    if spec.turns:
                        for name, kinds in field_kinds(block.text).items():
                            held = ColumnTally(dict.fromkeys(sorted(kinds), fragment.url), 0)
                            messages[name] = messages.get(name, ColumnTally({}, 0)) + held
                    if keeper:
                        if keep and keep.columns:
                            bodies = join_columns(block.text, columns_of_block(block))
                        else:
                            bodies = block.text if ids is None else ids if usable.all() else ids.filter(pa.array(usable))
                        hashes = lo if bodies is block.text else content_hashes(bodies)[1]
                        keeper.add(block.names, block.domain, hi, lo, tokens, block.rows, number, bodies, hashes)
                    if len(block.text):
                        shown = shown_texts(block.text, spec.turns) if spec.turns else block.text
                        drawn_by = hi if block.columns is None else hash_texts(block, input.hash)[0]
                        candidates = sample_candidates(
                            spec, shown, drawn_by, lo, tokens, block.domain, block.names, known=sample, vectors=block.vectors
                        )
                        sample = merge_samples([sample, candidates], spec.samples)
                    fragment_rows[-1] = block.end
                    if block.bad:
                        quarantine.write_table(_quarantine_rows(fragment.url, number, block.bad))
                        for bad in block.bad:
                            reasons[bad.domain][bad.reason] += 1
            documents.end()
        store.write(part.path("documents.parquet"), pa.memory_map(str(files["documents.parquet"])).read_buffer())
        write_sealed(store, part.path("quarantine.parquet"), pa.memory_map(str(files["quarantine.parquet"])).read_buffer())
    if keeper:
        keeper.end()
    write_table(store, part.path(part.sample), sample)
    bad_rows = {name: dict(counts) for name, counts in reasons.items()}
    summary = PartSummary(time.monotonic() - started, dict(tallies), bad_rows, tuple(fragment_rows), columns, messages)
    write_record(store, part.path("summary.json"), asdict(summary))
    return summary


def _sample_kept_rows(store: Store, part: Part, spec: SampleSpec, keep: RowStore) -> bool:
    """Draw the sample of a part that is recorded from its rows, where their texts are kept. False where something is missing."""
    if keep.ids or spec.column is not None or store.exists(part.path(part.sample)):
        return False
    if not all(store.exists(part.path(name)) for name in COUNT_FILES) or _read_summary(store, part) is None:
        return False
    files = read_kept_files(keep, part.key)
    if files is None:
        return False
    sample = SAMPLE_SCHEMA.empty_table()
    for file in files:
        rows = open_kept_file(keep.store, file)
        domain = np.repeat(np.arange(len(rows.index.names)), np.diff(rows.index.begin))
        for at in np.split(np.arange(file.rows), np.flatnonzero(np.diff(rows.offset[1:] // BLOCK_BYTES)) + 1):
            check_kept_rows(keep.store, file, rows, at)
            places = rows.places(at)
            text = (split_columns(places)[0] if keep.columns else places).gather().view(pa.large_string())
            hi = content_hashes(text)[0] if keep.columns else rows.index.hi[at]
            text = shown_texts(text, spec.turns) if spec.turns else text
            columns = (hi, rows.lo[at], rows.tokens[at], domain[at], rows.index.names)
            candidates = sample_candidates(spec, text, *columns, known=sample)
            sample = merge_samples([sample, candidates], spec.samples)
    write_table(store, part.path(part.sample), sample)
    return True


def columns_of_block(block: Block) -> pa.LargeBinaryArray:
    """(rows,) the kept columns of each text as bytes; empty where the source keeps none."""
    return encode_columns({}, len(block.text)) if block.columns is None else block.columns


def _row_records(block: Block, hi: U64, lo: U64, tokens: I64, size: I64) -> pa.Table:
    names = pa.DictionaryArray.from_arrays(pa.array(block.domain, pa.int32()), pa.array(block.names, pa.string()))
    return pa.table([names, hi, lo, tokens, size], schema=ROW_RECORD_SCHEMA)


def _quarantine_rows(url: str, fragment: int, bad: Sequence[BadRow]) -> pa.Table:
    rows = [{"file": url, "fragment": fragment, "row": b.row, "domain": b.domain, "reason": b.reason} for b in bad]
    return pa.Table.from_pylist(rows, QUARANTINE_SCHEMA)


def drop_rows_without_tokens(block: Block, tokens: I64, columns: Sequence[Any]) -> tuple[Block, Sequence[Any]]:
    """The block, and (rows,) columns beside it, without the texts that the tokenizer cannot use; those are now bad rows, but for
    conversations that are left out."""
    if (tokens > 0).all():
        return block, columns
    kept = np.flatnonzero(tokens > 0)
    faulty = np.flatnonzero((tokens <= 0) & (tokens != LONG_LEFT_OUT))
    bad = tuple(BadRow(int(block.rows[i]), block.names[block.domain[i]], TOKEN_FAULTS[int(tokens[i])]) for i in faulty)
    block = block.take(kept, block.bad + bad)
    return block, [column[kept] for column in columns]


def _tally_block(block: Block, hi: U64, lo: U64, tokens: I64, size: I64) -> Iterator[tuple[str, Tally]]:
    """(domain, counts) to add up; a domain may come several times."""
    for name, rows in _split_by_domain(block):
        number, missing = len(hi[rows]), 0
        if block.vectors is not None:
            missing = int(block.vectors.is_null().to_numpy(zero_copy_only=False)[rows].sum())
        tally = Tally(
            read=number,
            rows=number,
            tokens=int(tokens[rows].sum()),
            bytes=int(size[rows].sum()),
            largest=int(tokens[rows].max()),
            multiset=multiset_hash(hi[rows], lo[rows]),
            unembedded=missing,
        )
        yield name, tally
    for bad in block.bad:
        yield bad.domain, Tally(read=1, quarantined=1)
    for name, number in block.filtered.items():
        yield name, Tally(read=number, filtered=number)


def _tally_long(block: Block, left_out: Mask, cut: Mask) -> Iterator[tuple[str, Tally]]:
    """The same of conversations that are longer than a sequence: (rows,) of the block as it was read."""
    for name, rows in _split_by_domain(block) if left_out.any() or cut.any() else ():
        dropped = int(left_out[rows].sum())
        yield name, Tally(read=dropped, filtered=dropped, dropped=dropped, cut=int(cut[rows].sum()))


def _split_by_domain(block: Block) -> Iterator[tuple[str, Any]]:
    """(name, index of the rows) for each domain that the block has rows of."""
    if not len(block.text):
        return
    if len(block.names) == 1:
        yield block.names[0], slice(None)
        return
    order = np.argsort(block.domain, kind="stable")
    codes, starts = np.unique(block.domain[order], return_index=True)
    for code, rows in zip(codes, np.split(order, starts[1:]), strict=True):
        yield block.names[code], rows


def find_recorded_parts(store: Store, parts: Sequence[Part]) -> set[str]:
    """Keys of the parts whose record is complete and of this format; a file of it that was found damaged has been removed."""
    here = store.list(SURVEY_CACHE)
    complete = [p for p in parts if all(p.path(name) in here for name in (*COUNT_FILES, p.sample))]
    with ThreadPoolExecutor(SUMMARIES_AT_ONCE) as pool:
        summaries = pool.map(lambda part: _read_summary(store, part), complete)
        return {part.key for part, summary in zip(complete, summaries, strict=True) if summary is not None}


def read_part_summary(store: Store, part: Part) -> PartSummary:
    """What `survey_part` recorded. Raises InputError where that is damaged or of another format."""
    summary = _read_summary(store, part)
    if summary is None:
        raise InputError(f"{store.url}/{part.path('summary.json')}: written by another chameleon-data; run the command again")
    return summary


def _read_summary(store: Store, part: Part) -> PartSummary | None:
    """None where the record is of another format."""
    record = read_record(store, part.path("summary.json"))
    return type_adapter(PartSummary).validate_python(record) if record.get("format") == SUMMARY_FORMAT else None


def read_survey(store: Store, parts: tuple[Part, ...], sources: Mapping[str, Source], input: Input, samples: int) -> Survey:
    """Add up the parts, and number the first row of each fragment; `samples` is the number of documents to draw per domain.

    Raises InputError for a source or domain without documents, and for one whose share of bad or blank rows is above
    its limit in `input`.
    """
    tallies: defaultdict[str, Tally] = defaultdict(Tally)
    reasons: defaultdict[str, Counter[str]] = defaultdict(Counter)
    rows_read: Counter[str] = Counter()  # by source
    usable: set[str] = set()  # sources
    kept: defaultdict[str, dict[str, ColumnTally]] = defaultdict(dict)  # column -> source -> what it holds
    fields: dict[str, ColumnTally] = {}
    filtered: defaultdict[str, Counter[str]] = defaultdict(Counter)
    seconds, part_rows = 0.0, list[int]()
    long_tasks: list[str] = []
    fragment_rows: list[tuple[int, ...]] = []
    largest = choose_part_bytes(sum(map(part_bytes, parts)), tokenised=False)
    for part in parts:
        summary = read_part_summary(store, part)
        fragment_rows.append(summary.fragment_rows)
        if summary.seconds > LONG_TASK_SECONDS:
            whole = (f for f in part.fragments if f.size > largest and not f.divided)
            long_tasks += [_explain_long_task(fragment, summary.seconds) for fragment in whole]
        for name, held in summary.messages.items():
            fields[name] = fields.get(name, ColumnTally({}, 0)) + held
        for column, held in summary.columns.items():
            kept[column][part.source] = kept[column].get(part.source, ColumnTally({}, 0)) + held
        seconds += summary.seconds
        part_rows.append(sum(tally.rows for tally in summary.tallies.values()))
        for name, tally in summary.tallies.items():
            tallies[name] += tally
            rows_read[part.source] += tally.read
            if tally.filtered > tally.dropped:
                filtered[name][str(sources[part.source].where)] += tally.filtered - tally.dropped
            if tally.dropped:
                filtered[name][DROP_RULE] += tally.dropped
            if tally.rows:
                usable.add(part.source)
        for name, counts in summary.reasons.items():
            reasons[name].update(counts)
    parts = _number_first_rows(parts, fragment_rows)
    _check_number(tallies, "sources")
    # Rows without a usable domain stand under the name of their source. Their share is of all rows of the source.
    apart = {n for n, source in sources.items() if source.domain is not None or isinstance(source, LabelledSource)}
    homeless = {n for n in apart if n in tallies and not tallies[n].rows}
    rows_of = {name: rows_read[name] if name in homeless else tally.read for name, tally in tallies.items()}
    _check_quarantine(store, parts, sources, input, tallies, rows_of, reasons)
    for name, source in sources.items():
        if name not in usable:
            raise InputError(
                f"sources.{name}: no usable document in {', '.join(source.path)}; check the path and {_name_text(source)}"
            )
    _check_spelling(tallies)
    if empty := [name for name, tally in tallies.items() if tally.quarantined and not tally.rows and name not in homeless]:
        raise InputError(f"domain {empty[0]!r} has rows but no usable document; mend them, or take the domain out of the corpus")
    sample = merge_samples([read_table(store, p.path(p.sample)) for p in parts], samples)
    return Survey(
        parts,
        dict(tallies),
        sample,
        seconds,
        {name: dict(counts) for name, counts in reasons.items()},
        part_rows=tuple(part_rows),
        long_tasks=tuple(long_tasks),
        columns={name: _join_column(name, kept[name]) for name in sorted(kept, key=str.encode)},
        messages={name: _join_field(name, fields[name]) for name in order_fields(fields)} if fields else {},
        filtered={name: dict(counts) for name, counts in filtered.items()},
    )


def _join_field(name: str, held: ColumnTally) -> str:
    """The kind of a field of messages. Raises InputError where the files give it several."""
    kind = join_kinds(held.files)
    if kind is None:
        found = "; ".join(f"{'a list' if kind == 'json' else kind} in {file}" for kind, file in sorted(held.files.items()))
        raise InputError(
            f"the messages hold {name!r} as values of several types, and a shard holds one: {found}. Make them one in the "
            "corpus, or make two recipes"
        )
    return kind


def _join_column(name: str, of_sources: Mapping[str, ColumnTally]) -> KeptColumn:
    """The type of a kept column. Raises InputError where the files give it several."""
    files = {kind: file for tally in reversed([*of_sources.values()]) for kind, file in tally.files.items()}
    kind = join_kinds(files)
    if kind is None:
        held = "; ".join(f"{kind} in {file}" for kind, file in sorted(files.items()))
        raise InputError(
            f"the kept column {name!r} has values of several types, and a shard holds one: {held}. Make them one in the corpus, "
            "or take the column out of 'keep'"
        )
    return KeptColumn(kind, {source: tally.missing for source, tally in of_sources.items() if tally.missing})


def _number_first_rows(parts: Sequence[Part], fragment_rows: Sequence[tuple[int, ...]]) -> tuple[Part, ...]:
    """The parts with `first_rows`, from the rows of each part's fragments."""
    rows_of = {
        (fragment.url, fragment.begin): rows
        for part, rows_of_part in zip(parts, fragment_rows, strict=True)
        for fragment, rows in zip(part.fragments, rows_of_part, strict=True)
        if fragment.divided
    }
    first: dict[tuple[str, int], int] = {}
    rows_before: Counter[str] = Counter()  # by file
    for url, begin in sorted(rows_of):
        first[url, begin] = rows_before[url]
        rows_before[url] += rows_of[url, begin]
    return tuple(replace(part, first_rows=tuple(first.get((f.url, f.begin), 0) for f in part.fragments)) for part in parts)


def _explain_long_task(fragment: Fragment, seconds: float) -> str:
    packed = {"zstd": "zstd without a seek table", "gzip": "gzip that bgzip did not write"}.get(
        fragment.compression, fragment.compression
    )
    what = (
        {"jsonl": "an array", "arrow": "a stream of Arrow"}.get(fragment.format, fragment.format) if packed == "none" else packed
    )
    remedy = "store it by bgzip, as seekable zstd or without compression" if fragment.format == "jsonl" else "write row groups"
    return (
        f"{fragment.url}: one task reads all of it, which took {seconds:,.0f} s of one core, since {what} is not divided; "
        f"if the task is killed its work is lost. Write several files, or {remedy}"
    )


def _name_text(source: Source) -> str:
    """The keys of a source that name what its documents are made of."""
    return f"the columns {', '.join(source.chat_columns)}" if source.holds_turns else f"the key 'text: {source.text}'"


def _check_number(names: Collection[str], where: str) -> None:
    if len(names) > MOST_DOMAINS:
        most = f"{MOST_DOMAINS:,}"
        raise InputError(f"{where}: more than {most} domains; name another column in 'domain', or join values with 'rename'")


def _check_spelling(names: Collection[str]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        normal = unicodedata.normalize("NFC", name)
        if (other := seen.setdefault(normal, name)) != name:
            raise InputError(
                f"two domains are both called {normal!r} once Unicode is normalised, {other!a} and {name!a}; "
                "make them one with 'rename' in their source"
            )


def _check_quarantine(
    store: Store,
    parts: Sequence[Part],
    sources: Mapping[str, Source],
    input: Input,
    tallies: Mapping[str, Tally],
    rows_of: Mapping[str, int],
    reasons: Mapping[str, Counter[str]],
) -> None:
    """`rows_of`: domain -> the rows of which its bad rows are a share."""
    reasons = {name: reasons.get(name, Counter()) for name in tallies}
    blank = {name: sum(reasons[name][reason] for reason in BLANK_REASONS) for name in tallies}
    bad = {name: tally.quarantined - blank[name] for name, tally in tallies.items()}
    too_bad = {name for name in tallies if bad[name] > input.max_bad * rows_of[name] or reasons[name][TOKEN_FAULTS[TOO_LONG]]}
    too_blank = {name for name in tallies if blank[name] > input.max_blank * rows_of[name]}
    failing = sorted(too_bad | too_blank)
    if not failing:
        return
    rows = read_quarantine(store, parts).filter(pl.col("domain").is_in(failing))
    rows = rows.filter(~pl.col("reason").is_in(BLANK_REASONS) | ~pl.col("domain").is_in(too_bad)).sort("file", "row")
    first = {row["domain"]: row for row in rows.group_by("domain", maintain_order=True).first().iter_rows(named=True)}
    lines = [
        f"domain {name!r}: {tallies[name].quarantined:,} of {rows_of[name]:,} rows cannot be used "
        f"({', '.join(f'{count:,} {reason}' for reason, count in sorted(reasons[name].items()))}), first row "
        f"{first[name]['row']:,} of {first[name]['file']}: {first[name]['reason']}"
        for name in failing[:8]
    ] + [f"and {len(failing) - 8:,} more domains"] * (len(failing) > 8)
    if any(reasons[name][TOKEN_FAULTS[TOO_LONG]] for name in too_bad):
        remedy = "raise 'shards.sequence_length', or say with 'shards.overlong' what comes of longer conversations: cut or drop"
        raise InputError("\n".join([*lines, remedy]))
    remedies = []
    for key, limit, over, counts in (
        ("max_bad", input.max_bad, too_bad, bad),
        ("max_blank", input.max_blank, too_blank, blank),
    ):
        if over and all(tallies[name].quarantined < rows_of[name] for name in failing):  # else no limit helps
            needed = math.ceil(1e4 * max(counts[name] / rows_of[name] for name in over)) / 1e4
            remedies.append(f"raise 'input.{key}' from {limit:g} to {needed:g}")
    remedy = "mend the files" + (f", or {' and '.join(remedies)}" if remedies else " or the recipe's keys; no limit helps")
    if any(reasons[name][TOKEN_FAULTS[SPELLS_END]] for name in too_bad):
        remedy += ", or name another 'tokens.end_of_text'"
    for name in (name for name in failing if name in sources):
        for reason, key in (("no text", "text"), ("no domain", "domain"), ("no id", "id")):
            if reasons[name][reason] == rows_of[name]:  # no row at all: the recipe is wrong, not the files
                wrong = getattr(sources[name], key)
                remedy = f"no row has the key {wrong!r}; correct '{key}' of sources.{name}"
    raise InputError("\n".join([*lines, remedy]))


def read_quarantine(store: Store, parts: Sequence[Part]) -> pl.DataFrame:
    """All quarantined rows of surveyed parts: file, number of the row in the file, domain, reason."""
    tables = []
    for part in parts:
        table = read_table(store, part.path("quarantine.parquet"))
        first = np.array(part.first_rows, np.int64)[table["fragment"].to_numpy()]
        rows = pa.array(table["row"].to_numpy() + first)
        tables.append(table.set_column(table.schema.get_field_index("row"), "row", rows).drop_columns(["fragment"]))
    return pl.DataFrame(pa.concat_tables(tables))


def read_documents(store: Store, part: Part) -> Iterator[pl.DataFrame]:
    """The usable documents of one part in the order of reading, a million at a time; columns as in ROW_RECORD_SCHEMA."""
    for rows in read_groups(store, part.path("documents.parquet"), ROW_RECORD_SCHEMA.names, 2**20):
        yield pl.DataFrame(rows).filter(pl.col("tokens") > 0)
