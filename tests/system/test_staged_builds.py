"""Builds of two stages: the folder read in order is the schedule, `verify` proves it and says where it is broken."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chameleon_data.errors import InputError
from chameleon_data.recipe import Recipe
from chameleon_data.recipe_file import load_recipe
from chameleon_data.store.store import Store
from chameleon_data.versions.diff import diff_versions
from chameleon_data.versions.manifest import Manifest
from chameleon_data.versions.verify import verify_version
from tests.support.corpus import documents, lay_out, write_recipe
from tests.support.inline_builds import build
from tests.support.manifests import forge, list_paths
from tests.support.tokenizers import byte_tokenizer

LATER = {"legal": 0.05, "book": 0.0001, "code": 0.9499}
ROWS: dict[str, dict[str, Any]] = {
    "texts": {}, "cross": {"sequence_length": 64}, "whole": {"sequence_length": 64, "packing": "whole"},
}  # fmt: skip


def staged_recipe(
    folder: Path, rows: str = "texts", budget: int = 400_000, drop_below: float = 0.001, ramp: int = 0, **weights: Any
) -> Recipe:
    """Nine tenths, then a tenth with weights of its own; `code` is read more than once. `weights` are those of the second."""
    folder.mkdir(parents=True, exist_ok=True)
    corpus = {name: [text[:700] for text in texts[:60]] for name, texts in documents().items()}
    (folder / "later.json").write_text(json.dumps(LATER))
    tokens = {"tokens": {"tokenizer": str(byte_tokenizer(folder))}} if ROWS[rows] else {}
    later = {"share": 0.1, "weights": weights or {"from": "later.json"}, "drop_below": drop_below, "ramp": ramp}
    mix = {"budget": budget, "max_epochs": 8, "stages": [{"share": 0.9}, later]}
    shards = {"size": "8KB", "formats": ["parquet"], **ROWS[rows]}
    sources = lay_out(folder / "corpus", corpus, ["jsonl"], 2)
    return load_recipe(write_recipe(folder / "recipe.yaml", sources, mix=mix, shards=shards, **tokens))


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Manifest]:
    recipe = staged_recipe(tmp_path_factory.mktemp("staged"))
    return Store(recipe.out), build(recipe)


@pytest.mark.parametrize("rows", ROWS)
def test_a_reader_of_the_folder_in_order_sees_the_shares_of_each_stage_in_turn(tmp_path: Path, rows: str) -> None:
    recipe = staged_recipe(tmp_path, rows)
    manifest = build(recipe)
    assert verify_version(Store(recipe.out), manifest).problems == ()
    files = sorted((tmp_path / "out" / manifest.build / "parquet").glob("*.parquet"))
    first, second = manifest.stages
    assert len(files) == first.shards + second.shards > 10
    assert (first.budget, second.budget) == (360_000, 40_000)
    for stage, own in ((first, files[: first.shards]), (second, files[first.shards :])):
        table = pa.concat_tables([pq.ParquetFile(file).read(["domain", "tokens"]) for file in own])
        held = dict.fromkeys(stage.domains, 0)
        domains, sizes = (table[name].to_pylist() for name in ("domain", "tokens"))
        for at, (name, size) in enumerate(zip(domains, sizes, strict=True), 1):
            held[name] += size
            if at % 20 == 0 and rows != "whole":  # shares along the way; padding is no token of `whole`
                far = [abs(held[n] - sum(held.values()) * d.weight) for n, d in stage.domains.items()]
                assert max(far) <= 2 * 701
        for name, domain in stage.domains.items():
            assert held[name] == domain.tokens
            assert abs(domain.tokens - domain.target_tokens) <= (64 if ROWS[rows] else 700)
            assert domain.target_tokens == int(stage.budget * domain.weight) or rows == "cross"
    assert [sorted(stage.domains) for stage in manifest.stages] == [["book", "code", "legal"], ["code", "legal"]]
    assert "book" in next(w for w in second.weights.warnings if "absent from this stage" in w)


def test_a_stream_runs_on_through_the_stages(staged: tuple[Store, Manifest]) -> None:
    """One account of epochs: all documents of a domain come before one comes again, whatever the stage."""
    store, manifest = staged
    paths = [f"{store.url}/{path}" for path in list_paths(store, manifest)]
    table = pa.concat_tables([pq.ParquetFile(path).read(["domain", "epoch", "doc_id"]) for path in paths])
    of_first = sum(pq.ParquetFile(path).metadata.num_rows for path in paths[: manifest.stages[0].shards])
    for name, domain in manifest.domains.items():
        mine = [row for row in table.to_pylist() if row["domain"] == name]
        epochs = [row["epoch"] for row in mine]
        assert epochs == sorted(epochs)
        assert epochs.count(0) == domain.rows_written_once
        assert domain.tokens == sum(stage.domains[name].tokens for stage in manifest.stages if name in stage.domains)
    later = [row["epoch"] for row in table.slice(of_first).to_pylist() if row["domain"] == "code"]
    assert min(later) > 0, "the second stage begins with what the first did not reach, or with a later epoch"


def forged(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], object]:
    return lambda plain: change(plain["stages"])


def swap(stages: list[dict[str, Any]]) -> None:
    """The stages trade what they were to hold, and keep their shards."""
    first, second = stages
    for key in ("domains", "budget"):
        first[key], second[key] = second[key], first[key]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda s: s[1]["domains"]["code"].update(target_tokens=1), "domain 'code': its weight 0.9.* in stage 2 is"),
        (lambda s: s[1]["domains"]["code"].update(tokens=1), "domain 'code': 'tokens' is .* in its stages"),
        (lambda s: s[0].update(budget=95_000), "the stages have 95,000, 40,000 bytes, other shares than the recipe's"),
        (lambda s: s[1]["domains"].pop("legal"), "holds domain 'legal', which has no tokens in stage 2"),
        (lambda s: (s[0].update(shards=s[0]["shards"] - 1), s[1].update(shards=s[1]["shards"] + 1)), "off its share at"),
        (swap, r"off its share at stage [12], more than its bound"),
    ],
)
def test_a_manifest_whose_stages_are_forged_is_caught(
    staged: tuple[Store, Manifest], change: Callable[[list[dict[str, Any]]], object], problem: str
) -> None:
    store, manifest = staged
    found = verify_version(store, forge(store, manifest, forged(change)))
    assert re.search(problem, "\n".join(found.problems)), found.problems


def test_a_stage_whose_quota_fits_no_document_is_refused_unless_it_may_be_left_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'book' would get no document in stage 2: .*absent by the stage's 'drop_below'"):
        build(staged_recipe(tmp_path / "a", drop_below=0.0, **{"from": "later.json"}))
    with pytest.raises(InputError, match=r"'drop_below: 0\.99' leaves no domain"):
        build(staged_recipe(tmp_path / "b", drop_below=0.99))


def test_keys_of_a_stage_stand_in_for_those_at_the_top(tmp_path: Path) -> None:
    """The weights of the file at the top, with a bound that the second stage alone has."""
    manifest = build(staged_recipe(tmp_path, cap={"book": 0.25, "legal": 0.25}))
    weights = [{name: domain.weight for name, domain in stage.domains.items()} for stage in manifest.stages]
    assert weights == [{"legal": 0.5, "book": 0.3, "code": 0.2}, {"legal": 0.25, "book": 0.25, "code": 0.5}]
    assert manifest.domains["code"].weight == pytest.approx(0.9 * 0.2 + 0.1 * 0.5)
    assert {m.domain for m in manifest.stages[1].weights.moved} == {"book", "legal"}


def test_a_ramp_goes_from_the_weights_before_to_those_of_its_stage(tmp_path: Path) -> None:
    """Four equal parts of a tenth: at a quarter, a half and three quarters of the way, and there."""
    recipe = staged_recipe(tmp_path, ramp=3, drop_below=0.08)
    manifest = build(recipe)
    assert [stage.budget for stage in manifest.stages] == [360_000, 10_000, 10_000, 10_000, 10_000]
    weights = [{name: domain.weight for name, domain in stage.domains.items()} for stage in manifest.stages]
    assert weights[1] == pytest.approx({"legal": 0.3875, "book": 0.225025, "code": 0.387475}, abs=1e-5)
    assert weights[2] == pytest.approx({"legal": 0.275, "book": 0.15005, "code": 0.57495}, abs=1e-5)
    third = {"legal": 0.1625, "code": 0.762425}  # book would have .075, less than may be
    assert weights[3] == pytest.approx({name: share / sum(third.values()) for name, share in third.items()}, abs=1e-5)
    assert weights[4] == {"code": 1.0}
    assert verify_version(Store(recipe.out), manifest).problems == ()


def test_epochs_bound_a_ramp_too(tmp_path: Path) -> None:
    """The first stage leaves little of book, which the line between would use."""
    recipe = staged_recipe(tmp_path, ramp=3)
    limit = recipe.model_copy(update={"mix": recipe.mix.model_copy(update={"max_epochs": 6.3})})
    manifest = build(limit)
    book = manifest.domains["book"]
    assert book.target_tokens <= 6.3 * book.available_tokens
    assert any(m.bound == "epochs" and m.domain == "book" for stage in manifest.stages[1:] for m in stage.weights.moved)
    assert verify_version(Store(recipe.out), manifest).problems == ()


def test_diff_pairs_the_weights_of_each_stage(staged: tuple[Store, Manifest], tmp_path: Path) -> None:
    recipe = staged_recipe(tmp_path)
    plain = recipe.model_copy(update={"mix": recipe.mix.model_copy(update={"stages": ()})})
    found = diff_versions(staged, (Store(recipe.out), build(plain)))
    assert found.stages[0]["book"] == [0.3, 0.3]
    assert found.stages[1] == {"code": [pytest.approx(0.95, abs=0.001), None], "legal": [pytest.approx(0.05, abs=0.001), None]}


@pytest.mark.parametrize("ramp", [0, 3])
def test_totals_stay_as_they_are_while_stages_move_them(tmp_path: Path, ramp: int) -> None:
    """legal .5, book .3 and code .2 of all tokens, though the last tenth has half of code and none of book."""
    (tmp_path / "last.json").write_text(json.dumps({"legal": 0.5, "book": 0.0, "code": 0.5}))
    recipe = staged_recipe(tmp_path, ramp=ramp, **{"from": "last.json"})
    recipe = recipe.model_copy(update={"mix": recipe.mix.model_copy(update={"aggregate": "keep"})})
    manifest = build(recipe)
    totals = {name: domain.weight for name, domain in manifest.domains.items()}
    assert totals == pytest.approx({"legal": 0.5, "book": 0.3, "code": 0.2}, abs=1e-5)
    for name, domain in manifest.domains.items():
        assert abs(domain.tokens - totals[name] * manifest.budget) <= 704, "a document"
    first, last = ({n: d.weight for n, d in stage.domains.items()} for stage in (manifest.stages[0], manifest.stages[-1]))
    assert last == {"legal": 0.5, "code": 0.5}
    if ramp:  # at 1/4, 1/2, 3/4 of the way from the first stage, in parts of a fortieth
        line = [stage.domains["code"].weight for stage in manifest.stages[1:]]
        assert line == pytest.approx([first["code"] + at / 4 * (0.5 - first["code"]) for at in range(1, 5)], abs=2e-5)
    else:
        assert first == pytest.approx({"legal": 0.5, "book": 0.3 / 0.9, "code": 0.15 / 0.9}, abs=1e-5)
    assert "what later stages leave" in " ".join(manifest.weights.warnings)
    assert verify_version(Store(recipe.out), manifest).problems == ()


def test_a_stage_that_takes_more_than_a_total_is_refused(tmp_path: Path) -> None:
    recipe = staged_recipe(tmp_path, **{"from": "later.json"})
    stages = (recipe.mix.stages[0].model_copy(update={"share": 0.7}), recipe.mix.stages[1].model_copy(update={"share": 0.3}))
    recipe = recipe.model_copy(update={"mix": recipe.mix.model_copy(update={"aggregate": "keep", "stages": stages})})
    with pytest.raises(
        InputError, match=r"the stages after the first take 0\.285 of all tokens from domain 'code', whose total is 0\.2;"
    ):
        build(recipe)
