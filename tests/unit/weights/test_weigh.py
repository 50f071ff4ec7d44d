"""Weights against the published formula and vectors, their invariances and error bars; bounds against optimality itself."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from chameleon_data import InputError, domain_weights
from chameleon_data.recipe import Leverage, Weights
from chameleon_data.weights.affinity import domain_statistics, merge_statistics
from chameleon_data.weights.weigh import AUTO_EFFECTIVE_SHARE, temperature_for, weigh
from tests.support.paths import DATA

VECTORS = json.loads((DATA / "krls_reference.json").read_text())["cases"]


def clusters(k: int, n: int, p: int, seed: int = 0, spread: float = 0.5) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    radius = np.exp(0.5 * rng.normal(size=k))
    return {f"d{i:04d}": radius[i] * rng.normal(size=(1, p)) + spread * rng.normal(size=(n, p)) for i in range(k)}


def values(mapping: dict[str, float]) -> np.ndarray:
    return np.array(list(mapping.values()))


def published(
    embeddings: dict[str, np.ndarray], objective: str, ridge: float, temperature: float
) -> tuple[np.ndarray, np.ndarray]:
    means = np.stack([np.mean(x, axis=0) for x in embeddings.values()])
    k = len(means)
    centring = np.eye(k) - 1 / k
    matrix = centring @ means @ means.T @ centring
    s = np.diag(matrix @ np.linalg.inv(matrix + ridge * k * np.eye(k)))
    s = s / s.sum()
    e = np.exp((1 / (s + 1e-12) if objective == "pretrain" else s) / temperature)
    return s, e / e.sum()


# --- the published preset


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: f"k={len(case['domains'])}")
@pytest.mark.parametrize("objective", ["pretrain", "finetune"])
def test_reference_vectors(case: dict, objective: str) -> None:
    temperature = case["pt_temperature" if objective == "pretrain" else "ft_temperature"]
    result = domain_weights(
        case["embeddings"], objective=objective, preset="reference", ridge=case["lambda_reg"], temperature=temperature
    )
    assert list(result.weights) == case["domains"]
    assert_allclose(values(result.weights), case[objective], rtol=1e-9)
    assert_allclose(values(result.scores), case["scores"], rtol=1e-9)
    assert_allclose(result.affinity, case["affinity"], atol=1e-9)
    assert domain_weights(case["embeddings"], objective=objective, preset="reference").weights == result.weights


@pytest.mark.parametrize("objective", ["pretrain", "finetune"])
@pytest.mark.parametrize(("k", "p"), [(9, 30), (60, 8)])
def test_the_reference_preset_is_the_published_formula(k: int, p: int, objective: str) -> None:
    embeddings = clusters(k, 5, p)
    scores, weights = published(embeddings, objective, 3.0, 40.0)
    result = domain_weights(embeddings, objective=objective, preset="reference", ridge=3.0, temperature=40.0)
    assert_allclose(values(result.scores), scores, rtol=1e-10)
    assert_allclose(values(result.weights), weights, rtol=1e-9)


def test_the_default_at_the_published_ridge_equals_the_reference_at_seven_domains() -> None:
    embeddings = clusters(7, 5, 16)
    for objective, temperature in (("pretrain", 5 / 7), ("finetune", 1.4)):
        reference = domain_weights(embeddings, objective=objective, preset="reference")
        default = domain_weights(embeddings, objective=objective, ridge=10.0, temperature=temperature, debias=0.0)
        assert_allclose(values(default.weights), values(reference.weights), rtol=1e-9)


REFUSED = {
    "one domain": (clusters(1, 5, 4), {}, "NaN for a single domain"),
    "two domains": (clusters(2, 5, 4), {}, "mirror images"),
    "overflow": (clusters(4_000, 1, 8), {}, "overflows.*one of 4000"),
    "at the centroid": ({"a": [[1.0]], "b": [[-1.0]], "c": [[1e-30]]}, {}, "overflows"),
    "debiased": (clusters(3, 5, 4), {"debias": 0.5}, "not debiased"),
    "not centred": (clusters(3, 5, 4), {"centre": False}, "centred"),
    "not a number": ({"a": [[np.nan]], "b": [[1.0]]}, {}, "'a'"),
    "zero": ({"a": [[0.0]], "b": [[0.0]], "c": [[0.0]]}, {}, "'a'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_reference_preset_refuses_where_the_formula_breaks(case: str) -> None:
    embeddings, options, reason = REFUSED[case]
    with pytest.raises(InputError, match=reason):
        domain_weights(embeddings, preset="reference", **options)


# --- the default preset


@pytest.mark.parametrize("objective", ["pretrain", "finetune"])
@pytest.mark.parametrize(("k", "p", "n"), [(8, 20, 150), (40, 6, 4)], ids=["debiased", "plain"])
def test_the_default_preset_is_its_formula(k: int, p: int, n: int, objective: str) -> None:
    embeddings = clusters(k, n, p)
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
    assert_allclose(values(result.scores), s, rtol=1e-8)
    assert_allclose(values(result.weights), e / e.sum(), rtol=1e-8)
    assert result.ridge == pytest.approx(0.5)
    assert result.temperature == 20


def test_pretraining_favours_what_is_shared_and_finetuning_what_is_distinct() -> None:
    embeddings = clusters(8, 100, 16)
    pretrain, finetune = (values(domain_weights(embeddings, objective=o).weights) for o in ("pretrain", "finetune"))
    assert list(np.argsort(pretrain)) == list(np.argsort(-finetune))


@settings(deadline=None)
@given(k=st.integers(3, 60), seed=st.integers(0, 999), sigma=st.floats(0.1, 1.5), coldest=st.sampled_from([5 / 7, 1.4]))
def test_auto_temperature_is_the_smallest_that_spreads_the_mixture(k: int, seed: int, sigma: float, coldest: float) -> None:
    preference = 1 / np.maximum(np.exp(sigma * np.random.default_rng(seed).normal(size=k)), 1e-3)

    def effective(temperature: float) -> float:
        w = np.exp((preference - preference.max()) / temperature)
        w /= w.sum()
        return float(np.exp(-(w[w > 0] * np.log(w[w > 0])).sum()))

    found = temperature_for(preference, AUTO_EFFECTIVE_SHARE * len(preference), coldest)
    assert effective(found) >= 0.985 * k * (1 - 1e-9)
    assert found == coldest or effective(found * (1 - 1e-6)) < 0.985 * k


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
    embeddings = clusters(shape[0], 6, shape[1], seed)
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(shape[1], shape[1])))[0]
    before = domain_weights(embeddings, objective=objective)
    after = domain_weights({name: scale * x @ rotation for name, x in embeddings.items()}, objective=objective)
    assert_allclose(values(after.weights), values(before.weights), rtol=1e-6)
    assert_allclose(values(after.scores), values(before.scores), rtol=1e-6, atol=1e-8)
    assert after.temperature == pytest.approx(before.temperature, rel=1e-6)


@given(order=st.permutations(range(6)))
def test_the_order_of_domains_changes_nothing_to_the_last_bit(order: list[int]) -> None:
    embeddings = clusters(6, 10, 8)
    names = list(embeddings)
    assert domain_weights({names[i]: embeddings[names[i]] for i in order}).weights == domain_weights(embeddings).weights


def test_moving_all_embeddings_by_a_vector_changes_nothing_under_centring() -> None:
    embeddings = clusters(6, 40, 8)
    moved = {name: x + 7.0 for name, x in embeddings.items()}
    assert_allclose(values(domain_weights(moved).weights), values(domain_weights(embeddings).weights), rtol=1e-9)


def test_a_duplicated_domain_gets_the_weight_of_its_twin_and_a_lower_score() -> None:
    embeddings = clusters(5, 200, 16)
    before = domain_weights(embeddings)
    after = domain_weights({**embeddings, "twin": embeddings["d0002"]})
    assert after.weights["twin"] == pytest.approx(after.weights["d0002"], rel=1e-9)
    assert after.scores["twin"] < before.scores["d0002"]
    nearly = domain_weights({**embeddings, "twin": embeddings["d0002"] + 1e-9})
    assert_allclose(values(nearly.weights), values(after.weights), rtol=1e-6)


def test_a_domain_at_the_centroid_gets_the_most_and_not_everything() -> None:
    square = {"a": [[1.0, 0.0]], "b": [[-1.0, 0.0]], "c": [[0.0, 1.0]], "d": [[0.0, -1.0]]}
    result = domain_weights({**square, "middle": [[1e-20, 0.0]]})
    assert max(result.weights, key=result.weights.get) == "middle"
    assert result.effective_domains == pytest.approx(0.985 * 5)
    weights = domain_weights({**square, "middle": [[1e-20, 0.0]]}, temperature=500.0).weights  # its ŝ counts as 1e-3
    assert weights["middle"] / weights["a"] == pytest.approx(np.exp((1000 - 0.8) / 500), rel=1e-9)


def test_ten_thousand_domains_have_finite_weights() -> None:
    result = domain_weights(clusters(10_000, 2, 16))
    weights = values(result.weights)
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
    embeddings = clusters(2, 100, 8)
    with pytest.raises(InputError, match=r"'d0000' and 'd0001' mirror images.*centre: false"):
        domain_weights(embeddings)
    weights = values(domain_weights(embeddings, centre=False).weights)
    assert weights.sum() == pytest.approx(1)
    assert abs(weights[0] - 0.5) > 1e-3


def test_a_rank_one_affinity_has_an_answer() -> None:
    line = np.array([1.0, 2.0, 3.0])
    result = domain_weights({f"d{i}": [c * line] for i, c in enumerate([-2.0, -1.0, 0.5, 4.0])})
    assert np.isfinite(values(result.weights)).all()
    assert result.effective_domains >= 0.985 * 4 * (1 - 1e-9)


def test_numbers_of_samples_may_differ_by_a_hundredfold() -> None:
    many = clusters(4, 990, 8, spread=0.1)
    mixed = domain_weights({name: x if i % 2 else x[:10] for i, (name, x) in enumerate(many.items())})
    assert_allclose(values(mixed.weights), values(domain_weights(many).weights), atol=0.02)


def test_a_single_sample_has_no_interval_and_a_warning() -> None:
    embeddings = {**clusters(4, 50, 8), "lone": np.ones((1, 8))}
    result = domain_weights(embeddings)
    assert result.intervals["lone"] is result.rank_stability["lone"] is result.variance_of_mean["lone"] is None
    assert all(result.intervals[name] is not None for name in embeddings if name != "lone")
    assert any(warning.startswith("lone: all samples in one jackknife group") for warning in result.warnings)


def test_clipped_eigenvalues_are_reported() -> None:
    result = domain_weights(clusters(10, 3, 40, spread=4.0), debias=1.0)
    assert result.clipped_mass > 0.01
    assert any("negative eigenvalues" in warning for warning in result.warnings)
    assert domain_weights(clusters(10, 3, 40, spread=4.0), debias=0).clipped_mass == 0


def test_a_ridge_far_above_the_affinity_is_warned_of() -> None:
    quiet, loud = (domain_weights(clusters(5, 9, 8), ridge=ridge).warnings for ridge in ("auto", 1e4))
    assert not quiet
    assert "'ridge: auto' follows the data" in loud[0]


def test_a_mixture_that_is_one_domain_is_warned_of() -> None:
    result = domain_weights(clusters(5, 9, 8), temperature=0.01)
    assert "takes 1.000 of the mixture" in result.warnings[-1]


@pytest.mark.parametrize(
    "options", [{"ridge": 0}, {"ridge": "high"}, {"temperature": -1}, {"debias": 2}, {"objective": "train"}, {"preset": "none"}]
)
def test_options_without_meaning_are_refused(options: dict) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        domain_weights(clusters(3, 4, 4), **options)


def test_weights_come_from_statistics_alone() -> None:
    embeddings = clusters(6, 30, 8)
    parts = [domain_statistics({name: x}) for name, x in embeddings.items()]
    again = weigh(merge_statistics(*reversed(parts)), Leverage(), Weights())
    assert again.weights == domain_weights(embeddings).weights


# --- error bars


def test_the_interval_is_the_jackknife_of_whole_runs() -> None:
    embeddings = clusters(5, 60, 8)
    groups = {name: np.random.default_rng(i).integers(0, 20, 60) for i, name in enumerate(embeddings)}
    result = domain_weights(embeddings, groups=groups, debias=0.5)
    rest = [{name: x[groups[name] != g] for name, x in embeddings.items()} for g in range(20)]
    replicates = np.stack([values(domain_weights(r, debias=0.5).weights) for r in rest])
    best = values(result.weights)
    error = np.sqrt(19 / 20 * np.square(np.log(replicates) - np.log(best)).sum(axis=0))
    reach = np.exp(1.7291328115213678 * error)  # Student's t, 19 degrees of freedom, 95th percentile
    assert_allclose(np.array(list(result.intervals.values())), np.stack([best / reach, best * reach], axis=1), rtol=1e-8)
    ranks = np.argsort(np.argsort(-replicates, axis=1), axis=1) == np.argsort(np.argsort(-best))
    assert_allclose(values(result.rank_stability), ranks.mean(axis=0))


@pytest.mark.parametrize(("n", "objective"), [(20, "pretrain"), (40, "pretrain"), (100, "finetune")])
def test_intervals_cover_nine_times_in_ten(n: int, objective: str) -> None:
    rng = np.random.default_rng(n)
    centres = {f"d{i}": np.exp(0.5 * rng.normal()) * rng.normal(size=32) for i in range(8)}
    truth = domain_weights({name: c[None] for name, c in centres.items()}, objective=objective, debias=0).weights
    hits = []
    for _ in range(40):
        drawn = {name: c + 0.9 * rng.normal(size=(n, 32)) for name, c in centres.items()}
        found = domain_weights(drawn, objective=objective).intervals
        hits += [found[name][0] <= truth[name] <= found[name][1] for name in truth]
    assert 0.83 <= np.mean(hits) <= 0.98


def test_an_interval_stays_between_zero_and_one_however_unsure() -> None:
    result = domain_weights(clusters(4, 3, 8, spread=5.0), temperature=1e-3, debias=0)
    for low, high in result.intervals.values():
        assert 0 <= low <= high <= 1


def test_more_samples_narrow_the_intervals() -> None:
    width = [np.mean([b - a for a, b in domain_weights(clusters(6, n, 16)).intervals.values()]) for n in (40, 160, 640)]
    assert width[0] > 1.5 * width[1] > 2 * width[2]


@pytest.mark.parametrize("objective", ["pretrain", "finetune"])
@pytest.mark.parametrize("effective", [1.2, 3.0, 6.5, 9.99])
def test_a_temperature_may_be_given_as_effective_domains(objective: str, effective: float) -> None:
    generator = np.random.default_rng(3)
    embeddings = {f"d{i}": generator.normal(size=(30, 16)) + 2 * generator.normal(size=16) for i in range(10)}
    found = domain_weights(embeddings, objective=objective, temperature={"effective_domains": effective})
    w = np.array(list(found.weights.values()))
    assert np.exp(-(w * np.log(w)).sum()) == pytest.approx(effective, rel=1e-9)
    again = domain_weights(embeddings, objective=objective, temperature=found.temperature)
    assert again.weights == pytest.approx(found.weights, rel=1e-9)


@pytest.mark.parametrize(
    ("effective", "message"), [(10, "there are no more than 10"), (1.0, "greater than 1"), (float("nan"), "greater than")]
)
def test_effective_domains_that_no_temperature_gives_are_refused(effective: float, message: str) -> None:
    embeddings = {f"d{i}": np.random.default_rng(i).normal(size=(30, 16)) for i in range(10)}
    with pytest.raises(InputError, match=message):
        domain_weights(embeddings, temperature={"effective_domains": effective})
    with pytest.raises(InputError, match="as a number"):
        domain_weights(embeddings, preset="reference", temperature={"effective_domains": 3.0})


@pytest.mark.parametrize("level", ["domain", "sample"])
def test_a_ridge_by_the_dimension_it_leaves(level: str) -> None:
    generator = np.random.default_rng(5)
    samples = {f"d{i}": generator.normal(size=(40, 12)) + 2 * generator.normal(size=12) for i in range(6)}
    found = domain_weights(samples, level=level, ridge={"effective_dimension": 2.5}, debias=0 if level == "domain" else "auto")
    assert found.ridge is not None
    explicit = domain_weights(samples, level=level, ridge=found.ridge, debias=0 if level == "domain" else "auto")
    assert_allclose(list(found.weights.values()), list(explicit.weights.values()), rtol=1e-9)
    means = np.stack([x.mean(axis=0) for x in samples.values()])
    centred = means - means.mean(axis=0)
    if level == "domain":
        values = np.linalg.eigvalsh(centred @ centred.T)
    else:
        second = sum(x.T @ x / len(x) for x in samples.values()) / 6
        values = np.linalg.eigvalsh(second - np.outer(means.mean(axis=0), means.mean(axis=0)))
    r = found.ridge * (6 if level == "domain" else 1)
    assert_allclose((values / (values + r)).sum(), 2.5, rtol=1e-9)


def test_a_dimension_is_refused_where_it_means_nothing() -> None:
    samples = {name: np.random.default_rng(i).normal(size=(30, 8)) for i, name in enumerate("abcd")}
    with pytest.raises(InputError, match="as a number"):
        domain_weights(samples, preset="reference", ridge={"effective_dimension": 2})
    with pytest.raises(InputError, match="not below"):
        domain_weights(samples, ridge={"effective_dimension": 4})
    with pytest.raises(InputError, match="greater than 0"):
        domain_weights(samples, ridge={"effective_dimension": 0})
