"""Survey, spilled runs and assembled shards in one process, without Ray.

Parts, runs and blocks are so small that every seam is crossed.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chameleon_data.corpus import selection, survey
from chameleon_data.corpus.copies import COPIES_SCHEMA
from chameleon_data.corpus.readers import blocks as readers
from chameleon_data.errors import InputError
from chameleon_data.plan.copies import number_copies
from chameleon_data.recipe import Recipe
from chameleon_data.recipe_file import load_recipe
from chameleon_data.shards import spill as spilling
from chameleon_data.shards.receipts import find_finished
from chameleon_data.shards.spill import spill
from tests.support.corpus import documents, lay_out, write_recipe
from tests.support.in_process import Ready, ready
from tests.support.manifests import digest_contents
from tests.support.receipts import list_receipts


@pytest.fixture
def small(monkeypatch):
    """Parts of 20 kB, runs of 30 kB, blocks of 4 kB."""
    monkeypatch.setattr("chameleon_data.corpus.parts.PART_BYTES", 20_000)
    monkeypatch.setattr(spilling, "RUN_BYTES", 30_000)
    monkeypatch.setattr("chameleon_data.shards.runs.RUN_BYTES", 30_000)
    monkeypatch.setattr(spilling, "ROUTED_BYTES", 3_000)
    monkeypatch.setattr(survey, "read_blocks", functools.partial(readers.read_blocks, block_bytes=4_000))
    monkeypatch.setattr(spilling, "read_blocks", functools.partial(readers.read_blocks, block_bytes=4_000))


def recipe_of(folder: Path, formats=("jsonl",), files=1, corpus=None, **sections) -> Recipe:
    sources = lay_out(folder / "corpus", corpus or copies(), list(formats), files)
    return load_recipe(write_recipe(folder / "recipe.yaml", sources, **sections))


def copies():
    """A third of the test corpus, with one statute 100 times, all over the file."""
    corpus = {name: texts[: len(texts) // 3] for name, texts in documents().items()}
    common = corpus["legal"][0]
    corpus["legal"] = [t for text in corpus["legal"] for t in (text, common, common, common, common)]
    return corpus


def planned(recipe: Recipe) -> Ready:
    return ready(recipe.model_copy(update={"mix": recipe.mix.model_copy(update={"budget": 250_000})}))


def built(recipe: Recipe) -> tuple[str, int, int]:
    """(content digest, parts, runs)"""
    made = planned(recipe)
    receipts = made.write()
    return (
        digest_contents([receipt.content for receipt in receipts]),
        len(made.parts),
        sum(path.endswith(".run") for path in made.store.list(made.build.runs)),
    )


def test_tiny_documents_are_held_no_longer_than_others(tmp_path, small, monkeypatch):
    """Of 3,000 documents of five bytes the texts are half a run; with the columns beside them they are seven."""
    held: list[int] = []
    real = spilling._RunWriter._map_pending
    monkeypatch.setattr(
        spilling._RunWriter,
        "_map_pending",
        lambda writer: held.append(sum(t.nbytes for _, t in writer._pending)) or real(writer),
    )
    corpus = {name: [f"{name[0]}{i:04}" for i in range(1000)] for name in ("legal", "book", "code")}
    made = ready(recipe_of(tmp_path, corpus=corpus, mix={"budget": 15_000, "exhausted": "repeat"}))
    made.send()
    assert len(held) >= 2 * len(made.parts)
    assert max(held) < 30_000 + 4_000 * 20


def test_seams_between_blocks_runs_and_parts_do_not_show(tmp_path, small, monkeypatch):
    digest, parts, runs = built(recipe_of(tmp_path / "a", ["jsonl", "parquet", "csv"], 6))
    assert parts > 8
    assert runs > 10
    monkeypatch.undo()
    assert built(recipe_of(tmp_path / "b")) == (digest, 3, 3)


@pytest.mark.parametrize("sections", [{}, {"mix": {"validation": 0.3}, "input": {"dedup": "exact"}}], ids=["copies", "splits"])
def test_the_depth_of_histograms_changes_no_byte(tmp_path, monkeypatch, sections):
    """Nor any name: the digest of the plan, which names the folder of the shards, is the same."""
    builds = []
    for depth in (0, 6, 10, 14):
        monkeypatch.setattr(selection, "histogram_depth", lambda rows, depth=depth: depth)
        made = planned(recipe_of(tmp_path / str(depth), **sections))
        assert {count.depth for counts in made.selection.splits.values() for count in counts} == {depth}
        builds.append((made.build.folder, [file for receipt in made.write() for file in receipt.files]))
    assert builds == builds[:1] * 4


def test_a_part_that_numbers_its_copies_by_itself_is_caught(tmp_path, small, monkeypatch):
    """The mutant that the test above must see: every part counts identical texts from 0."""
    real = spilling.CopyCounter.number

    def number(self: Any, part: Any, *columns: Any) -> Any:
        return np.where((found := real(self, part, *columns)) < 0, found, number_copies(*columns))

    monkeypatch.setattr(spilling.CopyCounter, "number", number)
    with pytest.raises(InputError, match="where the plan says"):
        built(recipe_of(tmp_path, ["jsonl"], 6))


def test_a_finished_shard_whose_file_is_gone_is_not_finished(tmp_path):
    made = planned(recipe_of(tmp_path))
    made.write()
    store, build = made.store, made.build
    receipt = list_receipts(store, build)[3]
    store.remove([f"{build.folder}/{receipt.files[0].path}"])
    assert np.flatnonzero(~find_finished(store, build)).tolist() == [3]
    made.write()
    assert list_receipts(store, build)[3] == receipt


def test_a_part_that_changed_loses_its_record(tmp_path):
    recipe = recipe_of(tmp_path)
    made = planned(recipe)
    file = next(Path(recipe.sources["book"].path[0]).iterdir())
    file.write_bytes(file.read_bytes().replace(b"the", b"eht", 1))
    number = next(n for n, part in enumerate(made.parts) if part.source == "book")
    with pytest.raises(InputError, match="changed"):
        spill(made.store, made.build, made.job, number, made.parts[number], COPIES_SCHEMA.empty_table())
    assert survey.find_recorded_parts(made.store, made.parts) == {p.key for p in made.parts} - {made.parts[number].key}


def test_many_epochs_are_cut_into_slices(tmp_path, monkeypatch):
    monkeypatch.setattr(spilling, "ROUTED_BYTES", 10_000)
    largest: list[int] = []
    real = spilling._RunWriter._map_pending
    monkeypatch.setattr(spilling, "RUN_BYTES", 40_000)
    monkeypatch.setattr(
        spilling._RunWriter,
        "_map_pending",
        lambda writer: largest.append(sum(t["body"].nbytes for _, t in writer._pending)) or real(writer),
    )
    corpus = {name: texts[:4] for name, texts in documents().items()}
    assert len(built(recipe_of(tmp_path, corpus=corpus, mix={"budget": 700_000}))[0]) == 64
    assert max(largest) < 40_000 + 10_000 + max(len(t.encode()) for ts in corpus.values() for t in ts) + 8 * 1000
