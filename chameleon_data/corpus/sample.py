"""The sample: distinct documents of each domain that stand for it, drawn in proportion to their tokens.

    priority = -ln(u) / tokens,   u in (0, 1) from the content hash and the seed;   the k smallest of each domain are drawn
    window i starts at the fraction (v + i g) mod 1 of a text,   v from the content hash and the seed, g the golden ratio

Samples of parts merge to the sample of the whole, in any order and at any parallelism. A part does not know how many documents
the domain has elsewhere, so it keeps windows for its own count, and `merge_samples` drops those that are too many.

Cost: 24 million priorities a second on one core. Text is read only of documents that enter the sample so far, about
k ln(n / k) of n. Memory: about 2 k windows of 6 x `window` characters for a domain and part. Why: docs/decisions/023-sample.md.
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

from chameleon_data.arrays import F64, I64, U64, string_offsets
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
"""Drawn documents. `vector` is null unless the corpus holds vectors of its own, which are to be equal for equal documents."""

CHARACTERS_PER_TOKEN = 6
"""Characters of a window per token of the model. They are more than a token takes, so the model's own limit ends the window. Why:
docs/decisions/023-sample.md."""
WORD_START_BYTES = 32
"""Bytes within which the start of a window moves on to the next word."""
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
    turns: str | None = None
    """Of conversations: whose turns they show. None: documents are texts."""


def make_sample_spec(embed: Embed, seed: int, chat: bool = False) -> SampleSpec:
    """How a recipe draws its sample; `chat` says whether its documents are conversations."""
    return SampleSpec(embed.drawn, embed.window, seed, embed.column, embed.of if chat else None)


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
        drawn = pa.TableGroupBy(known, "domain").aggregate([("priority", "max"), ("priority", "count")])
        code = {name: i for i, name in enumerate(names)}
        for row in drawn.to_pylist():
            if (i := code.get(row["domain"])) is not None:
                count[i] = row["priority_count"]
                limit[i] = row["priority_max"] if count[i] >= samples else np.inf
    offered = priority <= limit[domain]
    near = np.flatnonzero(offered if vectors is None else offered & vectors.is_valid().to_numpy(zero_copy_only=False))
    rows = near[_smallest(domain[near], hi[near], lo[near], priority[near], samples)]
    # The domain has at least as many documents as are known or here, so it needs no more windows of each than this.
    count = np.maximum(count, np.bincount(domain[rows], minlength=len(names)))
    windows = (-(-samples // np.maximum(count, 1)))[domain[rows]].tolist()
    places = mix64([hi[rows], lo[rows]], key64(spec.seed, "window")).tolist()
    cut = _cut_windows(text, rows, places, windows, spec.window)
    columns = [pa.array(names, pa.string()).take(pa.array(domain[rows])), hi[rows], lo[rows], tokens[rows], priority[rows], cut]
    kind = SAMPLE_SCHEMA.field("vector").type
    columns.append(pa.nulls(len(rows), kind) if vectors is None else vectors.take(rows).cast(kind))
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, SAMPLE_SCHEMA, strict=True)], schema=SAMPLE_SCHEMA)


def merge_samples(tables: Sequence[pa.Table], samples: int) -> pa.Table:
    """The sample of several parts together, sorted by (domain in byte order, hi, lo).

    It is associative and commutative, and equals the sample of one pass over everything: a document among the `samples` smallest
    of the whole is among those of its part.
    """
    table = pa.concat_tables([t.cast(SAMPLE_SCHEMA) for t in tables if t.num_rows] or [SAMPLE_SCHEMA.empty_table()])
    names = sorted(pc.unique(table["domain"]).to_pylist(), key=str.encode)
    codes = pc.index_in(table["domain"], pa.array(names, pa.string())).to_numpy()
    rows = _smallest(codes, table["hi"].to_numpy(), table["lo"].to_numpy(), table["priority"].to_numpy(), samples)
    table, codes = table.take(pa.array(rows)).combine_chunks(), codes[rows]
    windows = -(-samples // np.maximum(np.bincount(codes, minlength=len(names)), 1))
    return table.set_column(5, SAMPLE_SCHEMA.field("windows"), _trim(table["windows"], windows[codes]))


def sample_priorities(hi: U64, lo: U64, tokens: I64, seed: int) -> F64:
    """(documents,) -ln(u) / tokens."""
    return _exponential(mix64([hi, lo], key64(seed, "sample"))) / tokens


def _exponential(x: U64) -> F64:
    """-ln((x / 2^12 + 1/2) / 2^52), x / 2^12 rounded down.

    It uses +, -, x and / alone, which IEEE 754 rounds the same on every machine. `np.log` differs in its last bit between
    processors, which could decide whether a document is drawn. ln m = 2 artanh((m - 1) / (m + 1)) by its series, for m within
    sqrt(2) of 1, with a relative error of 1e-15.
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
    """Rows of the `samples` smallest priorities of each code, sorted by (code, hi, lo). Of equal rows one counts; where
    priorities are equal the lower hash wins."""
    order = np.lexsort((lo, hi, codes))
    new = np.ones(len(order), bool)
    new[1:] = np.any([np.diff(column[order]) != 0 for column in (codes, hi, lo)], axis=0)
    order = order[new]
    ranked = np.lexsort((priority[order], codes[order]))  # stable, so that equal priorities stay in the order of their hashes
    groups = codes[order][ranked]
    kept = ranked[np.arange(len(groups)) - np.searchsorted(groups, groups) < samples]
    return order[np.sort(kept)]


def cut_windows(texts: pa.LargeStringArray, hi: U64, lo: U64, seed: int, window: int) -> list[str]:
    """One window of each text, as a sample of many documents has it."""
    places = mix64([hi, lo], key64(seed, "window")).tolist()
    rows = np.arange(len(texts))
    return [shown for (shown,) in _cut_windows(texts, rows, places, [1] * len(rows), window)]


def _cut_windows(
    texts: pa.LargeStringArray, rows: I64, places: Sequence[int], counts: Sequence[int], window: int
) -> list[list[str]]:
    """For each of these rows, up to so many windows of its text."""
    data, offsets = memoryview(texts.buffers()[2] or b""), string_offsets(texts)
    begin, end = offsets[rows].tolist(), offsets[rows + 1].tolist()
    characters = pc.utf8_length(texts.take(pa.array(rows))).to_pylist()
    of_each = zip(begin, end, characters, places, counts, strict=True)
    return [_windows(data[first:behind], long, place, count, window) for first, behind, long, place, count in of_each]


def _windows(data: memoryview, characters: int, place: int, count: int, window: int) -> list[str]:
    """Up to `count` windows of one text, each of 6 x `window` characters, or the whole text where it is shorter. There are fewer
    where windows would mostly overlap."""
    length = CHARACTERS_PER_TOKEN * window
    if characters <= length:
        return [str(data, "utf-8")]
    room = len(data) - -(-length * len(data) // characters) + 1  # bytes where a window may start, if all characters are as long
    starts = [(place + i * GOLDEN_RATIO_64) % 2**64 * room >> 64 for i in range(min(count, characters // length))]
    return [_cut(data, start, length) for start in starts]


def _cut(data: memoryview, start: int, length: int) -> str:
    """`length` characters of UTF-8 from byte `start` on, or from the start of the next word if one is near, else character."""
    if start:
        blank = re.search(rb"\s+", data[start - 1 : start + WORD_START_BYTES])
        start += blank.end() - 1 if blank else 0
    return str(data[start : start + 4 * length], "utf-8", "ignore")[:length]  # without halves of characters at the ends


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
