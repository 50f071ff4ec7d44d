"""Topics by words, against the naive way; and that nothing but a text decides its topic."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chameleon_data.corpus import topics as module
from chameleon_data.corpus.topics import Assigned, Topics, hashed_words, label_slices, label_texts
from chameleon_data.errors import InputError
from chameleon_data.hashing import content_hashes, key64, mix64

BUCKETS = 64
TEXTS = st.lists(st.text(st.sampled_from("aBcé字1 .\n-"), max_size=40), min_size=1, max_size=8)


def naive_words(text: bytes) -> set[int]:
    """Buckets of the distinct words of a text."""
    words = re.findall(rb"[0-9a-z\x80-\xff]{2,}", text.lower())
    hashes = [sum(byte * pow(0x100000001B3, i, 2**64) for i, byte in enumerate(word)) % 2**64 for word in words]
    return {int(mix64([np.array([h], np.uint64)], key64("words"))[0] % BUCKETS) for h in hashes}


def joined(texts: list[bytes]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    return np.frombuffer(b"".join(texts), np.uint8), np.concatenate([[0], ends[:-1]]), ends


@given(TEXTS, st.integers(1, 60))
def test_words_are_those_of_the_naive_way(texts, at_once):
    encoded = [text.encode() for text in texts]
    before, module.BYTES_AT_ONCE = module.BYTES_AT_ONCE, at_once
    try:
        row, bucket = hashed_words(*joined(encoded), BUCKETS)
    finally:
        module.BYTES_AT_ONCE = before
    wanted = [(i, b) for i, text in enumerate(encoded) for b in sorted(naive_words(text))]
    assert list(zip(row.tolist(), bucket.tolist(), strict=True)) == wanted


def some_topics(count: int = 5) -> Topics:
    rng = np.random.default_rng(1)
    names = tuple(f"t{i}" for i in range(count))
    return Topics(names, rng.integers(-500, 500, count), rng.integers(-9000, 0, (BUCKETS, count)).astype(np.int16))


@given(TEXTS)
def test_a_text_gets_the_topic_with_the_highest_score(texts):
    encoded, topics = [text.encode() for text in texts], some_topics()
    found = label_slices(topics, *joined(encoded))
    for text, label in zip(encoded, found.tolist(), strict=True):
        scores = topics.bias + sum(topics.weights[b].astype(int) for b in naive_words(text))
        assert label == int(np.argmax(scores))


def test_of_equal_scores_the_first_counts():
    topics = Topics(("a", "b"), np.zeros(2, np.int64), np.full((BUCKETS, 2), -7, np.int16))
    assert label_slices(topics, *joined([b"some words", b""])).tolist() == [0, 0]


def test_neither_neighbours_nor_order_nor_slices_decide_a_topic():
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{i}" for i in rng.integers(0, 99, rng.integers(1, 400))) for _ in range(50)]
    column = pa.array(texts, pa.large_string())
    whole = label_texts(some_topics(), column, seed=3, window=16)
    assert len(set(whole.tolist())) > 2
    alone = [int(label_texts(some_topics(), pa.array([text], pa.large_string()), 3, 16)[0]) for text in texts]
    assert whole.tolist() == alone
    np.testing.assert_array_equal(label_texts(some_topics(), column.slice(20, 9), 3, 16), whole[20:29])
    np.testing.assert_array_equal(label_texts(some_topics(), column.take(pa.array(range(49, -1, -1))), 3, 16), whole[::-1])
    assert (label_texts(some_topics(), column, seed=4, window=16) != whole).any(), "another window is looked at"


@given(st.lists(st.text("ab", max_size=3), min_size=1, max_size=9))
def test_an_assigned_topic_is_found_by_the_text(texts: list[str]) -> None:
    column = pa.array(texts, pa.large_string())
    hi, lo = content_hashes(column)
    wanted = np.array([1000 + len(text) for text in texts], np.int32)
    known = Assigned.of(pa.table({"lo": lo, "hi": hi, "topic": wanted}))
    assert len(known.lo) == len(set(texts))
    assert Assigned.of(known.table()).find(column, "s").tolist() == wanted.tolist()
    with pytest.raises(InputError, match=r"sources\.s: a text changed after its topic was assigned"):
        known.find(pa.array([*texts, "other"], pa.large_string()), "s")
    with pytest.raises(InputError, match="a text changed"):
        Assigned.empty().find(column, "s")
