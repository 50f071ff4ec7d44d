"""Whole builds by the passes themselves, in one process: what is loaded, and what a task is given."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from chameleon_data.corpus import tokens
from chameleon_data.corpus.model_files import find_packaged_model
from chameleon_data.corpus.survey import Part
from chameleon_data.recipe_file import load_recipe
from chameleon_data.shards.assemble import RowSource
from chameleon_data.store.store import Store
from chameleon_data.versions.verify import verify_version
from chameleon_data.versions.versions import list_versions
from tests.support.corpus import documents_with_copies, lay_out, write_recipe
from tests.support.inline_builds import INLINE, build, write_small_recipe


def test_a_build_loads_its_tokenizer_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And so does `verify --corpus`, which surveys anew."""
    loads: Counter[str] = Counter()
    find = tokens.find_tokenizer_file

    def counting(name: str, key: str) -> Path:
        loads[name] += 1
        return find(name, key)

    assert find_packaged_model("all-MiniLM-L6-v2") is not None
    monkeypatch.setattr(tokens, "find_tokenizer_file", counting)
    recipe = write_small_recipe(tmp_path, str(tmp_path / "out"), tokens={"tokenizer": "all-MiniLM-L6-v2"}, budget=3000)
    manifest = build(recipe)
    assert loads == {"all-MiniLM-L6-v2": 1}
    from chameleon_data.pipelines.verify import check_against_corpus

    problems, contents = check_against_corpus(INLINE, Store(recipe.out), manifest, lambda *_: None)
    assert problems == []
    assert len(contents) > 0
    assert loads == {"all-MiniLM-L6-v2": 2}
    assert len(list_versions(Store(recipe.out))) == 1


def test_a_worker_gets_the_copies_of_its_part_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from chameleon_data.pipelines import write as passes

    given: dict[int, pa.Table] = {}
    real = passes.spill

    def watched(store: Store, build: Any, job: Any, number: int, part: Part, copies: pa.Table) -> None:
        given[number] = copies
        assert not any(isinstance(value, pa.Table) for value in vars(job).values())
        real(store, build, job, number, part, copies)

    monkeypatch.setattr(passes, "spill", watched)
    sources = lay_out(tmp_path / "corpus", documents_with_copies(), ["jsonl"], 4)
    recipe = load_recipe(write_recipe(tmp_path / "recipe.yaml", sources, input={"dedup": "exact_across"}, survey={"keep": False}))
    monkeypatch.setattr("chameleon_data.corpus.survey.PART_BYTES", 1)  # a part a file
    manifest = build(recipe)
    assert verify_version(Store(recipe.out), manifest).problems == ()
    assert len(given) == 12
    assert all(copies["part"].unique().to_pylist() in ([number], []) for number, copies in given.items())
    whole = pa.concat_tables(given.values())
    assert max(len(pickle.dumps(copies)) for copies in given.values()) < len(pickle.dumps(whole.combine_chunks())) / 3


def test_a_worker_that_takes_kept_rows_gets_no_copies_and_looks_them_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from chameleon_data.pipelines import write as passes

    given: list[RowSource] = []
    real = passes.write_shards

    def watched(store: Store, build: Any, job: Any, parts: Any, source: RowSource, shards: range) -> None:
        given.append(source)
        assert source.kept is not None
        assert source.kept.store.exists(source.kept.copies)
        real(store, build, job, parts, source, shards)

    monkeypatch.setattr(passes, "write_shards", watched)
    sources = lay_out(tmp_path / "corpus", documents_with_copies(), ["jsonl"], 4)
    recipe = load_recipe(write_recipe(tmp_path / "recipe.yaml", sources, input={"dedup": "exact_across"}))
    manifest = build(recipe)
    assert verify_version(Store(recipe.out), manifest).problems == ()
    assert given
    assert all(len(pickle.dumps(source)) < 4_000 for source in given)
    assert not Store(recipe.out).exists(given[0].kept.copies), "they go once the shards are written"
