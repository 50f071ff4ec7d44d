"""Whole builds of packed conversations: none is cut unless asked, shares of what counts are exact, and masks are proved."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chameleon_data.corpus.survey import DROP_RULE
from chameleon_data.errors import InputError
from chameleon_data.recipe import PACKED_CHAT_FORMATS
from chameleon_data.versions.shard_table import read_shards
from chameleon_data.versions.verify import verify_version
from tests.support.chat_builds import SOURCES, build, rows_of, stored, write_corpus
from tests.support.in_process import Ready
from tests.support.manifests import forge, list_files, with_files

LENGTH = 2048
WEIGHTS = dict(zip(SOURCES, (0.5, 0.3, 0.2), strict=True))


def packed(folder: Path, keep: bool = False, count: str = "trained", corpus: Any = None, **shards: Any) -> Ready:
    folder.mkdir(exist_ok=True)
    wanted = {"size": "40KB", "sequence_length": LENGTH, "formats": ["parquet"], **shards}
    tokens = {"tokenizer": "tokenizer.json", "template": "chat.jinja", "count": count}
    sources = without_columns(write_corpus(folder / "corpus", **(corpus or {})))
    return build(folder, sources, keep=keep, shards=wanted, tokens=tokens, mix={"budget": 60_000, "max_epochs": 9})


def without_columns(sources: dict[str, Any]) -> dict[str, Any]:
    return {name: {key: value for key, value in source.items() if key != "keep"} for name, source in sources.items()}


def encoded(made: Ready, text: str) -> tuple[list[int], list[int]]:
    ids, mask = made.job.counter.turn_ids(text)
    return ids.tolist(), mask.tolist()


def conversations_of(row: dict[str, Any]) -> list[tuple[list[int], list[int]]]:
    """Ids and mask of each conversation of a row; the last one has the padding behind it."""
    edges = [*row["doc_starts"], LENGTH]
    return [(row["input_ids"][a:b], row["loss_mask"][a:b]) for a, b in pairwise(edges)]


@pytest.mark.parametrize("count", ["trained", "all"])
def test_sequences_hold_whole_conversations_in_every_format_and_verify_proves_them(tmp_path, count):
    made = packed(tmp_path, count=count, formats=list(PACKED_CHAT_FORMATS), labels=True)
    manifest = made.manifest()
    assert verify_version(made.store, manifest).problems == ()
    rows = stored(made, "parquet")
    for format in PACKED_CHAT_FORMATS[1:]:
        assert stored(made, format) == rows, format
    whole = packed(tmp_path / "whole", count=count, sequence_length="none")
    known = {row["doc_id"]: row for row in stored(whole, "parquet")} if whole.write() else {}
    assert len(rows) < sum(d.available_rows for d in manifest.domains.values())
    for row in rows:
        assert row["labels"] == [i if m else -100 for i, m in zip(row["input_ids"], row["loss_mask"], strict=True)]
        counted = sum(row["loss_mask"]) if count == "trained" else row["tokens"]
        assert row["tokens"] == counted <= LENGTH
        assert row["doc_starts"][0] == 0
        assert row["doc_id"] in known


def test_shares_hold_to_one_sequence_in_the_whole_in_shards_and_after_every_row(tmp_path):
    made = packed(tmp_path)
    manifest, held = made.manifest(), dict.fromkeys(SOURCES, 0)
    phases = {s.domain.name: s.domain.phase for s in made.job.layouts[0].streams}
    quotas = {name: d.target_tokens for name, d in manifest.domains.items()}
    assert quotas == {name: int(60_000 * weight) for name, weight in WEIGHTS.items()}
    assert manifest.shard_count > 3
    for shard in read_shards(made.store, manifest):
        for name, quota in quotas.items():
            assert abs(Fraction(shard.domain_tokens.get(name, 0)) - Fraction(quota, manifest.shard_count)) <= LENGTH
    for row in stored(made, "parquet"):
        first = sum(conversations_of(row)[0][1])
        place = Fraction(held[row["domain"]] + (first * phases[row["domain"]] >> 32), quotas[row["domain"]])
        held[row["domain"]] += row["tokens"]
        assert all(abs(held[name] - place * quota) <= LENGTH for name, quota in quotas.items())


def test_every_conversation_stands_whole_and_as_often_as_its_domain_is_read(tmp_path):
    made = packed(tmp_path)
    manifest = made.manifest()
    written: dict[str, list[tuple[list[int], list[int]]]] = {name: [] for name in SOURCES}
    for row in stored(made, "parquet"):
        written[row["domain"]] += conversations_of(row)
    for name, texts in survey_texts(made).items():
        expected = [encoded(made, text) for text in texts]
        known = {tuple(ids): mask for ids, mask in expected}
        for ids, mask in written[name]:
            size = len(without_padding(made, ids))
            assert known[tuple(ids[:size])] == mask[:size]
            assert not any(mask[size:])
        assert len(written[name]) == pytest.approx(manifest.domains[name].epochs * len(expected), rel=0.2)


def without_padding(made: Ready, ids: list[int]) -> list[int]:
    """No conversation of these ends in end-of-text."""
    end = made.job.counter.end_of_text
    return ids[: next((n for n in range(len(ids), 0, -1) if ids[n - 1] != end), 0)]


def survey_texts(made: Ready) -> dict[str, list[str]]:
    from chameleon_data.corpus.fragments import list_fragments
    from chameleon_data.corpus.readers.blocks import read_blocks

    return {
        name: [
            text
            for fragment in list_fragments(name, source).fragments
            for block in read_blocks(fragment, source, 2**28)
            for text in block.text.to_pylist()
        ]
        for name, source in made.recipe.sources.items()
    }


def test_the_bytes_do_not_depend_on_how_the_corpus_lies(tmp_path):
    one = packed(tmp_path / "one", keep=True)
    other = packed(tmp_path / "other", corpus={"files": 3, "reverse": True, "parquet": True})
    assert one.write() == other.write()
    assert one.kept is not None


def test_a_conversation_that_is_too_long_fails_the_build_is_left_out_or_is_cut_and_is_counted(tmp_path):
    length = 700
    with pytest.raises(InputError, match=r"longer than a sequence.*(?s:.*)raise 'shards.sequence_length', or say"):
        packed(tmp_path / "fail", sequence_length=length)
    dropped = packed(tmp_path / "drop", sequence_length=length, overlong="drop")
    manifest = dropped.manifest()
    assert verify_version(dropped.store, manifest).problems == ()
    cut = packed(tmp_path / "cut", sequence_length=length, overlong="cut")
    texts, counter = survey_texts(cut), cut.job.counter
    long = {name: sum(len(counter._encode_turns(text)[0]) > length for text in of) for name, of in texts.items()}
    assert sum(long.values()) > 5
    assert manifest.filtered == {name: {DROP_RULE: number} for name, number in long.items() if number}
    assert {name: d.filtered for name, d in manifest.domains.items()} == long
    assert {name: d.rows_read for name, d in manifest.domains.items()} == {name: len(rows_of(name)) for name in SOURCES}
    manifest = cut.manifest()
    assert verify_version(cut.store, manifest).problems == ()
    assert manifest.cut == {name: number for name, number in long.items() if number}
    assert manifest.filtered == {}
    forged = forge(cut.store, manifest, lambda m: m["recipe"]["shards"].update(overlong="drop"))
    assert any("'cut' counts conversations" in problem for problem in verify_version(cut.store, forged).problems)


CHANGES = {
    "the number of tokens that its 'loss_mask' gives": lambda row: row["loss_mask"].__setitem__(0, 1 - row["loss_mask"][0]),
    "'labels' are not the ids": lambda row: row["labels"].__setitem__(0, 7),
    "places at which conversations begin": lambda row: row["doc_starts"].append(LENGTH),
    "another epoch than its place": lambda row: row.__setitem__("epoch", row["epoch"] + 1),
    "another number than 0 and 1": lambda row: row["loss_mask"].__setitem__(-1, 2),
}


@pytest.mark.parametrize("message", CHANGES)
def test_verify_sees_a_changed_row(tmp_path, message):
    made = packed(tmp_path, labels=True)
    manifest = made.manifest()
    files = list_files(made.store, manifest)
    path = Path(made.store.url) / files[1]["path"]
    table = pq.read_table(path)
    rows = table.to_pylist()
    CHANGES[message](rows[2])
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)
    files[1] |= {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
    problems = verify_version(made.store, with_files(made.store, manifest, files)).problems
    assert any(message in problem for problem in problems), problems
    assert any("'content'" in problem for problem in problems) == ("labels" not in message)


def test_verify_sees_conversations_that_trade_places_between_epochs(tmp_path):
    """The learned ids of whole epochs are compared: one conversation written in the place of another of its size."""
    made = packed(tmp_path)
    manifest = made.manifest()
    name = next(n for n, d in manifest.domains.items() if d.epochs >= 2)
    files = list_files(made.store, manifest)
    for file in files:
        path = Path(made.store.url) / file["path"]
        table = pq.read_table(path)
        rows = table.to_pylist()
        row = next((r for r in rows if r["domain"] == name and r["epoch"] == 1), None)
        if row is not None:
            row["input_ids"] = [(i + m) % 200 for i, m in zip(row["input_ids"], row["loss_mask"], strict=True)]
            pq.write_table(pa.Table.from_pylist(rows, table.schema), path)
            file |= {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
            break
    problems = verify_version(made.store, with_files(made.store, manifest, files)).problems
    assert any("epoch 1 is made of other ids than its first epoch" in problem for problem in problems), problems


def test_validation_and_dedup_of_packed_conversations(tmp_path):
    sources = without_columns(write_corpus(tmp_path / "corpus"))
    made = build(
        tmp_path, sources, input={"dedup": "exact"}, mix={"budget": 20_000, "max_epochs": 9, "validation": 0.2},
        shards={"size": "40KB", "sequence_length": LENGTH, "formats": ["parquet", "jsonl"]},
    )  # fmt: skip
    manifest = made.manifest()
    assert verify_version(made.store, manifest).problems == ()
    assert sum(d.copies_dropped for d in manifest.domains.values()) > 0
    assert sum(d.rows for d in manifest.validation.values()) > 0


@pytest.mark.parametrize(
    ("shards", "message"),
    [
        ({"formats": ["megatron"]}, "megatron holds no loss mask; these do: parquet"),
        ({"sequence_length": "none", "overlong": "cut"}, "'overlong' is of sequences"),
        ({"sequence_length": "none", "labels": True}, "'labels' is of sequences"),
    ],
)
def test_what_cannot_be_packed_is_refused(tmp_path, shards, message):
    with pytest.raises(InputError, match=message):
        packed(tmp_path, **shards)


def test_labels_of_texts_are_refused(tmp_path):
    tokens = {"tokenizer": "tokenizer.json"}
    with pytest.raises(InputError, match=r"shards.labels: is for conversations"):
        build(tmp_path, dict.fromkeys(SOURCES, "x"), tokens=tokens, shards={"sequence_length": 64, "labels": True})


def test_padding_is_what_does_not_fit(tmp_path):
    """Each sequence takes the next conversations as long as they fit, by the sizes that the tokenizer gives."""
    made = packed(tmp_path)
    for file in list_files(made.store, made.manifest()):
        rows = pq.read_table(Path(made.store.url) / file["path"]).to_pylist()
        for name in SOURCES:
            for row, after in pairwise([row for row in rows if row["domain"] == name]):
                following = without_padding(made, conversations_of(after)[0][0])
                assert len(without_padding(made, row["input_ids"])) + len(following) > LENGTH
