"""Each setting of the table against a run of its own."""

from __future__ import annotations

import pytest

from chameleon_data import InputError, domain_weights
from chameleon_data.recipe import Divergence, Leverage
from chameleon_data.weights.domain_statistics import (
    domain_statistics,
)
from chameleon_data.weights.explain.sensitivity import sensitivity_table
from chameleon_data.weights.tilt import Tilt
from tests.support.embeddings import plain_clusters


@pytest.mark.parametrize("objective", ["pretrain", "finetune"])
@pytest.mark.parametrize("preset", ["default", "reference"])
def test_each_setting_is_a_run_of_its_own(preset: str, objective: str) -> None:
    embeddings = plain_clusters(5, 40, 8)
    table = sensitivity_table(
        domain_statistics(embeddings),
        Leverage(preset=preset),
        Tilt("inverse" if objective == "pretrain" else "direct"),
        [0.1, 2.0],
        [30.0, 60.0],
    )
    assert [(s.ridge, s.temperature) for s in table] == [(0.1, 30.0), (0.1, 60.0), (2.0, 30.0), (2.0, 60.0)]
    used = domain_weights(embeddings, preset=preset, objective=objective).weights
    for setting in table:
        expected = domain_weights(
            embeddings, preset=preset, objective=objective, ridge=setting.ridge, temperature=setting.temperature
        )
        assert setting.weights == pytest.approx(expected.weights, rel=1e-9)
        assert setting.effective_domains == pytest.approx(expected.effective_domains)
        assert setting.moved == pytest.approx(sum(abs(w - used[n]) for n, w in expected.weights.items()) / 2, abs=1e-12)


def test_the_middle_of_the_grid_is_the_mixture_in_use() -> None:
    table = sensitivity_table(domain_statistics(plain_clusters(5, 40, 8)), Leverage(), Tilt("inverse"))
    assert len(table) == 25
    assert table[12].moved == pytest.approx(0, abs=1e-9)
    assert max(s.moved for s in table) > 0.01


def test_a_setting_without_an_answer_says_why() -> None:
    statistics = domain_statistics(plain_clusters(5, 40, 8))
    cold, warm = sensitivity_table(statistics, Leverage(preset="reference"), Tilt("inverse"), [10.0], [1e-4, 50.0])
    assert cold.weights is cold.moved is cold.effective_domains is None
    assert "overflows" in cold.refused
    assert warm.weights is not None
    assert warm.refused == ""


def test_a_table_of_one_domain_or_of_samples_is_refused() -> None:
    with pytest.raises(InputError, match="single domain"):
        sensitivity_table(domain_statistics(plain_clusters(1, 4, 4)), Leverage(), Tilt("inverse"))
    with pytest.raises(InputError, match="kl: 0"):
        sensitivity_table(domain_statistics(plain_clusters(3, 4, 4)), Leverage(), Tilt("inverse", Divergence(kl=0)))
    with pytest.raises(InputError, match="level"):
        sensitivity_table(domain_statistics(plain_clusters(3, 4, 4)), Leverage(level="sample"), Tilt("inverse"))
