"""The default preset against its formula, its invariances and its warnings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from chameleon_data import InputError, domain_weights
from chameleon_data.recipe import Leverage
from chameleon_data.weights.domain_statistics import (
    domain_statistics,
    merge_statistics,
)
from chameleon_data.weights.tilt import Tilt
from chameleon_data.weights.weigh import weigh
from tests.support.embeddings import as_array, uneven_clusters


@pytest.mark.parametrize("objective", ["pretrain", "finetune"])
@pytest.mark.parametrize(("k", "p", "n"), [(8, 20, 150), (40, 6, 4)], ids=["debiased", "plain"])
def test_the_default_preset_is_its_formula(k: int, p: int, n: int, objective: str) -> None:
    embeddings = uneven_clusters(k, n, p)
    means = np.stack([x.mean(axis=0) for x in embeddings.values()])
    matrix = means @ means.T
    if k - 1 <= p:
        matrix -= np.diag([x.var(axis=0, ddof=1).sum() / n for x in embeddings.values()])
    centring = np.eye(k) - 1 / k
    matrix = centring @ matrix @ centring
    s = np.diag(matrix @ np.linalg.inv(matrix + 0.5 * k * np.eye(k)))
    s = s / s.mean()
    e = np.exp((1 / np.maximum(s, 1e-3) if objective == "pretrain" else s) / 20)
    result = domain_weights(embeddings, objective=objective, ridge=0.5, temperature=20)
    assert_allclose(as_array(result.scores), s, rtol=1e-8)
    assert_allclose(as_array(result.weights), e / e.sum(), rtol=1e-8)
    assert result.ridge == pytest.approx(0.5)
    assert result.temperature == 20


def test_pretraining_favours_what_is_shared_and_finetuning_what_is_distinct() -> None:
    embeddings = uneven_clusters(8, 100, 16)
    pretrain, finetune = (as_array(domain_weights(embeddings, objective=o).weights) for o in ("pretrain", "finetune"))
    assert list(np.argsort(pretrain)) == list(np.argsort(-finetune))


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 999),
    scale=st.floats(1e-6, 1e6),
    shape=st.sampled_from([(5, 12), (30, 6)]),
    objective=st.sampled_from(["pretrain", "finetune"]),
)
def test_scaling_and_rotating_the_embeddings_change_nothing(
    seed: int, scale: float, shape: tuple[int, int], objective: str
) -> None:
    embeddings = uneven_clusters(shape[0], 6, shape[1], seed)
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(shape[1], shape[1])))[0]
    before = domain_weights(embeddings, objective=objective)
    after = domain_weights({name: scale * x @ rotation for name, x in embeddings.items()}, objective=objective)
    assert_allclose(as_array(after.weights), as_array(before.weights), rtol=1e-6)
    assert_allclose(as_array(after.scores), as_array(before.scores), rtol=1e-6, atol=1e-8)
    assert after.temperature == pytest.approx(before.temperature, rel=1e-6)


@given(order=st.permutations(range(6)))
def test_the_order_of_domains_changes_nothing_to_the_last_bit(order: list[int]) -> None:
    embeddings = uneven_clusters(6, 10, 8)
    names = list(embeddings)
    assert domain_weights({names[i]: embeddings[names[i]] for i in order}).weights == domain_weights(embeddings).weights


def test_moving_all_embeddings_by_a_vector_changes_nothing_under_centring() -> None:
    embeddings = uneven_clusters(6, 40, 8)
    moved = {name: x + 7.0 for name, x in embeddings.items()}
    assert_allclose(as_array(domain_weights(moved).weights), as_array(domain_weights(embeddings).weights), rtol=1e-9)


def test_a_duplicated_domain_gets_the_weight_of_its_twin_and_a_lower_score() -> None:
    embeddings = uneven_clusters(5, 200, 16)
    before = domain_weights(embeddings)
    after = domain_weights({**embeddings, "twin": embeddings["d0002"]})
    assert after.weights["twin"] == pytest.approx(after.weights["d0002"], rel=1e-9)
    assert after.scores["twin"] < before.scores["d0002"]
    nearly = domain_weights({**embeddings, "twin": embeddings["d0002"] + 1e-9})
    assert_allclose(as_array(nearly.weights), as_array(after.weights), rtol=1e-6)


def test_a_domain_at_the_centroid_gets_the_most_and_not_everything() -> None:
    square = {"a": [[1.0, 0.0]], "b": [[-1.0, 0.0]], "c": [[0.0, 1.0]], "d": [[0.0, -1.0]]}
    result = domain_weights({**square, "middle": [[1e-20, 0.0]]})
    assert max(result.weights, key=result.weights.get) == "middle"
    assert result.effective_domains == pytest.approx(0.985 * 5)
    weights = domain_weights({**square, "middle": [[1e-20, 0.0]]}, temperature=500.0).weights  # its ŝ counts as 1e-3
    assert weights["middle"] / weights["a"] == pytest.approx(np.exp((1000 - 0.8) / 500), rel=1e-9)


def test_ten_thousand_domains_have_finite_weights() -> None:
    result = domain_weights(uneven_clusters(10_000, 2, 16))
    weights = as_array(result.weights)
    assert np.isfinite(weights).all()
    assert weights.min() > 0
    assert weights.sum() == pytest.approx(1, abs=1e-9)
    assert result.effective_domains >= 0.985 * 10_000 * (1 - 1e-9)
    assert result.affinity is None
    assert len(result.variance_of_mean) == 10_000
    assert any("cannot be debiased" in warning for warning in result.warnings)


def test_one_domain_takes_all_and_measures_nothing() -> None:
    result = domain_weights({"only": np.ones((3, 2))})
    assert result.weights == {"only": 1.0}
    assert result.scores == result.intervals == result.rank_stability == {"only": None}
    assert result.ridge is result.temperature is result.affinity is None


def test_two_domains_need_centring_off() -> None:
    embeddings = uneven_clusters(2, 100, 8)
    with pytest.raises(InputError, match=r"'d0000' and 'd0001' mirror images.*centre: false"):
        domain_weights(embeddings)
    weights = as_array(domain_weights(embeddings, centre=False).weights)
    assert weights.sum() == pytest.approx(1)
    assert abs(weights[0] - 0.5) > 1e-3


def test_a_rank_one_affinity_has_an_answer() -> None:
    line = np.array([1.0, 2.0, 3.0])
    result = domain_weights({f"d{i}": [c * line] for i, c in enumerate([-2.0, -1.0, 0.5, 4.0])})
    assert np.isfinite(as_array(result.weights)).all()
    assert result.effective_domains >= 0.985 * 4 * (1 - 1e-9)


def test_numbers_of_samples_may_differ_by_a_hundredfold() -> None:
    many = uneven_clusters(4, 990, 8, spread=0.1)
    mixed = domain_weights({name: x if i % 2 else x[:10] for i, (name, x) in enumerate(many.items())})
    assert_allclose(as_array(mixed.weights), as_array(domain_weights(many).weights), atol=0.02)


def test_a_single_sample_has_no_interval_and_a_warning() -> None:
    embeddings = {**uneven_clusters(4, 50, 8), "lone": np.ones((1, 8))}
    result = domain_weights(embeddings)
    assert result.intervals["lone"] is result.rank_stability["lone"] is result.variance_of_mean["lone"] is None
    assert all(result.intervals[name] is not None for name in embeddings if name != "lone")
    assert any(warning.startswith("lone: all samples in one jackknife group") for warning in result.warnings)


def test_clipped_eigenvalues_are_reported() -> None:
    result = domain_weights(uneven_clusters(10, 3, 40, spread=4.0), debias=1.0)
    assert result.clipped_mass > 0.01
    assert any("negative eigenvalues" in warning for warning in result.warnings)
    assert domain_weights(uneven_clusters(10, 3, 40, spread=4.0), debias=0).clipped_mass == 0


def test_a_ridge_far_above_the_affinity_is_warned_of() -> None:
    quiet, loud = (domain_weights(uneven_clusters(5, 9, 8), ridge=ridge).warnings for ridge in ("auto", 1e4))
    assert not quiet
    assert "'ridge: auto' follows the data" in loud[0]


def test_a_mixture_that_is_one_domain_is_warned_of() -> None:
    result = domain_weights(uneven_clusters(5, 9, 8), temperature=0.01)
    assert "takes 1.000 of the mixture" in result.warnings[-1]


@pytest.mark.parametrize(
    "options", [{"ridge": 0}, {"ridge": "high"}, {"temperature": -1}, {"debias": 2}, {"objective": "train"}, {"preset": "none"}]
)
def test_options_without_meaning_are_refused(options: dict) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        domain_weights(uneven_clusters(3, 4, 4), **options)


def test_weights_come_from_statistics_alone() -> None:
    embeddings = uneven_clusters(6, 30, 8)
    parts = [domain_statistics({name: x}) for name, x in embeddings.items()]
    again = weigh(merge_statistics(*reversed(parts)), Leverage(), Tilt("inverse"))
    assert again.weights == domain_weights(embeddings).weights
