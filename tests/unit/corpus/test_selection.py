"""Copies dropped, validation held out: what is left is exact, nothing leaks, and no layout of the corpus shows."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chameleon_data.corpus import copies as module
from chameleon_data.corpus import row_records, selection
from chameleon_data.corpus.copies import CopyFilter, copies_in_part, read_part_copies, read_range_copies
from chameleon_data.corpus.row_records import RowRecords
from chameleon_data.corpus.selection import Selection
from chameleon_data.corpus.survey import Survey
from chameleon_data.corpus.tokens import load_token_counter
from chameleon_data.errors import InputError
from chameleon_data.pipelines import select as selecting
from chameleon_data.pipelines.write import _spread_copies
from chameleon_data.plan.plan import DomainCount
from chameleon_data.recipe import Recipe
from chameleon_data.recipe_file import load_recipe
from chameleon_data.store.paths import SelectionFolder
from chameleon_data.store.store import Store
from chameleon_data.versions.manifest import Manifest
from chameleon_data.versions.verify import verify_version
from tests.support.corpus import documents_with_copies, lay_out, write_recipe
from tests.support.in_process import INLINE, Ready, ready, selected, surveyed
from tests.support.manifests import forge, list_paths


def recipe_of(
    folder: Path, files: int = 1, formats: Sequence[str] = ("jsonl",), reverse: bool = False, **sections: Any
) -> Recipe:
    sources = lay_out(folder / "corpus", documents_with_copies(), formats, files, reverse)
    return load_recipe(write_recipe(folder / "recipe.yaml", sources, **{"shards": {"size": "50KB"}, **sections}))


def rows(made: Ready, manifest: Manifest, split: str = "train") -> pl.DataFrame:
    return pl.concat([pl.read_parquet(Path(made.store.url) / f) for f in list_paths(made.store, manifest, split=split)])


def test_the_validation_split_is_held_out_of_every_domain_and_verifies(tmp_path):
    made = ready(recipe_of(tmp_path, mix={"budget": 300_000, "max_epochs": 8, "validation": 0.2}))
    manifest = made.manifest()
    found = verify_version(made.store, manifest)
    assert found.problems == ()
    train, held = rows(made, manifest), rows(made, manifest, "validation")
    assert found.rows == len(train) + len(held)
    assert not set(train["text"]) & set(held["text"])
    everything = documents_with_copies()
    for name, texts in everything.items():
        mine = Counter(held.filter(pl.col("domain") == name)["text"].to_list())
        assert mine
        assert mine == Counter(t for t in texts if t in mine), "every copy of a text is on the same side, once an epoch"
        domain = manifest.domains[name]
        assert domain.held_out == mine.total() == manifest.validation[name].rows
        assert domain.rows_read == domain.rows_written_once + domain.rows_not_selected + domain.held_out
        assert 0.05 < mine.total() / len(texts) < 0.4


def test_verify_sees_a_share_of_the_validation_split_that_is_not_so(tmp_path):
    made = ready(recipe_of(tmp_path, mix={"budget": 300_000, "max_epochs": 8, "validation": 0.2}))
    forged = forge(made.store, made.manifest(), lambda plain: plain["validation"]["book"].update(weight=0.9))
    assert any("of the validation split, 'weight' is another" in p for p in verify_version(made.store, forged).problems)


def test_a_side_is_of_the_text_alone(tmp_path):
    """Another seed, layout, or a corpus with more in it: a text stays where it is; a larger share contains the smaller one's."""
    sides = {}
    for name, sections in {
        "a": {"seed": 1, "mix": {"budget": 200_000, "max_epochs": 8, "validation": 0.2}},
        "b": {"seed": 2, "mix": {"budget": 300_000, "max_epochs": 8, "validation": 0.2}},
        "larger": {"seed": 1, "mix": {"budget": 200_000, "max_epochs": 8, "validation": 0.4}},
    }.items():
        made = ready(recipe_of(tmp_path / name, files=1 + len(name), reverse=name == "b", **sections))
        sides[name] = set(rows(made, made.manifest(), "validation")["text"])
    assert sides["a"] == sides["b"] < sides["larger"]


def test_a_domain_that_would_be_empty_on_a_side_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"domain 'book': none of its 51 documents falls on the validation side .*raise it"):
        ready(recipe_of(tmp_path, mix={"budget": 100_000, "validation": 0.0001}))


def test_verify_sees_a_text_on_the_wrong_side(tmp_path):
    made = ready(recipe_of(tmp_path, mix={"budget": 300_000, "max_epochs": 8, "validation": 0.2}))
    forged = forge(made.store, made.manifest(), lambda plain: plain["recipe"]["mix"].update(validation=0.4))
    assert any("belongs into the other split" in p for p in verify_version(made.store, forged).problems)


@pytest.mark.parametrize("dedup", ["exact", "exact_across"])
def test_copies_are_dropped_and_the_rest_is_exact(tmp_path, dedup):
    sections: dict[str, Any] = {"input": {"dedup": dedup}, "mix": {"budget": "auto", "max_epochs": 8}}
    made = ready(recipe_of(tmp_path / "a", **sections))
    manifest = made.manifest()
    assert verify_version(made.store, manifest).problems == ()
    first_epoch = rows(made, manifest).filter(pl.col("epoch") == 0)
    available = {}
    seen: set[str] = set()
    for name, texts in documents_with_copies().items():  # in the order of `sources`
        distinct = set(texts) - (seen if dedup == "exact_across" else set())
        seen |= distinct
        available[name] = distinct
        domain = manifest.domains[name]
        assert domain.available_rows == len(distinct)
        assert domain.copies_dropped == len(texts) - len(distinct)
        assert domain.available_tokens == sum(len(t.encode()) for t in distinct)
        assert domain.largest_document == max(len(t.encode()) for t in distinct)
        mine = first_epoch.filter(pl.col("domain") == name)["text"].to_list()
        assert len(mine) == len(set(mine)) == domain.rows_written_once
        assert set(mine) <= distinct
    again = ready(recipe_of(tmp_path / "b", files=4, formats=("parquet", "csv"), reverse=True, **sections)).manifest()
    assert again.content_digest == manifest.content_digest, "which copy is kept does not depend on the layout"
    plain = ready(recipe_of(tmp_path / "c", mix=sections["mix"])).manifest().domains["legal"]
    assert plain.copies_written == 14
    assert plain.most_copies == 3


def with_ids(folder: Path, reverse: bool = False, **sections: Any) -> Ready:
    """Each document under an id of its own, in two files a domain."""
    sources = lay_out(folder / "corpus", {}, ["jsonl"], 1)
    for domain, texts in documents_with_copies().items():
        lines = [json.dumps({"text": t, "id": f"{domain}-{i}"}) + "\n" for i, t in enumerate(texts)]
        for part, some in enumerate((lines[::2], lines[1::2])):
            file = folder / "corpus" / domain / f"{part}.jsonl"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(some[::-1] if reverse else some))
        sources[domain] = {"path": str(folder / "corpus" / domain), "id": "id"}
    wanted = {"shards": {"size": "50KB"}, "mix": {"budget": "auto", "max_epochs": 8}, **sections}
    return ready(load_recipe(write_recipe(folder / "recipe.yaml", sources, **wanted)))


@pytest.mark.parametrize("dedup", ["exact", "exact_across"])
def test_of_copies_with_ids_the_least_id_is_kept_wherever_it_lies(tmp_path, dedup):
    """With ids half of the hash is the id's, so which copy is kept shows in the shards."""
    digests = []
    for name, reverse in (("a", False), ("b", True)):
        made = with_ids(tmp_path / name, reverse, input={"hash": "id", "dedup": dedup})
        manifest = made.manifest()
        assert verify_version(made.store, manifest).problems == ()
        digests.append(manifest.content_digest)
        assert made.selection.dropped["legal"] == 14
    assert digests[0] == digests[1]


TWICE = r"^[0-9]+ documents stand twice in an epoch, in spite of 'input.dedup: {}'; [0-9a-f]+ of domain '{}' is [0-9a-f]+ of"


def test_a_verifier_sees_a_copy_that_was_not_dropped(tmp_path, monkeypatch):
    """The mutant: the filter lets every row pass, and the plan counts them all."""
    monkeypatch.setattr(selecting, "find_copies", lambda *_: module.COPIES_SCHEMA.empty_table())
    made = ready(recipe_of(tmp_path, input={"dedup": "exact"}))
    found = verify_version(made.store, made.manifest()).problems
    assert len(found) == 1
    assert re.search(TWICE.format("exact", "(legal|book|code)"), found[0])


@pytest.mark.parametrize("rows_at_once", [4, 10**6])
def test_a_verifier_sees_a_text_in_two_domains(tmp_path, monkeypatch, rows_at_once):
    """Each text stands once in its domain; only between domains it does not."""
    monkeypatch.setattr("chameleon_data.versions.checks.copies.DEDUP_ROWS_AT_ONCE", rows_at_once)
    made = ready(recipe_of(tmp_path, mix={"budget": "auto", "max_epochs": 8}, input={"dedup": "exact"}))
    manifest = made.manifest()
    assert verify_version(made.store, manifest).problems == ()
    forged = forge(made.store, manifest, lambda plain: plain["recipe"]["input"].update(dedup="exact_across"))
    (found,) = verify_version(made.store, forged).problems
    assert re.search(TWICE.format("exact_across", "(legal|book|code)"), found)


@pytest.mark.parametrize("dedup", ["exact", "exact_across"])
def test_a_verifier_sees_a_copy_under_another_id(tmp_path, dedup):
    made = with_ids(tmp_path, input={"hash": "id"})
    manifest = made.manifest()
    assert verify_version(made.store, manifest).problems == ()
    forged = forge(made.store, manifest, lambda plain: plain["recipe"]["input"].update(dedup=dedup))
    (found,) = verify_version(made.store, forged).problems
    assert re.search(TWICE.format(dedup, "(legal|book|code)"), found)
    one, other = re.findall("[0-9a-f]{32}", found)
    assert one != other
    assert one[16:] == other[16:], "the half that is of the text"


SECTIONS = {
    "as they are": {},
    "held out": {"mix": {"validation": 0.2}},
    "one copy a domain": {"input": {"dedup": "exact"}, "mix": {"validation": 0.2}},
    "one copy in all": {"input": {"dedup": "exact_across"}},
    "by id": {"input": {"dedup": "exact_across", "hash": "id"}},
}


@pytest.mark.parametrize("name", SECTIONS)
def test_ranges_of_hashes_select_what_one_range_does(tmp_path, monkeypatch, name):
    """Sums, histograms and copies of one range and of 64, and of groups of one or some parts."""
    sections = {**SECTIONS[name], "out": f"memory://{tmp_path.name}"}
    recipe = with_ids(tmp_path, **sections).recipe if name == "by id" else recipe_of(tmp_path, files=3, **sections)
    counter = load_token_counter(recipe.tokens)
    store, parts, survey = surveyed(recipe, counter)
    found = []
    monkeypatch.setattr(selection, "histogram_depth", lambda rows: 6)
    for few, bits in ((10**6, 0), (40, 6), (4, 6)):
        monkeypatch.setattr(row_records, "ROWS_ON_DRIVER", few)
        monkeypatch.setattr(row_records, "ROWS_IN_GROUP", few)
        made = selected(store, survey, recipe, counter)
        assert made.corpus.bits == bits
        assert (len(made.corpus.groups) > 2) == (bits > 0)
        found.append((made.dropped, [summary(c) for counts in made.splits.values() for c in counts], all_copies(store, made)))
        assert selected(store, survey, recipe, counter).dropped == made.dropped, "from the files that the tasks left"
    assert found[0] == found[1] == found[2]
    if "dedup" in SECTIONS[name].get("input", {}) and name != "by id":
        assert found[0][2] == naive_copies(store, made, survey)
        assert len(found[0][2]) > 10
    copies = [read_part_copies_of(store, made, number) for number in range(len(parts))]
    assert [row for part in copies for row in part] == found[0][2]


def test_a_part_of_many_rows_is_sorted_some_at_a_time(memory_store, monkeypatch):
    monkeypatch.setattr(row_records, "ROWS_SORTED", 100)
    drawn, folder = np.random.default_rng(0), SelectionFolder("0" * 32)
    rows = RowRecords(*(drawn.integers(0, 9, 1000).astype(t) for t in ("i4", "i4", "u8", "u8", "i8", "i8")))
    rows = replace(rows, hi=drawn.integers(0, 2**64, 1000, np.uint64), lo=drawn.integers(0, 2**64, 1000, np.uint64))
    tens = [rows.take(np.arange(at, at + 10)) for at in range(0, 1000, 10)]
    with monkeypatch.context() as patch:
        patch.setattr(RowRecords, "take", sorted_at_once := CountedRows())
        row_records.sort_records(memory_store, folder, 6, 0, iter(tens), ("hi", "lo"))
    assert sorted_at_once.most == 100
    for half in ("hi", "lo"):
        number = getattr(rows, half) >> np.uint64(58)
        for wanted in (0, 7, 63):
            (found,) = row_records.read_range_records(memory_store, folder, 1, half, wanted)
            assert found.table().equals(rows.take(np.flatnonzero(number == wanted)).table())


class CountedRows:
    """In the place of `RowRecords.take`, with the most rows that it was given."""

    def __init__(self) -> None:
        self._take, self.most = RowRecords.take, 0

    def __get__(self, records: RowRecords, _: type) -> Callable[[Any], RowRecords]:
        return partial(self, records)

    def __call__(self, records: RowRecords, rows: Any) -> RowRecords:
        self.most = max(self.most, len(records))
        return self._take(records, rows)


def summary(count: DomainCount) -> tuple[Any, ...]:
    return count.name, count.rows, count.tokens, count.bytes, count.largest, count.multiset, count.histogram.tolist()


Copy = tuple[int, int, int, int, bool]


def all_copies(store: Store, made: Selection) -> list[Copy]:
    """The copies of all ranges, sorted."""
    if not made.drops_copies:
        return []
    groups = len(made.corpus.groups) - 1
    tables = [read_range_copies(store, made.folder, number, groups) for number in range(made.corpus.ranges)]
    return sorted(tuple(row.values()) for table in tables for row in table.to_pylist())


def read_part_copies_of(store: Store, made: Selection, part: int) -> list[Copy]:
    """The same by part, as a task gets them that reads the part."""
    if not made.drops_copies:
        return []
    _spread_copies(INLINE, store, made, [part], lambda *_: None)
    return [tuple(row.values()) for row in read_part_copies(store, made.folder, part).to_pylist()]


def naive_copies(store: Store, made: Selection, survey: Survey) -> list[Copy]:
    """Document by document."""
    everywhere: dict[Any, list[Any]] = {}
    for number, part in enumerate(survey.parts):
        for rows in row_records.read_part_records(store, number, part, made.corpus.domains):
            for domain, hi, lo in zip(rows.domain.tolist(), rows.hi.tolist(), rows.lo.tolist(), strict=True):
                place = (int(made.corpus.source_rank[number]), domain, number, hi, lo)
                everywhere.setdefault((hi, lo, domain if made.rules.dedup == "exact" else 0), []).append(place)
    return sorted(
        (number, domain, hi, lo, place == min(places))
        for places in everywhere.values() if len(places) > 1
        for place in set(places) for _, domain, number, hi, lo in [place]
    )  # fmt: skip


DOCUMENT = st.tuples(st.integers(0, 1), st.integers(0, 2), st.integers(0, 2))


@pytest.mark.parametrize("alike", [False, True], ids=["keys differ", "keys of the first salt are alike"])
@settings(max_examples=60)
@given(parts=st.lists(st.lists(DOCUMENT, max_size=12), min_size=1, max_size=4))
def test_exactly_one_copy_of_each_document_passes_the_filter(parts, alike):
    """Of any documents in any parts, read in blocks of any size; halves of hashes alike, and domains with the same texts."""
    first = {document: n for n, part in reversed(list(enumerate(parts))) for document in part}
    table = [(n, *document, first[document] == n) for n, part in enumerate(parts) for document in sorted(set(part))]
    columns = zip(*table, strict=True) if table else [[]] * 5
    copies = pa.table(
        [pa.array(c, f.type) for c, f in zip(columns, module.COPIES_SCHEMA, strict=True)], schema=module.COPIES_SCHEMA
    )
    mix, kept = module.mix64, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "mix64", lambda columns, salt: mix(columns, salt) * np.uint64(salt > 0 or not alike))
        for number, part in enumerate(parts):
            dropping = CopyFilter(copies_in_part(copies, number))
            for block in (part[:3], part[3:]):
                domain = np.array([document[0] for document in block], np.int32)
                hi, lo = (np.array([document[i] for document in block], np.uint64) for i in (1, 2))
                here = np.full(len(block), number)
                kept += [x for x, keep in zip(block, dropping.mask(here, domain, hi, lo), strict=True) if keep]
                others = np.indices((3, 3), np.uint64).reshape(2, -1)
                assert dropping.mask(np.full(9, number), np.full(9, 2), *others).all(), "another domain's documents"
                assert dropping.mask(np.full(9, 9), np.full(9, 0), *others).all(), "another part's documents"
    assert sorted(kept) == sorted(first)
