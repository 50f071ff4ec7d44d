"""Statistics of samples against the definitions written out."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from chameleon_data import InputError
from chameleon_data.weights.domain_statistics import (
    JACKKNIFE_GROUPS,
    DomainStatistics,
    domain_statistics,
    jackknife,
    merge_statistics,
    moments,
)
from tests.support.embeddings import plain_clusters


def same(a: DomainStatistics, b: DomainStatistics) -> None:
    assert a.names == b.names
    for column in ("domain", "group", "count"):
        assert_array_equal(getattr(a, column), getattr(b, column))
    assert_allclose(a.total, b.total, rtol=0, atol=1e-12)
    assert_allclose(a.squares, b.squares, rtol=1e-12)


@given(seed=st.integers(0, 10_000), cuts=st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_merging_is_associative_and_commutative_and_equals_all_at_once(seed: int, cuts: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    features, groups = (
        plain_clusters(3, 20, 4, seed, spread=1.0),
        {f"d{i:02d}": rng.integers(0, JACKKNIFE_GROUPS, 20) for i in range(3)},
    )
    bounds = [0, cuts[0], cuts[0] + cuts[1], 20]
    a, b, c = (
        domain_statistics({n: x[lo:hi] for n, x in features.items()}, {n: g[lo:hi] for n, g in groups.items()})
        for lo, hi in itertools.pairwise(bounds)
    )
    whole = domain_statistics(features, groups)
    for other in (
        merge_statistics(a, b, c),
        merge_statistics(merge_statistics(a, b), c),
        merge_statistics(a, merge_statistics(b, c)),
        merge_statistics(c, a, b),
    ):
        same(whole, other)


def test_adding_a_domain_is_adding_its_statistics() -> None:
    features = plain_clusters(4, 30, 5, spread=1.0)
    parts = [domain_statistics({name: x}) for name, x in features.items()]
    whole = domain_statistics(features)
    for order in itertools.permutations(parts):
        added = merge_statistics(*order)
        same(whole, added)
        assert_array_equal(whole.total, added.total)  # no addition took place: to the last bit


def test_moments_are_means_and_their_variance() -> None:
    features = plain_clusters(3, 50, 6, spread=1.0)
    m = moments(domain_statistics(features))
    for i, x in enumerate(features.values()):
        assert_allclose(m.mean[i], x.mean(axis=0), atol=1e-14)
        assert_allclose(m.variance_of_mean[i], x.var(axis=0, ddof=1).sum() / len(x), rtol=1e-12)


def test_the_jackknife_leaves_a_group_out_of_every_domain() -> None:
    features = plain_clusters(2, 45, 3, spread=1.0)
    groups = {name: np.random.default_rng(i).integers(0, JACKKNIFE_GROUPS, 45) for i, name in enumerate(features)}
    for group, m in enumerate(jackknife(domain_statistics(features, groups))):
        for i, (name, x) in enumerate(features.items()):
            rest = x[groups[name] != group]
            assert m.count[i] == len(rest)
            assert_allclose(m.mean[i], rest.mean(axis=0), atol=1e-13)
            assert_allclose(m.variance_of_mean[i], rest.var(axis=0, ddof=1).sum() / len(rest), rtol=1e-9)


def test_a_domain_in_one_group_is_never_left_out() -> None:
    features = {"many": np.eye(4), "one": np.ones((1, 4))}
    for m in jackknife(domain_statistics(features)):
        assert_array_equal(m.mean[1], np.ones(4))
        assert np.isnan(m.variance_of_mean[1])


FAULTS = {
    "nan": (np.array([[1.0, np.nan]]), "'bad'.*NaN, infinite or too large.*row 0"),
    "infinite": (np.array([[1.0, 2.0], [np.inf, 0.0]]), "'bad'.*row 1 of 2"),
    "too large to square": (np.full((2, 2), 1e200), "'bad'.*too large to square"),
    "zero": (np.zeros((3, 2)), "'bad'.*every embedding is zero"),
    "empty": (np.zeros((0, 2)), "'bad' has no embeddings"),
    "no dimensions": (np.zeros((2, 0)), "'bad' has no embeddings"),
    "one-dimensional": (np.ones(3), r"'bad'.*\(samples, dimensions\)"),
    "text": (np.array([["a"]]), "'bad'.*real numbers"),
    "complex": (np.ones((2, 2), complex), "'bad'.*real numbers"),
    "other dimensions": (np.ones((2, 3)), "'good' has embeddings of 2 dimensions and domain 'bad' of 3"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_no_weight_can_come_from_is_refused_by_name(fault: str) -> None:
    values, message = FAULTS[fault]
    with pytest.raises(InputError, match=message):
        domain_statistics({"good": np.eye(2), "bad": values})


@pytest.mark.parametrize("groups", [[0, 20], [-1, 0], [0.0, 1.0], [0]], ids=["20", "-1", "float", "short"])
def test_groups_are_whole_numbers_below_twenty(groups: list[float]) -> None:
    with pytest.raises(InputError, match="'a': groups must be 2 whole numbers from 0 to 19"):
        domain_statistics({"a": np.eye(2)}, {"a": groups})


def test_groups_of_some_domains_only_are_refused() -> None:
    with pytest.raises(InputError, match="'b' has embeddings but no jackknife groups"):
        domain_statistics({"a": np.eye(2), "b": np.eye(2)}, {"a": [0, 1]})


def test_no_domain_at_all_is_refused() -> None:
    with pytest.raises(InputError, match="there is no domain"):
        domain_statistics({})


def test_half_precision_and_integers_are_summed_in_float64() -> None:
    x = np.full((3, 2), 60_000, np.float16)
    assert domain_statistics({"a": x}).total.sum() == 2 * 3 * float(x[0, 0])
    assert domain_statistics({"a": np.array([[200], [200]], np.uint8)}).squares.sum() == 80_000


def test_blocks_add_up_and_no_whole_array_is_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    x, group = generator.normal(size=(50, 6)).astype(np.float32), generator.integers(0, 20, 50)
    whole = domain_statistics({"a": x}, {"a": group}, lambda block: 2 * block)
    monkeypatch.setattr("chameleon_data.weights.domain_statistics.SAMPLES_AT_ONCE", 7)
    parts = domain_statistics({"a": 2 * x}, {"a": group})
    for column in ("domain", "group", "count"):
        assert_array_equal(getattr(parts, column), getattr(whole, column))
    assert_allclose(parts.total, whole.total, rtol=1e-12, atol=1e-12)
    assert_allclose(parts.squares, whole.squares, rtol=1e-12)
    x[23] = np.nan
    with pytest.raises(InputError, match="row 23 of 50"):
        domain_statistics({"a": x})
    monkeypatch.undo()
    large = np.ones((40_000, 64), np.float32)
    tracemalloc.start()
    domain_statistics({"a": large})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5 * large.nbytes
