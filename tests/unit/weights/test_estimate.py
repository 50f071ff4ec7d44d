"""The reference preset against the published formula and vectors; ridges by the dimension that they leave."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose

from chameleon_data import InputError, domain_weights
from tests.support.embeddings import as_array, uneven_clusters
from tests.support.paths import DATA

VECTORS = json.loads((DATA / "krls_reference.json").read_text())["cases"]


def published(
    embeddings: dict[str, np.ndarray], objective: str, ridge: float, temperature: float
) -> tuple[np.ndarray, np.ndarray]:
    means = np.stack([np.mean(x, axis=0) for x in embeddings.values()])
    k = len(means)
    centring = np.eye(k) - 1 / k
    matrix = centring @ means @ means.T @ centring
    s = np.diag(matrix @ np.linalg.inv(matrix + ridge * k * np.eye(k)))
    s = s / s.sum()
    e = np.exp((1 / (s + 1e-12) if objective == "pretrain" else s) / temperature)
    return s, e / e.sum()


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: f"k={len(case['domains'])}")
@pytest.mark.parametrize("objective", ["pretrain", "finetune"])
def test_reference_vectors(case: dict, objective: str) -> None:
    temperature = case["pt_temperature" if objective == "pretrain" else "ft_temperature"]
    result = domain_weights(
        case["embeddings"], objective=objective, preset="reference", ridge=case["lambda_reg"], temperature=temperature
    )
    assert list(result.weights) == case["domains"]
    assert_allclose(as_array(result.weights), case[objective], rtol=1e-9)
    assert_allclose(as_array(result.scores), case["scores"], rtol=1e-9)
    assert_allclose(result.affinity, case["affinity"], atol=1e-9)
    assert domain_weights(case["embeddings"], objective=objective, preset="reference").weights == result.weights


@pytest.mark.parametrize("objective", ["pretrain", "finetune"])
@pytest.mark.parametrize(("k", "p"), [(9, 30), (60, 8)])
def test_the_reference_preset_is_the_published_formula(k: int, p: int, objective: str) -> None:
    embeddings = uneven_clusters(k, 5, p)
    scores, weights = published(embeddings, objective, 3.0, 40.0)
    result = domain_weights(embeddings, objective=objective, preset="reference", ridge=3.0, temperature=40.0)
    assert_allclose(as_array(result.scores), scores, rtol=1e-10)
    assert_allclose(as_array(result.weights), weights, rtol=1e-9)


def test_the_default_at_the_published_ridge_equals_the_reference_at_seven_domains() -> None:
    embeddings = uneven_clusters(7, 5, 16)
    for objective, temperature in (("pretrain", 5 / 7), ("finetune", 1.4)):
        reference = domain_weights(embeddings, objective=objective, preset="reference")
        default = domain_weights(embeddings, objective=objective, ridge=10.0, temperature=temperature, debias=0.0)
        assert_allclose(as_array(default.weights), as_array(reference.weights), rtol=1e-9)


REFUSED = {
    "one domain": (uneven_clusters(1, 5, 4), {}, "NaN for a single domain"),
    "two domains": (uneven_clusters(2, 5, 4), {}, "mirror images"),
    "overflow": (uneven_clusters(4_000, 1, 8), {}, "overflows.*one of 4000"),
    "at the centroid": ({"a": [[1.0]], "b": [[-1.0]], "c": [[1e-30]]}, {}, "overflows"),
    "debiased": (uneven_clusters(3, 5, 4), {"debias": 0.5}, "not debiased"),
    "not centred": (uneven_clusters(3, 5, 4), {"centre": False}, "centred"),
    "not a number": ({"a": [[np.nan]], "b": [[1.0]]}, {}, "'a'"),
    "zero": ({"a": [[0.0]], "b": [[0.0]], "c": [[0.0]]}, {}, "'a'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_reference_preset_refuses_where_the_formula_breaks(case: str) -> None:
    embeddings, options, reason = REFUSED[case]
    with pytest.raises(InputError, match=reason):
        domain_weights(embeddings, preset="reference", **options)


@pytest.mark.parametrize("level", ["domain", "sample"])
def test_a_ridge_by_the_dimension_it_leaves(level: str) -> None:
    generator = np.random.default_rng(5)
    samples = {f"d{i}": generator.normal(size=(40, 12)) + 2 * generator.normal(size=12) for i in range(6)}
    found = domain_weights(samples, level=level, ridge={"effective_dimension": 2.5}, debias=0 if level == "domain" else "auto")
    assert found.ridge is not None
    explicit = domain_weights(samples, level=level, ridge=found.ridge, debias=0 if level == "domain" else "auto")
    assert_allclose(list(found.weights.values()), list(explicit.weights.values()), rtol=1e-9)
    means = np.stack([x.mean(axis=0) for x in samples.values()])
    centred = means - means.mean(axis=0)
    if level == "domain":
        values = np.linalg.eigvalsh(centred @ centred.T)
    else:
        second = sum(x.T @ x / len(x) for x in samples.values()) / 6
        values = np.linalg.eigvalsh(second - np.outer(means.mean(axis=0), means.mean(axis=0)))
    r = found.ridge * (6 if level == "domain" else 1)
    assert_allclose((values / (values + r)).sum(), 2.5, rtol=1e-9)


def test_a_dimension_is_refused_where_it_means_nothing() -> None:
    samples = {name: np.random.default_rng(i).normal(size=(30, 8)) for i, name in enumerate("abcd")}
    with pytest.raises(InputError, match="as a number"):
        domain_weights(samples, preset="reference", ridge={"effective_dimension": 2})
    with pytest.raises(InputError, match="not below"):
        domain_weights(samples, ridge={"effective_dimension": 4})
    with pytest.raises(InputError, match="greater than 0"):
        domain_weights(samples, ridge={"effective_dimension": 0})
