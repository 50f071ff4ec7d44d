"""The mixture that may be: the nearest to a target that keeps floors, caps and what the domains' tokens allow.

    min KL(w ‖ t) with Σ w = 1, lo ≤ w ≤ hi:   w_i = clip(c t_i, lo_i, hi_i)

and its rounding to decimals that sum to exactly one, which is what is recorded and planned with.
"""

from __future__ import annotations

import difflib
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, fsum, log, log10
from typing import Literal

import numpy as np

from chameleon_data.affinity import F64, I64
from chameleon_data.errors import InputError, listed

Bounds = float | Mapping[str, float]

FINEST_DIGITS = 14
"""A double times 10^14 is still right to a hundredth of a step."""


@dataclass(frozen=True)
class Moved:
    """A bound that acted on a domain."""

    domain: str
    bound: Literal["floor", "cap", "epochs"]
    before: float
    """Its share by leverage and prior."""
    after: float
    """Its share now: the bound."""
    shadow_price: float | None
    """How fast the divergence from the target falls as the bound gives way, in nats per unit of weight. None: without limit."""


@dataclass(frozen=True)
class FeasibleWeights:
    weights: dict[str, float]
    """Nearest to the target within the bounds, not rounded; in byte order of name."""
    decimals: dict[str, str]
    """The same, rounded, to be recorded: decimals that sum to exactly one and keep the bounds."""
    moved: tuple[Moved, ...]


def feasible_weights(
    target: Mapping[str, float],
    *,
    prior: Mapping[str, float] | None = None,
    floor: Bounds = 0.0,
    cap: Bounds = 1.0,
    epoch_cap: Mapping[str, float] | None = None,
) -> FeasibleWeights:
    """The mixture nearest to target × prior, in KL(w ‖ t), that keeps every bound.

    `floor` and `cap` are one share for all or shares by domain; `epoch_cap` is the largest share that each domain's tokens
    allow. A domain that is not named has prior 1, floor 0, cap 1. A domain with target zero stays at its floor.
    Raises InputError, naming the smallest set of domains in conflict, where no mixture keeps them.
    """
    names = sorted(target)
    low = _by_domain("floor", floor, names, 0.0)
    asked, epochs = _by_domain("cap", cap, names, 1.0), _by_domain("epoch cap", epoch_cap or {}, names, 1.0)
    high = np.minimum(np.minimum(asked, epochs), 1.0)
    limits: list[Literal["cap", "epochs"]] = ["epochs" if e < a else "cap" for a, e in zip(asked, epochs, strict=True)]
    shares = np.array([target[name] for name in names]) * _by_domain("prior", prior or {}, names, 1.0)
    if not np.isfinite(shares).all() or (shares < 0).any() or not shares.any():
        raise InputError("target times prior must be finite, nowhere negative and somewhere positive; look at 'weights.prior'")
    shares = shares / shares.sum()
    _refuse_conflicts(names, shares, low, high, limits)
    high = np.maximum(low, high)
    weights, scale = clip_to_one(shares, low, high)
    moved = []
    for i in np.flatnonzero(~np.isclose(weights, scale * shares, rtol=1e-9, atol=0.0)):
        price = abs(log(weights[i] / (scale * shares[i]))) if shares[i] > 0 and weights[i] > 0 else None
        bound = limits[i] if weights[i] < scale * shares[i] else "floor"
        moved.append(Moved(names[i], bound, float(shares[i]), float(weights[i]), price))
    steps, digits = round_to_one(weights, low, high)
    decimals = {name: f"{n // 10**digits}.{n % 10**digits:0{digits}d}" for name, n in zip(names, steps.tolist(), strict=True)}
    return FeasibleWeights(dict(zip(names, weights.tolist(), strict=True)), decimals, tuple(moved))


def _by_domain(what: str, given: Bounds, names: Sequence[str], default: float) -> F64:
    values = given if isinstance(given, Mapping) else dict.fromkeys(names, given)
    unknown = sorted(values.keys() - set(names))
    if unknown:
        near = difflib.get_close_matches(unknown[0], names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {listed(names)}"
        raise InputError(f"{what} of {unknown[0]!r}: there is no such domain; {hint}")
    found = np.array([values.get(name, default) for name in names], np.float64)
    for name, value in zip(names, found.tolist(), strict=True):
        if not value >= 0:
            raise InputError(f"{what} of {name!r} is {value}; it must be zero or above")
    return found


def _refuse_conflicts(names: Sequence[str], target: F64, low: F64, high: F64, limits: Sequence[str]) -> None:
    slack = len(names) * 10.0**-FINEST_DIGITS  # doubles of shares that sum to one may sum to a little less
    advice = {"cap": "raise 'weights.cap'", "epochs": "raise 'mix.max_epochs' or lower 'mix.budget'"}
    for i in np.flatnonzero(low > high + slack)[:1]:
        what = {"cap": "cap", "epochs": "largest share that its tokens allow"}[limits[i]]
        raise InputError(
            f"domain {names[i]!r}: its floor, {low[i]:g}, is above its {what}, {high[i]:g}; "
            f"lower 'weights.floor' or {advice[limits[i]]}"
        )
    if fsum(low) > 1 + slack:
        order = np.argsort(-low, kind="stable")
        least = order[: int(np.argmax(np.cumsum(low[order]) > 1 + slack)) + 1]  # the largest floors: no fewer can exceed one
        shown = listed([f"{names[i]!r} {low[i]:g}" for i in least])
        raise InputError(
            f"the floors of {len(least)} domains sum to {fsum(low[least]):g}, above one: {shown}; lower 'weights.floor'"
        )
    reach = np.where(target > 0, np.maximum(low, high), low)
    if fsum(reach) < 1 - slack:
        why = [limit if t > 0 else "target 0, so its floor" for limit, t in zip(limits, target, strict=True)]
        shown = listed([f"{names[i]!r} {reach[i]:g} ({why[i]})" for i in np.argsort(-reach, kind="stable")])
        fix = " or ".join(text for limit, text in advice.items() if limit in why)
        raise InputError(f"the caps of all {len(names)} domains sum to {fsum(reach):g}, below one: {shown}; {fix}")


def clip_to_one(target: F64, low: F64, high: F64) -> tuple[F64, float]:
    """w = clip(c t, lo, hi) and the c at which it sums to one: argmin KL(w ‖ t) (its optimality conditions say just that).

    The sum rises with c, and is linear between the c at which a domain leaves its floor or meets its cap: a binary search over
    these finds the piece, and there c has a closed form. Needs Σ lo ≤ 1 ≤ Σ hi, where a zero target counts as its lo.
    """
    some = target > 0
    t, lo, hi = target[some], low[some], high[some]
    rest = 1.0 - fsum(low[~some])
    with np.errstate(over="ignore"):  # a target of 1e-310 leaves its floor at infinity
        leaves, meets = lo / t, hi / t
    breaks = np.unique(np.concatenate([leaves, meets]))
    at = bisect_left(breaks, rest, key=lambda c: float(np.clip(c * t, lo, hi).sum()))
    scale = float(breaks[min(at, len(breaks) - 1)])
    moving = (leaves < scale) & (meets >= scale)
    if 0 < at < len(breaks) and moving.any():
        scale = (rest - fsum(np.where(leaves >= scale, lo, hi)[~moving])) / fsum(t[moving])
    weights = low.copy()
    weights[some] = np.clip(scale * t, lo, hi)
    return weights, scale


def round_to_one(weights: F64, low: F64, high: F64) -> tuple[I64, int]:
    """Integers that sum to 10^digits, in proportion to the weights and within the bounds: by largest remainders.

    digits is 4 + ⌈log10 k⌉: coarse enough that embeddings of other hardware mostly give the same. It is more, to at most 14,
    where a positive weight would be less than ten steps or the bounds leave no step between them.
    """
    for digits in range(4 + ceil(log10(len(weights))), FINEST_DIGITS + 1):
        one = 10**digits
        if digits < FINEST_DIGITS:
            least, most = np.ceil(low * one - 1e-6), np.floor(high * one + 1e-6)
        else:
            least, most = np.floor(low * one), np.ceil(high * one)
        most[weights == 0] = 0
        if (least <= most).all() and least.sum() <= one <= most.sum() and (weights[weights > 0] * one >= 10).all():
            break
    exact = clip_to_one(weights, least / one, most / one)[0] * one
    steps = np.clip(np.floor(exact), least, most)
    left = one - int(steps.sum())
    if left > 0:
        able = np.flatnonzero(steps < most)
        steps[able[np.argsort((steps - exact)[able], kind="stable")][:left]] += 1
    elif left < 0:  # a sum of doubles that came out a step too high
        able = np.flatnonzero(steps > least)
        steps[able[np.argsort((exact - steps)[able], kind="stable")][:-left]] -= 1
    return steps.astype(np.int64), digits
