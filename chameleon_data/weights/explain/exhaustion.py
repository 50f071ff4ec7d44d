"""What each rule for exhausted domains (`mix.exhausted`) would do with the same weights, for a person to choose by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from chameleon_data.errors import InputError
from chameleon_data.plan.plan import DomainCount, epoch_caps, quota_of
from chameleon_data.recipe import Mix, Weights
from chameleon_data.weights.bounds import bound_weights

EXHAUSTION_RULES = ("redistribute", "repeat", "fail")
"""Values of `mix.exhausted`."""


@dataclass(frozen=True)
class ExhaustedShare:
    """A domain under one rule."""

    weight: float
    target_tokens: int
    """weight × budget."""
    epochs: float
    """How often its tokens would be read."""


@dataclass(frozen=True)
class RefusedRule:
    """A rule that these weights do not allow."""

    refused: str
    """Why."""


Exhaustion = dict[str, dict[str, ExhaustedShare] | RefusedRule]
"""Rule -> domain -> its share."""


def compare_exhaustion_rules(
    counts: Sequence[DomainCount], target: Mapping[str, float], budget: int, mix: Mix, weights: Weights
) -> Exhaustion:
    """What each rule would do. `target`: domain -> weight before bounds; `budget` in tokens."""
    compared: Exhaustion = {}
    for rule in EXHAUSTION_RULES:
        try:
            caps = epoch_caps(counts, budget, mix.max_epochs, rule)
            decimals = bound_weights(target, floor=weights.floor, cap=weights.cap, epoch_cap=caps, groups=weights.groups).decimals
            quotas = {c.name: quota_of(c.tokens, decimals[c.name], budget, mix.max_epochs, rule) for c in counts}
            most = max(counts, key=lambda c: quotas[c.name] / c.tokens)
            if rule == "fail" and quotas[most.name] > most.tokens:
                raise InputError(f"{most.name!r} would be read {quotas[most.name] / most.tokens:.2f} times")
            compared[rule] = {
                c.name: ExhaustedShare(float(decimals[c.name]), quotas[c.name], quotas[c.name] / c.tokens) for c in counts
            }
        except InputError as refused:
            compared[rule] = RefusedRule(str(refused))
    return compared


def describe_exhaustion(compared: Exhaustion) -> dict[str, dict[str, Any]]:
    """The comparison as plain JSON: rule -> domain -> weight, target_tokens, epochs; or rule -> refused."""
    return {
        rule: asdict(shares) if isinstance(shares, RefusedRule) else {name: asdict(share) for name, share in shares.items()}
        for rule, shares in compared.items()
    }
