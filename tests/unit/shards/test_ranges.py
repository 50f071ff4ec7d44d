"""Whole builds through one, two and three levels of ranges, and through ranges of hashes: the same bytes.

The corpus has one statute hundreds of times, documents of several epochs, copies between domains, and a validation split.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from chameleon_data.corpus import kept_rows, row_records, survey
from chameleon_data.corpus import parts as parting
from chameleon_data.corpus.readers import blocks as readers
from chameleon_data.errors import DefectError, InputError
from chameleon_data.plan.copies import number_copies
from chameleon_data.plan.routing import CopyCounter
from chameleon_data.recipe import Recipe
from chameleon_data.recipe_file import load_recipe
from chameleon_data.shards import assemble, grouping, levels, spill
from chameleon_data.shards import lay_out as laying
from chameleon_data.shards.levels import list_places
from chameleon_data.store.store import Store
from tests.support.corpus import documents, lay_out, write_recipe
from tests.support.in_process import Ready, ready

SHARD_BYTES = 6_000
MIX = {"budget": 160_000, "max_epochs": 8, "validation": 0.2}
SECTIONS: dict[str, dict[str, Any]] = {
    "texts": {"mix": MIX},
    "one copy": {"mix": {"budget": 160_000, "exhausted": "repeat", "validation": 0.2}, "input": {"dedup": "exact_across"}},
    "cross": {"mix": MIX, "sequence_length": 128},
    "whole": {"mix": MIX, "sequence_length": 128, "packing": "whole"},
    "stages": {"mix": {**MIX, "stages": [{"share": 0.7}, {"share": 0.3}]}},
    "stages, cross": {"mix": {**MIX, "stages": [{"share": 0.7}, {"share": 0.3}]}, "sequence_length": 128},
}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Parts of 20 kB, files of kept rows of 8 kB, runs of 30 kB, blocks of 4 kB."""
    monkeypatch.setattr(parting, "PART_BYTES", 20_000)
    monkeypatch.setattr(kept_rows, "KEPT_FILE_BYTES", 8_000)
    monkeypatch.setattr(spill, "RUN_BYTES", 30_000)
    monkeypatch.setattr("chameleon_data.shards.runs.RUN_BYTES", 30_000)
    for module in (survey, spill):
        monkeypatch.setattr(module, "read_blocks", functools.partial(readers.read_blocks, block_bytes=4_000))


def corpus() -> dict[str, list[str]]:
    """A sixth of the test corpus with one statute many times all over the file, and in another domain too."""
    texts = {name: texts[: len(texts) // 6] for name, texts in documents().items()}
    common = texts["legal"][0]
    texts["legal"] = [t for text in texts["legal"] for t in (text, common, common, common, common)]
    texts["code"] = [*texts["code"], *[common] * 9, *(f"line {i % 20}" for i in range(60))]
    return texts


def save_tokenizer(folder: Path) -> Path:
    """Bytes as tokens, and an end-of-text."""
    found = Tokenizer(models.BPE({symbol: i for i, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.add_special_tokens(["<|endoftext|>"])
    folder.mkdir(parents=True, exist_ok=True)
    found.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def recipe_of(folder: Path, name: str, **sections: Any) -> Recipe:
    wanted = {**SECTIONS[name], **sections}
    packing = {key: wanted.pop(key) for key in ("sequence_length", "packing") if key in wanted}
    if packing:
        wanted["tokens"] = {"tokenizer": str(save_tokenizer(folder))}
    sources = lay_out(folder / "corpus", corpus(), ["jsonl", "parquet"], 3)
    size = SHARD_BYTES * (2 if packing else 1)  # a token is two bytes
    shards = {"size": size, "formats": ["jsonl"] if not packing else ["parquet"], **packing}
    return load_recipe(write_recipe(folder / "recipe.yaml", sources, shards=shards, **wanted))


def divide(monkeypatch: pytest.MonkeyPatch, depth: int, size: int = SHARD_BYTES) -> None:
    """Let rows go through so many levels."""
    if depth == 1:
        return
    monkeypatch.setattr(grouping, "MOST_RANGES", 4 if depth == 2 else 3)
    monkeypatch.setattr(grouping, "JOINED_BYTES", size)
    monkeypatch.setattr(grouping, "LARGEST_RANGE", 5 * size if depth == 2 else 2 * size)
    monkeypatch.setattr(levels, "EXCHANGED_BYTES", 20_000)
    monkeypatch.setattr(laying, "ROWS_DIVIDED", 40)


def files_of(made: Ready) -> list[Any]:
    return [(receipt.shard, receipt.content, receipt.copies, receipt.files) for receipt in made.write()]


@pytest.mark.parametrize("keep", [False, True], ids=["spilled", "kept"])
@pytest.mark.parametrize("name", SECTIONS)
def test_levels_of_ranges_change_no_byte(tmp_path, monkeypatch, name, keep):
    found = []
    for depth in (1, 2, 3):
        with monkeypatch.context() as patch:
            divide(patch, depth, SHARD_BYTES * (2 if "sequence_length" in SECTIONS[name] else 1))
            made = ready(recipe_of(tmp_path / str(depth), name), keep=keep)
            small, large = list_places(made.job)
            assert {len(place.path) for place in small if place.split == 0} >= {depth}
            assert len(large) == depth - 1
            assert (made.job.domain_groups > 1) == (depth > 1)
            found.append((made.build.digest, files_of(made)))
    assert len(found[0][1]) > 20
    assert found[0] == found[1] == found[2]
    assert any(most.most > 20 for _, _, copies, _ in found[0][1] for most in copies.values()) or name == "one copy"


@pytest.mark.parametrize("name", ["texts", "one copy", "whole", "stages"])
def test_ranges_of_hashes_change_no_byte(tmp_path, monkeypatch, name):
    """Bounds are found by tasks over 64 ranges of hashes, and shards that might be empty too."""
    found = []
    for few in (10**6, 60):
        monkeypatch.setattr(row_records, "ROWS_ON_DRIVER", few)
        monkeypatch.setattr(row_records, "ROWS_IN_GROUP", few)
        made = ready(recipe_of(tmp_path / str(few), name), keep=True)
        assert made.selection.corpus.bits == (6 if few == 60 else 0)
        found.append((made.build.digest, files_of(made)))
    assert found[0] == found[1]


@pytest.mark.parametrize("depth", [1, 2])
def test_a_part_that_numbers_its_copies_by_itself_is_caught(tmp_path, monkeypatch, depth):
    """The mutant that the test above must see, at each level: every part counts identical texts from 0."""
    divide(monkeypatch, depth)
    made = ready(recipe_of(tmp_path, "texts"))
    real, calls = CopyCounter.number, []

    def number(self: CopyCounter, part: Any, *columns: Any) -> Any:
        found = real(self, part, *columns)
        calls.append((found >= 0).sum())
        return np.where(found < 0, found, number_copies(*columns))

    monkeypatch.setattr(CopyCounter if depth == 1 else levels.CopyCounter, "number", number)
    with pytest.raises(InputError, match="where the plan says"):
        made.write()
    assert sum(calls)


def test_a_range_that_holds_other_tokens_than_it_was_told_to_expect_is_refused(tmp_path, monkeypatch):
    """The mutant: the rows of a shard's last tenth go to no shard."""
    made = ready(recipe_of(tmp_path, "texts"), keep=True)
    real = assemble._sort_rows
    monkeypatch.setattr(
        assemble,
        "_sort_rows",
        lambda *given: real(*given[:3], given[3].take(np.arange(len(given[4]) - 1)), given[4][:-1], *given[5:]),
    )
    with pytest.raises(DefectError, match=r"shards \d+ to \d+: domain '\w+' has [\d,]+ tokens where the plan says .*nothing was"):
        made.write()


def test_what_was_sent_further_is_not_sent_again(tmp_path, monkeypatch):
    """A build that goes on after it was stopped in the last pass."""
    divide(monkeypatch, 3)
    made = ready(recipe_of(tmp_path, "texts"))
    made.send()
    written: list[str] = []
    for module, name in ((levels, "write_run"), (levels, "write_cuts"), (spill, "write_run")):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda store, path, *more, real=real: written.append(path) or real(store, path, *more))
    made.write()
    assert written == []
    removed = next(path for path in made.store.list(made.build.runs) if "/divided/" in path)
    made.store.remove([removed])
    made.send()
    assert written == [removed]


def count_requests(monkeypatch: pytest.MonkeyPatch, made: Ready) -> int:
    """Ranges of files that the tasks of a build read of its store."""
    asked, real = [], Store.read_range
    monkeypatch.setattr(Store, "read_range", lambda self, path, *at: asked.append(path) or real(self, path, *at))
    made.write()
    return len(asked)


def test_requests_are_those_of_parts_and_ranges_not_of_parts_and_shards(tmp_path, monkeypatch):
    """One level: an index and a slice of one run of each part for each range. A shard more in a range asks for nothing."""
    counts = []
    monkeypatch.setattr("chameleon_data.shards.runs.RUN_BYTES", 5_000)
    for each in (1, 8):
        with monkeypatch.context() as patch:
            patch.setattr(grouping, "MOST_RANGES", 10**6 if each == 1 else 5)
            made = ready(recipe_of(tmp_path / str(each), "texts"))
            counts.append(count_requests(patch, made))
            assert sum(path.endswith(".run") for path in made.store.list(made.build.runs)) > 2 * len(made.parts)
            assert counts[-1] <= 2 * len(made.parts) * made.job.ranges
    assert counts[1] < counts[0] / 3


def test_the_records_of_a_part_are_one_file_however_many_runs_it_has(tmp_path, monkeypatch):
    """Every range and group of domains asks each of them."""
    divide(monkeypatch, 2)
    monkeypatch.setattr("chameleon_data.shards.runs.RUN_BYTES", 5_000)
    made = ready(recipe_of(tmp_path, "texts"))
    made.send()
    sent = [path for path in made.store.list(made.build.runs) if "/exchanged/" not in path]
    found, records = ([path for path in sent if path.endswith(end)] for end in (".run", ".records"))
    assert len(records) == len(made.parts) < len(found)
