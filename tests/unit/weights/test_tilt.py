"""The tilt of a centre: how far it goes, and that it ends where it is told to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from chameleon_data import InputError, domain_weights
from chameleon_data.weights.tilt import AUTO_KL, temperature_for
from tests.support.embeddings import as_array


def tilted(centre: np.ndarray, preference: np.ndarray, temperature: float) -> np.ndarray:
    held = centre > 0  # a domain without a share may have the largest preference, whose exponential overflows
    w = np.zeros(len(centre))
    w[held] = centre[held] * np.exp((preference[held] - preference[held].max()) / temperature)
    return w / w.sum()


def divergence(w: np.ndarray, c: np.ndarray) -> float:
    return float((w[w > 0] * np.log(w[w > 0] / c[w > 0])).sum())


def embed(k: int = 10, seed: int = 3) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {f"d{i}": generator.normal(size=(30, 16)) + 2 * generator.normal(size=16) for i in range(k)}


@settings(deadline=None)
@example(k=3, seed=424, sigma=1.0, coldest=0.0, kl=0.1, power=3.0, without=True)
@given(
    k=st.integers(3, 60), seed=st.integers(0, 999), sigma=st.floats(0.1, 1.5), coldest=st.sampled_from([0.0, 5 / 7, 1.4]),
    kl=st.sampled_from([1e-6, AUTO_KL, 0.1, 0.7]), power=st.sampled_from([0.0, 1.0, 3.0]), without=st.booleans(),
)  # fmt: skip
def test_the_temperature_is_the_smallest_that_stays_within_so_many_nats_of_the_centre(
    k: int, seed: int, sigma: float, coldest: float, kl: float, power: float, without: bool
) -> None:
    generator = np.random.default_rng(seed)
    preference = 1 / np.maximum(np.exp(sigma * generator.normal(size=k)), 1e-3)
    centre = generator.random(k) ** power
    centre[0] *= not without
    centre /= centre.sum()
    with np.errstate(divide="ignore"):
        found = temperature_for(preference, kl, np.log(7 * centre), coldest)
    at_most = divergence(tilted(centre, preference, found), centre)
    assert at_most <= kl + 1e-9
    reachable = -np.log(centre[np.argmax(np.where(centre > 0, preference, -1))])
    colder = divergence(tilted(centre, preference, found * (1 - 1e-5)), centre)
    assert found == coldest or colder > kl or at_most > reachable - 1e-9


@settings(deadline=None)
@given(kl=st.floats(0.0, 1.0), objective=st.sampled_from(["pretrain", "finetune"]), seed=st.integers(0, 50))
def test_the_weights_are_within_so_many_nats_of_any_centre(kl: float, objective: str, seed: int) -> None:
    embeddings, generator = embed(6, seed), np.random.default_rng(seed)
    centre = generator.random(6) + 0.01
    centre /= centre.sum()
    shares = dict(zip(embeddings, centre.tolist(), strict=True))
    found = domain_weights(embeddings, objective=objective, centre_shares=shares, temperature={"kl": kl})
    w = as_array(found.weights)
    assert divergence(w, centre) == pytest.approx(found.kl, abs=1e-9)
    assert found.kl <= kl + 1e-9
    assert found.kl == pytest.approx(kl, abs=1e-6) or found.kl > -0.9 * np.log(centre[w.argmax()])  # all that there is


def test_without_nats_the_weights_are_the_centre_and_there_is_no_temperature() -> None:
    embeddings = embed()
    centre = {name: i + 1.0 for i, name in enumerate(embeddings)}
    found = domain_weights(embeddings, centre_shares=centre, temperature={"kl": 0})
    assert_allclose(as_array(found.weights), np.arange(1, 11) / 55, rtol=1e-12)
    assert found.temperature is None
    assert found.kl == pytest.approx(0, abs=1e-15)
    assert all(low == pytest.approx(high) for low, high in found.intervals.values())


@pytest.mark.parametrize("objective", ["pretrain", "finetune"])
@pytest.mark.parametrize("kl", [1e-3, 0.3, 1.0, 2.0])
def test_nats_are_another_name_for_a_temperature(objective: str, kl: float) -> None:
    embeddings = embed()
    found = domain_weights(embeddings, objective=objective, temperature={"kl": kl})
    assert found.kl == pytest.approx(kl, rel=1e-6)
    assert np.log(10) - np.log(found.effective_domains) == pytest.approx(kl, rel=1e-6)
    again = domain_weights(embeddings, objective=objective, temperature=found.temperature)
    assert again.weights == pytest.approx(found.weights, rel=1e-6)


def test_equal_shares_as_the_centre_are_the_default_and_a_centre_is_what_is_multiplied() -> None:
    embeddings = embed()
    plain = domain_weights(embeddings, temperature=2.0)
    equal = domain_weights(embeddings, temperature=2.0, centre_shares=dict.fromkeys(embeddings, 0.7))
    assert equal.weights == pytest.approx(plain.weights, rel=1e-12)
    centre = {name: float(i) for i, name in enumerate(embeddings)}  # d0 has none
    moved = domain_weights(embeddings, temperature=2.0, centre_shares=centre)
    product = as_array(plain.weights) * np.arange(10)
    assert_allclose(as_array(moved.weights), product / product.sum(), rtol=1e-10)
    assert moved.weights["d0"] == 0
    assert moved.intervals["d0"] == (0, 0)
    reference = domain_weights(embeddings, preset="reference", temperature=50.0)
    of_reference = domain_weights(embeddings, preset="reference", temperature=50.0, centre_shares=centre)
    product = as_array(reference.weights) * np.arange(10)
    assert_allclose(as_array(of_reference.weights), product / product.sum(), rtol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": {"kl": -0.1}}, "greater than or equal to 0"),
        ({"temperature": {"kl": float("nan")}}, "finite number"),
        ({"temperature": {"kl": 0.1}, "preset": "reference"}, "as a number"),
        ({"centre_shares": {"d0": 1.0}}, "not in both"),
        ({"centre_shares": {f"d{i}": 0.0 for i in range(10)}}, "somewhere positive"),
        ({"centre_shares": {f"d{i}": float("nan") for i in range(10)}}, "must be finite"),
    ],
)
def test_what_says_no_tilt_is_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        domain_weights(embed(), **options)
