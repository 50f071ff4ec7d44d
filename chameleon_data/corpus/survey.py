"""The survey: one pass over the corpus that counts everything the plan needs.

The corpus is read in *parts* (a large file, or some small ones). Each part leaves four files in the cache, under a key of what
it depends on (the fragments' identities, how they are read, the token unit, the sample): the documents (hash, tokens, bytes: 20
to 30 bytes a row, in the order of reading), the sample, the quarantined rows, and last its summary, which is what makes the
part done. A part whose key is there is not read again. Sums of parts are the survey; nothing depends on how the corpus is
split.
"""

from __future__ import annotations

import tempfile
import time
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from chameleon_data.arrays import I64, U64, byte_lengths
from chameleon_data.corpus.fragments import Fragment
from chameleon_data.corpus.readers.blocks import read_blocks
from chameleon_data.corpus.readers.rows import BadRow, Block
from chameleon_data.corpus.sample import SAMPLE_SCHEMA, merge_samples, sample_candidates
from chameleon_data.corpus.tokens import TokenCounter as TokenCounter
from chameleon_data.errors import InputError
from chameleon_data.hashing import HASH_FUNCTION, MODULUS, content_hashes, fingerprint, multiset_hash
from chameleon_data.recipe import Recipe
from chameleon_data.store.checksummed import (
    GroupWriter,
    read_groups,
    read_record,
    read_table,
    write_record,
    write_sealed,
    write_table,
)
from chameleon_data.store.paths import SURVEY_CACHE, survey_path
from chameleon_data.store.store import Store

SURVEY_FORMAT = 5
PART_BYTES = 32 * 2**20
PART_FILES = 4096
MOST_DOMAINS = 2**16
"""In a corpus. Ten times the largest that was weighed; a column with more values is no column of domains."""

ROW_RECORD_SCHEMA = pa.schema(
    [
        ("domain", pa.dictionary(pa.int32(), pa.string())),
        ("hi", pa.uint64()),
        ("lo", pa.uint64()),
        ("tokens", pa.int64()),
        ("bytes", pa.int64()),
    ]
)
QUARANTINE_SCHEMA = pa.schema([("file", pa.string()), ("row", pa.int64()), ("domain", pa.string()), ("reason", pa.string())])


RECORD_FILES = ("documents.parquet", "quarantine.parquet", "sample.parquet", "summary.json")
"""Files of a part's record."""


@dataclass(frozen=True)
class Part:
    """What one task reads: consecutive fragments of one source."""

    key: str
    source: str
    fragments: tuple[Fragment, ...]

    def path(self, name: str) -> str:
        return survey_path(self.key, name)

    @property
    def size(self) -> int:
        return sum(f.size for f in self.fragments)


@dataclass(frozen=True)
class Tally:
    """Counts of one domain; they add up."""

    read: int = 0
    """Rows, usable or not."""
    rows: int = 0
    tokens: int = 0
    bytes: int = 0
    largest: int = 0
    multiset: int = 0
    quarantined: int = 0
    unembedded: int = 0
    """Rows without a usable vector in `embed.column`; they are written, and are not in the sample."""

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.read + other.read, self.rows + other.rows, self.tokens + other.tokens, self.bytes + other.bytes,
            max(self.largest, other.largest), (self.multiset + other.multiset) % MODULUS, self.quarantined + other.quarantined,
            self.unembedded + other.unembedded,
        )  # fmt: skip


@dataclass(frozen=True)
class Survey:
    parts: tuple[Part, ...]
    tallies: dict[str, Tally]
    """By domain, those without a usable row included."""
    sample: pa.Table
    """Schema SAMPLE_SCHEMA, sorted by (domain, hash)."""
    seconds: float
    """Of one core, to read and count everything; what the plan's expectation rests on."""
    reasons: dict[str, dict[str, int]]
    """Domain -> reason -> quarantined rows."""
    recorded: int = 0
    """Parts that an earlier run had counted."""


def split_parts(recipe: Recipe, fragments: Mapping[str, Sequence[Fragment]], tokens: str) -> tuple[Part, ...]:
    """Group each source's fragments into parts of about 32 MiB as stored; `tokens` is the token counter's fingerprint."""
    parts = []
    for name, found in fragments.items():
        group: list[Fragment] = []
        for fragment in found:
            if group and (sum(f.size for f in group) + fragment.size > PART_BYTES or len(group) >= PART_FILES):
                parts.append(_part(recipe, name, group, tokens))
                group = []
            group.append(fragment)
        parts.append(_part(recipe, name, group, tokens))
    return tuple(parts)


def _part(recipe: Recipe, name: str, group: Sequence[Fragment], tokens: str) -> Part:
    source = recipe.sources[name]
    reader = {
        "text": source.text,
        "id": source.id,
        "domain": source.domain,
        "rename": source.rename,
        "name": name,
        "max_document": recipe.input.max_document,
        "hash": [HASH_FUNCTION, recipe.input.hash],
        "tokens": tokens,
    }
    embed = recipe.embed
    sample = {"samples": embed.drawn, "window": embed.window, "seed": recipe.seed, "column": embed.column}
    identities = [[f.url, f.row_group, f.identity] for f in group]
    return Part(
        fingerprint({"format": SURVEY_FORMAT, "reader": reader, "sample": sample, "fragments": identities}), name, tuple(group)
    )


def document_hashes(block: Block, hash: str) -> tuple[U64, U64]:
    """Content hash of each text; with `hash: id` the top half is of the id, so that the id decides the order of the stream."""
    hi, lo = content_hashes(block.text)
    if hash == "id":
        hi = content_hashes(block.ids)[0]
    return hi, lo


def survey_part(store: Store, part: Part, recipe: Recipe, counter: TokenCounter) -> None:
    """Read one part and record it in the cache. Memory: a block of text and the part's share of the sample."""
    started, source, embed = time.monotonic(), recipe.sources[part.source], recipe.embed
    tallies: defaultdict[str, Tally] = defaultdict(Tally)
    reasons: defaultdict[str, Counter[str]] = defaultdict(Counter)
    sample = SAMPLE_SCHEMA.empty_table()
    with tempfile.TemporaryDirectory(prefix="chameleon-") as folder:
        files = {name: Path(folder) / name for name in ("documents.parquet", "quarantine.parquet")}
        with (
            pq.ParquetWriter(
                files["documents.parquet"], ROW_RECORD_SCHEMA, compression="zstd", use_dictionary=["domain"]
            ) as writer,
            pq.ParquetWriter(files["quarantine.parquet"], QUARANTINE_SCHEMA, compression="zstd") as quarantine,
        ):
            documents = GroupWriter(writer)
            for fragment in part.fragments:
                for read in read_blocks(fragment, source, recipe.input.max_document, vectors=embed.column):
                    _check_number(tallies.keys() | set(read.names), f"sources.{part.source}: {fragment.url}")
                    tokens, size = counter.count(read.text), byte_lengths(read.text)
                    hi, lo = document_hashes(read, recipe.input.hash)
                    if len(read.text):
                        names = pa.DictionaryArray.from_arrays(
                            pa.array(read.domain, pa.int32()), pa.array(read.names, pa.string())
                        )
                        documents.write(pa.table([names, hi, lo, tokens, size], schema=ROW_RECORD_SCHEMA))
                    block, (hi, lo, tokens, size) = drop_rows_without_tokens(read, tokens, [hi, lo, tokens, size])
                    for name, mine in split_by_domain(block):
                        tallies[name] += _tally(hi[mine], lo[mine], tokens[mine], size[mine])
                        if block.vectors is not None:
                            missing = block.vectors.is_null().to_numpy(zero_copy_only=False)[mine]
                            tallies[name] += Tally(unembedded=int(missing.sum()))
                    for bad in block.bad:
                        tallies[bad.domain] += Tally(read=1, quarantined=1)
                        reasons[bad.domain][bad.reason] += 1
                    if len(block.text):
                        new = sample_candidates(
                            block.text, hi, lo, tokens, block.domain, block.names,
                            samples=embed.drawn, window=embed.window, seed=recipe.seed, known=sample,
                            vectors=block.vectors,
                        )  # fmt: skip
                        sample = merge_samples([sample, new], embed.drawn)
                    if block.bad:
                        rows = [(fragment.url, b.row, b.domain, b.reason) for b in block.bad]
                        quarantine.write_table(
                            pa.table(
                                [pa.array(c, f.type) for c, f in zip(zip(*rows, strict=True), QUARANTINE_SCHEMA, strict=True)],
                                schema=QUARANTINE_SCHEMA,
                            )
                        )
            documents.end()
        store.write(part.path("documents.parquet"), pa.memory_map(str(files["documents.parquet"])).read_buffer())
        write_sealed(store, part.path("quarantine.parquet"), pa.memory_map(str(files["quarantine.parquet"])).read_buffer())
    write_table(store, part.path("sample.parquet"), sample)
    summary = {
        "seconds": time.monotonic() - started,
        "tallies": {n: asdict(t) for n, t in tallies.items()},
        "reasons": {n: dict(c) for n, c in reasons.items()},
    }
    write_record(store, part.path("summary.json"), summary)


def drop_rows_without_tokens(block: Block, tokens: I64, columns: Sequence[Any]) -> tuple[Block, Sequence[Any]]:
    """The block, and columns beside it, without the texts in which the tokenizer sees nothing; those join the quarantined
    rows."""
    if (tokens > 0).all():
        return block, columns
    kept = np.flatnonzero(tokens > 0)
    bad = tuple(BadRow(int(block.rows[i]), block.names[block.domain[i]], "no tokens") for i in np.flatnonzero(tokens == 0))
    ids = None if block.ids is None else block.ids.take(kept)
    vectors = None if block.vectors is None else block.vectors.take(kept)
    block = replace(
        block, text=block.text.take(kept), rows=block.rows[kept], domain=block.domain[kept], ids=ids, vectors=vectors,
        bad=block.bad + bad,
    )  # fmt: skip
    return block, [column[kept] for column in columns]


def split_by_domain(block: Block) -> Iterator[tuple[str, Any]]:
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


def _tally(hi: U64, lo: U64, tokens: I64, size: I64) -> Tally:
    return Tally(len(hi), len(hi), int(tokens.sum()), int(size.sum()), int(tokens.max()), multiset_hash(hi, lo), 0)


def find_recorded_parts(store: Store, parts: Sequence[Part]) -> set[str]:
    """Keys of the parts whose record is complete; a file of it that was found damaged has been removed."""
    here = store.list(SURVEY_CACHE)
    return {p.key for p in parts if all(p.path(name) in here for name in RECORD_FILES)}


def read_survey(store: Store, parts: tuple[Part, ...], recipe: Recipe) -> Survey:
    """Add up the parts. Raises InputError for a source or domain without documents, or with too many quarantined rows."""
    tallies: defaultdict[str, Tally] = defaultdict(Tally)
    reasons: defaultdict[str, Counter[str]] = defaultdict(Counter)
    read: Counter[str] = Counter()  # rows by source
    used: set[str] = set()
    seconds = 0.0
    for part in parts:
        summary = read_record(store, part.path("summary.json"))
        seconds += summary["seconds"]
        for name, tally in summary["tallies"].items():
            tallies[name] += Tally(**tally)
            read[part.source] += tally["read"]
            used |= {part.source} if tally["rows"] else set()
        for name, counts in summary["reasons"].items():
            reasons[name].update(counts)
    _check_number(tallies, "sources")
    # Rows whose domain cannot be told stand under the name of their source, and are judged by all that it read.
    homeless = {n for n, source in recipe.sources.items() if source.domain is not None and n in tallies and not tallies[n].rows}
    rows_of = {name: read[name] if name in homeless else tally.read for name, tally in tallies.items()}
    _check_quarantine(store, parts, tallies, rows_of, reasons, recipe)
    for name, source in recipe.sources.items():
        if name not in used:
            raise InputError(
                f"sources.{name}: no usable document in {', '.join(source.path)}; check the path and "
                f"the key 'text: {source.text}'"
            )
    seen: dict[str, str] = {}
    for name in tallies:
        folded = unicodedata.normalize("NFC", name)
        if (other := seen.setdefault(folded, name)) != name:
            raise InputError(
                f"two domains are both called {folded!r} once Unicode is normalised, {other!a} and {name!a}; "
                "make them one with 'rename' in their source"
            )
    if empty := [name for name, tally in tallies.items() if not tally.rows and name not in homeless]:
        raise InputError(f"domain {empty[0]!r} has rows but no usable document; mend them, or take the domain out of the corpus")
    sample = merge_samples([read_table(store, p.path("sample.parquet")) for p in parts], recipe.embed.drawn)
    return Survey(parts, dict(tallies), sample, seconds, {name: dict(c) for name, c in reasons.items()})


def _check_number(names: Collection[str], where: str) -> None:
    if len(names) > MOST_DOMAINS:
        most = f"{MOST_DOMAINS:,}"
        raise InputError(f"{where}: more than {most} domains; name another column in 'domain', or join values with 'rename'")


def _check_quarantine(
    store: Store,
    parts: Sequence[Part],
    tallies: Mapping[str, Tally],
    rows_of: Mapping[str, int],
    reasons: Mapping[str, Counter[str]],
    recipe: Recipe,
) -> None:
    max_bad = recipe.input.max_bad
    failing = sorted(name for name, tally in tallies.items() if tally.quarantined > max_bad * rows_of[name])
    if not failing:
        return
    bad = read_quarantine(store, parts).filter(pl.col("domain").is_in(failing)).sort("file", "row")
    first = {row["domain"]: row for row in bad.group_by("domain", maintain_order=True).first().iter_rows(named=True)}
    lines = [
        f"domain {name!r}: {tallies[name].quarantined:,} of {rows_of[name]:,} rows have no usable text "
        f"({', '.join(f'{count:,} {reason}' for reason, count in sorted(reasons[name].items()))}), first row "
        f"{first[name]['row']:,} of {first[name]['file']}: {first[name]['reason']}"
        for name in failing[:8]
    ] + [f"and {len(failing) - 8:,} more domains"] * (len(failing) > 8)
    advice = f"mend the files or raise 'input.max_bad' (now {max_bad:g})"
    for name in (name for name in failing if name in recipe.sources):
        for reason, key in (("no text", "text"), ("no domain", "domain")):
            if reasons[name][reason] == rows_of[name]:  # no row at all: the recipe is wrong, not the files
                wrong = getattr(recipe.sources[name], key)
                advice = f"no row has the key {wrong!r}; correct '{key}' of sources.{name}"
    raise InputError("\n".join([*lines, advice]))


def read_quarantine(store: Store, parts: Sequence[Part]) -> pl.DataFrame:
    """All quarantined rows: file, row, domain, reason."""
    tables = [read_table(store, p.path("quarantine.parquet")) for p in parts]
    return pl.DataFrame(pa.concat_tables(tables))


def read_documents(store: Store, part: Part) -> Iterator[pl.DataFrame]:
    """The usable documents of one part in the order of reading, a million at a time; columns as in ROWS."""
    for rows in read_groups(store, part.path("documents.parquet"), ROW_RECORD_SCHEMA.names, 2**20):
        yield pl.DataFrame(rows).filter(pl.col("tokens") > 0)
