"""Every figure on what weights do is the one that was measured: evidence.py, README and docs/results.md say what the data say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chameleon_data.weights import evidence
from chameleon_data.weights.evidence import BitsDifference

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs/results"


def measured(experiment: str, mixture: str, metric: str) -> BitsDifference:
    found = json.loads((RESULTS / f"{experiment}.json").read_text(encoding="utf-8"))
    (difference,) = [one["differences"][metric] for one in found["mixtures"] if one["name"] == mixture]
    return rounded(difference)


def measured_on_tasks(experiment: str, mixture: str) -> BitsDifference:
    found = json.loads((RESULTS / f"{experiment}.json").read_text(encoding="utf-8"))
    (row,) = [row for row in found["tasks"] if row["mixture"] == mixture]
    return rounded(row)


def rounded(difference: dict[str, Any]) -> BitsDifference:
    return BitsDifference(round(difference["mean"], 4), round(difference["error"], 4))


def shorten(difference: BitsDifference) -> str:
    """As tables write it: −.0030 ± .0006."""
    return str(difference).replace("0.", ".")


@pytest.mark.parametrize(
    ("cited", "mixture"),
    [
        (evidence.TILTS["pretrain", "unseen"], "inverse"),
        (evidence.TILTS["pretrain", "trained"], "direct"),
        (evidence.SHARPER, "inverse, T = 1.5"),
        (evidence.PUBLISHED, "published.json"),
        (evidence.CENTRES["natural"], "slimpajama.json"),
        (evidence.CENTRES["natural^0.5"], "slimpajama^0.5 × inverse"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_finding_of_pretraining_is_what_was_measured(cited: evidence.Finding, mixture: str) -> None:
    assert cited.trained == measured("pretraining", mixture, "trained")
    assert cited.unseen == measured("pretraining", mixture, "unseen")


@pytest.mark.parametrize(("target", "mixture"), [("trained", "direct"), ("unseen", "inverse")])
def test_a_finding_of_finetuning_is_what_was_measured(target: evidence.Aim, mixture: str) -> None:
    assert evidence.TILTS["finetune", target].trained == measured_on_tasks("finetuning", mixture)


@pytest.mark.parametrize(("nats", "name"), [(None, "like"), (0.3, "like-0.3")])
def test_what_an_aim_did_is_what_was_measured(nats: float | None, name: str) -> None:
    for task, found in evidence.AIMS[nats].items():
        assert found.task == measured_on_tasks("like", f"{name}-{task}.json")
        assert found.trained == measured("like", f"{name}-{task}.json", "trained")


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_a_page_has_the_figures_of_its_table(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    tilts = [evidence.TILTS["pretrain", "unseen"], evidence.TILTS["pretrain", "trained"]]
    cited = [difference for finding in (*tilts, *evidence.CENTRES.values()) for difference in (finding.trained, finding.unseen)]
    for difference in [*cited, *(one.task for one in evidence.AIMS[0.3].values())]:
        assert difference is not None
        assert shorten(difference) in text, f"{page}: {shorten(difference)}"


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_a_page_says_what_direct_did_in_finetuning(page: str) -> None:
    """It is the default there, and its figures of pretraining say nothing of that."""
    assert shorten(measured_on_tasks("finetuning", "direct")) in (ROOT / page).read_text(encoding="utf-8")


def test_the_page_has_what_other_settings_did_and_none_beats_a_default() -> None:
    """A setting of samples, windows, ridge, debiasing or kernel that were better would have to become the default."""
    text = (RESULTS.parent / "results.md").read_text(encoding="utf-8")
    found = json.loads((RESULTS / "settings.json").read_text(encoding="utf-8"))
    assert found["seeds"] == 9
    for row in found["rows"]:
        figures = " | ".join(shorten(rounded(row[metric])) for metric in ("trained", "worst", "unseen"))
        assert figures in text, row["setting"]
        if row["setting"].startswith(("samples", "window", "ridge", "debias", "rbf")):
            assert max(row[metric]["p_inside"] for metric in ("trained", "unseen")) < 0.001
