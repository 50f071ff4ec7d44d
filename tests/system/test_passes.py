"""Whole builds by the passes themselves, in one process: what is loaded, and what a task is given."""

from __future__ import annotations

import pickle
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from chameleon_data.corpus import row_store, tokens
from chameleon_data.corpus.model_files import find_packaged_model
from chameleon_data.corpus.parts import Part
from chameleon_data.pipelines.engine import Engine
from chameleon_data.recipe import Recipe
from chameleon_data.recipe_file import load_recipe
from chameleon_data.shards.assemble import RowSource
from chameleon_data.store.paths import KEPT_ROWS
from chameleon_data.store.store import Store
from chameleon_data.versions.verify import verify_version
from chameleon_data.versions.versions import list_versions
from tests.support.corpus import documents_with_copies, lay_out, write_recipe
from tests.support.inline_builds import INLINE, InlineEngine, build, write_small_recipe
from tests.support.manifests import list_paths


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

    assert check_against_corpus(INLINE, Store(recipe.out), manifest, lambda *_: None) == []
    assert loads == {"all-MiniLM-L6-v2": 2}
    assert len(list_versions(Store(recipe.out))) == 1


class _IdleEngine(InlineEngine):
    """An engine that nobody should ask."""

    def stream(self, *_: object) -> Iterator[pa.Table]:
        raise AssertionError


def test_a_version_is_proved_on_any_engine(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A range a shard, with the hashes of documents on the store; a true version and one of which a file is damaged."""
    from chameleon_data.pipelines.verify import verify_on_engine

    sources = lay_out(tmp_path / "corpus", documents_with_copies(), ["jsonl"], 2)
    sections: dict[str, Any] = {"input": {"dedup": "exact"}, "mix": {"budget": 400_000, "exhausted": "repeat"}}
    recipe = load_recipe(write_recipe(tmp_path / "recipe.yaml", sources, shards={"size": "50KB"}, **sections))
    manifest, store = build(recipe), Store(recipe.out)
    whole = verify_version(store, manifest)
    assert verify_on_engine(_IdleEngine(), store, manifest, lambda *_: None) == whole, "too little work for workers"
    monkeypatch.setattr("chameleon_data.versions.verify.PROOF_RANGE_BYTES", 1)
    told: list[tuple[str, int, int]] = []
    assert verify_on_engine(INLINE, store, manifest, lambda *done: told.append(done)) == whole
    assert told[-1] == ("verify", told[0][2], told[0][2])
    path = tmp_path / "out" / list_paths(store, manifest)[2]
    path.write_bytes(path.read_bytes()[:-9])
    found = verify_on_engine(engine, store, manifest, lambda *_: None)
    assert set(found.problems) == set(verify_version(store, manifest).problems)
    assert not found.ok
    assert not store.list("_chameleon/checks")


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
    monkeypatch.setattr("chameleon_data.corpus.parts.PART_BYTES", 1)  # a part a file
    manifest = build(recipe)
    assert verify_version(Store(recipe.out), manifest).problems == ()
    assert len(given) == 12
    assert all(copies["part"].unique().to_pylist() in ([number], []) for number, copies in given.items())
    assert max(copies.num_rows for copies in given.values()) < sum(copies.num_rows for copies in given.values()) / 3


def test_a_worker_that_takes_kept_rows_gets_no_copies_and_looks_them_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from chameleon_data.pipelines import write as passes

    given: list[RowSource] = []
    real = passes.write_range

    def watched(store: Store, build: Any, spec: Any, parts: Any, source: RowSource, place: Any) -> Any:
        given.append(source)
        assert source.kept is not None
        assert all(source.kept.store.exists(path) for path in source.kept.copies)
        return real(store, build, spec, parts, source, place)

    monkeypatch.setattr(passes, "write_range", watched)
    sources = lay_out(tmp_path / "corpus", documents_with_copies(), ["jsonl"], 4)
    recipe = load_recipe(write_recipe(tmp_path / "recipe.yaml", sources, input={"dedup": "exact_across"}))
    manifest = build(recipe)
    assert verify_version(Store(recipe.out), manifest).problems == ()
    assert given
    assert all(len(pickle.dumps(source)) < 4_000 for source in given)
    assert given[0].kept.copies
    assert not any(map(Store(recipe.out).exists, given[0].kept.copies)), "they go once the shards are written"


def passes_of(recipe: Recipe, **more: Any) -> tuple[str, set[str]]:
    """(digest, names of the passes) of a build in this process."""
    from chameleon_data.pipelines.build import build_recipe

    names = set[str]()
    built = build_recipe(recipe, INLINE, lambda name, *_: names.add(name), "now", **more)
    return built.manifest.digest, names


def test_rows_of_a_remote_build_are_kept_in_the_scratch_folder(tmp_path: Path) -> None:
    scratch = Store(str(tmp_path / "scratch"))
    first, names = passes_of(write_small_recipe(tmp_path, f"memory://{uuid.uuid4().hex}/out"))
    assert "read" in names
    recipe = write_small_recipe(tmp_path, f"memory://{uuid.uuid4().hex}/out")
    again, names = passes_of(recipe, scratch=scratch)
    assert again == first
    assert "read" not in names
    assert scratch.list(KEPT_ROWS)
    assert not Store(recipe.out).list(KEPT_ROWS)


def test_where_there_is_no_room_the_corpus_is_read_twice_and_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from chameleon_data.pipelines.build import plan_recipe

    recipe = write_small_recipe(tmp_path, str(tmp_path / "out"))
    monkeypatch.setattr(row_store, "_free_bytes", lambda _: 5)
    kept = plan_recipe(recipe, INLINE, lambda *_: None).describe()["kept_rows"]
    assert (kept["bytes"], kept["parts"]) == (0, 0)
    assert "has 5 bytes free" in kept["reason"]
    assert "read" in passes_of(recipe)[1]


def test_a_plan_tells_the_bytes_that_are_kept(tmp_path: Path) -> None:
    from chameleon_data.pipelines.build import plan_recipe

    recipe = write_small_recipe(tmp_path, str(tmp_path / "out"))
    kept = plan_recipe(recipe, INLINE, lambda *_: None).describe()["kept_rows"]
    files = Store(recipe.out).list(KEPT_ROWS)
    assert kept["bytes"] == sum(size for path, size in files.items() if path.endswith(".rows")) > 0
    assert kept["parts"] == kept["parts_in_all"]
    assert kept["reason"] == ""


def test_verify_makes_the_ids_of_a_packed_corpus_once(tmp_path: Path) -> None:
    from chameleon_data.pipelines.verify import check_against_corpus

    shards = {"size": "8KB", "sequence_length": 64}
    recipe = write_small_recipe(tmp_path, str(tmp_path / "out"), 3000, tokens={"tokenizer": "all-MiniLM-L6-v2"}, shards=shards)
    manifest, names = build(recipe), set[str]()
    assert check_against_corpus(INLINE, Store(manifest.recipe.out), manifest, lambda name, *_: names.add(name)) == []
    assert names >= {"survey", "make"}
    assert "read" not in names
    assert not Store(manifest.recipe.out).list("_chameleon/checks")


@pytest.mark.parametrize("when", ["survey", "write"])
def test_a_build_beside_which_another_one_made_the_version_says_so(tmp_path: Path, when: str) -> None:
    from chameleon_data.pipelines.build import Built, build_recipe

    recipe, others = write_small_recipe(tmp_path, str(tmp_path / "out")), list[Built]()

    def let_another_go_first(name: str, done: int, total: int) -> None:
        if name == when and not others:
            others.append(build_recipe(recipe, INLINE, lambda *_: None, "then"))

    built = build_recipe(recipe, INLINE, let_another_go_first, "then")
    assert [(one.new, one.beside) for one in (*others, built)] == [(True, False), (False, True)]
    assert built.version == others[0].version
    again = build_recipe(recipe, INLINE, lambda *_: None, "later")
    assert (again.new, again.beside, again.written) == (False, False, 0)
