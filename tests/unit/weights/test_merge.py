"""Domains that are one: found where the samples show it, scored as one, and weighed as the domain was."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from chameleon_data import InputError, domain_weights
from chameleon_data.recipe import Leverage, Weights
from chameleon_data.weights.centre import CentreRule
from chameleon_data.weights.domain_statistics import domain_statistics, moments
from chameleon_data.weights.domain_weights import weigh_features
from chameleon_data.weights.merge import Units, find_alike, merge_domains, squared_distances
from chameleon_data.weights.weigh import spread_over_domains
from tests.support.embeddings import plain_clusters, unit_clusters

HALVES = ("d00 a", "d00 b")


def sliced(embeddings: dict[str, np.ndarray], name: str, parts: int) -> dict[str, np.ndarray]:
    """The domain cut into `parts` by rows."""
    cut = {f"{name} {'abcdefghij'[i]}": embeddings[name][i::parts] for i in range(parts)}
    return {**{n: x for n, x in embeddings.items() if n != name}, **cut}


def test_distances_are_those_of_the_true_means_on_average() -> None:
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(4, 10))
    found = [
        squared_distances(
            moments(domain_statistics({f"d{i}": c + generator.normal(size=(20, 10)) for i, c in enumerate(centres)}))
        )
        for _ in range(300)
    ]
    truth = np.square(centres[:, None] - centres).sum(axis=2)
    above = np.triu_indices(4, 1)
    assert_allclose(np.mean(found, axis=0)[above], truth[above], rtol=0.03)


def test_halves_of_a_domain_are_one_and_other_domains_are_not() -> None:
    halved = sliced(plain_clusters(8, 400, 24), "d00", 2)
    assert [group for group in find_alike(domain_statistics(halved)) if len(group) > 1] == [HALVES]
    tens = sliced(plain_clusters(8, 2000, 24), "d00", 10)
    assert [len(group) for group in find_alike(domain_statistics(tens)) if len(group) > 1] == [10]
    assert all(len(group) == 1 for group in find_alike(domain_statistics(plain_clusters(12, 8, 24, spread=3.0))))
    assert find_alike(domain_statistics(plain_clusters(2, 8, 4))) == (("d00",), ("d01",))


def test_samples_too_few_to_show_it_merge_nothing() -> None:
    """Halves of 8 samples, with a spread far above the distance between domains: nearer than their noise, and not merged."""
    halved = sliced(plain_clusters(8, 16, 24, spread=6.0), "d00", 2)
    assert all(len(group) == 1 for group in find_alike(domain_statistics(halved)))
    lone = {**plain_clusters(5, 60, 6), "one": np.zeros((1, 6)) + 0.1, "same": np.zeros((1, 6)) + 0.1}
    assert all(len(group) == 1 for group in find_alike(domain_statistics(lone)))


@pytest.mark.parametrize("parts", [2, 5])
@pytest.mark.parametrize("objective", ["pretrain", "finetune"])
@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_slices_of_a_domain_get_what_it_had_and_share_it_by_tokens(parts: int, objective: str, exponent: float) -> None:
    embeddings = plain_clusters(8, 1000, 24, spread=0.7)
    tokens = {name: 1000.0 * (i + 1) for i, name in enumerate(embeddings)}
    weights, centre = Weights(objective=objective), CentreRule(tokens, exponent, prior={"d03": 2.0})
    whole = weigh_features(embeddings, None, Leverage(), weights, centre, 0)
    cut = sliced(embeddings, "d00", parts)
    slices = [name for name in cut if name not in embeddings]
    of_slices = {name: 1000.0 * (i + 1) / sum(range(1, parts + 1)) for i, name in enumerate(slices)}
    tokens_cut = {name: of_slices.get(name, tokens.get(name, 0.0)) for name in cut}
    rule = CentreRule(tokens_cut, exponent, prior={"d03": 2.0})
    merged = spread_over_domains(weigh_features(cut, None, Leverage(merge="auto"), weights, rule, 0))
    assert sum(merged.weights[name] for name in slices) == pytest.approx(whole.weights["d00"], rel=0.02)
    shares = np.array([merged.weights[name] for name in slices])
    assert_allclose(shares / shares.sum(), np.arange(1, parts + 1) / sum(range(1, parts + 1)))
    assert sum(merged.weights.values()) == pytest.approx(1)
    assert {merged.scores[name] for name in slices} == {merged.scores[slices[0]]}
    assert all(low < merged.weights[name] < high for name, (low, high) in merged.intervals.items())
    apart = spread_over_domains(weigh_features(cut, None, Leverage(), weights, rule, 0))
    if exponent == 0.0 and objective == "pretrain":
        assert sum(apart.weights[name] for name in slices) > 1.5 * whole.weights["d00"], "without it, slicing pays"


@pytest.mark.parametrize("options", [{"preset": "reference"}, {"kernel": "cosine"}, {"kernel": "rbf", "landmarks": 96}])
def test_every_preset_and_kernel_can_score_them_as_one(options: dict) -> None:
    halved = sliced(unit_clusters(8, 600), "d2", 2)
    found = domain_weights(halved, merge="auto", temperature=20.0, **options)
    assert found.weights["d2 a"] == found.weights["d2 b"]
    apart = domain_weights(halved, temperature=20.0, **options)
    assert found.weights["d2 a"] < 0.7 * apart.weights["d2 a"]
    assert list(found.weights) == sorted(halved)
    assert found.affinity.shape == (9, 9)
    i, j = (sorted(halved).index(name) for name in ("d2 a", "d2 b"))
    assert_allclose(found.affinity[i], found.affinity[j])
    if found.nystrom:
        assert found.nystrom.bounds["d2 a"] == found.nystrom.bounds["d2 b"]


def test_a_target_is_matched_by_units_too() -> None:
    embeddings = plain_clusters(6, 400, 12)
    found = domain_weights(sliced(embeddings, "d00", 2), merge="auto", like=embeddings["d00"], temperature={"kl": 0.5})
    assert found.weights["d00 a"] == found.weights["d00 b"] > 0.2


def test_units_keep_names_parts_and_samples() -> None:
    embeddings = plain_clusters(3, 40, 5)
    units, centre = CentreRule({"d00": 3.0, "d01": 1.0, "d02": 4.0}).units([("d00", "d01"), ("d02",)])
    assert units == Units({"d00 + d01": {"d00": 0.75, "d01": 0.25}, "d02": {"d02": 1.0}})
    assert centre == {"d00 + d01": 0.5, "d02": 0.5}
    assert units.merged == (("d00", "d01"),)
    assert units.split({"d00 + d01": 0.4, "d02": 0.6}) == pytest.approx({"d00": 0.3, "d01": 0.1, "d02": 0.6})
    merged = moments(merge_domains(domain_statistics(embeddings), units))
    both = np.concatenate([embeddings["d00"], embeddings["d01"]])
    assert_allclose(merged.mean, [both.mean(axis=0), embeddings["d02"].mean(axis=0)])
    given, shares = CentreRule({"a": 1.0, "b": 9.0}, given={"a": 0.5, "b": 0.0}, prior={"b": 4.0}).units([("a", "b")])
    assert given.members == {"a + b": {"a": 1.0, "b": 0.0}}
    assert shares == {"a + b": 1.0}


def test_merging_is_refused_where_it_says_nothing() -> None:
    with pytest.raises(InputError, match="'merge' compares the means of domains"):
        domain_weights(plain_clusters(4, 8, 3), level="sample", merge="auto")
    with pytest.raises(InputError, match="at most 2,000 domains; there are 2,001"):
        domain_weights(plain_clusters(2001, 2, 2), merge="auto")
