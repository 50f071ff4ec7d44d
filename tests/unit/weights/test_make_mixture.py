"""From weights to the recorded mixture: what is said where bounds leave no choice."""

from __future__ import annotations

import pytest

from chameleon_data.recipe import Leverage, Weights
from chameleon_data.weights.make_mixture import make_mixture
from chameleon_data.weights.weigh import weights_without_scores


@pytest.mark.parametrize(
    ("caps", "said"),
    [
        ({"a": 0.3, "b": 0.7}, True),
        ({"a": 0.3, "b": 0.71}, False),
        ({"a": 0.3}, False),
        ({}, False),
    ],
    ids=["every epoch is needed", "one domain has more", "one domain has no cap", "no caps"],
)
def test_it_is_said_where_the_epochs_leave_nothing_to_weigh(caps: dict[str, float], said: bool) -> None:
    result = weights_without_scores({"a": 0.6, "b": 0.4}, {"a": None, "b": None}, ())
    mixture = make_mixture(result, caps, "computed", Leverage(), Weights())
    assert any("nothing was left to weigh; lower 'mix.budget'" in text for text in mixture.description.warnings) == said


def test_one_domain_has_nothing_to_weigh_and_needs_no_warning() -> None:
    result = weights_without_scores({"a": 1.0}, {"a": None}, ())
    assert make_mixture(result, {"a": 1.0}, "computed", Leverage(), Weights()).description.warnings == ()
