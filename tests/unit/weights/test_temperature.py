"""Temperatures: automatic, and by the number of effective domains."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chameleon_data import InputError, domain_weights
from chameleon_data.weights.temperature import AUTO_EFFECTIVE_SHARE, temperature_for


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
    ("effective", "message"), [(10, "there are no more than 10"), (1.0, "greater than 1"), (float("nan"), "finite number")]
)
def test_effective_domains_that_no_temperature_gives_are_refused(effective: float, message: str) -> None:
    embeddings = {f"d{i}": np.random.default_rng(i).normal(size=(30, 16)) for i in range(10)}
    with pytest.raises(InputError, match=message):
        domain_weights(embeddings, temperature={"effective_domains": effective})
    with pytest.raises(InputError, match="as a number"):
        domain_weights(embeddings, preset="reference", temperature={"effective_domains": 3.0})
