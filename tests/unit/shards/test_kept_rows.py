"""Shards out of kept rows: the same bytes as out of a second reading, and damage that is found."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

import numpy as np
import pytest

from chameleon_data.corpus import kept_rows, survey
from chameleon_data.corpus.readers import blocks as readers
from chameleon_data.errors import InputError
from chameleon_data.plan.intervals import find_intervals
from chameleon_data.recipe import Recipe
from chameleon_data.recipe_file import load_recipe
from chameleon_data.shards import read_kept
from chameleon_data.store.paths import KEPT_ROWS
from tests.support.corpus import documents, lay_out, write_recipe
from tests.support.in_process import Ready, ready

SECTIONS = {
    "texts": {"shards": {"size": "40KB", "formats": ["parquet", "jsonl"], "lineage": True}},
    "many epochs": {"mix": {"budget": 900_000, "max_epochs": 20}},
    "one copy in each domain": {"input": {"dedup": "exact"}, "mix": {"budget": 250_000, "validation": 0.2}},
    "one copy in all": {"input": {"dedup": "exact_across"}, "mix": {"budget": 200_000, "exhausted": "repeat"}},
    "documents by id": {"input": {"hash": "id", "dedup": "exact_across"}, "mix": {"budget": 150_000, "validation": 0.2}},
    "less than the corpus": {"mix": {"budget": 60_000, "validation": 0.1}, "shards": {"size": "9KB", "formats": ["mds"]}},
}


@pytest.fixture
def small(monkeypatch):
    """Parts of 20 kB, files of kept rows of 8 kB, blocks of 4 kB."""
    monkeypatch.setattr("chameleon_data.corpus.parts.PART_BYTES", 20_000)
    monkeypatch.setattr(kept_rows, "KEPT_FILE_BYTES", 8_000)
    monkeypatch.setattr(kept_rows, "GATHERED_BYTES", 3_000)
    monkeypatch.setattr(survey, "read_blocks", functools.partial(readers.read_blocks, block_bytes=4_000))


def copies() -> dict[str, list[str]]:
    """A third of the test corpus with one statute many times all over the file, in another domain too; and short texts."""
    corpus = {name: texts[: len(texts) // 3] for name, texts in documents().items()}
    common = corpus["legal"][0]
    corpus["legal"] = [t for text in corpus["legal"] for t in (text, common, common)]
    corpus["code"] = [*corpus["code"], common, *(f"{i}" for i in range(50)), "13", "a line of text"]
    return corpus


def recipe_of(folder: Path, **sections) -> Recipe:
    paths = lay_out(folder / "corpus", copies(), ["jsonl", "parquet"], 6)
    sources = {name: {"path": path, "id": "id"} for name, path in paths.items()}
    wanted = {"mix": {"budget": 250_000}, "shards": {"size": "40KB", "formats": ["parquet"]}, **sections}
    return load_recipe(write_recipe(folder / "recipe.yaml", sources, **wanted))


def kept_files(made: Ready) -> list[Path]:
    return sorted(made.store.local(KEPT_ROWS).rglob("*.rows"))


@pytest.mark.parametrize("name", SECTIONS)
def test_bytes_are_the_same_with_and_without_kept_rows(tmp_path, small, name):
    recipe = recipe_of(tmp_path, **SECTIONS[name])
    again = ready(recipe)
    assert again.kept is None
    expected, lineage = again.write(), lineage_of(again)
    shutil.rmtree(recipe.out)
    made = ready(recipe, keep=True)
    assert made.kept.files > len(made.parts) > 8
    assert made.write() == expected
    assert not [path for path in made.store.list(made.build.runs) if path.endswith(".run")]
    assert lineage_of(made) == lineage


def lineage_of(made: Ready) -> dict[str, bytes]:
    return {path: made.store.read(path) for path in made.store.list(f"{made.build.folder}/lineage")}


def test_parts_that_are_kept_and_parts_that_are_not_meet(tmp_path, small):
    recipe = recipe_of(tmp_path)
    expected = ready(recipe).write()
    shutil.rmtree(recipe.out)
    made = ready(recipe, keep=True)
    made.store.remove([path for path in made.store.list(KEPT_ROWS) if path.endswith(".json")][::2])
    assert 0 < len(made.kept.parts) < len(made.parts)
    assert made.write() == expected
    assert [path for path in made.store.list(made.build.runs) if path.endswith(".run")]


def test_a_range_may_need_none_of_the_rows_that_lie_in_its_intervals(tmp_path, small, monkeypatch):
    """Intervals are cut where rows are, and a range may take from them rows of parts alone that were not kept."""
    recipe = recipe_of(tmp_path, shards={"size": "4KB", "formats": ["parquet"]})
    expected = ready(recipe).write()
    shutil.rmtree(recipe.out)
    made = ready(recipe, keep=True)
    made.store.remove([part.files[0].listed for part in made.kept.parts if part.number != 0])
    proved, check = list[int](), read_kept._check

    def record(store, files, number, place):
        proved.append(len(place))
        check(store, files, number, place)

    monkeypatch.setattr(read_kept, "_check", record)
    assert made.write() == expected
    assert 0 in proved
    assert max(proved) > 0


def test_another_mixture_reads_no_file_of_the_corpus(tmp_path, small):
    recipe = recipe_of(tmp_path)
    ready(recipe, keep=True)
    other = recipe.model_copy(update={"mix": recipe.mix.model_copy(update={"budget": 400_000})})
    expected = ready(other, {"legal": "0.2", "book": "0.3", "code": "0.5"}).write()
    shutil.rmtree(Path(recipe.out) / "builds")
    made = ready(other, {"legal": "0.2", "book": "0.3", "code": "0.5"})
    shutil.rmtree(tmp_path / "corpus")
    assert made.write() == expected


@pytest.mark.parametrize("place", [0.0, 0.3, 0.6, 0.8, 0.9, 0.95, 0.99, -9, -1])
def test_a_flipped_bit_is_found_and_the_same_command_goes_on(tmp_path, small, place):
    recipe = recipe_of(tmp_path, mix={"budget": 400_000, "exhausted": "repeat"})
    expected = ready(recipe).write()
    shutil.rmtree(Path(recipe.out) / "builds")
    made = ready(recipe, keep=True)
    file = kept_files(made)[3]
    data = bytearray(file.read_bytes())
    data[int(place * len(data)) if place >= 0 else place] ^= 4
    file.write_bytes(data)
    with pytest.raises(InputError, match=r"rows: was damaged.*run the same command again"):
        made.write()
    assert not file.exists()
    assert made.write() == expected


def test_every_byte_of_a_file_is_covered(tmp_path, small):
    made = ready(recipe_of(tmp_path), keep=True)
    part = next(part for part in made.kept.parts if part.files)
    file = Path(made.store.local(part.files[0].path))
    whole = file.read_bytes()
    for at in np.linspace(0, len(whole) - 1, 300).astype(int).tolist():
        data = bytearray(whole)
        data[at] ^= 1
        file.write_bytes(data)
        listed = made.store.read(part.files[0].listed)
        padding = whole[at] == 0 and at < len(whole) * 0.99
        try:
            kept_rows.check_kept_files(made.store, [part])
        except InputError:
            made.store.write(part.files[0].listed, listed)
        else:
            assert padding, at
    file.write_bytes(whole)
    kept_rows.check_kept_files(made.store, [part])


def test_a_file_that_is_cut_short_is_as_good_as_none(tmp_path, small):
    made = ready(recipe_of(tmp_path), keep=True)
    before = len(made.kept.parts)
    file = kept_files(made)[0]
    file.write_bytes(file.read_bytes()[:-100])
    assert len(made.kept.parts) == before - 1


def test_rows_that_a_search_misses_are_not_lost_in_silence(tmp_path, small):
    """Hashes that are damaged hide their rows from every search, here in an interval that no shard asks for. A shard then has too
    few rows, and the file is found."""
    made = ready(recipe_of(tmp_path, mix={"budget": 60_000}), keep=True)
    (layout,) = made.job.layouts
    every = [find_intervals(layout.slots, number) for number in range(layout.ranges)]
    part = next(part for part in made.kept.parts if made.parts[part.number].source == "legal")
    domain = next(number for number, stream in enumerate(layout.streams) if stream.domain.name == "legal")
    asked = sorted(
        (int(a), int(b))
        for wanted in every
        for a, b, d in zip(wanted.first, wanted.last, wanted.domain, strict=True)
        if d == domain
    )
    hidden = next(b + 1 for _, b in asked if b + 1 < 2**64 and not any(first <= b + 1 <= last for first, last in asked))
    rows = kept_rows.open_kept_file(made.store, part.files[0])
    file = Path(made.store.local(part.files[0].path))
    data, hi = bytearray(file.read_bytes()), np.array(rows.index.hi)
    at = data.index(hi.tobytes())
    data[at : at + hi.nbytes] = np.full(len(hi), hidden, np.uint64).tobytes()
    file.write_bytes(data)
    with pytest.raises(InputError, match=r"rows: was damaged.*run the same command again"):
        made.write()
    assert not file.exists()
