"""The JSON schema of a recipe: it is the one that ships, it says what each key is, and it takes what the loader takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from chameleon_data.errors import InputError
from chameleon_data.recipe import recipe_schema
from chameleon_data.recipe_file import StrictLoader, parse_recipe
from tests.support.paths import RECIPES, ROOT

SCHEMA = recipe_schema()
VALIDATOR = Draft202012Validator(SCHEMA)
LEAST = "name: x\nout: out\nsources: {a: corpus/*.jsonl}\n"
SHIPPED = ROOT / "chameleon_data" / "schemas" / "recipe.json"


def takes(text: str) -> bool:
    return VALIDATOR.is_valid(yaml.load(text, StrictLoader))


def loads(text: str) -> bool:
    try:
        parse_recipe(text, Path("/base"))
    except InputError:
        return False
    return True


def test_the_schema_that_ships_is_this_one() -> None:
    advice = "run: chameleon-data schema recipe > chameleon_data/schemas/recipe.json"
    assert json.loads(SHIPPED.read_text(encoding="utf-8")) == SCHEMA, advice


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    known = {"$schema", "$defs", "$ref", "additionalProperties", "anyOf", "const", "default", "description", "enum", "items",
             "exclusiveMaximum", "exclusiveMinimum", "maxLength", "maxProperties", "maximum", "minItems", "minLength",
             "minProperties", "minimum", "pattern", "properties", "required", "title", "type"}  # fmt: skip
    assert {key for node in nodes(SCHEMA) for key in node} <= known, "a validator passes over keywords that it does not know"


def nodes(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schema and all that it is made of."""
    yield schema
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key])
    for key in ("properties", "$defs"):
        for child in schema.get(key, {}).values():
            yield from nodes(child)
    for child in schema.get("anyOf", ()):
        yield from nodes(child)


def test_every_key_has_a_description() -> None:
    sections = {f"#/$defs/{name}": section for name, section in SCHEMA["$defs"].items()}
    keys = {name: key for node in nodes(SCHEMA) for name, key in node.get("properties", {}).items()}
    assert len(keys) > 40
    assert [name for name, key in keys.items() if not (key.get("description") or sections[key["$ref"]]["description"])] == []


@pytest.mark.parametrize("file", sorted(RECIPES.rglob("*.yaml")), ids=lambda file: file.name)
def test_the_recipes_that_ship_are_valid(file: Path) -> None:
    assert takes(file.read_text(encoding="utf-8"))


def test_an_unknown_key_is_refused_at_every_depth() -> None:
    template = yaml.safe_load((RECIPES / "own.yaml").read_text(encoding="utf-8"))
    template["weights"]["groups"] = {"g": {"domains": ["books"], "cap": 0.5}}
    template["leverage"] |= {"landmarks": {"from": "out@v1"}, "ridge": {"effective_dimension": 3.5}}
    template["mix"]["stages"] = [{"share": 1.0, "weights": {"floor": 0.1}}]
    template["weights"] |= {"temperature": {"kl": 0.015}, "target": {"like": "task.jsonl"}}
    assert VALIDATOR.is_valid(template)
    at_depth = [
        template, *(template[key] for key in ("input", "tokens", "embed", "leverage", "weights", "mix", "shards")),
        template["sources"]["web"], template["weights"]["groups"]["g"], template["leverage"]["landmarks"],
        template["leverage"]["ridge"], template["weights"]["temperature"], template["weights"]["target"],
        template["mix"]["stages"][0], template["mix"]["stages"][0]["weights"],
    ]  # fmt: skip
    for mapping in at_depth:
        mapping["zebra"] = 1
        assert not VALIDATOR.is_valid(template)
        del mapping["zebra"]
    assert VALIDATOR.is_valid(template)


@pytest.mark.parametrize(
    "extra",
    [
        "mix: {budget: auto}", "mix: {budget: 40M}", "mix: {budget: 40_000_000}", "mix: {budget: '1.5 b'}", "mix: {budget: 1e9}",
        "shards: {size: 64MiB}", "shards: {size: 4.35kb}", "shards: {size: 1000}", "shards: {formats: mds}",
        "shards: {formats: [arrow, jsonl]}", "input: {max_document: 1GiB}", "embed: {causal_lm: x, layer: 3}",
        "embed: {samples: auto}", "embed: {model: null, column: v}", "leverage: {ridge: 2}", "leverage: {landmarks: auto}",
        "leverage: {kernel: rbf, landmarks: {from: out@v1}}", "leverage: {ridge: {effective_dimension: 3}}",
        "weights: {floor: {a: 0.5}}", "weights: {from: w.json}", "weights: {compare: [a.json]}", "weights: {prior: {a: 2}}",
        "weights: {groups: {g: {domains: [a]}}}", "weights: {temperature: {kl: 0}}", "weights: {target: unseen}",
        "weights: {target: {like: x.jsonl}}", "weights: {target: {like: [x, y], text: body}}",
        "weights: {centre: natural^0.5}", "seed: 7",
        "mix: {stages: [{share: 0.9}, {share: 0.1, weights: {from: w.json}, drop_below: 0.01}]}",
        "tokens: {tokenizer: t.json, end_of_text: x}\nshards: {sequence_length: 2}",
    ],
)  # fmt: skip
def test_it_takes_what_the_loader_takes(extra: str) -> None:
    assert loads(LEAST + extra)
    assert takes(LEAST + extra)


@pytest.mark.parametrize(
    "source", ["x.jsonl", "[x.jsonl, y.jsonl]", "{path: x.jsonl}", "{path: [x.jsonl], domain: d, rename: {a: b}}"]
)
def test_it_takes_the_short_forms_of_a_source(source: str) -> None:
    text = f"name: x\nout: out\nsources: {{a: {source}}}"
    assert loads(text)
    assert takes(text)


@pytest.mark.parametrize(
    "extra",
    [
        "mix: {budget: lots}", "mix: {budget: 0}", "mix: {budget: 3 potatoes}", "mix: {max_epochs: 0}",
        "mix: {validation: 1}", "mix: 5",
        "mix: {stages: [{share: 2}]}",
        "shards: {size: 3 potatoes}", "shards: {size: 0}", "shards: {formats: []}",
        "shards: {formats: [parqet]}", "shards: {sequence_length: 1}", "input: {max_bad: 2}", "input: {max_bad: yes}",
        "embed: {samples: 0}", "embed: {window: 7}", "embed: {tolerance: 2}", "leverage: {degree: 4}", "leverage: {debias: 2}",
        "leverage: {landmarks: {form: x}}", "weights: {floor: {a: 2}}", "weights: {cap: no}", "weights: {compare: a.json}",
        "weights: {groups: {g: {domains: []}}}", "weights: {temperature: {kl: -1}}",
        "weights: {target: seen}", "weights: {target: {like: []}}", "seed: -1", "name: ''",
    ],
)  # fmt: skip
def test_it_refuses_what_the_loader_refuses(extra: str) -> None:
    text = LEAST.replace("name: x\n", "") + extra if extra.startswith("name") else LEAST + extra
    assert not loads(text)
    assert not takes(text)


@pytest.mark.parametrize("missing", ["name", "out", "sources"])
def test_it_refuses_a_recipe_without_what_has_no_default(missing: str) -> None:
    text = "\n".join(line for line in LEAST.splitlines() if not line.startswith(missing))
    assert not loads(text)
    assert not takes(text)
    assert not takes("name: x\nout: out\nsources: {}")
