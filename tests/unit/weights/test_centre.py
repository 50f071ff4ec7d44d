"""Centres by tokens, and priors on them."""

from __future__ import annotations

import pytest

from chameleon_data.errors import InputError
from chameleon_data.weights.centre import multiply_prior, natural_shares


def test_shares_of_tokens_to_a_power() -> None:
    tokens = {"b": 900, "a": 100}
    assert natural_shares(tokens, 1.0) == pytest.approx({"a": 0.1, "b": 0.9})
    assert natural_shares(tokens, 0.5) == pytest.approx({"a": 0.25, "b": 0.75})
    assert natural_shares(tokens, 0.0) == {"a": 0.5, "b": 0.5}
    assert natural_shares({"a": 10**300, "b": 10**298}, 3.0) == pytest.approx({"a": 1, "b": 1e-6}, rel=1e-4)


def test_a_prior_multiplies_the_centre() -> None:
    assert multiply_prior({"b": 0.5, "a": 0.5}, {"a": 3.0}) == pytest.approx({"a": 0.75, "b": 0.25})
    assert multiply_prior({"a": 0.5, "b": 0.5}, {"a": 0.0}) == {"a": 0.0, "b": 1.0}


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ({"aa": 1.0}, "prior of 'aa': there is no such domain; did you mean 'a'"),
        ({"a": 0.0, "b": 0.0}, "weights.prior: no domain"),
        ({"a": float("nan")}, "prior of 'a' is nan"),
    ],
)
def test_priors_that_say_nothing_are_refused(prior: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        multiply_prior({"a": 0.5, "b": 0.5}, prior)
