"""Bounds against optimality itself, a general solver, and exact arithmetic."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.optimize import minimize

from chameleon_data.errors import InputError
from chameleon_data.recipe import Group, Weights
from chameleon_data.recipe_file import parse_recipe
from chameleon_data.weights.bounds import bound_weights, clip_to, round_to_one


def values(mapping: dict[str, float]) -> np.ndarray:
    return np.array(list(mapping.values()))


def divergence(w: np.ndarray, t: np.ndarray) -> float:
    some = w > 0
    return float((w[some] * np.log(w[some] / t[some])).sum())


@st.composite
def bounded(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    k = draw(st.integers(1, 12))
    share = st.floats(1e-6, 1.0)
    target = np.array(draw(st.lists(share, min_size=k, max_size=k)))
    inside = np.array(draw(st.lists(share, min_size=k, max_size=k)))
    inside /= inside.sum()  # a mixture that keeps the bounds drawn around it
    below, above = (np.array(draw(st.lists(st.floats(0, 1), min_size=k, max_size=k))) for _ in range(2))
    return target / target.sum(), inside * below, np.minimum(inside + above * (1 - inside), 1.0)


@settings(deadline=None)
@given(problem=bounded(), seed=st.integers(0, 99))
def test_clipping_is_the_nearest_mixture_within_the_bounds(problem: tuple[np.ndarray, np.ndarray, np.ndarray], seed: int) -> None:
    target, low, high = problem
    w, scale = clip_to(target, low, high)
    assert w.sum() == pytest.approx(1, abs=1e-12)
    assert (w >= low).all()
    assert (w <= high).all()
    assert_allclose(w, np.clip(scale * target, low, high), rtol=1e-12)
    rng, best = np.random.default_rng(seed), divergence(w, target)
    for a, b in rng.integers(0, len(w), (20, 2)):  # no weight can be moved between two domains to come nearer
        step = rng.random() * min(w[a] - low[a], high[b] - w[b])
        other = w.copy()
        other[a] -= step
        other[b] += step
        assert divergence(other, target) >= best - 1e-12


@settings(deadline=None)
@given(problem=bounded())
def test_decimals_sum_to_exactly_one_within_the_bounds(problem: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    target, low, high = problem
    w, _ = clip_to(target, low, high)
    steps, digits = round_to_one(w, low, high)
    one = 10**digits
    assert steps.sum() == one
    slack = 2 if digits == 14 else 1e-6  # bounds that no decimal of 14 digits keeps
    assert (steps >= low * one - slack).all()
    assert (steps <= high * one + slack).all()
    assert (np.abs(steps - w * one) <= len(w)).all()
    assert digits >= 4 + np.ceil(np.log10(len(w)))
    assert digits == 14 or (steps[w > 0] > 0).all()


@pytest.mark.parametrize(("k", "digits"), [(1, 4), (2, 5), (10, 5), (11, 6), (100, 6), (1_000, 7)])
def test_decimals_have_four_digits_more_than_the_number_of_domains(k: int, digits: int) -> None:
    rng = np.random.default_rng(k)
    target = rng.random(k) + 0.5
    result = bound_weights({f"d{i}": t for i, t in enumerate(target)})
    assert {len(text) for text in result.decimals.values()} == {digits + 2}
    assert sum(map(Fraction, result.decimals.values())) == 1
    assert_allclose([float(x) for x in result.decimals.values()], values(result.weights), atol=10.0**-digits)


def test_a_small_domain_gets_more_digits_and_is_not_lost() -> None:
    result = bound_weights({"large": 1.0, "small": 3.14159e-9})
    assert Fraction(result.decimals["small"]) == Fraction("3.1e-9")
    limited = bound_weights({"large": 0.5, "small": 0.5}, epoch_cap={"small": 1.23e-8})
    assert 0 < Fraction(limited.decimals["small"]) <= Fraction(1.23e-8)


def test_largest_remainders_get_what_is_left() -> None:
    assert bound_weights({"a": 1, "b": 1, "c": 1}).decimals == {"a": "0.33334", "b": "0.33333", "c": "0.33333"}


def test_without_bounds_the_target_stays() -> None:
    result = bound_weights({"b": 3.0, "a": 1.0})
    assert result.weights == {"a": 0.25, "b": 0.75}
    assert result.moved == ()


def test_a_bound_reports_what_it_moved() -> None:
    result = bound_weights({"a": 0.4, "b": 0.2, "c": 0.6}, floor={"b": 0.3}, cap=0.4)
    assert_allclose(values(result.weights), [0.3, 0.3, 0.4])
    assert [(m.domain, m.bound) for m in result.moved] == [("b", "floor"), ("c", "cap")]
    assert_allclose([(m.before, m.after) for m in result.moved], [(1 / 6, 0.3), (0.5, 0.4)])
    scale = 0.3 / (1 / 3)
    assert_allclose([m.shadow_price for m in result.moved], [np.log(0.3 / (scale / 6)), np.log(scale * 0.5 / 0.4)])


def test_a_shadow_price_is_what_a_little_slack_saves() -> None:
    target = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4}
    t = values(target)
    tight = bound_weights(target, floor={"a": 0.15}, cap={"d": 0.3})
    for name, options in {
        "a": {"floor": {"a": 0.15 - 1e-6}, "cap": {"d": 0.3}},
        "d": {"floor": {"a": 0.15}, "cap": {"d": 0.3 + 1e-6}},
    }.items():
        saved = (divergence(values(tight.weights), t) - divergence(values(bound_weights(target, **options).weights), t)) / 1e-6
        assert saved == pytest.approx(next(m.shadow_price for m in tight.moved if m.domain == name), rel=1e-3)


def test_epochs_limit_a_domain_and_the_others_take_the_rest() -> None:
    result = bound_weights({"a": 0.5, "b": 0.25, "c": 0.25}, cap=0.9, epoch_cap={"a": 0.1, "b": 40.0})
    assert_allclose(values(result.weights), [0.1, 0.45, 0.45])
    assert [(m.domain, m.bound) for m in result.moved] == [("a", "epochs")]


def test_a_target_of_zero_stays_at_its_floor() -> None:
    result = bound_weights({"a": 0.0, "b": 0.5, "c": 0.5}, floor={"a": 0.2})
    assert_allclose(values(result.weights), [0.2, 0.4, 0.4])
    assert result.moved[0].shadow_price is None
    assert bound_weights({"a": 0.0, "b": 1.0}).decimals == {"a": "0.00000", "b": "1.00000"}


def test_caps_that_leave_exactly_one_mixture_are_kept() -> None:
    assert set(bound_weights({f"d{i}": i + 1.0 for i in range(10)}, cap=0.1).decimals.values()) == {"0.10000"}
    tokens = np.array([3, 7, 11, 10**9])
    natural = dict(zip("abcd", (tokens / tokens.sum()).tolist(), strict=True))
    decimals = bound_weights({"a": 1, "b": 1, "c": 1, "d": 1}, epoch_cap=natural).decimals
    assert sum(map(Fraction, decimals.values())) == 1
    for name, count in zip("abcd", tokens.tolist(), strict=True):
        assert abs(Fraction(decimals[name]) * int(tokens.sum()) - count) < Fraction(1, 1000)


@settings(deadline=None)
@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=9))
@example([1, 6, 15])
def test_a_budget_of_all_there_is_takes_all_there_is(tokens: list[int]) -> None:
    names, total = [f"d{i}" for i in range(len(tokens))], sum(tokens)
    shares = {name: t / total for name, t in zip(names, tokens, strict=True)}  # as doubles, may sum to a little less than one
    result = bound_weights({**dict.fromkeys(names, 1.0), "none": 0.0}, epoch_cap=shares)
    assert Fraction(result.decimals.pop("none")) == 0
    assert sum(map(Fraction, result.decimals.values())) == 1
    for text, count in zip(result.decimals.values(), tokens, strict=True):
        assert abs(Fraction(text) * total - count) < Fraction(1, 1000)


CONFLICTS = {
    "floor above cap": ({"floor": {"b": 0.3}, "cap": {"b": 0.2}}, r"'b': its floor, 0\.3, is above its cap, 0\.2"),
    "floor above epochs": ({"floor": 0.2, "epoch_cap": {"c": 0.1}}, r"'c': its floor.*its tokens allow, 0\.1.*max_epochs"),
    "floors": ({"floor": {"a": 0.5, "b": 0.1, "c": 0.6}}, r"floors of 2 domains sum to 1\.1, above one: 'c' 0\.6, 'a' 0\.5;"),
    "caps": ({"cap": 0.3}, r"caps of all 3 domains sum to 0\.9, below one.*weights\.cap"),
    "epochs": ({"epoch_cap": {"a": 0.3, "b": 0.2, "c": 0.1}}, r"sum to 0\.6, below one.*'c' 0\.1 \(epochs\).*mix\.budget"),
    "unknown": ({"floor": {"A1": 0.1}}, "floor of 'A1': there is no such domain; there are a, b, c"),
    "misspelt": ({"cap": {"aa": 0.1}}, "did you mean 'a'"),
    "negative": ({"cap": {"a": -0.1}}, "cap of 'a' is -0.1"),
    "nan": ({"floor": {"a": float("nan")}}, "floor of 'a' is nan"),
}


@pytest.mark.parametrize("case", CONFLICTS)
def test_bounds_that_no_mixture_keeps_are_refused(case: str) -> None:
    options, message = CONFLICTS[case]
    with pytest.raises(InputError, match=message):
        bound_weights({"a": 0.2, "b": 0.3, "c": 0.5}, **options)


def test_a_domain_with_a_share_of_zero_cannot_rise_to_its_cap() -> None:
    with pytest.raises(InputError, match=r"'a' 0 \(target 0, so its floor\)"):
        bound_weights({"a": 0.0, "b": 0.0, "c": 0.5}, cap={"c": 0.5})
    with pytest.raises(InputError, match="somewhere positive"):
        bound_weights({"a": 0.0, "b": 0.0})


@given(st.lists(st.integers(0, 60), min_size=1, max_size=7))
def test_the_floors_in_conflict_are_the_fewest(percent: list[int]) -> None:
    assume(sum(percent) > 100)
    floors = {f"d{i}": share / 100 for i, share in enumerate(percent)}
    fewest = next(n for n in range(1, 8) if any(sum(c) > 100 for c in itertools.combinations(percent, n)))
    with pytest.raises(InputError, match=f"the floors of {fewest} domains"):
        bound_weights(dict.fromkeys(floors, 1.0), floor=floors)


# --- groups


@st.composite
def grouped(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[tuple[np.ndarray, float, float]]]:
    target, low, high = draw(bounded())
    k = len(target)
    inside = clip_to(np.full(k, 1 / k), low, high)[0]  # a mixture that keeps the bounds of domains
    member = np.array(draw(st.lists(st.integers(0, 3), min_size=k, max_size=k)))  # 3: in no group
    slack = st.one_of(st.just(0.0), st.floats(0, 1))
    found = []
    for g in range(3):
        if len(i := np.flatnonzero(member == g)):
            held = min(inside[i].sum(), 1.0)
            found.append((i, held * (1 - draw(slack)), min(held * (1 + draw(slack)), 1.0)))
    return target, low, high, found


def as_options(problem: tuple) -> tuple[dict, dict]:
    target, low, high, groups = problem
    names = [f"d{i:02d}" for i in range(len(target))]
    named = {f"g{n}": Group(domains=tuple(names[i] for i in m), floor=lo, cap=hi) for n, (m, lo, hi) in enumerate(groups)}
    bounds = {"floor": dict(zip(names, low.tolist(), strict=True)), "cap": dict(zip(names, high.tolist(), strict=True))}
    return dict(zip(names, target.tolist(), strict=True)), {**bounds, "groups": named}


@settings(deadline=None, max_examples=150)
@given(problem=grouped(), seed=st.integers(0, 99))
def test_groups_keep_their_bounds_and_no_move_comes_nearer(problem: tuple, seed: int) -> None:
    target, low, high, groups = problem
    shares, options = as_options(problem)
    w = values(bound_weights(shares, **options).weights)
    assert w.sum() == pytest.approx(1, abs=1e-12)
    assert (w >= low - 1e-15).all()
    assert (w <= high + 1e-15).all()
    for i, floor, cap in groups:
        assert floor - 1e-12 <= w[i].sum() <= cap + 1e-12
    group_of = np.full(len(w), -1)
    for g, (i, _, _) in enumerate(groups):
        group_of[i] = g
    room = [(w[i].sum() - floor, cap - w[i].sum()) for i, floor, cap in groups]
    rng, best = np.random.default_rng(seed), divergence(w, target)
    for a, b in rng.integers(0, len(w), (30, 2)):  # pairs suffice: the multipliers of a scale each are what a pair compares
        most = min(w[a] - low[a], high[b] - w[b])
        if group_of[a] != group_of[b]:
            most = min(
                most, *([room[group_of[a]][0]] if group_of[a] >= 0 else []), *([room[group_of[b]][1]] if group_of[b] >= 0 else [])
            )
        other = w.copy()
        step = rng.random() * max(most, 0.0)
        other[a] -= step
        other[b] += step
        assert divergence(other, target) >= best - 1e-12


@settings(deadline=None, max_examples=40)
@given(problem=grouped())
def test_groups_against_a_general_solver(problem: tuple) -> None:
    target, low, high, groups = problem
    shares, options = as_options(problem)
    w = values(bound_weights(shares, **options).weights)
    constraints = [{"type": "eq", "fun": lambda x: x.sum() - 1}]
    for i, floor, cap in groups:
        constraints.append({"type": "ineq", "fun": lambda x, i=i, floor=floor: x[i].sum() - floor})
        constraints.append({"type": "ineq", "fun": lambda x, i=i, cap=cap: cap - x[i].sum()})
    tiny = 1e-12

    def objective(x: np.ndarray) -> float:
        x = np.maximum(x, tiny)
        return float((x * np.log(x / target)).sum())

    solved = minimize(
        objective, np.clip(target, low, high), jac=lambda x: np.log(np.maximum(x, tiny) / target) + 1, method="SLSQP",
        bounds=list(zip(low, high, strict=True)), constraints=constraints, options={"maxiter": 500, "ftol": 1e-14},
    )  # fmt: skip
    kept = all(c["fun"](solved.x) >= -1e-9 for c in constraints[1:]) and abs(solved.x.sum() - 1) < 1e-9
    assert not kept or objective(w) <= solved.fun + 1e-8


@settings(deadline=None, max_examples=150)
@given(problem=grouped())
def test_decimals_keep_the_bounds_of_groups(problem: tuple) -> None:
    shares, options = as_options(problem)
    decimals = {name: Fraction(text) for name, text in bound_weights(shares, **options).decimals.items()}
    assert sum(decimals.values()) == 1
    digits = len(str(bound_weights(shares, **options).decimals["d00"])) - 2
    slack = Fraction(2 * len(shares) if digits == 14 else 1, 10**14 if digits == 14 else 10 ** (digits + 6))
    for bounds in options["groups"].values():
        together = sum(decimals[name] for name in bounds.domains)
        assert Fraction(repr(bounds.floor)) - slack <= together <= Fraction(repr(bounds.cap)) + slack
    for name, share in decimals.items():
        assert (
            Fraction(repr(float(options["floor"][name]))) - slack <= share <= Fraction(repr(float(options["cap"][name]))) + slack
        )


def test_a_group_keeps_its_cap_in_decimals_where_each_domain_would_round_up() -> None:
    names = "abcdef"
    target = dict.fromkeys(names, 1.0) | {"rest": 3.0}
    result = bound_weights(target, groups={"code": Group(domains=tuple(names), cap=0.4)})
    assert sum(Fraction(result.decimals[name]) for name in names) == Fraction("0.4")


def test_code_at_most_a_fifth() -> None:
    target = {"arxiv": 0.2, "github": 0.3, "stackexchange": 0.1, "wiki": 0.4}
    result = bound_weights(target, groups={"code": Group(domains=("github", "stackexchange"), cap=0.2)})
    assert_allclose(values(result.weights), [0.8 / 3, 0.15, 0.05, 1.6 / 3])
    (moved,) = result.moved
    assert (moved.domain, moved.bound) == ("code", "group cap")
    assert moved.before == pytest.approx(0.4)
    assert moved.after == pytest.approx(0.2)
    assert moved.shadow_price == pytest.approx(np.log((0.8 / 0.6) / 0.5))


def test_bounds_that_do_not_act_change_nothing_and_are_not_reported() -> None:
    target = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4}
    wide = {"x": Group(domains=("a", "b"), floor=0.1, cap=0.9), "y": Group(domains=("c",), cap=0.3)}
    assert bound_weights(target, groups=wide) == bound_weights(target)


def test_the_shadow_prices_of_groups_are_what_a_little_slack_saves() -> None:
    target = {"a": 0.05, "b": 0.1, "c": 0.15, "d": 0.3, "e": 0.4}
    t = values(target)
    bounds = {"few": (("a", "b"), 0.3, 1.0), "many": (("c", "d"), 0.0, 0.25)}
    boxes = {"floor": {"a": 0.12}, "cap": {"d": 0.1}}

    def solved(changed: str | None = None, box: str | None = None) -> np.ndarray:
        groups = {
            name: Group(domains=d, floor=lo - 1e-6 * (name == changed and lo > 0), cap=hi + 1e-6 * (name == changed and hi < 1))
            for name, (d, lo, hi) in bounds.items()
        }
        floor, cap = dict(boxes["floor"]), dict(boxes["cap"])
        if box in floor:
            floor[box] -= 1e-6
        if box in cap:
            cap[box] += 1e-6
        return bound_weights(target, floor=floor, cap=cap, groups=groups)

    tight = solved()
    assert [(m.domain, m.bound) for m in tight.moved] == [
        ("a", "floor"), ("d", "cap"), ("few", "group floor"), ("many", "group cap")
    ]  # fmt: skip
    for m in tight.moved:
        looser = solved(changed=m.domain) if m.bound.startswith("group") else solved(box=m.domain)
        saved = (divergence(values(tight.weights), t) - divergence(values(looser.weights), t)) / 1e-6
        assert saved == pytest.approx(m.shadow_price, rel=1e-3)


CODE = ("a", "b")
GROUPS = {
    "unknown": ({"g": Group(domains=("a", "cc"))}, {}, "'g' names 'cc': there is no such domain; did you mean 'c'"),
    "in two": ({"g": Group(domains=("a", "b")), "h": Group(domains=("b",))}, {}, "'b' stands in 'g' and again in 'h'"),
    "twice": ({"g": Group(domains=("a", "a"))}, {}, "'a' stands in 'g' and again in 'g'"),
    "floor above cap": ({"g": Group(domains=CODE, floor=0.5, cap=0.4)}, {}, r"'g': its floor, 0\.5, is above its cap, 0\.4"),
    "floors inside": (
        {"g": Group(domains=("a", "b", "c"), cap=0.3)},
        {"floor": {"a": 0.05, "b": 0.2, "c": 0.15}},
        r"'g': the floors of 2 of its domains sum to 0\.35, above its cap, 0\.3: 'b' 0\.2, 'c' 0\.15;",
    ),
    "caps inside": (
        {"g": Group(domains=CODE, floor=0.5)},
        {"cap": {"a": 0.2}, "epoch_cap": {"b": 0.1}},
        r"'g': the caps of all its domains sum to 0\.3, below its floor, 0\.5: 'a' 0\.2 \(cap\), 'b' 0\.1 \(epochs\); .*epochs",
    ),
    "floors": (
        {"g": Group(domains=CODE, floor=0.7)},
        {"floor": {"a": 0.1, "c": 0.4}},
        r"floors of 1 group and 1 domain sum to 1\.1, above one: group 'g' 0\.7, 'c' 0\.4;",
    ),
    "caps": (
        {"g": Group(domains=CODE, cap=0.2)},
        {"cap": {"c": 0.5, "d": 0.1}},
        r"caps of 1 group and 2 domains sum to 0\.8, below one: group 'g' 0\.2, 'c' 0\.5 \(cap\), 'd' 0\.1",
    ),
    "all grouped": (
        {"g": Group(domains=CODE, cap=0.2), "h": Group(domains=("c", "d"), cap=0.3)},
        {},
        r"caps of 2 groups sum to 0\.5, below one: group 'g' 0\.2, group 'h' 0\.3; raise the groups' caps",
    ),
}


@pytest.mark.parametrize("case", GROUPS)
def test_groups_that_no_mixture_keeps_are_refused(case: str) -> None:
    groups, options, message = GROUPS[case]
    with pytest.raises(InputError, match=message):
        bound_weights({"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4}, groups=groups, **options)


@settings(deadline=None)
@given(
    percent=st.lists(st.integers(0, 40), min_size=5, max_size=5),
    of_groups=st.tuples(st.integers(0, 99), st.integers(0, 99)),
)
def test_the_floors_in_conflict_are_the_fewest_with_groups_too(percent: list[int], of_groups: tuple[int, int]) -> None:
    blocks = [(0, 1), (2, 3), (4,)]
    bounds = [*((i, p) for i, p in enumerate(percent)), *((5 + g, p) for g, p in enumerate(of_groups))]

    def implied(chosen: set[int]) -> int:
        return sum(
            max(sum(percent[i] for i in b if i in chosen), of_groups[g] if g < 2 and 5 + g in chosen else 0)
            for g, b in enumerate(blocks)
        )

    assume(implied({i for i, _ in bounds}) > 100)
    assume(all(sum(percent[i] for i in b) <= 100 for b in blocks))
    fewest = next(n for n in range(1, 8) if any(implied(set(c)) > 100 for c in itertools.combinations(range(7), n)))
    names = [f"d{i}" for i in range(5)]
    groups = {f"g{g}": Group(domains=tuple(names[i] for i in blocks[g]), floor=of_groups[g] / 100) for g in range(2)}
    floors = {name: p / 100 for name, p in zip(names, percent, strict=True)}
    with pytest.raises(InputError, match="the floors of") as caught:
        bound_weights(dict.fromkeys(names, 1.0), floor=floors, groups=groups)
    shown = str(caught.value).split("above one: ")[1].split(";")[0]
    assert len(shown.split(", ")) == fewest


@settings(deadline=None)
@given(percent=st.lists(st.integers(1, 60), min_size=5, max_size=5), of_groups=st.tuples(st.integers(1, 99), st.integers(1, 99)))
def test_the_caps_in_conflict_are_the_fewest_with_groups_too(percent: list[int], of_groups: tuple[int, int]) -> None:
    blocks = [(0, 1), (2, 3), (4,)]

    def implied(chosen: set[int]) -> float:
        return sum(
            min(
                sum(percent[i] for i in b) if set(b) <= chosen else np.inf,
                of_groups[g] if g < 2 and 5 + g in chosen else np.inf,
            )
            for g, b in enumerate(blocks)
        )

    assume(implied(set(range(7))) < 100)
    fewest = next(n for n in range(1, 8) if any(implied(set(c)) < 100 for c in itertools.combinations(range(7), n)))
    names = [f"d{i}" for i in range(5)]
    groups = {f"g{g}": Group(domains=tuple(names[i] for i in blocks[g]), cap=of_groups[g] / 100) for g in range(2)}
    caps = {name: p / 100 for name, p in zip(names, percent, strict=True)}
    with pytest.raises(InputError, match="the caps of") as caught:
        bound_weights(dict.fromkeys(names, 1.0), cap=caps, groups=groups)
    shown = str(caught.value).split("below one: ")[1].split(";")[0]
    assert len(shown.split(", ")) == fewest


def test_a_hundred_thousand_domains_in_groups() -> None:
    rng = np.random.default_rng(0)
    names = [f"d{i:05d}" for i in range(100_000)]
    target = dict(zip(names, rng.random(len(names)).tolist(), strict=True))
    groups = {f"g{g:02d}": Group(domains=tuple(names[g::100]), floor=0.008, cap=0.0101) for g in range(0, 100, 2)}
    result = bound_weights(target, groups=groups)
    assert sum(map(Fraction, result.decimals.values())) == 1
    for bounds in groups.values():
        assert 0.008 - 1e-12 <= sum(result.weights[name] for name in bounds.domains) <= 0.0101 + 1e-12


# --- groups in a recipe


def parsed(weights: str) -> Weights:
    return parse_recipe(
        f"name: x\nout: out\nsources: {{a: a.jsonl, b: b.jsonl}}\nweights: {weights}\n", Path("/data"), "r"
    ).weights


def test_a_recipe_names_groups_and_files_to_compare() -> None:
    weights = parsed("{groups: {code: {domains: [a, b], cap: 0.2}}, compare: [doge.json, s3://x/y.yaml], from: w.yaml}")
    assert weights.groups == {"code": Group(domains=("a", "b"), floor=0.0, cap=0.2)}
    assert weights.compare == ("/data/doge.json", "s3://x/y.yaml")
    assert weights.from_ == "/data/w.yaml"
    assert parsed("{}") == Weights()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("{groups: {code: {domains: [a], capp: 0.2}}}", "r:4: weights.groups.code.capp: unknown key; did you mean 'cap'"),
        ("{groups: {code: {domains: [a], domain: b}}}", "did you mean 'domains'"),
        ("{groups: {code: {domains: []}}}", "weights.groups.code.domains"),
        ("{groups: {code: {domains: [a], cap: 1.2}}}", "weights.groups.code.cap"),
        ("{groups: {code: {domains: [a]}, other: {domains: [b, a]}}}", "'a' stands twice in 'groups'"),
    ],
)
def test_a_wrong_group_is_refused_with_its_place(weights: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parsed(weights)
