"""The survey's records of parts: what they hold, what they depend on, and which are believed."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import zstandard

from chameleon_data.corpus import survey, tokens
from chameleon_data.corpus.survey import (
    PartSummary,
    find_recorded_parts,
    read_documents,
    read_part_summary,
    read_quarantine,
    read_survey,
)
from chameleon_data.corpus.tokens import load_token_counter
from chameleon_data.errors import InputError
from chameleon_data.recipe import Recipe
from chameleon_data.recipe_file import load_recipe
from chameleon_data.store.checksummed import read_record, write_record
from chameleon_data.store.paths import KEPT_ROWS
from chameleon_data.store.store import Store
from tests.support.corpus import documents, lay_out, write_recipe
from tests.support.in_process import parts_of, record_part, row_store_of, selected, surveyed


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """Three sources in two parts each; one of them has a line that is not JSON, and a share of bad rows that is allowed."""
    monkeypatch.setattr("chameleon_data.corpus.parts.PART_BYTES", 1)
    sources = lay_out(tmp_path / "corpus", documents(), ["jsonl"], 2)
    with (tmp_path / "corpus" / "legal" / "part-0.jsonl").open("a") as file:
        file.write("broken\n")
    return load_recipe(write_recipe(tmp_path / "recipe.yaml", sources, input={"max_bad": 0.1}))


def test_a_survey_is_the_sum_of_what_its_parts_recorded(recipe: Recipe) -> None:
    store, parts, found = surveyed(recipe)
    summaries = [read_part_summary(store, part) for part in parts]
    assert len(parts) == 6
    assert all(isinstance(summary, PartSummary) for summary in summaries)
    assert found.seconds == pytest.approx(sum(summary.seconds for summary in summaries))
    assert found.reasons == {"legal": {"broken JSON": 1}}
    for name, texts in documents().items():
        tally = found.tallies[name]
        assert (tally.rows, tally.read, tally.quarantined) == (len(texts), len(texts) + (name == "legal"), int(name == "legal"))
        assert tally.tokens == tally.bytes == sum(len(text.encode()) for text in texts)
        assert tally.largest == max(len(text.encode()) for text in texts)
        mine = [summary.tallies[name] for summary in summaries if name in summary.tallies]
        assert sum(mine[1:], mine[0]) == tally
        assert sum(len(rows) for part in parts if part.source == name for rows in read_documents(store, part)) == len(texts)
    (bad,) = read_quarantine(store, parts).to_dicts()
    assert Path(bad.pop("file")).name == "part-0.jsonl"
    assert bad == {"row": 37, "domain": "legal", "reason": "broken JSON"}


def test_a_summary_of_another_format_is_no_record(recipe: Recipe) -> None:
    store, parts, found = surveyed(recipe)
    assert find_recorded_parts(store, parts) == {part.key for part in parts}
    path = parts[2].path("summary.json")
    for other in ({"format": survey.SUMMARY_FORMAT + 1}, {"format": None}, {"format": str(survey.SUMMARY_FORMAT)}):
        write_record(store, path, read_record(store, path) | other)
        assert find_recorded_parts(store, parts) == {part.key for part in parts} - {parts[2].key}
        with pytest.raises(InputError, match=r"summary\.json: written by another chameleon-data; run the command again"):
            read_part_summary(store, parts[2])
    counter = tokens.load_token_counter(recipe.tokens)
    record_part(store, recipe, parts[2], counter)
    assert find_recorded_parts(store, parts) == {part.key for part in parts}
    again = read_survey(store, parts, recipe.sources, recipe.input, recipe.embed.drawn)
    assert (again.tallies, again.reasons, again.sample) == (found.tallies, found.reasons, found.sample)


@pytest.mark.parametrize("name", [*survey.COUNT_FILES, "sample"])
def test_a_part_is_recorded_once_all_its_files_are_there(recipe: Recipe, name: str) -> None:
    store, parts, _ = surveyed(recipe)
    store.remove([parts[0].path(parts[0].sample if name == "sample" else name)])
    assert find_recorded_parts(store, parts) == {part.key for part in parts[1:]}


@pytest.mark.parametrize(
    "sections",
    [
        {"input": {"max_bad": 0.1, "max_document": 10_000}},
        {"embed": {"column": "vector"}},
        {"tokens": {"tokenizer": "all-MiniLM-L6-v2"}},
    ],
    ids=lambda sections: next(iter(sections)),
)
def test_a_key_names_all_that_a_record_depends_on(recipe: Recipe, sections: dict[str, Any]) -> None:
    def keys(some: Recipe) -> set[str]:
        return {part.key for part in parts_of(some, tokens.load_token_counter(some.tokens))}

    other = Recipe.model_validate(recipe.model_dump(by_alias=True) | sections)
    assert len(keys(recipe)) == 6
    assert not keys(recipe) & keys(other)
    mix = Recipe.model_validate(recipe.model_dump(by_alias=True) | {"mix": {"budget": 5}, "out": recipe.out + "-2"})
    assert keys(mix) == keys(recipe)


@pytest.mark.parametrize("sections", [{"seed": 1}, {"embed": {"samples": 7}}, {"embed": {"window": 9}}], ids=str)
@pytest.mark.parametrize("keep", [True, False])
def test_another_sample_is_drawn_from_the_rows_kept(recipe: Recipe, sections: dict[str, Any], keep: bool) -> None:
    """The same one as from the corpus, which is gone meanwhile; without kept rows it is missed."""
    other = Recipe.model_validate(recipe.model_dump(by_alias=True) | sections)
    expected = surveyed(other)[2].sample
    shutil.rmtree(recipe.out)
    first = surveyed(recipe, keep=keep)[2].sample
    corpus = Path(recipe.sources["legal"].path[0]).parent
    counter = tokens.load_token_counter(other.tokens)
    parts, rows = parts_of(other, counter), row_store_of(other, counter)
    corpus.rename(corpus.with_name("gone"))
    if not keep:
        with pytest.raises(InputError, match="no such file"):
            record_part(Store(other.out), other, parts[0], counter, rows)
        return
    for part in parts:
        record_part(Store(other.out), other, part, counter, rows)
    again = read_survey(Store(other.out), parts, other.sources, other.input, other.embed.drawn).sample
    assert again == expected != first


def test_no_sample_is_drawn_from_rows_that_are_damaged(recipe: Recipe) -> None:
    store, parts, _ = surveyed(recipe, keep=True)
    counter = tokens.load_token_counter(recipe.tokens)
    store.remove([parts[0].path(parts[0].sample)])
    (path,) = [path for path in store.list(KEPT_ROWS) if parts[0].key in path and path.endswith(".rows")]
    data = bytearray(store.read(path))
    data[7] ^= 1
    store.write(path, bytes(data))
    with pytest.raises(InputError, match="was damaged"):
        record_part(store, recipe, parts[0], counter, row_store_of(recipe, counter))
    record_part(store, recipe, parts[0], counter, row_store_of(recipe, counter))
    assert find_recorded_parts(store, parts) == {part.key for part in parts}


def test_a_file_that_one_task_reads_for_long_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless it is short, or other tasks read parts of it too."""
    monkeypatch.setattr("chameleon_data.corpus.fragments.FRAGMENT_BYTES", 20)
    monkeypatch.setattr("chameleon_data.corpus.parts.PART_BYTES", 40)
    monkeypatch.setattr(survey, "LONG_TASK_SECONDS", 0)
    recipe = by_column(tmp_path, [{"text": f"text {i}", "d": "a"} for i in range(20)])
    assert surveyed(recipe)[2].long_tasks == ()
    path = Path(recipe.sources["s"].path[0])
    path.with_name("rows.jsonl.zst").write_bytes(zstandard.compress(path.read_bytes()))
    recipe = Recipe.model_validate(recipe.model_dump(by_alias=True) | {"sources": {"s": {"path": str(path) + ".zst"}}})
    (said,) = surveyed(recipe)[2].long_tasks
    assert re.search(
        r"rows\.jsonl\.zst: one task reads all of it, which took 0 s .* zstd without a seek table is not divided", said
    )
    monkeypatch.setattr(survey, "LONG_TASK_SECONDS", 60)
    assert surveyed(recipe)[2].long_tasks == ()


# Rows without a domain


def by_column(folder: Path, lines: list[dict[str, Any]], **sections: Any) -> Recipe:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    recipe = {
        "name": "x",
        "out": str(folder / "out"),
        "sources": {"s": {"path": str(folder / "rows.jsonl"), "domain": "d"}},
        **sections,
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    return load_recipe(folder / "recipe.yaml")


@pytest.mark.parametrize(
    ("lines", "limits", "says"),
    [
        (["ok"] * 95 + [""] * 4 + [None], {}, None),
        (["ok"] * 95 + [""] * 4 + [None], {"max_blank": 0.01}, r"5 of 100 .* or raise 'input.max_blank' from 0.01 to 0.05$"),
        (
            ["ok"] * 90 + [""] * 9 + [7],
            {},
            r"10 of 100 .*first row 99 of .*not a string\nmend .* 'input.max_bad' from 0.001 to 0.01$",
        ),
        (
            ["ok"] * 60 + [""] * 39 + [7],
            {},
            "40 of 100 .*raise 'input.max_bad' from 0.001 to 0.01 and raise 'input.max_blank' from 0.1 to 0.39$",
        ),
        ([7] * 9, {}, r"9 of 9 .*\nmend the files or the recipe's keys; no limit helps$"),
        ([""] * 9, {}, r"9 of 9 .*\nmend the files or the recipe's keys; no limit helps$"),
    ],
)
def test_blank_texts_have_their_own_limit(tmp_path: Path, lines: list[Any], limits: dict[str, float], says: str | None) -> None:
    """They hide no other reason, and no limit is named that does not help."""
    recipe = by_column(tmp_path, [{"text": text, "d": "a"} for text in lines], input=limits)
    if says is None:
        assert surveyed(recipe)[2].tallies["a"].rows == 95
        return
    with pytest.raises(InputError, match=rf"(?s)domain 'a': {says}"):
        surveyed(recipe)


def test_a_row_without_a_domain_counts_against_all_rows_of_its_source(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "d": "ab"[i % 2]} for i in range(4000)]
    _, _, found = surveyed(by_column(tmp_path / "few", [*rows, {"text": "lost"}]))
    assert found.reasons == {"s": {"no domain": 1}}
    assert sorted(name for name, tally in found.tallies.items() if tally.rows) == ["a", "b"]
    with pytest.raises(InputError, match=r"domain 's': 5 of 4,005 rows cannot be used \(5 no domain\)"):
        surveyed(by_column(tmp_path / "many", [*rows, *[{"text": "lost"}] * 5]))


def test_a_file_of_rows_without_a_domain_is_refused_and_not_a_crash(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="3 of 3 rows"):
        surveyed(by_column(tmp_path, [{"text": "x", "d": None}] * 3))


def test_a_domain_with_only_bad_rows_is_an_error(tmp_path: Path) -> None:
    rows = [{"text": "x", "d": "a"}, {"text": None, "d": "b"}]
    with pytest.raises(InputError, match="domain 'b' has rows but no usable document"):
        surveyed(by_column(tmp_path, rows, input={"max_bad": 1, "max_blank": 1}))


def test_two_thousand_domains_by_column(tmp_path: Path) -> None:
    rows = [{"text": f"text {i} of {i % 2000}", "d": f"d{i % 2000}"} for i in range(6000)]
    recipe = by_column(tmp_path, rows, embed={"samples": 2})
    store, _, found = surveyed(recipe)
    counts = selected(store, found, recipe, load_token_counter(recipe.tokens)).counts
    assert len(counts) == 2000
    assert all(int(c.histogram[:, 0].sum()) == 3 for c in counts)
    assert found.sample.num_rows == 4000
