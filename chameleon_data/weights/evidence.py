"""What training showed of weights: the figures that every sentence about what weights do rests on, in one place.

Differences from equal shares in held-out bits per byte, with standard errors; below zero is better. Small decoders, paired and
branched from one checkpoint of equal shares, tilted by at most .015 nats unless said otherwise; nine seeds. Finetuning: trained
are the tasks, and equal shares are those of the tasks. Source: docs/results.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from chameleon_data.recipe import Divergence, Leverage, Like, Weights

Aim = Literal["unseen", "trained", "like"]

RESULTS = "docs/results.md"
BAND = 0.005
"""Bits per byte. A difference that is surely smaller was called none, by a rule that was fixed before the first run."""


@dataclass(frozen=True)
class BitsDifference:
    """Bits per byte against equal shares."""

    mean: float
    error: float | None
    """Standard error. None: one seed."""

    def __str__(self) -> str:
        spread = " (one seed)" if self.error is None else f" ± {self.error:.4f}"
        return f"{self.mean:+.4f}{spread}".replace("-", "−")

    @property
    def verdict(self) -> Literal["better", "worse", "no difference"]:
        """`better`, `worse` or `no difference`: two standard errors decide, and a difference surely inside the band is none."""
        if self.error is None or abs(self.mean) <= 2 * self.error or abs(self.mean) + 2 * self.error < BAND:
            return "no difference"
        return "better" if self.mean < 0 else "worse"


@dataclass(frozen=True)
class Finding:
    """What a kind of mixture did."""

    mixture: str
    trained: BitsDifference | None
    """Mean over the domains that were trained on. None: not measured."""
    unseen: BitsDifference | None
    """Mean over domains that were not. None: not measured."""


@dataclass(frozen=True)
class Aimed:
    """What a mixture did that is aimed at a task."""

    task: BitsDifference
    """On the task itself, of which no document is trained on."""
    trained: BitsDifference
    """Mean over the domains that were trained on."""


TILTS = {
    ("pretrain", "unseen"): Finding("Inverse leverage", BitsDifference(0.0015, 0.0005), BitsDifference(-0.0030, 0.0006)),
    ("pretrain", "trained"): Finding("Direct leverage", BitsDifference(0.0001, 0.0006), BitsDifference(0.0066, 0.0009)),
    ("finetune", "trained"): Finding("Direct leverage, finetuning", BitsDifference(-0.0012, 0.0007), None),
    ("finetune", "unseen"): Finding("Inverse leverage, finetuning", BitsDifference(0.0041, 0.0007), None),
}
"""(objective, target) -> what leverage did around equal shares, by the default preset and its tilt."""
SHARPER_TEMPERATURE = 1.5
SHARPER = Finding("Inverse leverage at T = 1.5", BitsDifference(0.0056, 0.0007), BitsDifference(-0.0057, 0.0012))
PUBLISHED = Finding("The published preset", BitsDifference(0.0856, 0.0014), BitsDifference(0.0117, 0.0025))
CENTRES = {
    "natural": Finding("Natural shares alone", BitsDifference(0.0288, 0.0012), BitsDifference(-0.0242, 0.0009)),
    "natural^0.5": Finding("Natural^0.5 and inverse leverage", BitsDifference(0.0057, 0.0008), BitsDifference(-0.0203, 0.0006)),
}
"""Centre -> what it did."""

AIMS = {
    None: {
        "legal": Aimed(BitsDifference(-0.0348, 0.0017), BitsDifference(0.0273, 0.0010)),
        "medical": Aimed(BitsDifference(-0.0077, 0.0023), BitsDifference(0.1219, 0.0013)),
        "technical": Aimed(BitsDifference(-0.0462, 0.0034), BitsDifference(0.0403, 0.0012)),
    },
    0.3: {
        "legal": Aimed(BitsDifference(-0.0266, 0.0020), BitsDifference(0.0120, 0.0006)),
        "medical": Aimed(BitsDifference(-0.0193, 0.0017), BitsDifference(0.0214, 0.0007)),
        "technical": Aimed(BitsDifference(-0.0361, 0.0031), BitsDifference(0.0147, 0.0007)),
    },
}
"""Nats (None: `temperature: auto`) -> task -> what a mixture of seven other domains did that 128 documents aim at the task."""


def aimed_at(weights: Weights) -> Aim:
    """What the weights aim at: by default unseen domains to pretrain, and the trained ones to finetune."""
    if isinstance(weights.target, Like):
        return "like"
    if weights.target == "auto":
        return "unseen" if weights.objective == "pretrain" else "trained"
    return weights.target


def find_evidence(weights: Weights, leverage: Leverage) -> Finding | None:
    """What training showed of weights by leverage that a recipe asks for. None: no run has measured these settings."""
    target = aimed_at(weights)
    if target == "like" or not _is_measured(leverage):
        return None
    aim, plain = (weights.objective, target), weights.centre == "uniform"
    if weights.temperature != "auto":
        sharper = aim == ("pretrain", "unseen") and plain and leverage.preset == "default"
        return SHARPER if sharper and weights.temperature == SHARPER_TEMPERATURE else None
    if leverage.preset == "reference":
        return PUBLISHED if aim == ("pretrain", "unseen") and plain else None
    if not plain:
        return CENTRES.get(weights.centre) if aim == ("pretrain", "unseen") else None
    return TILTS[aim]


def _is_measured(leverage: Leverage) -> bool:
    """Whether these are scores that were measured: those of the defaults, by either preset."""
    return leverage.model_copy(update={"preset": "default"}) == Leverage()


def cite_evidence(weights: Weights, leverage: Leverage) -> str:
    """A sentence on what the weights that a recipe asks for are good for, and how that is known."""
    target, finding = aimed_at(weights), find_evidence(weights, leverage)
    if target == "like":
        return _cite_aimed(weights)
    aim = {"unseen": "domains that are not trained on", "trained": "the domains that are trained on"}[target]
    if finding is None:
        return f"target {target}: for {aim}; no training run has measured these settings yet ({RESULTS})"
    said = [
        f"{label} domains {difference} bits per byte, {difference.verdict}"
        for label, difference in (("unseen", finding.unseen), ("trained", finding.trained))
        if difference
    ]
    against = f"{finding.mixture}, in small decoders, against equal shares"
    return f"target {target}: for {aim}. {against}: {'; '.join(said)} ({RESULTS})"


def _cite_aimed(weights: Weights) -> str:
    """The sentence of weights that samples of a task aim at it."""
    nats = weights.temperature.kl if isinstance(weights.temperature, Divergence) else None
    measured = (weights.objective, weights.centre) == ("pretrain", "uniform") and nats in AIMS
    if not measured or isinstance(weights.temperature, float):
        return f"target like: for what its files are of; no training run has measured these settings yet ({RESULTS})"
    by_gain = sorted((one.task for one in AIMS[nats].values()), key=lambda one: one.mean)
    by_cost = sorted((one.trained for one in AIMS[nats].values()), key=lambda one: one.mean)
    return (
        f"target like: for what its files are of. {len(by_gain)} tasks, in small decoders, against equal shares: each on its own "
        f"task {by_gain[0]} to {by_gain[-1]} bits per byte, {by_gain[-1].verdict}; on the domains that are trained on "
        f"{by_cost[0]} to {by_cost[-1]}, {by_cost[0].verdict} ({RESULTS})"
    )
