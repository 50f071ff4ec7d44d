"""Inputs on which the published code gives NaN, a constant or nothing: every kernel and level answers, or says why not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from chameleon_data import DomainWeights, InputError, domain_weights

Samples = dict[str, np.ndarray]
KERNELS = ["linear", "cosine", "rbf", "polynomial", "laplacian"]


def clusters(k: int, n: int = 30, p: int = 8, seed: int = 0, spread: float = 1.0) -> Samples:
    rng = np.random.default_rng(seed)
    return {f"d{i:02d}": 3 * rng.normal(size=p) + spread * rng.normal(size=(n, p)) for i in range(k)}


def identical() -> Samples:
    one = clusters(1)["d00"]
    return {name: one.copy() for name in "abcd"}


def rank_one() -> Samples:
    direction = np.ones(8)
    return {f"d{i}": (i + 1) * direction + np.random.default_rng(i).normal(size=(30, 1)) * direction for i in range(5)}


def uneven() -> Samples:
    samples = clusters(4, 990)
    return {"few": samples.pop("d00")[:10], **samples}


CASES: dict[str, tuple[Samples, str | None]] = {
    "one domain": (clusters(1), None),
    "three domains": (clusters(3), None),
    "identical domains": (identical(), "same|alike|nothing tells|identical|give the weights"),
    "rank one": (rank_one(), None),
    "one sample in a domain": ({**clusters(4), "lone": np.full((1, 8), 2.0)}, None),
    "one sample in every domain": (clusters(5, n=1), None),
    "99 to 1": (uneven(), None),
    "no spread at all": ({f"d{i}": np.full((20, 8), float(i + 1)) + np.eye(8)[i] for i in range(4)}, None),
    "NaN": ({**clusters(3), "bad": np.full((5, 8), np.nan)}, "bad.*finite|bad.*NaN"),
    "infinite": ({**clusters(3), "bad": np.full((5, 8), np.inf)}, "bad.*finite|bad.*NaN"),
    "zero": ({**clusters(3), "bad": np.zeros((5, 8))}, "bad.*zero"),
    "another dimension": ({**clusters(3), "bad": np.ones((5, 7))}, "dimension"),
    "no samples": ({**clusters(3), "bad": np.zeros((0, 8))}, "bad"),
    "tiny numbers": ({name: 1e-30 * x for name, x in clusters(4).items()}, None),
    "huge numbers": ({name: 1e30 * x for name, x in clusters(4).items()}, None),
}


def answered(samples: Samples, **options: object) -> DomainWeights:
    found = domain_weights(samples, **options)
    weights = np.array(list(found.weights.values()))
    assert np.isfinite(weights).all()
    assert (weights >= 0).all()
    assert_allclose(weights.sum(), 1, rtol=1e-12)
    assert all(s is None or np.isfinite(s) for s in found.scores.values())
    for name, ends in found.intervals.items():
        assert ends is None or 0 <= ends[0] <= found.weights[name] * (1 + 1e-9) <= ends[1] * (1 + 2e-9) <= 1 + 3e-9
    return found


@pytest.mark.parametrize("level", ["domain", "sample"])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("case", CASES)
def test_an_answer_or_a_reason(case: str, kernel: str, level: str) -> None:
    samples, refused = CASES[case]
    options = {"kernel": kernel, "level": level, "landmarks": 32}
    if case == "identical domains" and level == "sample":  # they do take equal shares of the room
        assert_allclose(list(answered(samples, **options).weights.values()), 0.25, rtol=1e-6)
        return
    if refused is None:
        found = answered(samples, **options)
        if case == "three domains":
            assert np.ptp(list(found.weights.values())) > 1e-6  # no silent constant
        return
    with pytest.raises(InputError, match=refused):
        domain_weights(samples, **options)


@pytest.mark.parametrize("level", ["domain", "sample"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_two_domains(kernel: str, level: str) -> None:
    """Mirror images under centring, whatever they hold, so that their means tell nothing; their samples do."""
    samples = {"a": clusters(1)["d00"], "b": clusters(1, seed=5, spread=3.0)["d00"]}
    if level == "domain":
        with pytest.raises(InputError, match="two domains always come out equal"):
            domain_weights(samples, kernel=kernel, level=level, landmarks=32)
        answered(samples, kernel=kernel, level=level, landmarks=32, centre=False)
    else:
        answered(samples, kernel=kernel, level=level, landmarks=32)


@pytest.mark.parametrize("level", ["domain", "sample"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_order_of_domains_does_not_matter(kernel: str, level: str) -> None:
    samples = clusters(5)
    there = answered(samples, kernel=kernel, level=level, landmarks=32)
    back = answered(dict(reversed(samples.items())), kernel=kernel, level=level, landmarks=32)
    assert there.weights == back.weights


@pytest.mark.parametrize("kernel", ["linear", "cosine", "rbf", "laplacian"])
def test_a_domain_far_away_is_the_most_distinct(kernel: str) -> None:
    """Highest leverage, so the least weight in pretraining and the most in finetuning."""
    near = clusters(5, spread=0.5)
    centre = np.mean([x.mean(axis=0) for x in near.values()], axis=0)
    samples = {name: 0.2 * (x - centre) + centre for name, x in near.items()}
    samples["far"] = clusters(1, seed=9, spread=0.1)["d00"] - 3 * centre
    for objective, extreme in (("pretrain", min), ("finetune", max)):
        found = answered(samples, kernel=kernel, landmarks=64, objective=objective)
        assert extreme(found.weights, key=found.weights.__getitem__) == "far"
        assert max(found.scores, key=lambda name: found.scores[name] or 0) == "far"


@pytest.mark.parametrize("kernel", ["linear", "cosine"])
def test_two_domains_merged_are_the_domain_of_their_samples(kernel: str) -> None:
    """Twins share what one domain would have: merged, their score rises."""
    samples = clusters(5, n=40)
    twins = {**samples, "d00": samples["d00"][:20], "twin": samples["d00"][20:]}
    one, two = (answered(s, kernel=kernel, debias=1.0) for s in (samples, twins))
    assert one.scores["d00"] is not None
    assert two.scores["d00"] is not None
    assert one.scores["d00"] > two.scores["d00"]


def test_thirty_thousand_domains() -> None:
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(30_000, 16)) + 2 * rng.normal(size=(30_000, 1))).astype(np.float32)
    found = domain_weights({f"d{i:06d}": v[None] for i, v in enumerate(vectors)})
    weights = np.array(list(found.weights.values()))
    assert np.isfinite(weights).all()
    assert_allclose(weights.sum(), 1, rtol=1e-9)
    assert found.effective_domains >= 0.98 * 30_000
    assert len(np.unique(weights)) > 29_700
