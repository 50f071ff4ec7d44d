"""Error bars against the jackknife written out, and how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from chameleon_data import domain_weights
from tests.support.embeddings import as_array, uneven_clusters


def test_the_interval_is_the_jackknife_of_whole_runs() -> None:
    embeddings = uneven_clusters(5, 60, 8)
    groups = {name: np.random.default_rng(i).integers(0, 20, 60) for i, name in enumerate(embeddings)}
    result = domain_weights(embeddings, groups=groups, debias=0.5)
    rest = [{name: x[groups[name] != g] for name, x in embeddings.items()} for g in range(20)]
    replicates = np.stack([as_array(domain_weights(r, debias=0.5).weights) for r in rest])
    best = as_array(result.weights)
    error = np.sqrt(19 / 20 * np.square(np.log(replicates) - np.log(best)).sum(axis=0))
    reach = np.exp(1.7291328115213678 * error)  # Student's t, 19 degrees of freedom, 95th percentile
    assert_allclose(np.array(list(result.intervals.values())), np.stack([best / reach, best * reach], axis=1), rtol=1e-8)
    ranks = np.argsort(np.argsort(-replicates, axis=1), axis=1) == np.argsort(np.argsort(-best))
    assert_allclose(as_array(result.rank_stability), ranks.mean(axis=0))


@pytest.mark.parametrize(("n", "objective"), [(20, "pretrain"), (40, "pretrain"), (100, "finetune")])
def test_intervals_cover_nine_times_in_ten(n: int, objective: str) -> None:
    rng = np.random.default_rng(n)
    centres = {f"d{i}": np.exp(0.5 * rng.normal()) * rng.normal(size=32) for i in range(8)}
    truth = domain_weights({name: c[None] for name, c in centres.items()}, objective=objective, debias=0).weights
    hits = []
    for _ in range(40):
        drawn = {name: c + 0.9 * rng.normal(size=(n, 32)) for name, c in centres.items()}
        found = domain_weights(drawn, objective=objective).intervals
        hits += [found[name][0] <= truth[name] <= found[name][1] for name in truth]
    assert 0.83 <= np.mean(hits) <= 0.98


def test_an_interval_stays_between_zero_and_one_however_unsure() -> None:
    result = domain_weights(uneven_clusters(4, 3, 8, spread=5.0), temperature=1e-3, debias=0)
    for low, high in result.intervals.values():
        assert 0 <= low <= high <= 1


def test_more_samples_narrow_the_intervals() -> None:
    width = [np.mean([b - a for a, b in domain_weights(uneven_clusters(6, n, 16)).intervals.values()]) for n in (40, 160, 640)]
    assert width[0] > 1.5 * width[1] > 2 * width[2]
