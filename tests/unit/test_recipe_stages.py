"""`mix.stages` in a recipe: each takes from `weights` what it does not say itself."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from chameleon_data.errors import InputError
from chameleon_data.recipe import Recipe
from chameleon_data.recipe_file import check_recipe, parse_recipe

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
    assert ramped.shares == (Fraction(1, 50),) * 5


@pytest.mark.parametrize(
    ("mix", "said"),
    [
        ("{stages: [{share: 0.9}, {share: 0.2}]}", "mix.stages: the shares of all stages sum to 1.1; make them sum to 1"),
        ("{stages: [{share: 1, weigths: {}}]}", "mix.stages.0.weigths: unknown key; did you mean 'weights'?"),
        ("{stages: [{share: 1, weights: {flor: 0.1}}]}", "mix.stages.0.weights.flor: unknown key; did you mean 'floor'?"),
        ("{stages: [{share: 1, ramp: 3}]}", "mix.stages: the first stage has no weights before it"),
        ("{stages: [{share: 0}]}", "mix.stages.0.share: must be greater than 0"),
        ("{stages: [{share: 1, weights: {from: 's3://key:secret@host/w.json'}}]}", "mix.stages.0.weights.from"),
    ],
)
def test_what_is_wrong_in_a_stage_is_told_with_its_place(mix: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        parse(f"mix: {mix}\n")
    assert said in str(refused.value)
