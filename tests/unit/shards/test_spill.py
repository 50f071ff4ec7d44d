"""Survey, spilled runs and assembled shards in one process, without Ray.

Parts, runs and blocks are so small that every seam is crossed.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest

from chameleon_data.corpus import survey
from chameleon_data.corpus.readers import blocks as readers
from chameleon_data.corpus.selection import copies_in_part, select_rows
from chameleon_data.corpus.tokens import load_token_counter
from chameleon_data.errors import InputError
from chameleon_data.recipe import Recipe
from chameleon_data.recipe_file import load_recipe
from chameleon_data.shards import lay_out as layout
from chameleon_data.shards import spill as spilling
from chameleon_data.shards.receipts import read_receipts
from chameleon_data.shards.spill import spill
from chameleon_data.versions.make_manifest import digest_contents
from tests.support.corpus import documents, lay_out, write_recipe
from tests.support.in_process import Ready, ready, rules_of, surveyed


@pytest.fixture
def small(monkeypatch):
    """Parts of 20 kB, runs of 30 kB, blocks of 4 kB."""
    monkeypatch.setattr(survey, "PART_BYTES", 20_000)
    monkeypatch.setattr(spilling, "RUN_BYTES", 30_000)
    monkeypatch.setattr(spilling, "ROUTED_BYTES", 3_000)
    monkeypatch.setattr(survey, "read_blocks", functools.partial(readers.read_blocks, block_bytes=4_000))
    monkeypatch.setattr(spilling, "read_blocks", functools.partial(readers.read_blocks, block_bytes=4_000))


def recipe_of(folder: Path, formats=("jsonl",), files=1, corpus=None, **sections) -> Recipe:
    sources = lay_out(folder / "corpus", corpus or copies(), list(formats), files)
    return load_recipe(write_recipe(folder / "recipe.yaml", sources, **sections))


def copies():
    """The test corpus with one statute 300 times, all over the file."""
    corpus = documents()
    common = corpus["legal"][0]
    corpus["legal"] = [t for text in corpus["legal"] for t in (text, common, common, common, common)]
    return corpus


def planned(recipe: Recipe) -> Ready:
    return ready(recipe.model_copy(update={"mix": recipe.mix.model_copy(update={"budget": 700_000})}))


def built(recipe: Recipe) -> tuple[str, int, int]:
    """(content digest, parts, runs)"""
    made = planned(recipe)
    receipts = made.write()
    return (
        digest_contents([receipt.content for receipt in receipts]),
        len(made.parts),
        sum(path.endswith(".run") for path in made.store.list(made.build.runs)),
    )


def test_runs_of_tiny_documents_are_no_larger_in_memory(tmp_path, small):
    """Of 3,000 documents of five bytes the texts are half a run; with the columns beside them they are seven."""
    corpus = {name: [f"{name[0]}{i:04}" for i in range(1000)] for name in ("legal", "book", "code")}
    made = ready(recipe_of(tmp_path, corpus=corpus, mix={"budget": 15_000, "exhausted": "repeat"}))
    made.spill()
    runs = [p for p in made.store.list(made.build.runs) if p.endswith(".run")]
    assert len(runs) > 2 * len(made.parts)


def test_seams_between_blocks_runs_and_parts_do_not_show(tmp_path, small, monkeypatch):
    pieces = built(recipe_of(tmp_path / "a", ["jsonl", "parquet", "csv"], 12))
    assert pieces[1] > 10
    assert pieces[2] > 20
    monkeypatch.undo()
    whole = built(recipe_of(tmp_path / "b"))
    assert whole[1:] == (3, 3)
    assert pieces[0] == whole[0]


def test_a_part_that_numbers_its_copies_by_itself_is_caught(tmp_path, small, monkeypatch):
    """The mutant that the test above must see: every part counts identical texts from 0."""
    real = spilling.CopyCounter
    monkeypatch.setattr(spilling, "CopyCounter", lambda stream, part: real(stream, 0))
    with pytest.raises(InputError, match="where the plan says"):
        built(recipe_of(tmp_path, ["jsonl"], 12))


def test_a_finished_shard_whose_file_is_gone_is_not_finished(tmp_path):
    made = planned(recipe_of(tmp_path))
    made.write()
    store, build = made.store, made.build
    receipt = read_receipts(store, build)[3]
    store.remove([f"{build.folder}/{receipt.files[0].path}"])
    assert set(range(build.shards)) - read_receipts(store, build).keys() == {3}
    made.write_shards(range(3, 4))
    assert read_receipts(store, build)[3] == receipt


def test_a_part_that_changed_loses_its_record(tmp_path):
    recipe = recipe_of(tmp_path)
    made = planned(recipe)
    file = next(Path(recipe.sources["book"].path[0]).iterdir())
    file.write_bytes(file.read_bytes().replace(b"the", b"eht", 1))
    number = next(n for n, part in enumerate(made.parts) if part.source == "book")
    with pytest.raises(InputError, match="changed"):
        spill(made.store, made.build, made.job, number, made.parts[number], copies_in_part(made.selection.copies, number))
    assert survey.find_recorded_parts(made.store, made.parts) == {p.key for p in made.parts} - {made.parts[number].key}


def test_many_epochs_are_cut_into_slices(tmp_path, monkeypatch):
    monkeypatch.setattr(spilling, "ROUTED_BYTES", 10_000)
    largest = []
    real = spilling.write_run
    monkeypatch.setattr(spilling, "RUN_BYTES", 40_000)
    monkeypatch.setattr(
        spilling,
        "write_run",
        lambda s, p, listed, pending, n: (
            largest.append(sum(t["body"].nbytes for _, t in pending)) or real(s, p, listed, pending, n)
        ),
    )
    corpus = {name: texts[:4] for name, texts in documents().items()}
    assert len(built(recipe_of(tmp_path, corpus=corpus, mix={"budget": 700_000}))[0]) == 64
    assert max(largest) < 40_000 + 10_000 + max(len(t.encode()) for ts in corpus.values() for t in ts) + 8 * 1000


# Rows without a domain


def by_column(folder: Path, lines: list[dict], **sections) -> Recipe:
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


def test_a_row_without_a_domain_is_judged_by_all_rows_of_its_source(tmp_path):
    rows = [{"text": f"text {i}", "d": "ab"[i % 2]} for i in range(4000)]
    _, _, found = surveyed(by_column(tmp_path / "few", [*rows, {"text": "lost"}]))
    assert found.reasons == {"s": {"no domain": 1}}
    assert sorted(name for name, tally in found.tallies.items() if tally.rows) == ["a", "b"]
    with pytest.raises(InputError, match=r"domain 's': 5 of 4,005 rows have no usable text \(5 no domain\)"):
        surveyed(by_column(tmp_path / "many", [*rows, *[{"text": "lost"}] * 5]))


def test_a_file_of_rows_without_a_domain_is_refused_and_not_a_crash(tmp_path):
    with pytest.raises(InputError, match="3 of 3 rows"):
        surveyed(by_column(tmp_path, [{"text": "x", "d": None}] * 3))


def test_a_domain_with_only_bad_rows_is_an_error(tmp_path):
    rows = [{"text": "x", "d": "a"}, {"text": None, "d": "b"}]
    with pytest.raises(InputError, match="domain 'b' has rows but no usable document"):
        surveyed(by_column(tmp_path, rows, input={"max_bad": 1}))


def test_two_thousand_domains_by_column(tmp_path):
    rows = [{"text": f"text {i} of {i % 2000}", "d": f"d{i % 2000}"} for i in range(6000)]
    recipe = by_column(tmp_path, rows, embed={"samples": 2})
    store, _, found = surveyed(recipe)
    counts = select_rows(store, found, rules_of(recipe, load_token_counter(recipe.tokens))).counts
    assert len(counts) == 2000
    assert all(int(c.histogram[:, 0].sum()) == 3 for c in counts)
    assert found.sample.num_rows == 4000


def test_more_cut_documents_than_fit_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "MOST_CUT_DOCUMENTS", 20)
    with pytest.raises(InputError, match=r"shards cut buckets that hold .* more than the 20 .*raise 'shards.size'"):
        planned(recipe_of(tmp_path))
