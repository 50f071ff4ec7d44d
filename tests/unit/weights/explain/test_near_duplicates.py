"""Separation of pairs by hand, and planted duplicates."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from chameleon_data import domain_weights
from chameleon_data.weights.domain_statistics import (
    Moments,
    domain_statistics,
    moments,
)
from chameleon_data.weights.explain.near_duplicates import nearest_pairs, warn_of_near_duplicates
from tests.support.embeddings import plain_clusters


def by_hand(a: np.ndarray, b: np.ndarray) -> float:
    va, vb = a.var(axis=0, ddof=1).sum(), b.var(axis=0, ddof=1).sum()
    return float((np.square(a.mean(axis=0) - b.mean(axis=0)).sum() - va / len(a) - vb / len(b)) / (va / 2 + vb / 2))


@pytest.mark.parametrize("block", [1, 3, 1024])
def test_pairs_are_all_pairs_by_hand(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chameleon_data.weights.explain.near_duplicates.DOMAINS_AT_ONCE", block)
    embeddings = plain_clusters(8, 30, 5)
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
    embeddings = plain_clusters(5, 200, 64, seed, spread=2.0)
    halves = {**embeddings, "d00": embeddings["d00"][:100], "half": embeddings["d00"][100:]}
    for some, pairs in ((embeddings, []), (halves, [("d00", "half")])):
        found = nearest_pairs(sorted(some), moments(domain_statistics(some)))
        said = warn_of_near_duplicates(found, ())
        assert len(said) == len(pairs)
        assert all(
            sentence.startswith(f"{a!r} and {b!r} look like one domain") for sentence, (a, b) in zip(said, pairs, strict=True)
        )


@pytest.mark.parametrize(
    "settings", [{}, {"preset": "reference"}, {"kernel": "cosine"}, {"level": "sample"}, {"objective": "finetune"}], ids=str
)
def test_domain_weights_warns_as_the_command_does_and_not_of_what_is_merged(settings: dict[str, Any]) -> None:
    embeddings = plain_clusters(5, 200, 64, spread=2.0)
    halves = {**embeddings, "d00": embeddings["d00"][:100], "half": embeddings["d00"][100:]}
    assert not any("one domain" in sentence for sentence in domain_weights(embeddings, **settings).warnings)
    (said,) = [sentence for sentence in domain_weights(halves, **settings).warnings if "one domain" in sentence]
    assert said.startswith("'d00' and 'half' look like one domain")
    if not settings:
        assert not any("one domain" in sentence for sentence in domain_weights(halves, merge="auto").warnings)


def test_of_very_many_domains_the_nearest_pairs_are_found_among_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    statistics = domain_statistics(plain_clusters(60, 10, 8))
    every = nearest_pairs(statistics.names, moments(statistics), 10)
    monkeypatch.setattr("chameleon_data.weights.explain.near_duplicates.MOST_DOMAINS_BY_PAIR", 10)
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
