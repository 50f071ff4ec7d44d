import math
import re
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chameleon_data.corpus.sample import (
    CHARACTERS_PER_TOKEN,
    SAMPLE_SCHEMA,
    WORD_START_BYTES,
    SampleSpec,
    _exponential,
    merge_samples,
    sample_candidates,
    sample_priorities,
)
from chameleon_data.hashing import content_hashes, key64, mix64

WINDOW = 8
LENGTH = CHARACTERS_PER_TOKEN * WINDOW


def offer(rows, samples, seed=0, known=None, window=WINDOW):
    """`candidates` of (domain, text) pairs; codes in the order of appearance, as a reader gives them."""
    names = tuple(dict.fromkeys(name for name, _ in rows))
    text = pa.array([t for _, t in rows], pa.large_string())
    hi, lo = content_hashes(text)
    tokens = np.array([len(t.encode()) for _, t in rows], np.int64)
    codes = np.array([names.index(name) for name, _ in rows], np.int32)
    return sample_candidates(SampleSpec(samples, window, seed, None), text, hi, lo, tokens, codes, names, known=known)


def survey(parts, samples, seed=0):
    """Parts of blocks of rows, as the survey reads them: a running sample within a part, one merge over all."""
    found = []
    for blocks in parts:
        known = SAMPLE_SCHEMA.empty_table()
        for block in blocks:
            known = merge_samples([known, offer(block, samples, seed, known)], samples)
        found.append(known)
    return merge_samples(found, samples)


def naive(rows, samples, seed=0):
    """The k smallest -ln(u) / tokens of the distinct documents, as (domain, text)."""
    chosen = []
    for domain in sorted({d for d, _ in rows}, key=str.encode):
        texts = list(dict.fromkeys(t for d, t in rows if d == domain))
        hi, lo = content_hashes(pa.array(texts, pa.large_string()))
        u = [(int(x) // 4096 + 0.5) / 2**52 for x in mix64([hi, lo], key64(seed, "sample"))]
        ranked = sorted(range(len(texts)), key=lambda i: -math.log(u[i]) / len(texts[i].encode()))[:samples]
        chosen += [(domain, texts[i]) for i in sorted(ranked, key=lambda i: (hi[i], lo[i]))]
    return chosen


units = st.text(st.sampled_from("ab é漢😀\n"), min_size=1, max_size=5).filter(str.strip)
texts = st.builds(str.__mul__, units, st.integers(1, LENGTH))
corpora = st.lists(st.tuples(st.sampled_from(["ä", "b", "a"]), texts), max_size=40)


@given(rows=corpora, samples=st.integers(1, 8), seed=st.integers(0, 2**63 - 1))
@settings(max_examples=60, deadline=None)
def test_is_the_naive_sample(rows, samples, seed):
    found = survey([[rows]], samples, seed)
    wanted = naive(rows, samples, seed)
    assert found["domain"].to_pylist() == [d for d, _ in wanted]
    hi, lo = content_hashes(pa.array([t for _, t in wanted], pa.large_string()))
    assert found["hi"].to_pylist() == hi.tolist()
    assert found["lo"].to_pylist() == lo.tolist()
    assert found["tokens"].to_pylist() == [len(t.encode()) for _, t in wanted]
    counts = Counter(d for d, _ in wanted)
    for (domain, text), windows in zip(wanted, found["windows"].to_pylist(), strict=True):
        most = -(-samples // counts[domain])
        assert len(windows) == min(most, max(1, len(text) // LENGTH))
        assert all(w in text and w.strip(text) == "" for w in windows)


@given(data=st.data(), rows=corpora, samples=st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_does_not_depend_on_layout_or_order(data, rows, samples):
    whole = survey([[rows]], samples)
    shuffled = data.draw(st.permutations(rows))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=6)))
    blocks = [shuffled[a:b] for a, b in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    split = data.draw(st.integers(0, len(blocks)))
    assert survey([blocks[:split], blocks[split:]], samples).equals(whole)


@given(parts=st.lists(corpora, min_size=3, max_size=3), samples=st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_merge_is_associative_commutative_and_idempotent(parts, samples):
    a, b, c = (survey([[rows]], samples) for rows in parts)
    whole = merge_samples([a, b, c], samples)
    assert merge_samples([merge_samples([c, a], samples), b], samples).equals(whole)
    assert merge_samples([whole, whole, b], samples).equals(whole)


def test_parts_with_few_documents_keep_windows_that_the_whole_then_drops():
    rows = [("d", f"document {i} " * 200) for i in range(50)]
    whole = survey([[rows]], 60)
    assert {len(w) for w in whole["windows"].to_pylist()} == {2}
    assert survey([[[row]] for row in rows], 60).equals(whole)
    assert survey([[[row] for row in rows]], 60).equals(whole)
    assert survey([[[row] for row in rows[:20]], [rows[20:] + rows[:4]]], 5).equals(survey([[rows]], 5))


def test_survives_parquet(tmp_path):
    rows = [("d", f"text {i} " * i) for i in range(1, 40)]
    sample = survey([[rows]], 16)
    pq.write_table(sample, tmp_path / "sample.parquet")
    stored = pq.read_table(tmp_path / "sample.parquet")
    assert merge_samples([stored, sample.slice(0, 3)], 16).equals(sample)


def test_nothing_gives_nothing():
    assert merge_samples([], 4).equals(SAMPLE_SCHEMA.empty_table())
    assert offer([], 4).equals(SAMPLE_SCHEMA.empty_table())


def test_the_exponential_is_minus_the_logarithm_to_the_last_bits():
    edges = np.array([0, 4095, 2**63, 2**64 - 1], np.uint64)
    x = np.concatenate([np.random.default_rng(0).integers(0, 2**64, 100_000, np.uint64), edges])
    wanted = np.array([-math.log((int(v) // 4096 + 0.5) / 2**52) for v in x])
    np.testing.assert_allclose(_exponential(x), wanted, rtol=2e-15)
    assert (_exponential(x) > 0).all()
    # The bits themselves, since they decide who is drawn; any machine that rounds by IEEE 754 has these.
    bits = [float(v).hex() for v in _exponential(np.array([1, 2**63, 0x123456789ABCDEF0], np.uint64))]
    assert bits == ["0x1.25e4f7b2737fap+5", "0x1.62e42fefa39edp-1", "0x1.525e973a05652p+1"]


def test_documents_are_drawn_in_proportion_to_tokens():
    """1,000 documents of 1 token, 1,000 of 9: a draw is of the second kind with chance .9 (50 hardly change the pool)."""
    n, k, drawn = 2000, 50, 0
    hi, lo = (np.random.default_rng(1).integers(0, 2**64, n, np.uint64) for _ in range(2))
    tokens = np.where(np.arange(n) < n // 2, 1, 9)
    for seed in range(100):
        drawn += int((np.argsort(sample_priorities(hi, lo, tokens, seed))[:k] >= n // 2).sum())
    assert drawn / (100 * k) == pytest.approx(0.9, abs=4 * math.sqrt(0.9 * 0.1 / (100 * k)))


def test_a_short_document_is_its_own_window():
    assert offer([("d", "a short one")], 4)["windows"].to_pylist() == [["a short one"]]


def test_windows_start_anywhere_in_the_document():
    """Over many documents the starts are uniform: mean 1/2, standard deviation 1/sqrt(12), and both ends are reached."""
    text = "".join(f"{i:04d}" for i in range(3000))
    starts = []
    for i in range(400):
        (windows,) = offer([("d", f"{text}{i:06d}")], 1)["windows"].to_pylist()
        starts.append(f"{text}{i:06d}".index(windows[0]) / (len(text) + 6 - LENGTH))
        assert len(windows) == 1
        assert len(windows[0]) == LENGTH
    assert np.mean(starts) == pytest.approx(0.5, abs=4 / math.sqrt(12 * 400))
    assert np.std(starts) == pytest.approx(1 / math.sqrt(12), abs=0.03)
    assert min(starts) < 0.02
    assert max(starts) > 0.98


def test_windows_of_one_document_hardly_overlap_and_a_prefix_is_a_smaller_count():
    text = "".join(f"{i:05d}" for i in range(2 * LENGTH))
    few, many = (offer([("d", text)], samples)["windows"].to_pylist()[0] for samples in (3, 1000))
    assert many[:3] == few
    assert len(many) == len(text) // LENGTH
    starts = sorted(text.index(w) for w in many)
    assert min(np.diff(starts)) > 0.35 * LENGTH


def test_windows_start_at_words_where_one_is_near_and_at_characters_always():
    words = " ".join(f"wörd{i}漢字" for i in range(3000))
    solid = "漢" * 5000
    for seed in range(20):
        for window in offer([("d", words)], 20, seed)["windows"].to_pylist()[0]:
            assert re.match(r"wörd\d+漢字 ", window)
        for window in offer([("d", solid)], 20, seed)["windows"].to_pylist()[0]:
            assert set(window) == {"漢"}
            assert LENGTH - WORD_START_BYTES <= len(window) <= LENGTH


def test_the_known_sample_spares_work_and_memory():
    """Once a domain's sample is full, no more than what beats it is looked at, and one window each is kept."""
    rows = [("d", f"document {i} " * 50) for i in range(2000)]
    known = survey([[rows[:1000]]], 20)
    assert known.num_rows == 20
    worst = max(known["priority"].to_pylist())
    new = offer(rows[1000:], 20, known=known)
    assert 0 < new.num_rows < 40
    assert max(new["priority"].to_pylist()) <= worst
    assert {len(w) for w in new["windows"].to_pylist()} == {1}
    assert merge_samples([known, new], 20).equals(survey([[rows]], 20))


@pytest.mark.parametrize("documents", [1, 3, 20, 64, 65])
def test_a_part_holds_at_most_twice_the_samples_in_windows(documents):
    rows = [("d", f"document {i} " * 2000) for i in range(documents)]
    windows = sum(len(w) for w in offer(rows, 64)["windows"].to_pylist())
    assert 64 <= windows < 64 + documents


def test_other_seeds_draw_other_documents():
    rows = [("d", f"document {i}") for i in range(200)]
    drawn = [frozenset(offer(rows, 20, seed)["lo"].to_pylist()) for seed in range(5)]
    assert len(set(drawn)) == 5
