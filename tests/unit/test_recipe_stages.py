"""`mix.stages` in a recipe: each takes from `weights` what it does not say itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from chameleon_data.errors import InputError
from chameleon_data.recipe import Recipe
from chameleon_data.recipe_file import check_recipe, parse_recipe
from chameleon_data.shards.lay_out import stage_budgets, stages_by_folder

LEAST = "name: x\nout: out\nsources: {a: corpus/*.jsonl}\n"


def parse(text: str) -> Recipe:
    return parse_recipe(LEAST + text, Path("/base"))


def test_without_stages_there_is_one_of_the_whole_budget() -> None:
    recipe = parse("weights: {floor: 0.1}\n")
    (stage,) = recipe.stages
    assert (stage.share, stage.weights) == (1.0, recipe.weights)


def test_a_stage_takes_from_the_top_what_it_does_not_say() -> None:
    recipe = parse("""
weights: {floor: 0.1, prior: {a: 2}, centre: c.json, compare: [d.json]}
mix: {stages: [{share: 0.9}, {share: 0.06, weights: {prior: {a: 3}}}, {share: 0.04, weights: {from: w.json, floor: 0.0}}]}
""")
    first, second, third = (stage.weights for stage in recipe.stages)
    assert first == recipe.weights
    assert (second.floor, second.prior, second.centre) == (0.1, {"a": 3.0}, "/base/c.json")
    assert (third.floor, third.prior, third.centre, third.from_) == (0.0, {"a": 2.0}, "uniform", "/base/w.json")
    assert third.compare == ("/base/d.json",)


def test_a_stage_that_computes_its_weights_leaves_the_file_at_the_top() -> None:
    recipe = parse("weights: {from: w.json}\nmix: {stages: [{share: 0.5}, {share: 0.5, weights: {centre: natural}}]}\n")
    assert [(s.weights.from_, s.weights.centre) for s in recipe.stages] == [("/base/w.json", "uniform"), (None, "natural")]


def test_a_recipe_that_was_recorded_is_read_as_it_was() -> None:
    recipe = parse("weights: {from: w.json}\nmix: {stages: [{share: 0.5}, {share: 0.5, weights: {centre: natural}}]}\n")
    assert check_recipe(recipe.model_dump(mode="json", by_alias=True), Path("/elsewhere")) == recipe


def test_a_ramp_and_the_rest_of_its_stage_are_equal_parts() -> None:
    (_, ramped) = parse("mix: {stages: [{share: 0.9}, {share: 0.1, ramp: 4}]}\n").stages
    assert stage_budgets([ramped], 1000) == (200,) * 5


def test_stages_with_a_share_divide_the_budget_and_others_are_added_to_it() -> None:
    stages = parse(
        "mix: {budget: 1000, stages: [{share: 0.9}, {share: 0.1, ramp: 1}, {budget: 1kB, ramp: 1}, {budget: 7}]}\n"
    ).stages
    assert stage_budgets(stages, 1000) == (900, 50, 50, 500, 500, 7)
    assert stages_by_folder(stages) == (3, 2, 1)
    assert stages_by_folder(parse("mix: {stages: [{budget: 8}, {budget: 7}]}\n").stages) == (1, 1)


@pytest.mark.parametrize(
    ("mix", "said"),
    [
        ("{stages: [{share: 0.9}, {share: 0.2}]}", "mix.stages: the shares of all stages sum to 1.1; make them sum to 1"),
        ("{stages: [{share: 1, weigths: {}}]}", "mix.stages.0.weigths: unknown key; did you mean 'weights'?"),
        ("{stages: [{share: 1, weights: {flor: 0.1}}]}", "mix.stages.0.weights.flor: unknown key; did you mean 'floor'?"),
        ("{stages: [{share: 1, ramp: 3}]}", "mix.stages: the first stage has no weights before it"),
        ("{stages: [{share: 0}]}", "mix.stages.0.share: must be greater than 0"),
        ("{stages: [{share: 1, weights: {from: 's3://key:secret@host/w.json'}}]}", "mix.stages.0.weights.from"),
        (
            "{stages: [{weights: {}}]}",
            "mix.stages.0: give one of 'share', of the budget of the mix, and 'budget', its own tokens",
        ),
        ("{stages: [{share: 1, budget: 5}]}", "mix.stages.0: give one of 'share'"),
        ("{stages: [{budget: auto}]}", "mix.stages.0.budget: 'auto' is not a quantity"),
        ("{stages: [{budget: 5}, {share: 1}]}", "mix.stages: a stage with a 'budget' is added to those before it"),
        ("{budget: 9, stages: [{budget: 5}]}", "mix: 'budget' is of the stages with a 'share', and none has one; leave it out"),
        ("{aggregate: keep, stages: [{share: 1}, {budget: 5}]}", "mix: 'aggregate: keep' is of two or more stages that share"),
        ("{aggregate: keep}", "mix: 'aggregate: keep' is of two or more stages that share"),
        (
            "{aggregate: keep, stages: [{share: 0.5, weights: {cap: 0.4}}, {share: 0.5}]}",
            "mix.stages.0: gets what later stages leave, as 'aggregate: keep' asks; leave its 'weights' and 'drop_below' out",
        ),
    ],
)
def test_what_is_wrong_in_a_stage_is_told_with_its_place(mix: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        parse(f"mix: {mix}\n")
    assert said in str(refused.value)


def test_a_stage_of_so_many_bytes_is_refused_where_tokens_are_counted() -> None:
    with pytest.raises(InputError, match=r"mix\.stages\.1\.budget: '5MB' is a number of bytes, and this budget counts tokens"):
        parse("tokens: {tokenizer: t.json}\nmix: {stages: [{share: 1}, {budget: 5MB}]}\n")
