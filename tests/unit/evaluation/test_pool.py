"""Pools: what is drawn follows from hashes and a seed, every prefix is the mixture, and a pool survives its file."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chameleon_data.errors import InputError
from chameleon_data.evaluation.pool import (
    PADDING,
    decode_pool,
    draw_domains,
    encode_pool,
    hold_out,
    make_pool,
    pool_digest,
    window_order,
)
from tests.support.small_pools import make_texts, small_pool


@given(windows=st.integers(1, 40), count=st.integers(0, 130), seed=st.integers(0, 3))
def test_each_epoch_holds_every_window_once_and_a_longer_order_goes_on(windows: int, count: int, seed: int) -> None:
    order = window_order("a", windows, seed, count)
    assert len(order) == count
    for start in range(0, count - windows + 1, windows):
        assert sorted(order[start : start + windows]) == list(range(windows))
    assert window_order("a", windows, seed, count + 7)[:count].tolist() == order.tolist()


def test_orders_differ_by_seed_domain_and_epoch() -> None:
    orders = [window_order("a", 50, 0, 50), window_order("a", 50, 1, 50), window_order("b", 50, 0, 50),
              window_order("a", 50, 0, 100)[50:]]  # fmt: skip
    assert len({tuple(order) for order in orders}) == 4


@given(
    st.lists(st.floats(0.0, 1.0), min_size=1, max_size=6).filter(lambda s: sum(s) > 0.1), st.integers(1, 200), st.integers(0, 3)
)
def test_every_prefix_of_the_draws_is_the_mixture(raw: list[float], count: int, seed: int) -> None:
    shares = np.array(raw) / sum(raw)
    names = [f"d{i}" for i in range(len(shares))]
    drawn = draw_domains(names, shares, count, seed)
    assert len(drawn) == count
    for length in range(1, count + 1):
        off = np.bincount(drawn[:length], minlength=len(shares)) - shares * length
        assert abs(off).max() < len(shares)
    assert drawn.tolist() == draw_domains(names, shares, count + 9, seed)[:count].tolist()


def test_a_pool_survives_its_file() -> None:
    pool = small_pool(unseen=True)
    again = decode_pool(encode_pool(pool))
    assert pool_digest(again) == pool_digest(pool)
    assert (again.names, list(again.sets), again.vocabulary) == (pool.names, list(pool.sets), pool.vocabulary)
    assert again.windows["d0"].tolist() == pool.windows["d0"].tolist()


def test_the_digest_sees_every_array() -> None:
    texts, held_out, unseen = make_texts(2, 30), make_texts(2, 6, 1), {"new": make_texts(3, 4, 2)["d2"]}
    digests = {pool_digest(make_pool(texts, held_out, unseen, 32, 256))}
    for changed in ({**texts, "d1": texts["d1"][::-1]}, texts):
        for sets in (held_out, {**held_out, "d0": held_out["d0"][1:]}):
            for others in (unseen, {"new": unseen["new"][:-1]}):
                digests.add(pool_digest(make_pool(changed, sets, others, 32, 256)))
    assert len(digests) == 8


def test_held_out_documents_are_cut_in_windows_that_hold_all_of_them() -> None:
    texts = make_texts(1, 6, 1)["d0"]
    pool = make_pool(make_texts(1, 30), {"d0": texts}, {}, 32, 300)
    held_out = pool.held_out["d0"]
    for number, text in enumerate(texts):
        rows = held_out.windows[held_out.document == number]
        ids = rows[rows != PADDING]
        assert ids.tolist() == pool.vocabulary.encode([text])[0].tolist()
        assert int(pool.vocabulary.bytes_of(ids).sum()) == len(text.encode())


def test_a_scaled_pool_keeps_the_first_windows() -> None:
    whole, scaled = (make_pool(make_texts(2, 30), make_texts(2, 6, 1), {}, 32, 256, s) for s in (None, {"d0": 0.5, "d1": 1.0}))
    assert len(scaled.windows["d0"]) == round(len(whole.windows["d0"]) / 2)
    assert scaled.windows["d0"].tolist() == whole.windows["d0"][: len(scaled.windows["d0"])].tolist()
    assert len(scaled.windows["d1"]) == len(whole.windows["d1"])


def test_what_is_too_little_is_refused() -> None:
    with pytest.raises(InputError, match="'d0' holds less than a window of 5000 tokens; lower"):
        make_pool({"d0": ["a few words"]}, make_texts(1, 6), {}, 5000, 256)
    with pytest.raises(InputError, match="'d0' has no held-out document"):
        make_pool(make_texts(1, 30), {"d0": ["abc"]}, {}, 16, 256)


@given(st.dictionaries(st.sampled_from("abc"), st.lists(st.text(max_size=3), max_size=30), min_size=1))
def test_documents_are_held_out_by_their_text_alone(documents: dict[str, list[str]]) -> None:
    train, kept = hold_out(documents)
    for name, texts in documents.items():
        assert sorted([*train[name], *kept[name]]) == sorted(texts)
        assert kept[name] or len({*texts}) < 2
    assert not {t for own in train.values() for t in own} & {t for own in kept.values() for t in own}
    many = {"x": [f"text {n}" for n in range(1_000)]}
    assert 60 < len(hold_out(many)[1]["x"]) < 140
