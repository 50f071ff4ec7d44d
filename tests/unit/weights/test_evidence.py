"""What is said of weights: which finding is cited for which recipe."""

from __future__ import annotations

from typing import Any

import pytest

from chameleon_data.recipe import Leverage, Like, Weights
from chameleon_data.weights.evidence import AIMS, Aimed, BitsDifference, aimed_at, cite_evidence
from chameleon_data.weights.tilt import make_tilt


@pytest.mark.parametrize(
    ("options", "aim", "direction"),
    [
        ({}, "unseen", "inverse"),
        ({"objective": "finetune"}, "trained", "direct"),
        ({"target": "trained"}, "trained", "direct"),
        ({"objective": "finetune", "target": "unseen"}, "unseen", "inverse"),
    ],
)
def test_the_objective_decides_the_sign_unless_a_target_is_named(options: dict, aim: str, direction: str) -> None:
    weights = Weights(**options)
    assert aimed_at(weights) == aim
    assert make_tilt(weights).direction == direction
    assert f"target {aim}: for " in cite_evidence(weights, Leverage())


def test_a_finding_is_cited_only_for_what_was_measured() -> None:
    assert "not yet" not in cite_evidence(Weights(), Leverage())
    assert "Inverse leverage" in cite_evidence(Weights(), Leverage())
    assert "published preset" in cite_evidence(Weights(), Leverage(preset="reference"))
    assert "Inverse leverage at T = 1.5" in cite_evidence(Weights(temperature=1.5), Leverage())
    assert "Natural shares alone" in cite_evidence(Weights(centre="natural"), Leverage())
    for weights, leverage in (
        (Weights(centre="natural^0.3"), Leverage()), (Weights(target="trained"), Leverage(preset="reference")),
        (Weights(objective="finetune", centre="natural"), Leverage()),
        (Weights(target=Like(like=("x.txt",)), centre="natural"), Leverage()),
        (Weights(target=Like(like=("x.txt",)), temperature=2.0), Leverage()),
        (Weights(target=Like(like=("x.txt",)), temperature={"kl": 0.2}), Leverage()),
        (Weights(temperature=0.7), Leverage()), (Weights(temperature={"kl": 0.1}), Leverage()),
        (Weights(temperature=1.5, target="trained"), Leverage()), (Weights(temperature=1.5), Leverage(preset="reference")),
        (Weights(target="trained", centre="natural^0.5"), Leverage()), (Weights(), Leverage(kernel="rbf")),
        (Weights(), Leverage(level="sample")), (Weights(), Leverage(ridge=10.0)),
    ):  # fmt: skip
        assert "yet (docs/results.md)" in cite_evidence(weights, leverage)


@pytest.mark.parametrize(
    ("mean", "error", "shown", "verdict"),
    [
        (0.0013, 0.0012, "+0.0013 ± 0.0012", "no difference"),
        (-0.0065, 0.0016, "−0.0065 ± 0.0016", "better"),
        (0.0096, 0.0018, "+0.0096 ± 0.0018", "worse"),
        (0.0015, 0.0005, "+0.0015 ± 0.0005", "no difference"),
        (0.0041, 0.0007, "+0.0041 ± 0.0007", "worse"),
        (0.116, None, "+0.1160 (one seed)", "no difference"),
    ],
)
def test_two_standard_errors_and_the_band_tell_a_difference(mean: float, error: float | None, shown: str, verdict: str) -> None:
    difference = BitsDifference(mean, error)
    assert str(difference) == shown
    assert difference.verdict == verdict


@pytest.mark.parametrize(
    ("temperature", "gain", "cost"),
    [
        ("auto", "−0.0462 ± 0.0034 to −0.0077 ± 0.0023", "+0.0273 ± 0.0010 to +0.1219 ± 0.0013"),
        (
            {"kl": 0.3},
            "−0.0361 ± 0.0031 to −0.0193 ± 0.0017",
            "+0.0120 ± 0.0006 to +0.0214 ± 0.0007",
        ),
    ],
)
def test_what_is_said_of_an_aim_names_its_gain_and_its_cost(temperature: Any, gain: str, cost: str) -> None:
    said = cite_evidence(Weights(target=Like(like=("x.txt",)), temperature=temperature), Leverage())
    assert f"on its own task {gain} bits per byte, better; on the domains that are trained on {cost}, worse" in said


@pytest.mark.parametrize("aims", AIMS.values(), ids=str)
def test_an_aim_has_one_verdict_for_all_its_tasks(aims: dict[str, Aimed]) -> None:
    """The sentence names one."""
    assert len({one.task.verdict for one in aims.values()}) == len({one.trained.verdict for one in aims.values()}) == 1
