"""Rounds of `samples: auto`: their sizes, and what each says."""

from __future__ import annotations

import pytest

from chameleon_data.recipe import Embed
from chameleon_data.weights.sampling_rounds import describe_round, round_sizes, warn_of_rounds


@pytest.mark.parametrize(
    ("samples", "most", "sizes"),
    [(256, 2048, [256]), ("auto", 512, [64, 128, 256, 512]), ("auto", 100, [64, 100]), ("auto", 64, [64]), ("auto", 10, [10])],
)
def test_rounds_double_up_to_the_most(samples: object, most: int, sizes: list[int]) -> None:
    assert list(round_sizes(Embed(samples=samples, max_samples=most))) == sizes


def test_a_round_names_its_widest_interval() -> None:
    found = describe_round(64, {"a": (0.1, 0.2), "b": (0.3, 0.5)}, 0.25)
    assert (found.domain, found.narrow) == ("b", True)
    assert found.said == "64 samples a domain: the widest interval is 0.2000 (b), within the tolerance of 0.25"
    unsure = describe_round(64, {"a": None, "b": (0.3, 0.5)}, 0.25)
    assert (unsure.domain, unsure.widest, unsure.narrow) == ("a", 1.0, False)


def test_the_last_round_is_warned_of_where_it_is_not_narrow() -> None:
    embed = Embed(samples="auto", max_samples=128)
    assert warn_of_rounds(describe_round(64, {"a": (0.1, 0.2)}, 0.25), embed) == ()
    (reached,) = warn_of_rounds(describe_round(128, {"a": (0.1, 0.9)}, 0.25), embed)
    (short,) = warn_of_rounds(describe_round(64, {"a": (0.1, 0.9)}, 0.25), embed)
    assert "'embed.max_samples' is reached" in reached
    assert "no domain has more documents" in short
