"""Explanations against leaving a domain out by hand, planted duplicates and planted strangers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from chameleon_data import InputError, domain_weights
from chameleon_data.recipe import Leverage, Weights
from chameleon_data.weights.affinity import Moments, domain_statistics, moments
from chameleon_data.weights.explain import (
    find_misfiled,
    find_neighbours,
    lowered_by,
    nearest_pairs,
    sensitivity_table,
    warn_of_near_duplicates,
)


def clusters(k: int, n: int, p: int, seed: int = 0, spread: float = 0.5) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {f"d{i:02d}": rng.normal(size=(1, p)) + spread * rng.normal(size=(n, p)) for i in range(k)}


def leverage(matrix: np.ndarray, r: float) -> np.ndarray:
    return np.diag(matrix @ np.linalg.inv(matrix + r * np.eye(len(matrix))))


# --- neighbours


@settings(deadline=None, max_examples=40)
@given(k=st.integers(1, 12), p=st.integers(1, 15), seed=st.integers(0, 999), r=st.floats(1e-3, 1e3), centred=st.booleans())
def test_lowered_by_is_leaving_a_domain_out(k: int, p: int, seed: int, r: float, centred: bool) -> None:
    x = np.random.default_rng(seed).normal(size=(k, p))
    x -= centred * x.mean(axis=0)
    matrix = x @ x.T
    lowered = lowered_by(matrix, r)
    whole = leverage(matrix, r)
    for j in range(k):
        rest = [i for i in range(k) if i != j]
        assert_allclose(lowered[rest, j], leverage(matrix[np.ix_(rest, rest)], r) - whole[rest], atol=1e-9)
    assert (lowered >= 0).all()
    assert (np.diag(lowered) == 0).all()


def test_the_twin_is_what_lowers_a_domain_most() -> None:
    x = np.random.default_rng(0).normal(size=(8, 300))
    x[5] = x[2] + 0.1 * np.random.default_rng(1).normal(size=300)
    names = [f"d{i}" for i in range(8)]
    found = find_neighbours(names, x @ x.T, 30.0, most=3)
    assert found["d2"][0].domain == "d5"
    assert found["d5"][0].domain == "d2"
    assert found["d2"][0].lowers > 5 * found["d2"][1].lowers
    assert found["d2"][0].cosine > 0.95
    assert all(len(near) == 3 and near[0].lowers >= near[1].lowers >= near[2].lowers for near in found.values())
    assert all(name not in {n.domain for n in near} for name, near in found.items())
    without = leverage(np.delete(np.delete(x @ x.T, 5, 0), 5, 1), 30.0)[2]
    assert found["d2"][0].lowers == pytest.approx(1 - leverage(x @ x.T, 30.0)[2] / without)


def test_neighbours_of_computed_weights() -> None:
    result = domain_weights(clusters(6, 40, 16))
    assert result.affinity is not None
    found = find_neighbours(list(result.weights), result.affinity, result.ridge * 6)
    assert list(found) == list(result.weights)
    assert all(len(near) == 5 for near in found.values())


def test_a_domain_at_the_centre_has_neighbours_that_lower_nothing() -> None:
    x = np.array([[1.0, 0], [-1, 0], [0, 0]])
    found = find_neighbours("abc", x @ x.T, 1.0)
    assert [(n.lowers, n.cosine) for n in found["c"]] == [(0.0, 0.0), (0.0, 0.0)]
    assert found["a"][0].domain == "b"
    assert found["a"][0].cosine == pytest.approx(-1)


@pytest.mark.parametrize(("matrix", "r"), [(np.eye(2), 0.0), (np.full((2, 2), np.nan), 1.0), (np.ones((2, 3)), 1.0)])
def test_an_affinity_without_meaning_is_refused(matrix: np.ndarray, r: float) -> None:
    with pytest.raises(InputError, match="affinity"):
        lowered_by(matrix, r)


# --- pairs


def by_hand(a: np.ndarray, b: np.ndarray) -> float:
    va, vb = a.var(axis=0, ddof=1).sum(), b.var(axis=0, ddof=1).sum()
    return float((np.square(a.mean(axis=0) - b.mean(axis=0)).sum() - va / len(a) - vb / len(b)) / (va / 2 + vb / 2))


@pytest.mark.parametrize("block", [1, 3, 1024])
def test_pairs_are_all_pairs_by_hand(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chameleon_data.weights.explain.DOMAINS_AT_ONCE", block)
    embeddings = clusters(8, 30, 5)
    names, whole = sorted(embeddings), moments(domain_statistics(embeddings))
    expected = sorted((by_hand(embeddings[a], embeddings[b]), a, b) for a, b in itertools.combinations(names, 2))
    for most in (1, 5, 28, 99):
        found = nearest_pairs(names, whole, most)
        assert [(p.first, p.second) for p in found] == [(a, b) for _, a, b in expected[:most]]
        assert_allclose([p.separation for p in found], [s for s, _, _ in expected[:most]], rtol=1e-9)
    centred = whole.mean - whole.mean.mean(axis=0)
    a, b = centred[names.index(found[0].first)], centred[names.index(found[0].second)]
    assert found[0].cosine == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("seed", range(10))
def test_two_halves_of_a_domain_warn_and_two_domains_do_not(seed: int) -> None:
    embeddings = clusters(5, 200, 64, seed, spread=2.0)
    halves = {**embeddings, "d00": embeddings["d00"][:100], "half": embeddings["d00"][100:]}
    for some, pairs in ((embeddings, []), (halves, [("d00", "half")])):
        found = nearest_pairs(sorted(some), moments(domain_statistics(some)))
        said = warn_of_near_duplicates(found)
        assert len(said) == len(pairs)
        assert all(
            sentence.startswith(f"{a!r} and {b!r} look like one domain") for sentence, (a, b) in zip(said, pairs, strict=True)
        )


def test_of_very_many_domains_the_nearest_pairs_are_found_among_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    statistics = domain_statistics(clusters(60, 10, 8))
    every = nearest_pairs(statistics.names, moments(statistics), 10)
    monkeypatch.setattr("chameleon_data.weights.explain.MOST_DOMAINS_BY_PAIR", 10)
    some = nearest_pairs(statistics.names, moments(statistics), 10)
    assert [(p.first, p.second) for p in some] == [(p.first, p.second) for p in every]
    assert [p.separation for p in some] == pytest.approx([p.separation for p in every], rel=1e-9)


def test_single_samples_are_apart_unless_equal() -> None:
    means = np.array([[0.0, 1], [0, 1], [1, 0], [3, 3]])
    alone = Moments(np.ones(4, np.int64), means, np.full(4, np.nan))
    found = {(p.first, p.second): p.separation for p in nearest_pairs("abcd", alone)}
    assert found.pop(("a", "b")) == 0
    assert set(found.values()) == {np.inf}
    mixed = Moments(np.array([1, 4]), means[[0, 2]], np.array([np.nan, 0.5]))
    (pair,) = nearest_pairs("ac", mixed)
    assert pair.separation == pytest.approx((2 - 0.5) / 2)  # its own noise is not known, and the spread is the other's


# --- misfiled documents


def nearest_by_hand(vectors: dict[str, np.ndarray], m: int = 5) -> list[tuple[str, int, str, float]]:
    centre = np.mean([x.mean(axis=0) for x in vectors.values()], axis=0)
    unit = {name: (x - centre) / np.linalg.norm(x - centre, axis=1, keepdims=True) for name, x in vectors.items()}
    found = []
    for name, x in unit.items():
        for row, v in enumerate(x):
            near = {d: np.sort(np.delete(y, row, 0) @ v if d == name else y @ v)[-m:].mean() for d, y in unit.items()}
            own = near.pop(name)
            best = max(near, key=near.get)
            if near[best] > own:
                found.append((name, row, best, near[best] - own))
    return sorted(found, key=lambda f: -f[3])


def test_misfiled_documents_are_those_found_by_hand() -> None:
    vectors = {name: x.astype(np.float32) for name, x in clusters(4, 25, 6, spread=2.0).items()}
    vectors["d03"] = vectors["d03"][:3]  # fewer than are compared with
    expected = nearest_by_hand(vectors)
    found = find_misfiled(vectors, most=1000)
    assert len(expected) > 10
    assert [(f.domain, f.row, f.nearest) for f in found] == [e[:3] for e in expected]
    assert_allclose([f.margin for f in found], [e[3] for e in expected], atol=1e-5)
    assert find_misfiled(vectors, most=7) == found[:7]


def test_planted_strangers_head_the_list() -> None:
    vectors = {name: x.astype(np.float32) for name, x in clusters(6, 50, 32, spread=0.6).items()}
    planted = {("d01", 7): "d04", ("d02", 0): "d05", ("d05", 49): "d00"}
    for (domain, row), home in planted.items():
        vectors[domain][row] = vectors[home][20] + 0.01
    found = find_misfiled(vectors)
    assert {(f.domain, f.row): f.nearest for f in found[:3]} == planted
    assert found[2].margin > 0.3


def test_a_bounded_search_finds_planted_strangers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chameleon_data.weights.explain.REFERENCE_DOCUMENTS", 60)
    vectors = {name: x.astype(np.float32) for name, x in clusters(6, 50, 32, spread=0.6).items()}
    vectors["d01"][40] = vectors["d04"][20] + 0.01
    assert [(f.domain, f.row, f.nearest) for f in find_misfiled(vectors)[:1]] == [("d01", 40, "d04")]


def test_lone_samples_and_zero_vectors_are_no_trouble() -> None:
    vectors = {name: x.astype(np.float32) for name, x in clusters(3, 10, 8).items()}
    vectors["d00"][4] = np.mean([x.mean(axis=0) for x in vectors.values()], axis=0)
    assert all(f.domain != "lone" != f.nearest for f in find_misfiled({**vectors, "lone": vectors["d00"][:1]}))
    assert find_misfiled({"only": vectors["d00"]}) == ()
    assert find_misfiled({}) == ()


# --- sensitivity


@pytest.mark.parametrize("objective", ["pretrain", "finetune"])
@pytest.mark.parametrize("preset", ["default", "reference"])
def test_each_setting_is_a_run_of_its_own(preset: str, objective: str) -> None:
    embeddings = clusters(5, 40, 8)
    table = sensitivity_table(
        domain_statistics(embeddings), Leverage(preset=preset), Weights(objective=objective), [0.1, 2.0], [30.0, 60.0]
    )
    assert [(s.ridge, s.temperature) for s in table] == [(0.1, 30.0), (0.1, 60.0), (2.0, 30.0), (2.0, 60.0)]
    used = domain_weights(embeddings, preset=preset, objective=objective).weights
    for setting in table:
        expected = domain_weights(
            embeddings, preset=preset, objective=objective, ridge=setting.ridge, temperature=setting.temperature
        )
        assert setting.weights == pytest.approx(expected.weights, rel=1e-9)
        assert setting.effective_domains == pytest.approx(expected.effective_domains)
        assert setting.moved == pytest.approx(sum(abs(w - used[n]) for n, w in expected.weights.items()) / 2, abs=1e-12)


def test_the_middle_of_the_grid_is_the_mixture_in_use() -> None:
    table = sensitivity_table(domain_statistics(clusters(5, 40, 8)), Leverage(), Weights())
    assert len(table) == 25
    assert table[12].moved == pytest.approx(0, abs=1e-9)
    assert max(s.moved for s in table) > 0.01


def test_a_setting_without_an_answer_says_why() -> None:
    statistics = domain_statistics(clusters(5, 40, 8))
    cold, warm = sensitivity_table(statistics, Leverage(preset="reference"), Weights(), [10.0], [1e-4, 50.0])
    assert cold.weights is cold.moved is cold.effective_domains is None
    assert "overflows" in cold.refused
    assert warm.weights is not None
    assert warm.refused == ""


def test_a_table_of_one_domain_or_of_samples_is_refused() -> None:
    with pytest.raises(InputError, match="single domain"):
        sensitivity_table(domain_statistics(clusters(1, 4, 4)), Leverage(), Weights())
    with pytest.raises(InputError, match="level"):
        sensitivity_table(domain_statistics(clusters(3, 4, 4)), Leverage(level="sample"), Weights())
