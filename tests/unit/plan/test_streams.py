"""The plan and the placement against a three-line oracle that sorts everything, and against the bounds in exact rationals."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from chameleon_data.errors import InputError
from chameleon_data.hashing import key64, multiset_hash
from chameleon_data.plan import cuts as cutting
from chameleon_data.plan import layout as layouts
from chameleon_data.plan import routing
from chameleon_data.plan.cuts import (
    Documents,
    cut_slots,
    divide_range,
    find_filled_shards,
    find_open_shards,
    finish_layout,
    finish_range,
    in_cut_slots,
    in_open_slots,
    sketch_range,
    sum_cuts,
)
from chameleon_data.plan.layout import Layout, sketch_layout
from chameleon_data.plan.order import DEPTHS, order_keys, rank_buckets
from chameleon_data.plan.plan import (
    DomainCount,
    Packing,
    Plan,
    StageTarget,
    divide_budget,
    divide_plan,
    epoch_caps,
    histogram_depth,
    largest_full_shard_counts,
    make_plan,
    shard_spread,
    shards_at,
)
from chameleon_data.plan.streams import NO_RANGE, SEVERAL_RANGES, anchors, histogram_of
from chameleon_data.shards.grouping import begin_ranges, begin_stage_ranges
from chameleon_data.shards.levels import send_further
from tests.support.orders import in_order

Corpus = dict[str, list[tuple[int, int, int]]]  # domain -> documents (hi, lo, tokens), copies included


def counts_of(corpus: Corpus, depth: int | None = None) -> list[DomainCount]:
    """With histograms of this depth, or of the one that goes with the rows."""
    counts = []
    for name, documents in corpus.items():
        hi, lo, tokens = columns(documents)
        histogram = histogram_of(hi, tokens, histogram_depth(len(documents)) if depth is None else depth)
        counts.append(
            DomainCount(
                name, len(documents), int(tokens.sum()), int(tokens.sum()), int(tokens.max()), multiset_hash(hi, lo), histogram
            )
        )
    return counts


def columns(documents):
    array = np.array(documents, object).reshape(-1, 3)
    return array[:, 0].astype(np.uint64), array[:, 1].astype(np.uint64), array[:, 2].astype(np.int64)


def documents_of(plan: Plan, parts: list[list[tuple[str, int, int, int]]]) -> Documents:
    """All documents, by part."""
    index = {d.name: i for i, d in enumerate(plan.domains)}
    rows = [(number, index[name], *document) for number, part in enumerate(parts) for name, *document in part if name in index]
    part, domain, hi, lo, tokens = (np.array(rows, object).reshape(-1, 5)[:, i] for i in range(5))
    return Documents(*(c.astype(t) for c, t in zip((part, domain, hi, lo, tokens), "llQQl", strict=True)))


def lay_out(plan: Plan, counts, parts, begins=None) -> Layout:
    """In ranges of one shard each, or in those that begin so."""
    begins = tuple(range(plan.shards + 1)) if begins is None else begins
    sketch = sketch_layout(plan, [c for c in counts if c.name in {d.name for d in plan.domains}], begins)
    documents = documents_of(plan, parts)
    return finish_layout(sketch, cut_slots(sketch, documents.take(in_cut_slots(sketch.slots, documents.domain, documents.hi))))


def oracle(plan: Plan, corpus: Corpus):
    """Everything sorted at once: (stage, quotient in it), domain index, anchor, epoch, hi, lo, tokens, shard."""
    out = []
    for index, domain in enumerate(plan.domains):
        offset = 0
        for epoch in range(-(-domain.quota // domain.tokens)):
            for hi, lo, tokens in in_order(corpus[domain.name], key64(plan.seed, domain.name, "epoch", epoch)):
                anchor = offset + (tokens * domain.phase >> 32)
                begin, first = 0, 0
                for stage, (quota, shards) in enumerate(zip(domain.quotas, plan.stage_shards, strict=True)):
                    if begin <= anchor < begin + quota:
                        shard = first + (anchor - begin) * shards // quota
                        out.append(((stage, (anchor - begin) / quota), index, anchor, epoch, hi, lo, tokens, shard))
                    begin, first = begin + quota, first + shards
                offset += tokens
    return sorted(out)


def distributed(plan: Plan, corpus: Corpus, parts: list[list[tuple[str, int, int, int]]], depth: int | None = None, each=(1,)):
    """The same through histograms (of this depth), cut slots, `route` and `locate`, each part by itself.

    Ranges have `each[0]` shards; they are divided in ranges of `each[1]` shards, and so on.
    """
    layout = lay_out(plan, counts_of(corpus, depth), parts, begin_stage_ranges(plan.stage_shards, each[0]))
    rows: dict[int, list[tuple[int, ...]]] = {s: [] for s in range(layout.ranges)}
    index = {s.domain.name: i for i, s in enumerate(layout.streams)}
    for number, part in enumerate(parts):
        hi, lo, tokens = columns([document for _, *document in part])
        of = np.array([index[name] for name, *_ in part], np.int64)
        counter = routing.CopyCounter(layout.slots.copies)
        for block in np.array_split(np.arange(len(part)), 3):
            copy = counter.number(np.full(len(block), number), of[block], hi[block], lo[block])
            for found in routing.route(layout.slots, of[block], hi[block], lo[block], copy):
                for r, epoch, to in zip(*found, strict=True):
                    row = block[r]
                    rows[to].append((number, of[row], hi[row], lo[row], tokens[row], epoch, copy[r]))
    return layout, [row for to, mine in rows.items() for row in arranged(layout, to, mine, each[1:])]


def arranged(layout: Layout, number: int, rows: list[tuple[int, ...]], each: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The rows of a range in their final order, by shard, after it was divided as often as `each` says."""
    table = np.array(rows, object).reshape(-1, 7)
    part, domain, hi, lo, tokens, epoch, copy = (table[:, i].astype(t) for i, t in enumerate("llQQlll"))
    shards = range(int(layout.begins[number]), int(layout.begins[number + 1]))
    if each and len(shards) > 1:
        begins = begin_ranges(shards.start, shards.stop, each[0])
        every = np.ones(len(layout.streams), bool)
        cuts = [
            divide_range(
                layout, number, begins, Documents(part, domain, hi, lo, tokens).take(mine), epoch[mine], copy[mine], among
            )
            for group in range(2)
            for among in [(np.arange(len(every)) % 2 == group)]
            for mine in [np.flatnonzero(among[domain])]
        ]
        sketch = sketch_range(layout, begins)
        smaller, out = finish_range(sketch, sum_cuts(sketch, cuts)), []
        sent: list[list[tuple[int, ...]]] = [[] for _ in range(smaller.ranges)]
        for some in [np.flatnonzero(part % 2 == 0), np.flatnonzero(part % 2)]:  # tasks that know half of the parts each
            named = {"part": part, "domain": domain, "hi": hi, "lo": lo, "epoch": epoch, "copy": copy}
            for row, to, known in zip(*send_further(smaller, {k: c[some] for k, c in named.items()}), strict=True):
                at = some[row]
                sent[to].append((part[at], domain[at], hi[at], lo[at], tokens[at], epoch[at], known))
        for to, mine in enumerate(sent):
            out += arranged(smaller, to, mine, each[1:])
        return out
    offset, _ = routing.locate(layout, number, domain, epoch, hi, lo, copy, tokens)
    anchor = anchors(layout.phases[domain], offset, tokens)
    shard = layout.plan.shards_of(domain, anchor)
    assert set(shard.tolist()) <= set(shards)
    order = [
        int(here[at])
        for number in shards
        for here in [np.flatnonzero(shard == number)]
        for at in routing.order_rows(layout.plan, layout.plan.stage_of(number), domain[here], anchor[here])
    ]
    return [(int(domain[r]), int(epoch[r]), int(hi[r]), int(lo[r]), int(tokens[r]), int(shard[r])) for r in order]


@st.composite
def cases(draw):
    texts = st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.one_of(st.integers(1, 9), st.integers(1, 3000)))
    names = draw(st.lists(st.sampled_from(["a", "b", "ç", "z z", "no"]), min_size=1, max_size=4, unique=True))
    corpus: Corpus = {}
    for name in names:
        distinct = draw(st.lists(texts, min_size=1, max_size=60, unique_by=lambda t: t[:2]))
        copies = draw(st.lists(st.sampled_from(distinct), max_size=30))
        corpus[name] = distinct + copies
    weights = []
    for stage in range(draw(st.integers(1, 3))):
        here = draw(st.lists(st.sampled_from(names), min_size=1, unique=True)) if stage else names
        shares = [draw(st.integers(1, 20)) for _ in here]
        weights.append(
            {
                n: str(Fraction(s * 10**5 // sum(shares), 10**5).limit_denominator(10**5).__float__())
                for n, s in zip(here, shares, strict=True)
            }
        )
    total = sum(t for d in corpus.values() for *_, t in d)
    budget = draw(st.integers(1, max(2, 3 * total)))
    rows = [(name, *document) for name, documents in corpus.items() for document in documents]
    rows = draw(st.permutations(rows))
    cuts = sorted(draw(st.lists(st.integers(0, len(rows)), max_size=4)))
    parts = [rows[a:b] for a, b in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    return corpus, weights, budget, draw(st.integers(1, 500)), draw(st.integers(0, 5)), parts


def plan_of(corpus, weights, budget, shard_bytes, seed=0):
    """`weights` of the only stage, or of each; a stage has less of the budget than the one before."""
    weights = [weights] if isinstance(weights, dict) else weights
    budgets = divide_budget(budget, [Fraction(share) for share in range(len(weights), 0, -1)])
    plan = make_plan(
        counts_of(corpus),
        [StageTarget(*target) for target in zip(budgets, weights, strict=True)],
        max_epochs=4,
        exhausted="repeat",
        shard_bytes=shard_bytes,
        seed=seed,
        hash="text",
        writer={},
    )
    return replace(plan, stage_shards=tuple(map(min, plan.stage_shards, largest_full_shard_counts(plan))))


@settings(max_examples=60, deadline=None)
@given(cases(), st.sampled_from((5, 1 << 20)))
def test_placement_equals_sorting_everything_and_keeps_the_bounds(case, cut_at_once):
    corpus, weights, budget, shard_bytes, seed, parts = case
    try:
        plan = plan_of(corpus, weights, budget, shard_bytes, seed)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cutting, "DOCUMENTS_CUT_AT_ONCE", cut_at_once)
            layout, rows = distributed(plan, corpus, parts)
    except InputError as error:
        if "would get no" not in str(error):
            raise
        event("refused: a domain would get nothing")
        return
    event("cut buckets" if len(layout.slots.segments.slot) else "whole buckets only")
    everything = oracle(plan, corpus)
    assert rows == [(d, e, hi, lo, t, s) for _, d, _, e, hi, lo, t, s in everything]
    # Bounds, in exact rationals, in each stage and over all of them.
    largest, begins = [max(t for *_, t in corpus[d.name]) for d in plan.domains], [0] * len(plan.domains)
    by_shard, first = np.zeros((len(largest), plan.shards), int), 0
    for _, d, *_, tokens, shard in everything:
        by_shard[d, shard] += tokens
    for number, shards in enumerate(plan.stage_shards):
        quotas, so_far = [d.quotas[number] for d in plan.domains], [0] * len(plan.domains)
        for (stage, _), d, anchor, _, _, _, tokens, _ in everything:
            if stage == number:
                so_far[d] += tokens
                x = Fraction(anchor - begins[d], quotas[d])
                assert all(abs(so_far[i] - x * quota) <= largest[i] for i, quota in enumerate(quotas))
        for i, quota in enumerate(quotas):
            assert abs(so_far[i] - quota) <= largest[i]
            assert quota or not so_far[i], "an absent domain"
            for shard in range(first, first + shards):
                assert abs(Fraction(int(by_shard[i, shard])) - Fraction(quota, shards)) <= largest[i]
        begins, first = [begin + quota for begin, quota in zip(begins, quotas, strict=True)], first + shards
    assert all(abs(int(by_shard[i].sum()) - d.quota) <= largest[i] for i, d in enumerate(plan.domains))
    assert by_shard.sum(axis=0).min() > 0, "an empty shard"
    event(f"{len(plan.stage_shards)} stages")
    once = [sum(r[1] == i and r[3] == 0 for r in everything) for i in range(len(plan.domains))]
    assert [s.first_epoch_rows for s in layout.streams] == once


@settings(max_examples=40, deadline=None)
@given(cases(), st.sampled_from([(3,), (1000,), (7, 2), (1000, 3), (9, 4, 2), (1000, 5, 1)]))
def test_ranges_and_levels_of_them_change_no_row(case, each):
    corpus, weights, budget, shard_bytes, seed, parts = case
    try:
        plan = plan_of(corpus, weights, budget, shard_bytes, seed)
        _, rows = distributed(plan, corpus, parts, each=each)
    except InputError as error:
        if "would get no" not in str(error):
            raise
        event("refused: a domain would get nothing")
        return
    event(f"{min(plan.shards, 30)} shards")
    assert rows == [(d, e, hi, lo, t, s) for _, d, _, e, hi, lo, t, s in oracle(plan, corpus)]


@settings(max_examples=40, deadline=None)
@given(cases(), st.booleans(), st.sampled_from([(1,), (3,), (7, 2)]))
def test_stages_in_folders_of_their_own_hold_the_rows_of_one_folder(case, later_together, each):
    corpus, weights, budget, shard_bytes, seed, parts = case
    stages, once, rows = len(weights), np.zeros(len(corpus), int), []
    folders = [1, *([stages - 1] * (stages > 1) if later_together else [1] * (stages - 1))]
    try:
        plan = plan_of(corpus, weights, budget, shard_bytes, seed)
        for one in divide_plan(plan, folders):
            layout, found = distributed(one, corpus, parts, each=each)
            rows += [(*row, shard + one.first_shard) for *row, shard in found]
            once += [s.first_epoch_rows for s in layout.streams]
    except InputError as error:
        if "would get no" not in str(error):
            raise
        event("refused: a domain would get nothing")
        return
    event(f"{len(folders)} folders")
    everything = oracle(plan, corpus)
    assert rows == [(d, e, hi, lo, t, s) for _, d, _, e, hi, lo, t, s in everything]
    assert once.tolist() == [sum(r[1] == i and r[3] == 0 for r in everything) for i in range(len(plan.domains))]


@settings(max_examples=60, deadline=None)
@given(cases(), st.integers(1, 4), st.sampled_from([0, 6, 10]))
def test_shards_without_a_row_are_found_without_looking_at_all_documents(case, more, depth):
    """Plans with more shards than are sure to be full; slots that reach into several of them."""
    corpus, weights, budget, shard_bytes, seed, parts = case
    try:
        plan = plan_of(corpus, weights, budget, shard_bytes, seed)
    except InputError:
        return
    plan = replace(plan, stage_shards=tuple(shards * more for shards in plan.stage_shards))
    counts = sorted(counts_of(corpus, depth), key=lambda c: c.name.encode())
    documents, filled = documents_of(plan, parts), {row[-1] for row in oracle(plan, corpus)}
    for folders in ([len(weights)], [1] * len(weights)):
        found = set()
        for one in divide_plan(plan, folders):
            sketch = sketch_layout(one, counts, (0, one.shards))
            open_ = find_open_shards(sketch, counts)
            near = documents.take(in_open_slots(sketch, open_, documents.domain, documents.hi))
            empty = open_ & ~find_filled_shards(sketch, near)
            event("some are empty" if empty.any() else "some were open" if open_.any() else "none was open")
            found |= {one.first_shard + shard for shard in np.flatnonzero(~empty).tolist()}
        assert found == filled


@given(st.lists(st.tuples(st.integers(1, 2**40), st.integers(0, 2**40)), min_size=1), st.integers(1, 2**22))
def test_the_shard_of_an_anchor_is_exact(pairs, shards):
    quota, anchor = (np.array([pair[i] for pair in pairs]) for i in range(2))
    anchor = np.minimum(anchor, quota - 1)
    anchor[0] = -(-(shards - 1) * int(quota[0]) // shards)  # where the last one begins
    found = shards_at(anchor, quota, shards).tolist()
    assert found == [int(a) * shards // int(q) for a, q in zip(anchor, quota, strict=True)]


@pytest.fixture(autouse=True)
def small_slices(monkeypatch):
    """Deliveries in several slices."""
    monkeypatch.setattr(routing, "DELIVERIES_AT_ONCE", 50)


def uniform(name_sizes: dict[str, tuple[int, int]]) -> Corpus:
    generator = np.random.default_rng(0)
    return {
        name: [(int(h), int(low), size) for h, low in generator.integers(0, 2**64, (rows, 2), dtype=np.uint64)]
        for name, (rows, size) in name_sizes.items()
    }


def test_whole_epochs_come_before_repeats():
    corpus = uniform({"a": (40, 10), "b": (300, 10)})
    _, rows = distributed(
        plan_of(corpus, {"a": "0.4", "b": "0.6"}, 2500, 400), corpus, [[(n, *d) for n, ds in corpus.items() for d in ds]]
    )
    epochs = [e for d, e, *_ in rows if d == 0]
    assert epochs == sorted(epochs)
    assert [epochs.count(e) for e in range(3)] == [40, 40, 20]


def test_a_larger_budget_extends_each_stream_and_other_domains_do_not_matter():
    corpus = uniform({"a": (200, 7), "b": (300, 5)})
    parts = [[(n, *d) for n, ds in corpus.items() for d in ds]]
    small = distributed(plan_of(corpus, {"a": "0.5", "b": "0.5"}, 1000, 100), corpus, parts)[1]
    large = distributed(plan_of(corpus, {"a": "0.5", "b": "0.5"}, 2000, 100), corpus, parts)[1]
    alone = {"a": corpus["a"]}
    single = distributed(plan_of(alone, {"a": "1"}, 1000, 100), alone, [[("a", *d) for d in corpus["a"]]])[1]
    stream = [r[1:5] for r in large if r[0] == 0]
    assert stream[: len([r for r in small if r[0] == 0])] == [r[1:5] for r in small if r[0] == 0]
    assert [r[1:5] for r in single] == stream


def test_the_example_that_the_module_tells():
    documents = [(0x00 << 56, 1, 3), (0x01 << 56, 2, 5), (0x04 << 56, 3, 4), (0x05 << 56, 4, 6)]
    corpus = {"a": documents}
    plan = plan_of(corpus, {"a": "1"}, 22, 11, seed=94)
    plan = replace(plan, stage_shards=(2,), domains=(replace(plan.domains[0], phase=0),))
    layout, rows = distributed(plan, corpus, [[("a", *d) for d in documents]], depth=6)
    names = {hi: name for name, (hi, *_) in zip("abcd", documents, strict=True)}
    assert [(names[hi], epoch, shard) for _, epoch, hi, _, _, shard in rows] == [
        ("d", 0, 0), ("c", 0, 0), ("a", 0, 0), ("b", 0, 1), ("b", 1, 1),
    ]  # fmt: skip
    assert layout.tokens.tolist() == [13, 10]
    assert [rank_buckets(6, layout.slots.salts[epoch])[:2].tolist() for epoch in range(2)] == [[62, 22], [7, 46]]
    assert layout.slots.range.reshape(2, 64)[:, :2].tolist() == [[SEVERAL_RANGES, 0], [SEVERAL_RANGES, NO_RANGE]]


@settings(max_examples=40, deadline=None)
@given(cases())
def test_the_depth_of_a_histogram_changes_no_row(case):
    corpus, weights, budget, shard_bytes, seed, parts = case
    budget = min(budget, *(20 * sum(t for *_, t in documents) for documents in corpus.values()))  # few epochs of 2^14 buckets
    try:
        plan = plan_of(corpus, weights, budget, shard_bytes, seed)
        _, rows = distributed(plan, corpus, parts, 0)
    except InputError as error:
        if "would get no" not in str(error):
            raise
        event("refused: a domain would get nothing")
        return
    for depth in DEPTHS[1:4]:
        layout, same = distributed(plan, corpus, parts, depth)
        assert layout.slots.depth.tolist() == [depth] * len(corpus)
        assert same == rows


@pytest.mark.parametrize("rows", [8_191, 16_383])
def test_one_row_more_leaves_the_order_of_the_others(rows):
    """8,192 rows are counted in 16 times as many buckets as 8,191."""
    documents = uniform({"a": (rows + 1, 10)})["a"]
    orders = []
    for n in (rows, rows + 1):
        corpus = {"a": documents[:n]}
        layout, out = distributed(plan_of(corpus, {"a": "1"}, 10 * n, 10_000), corpus, [[("a", *d) for d in corpus["a"]]])
        orders.append([row[2:4] for row in out])
    assert layout.slots.depth == [10]
    assert [row for row in orders[1] if row != documents[rows][:2]] == orders[0]


def test_orders_of_epochs_seeds_and_domains_have_nothing_in_common():
    """Two orders of 64 first digits have a rank correlation of 0 with a standard deviation of 1 / sqrt(63)."""
    documents, places = uniform({"a": (500, 10)})["a"], []
    corpus = {"a": documents, "b": documents}
    for seed in range(6):
        plan = plan_of(corpus, {"a": "0.5", "b": "0.5"}, 30_000, 10**6, seed)
        _, out = distributed(plan, corpus, [[(name, *d) for name, ds in corpus.items() for d in ds]])
        for domain in range(2):
            for epoch in range(3):
                order = {hi: place for place, (_, _, hi, *_) in enumerate(r for r in out if r[:2] == (domain, epoch))}
                places.append([order[hi] for hi, *_ in documents])
    correlation = np.corrcoef(places)[np.triu_indices(36, 1)]
    assert abs(correlation.mean()) < 0.02
    assert 0.8 < correlation.std() * 63**0.5 < 1.2
    assert abs(correlation).max() < 5 / 63**0.5


def test_five_hundred_equal_domains_do_not_all_start_at_once():
    corpus = uniform({f"d{i:04}": (8, 100) for i in range(500)})
    rows = oracle(plan_of(corpus, dict.fromkeys(corpus, "0.002"), 200_000, 10_000), corpus)
    first = [r[1] for r in rows[:125]]
    assert len(set(first)) == 125  # a domain's next document comes after everybody's first ...
    longest = max(sum(1 for q in rows if abs(q[0][1] - r[0][1]) < 1e-12) for r in rows[:200])
    assert longest < 15  # ... and about 1 in 100 of them share a key; without the phase all 500 do


def test_many_copies_of_one_text_spread():
    corpus = uniform({"a": (50, 10)})
    corpus["a"] += [corpus["a"][0]] * 10_000
    plan = plan_of(corpus, {"a": "1"}, 75_000, 5_000)
    rows = [("a", *d) for d in corpus["a"]]
    parts = [rows[:700], rows[700:701], rows[701:]]
    _, out = distributed(plan, corpus, parts)
    assert out == [(d, e, hi, lo, t, s) for _, d, _, e, hi, lo, t, s in oracle(plan, corpus)]


def test_keys_that_look_alike_are_told_apart_by_their_ties(monkeypatch):
    """By chance that takes 10^5 copies of a text."""
    corpus = uniform({"a": (50, 10)})
    corpus["a"] += [corpus["a"][0]] * 100
    plan = plan_of(corpus, {"a": "1"}, 1500, 50)
    rows = [("a", *d) for d in corpus["a"]]
    expected = distributed(plan, corpus, [rows[:70], rows[70:]])[1]

    def same_order(*columns):
        key, tie = order_keys(*columns)
        return key >> np.uint64(62), key << np.uint64(2) | tie >> np.uint64(62)

    monkeypatch.setattr(layouts, "order_keys", same_order)
    assert distributed(plan, corpus, [rows[:70], rows[70:]])[1] == expected


@pytest.mark.parametrize(
    ("rows", "depth"), [(1, 0), (63, 0), (64, 6), (8_191, 6), (8_192, 10), (131_072, 14), (2**25 - 1, 18), (2**25, 22)]
)
def test_a_histogram_has_sixty_four_buckets_or_at_least_eight_rows_a_bucket(rows, depth):
    assert histogram_depth(rows) == depth


def test_quotas_at_the_edge_of_int64():
    documents = [(i << 58, i, 10**11) for i in range(64)]
    histogram = histogram_of(*[columns(documents)[i] for i in (0, 2)], histogram_depth(64))
    count = DomainCount("a", 64, 64 * 10**11, 64 * 10**11, 10**11, 1, histogram)
    plan = make_plan(
        [count],
        [StageTarget(6 * 10**12, {"a": "1"})],
        max_epochs=1,
        exhausted="fail",
        shard_bytes=10**11,
        seed=0,
        hash="text",
        writer={},
    )
    assert plan.shards == 60
    assert largest_full_shard_counts(plan) == (59,)
    bounds = plan.domains[0].bounds([10**6], None, range(10**6 + 1))
    assert bounds[-1] == 6 * 10**12
    assert (np.diff(bounds) == 6 * 10**6).all()


def test_documents_of_a_word_make_no_shard_of_fifty_million_rows():
    histogram = np.array([[5 * 10**6, 25 * 10**6]])
    count = DomainCount("a", 5 * 10**6, 25 * 10**6, 25 * 10**6, 5, 1, histogram)
    options = {"max_epochs": 1, "exhausted": "fail", "shard_bytes": 2**26, "seed": 0, "hash": "text", "writer": {}}
    assert make_plan([count], [StageTarget(25 * 10**6, {"a": "1"})], **options).shards == 5
    assert make_plan([count], [StageTarget(5 * 10**6, {"a": "1"})], **options).shards == 1


@pytest.mark.parametrize(
    ("exhausted", "budget", "message"), [("fail", 1001, "more than 1 epoch"), ("redistribute", 4001, "more than 4 epoch")]
)
def test_a_budget_that_the_corpus_cannot_give_is_refused(exhausted, budget, message):
    with pytest.raises(InputError, match=message):
        epoch_caps(counts_of(uniform({"a": (100, 10)})), budget, 4, exhausted)


def test_a_domain_that_would_get_nothing_is_refused():
    corpus = uniform({"a": (100, 10), "b": (100, 10)})
    with pytest.raises(InputError, match="'b' would get none of 1,000 tokens"):
        plan_of(corpus, {"a": "0.9999", "b": "0.0001"}, 1000, 100)


def test_epochs_without_number_are_refused():
    """Planning a billion of them would take hours before anything is written."""
    corpus = uniform({"a": (1, 10), "b": (100, 10)})
    with pytest.raises(InputError, match=r"'a': its share is 20,000,000,000 tokens .* holds 10, .* more than 1,048,576 epochs"):
        plan_of(corpus, {"a": "0.5", "b": "0.5"}, 4 * 10**10, 10**9)


def test_rows_that_the_plan_did_not_expect_are_refused():
    corpus = uniform({"a": (100, 10)})
    plan = plan_of(corpus, {"a": "1"}, 1000, 10_000)
    rows = [("a", *d) for d in corpus["a"]]
    with pytest.raises(InputError, match="the corpus changed during the build"):
        distributed(plan, corpus, [rows, rows[:1]])


# The fast sorts against the plain ones

small = st.integers(0, 3)


@settings(deadline=None)
@given(st.lists(st.tuples(small, st.sampled_from([0, 1, 2, 2**63, 2**64 - 1]), small), max_size=40), st.booleans())
def test_one_sort_gives_the_order_of_three_also_where_keys_look_alike(rows, one_number):
    number, key, tie = (np.array([r[i] for r in rows], t) for i, t in enumerate((np.int64, np.uint64, np.uint64)))
    number = number * 0 + 5 if one_number else number + 2**40
    order = routing._stream_order(number[:1] if one_number else number, key, tie)
    plain = np.lexsort((tie, key, number))
    for column in (number, key, tie):
        assert (column[order] == column[plain]).all()


def test_rows_at_one_place_follow_their_domains():
    domain, anchor = np.array([1, 0, 1, 0]), np.array([4, 2, 0, 0])
    corpus = uniform({"a": (2, 1), "b": (4, 1)})
    plan = plan_of(corpus, {"a": "0.3334", "b": "0.6667"}, 6, 6)
    assert [d.quotas for d in plan.domains] == [(2,), (4,)]
    assert routing.order_rows(plan, 0, domain, anchor).tolist() == [3, 2, 1, 0]


def test_one_document_beside_a_hundred_thousand():
    corpus = uniform({"many": (100_000, 3), "one": (1, 50)})
    plan = plan_of(corpus, {"many": "0.9", "one": "0.1"}, 10_000, 100)
    only = replace(plan, domains=(plan.domains[1],))
    layout = lay_out(only, counts_of(corpus), [[("one", *corpus["one"][0])], []])
    (stream,) = layout.streams
    assert plan.domains[1].epochs == 20
    assert stream.tokens.sum() == 1000
    assert (abs(stream.tokens - 1000 / plan.shards) <= 50).all()


def test_a_shard_is_off_its_size_by_no_more_than_one_largest_document_a_domain():
    corpus = uniform({"a": (300, 40), "b": (200, 900), "c": (1000, 7)})
    plan = plan_of(corpus, {"a": "0.3", "b": "0.5", "c": "0.2"}, 100_000, 4000)
    layout, _ = distributed(plan, corpus, [[(n, *d) for n, ds in corpus.items() for d in ds]])
    held = layout.tokens  # a token is a byte here
    assert shard_spread(plan) == 40 + 900 + 7
    assert (abs(held - 100_000 / plan.shards) <= shard_spread(plan)).all()
    assert held.max() - held.min() > 7, "or the test would hold for any spread"


def test_a_document_that_is_packed_into_two_folders_counts_in_the_first():
    """Sequences of 64 tokens, 15 of them in each stage: the document of tokens 900 to 999 ends in the second folder."""
    corpus = uniform({"a": (40, 100)})
    counts = counts_of(corpus)
    plan = make_plan(
        counts, [StageTarget(1000, {"a": "1"})] * 2, max_epochs=4, exhausted="repeat", shard_bytes=200, seed=0, hash="text",
        writer={}, packing=Packing(64, whole=False),
    )  # fmt: skip
    parts = [[("a", *document) for document in corpus["a"]]]
    found = [lay_out(one, counts, parts).streams[0].first_epoch_rows for one in (plan, *divide_plan(plan, [1, 1]))]
    assert found == [20, 10, 10]
