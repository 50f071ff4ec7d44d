"""Bounds: the mixture nearest to a target that keeps floors, caps, groups and what the domains' tokens allow.

    min KL(w ‖ t) with Σ w = 1,   lo_i ≤ w_i ≤ hi_i,   L_g ≤ Σ_{i in g} w_i ≤ U_g   (groups g disjoint)

The optimality conditions say w_i = clip(c_g t_i, lo_i, hi_i) with one scale c_g for each group. log c_g is log c plus the
group's multiplier, so c_g > c only where the group is at its floor, c_g < c only where it is at its cap, and c_g = c elsewhere.
The sum of a group rises with c_g; let it be L_g at a_g and U_g at b_g. Then c_g = clip(c, a_g, b_g). Since clipping to an
interval commutes with a rising function, w_i = clip(c t_i, clip(a_g t_i, lo_i, hi_i), clip(b_g t_i, lo_i, hi_i)). So a group
only tightens the floors and caps of its domains, and one clip solves the whole, exactly and without iteration. The problem is
strictly convex on a convex set, so this is the only answer. Cost: 100,000 domains in 100 groups take .4 s.

The weights are then rounded to decimals that sum to exactly one. These decimals are recorded and planned with.
"""

from __future__ import annotations

import difflib
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, fsum, log, log10
from typing import Literal

import numpy as np

from chameleon_data.arrays import F64, I64
from chameleon_data.errors import InputError, list_some
from chameleon_data.recipe import Group

Bounds = float | Mapping[str, float]
Limit = Literal["cap", "epochs"]

FINEST_DIGITS = 14
"""Most digits of a decimal. A double times 10^14 is still right to a hundredth of a step."""
BOUND_ADVICE = {"cap": "raise 'weights.cap'", "epochs": "raise 'mix.max_epochs' or lower 'mix.budget'"}
FREE = 1e-9
"""Relative difference from the scaled target up to which no bound acted."""


@dataclass(frozen=True)
class MovedWeight:
    """A bound that acted on a domain, or on a group of them."""

    domain: str
    """The domain, or the group for a bound of a group."""
    bound: Literal["floor", "cap", "epochs", "group floor", "group cap"]
    before: float
    """Its share before bounds; for a group, that of its domains together."""
    after: float
    """Its share now, which is the bound."""
    shadow_price: float | None
    """Fall of the divergence from the target as the bound is relaxed, in nats per unit of weight. None: it is infinite."""


@dataclass(frozen=True)
class BoundedWeights:
    """The mixture within its bounds."""

    weights: dict[str, float]
    """Nearest to the target within the bounds, not rounded; in byte order of name."""
    decimals: dict[str, str]
    """The same as decimals that sum to exactly one and keep the bounds."""
    moved: tuple[MovedWeight, ...]
    """The bounds that acted: on domains in byte order, then on groups."""


@dataclass(frozen=True)
class _Block:
    """A group; or, with bounds that never act, the domains that are in no group."""

    name: str | None
    members: I64
    low: float
    high: float


def bound_weights(
    target: Mapping[str, float],
    *,
    floor: Bounds = 0.0,
    cap: Bounds = 1.0,
    epoch_cap: Mapping[str, float] | None = None,
    groups: Mapping[str, Group] | None = None,
) -> BoundedWeights:
    """The mixture nearest to the target, in KL(w ‖ t), that keeps every bound.

    `floor` and `cap` are one share for all domains, or domain -> share. `epoch_cap`: domain -> largest share that its tokens
    allow. `groups`: bounds on what disjoint sets of domains get together. A domain that is not named has floor 0 and cap 1. A
    domain with target zero stays at its floor. Raises InputError where no mixture keeps the bounds, naming the smallest
    set in conflict, and for a domain that is unknown or in two groups.
    """
    names = sorted(target)
    low = values_by_domain("floor", floor, names, 0.0)
    asked, epochs = values_by_domain("cap", cap, names, 1.0), values_by_domain("epoch cap", epoch_cap or {}, names, 1.0)
    high = np.minimum(np.minimum(asked, epochs), 1.0)
    limits: list[Limit] = ["epochs" if e < a else "cap" for a, e in zip(asked, epochs, strict=True)]
    shares = np.array([target[name] for name in names])
    if not np.isfinite(shares).all() or (shares < 0).any() or not shares.any():
        raise InputError("the shares to bound must be finite, nowhere negative and somewhere positive")
    shares = shares / shares.sum()
    blocks = _blocks(names, groups or {})
    _refuse_conflicts(names, shares, low, high, limits, blocks)
    high = np.maximum(low, high)
    tight_low, tight_high = _tightened(shares, low, high, blocks)
    weights, scale = clip_to(shares, tight_low, tight_high)
    moved = _moved(names, shares, low, high, limits, blocks, weights, scale)
    steps, digits = round_to_one(weights, low, high, [(b.members, b.low, b.high) for b in blocks[:-1]])
    decimals = {name: f"{n // 10**digits}.{n % 10**digits:0{digits}d}" for name, n in zip(names, steps.tolist(), strict=True)}
    return BoundedWeights(dict(zip(names, weights.tolist(), strict=True)), decimals, moved)


def _blocks(names: Sequence[str], groups: Mapping[str, Group]) -> list[_Block]:
    index = {name: i for i, name in enumerate(names)}
    taken: dict[str, str] = {}
    blocks = []
    for group, bounds in sorted(groups.items()):
        for domain in bounds.domains:
            if domain not in index:
                raise InputError(f"weights.groups: {group!r} names {domain!r}: there is no such domain; {_meant(domain, names)}")
            if domain in taken:
                raise InputError(
                    f"weights.groups: {domain!r} stands in {taken[domain]!r} and again in {group!r}; name it in one group, once"
                )
            taken[domain] = group
        members = np.array(sorted(index[domain] for domain in bounds.domains), np.int64)
        blocks.append(_Block(group, members, bounds.floor, bounds.cap))
    alone = np.array([i for name, i in index.items() if name not in taken], np.int64)
    return [*blocks, _Block(None, alone, 0.0, float("inf"))]


def _tightened(target: F64, low: F64, high: F64, blocks: Sequence[_Block]) -> tuple[F64, F64]:
    """(k), (k) floors and caps of domains, tightened so that they hold the groups' too."""
    tight_low, tight_high = low.copy(), high.copy()
    for block in blocks[:-1]:
        i = block.members
        t, lo, hi = target[i], low[i], high[i]
        if fsum(lo) < block.low:
            tight_low[i] = clip_to(t, lo, hi, block.low)[0]
        if fsum(np.where(t > 0, hi, lo)) > block.high:
            tight_high[i] = clip_to(t, lo, hi, block.high)[0]
    return tight_low, np.maximum(tight_low, tight_high)


def _moved(
    names: Sequence[str],
    target: F64,
    low: F64,
    high: F64,
    limits: Sequence[Limit],
    blocks: Sequence[_Block],
    weights: F64,
    c: float,
) -> tuple[MovedWeight, ...]:
    scales = np.full(len(names), c)
    of_groups = []
    for block in blocks[:-1]:
        i = block.members
        free, now = fsum(np.clip(c * target[i], low[i], high[i])), fsum(weights[i])
        bound: Literal["group floor", "group cap"] = "group cap" if free > now else "group floor"
        limit = block.high if bound == "group cap" else block.low
        if abs(free - now) <= FREE * now:
            continue
        scales[i] = scale = clip_to(target[i], low[i], high[i], limit)[1]
        of_groups.append(MovedWeight(str(block.name), bound, fsum(target[i]), now, _price(scale, c)))
    found = []
    for j in np.flatnonzero(~np.isclose(weights, scales * target, rtol=FREE, atol=0.0)).tolist():
        acted: Limit | Literal["floor"] = limits[j] if weights[j] < scales[j] * target[j] else "floor"
        price = _price(float(weights[j]), float(scales[j] * target[j])) if target[j] > 0 else None
        found.append(MovedWeight(names[j], acted, float(target[j]), float(weights[j]), price))
    return (*found, *of_groups)


def _price(at: float, would: float) -> float | None:
    """|log(at / would)|, a multiplier. None where either is zero, where it is infinite."""
    return abs(log(at) - log(would)) if at > 0 and would > 0 else None


def values_by_domain(what: str, given: Bounds, names: Sequence[str], default: float) -> F64:
    """(k) the given value of each domain, or the default. `what` names them in messages. Raises InputError for an unknown domain
    and for a value that is negative or no number."""
    values = given if isinstance(given, Mapping) else dict.fromkeys(names, given)
    unknown = sorted(values.keys() - set(names))
    if unknown:
        raise InputError(f"{what} of {unknown[0]!r}: there is no such domain; {_meant(unknown[0], names)}")
    found = np.array([values.get(name, default) for name in names], np.float64)
    for name, value in zip(names, found.tolist(), strict=True):
        if not value >= 0:
            raise InputError(f"{what} of {name!r} is {value}; it must be zero or above")
    return found


def _meant(unknown: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(unknown, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are {list_some(names)}"


def _refuse_conflicts(
    names: Sequence[str], target: F64, low: F64, high: F64, limits: Sequence[Limit], blocks: Sequence[_Block]
) -> None:
    """Checks single domains, then groups, then the whole, so that each conflict is named at its lowest level."""
    slack = len(names) * 10.0**-FINEST_DIGITS  # doubles of shares that sum to one may sum to a little less
    for i in np.flatnonzero(low > high + slack).tolist()[:1]:
        what = {"cap": "cap", "epochs": "largest share that its tokens allow"}[limits[i]]
        raise InputError(
            f"domain {names[i]!r}: its floor, {low[i]:g}, is above its {what}, {high[i]:g}; "
            f"lower 'weights.floor' or {BOUND_ADVICE[limits[i]]}"
        )
    reach = np.where(target > 0, np.maximum(low, high), low)
    tops = [
        _Top(name, share, limit if t > 0 else None)
        for name, share, limit, t in zip(names, reach.tolist(), limits, target.tolist(), strict=True)
    ]
    for block in blocks[:-1]:
        floors, share = np.sort(low[block.members])[::-1], reach[block.members]
        if block.low > block.high:
            raise InputError(f"group {block.name!r}: its floor, {block.low:g}, is above its cap, {block.high:g}")
        if fsum(floors) > block.high + slack:
            n = int(np.argmax(np.append(np.cumsum(floors) > block.high + slack, True))) + 1
            least = block.members[np.argsort(-low[block.members], kind="stable")][:n]
            shown = list_some([f"{names[i]!r} {low[i]:g}" for i in least])
            raise InputError(
                f"group {block.name!r}: the floors of {len(least)} of its domains sum to {fsum(low[least]):g}, above its cap, "
                f"{block.high:g}: {shown}; lower 'weights.floor' or raise the group's cap"
            )
        if fsum(share) < block.low - slack:
            shown, advice = _held([tops[i] for i in block.members])
            raise InputError(
                f"group {block.name!r}: the caps of all its domains sum to {fsum(share):g}, below its floor, {block.low:g}: "
                f"{shown}; lower the group's floor or {advice}"
            )
    if fsum(max(block.low, fsum(low[block.members])) for block in blocks) > 1 + slack:
        _refuse_floors(names, low, blocks, 1 + slack / 2)
    if fsum(min(block.high, fsum(reach[block.members])) for block in blocks) < 1 - slack:
        _refuse_caps(tops, blocks, 1 - slack / 2)


@dataclass(frozen=True)
class _Top:
    """The most that a domain can get."""

    name: str
    share: float
    limit: Limit | None
    """None: its target is zero, and it stays at its floor."""


def _held(tops: Sequence[_Top]) -> tuple[str, str]:
    """The domains with their limits, in words, and what a person can do about them."""
    falling = sorted(tops, key=lambda top: -top.share)
    shown = list_some([f"{top.name!r} {top.share:g} ({top.limit or 'target 0, so its floor'})" for top in falling])
    advice = [text for limit, text in BOUND_ADVICE.items() if any(top.limit == limit for top in tops)]
    return shown, " or ".join(advice) or "look at 'weights.prior'"


def _refuse_floors(names: Sequence[str], low: F64, blocks: Sequence[_Block], one: float) -> None:
    falling = [b.members[np.argsort(-low[b.members], kind="stable")][: np.count_nonzero(low[b.members])] for b in blocks]
    # of each block: none, its largest floor, its two largest, ..., or the group's own floor
    options = [
        [*enumerate(np.append(0.0, np.cumsum(low[members])).tolist()), (1, block.low)]
        for block, members in zip(blocks, falling, strict=True)
    ]
    groups, domains = [], []
    for block, members, choice in zip(blocks, falling, _fewest(options, one), strict=True):
        if choice > len(members):
            groups.append(block)
        else:
            domains += [(names[i], float(low[i])) for i in members[:choice]]
    domains.sort(key=lambda domain: -domain[1])
    shown = list_some([*(f"group {b.name!r} {b.low:g}" for b in groups), *(f"{name!r} {floor:g}" for name, floor in domains)])
    total = fsum([*(b.low for b in groups), *(floor for _, floor in domains)])
    fixes = [*(["the groups' floors"] if groups else []), *(["'weights.floor'"] if domains else [])]
    raise InputError(
        f"the floors of {_counted(groups, domains)} sum to {total:g}, above one: {shown}; lower {' or '.join(fixes)}"
    )


def _refuse_caps(tops: Sequence[_Top], blocks: Sequence[_Block], one: float) -> None:
    options = [[(len(b.members), -fsum(tops[i].share for i in b.members)), (1, -b.high)] for b in blocks]
    groups: list[_Block] = []
    domains: list[_Top] = []
    for block, by_group in zip(blocks, _fewest(options, -one), strict=True):
        if by_group:
            groups.append(block)
        else:
            domains += [tops[i] for i in block.members]
    shown, advice = _held(domains)
    shown = ", ".join([*(f"group {b.name!r} {b.high:g}" for b in groups), *([shown] if domains else [])])
    total = fsum([*(b.high for b in groups), *(top.share for top in domains)])
    fixes = [*(["raise the groups' caps"] if groups else []), *([advice] if domains else [])]
    counted = _counted(groups, domains) if groups else f"all {_counted(groups, domains)}"
    raise InputError(f"the caps of {counted} sum to {total:g}, below one: {shown}; {' or '.join(fixes)}")


def _counted(groups: Sequence[object], domains: Sequence[object]) -> str:
    counts = ((len(groups), "group"), (len(domains), "domain"))
    return " and ".join(f"{n} {what}{'s' if n > 1 else ''}" for n, what in counts if n)


def _fewest(options: Sequence[Sequence[tuple[int, float]]], limit: float) -> list[int]:
    """The option of each block with which the sums exceed a limit, by the fewest bounds in all.

    An option is (number of bounds, their sum). Dynamic programming over blocks keeps the largest sum for each number of bounds.
    The caller knows that some choice exceeds the limit.
    """
    best, chosen = np.zeros(1), []
    for block in options:
        size = len(best)
        larger = np.full(size + max(n for n, _ in block), -np.inf)
        which = np.zeros(len(larger), np.int64)
        for option, (n, value) in enumerate(block):
            better = best + value > larger[n : n + size]
            larger[n : n + size][better] = (best + value)[better]
            which[n : n + size][better] = option
        best = larger
        chosen.append(which)
    n = int(np.argmax(best > limit))
    picked = []
    for block, which in zip(reversed(options), reversed(chosen), strict=True):
        option = int(which[n])
        picked.append(option)
        n -= block[option][0]
    return picked[::-1]


def clip_to(target: F64, low: F64, high: F64, total: float = 1.0) -> tuple[F64, float]:
    """(k) w = clip(c t, lo, hi), and the c at which it sums to `total`. This w is argmin KL(w ‖ t).

    The sum rises with c. It is linear between the c at which a domain leaves its floor or meets its cap: a binary search finds
    the piece, and there c has a closed form. Needs Σ lo ≤ total ≤ Σ hi, where a domain with target zero counts with its lo.
    """
    some = target > 0
    weights = low.copy()
    if not some.any():
        return weights, 1.0
    t, lo, hi = target[some], low[some], high[some]
    rest = total - fsum(low[~some])
    with np.errstate(over="ignore"):  # a target of 1e-310 leaves its floor at infinity
        leaves, meets = lo / t, hi / t
    breaks = np.unique(np.concatenate([leaves, meets]))
    at = bisect_left(breaks, rest, key=lambda c: float(np.clip(c * t, lo, hi).sum()))
    scale = float(breaks[min(at, len(breaks) - 1)])
    moving = (leaves < scale) & (meets >= scale)
    if 0 < at < len(breaks) and moving.any():
        scale = (rest - fsum(np.where(leaves >= scale, lo, hi)[~moving])) / fsum(t[moving])
    weights[some] = np.clip(scale * t, lo, hi)
    return weights, scale


def round_to_one(weights: F64, low: F64, high: F64, groups: Sequence[tuple[I64, float, float]] = ()) -> tuple[I64, int]:
    """Integers that sum to 10^digits, in proportion to the weights and within the bounds, by largest remainders; and the digits.

    `groups`: (members, floor, cap) of disjoint groups. The sums of groups are rounded first, then the weights in them. There are
    4 + ⌈log10 k⌉ digits, so few that embeddings of other hardware mostly give the same. There are more, at most 14, where a
    positive weight would be less than ten steps, or the bounds leave no step between them.
    """
    alone = np.ones(len(weights), bool)
    for members, _, _ in groups:
        alone[members] = False

    def together(values: F64) -> F64:
        """The values of domains in no group, then the sum of each group."""
        return np.array([*values[alone].tolist(), *(fsum(values[members]) for members, _, _ in groups)])

    floors, caps = (np.array([bounds[side] for bounds in groups], np.float64) for side in (1, 2))
    for digits in range(4 + ceil(log10(len(weights))), FINEST_DIGITS + 1):
        one = 10**digits
        least, most = _steps(low, high, one, digits)
        most[weights == 0] = 0
        lows, highs = together(least), together(most)
        of_groups = slice(len(lows) - len(groups), None)
        asked_low, asked_high = _steps(floors, caps, one, digits)
        lows[of_groups] = np.maximum(lows[of_groups], asked_low)
        highs[of_groups] = np.minimum(highs[of_groups], asked_high)
        fits = (least <= most).all() and (lows <= highs).all() and lows.sum() <= one <= highs.sum()
        if fits and (weights[weights > 0] * one >= 10).all():
            break
    shares = _apportion(together(weights), lows, np.maximum(lows, highs), one, one)
    steps = np.zeros(len(weights), np.int64)
    steps[alone] = shares[: len(shares) - len(groups)]
    for (members, _, _), share in zip(groups, shares[of_groups].tolist(), strict=True):
        steps[members] = _apportion(weights[members], least[members], most[members], share, one)
    return steps, digits


def _steps(low: F64, high: F64, one: int, digits: int) -> tuple[F64, F64]:
    """Bounds in whole steps: inside the bounds, but at the last digit outside them."""
    if digits < FINEST_DIGITS:
        return np.ceil(low * one - 1e-6), np.floor(high * one + 1e-6)
    return np.floor(low * one), np.ceil(high * one)


def _apportion(weights: F64, least: F64, most: F64, total: int, one: int) -> I64:
    """Integers that sum to `total`, in proportion to the weights and within the bounds."""
    exact = clip_to(weights, least / one, most / one, total / one)[0] * one
    steps = np.clip(np.floor(exact), least, most)
    left = total - int(steps.sum())
    if left > 0:
        able = np.flatnonzero(steps < most)
        steps[able[np.argsort((steps - exact)[able], kind="stable")][:left]] += 1
    elif left < 0:  # a sum of doubles that came out a step too high
        able = np.flatnonzero(steps > least)
        steps[able[np.argsort((exact - steps)[able], kind="stable")][:-left]] -= 1
    return steps.astype(np.int64)
