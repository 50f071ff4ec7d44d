"""The documents that speak for a domain: a sample of distinct ones, drawn in proportion to their tokens.

    priority = -ln(u) / tokens,   u in (0, 1) from the content hash and the seed;   the k smallest of each domain are drawn

Exponential races: the chance of being drawn next is proportional to tokens (Efraimidis and Spirakis 2006), which is how the
paper draws positions in the token stream. "The k smallest of a set" merges: samples of parts make the sample of the whole, in any
order, at any parallelism, whatever stands where.

A document shows windows of its text: window i starts at the fraction (v + i g) mod 1 of it, v from the hash and the seed, g the
golden ratio. Each start is uniform, any prefix of the starts is evenly spread, and a prefix is what a smaller count would give.
So a part, which cannot know how many documents the domain has elsewhere, keeps enough for its own count and
`merge_samples` trims.

Cost: 24 million priorities a second on one core; text is touched only for the documents that beat the sample so far, about
k ln(n / k) of n. Memory: about 2 k windows of 6 x `window` characters for a domain and part.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from chameleon_data.arrays import F64, I64, U64
from chameleon_data.hashing import key64, mix64
from chameleon_data.recipe import Embed

SAMPLE_SCHEMA = pa.schema([
    ("domain", pa.string()),
    ("hi", pa.uint64()),
    ("lo", pa.uint64()),
    ("tokens", pa.int64()),
    ("priority", pa.float64()),
    ("windows", pa.list_(pa.large_string())),
    ("vector", pa.list_(pa.float32())),
])  # fmt: skip
"""`vector` is null unless the corpus brings embeddings of its own; equal documents are to have equal ones."""

CHARACTERS_PER_TOKEN = 6
"""Of window per token of the model, so that the model's own truncation decides where it ends: over ten corpora (English, German,
LaTeX, code) MiniLM's first 254 tokens take 2.7 to 4.9 characters each at the median and 4.1 to 5.9 at the 99th percentile."""
WORD_START_BYTES = 32
"""Bytes within which a window's start moves on to the next word."""
GOLDEN_RATIO_64 = 0x9E3779B97F4A7C15  # 2^64 / golden ratio
LN2 = 0.6931471805599453


@dataclass(frozen=True)
class SampleSpec:
    """How documents are drawn, and what they show."""

    samples: int
    """Documents to draw per domain."""
    window: int
    """Tokens of the embedding model that one window is to hold."""
    seed: int
    column: str | None
    """The column that the corpus holds its own vectors in, if it does."""


def make_sample_spec(embed: Embed, seed: int) -> SampleSpec:
    return SampleSpec(embed.drawn, embed.window, seed, embed.column)


def sample_candidates(
    spec: SampleSpec,
    text: pa.LargeStringArray,
    hi: U64,
    lo: U64,
    tokens: I64,
    domain: npt.NDArray[np.integer[Any]],
    names: Sequence[str],
    *,
    known: pa.Table | None = None,
    vectors: pa.LargeListArray | None = None,
) -> pa.Table:
    """The documents of one block that may be drawn: at most `spec.samples` distinct ones per domain, schema SAMPLE_SCHEMA.

    `hi`, `lo`, `tokens` (each at least 1) and `domain` (index into `names`) are (rows,), as `text` is. `known` is the merged
    sample of the blocks before; a document that cannot enter it is dropped unread. With `vectors`, a document without one is not
    drawn.
    """
    samples = spec.samples
    priority = sample_priorities(hi, lo, tokens, spec.seed)
    limit, count = np.full(len(names), np.inf), np.zeros(len(names), np.int64)
    if known is not None and known.num_rows:
        found = pa.TableGroupBy(known, "domain").aggregate([("priority", "max"), ("priority", "count")])
        code = {name: i for i, name in enumerate(names)}
        for row in found.to_pylist():
            if (i := code.get(row["domain"])) is not None:
                count[i] = row["priority_count"]
                limit[i] = row["priority_max"] if count[i] >= samples else np.inf
    offered = priority <= limit[domain]
    near = np.flatnonzero(offered if vectors is None else offered & vectors.is_valid().to_numpy(zero_copy_only=False))
    rows = near[_smallest(domain[near], hi[near], lo[near], priority[near], samples)]
    # A domain has at least as many documents as were known or are here, so it will not need more windows of each than this.
    count = np.maximum(count, np.bincount(domain[rows], minlength=len(names)))
    windows = (-(-samples // np.maximum(count, 1)))[domain[rows]].tolist()
    places = mix64([hi[rows], lo[rows]], key64(spec.seed, "window")).tolist()
    cut = [_windows(text, *place, spec.window) for place in zip(rows.tolist(), places, windows, strict=True)]
    columns = [pa.array(names, pa.string()).take(pa.array(domain[rows])), hi[rows], lo[rows], tokens[rows], priority[rows], cut]
    kind = SAMPLE_SCHEMA.field("vector").type
    columns.append(pa.nulls(len(rows), kind) if vectors is None else vectors.take(rows).cast(kind))
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, SAMPLE_SCHEMA, strict=True)], schema=SAMPLE_SCHEMA)


def merge_samples(tables: Sequence[pa.Table], samples: int) -> pa.Table:
    """The sample of several parts together, sorted by (domain in byte order, hi, lo).

    Associative and commutative, and the sample of one pass over everything: a document among the `samples` smallest of the whole
    is among those of its part.
    """
    table = pa.concat_tables([t.cast(SAMPLE_SCHEMA) for t in tables if t.num_rows] or [SAMPLE_SCHEMA.empty_table()])
    names = sorted(pc.unique(table["domain"]).to_pylist(), key=str.encode)
    codes = pc.index_in(table["domain"], pa.array(names, pa.string())).to_numpy()
    rows = _smallest(codes, table["hi"].to_numpy(), table["lo"].to_numpy(), table["priority"].to_numpy(), samples)
    table, codes = table.take(pa.array(rows)).combine_chunks(), codes[rows]
    windows = -(-samples // np.maximum(np.bincount(codes, minlength=len(names)), 1))
    return table.set_column(5, SAMPLE_SCHEMA.field("windows"), _trim(table["windows"], windows[codes]))


def sample_priorities(hi: U64, lo: U64, tokens: I64, seed: int) -> F64:
    """-ln(u) / tokens of each document."""
    return _exponential(mix64([hi, lo], key64(seed, "sample"))) / tokens


def _exponential(x: U64) -> F64:
    """-ln((x / 2^12 + 1/2) / 2^52), x / 2^12 rounded down.

    By +, -, x and / alone, which IEEE 754 rounds alike on every machine; `np.log` differs in its last bit between processors, and
    that bit could decide which document is drawn. ln m = 2 artanh((m - 1) / (m + 1)) by its series, for m within sqrt(2) of 1:
    relative error 1e-15.
    """
    m, exponent = np.frexp((x >> np.uint64(12)).astype(np.float64) + 0.5)
    low = m < 0.7071067811865476
    m, exponent = np.where(low, 2 * m, m), exponent - low
    s = (m - 1) / (m + 1)
    square, series = s * s, np.full(len(s), 1 / 23)
    for k in range(21, 0, -2):
        series = series * square + 1 / k
    return np.asarray((52 - exponent) * LN2 - 2 * s * series, np.float64)


def _smallest(codes: npt.NDArray[np.integer[Any]], hi: U64, lo: U64, priority: F64, samples: int) -> I64:
    """Rows of the `samples` smallest priorities of each code, by (code, hi, lo) and each once; ties go to the lower hash."""
    order = np.lexsort((lo, hi, codes))
    new = np.ones(len(order), bool)
    new[1:] = np.any([np.diff(column[order]) != 0 for column in (codes, hi, lo)], axis=0)
    order = order[new]
    ranked = np.lexsort((priority[order], codes[order]))  # stable, so that equal priorities stay in the order of their hashes
    of = codes[order][ranked]
    kept = ranked[np.arange(len(of)) - np.searchsorted(of, of) < samples]
    return order[np.sort(kept)]


def _windows(texts: pa.LargeStringArray, row: int, place: int, count: int, window: int) -> list[str]:
    """Up to `count` windows of one text, of 6 x `window` characters or all there are; fewer where they would mostly overlap."""
    text = texts.slice(row, 1)
    characters, length = pc.utf8_length(text)[0].as_py(), CHARACTERS_PER_TOKEN * window
    if characters <= length:
        return [text[0].as_py()]
    data = memoryview(text[0].as_buffer())
    room = len(data) - -(-length * len(data) // characters) + 1  # bytes where a window may start, were all characters as long
    starts = [(place + i * GOLDEN_RATIO_64) % 2**64 * room >> 64 for i in range(min(count, characters // length))]
    return [_cut(data, start, length) for start in starts]


def _cut(data: memoryview, start: int, length: int) -> str:
    """`length` characters of UTF-8 from byte `start`, moved on to the start of a word if one is near, or of a character."""
    if start:
        blank = re.search(rb"\s+", data[start - 1 : start + WORD_START_BYTES])
        start += blank.end() - 1 if blank else 0
    return str(data[start : start + 4 * length], "utf-8", "ignore")[:length]  # ignored: a character cut in two, at either end


def _trim(lists: pa.ChunkedArray, most: I64) -> pa.ListArray:
    """The first `most[i]` values of list i."""
    array = pa.concat_arrays(lists.chunks) if lists.num_chunks else pa.array([], SAMPLE_SCHEMA.field("windows").type)
    lengths = array.value_lengths().to_numpy()
    kept = np.minimum(lengths, most)
    if (kept == lengths).all():
        return array
    starts = np.cumsum(lengths) - lengths
    ends = np.concatenate([[0], np.cumsum(kept)])
    values = np.arange(ends[-1]) + np.repeat(starts - ends[:-1], kept)
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), array.flatten().take(pa.array(values)))
