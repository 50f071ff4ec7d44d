"""What a person is shown of a plan before anything is written: each rule for exhausted domains, and how even the shards are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chameleon_data.corpus.kept_rows import KeptSummary
from chameleon_data.errors import InputError
from chameleon_data.pipelines.build import Planned
from chameleon_data.pipelines.cost import ExchangeSize
from chameleon_data.pipelines.weigh import weigh_corpus
from chameleon_data.recipe_file import load_recipe
from chameleon_data.shards.plan_summary import summarise_plan
from chameleon_data.weights.explain.exhaustion import compare_exhaustion_rules
from tests.support.corpus import documents, lay_out, write_recipe
from tests.support.in_process import ready
from tests.support.shown_plans import show_plan


def planned(folder: Path, **sections: Any) -> Planned:
    recipe = load_recipe(write_recipe(folder / "recipe.yaml", lay_out(folder / "corpus", documents(), ["jsonl"], 1), **sections))
    made = ready(recipe)
    weighed = weigh_corpus(
        None, made.store, recipe.embed, recipe.leverage, recipe.stages, recipe.mix, recipe.seed, made.survey, made.selection,
        lambda *_: None, None,
    )  # fmt: skip
    target = weighed.mixture.description.unbounded
    rules = compare_exhaustion_rules(weighed.selection.counts, target, weighed.budget, recipe.mix, recipe.weights)
    summary = summarise_plan([made.job.layouts], recipe.shards.size)
    kept, formats = KeptSummary(0, 0, 1, ""), recipe.shards.formats
    exchange = ExchangeSize(first=1, divided=0, small=1, domain_groups=0, part_groups=1)
    return Planned(weighed, (made.job.layouts,), made.job.counter, summary, {}, 2.0, rules, None, kept, exchange, formats, "none")


def test_what_is_refused_is_counted_in_bytes_where_no_tokenizer_is_set(tmp_path):
    with pytest.raises(InputError, match="would get none of 3 bytes"):
        planned(tmp_path, mix={"budget": 3})


def test_each_rule_for_exhausted_domains_is_shown_before_anything_is_written(tmp_path, capsys):
    """book holds 225 kB and code 164 kB; of 500 kB legal gets 250 kB, more than the 124 kB it holds."""
    found = planned(tmp_path, mix={"budget": 500_000, "max_epochs": 1.5, "exhausted": "redistribute"})
    rules, counts = found.exhausted, {c.name: c.tokens for c in found.weighed.selection.counts}
    assert counts["legal"] < 250_000
    repeat, redistribute = rules["repeat"], rules["redistribute"]
    assert repeat["legal"].target_tokens == 250_000
    assert repeat["legal"].epochs == 250_000 / counts["legal"]
    assert redistribute["legal"].target_tokens <= 1.5 * counts["legal"] < 250_000
    assert redistribute["book"].target_tokens > repeat["book"].target_tokens, "what legal cannot give goes to the others"
    assert rules["fail"].refused == f"'legal' would be read {250_000 / counts['legal']:.2f} times"
    quotas = {s.domain.name: s.domain.quota for s in found.layouts[0][0].streams}
    show_plan(found)
    shown = capsys.readouterr().out
    for rule in redistribute.values():
        assert f"{rule.target_tokens:,} ({rule.epochs:.2f} epochs)" in shown
    assert "fail would refuse:" in shown
    assert quotas.keys() == redistribute.keys()
    assert not list((tmp_path / "out").rglob("*.parquet.tmp")) + list((tmp_path / "out/builds").rglob("*"))


def test_where_the_rules_agree_nothing_is_shown(tmp_path, capsys):
    found = planned(tmp_path, mix={"budget": 100_000})
    assert found.exhausted["fail"] == found.exhausted["repeat"] == found.exhausted["redistribute"]
    show_plan(found)
    assert "mix.exhausted" not in capsys.readouterr().out


@pytest.mark.parametrize(("size", "warned"), [("20KB", True), ("200KB", False)])
def test_shards_that_may_be_uneven_are_warned_of(tmp_path, capsys, size, warned):
    found = planned(tmp_path, mix={"budget": 400_000}, shards={"size": size})
    largest = sum(c.largest for c in found.weighed.selection.counts)
    assert bool(found.summary.warnings) == warned
    show_plan(found)
    assert (f"a shard may be {largest:,} bytes off" in capsys.readouterr().out) == warned
