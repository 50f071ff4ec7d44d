"""Topics: domains that nobody labelled. A text gets one by its words.

    topic of a text = argmax over c of  b_c + Σ W[w, c],   w the distinct hashed words of one window of it

The window is as long as the embedder's, and its place comes from the text's hash. b and W are whole numbers, so every machine
finds the same topic, whatever the files, the workers and the engine. `weights/clustering.py` makes them. Cost: some 20 MB of
windows a second on one core for 64 topics. Words are runs of letters, digits and bytes above 127, so a text without blanks
between words is told apart badly.

Where vectors decide instead (`assign: embed`), a pass before the survey records the topic of each text by its content hash, in a
table for each part, and the reader looks it up: 20 bytes of memory a text of the part.
Why: docs/decisions/092-every-document-embedded.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from chameleon_data.arrays import F32, I64, U64, string_offsets
from chameleon_data.corpus.readers.rows import Block
from chameleon_data.corpus.sample import CHARACTERS_PER_TOKEN
from chameleon_data.errors import InputError
from chameleon_data.hashing import content_hashes, key64, mix64
from chameleon_data.recipe import LabelledSource, Source
from chameleon_data.store.checksummed import read_table
from chameleon_data.store.paths import topics_path
from chameleon_data.store.store import Store

TOPICS_FORMAT = 1
"""Raise it when the same topics and texts give other labels."""
BYTES_AT_ONCE = 2**20
"""Bytes of windows whose words are found at once."""
SHORTEST_WORD = 2

_PRIME = 0x100000001B3
_INVERSE = pow(_PRIME, -1, 2**64)


@dataclass(frozen=True)
class Topics:
    """The topics of one source, or of all, and how a text gets one."""

    names: tuple[str, ...]
    """Domains."""
    bias: I64
    """(topics,)"""
    weights: npt.NDArray[np.int16]
    """(buckets, topics); buckets are a power of two."""


def label_block(block: Block, source: Source, name: str) -> Block:
    """The block with its topics as domains, where the source called `name` is labelled. Bad rows keep the source's name."""
    if not isinstance(source, LabelledSource) or not len(block.text):
        return block
    topics = load_topics(source.topics_url, source.topics)
    own = topics[name] if name in topics else topics[""]
    if source.assigned is None:
        label = label_texts(own, block.text, source.seed, source.window)
    else:
        label = _load_assigned(source.topics_url, source.assigned).find(block.text, name)
    present, domain = np.unique(label, return_inverse=True)
    return replace(block, names=tuple(own.names[i] for i in present), domain=domain.astype(np.int32))


@dataclass(frozen=True)
class Assigned:
    """Topics of texts by content hash; each text once."""

    lo: U64
    """(texts,) ascending."""
    hi: U64
    topic: npt.NDArray[np.int32]

    @classmethod
    def of(cls, table: pa.Table) -> Assigned:
        """Read a table of the columns lo, hi and topic, in any order. Where a text stands twice its first row counts."""
        lo = table["lo"].to_numpy()
        kept, at = np.unique(lo, return_index=True)
        return cls(kept, table["hi"].to_numpy()[at], table["topic"].to_numpy()[at])

    @classmethod
    def empty(cls) -> Assigned:
        return cls(np.zeros(0, np.uint64), np.zeros(0, np.uint64), np.zeros(0, np.int32))

    def table(self) -> pa.Table:
        return pa.table({"lo": self.lo, "hi": self.hi, "topic": self.topic})

    def holds(self, hi: U64, lo: U64) -> npt.NDArray[np.bool_]:
        """(rows,) whether the topic of the text with this hash is known."""
        if not len(self.lo):
            return np.zeros(len(lo), bool)
        at = np.minimum(np.searchsorted(self.lo, lo), len(self.lo) - 1)
        same: npt.NDArray[np.bool_] = np.logical_and(self.lo[at] == lo, self.hi[at] == hi)
        return same

    def find(self, texts: pa.LargeStringArray, name: str) -> I64:
        """(rows,) the topic of each text. Raises InputError where one is not known."""
        hi, lo = content_hashes(texts)
        if not self.holds(hi, lo).all():
            raise InputError(
                f"sources.{name}: a text changed after its topic was assigned; leave its files alone and build again"
            )
        return self.topic[np.searchsorted(self.lo, lo)].astype(np.int64)


@lru_cache(maxsize=1)
def _load_assigned(url: str, path: str) -> Assigned:
    store = Store(url)
    if not store.exists(path):
        raise InputError(f"{url}/{path}: the topics of these texts are gone; run the same command again, which assigns them")
    return Assigned.of(read_table(store, path))


def label_texts(topics: Topics, texts: pa.LargeStringArray, seed: int, window: int) -> I64:
    """(rows,) the topic of each text."""
    hi, lo = content_hashes(texts)
    offsets = string_offsets(texts)
    begin, end = _cut_windows(offsets, hi, lo, seed, window)
    data = np.frombuffer(texts.buffers()[2] or b"", np.uint8)
    return label_slices(topics, data, begin, end)


def label_slices(topics: Topics, data: npt.NDArray[np.uint8], begin: I64, end: I64) -> I64:
    """(rows,) the topic of each slice of UTF-8. Of topics with equal scores the first counts."""
    import scipy

    weights, rows = topics.weights.astype(np.int32), len(begin)
    found = np.empty(rows, np.int64)
    row, bucket = hashed_words(data, begin, end, len(weights))
    step = max(1, 2**22 // weights.shape[1])
    for at in range(0, rows, step):
        stop = min(rows, at + step)
        first, last = np.searchsorted(row, [at, stop])
        ones = np.ones(last - first, np.int32)
        words = scipy.sparse.csr_matrix((ones, (row[first:last] - at, bucket[first:last])), shape=(stop - at, len(weights)))
        found[at:stop] = (words @ weights + topics.bias).argmax(axis=1)
    return found


def hashed_words(data: npt.NDArray[np.uint8], begin: I64, end: I64, buckets: int) -> tuple[I64, I64]:
    """(pairs,) number of a slice, and the bucket of a word that it holds: each distinct pair once, sorted.

    A word's hash is Σ byte_i p^i mod 2^64, taken from running sums of the whole, and mixed. Letters of ASCII count as lower case.
    """
    ends = np.cumsum(end - begin)
    pairs = [np.zeros(0, np.int64)]
    at = 0
    while at < len(begin):
        before = int(ends[at - 1]) if at else 0
        stop = max(at + 1, int(np.searchsorted(ends, before + BYTES_AT_ONCE, side="right")))
        pairs.append(_words_of(data, begin[at:stop], end[at:stop], buckets) + at * buckets)
        at = stop
    joined = np.concatenate(pairs)
    return joined // buckets, joined % buckets


def _words_of(data: npt.NDArray[np.uint8], begin: I64, end: I64, buckets: int) -> I64:
    """(pairs,) number of a slice times `buckets`, plus the bucket of one of its words; sorted, distinct."""
    size = end - begin + 1  # a blank ends each
    starts = np.cumsum(size) - size
    place = np.arange(int(size.sum())) + np.repeat(begin - starts, size)
    text = _letters()[data[np.minimum(place, max(0, len(data) - 1))]] if len(data) else np.zeros(len(place), np.uint8)
    text[starts + size - 1] = 0
    inside = np.concatenate([[0], text > 0, [0]]).astype(np.int8)
    change = np.diff(inside)
    first, last = np.flatnonzero(change > 0), np.flatnonzero(change < 0)
    long = last - first >= SHORTEST_WORD
    first, last = first[long], last[long]
    powers, inverses = _powers(len(text))
    with np.errstate(over="ignore"):
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(text * powers[: len(text)], dtype=np.uint64)])
        word = (sums[last] - sums[first]) * inverses[first]
    bucket = (mix64([word], key64("words")) % np.uint64(buckets)).astype(np.int64)
    return np.unique((np.searchsorted(starts, first, side="right") - 1) * buckets + bucket)


@lru_cache(maxsize=1)
def _letters() -> npt.NDArray[np.uint8]:
    """(256,) each byte as part of a word, in lower case; 0 where it is none."""
    table = np.arange(256, dtype=np.uint8)
    kept = [chr(i).isalnum() if i < 128 else True for i in range(256)]
    table[~np.array(kept)] = 0
    table[65:91] += 32
    return table


_power_tables: list[tuple[U64, U64]] = []


def _powers(count: int) -> tuple[U64, U64]:
    """(at least count,) powers of a prime modulo 2^64, and their inverses."""
    if not _power_tables or len(_power_tables[0][0]) < count:
        count = max(count, 2 * BYTES_AT_ONCE)
        with np.errstate(over="ignore"):
            tables = [np.cumprod(np.full(count, base, np.uint64)) for base in (_PRIME, _INVERSE)]
        one = np.ones(1, np.uint64)
        _power_tables[:] = [(np.concatenate([one, tables[0]]), np.concatenate([one, tables[1]]))]
    return _power_tables[0]


def _cut_windows(offsets: I64, hi: U64, lo: U64, seed: int, window: int) -> tuple[I64, I64]:
    """(rows,) where in the data a window of each text begins and ends; of the whole text where it is shorter."""
    begin, end = offsets[:-1].astype(np.int64), offsets[1:].astype(np.int64)
    length = CHARACTERS_PER_TOKEN * window
    room = np.maximum(end - begin - length + 1, 1).astype(np.uint64)
    place = mix64([hi, lo], key64(seed, "window")) >> np.uint64(32)
    start = begin + ((place * room) >> np.uint64(32)).astype(np.int64)
    return start, np.minimum(start + length, end)


@lru_cache(maxsize=4)
def load_topics(url: str, digest: str) -> dict[str, Topics]:
    """`read_topics`, once in a process."""
    return read_topics(Store(url), digest)


@lru_cache(maxsize=4)
def load_centres(url: str, digest: str) -> dict[str, F32]:
    """Source -> (topics, p) centre of each of its topics; "" for all sources."""
    table = read_table(Store(url), topics_path(digest))
    sources = np.array(table["source"].to_pylist())
    centres = np.array(table["centre"].to_pylist(), np.float32)
    return {name: centres[sources == name] for name in dict.fromkeys(sources.tolist())}


def read_topics(store: Store, digest: str) -> dict[str, Topics]:
    """Source -> its topics; "" for all sources. Raises InputError where the record is gone or damaged."""
    return topics_of(read_table(store, topics_path(digest)))


def topics_of(table: pa.Table) -> dict[str, Topics]:
    """The topics in a table of clusters; with columns `source`, `name`, `bias`, `weights`; rows of a source are together."""
    found = {}
    sources = table["source"].to_pylist()
    for source in dict.fromkeys(sources):
        rows = [i for i, name in enumerate(sources) if name == source]
        some = table.slice(rows[0], len(rows))
        weights = np.stack([np.frombuffer(column, "<i2") for column in some["weights"].to_pylist()], axis=1)
        found[source] = Topics(tuple(some["name"].to_pylist()), some["bias"].to_numpy(), np.ascontiguousarray(weights))
    return found
