"""What a person types: what is refused, with which words, and what is filled in."""

from __future__ import annotations

from pathlib import Path

import pytest

from chameleon_data.errors import InputError
from chameleon_data.recipe import load_recipe, parse_recipe

LEAST = "name: x\nout: out\nsources: {a: corpus/*.jsonl}\n"


def parse(text: str):
    return parse_recipe(text, Path("/base"), "r.yaml")


def test_the_least_recipe_has_the_documented_defaults_and_absolute_paths():
    recipe = parse(LEAST)
    assert recipe.out == "/base/out"
    assert recipe.sources["a"].path == ("/base/corpus/*.jsonl",)
    assert (recipe.embed.model, recipe.embed.samples, recipe.mix.budget, recipe.mix.max_epochs) == (
        "all-MiniLM-L6-v2",
        256,
        "auto",
        4,
    )
    assert recipe.shards.size == 64 * 2**20


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("mix: {budgt: 5}", "r.yaml:4: mix.budgt: unknown key; did you mean 'budget'?"),
        ("embed:\n  window: 64\n  sample: 3", "r.yaml:6: embed.sample: unknown key; did you mean 'samples'?"),
        ("zebra: 1", "r.yaml:4: zebra: unknown key; known keys: name, out"),
        ("seed: 1\nseed: 2", "r.yaml:5: the key 'seed' stands twice"),
        ("mix: {budget: lots}", "r.yaml:4: mix.budget: 'lots' is not a quantity"),
        ("mix: {budget: 1e19}", "less than or equal to 4503599627370496"),
        ("mix: {budget: -3}", "greater than 0"),
        ("mix: {exhausted: maybe}", "'redistribute', 'repeat' or 'fail'"),
        ("shards: {size: 3 potatoes}", "not a quantity"),
        ("shards: {formats: [parquet, parquet]}", "name each format once"),
        ("tokens: {unit: bytes, tokenizer: x}", "not both"),
        ("weights: {floor: 2}", "less than or equal to 1"),
        ("weights: &a {floor: 0.1}", "anchors and aliases are not part of a recipe"),
        ("seed: !!python/object:os.system 1", "tags are not part of a recipe"),
        ("input: {hash: id}", "'input.hash: id' needs the key 'id' in source 'a'"),
        ("input: {dedup: exact}", "Input should be 'none'"),
        ("sources2: {}", "did you mean 'sources'?"),
    ],
)
def test_a_wrong_recipe_is_refused_with_line_key_and_advice(extra, message):
    with pytest.raises(InputError) as refused:
        parse(LEAST + extra)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ("{no: a.jsonl}", "the key False is not text; quote it: 'no'"),
        ("{' a': a.jsonl}", "cannot be a domain name"),
        ('{"a\\nb": a.jsonl}', "cannot be a domain name"),
        ('{"\\u00e9": a.jsonl, "e\\u0301": b.jsonl}', "once Unicode is normalised"),
        ("{a: {path: []}}", "the list of paths is empty"),
        ("{a: {path: x.jsonl, rename: {b: c}}}", "'rename' needs 'domain'"),
        ("{a: zip://b::s3://x/y.zip}", "chained URLs"),
        ("{}", "at least 1 item"),
    ],
)
def test_wrong_sources_are_refused(sources, message):
    with pytest.raises(InputError) as refused:
        parse(f"name: x\nout: out\nsources: {sources}\n")
    assert message in str(refused.value)


def test_several_faults_are_named_at_once():
    with pytest.raises(InputError) as refused:
        parse(LEAST + "mix: {budget: 0, epochs: 3}\nembed: {samples: none}\n")
    assert len(str(refused.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("given", "meant"), [("40_000_000", 40_000_000), ("40M", 40_000_000), ("'1.5B'", 1_500_000_000), ("1e9", 10**9)]
)
def test_quantities_as_people_write_them(given, meant):
    assert parse(LEAST + f"mix: {{budget: {given}}}").mix.budget == meant


@pytest.mark.parametrize("text", ["", "- a", "name: [", "name: x\nout: y\n", "\x00"])
def test_what_is_no_recipe_at_all(text):
    with pytest.raises(InputError, match=r"^r\.yaml"):
        parse(text)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        load_recipe(tmp_path / "none.yaml")
