"""Marks of pairs: noise makes few of them, a planted pair gets one, and no shift, order or chance of sampling changes them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import scipy
from numpy.testing import assert_allclose

from chameleon_data.recipe import Leverage, Weights
from chameleon_data.weights.centre import CentreRule
from chameleon_data.weights.domain_statistics import domain_statistics
from chameleon_data.weights.domain_weights import weigh_features
from chameleon_data.weights.explain.closeness import CLOSER, FARTHER, NOT_TOLD, centre_distances, mark_pairs
from chameleon_data.weights.make_mixture import explain_mixture, make_mixture


def equally_far(seed: int, k: int = 8, n: int = 64, p: int = 24, apart: float = 3.0) -> dict[str, np.ndarray]:
    """Samples of k domains whose true means are equally far from one another, with noise of another size in each direction."""
    noise = np.random.default_rng(seed).normal(size=(k, n, p)) * np.geomspace(2, 0.3, p)
    return {f"{i:02}": noise[i] + apart * np.eye(k, p)[i] for i in range(k)}


def marks_of(samples: dict[str, np.ndarray]) -> np.ndarray:
    return mark_pairs(domain_statistics(samples))


@pytest.mark.parametrize("apart", [0.0, 1.0, 3.0])
def test_where_all_domains_are_equally_far_noise_marks_a_pair_in_few_samples(apart: float) -> None:
    marked = sum(marks_of(equally_far(seed, apart=apart)).any() for seed in range(200))
    assert marked <= 19, "5 % of 200 is 10; more than 19 have a chance of 0.003"
    if apart:
        assert marked >= 1, "a test that never marks anything would pass too; none at all has a chance of 0.00004"


def test_a_pair_that_is_closer_or_farther_is_found_and_no_other() -> None:
    samples = equally_far(1, n=256)
    near = samples | {"01": samples["01"] + 2.0 * (np.eye(8, 24)[0] - np.eye(8, 24)[1])}
    marks = marks_of(near)
    assert marks[0, 1] == marks[1, 0] == CLOSER
    assert CLOSER not in np.delete(marks[0], 1)
    far = samples | {"00": samples["00"] + 2.0 * np.eye(24)[9], "01": samples["01"] - 2.0 * np.eye(24)[9]}
    marks = marks_of(far)
    assert marks[0, 1] == marks[1, 0] == FARTHER
    assert FARTHER not in np.delete(marks[0], 1)


def test_one_domain_that_is_far_from_all_marks_no_pair() -> None:
    samples = equally_far(2, n=256)
    assert not marks_of(samples | {"00": samples["00"] + 20.0 * np.eye(24)[9]}).any(), "its distances are all large alike"


def test_centred_distances_sum_to_zero_and_forget_what_a_domain_adds_to_all() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(7, 5))
    distances = np.square(x[:, None] - x).sum(axis=2)
    centred = centre_distances(distances)
    off = ~np.eye(7, dtype=bool)
    assert_allclose(np.where(off, centred, 0.0).sum(axis=0), 0.0, atol=1e-12)
    own = rng.normal(size=7)
    assert_allclose(centre_distances(distances + own[:, None] + own)[off], centred[off], atol=1e-12)


def test_the_order_of_domains_and_a_shift_change_no_mark() -> None:
    samples = equally_far(3, n=200)
    samples["01"] = samples["01"] + np.eye(8, 24)[0] * 3
    marks = marks_of(samples)
    assert marks.any()
    assert (marks == marks.T).all()
    assert (np.diag(marks) == NOT_TOLD).all()
    assert (marks_of({name: x + 5.0 for name, x in samples.items()}) == marks).all()
    renamed = {f"{7 - int(name):02}": x for name, x in samples.items()}
    assert (marks_of(renamed) == marks[::-1, ::-1]).all()


def test_nothing_is_told_of_three_domains_of_single_samples_and_of_equal_ones() -> None:
    assert not marks_of(dict(list(equally_far(0).items())[:3])).any()
    lone = equally_far(1, n=256) | {"00": equally_far(1)["01"][:1]}
    assert not marks_of(lone)[0].any(), "one sample has no error"
    assert not marks_of(dict.fromkeys("abcde", np.ones((40, 3)))).any()


@pytest.mark.parametrize("merge", ["none", "auto"])
def test_the_mixture_records_the_marks_of_its_domains(merge: str) -> None:
    """Two halves of one domain are scored as one, and have its marks."""
    samples = equally_far(3, n=256)
    samples["01"] = samples["01"] + np.eye(8, 24)[0] * 3
    samples = {**{name: x for name, x in samples.items() if name != "07"}, "06a": samples["06"][::2], "06": samples["06"][1::2]}
    leverage, weights = Leverage(merge=merge), Weights()
    result = weigh_features(samples, None, leverage, weights, CentreRule(dict.fromkeys(samples, 1.0)), 0)
    about = make_mixture(result, {}, "computed", leverage, weights).description
    groups = {name: np.arange(len(x)) % 20 for name, x in samples.items()}
    about = explain_mixture(about, result, samples, groups, leverage, weights, lambda _: ("", ""))
    marks = np.array(about.beyond_noise)
    assert marks.shape == (8, 8)
    assert marks[0, 1] == CLOSER
    halves = [about.names.index("06"), about.names.index("06a")]
    assert marks[np.ix_(halves, halves)].any() == (merge == "none"), "they are closer than any other pair, or one"
    assert merge == "none" or (marks[halves[0]] == marks[halves[1]]).all()


def mark_naively(samples: dict[str, np.ndarray]) -> np.ndarray:
    """The rule of the module's head, pair by pair, from the samples themselves."""

    def distances(group: int | None) -> np.ndarray:
        kept = [x if group is None else x[np.arange(len(x)) % 20 != group] for x in samples.values()]
        means, noise = [x.mean(axis=0) for x in kept], [x.var(axis=0, ddof=1).sum() / len(x) for x in kept]
        pairs = zip(means, noise, strict=True)
        apart = [[np.square(a - b).sum() - u - v for b, v in zip(means, noise, strict=True)] for a, u in pairs]
        return centre_distances(np.array(apart))

    whole, rest = distances(None), [distances(group) for group in range(20)]
    pairs = list(combinations(range(len(samples)), 2))
    p = []
    for pair in pairs:
        error = np.sqrt(19 / 20 * sum((one[pair] - whole[pair]) ** 2 for one in rest))
        p.append(2 * scipy.stats.t.sf(abs(whole[pair]) / error, 19))
    marks = np.zeros((len(samples), len(samples)), int)
    for rank, at in enumerate(np.argsort(p)):
        if p[at] > 0.05 / (len(pairs) - rank):
            break
        (a, b), far = pairs[at], whole[pairs[at]] > 0
        marks[a, b] = marks[b, a] = FARTHER if far else CLOSER
    return marks


def test_marks_are_those_of_the_rule_pair_by_pair() -> None:
    seen = set()
    for seed in range(60):
        samples = equally_far(seed, k=5, n=60, apart=1.0)
        samples["01"] = samples["01"] + 0.55 * np.eye(5, 24)[0]
        marks = marks_of(samples)
        assert (marks == mark_naively(samples)).all()
        seen.add(bool(marks.any()))
    assert seen == {True, False}, "some stand at the border"
