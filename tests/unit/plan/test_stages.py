"""Stages of a plan: budgets, epochs through all of them, sequences that are whole in each, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chameleon_data.errors import InputError
from chameleon_data.plan.plan import (
    PHASE_BITS,
    DomainCount,
    DomainPlan,
    Packing,
    Plan,
    StageTarget,
    divide_budget,
    divide_plan,
    epoch_caps,
    make_plan,
    stage_quotas,
    total_weights,
)
from chameleon_data.shards.grouping import begin_stage_ranges


def count_of(name: str, tokens: int) -> DomainCount:
    return DomainCount(name, tokens // 10, tokens, tokens, 10, 1, np.array([[tokens // 10, tokens]]))


def plan_of(stages: list[StageTarget], exhausted: str = "repeat", packing: Packing | None = None) -> Plan:
    return make_plan(
        [count_of("a", 1000), count_of("b", 500)], stages, max_epochs=2, exhausted=exhausted, shard_bytes=200, seed=0,
        hash="text", writer={}, packing=packing,
    )  # fmt: skip


BOTH = {"a": "0.5", "b": "0.5"}


@given(st.integers(1, 10**15), st.lists(st.integers(1, 99), min_size=1, max_size=9))
def test_budgets_of_stages_sum_to_the_budget_and_are_their_shares(budget: int, parts: list[int]) -> None:
    shares = [Fraction(str(part / sum(parts))) for part in parts]
    found = divide_budget(budget, shares)
    assert sum(found) == budget
    assert all(abs(tokens - budget * share / sum(shares)) < 1 for tokens, share in zip(found, shares, strict=True))


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 7)), min_size=1, max_size=5).filter(lambda s: any(q for q, _ in s)),
    st.integers(1, 12), st.integers(0, 2**PHASE_BITS - 1), st.sampled_from(["texts", "cross", "whole"]),
)  # fmt: skip
def test_bounds_and_shards_of_anchors_are_one_rule(stages: list[tuple[int, int]], length: int, phase: int, rows: str) -> None:
    """Against the definition, anchor by anchor: C <= p < C + Q, and then floor(S (p - C) / Q)."""
    packing = None if rows == "texts" else Packing(length, rows == "whole")
    unit = length if rows == "cross" else 1
    quotas, shards = tuple(quota * unit for quota, _ in stages), [count for _, count in stages]
    domain = DomainPlan("a", ("1",) * len(stages), quotas, 1, sum(quotas), sum(quotas), length, 0, phase)
    plan = Plan((domain,), tuple(shards), 0, "text", {}, packing)
    first = length * phase >> PHASE_BITS if rows == "cross" else 0
    anchors = np.arange(first, sum(quotas), unit)
    expected, begin, before = [], 0, 0
    for quota, count in zip(quotas, shards, strict=True):
        expected += [before + count * (int(p) - begin) // quota for p in anchors if begin <= p < begin + quota]
        begin, before = begin + quota, before + count
    assert plan.shards_of(np.zeros(len(anchors), np.int64), anchors).tolist() == expected
    bounds = domain.bounds(shards, packing, range(plan.shards + 1))
    assert (np.searchsorted(bounds, anchors - first, "right") - 1).tolist() == expected
    assert plan.shards_of(np.zeros(1, np.int64), np.array([sum(quotas)])).tolist() == [plan.shards]
    assert [plan.stage_of(shard) for shard in range(plan.shards)] == [i for i, n in enumerate(shards) for _ in range(n)]
    assert (np.diff(bounds) % unit == 0).all(), "a sequence would be torn"


@pytest.mark.parametrize("rows", ["texts", "cross", "whole"])
def test_plans_of_folders_are_stretches_of_one(rows: str) -> None:
    """Their bounds and shards are those of the whole plan; anchors outside of a folder's stages lie in no shard of it."""
    packing = None if rows == "texts" else Packing(64, rows == "whole")
    stages = [StageTarget(6400, BOTH), StageTarget(1280, {"a": "1"}), StageTarget(2560, BOTH)]
    whole = plan_of(stages, packing=packing)
    parts = divide_plan(whole, [1, 2])
    assert divide_plan(whole, [3]) == (whole,)
    assert [(part.first_stage, part.first_shard, part.named_shards) for part in parts] == [
        (0, 0, whole.stage_shards[0]), (1, whole.stage_shards[0], whole.shards)
    ]  # fmt: skip
    assert len({whole.digest, *(part.digest for part in parts)}) == 3
    assert parts[0].digest == plan_of(stages[:1], packing=packing).digest, "what a plan of the first stage alone has"
    for index, domain in enumerate(whole.domains):
        bounds = domain.bounds(whole.stage_shards, packing, range(whole.shards + 1)).tolist()
        anchors = np.arange(domain.begins[-1] + 100)
        shard = whole.shards_of(np.full(len(anchors), index), anchors)
        for part in parts:
            own, first = part.domains[index], part.first_shard
            expected = bounds[first : part.named_shards + 1]
            assert own.bounds(part.stage_shards, packing, range(part.shards + 1)).tolist() == expected
            inside = np.clip(shard - first, -1, part.shards)
            assert (part.shards_of(np.full(len(anchors), index), anchors) == inside).all()


def test_ranges_lie_in_one_stage() -> None:
    assert begin_stage_ranges([5, 1, 4], 2) == (0, 2, 4, 5, 6, 8, 10)
    assert begin_stage_ranges([5], 5) == (0, 5)


def test_a_stage_may_use_what_earlier_ones_leave_of_the_epochs() -> None:
    counts = [count_of("a", 1000), count_of("b", 500)]
    tokens = {c.name: c.tokens for c in counts}
    first = [StageTarget(1200, BOTH)]
    (used,) = stage_quotas(tokens, first, 2.0, "redistribute", None)
    assert used == {"a": 600, "b": 600}
    caps = epoch_caps(counts, 800, 2.0, "redistribute", used)
    assert caps == {"a": 1400 / 800, "b": 400 / 800}
    later = StageTarget(800, {"a": "0.49", "b": "0.51"})  # by its rounding beyond what is left
    assert stage_quotas(tokens, [*first, later], 2.0, "redistribute", None)[1] == {"a": 392, "b": 400}
    assert stage_quotas(tokens, [*first, later], 2.0, "repeat", None)[1] == {"a": 392, "b": 408}
    with pytest.raises(InputError, match="its share is 1,008 tokens but it holds 500"):
        plan_of([*first, later], "fail")


def test_packed_a_stage_holds_whole_sequences() -> None:
    plan = plan_of([StageTarget(300, BOTH), StageTarget(201, {"a": "1"})], packing=Packing(64, whole=False))
    assert [d.quotas for d in plan.domains] == [(128, 192), (128, 0)]


def test_one_stage_has_the_digest_of_a_plan_without_stages() -> None:
    """A build that was made without stages is found again."""
    one = plan_of([StageTarget(1000, BOTH)])
    assert one.digest == "0419bf85e2b4593e6c9e0d53a07a439b19c1f488f2b7f9068a70e97210b7ee52"
    two = plan_of([StageTarget(500, BOTH), StageTarget(500, BOTH)])
    assert [(d.quota, d.quotas) for d in two.domains] == [(500, (250, 250))] * 2
    assert two.digest != one.digest
    assert replace(two, stage_shards=(1, two.shards - 1)).digest != two.digest


def test_weights_of_all_stages_are_in_proportion_to_their_budgets() -> None:
    assert total_weights([StageTarget(10, {"a": "0.123456"})]) == {"a": "0.123456"}
    found = total_weights([StageTarget(300, BOTH), StageTarget(100, {"a": "1"})])
    assert {name: float(weight) for name, weight in found.items()} == {"a": 0.625, "b": 0.375}


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"a": "0.9999", "b": "0.0001"}, r"'b' would get none of 100 tokens of stage 2 \(weight 0.0001\).*'drop_below'"),
        ({"a": "1"}, None),
    ],
)
def test_a_domain_without_tokens_in_a_stage_is_refused_unless_it_is_absent(second: dict[str, str], message: str | None) -> None:
    stages = [StageTarget(1000, BOTH), StageTarget(100, second)]
    if message is None:
        assert [d.quotas for d in plan_of(stages).domains] == [(500, 100), (500, 0)]
        return
    with pytest.raises(InputError, match=message):
        plan_of(stages)


def test_a_domain_that_is_in_no_stage_is_refused() -> None:
    with pytest.raises(InputError, match="'b' is in no stage; lower their 'drop_below'"):
        plan_of([StageTarget(100, {"a": "1"}), StageTarget(100, {"a": "1"})])
