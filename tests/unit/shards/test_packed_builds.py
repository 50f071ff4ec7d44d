"""Whole builds of packed sequences, cut every L tokens or with documents whole: exact to one sequence everywhere."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import defaultdict
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from chameleon_data.corpus import kept_rows
from chameleon_data.corpus.tokens import TokenCounter, load_token_counter
from chameleon_data.errors import InputError
from chameleon_data.hashing import content_hashes, hex_digests
from chameleon_data.recipe import Tokens
from chameleon_data.recipe_file import load_recipe
from chameleon_data.shards.formats.registry import FORMATS
from chameleon_data.shards.plan_summary import summarise_plan
from chameleon_data.versions.checks.problems import ProblemList
from chameleon_data.versions.checks.split_facts import SplitFacts
from chameleon_data.versions.checks.token_order import TokenOrderCheck, TokensFound, conclude_tokens
from chameleon_data.versions.manifest import Manifest
from chameleon_data.versions.shard_table import read_shards
from chameleon_data.versions.verify import verify_version
from tests.support.corpus import documents, lay_out, write_recipe
from tests.support.in_process import Ready, ready
from tests.support.manifests import forge, list_files, list_paths, with_files
from tests.support.tokenizers import byte_tokenizer

LENGTH = 64


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Path:
    return byte_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def texts() -> dict[str, list[str]]:
    """Short documents, some of one token, one of many sequences, one that spells end-of-text."""
    found = {name: [t[: 7 + 97 * i % 400] for i, t in enumerate(texts)] for name, texts in documents().items()}
    found["legal"][3] = "say <|endoftext|> twice <|endoftext|>"
    found["book"][4] = documents()["book"][4][:3000]
    found["code"] += ["x", "y"]
    return found


def packed(folder: Path, tokenizer: Path, packing: str, files: int = 2, keep: bool = False, **sections: Any) -> Ready:
    sources = lay_out(folder / "corpus", texts(), ["jsonl"], files)
    wanted = {
        "tokens": {"tokenizer": str(tokenizer)}, "mix": {"budget": 60_000, "max_epochs": 8},
        "shards": {"size": "9KB", "sequence_length": LENGTH, "packing": packing, "formats": ["parquet", "mds"]}, **sections,
    }  # fmt: skip
    return ready(load_recipe(write_recipe(folder / "recipe.yaml", sources, **wanted)), keep=keep)


@pytest.mark.parametrize("packing", ["cross", "whole"])
@pytest.mark.parametrize("sections", [{}, {"input": {"dedup": "exact"}, "mix": {"budget": 30_000, "validation": 0.2}}], ids=str)
def test_kept_ids_give_the_bytes_that_a_second_reading_gives(tmp_path, tokenizer, packing, sections, monkeypatch):
    """The second reading makes the ids again; kept ones are made once, as the survey counts them."""
    monkeypatch.setattr(kept_rows, "KEPT_FILE_BYTES", 4_000)
    expected = packed(tmp_path, tokenizer, packing, **sections).write()
    shutil.rmtree(tmp_path / "out")
    made = packed(tmp_path, tokenizer, packing, keep=True, **sections)
    assert len(made.kept.parts) == len(made.parts) < made.kept.files
    with monkeypatch.context() as patch:
        patch.setattr(TokenCounter, "_encode", None)
        assert made.write() == expected


def test_ids_are_kept_of_the_texts_in_which_the_tokenizer_sees_something(tmp_path, monkeypatch):
    vocabulary = {symbol: i for i, symbol in enumerate("abcdefghijklmnopqrstuvwxyz ")}
    blind = Tokenizer(models.BPE(vocabulary, []))
    blind.add_special_tokens(["<|endoftext|>"])
    blind.save(str(tmp_path / "tokenizer.json"))
    seen = texts()
    monkeypatch.setattr(f"{__name__}.texts", lambda: {name: ["1234", *of, "567"] for name, of in seen.items()})
    expected = packed(tmp_path, tmp_path / "tokenizer.json", "cross", input={"max_bad": 0.1}).write()
    shutil.rmtree(tmp_path / "out")
    made = packed(tmp_path, tmp_path / "tokenizer.json", "cross", keep=True, input={"max_bad": 0.1})
    assert made.survey.reasons["book"] == {"no tokens": 2}
    assert made.write() == expected


@pytest.mark.parametrize("keep", [True, False])
def test_texts_of_which_the_tokenizer_makes_end_of_text_are_quarantined(tmp_path, tokenizer, keep):
    """With their file and row; the others are written."""
    tokens = {"tokenizer": str(tokenizer), "end_of_text": "a"}
    says = (
        r"rows cannot be used .*makes end-of-text .*first row \d+ of .*part-0.jsonl: .*(?s:.*)name another 'tokens.end_of_text'$"
    )
    with pytest.raises(InputError, match=says):
        packed(tmp_path, tokenizer, "cross", keep=keep, tokens=tokens)
    made = packed(tmp_path, tokenizer, "cross", keep=keep, tokens=tokens, input={"max_bad": 0.99})
    assert verify_version(made.store, made.manifest()).problems == ()


def table_of(made: Ready, manifest: Manifest, split: str = "train") -> pa.Table:
    files = list_paths(made.store, manifest, split=split)
    return pa.concat_tables([pq.read_table(Path(made.store.url) / f) for f in files])


@pytest.fixture(scope="module", params=["cross", "whole"])
def built(request, tmp_path_factory, tokenizer):
    made = packed(tmp_path_factory.mktemp("packed"), tokenizer, request.param)
    manifest = made.manifest()
    return request.param, made, manifest, table_of(made, manifest)


def domain_rows(table: pa.Table, name: str) -> list[dict[str, Any]]:
    return [row for row in table.to_pylist() if row["domain"] == name]


def test_it_verifies_and_rows_are_of_one_length(built):
    _, made, manifest, table = built
    assert verify_version(made.store, manifest).problems == ()
    assert table.schema.field("input_ids").type.value_type == pa.uint16()
    assert {len(row) for row in table["input_ids"].to_pylist()} == {LENGTH}
    assert manifest.shard_count > 8


def test_a_plan_says_how_many_sequences_whole_documents_may_need(built):
    packing, made, manifest, table = built
    plan = made.job.layouts[0].plan
    warnings = summarise_plan([made.job.layouts], 2**40).warnings
    assert ["twice as many" in warning for warning in warnings] == ([True] if packing == "whole" else [])
    fewest = sum(d.tokens for d in manifest.domains.values()) / LENGTH
    assert fewest <= len(table) <= (1 if packing == "cross" else 2) * fewest + plan.shards * len(plan.domains)


def test_the_ids_without_padding_are_the_documents_in_whole_epochs(built, tokenizer):
    """Against the tokenizer itself, document by document."""
    _, made, manifest, table = built
    counter = load_token_counter(made.recipe.tokens)
    end = counter.end_of_text
    library = Tokenizer.from_file(str(tokenizer))
    library.encode_special_tokens = True
    for name, of in texts().items():
        expected = sorted(library.encode(t, add_special_tokens=False).ids for t in of)
        rows = domain_rows(table, name)
        flat = [i for row in rows for i in row["input_ids"][: row["tokens"]]]
        assert all(i == end for row in rows for i in row["input_ids"][row["tokens"] :])
        found: list[list[int]] = [[]]
        for i in flat:
            if i == end:
                found.append([])
            else:
                found[-1].append(i)
        whole = len(found) // len(of)
        for epoch in range(whole):
            if len(found) > (epoch + 1) * len(of):
                assert sorted(found[epoch * len(of) : (epoch + 1) * len(of)]) == expected
        assert found[-1] in [ids[: len(found[-1])] for ids in expected], "the last one is cut, not changed"
        assert manifest.domains[name].epochs == pytest.approx(len(flat) / sum(len(ids) + 1 for ids in expected))


def test_shares_hold_to_one_sequence_in_the_whole_in_shards_and_after_every_row(built):
    packing, made, manifest, table = built
    quotas = {name: d.target_tokens for name, d in manifest.domains.items()}
    shards = manifest.shard_count
    for f in read_shards(made.store, manifest):
        for name, quota in quotas.items():
            assert abs(Fraction(f.domain_tokens.get(name, 0)) - Fraction(quota, shards)) <= LENGTH
    so_far: defaultdict[str, int] = defaultdict(int)
    phase = {s.domain.name: s.domain.phase for s in made.job.layouts[0].streams}
    end = made.job.counter.end_of_text
    for domain, ids, tokens in zip(*(table[c].to_pylist() for c in ("domain", "input_ids", "tokens")), strict=True):
        first = LENGTH if packing == "cross" else (ids.index(end) + 1 if end in ids else LENGTH)
        x = Fraction(so_far[domain] + (first * phase[domain] >> 32), quotas[domain])
        so_far[domain] += tokens
        for name, quota in quotas.items():
            assert abs(so_far[name] - x * quota) <= LENGTH
    for name, quota in quotas.items():
        assert abs(so_far[name] - quota) <= LENGTH
        if packing == "cross":
            assert so_far[name] == quota
            assert quota == int(manifest.budget * manifest.domains[name].weight) // LENGTH * LENGTH


def test_whole_documents_are_not_cut_where_they_fit(built):
    packing, made, _, table = built
    end = made.job.counter.end_of_text
    for name in texts() if packing == "whole" else ():
        rows = domain_rows(table, name)
        for before, row in pairwise(rows):
            if before["input_ids"][before["tokens"] - 1] != end:  # goes on in the next sequence: then it is longer than one
                last_end = max((i for i, x in enumerate(before["input_ids"][: before["tokens"]]) if x == end), default=-1)
                rest = row["input_ids"].index(end) + 1 if end in row["input_ids"] else LENGTH
                assert before["tokens"] - 1 - last_end + rest > LENGTH


def test_no_layout_of_the_corpus_shows(built, tmp_path, tokenizer):
    packing, _, manifest, _ = built
    assert packed(tmp_path, tokenizer, packing, files=5).manifest().digest == manifest.digest


def test_validation_and_dedup_with_sequences(tmp_path, tokenizer):
    made = packed(
        tmp_path, tokenizer, "cross", input={"dedup": "exact"}, mix={"budget": 30_000, "max_epochs": 8, "validation": 0.3}
    )
    manifest = made.manifest()
    assert verify_version(made.store, manifest).problems == ()
    held = table_of(made, manifest, "validation")
    assert held.num_rows == sum(d.rows for d in manifest.validation.values())
    assert not set(held["doc_id"].to_pylist()) & set(table_of(made, manifest)["doc_id"].to_pylist())


def test_a_document_that_spans_many_shards(tmp_path, tokenizer):
    """More shards than documents: one of 20,000 tokens in a domain of its own."""
    corpus = {"long": ["word " * 4000], "a": ["text " * 30] * 50, "b": [f"some {i}" for i in range(300)]}
    sources = lay_out(tmp_path / "corpus", corpus, ["jsonl"], 1)
    recipe = write_recipe(
        tmp_path / "recipe.yaml", sources, tokens={"tokenizer": str(tokenizer)}, mix={"budget": 40_000, "max_epochs": 20},
        shards={"size": "3KB", "sequence_length": LENGTH, "formats": ["parquet"]},
    )  # fmt: skip
    made = ready(load_recipe(recipe), {"long": "0.5", "a": "0.3", "b": "0.2"})
    manifest = made.manifest()
    assert manifest.shard_count > 20
    assert verify_version(made.store, manifest).problems == ()


@pytest.mark.parametrize("packing", ["cross", "whole"])
def test_a_copy_that_is_packed_across_shards_is_counted_once(tmp_path, tokenizer, packing):
    corpus = {"a": ["one text " * 12] * 30 + ["another"], "b": ["some " * 40 + str(i) for i in range(30)], "c": ["x"] * 9}
    sources = lay_out(tmp_path / "corpus", corpus, ["jsonl"], 2)
    recipe = write_recipe(
        tmp_path / "recipe.yaml", sources, tokens={"tokenizer": str(tokenizer)}, mix={"budget": 20_000, "exhausted": "repeat"},
        shards={"size": "500B", "sequence_length": LENGTH, "packing": packing, "formats": ["parquet"]},
    )  # fmt: skip
    manifest = ready(load_recipe(recipe), {"a": "0.5", "b": "0.4", "c": "0.1"}).manifest()
    assert manifest.shard_count > 50
    counted = {name: (d.copies_written, d.most_copies) for name, d in manifest.domains.items()}
    assert counted == {"a": (29, 30), "b": (0, 1), "c": (8, 9)}


def test_many_domains_of_one_column_are_packed_each_by_itself(tmp_path, tokenizer):
    """Most shards hold nothing of most domains."""
    names = [f"d{i}" for i in range(120)]
    rows = [{"text": f"{name} says {n} " * (1 + n), "of": name} for n in range(4) for name in names]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = tmp_path / "recipe.yaml"
    (tmp_path / "weights.json").write_text("{}")
    recipe.write_text(json.dumps({
        "name": "many", "out": str(tmp_path / "out"),
        "sources": {"all": {"path": str(tmp_path / "corpus.jsonl"), "domain": "of"}},
        "tokens": {"tokenizer": str(tokenizer)}, "mix": {"budget": 24_000, "exhausted": "repeat"},
        "weights": {"from": str(tmp_path / "weights.json")},
        "shards": {"size": "2KB", "sequence_length": LENGTH, "formats": ["parquet"]},
    }))  # fmt: skip
    made = ready(load_recipe(recipe), {**dict.fromkeys(names, "0.008"), names[0]: "0.048"})
    manifest = made.manifest()
    assert manifest.shard_count > 10
    assert verify_version(made.store, manifest).problems == ()


def follow(built: Any, domain: str, change: Any = lambda ids: ids, starts: Any = lambda starts: starts) -> list[str]:
    """What the check says of a domain's sequences, 13 a shard, whose `doc_id` or `doc_starts` are changed."""
    _, made, manifest, table = built
    rows = table.filter(pa.compute.equal(table["domain"], domain))
    rows = rows.set_column(3, "doc_id", pa.array(change(rows["doc_id"].to_pylist())))
    facts, problems, found, held = SplitFacts("train", manifest), ProblemList(), TokensFound(), 0
    index = facts.names.index(domain)
    for start in range(0, rows.num_rows, 13):
        shard = rows.slice(start, 13)
        ids, tokens, epoch = (np.array(shard[c].to_pylist(), np.int64) for c in ("input_ids", "tokens", "epoch"))
        halves = np.array([divmod(int(h, 16), 2**64) for h in shard["doc_id"].to_pylist()], np.uint64)
        said = starts(shard["doc_starts"].to_pylist())
        begun, begins = np.array([len(each) for each in said]), np.array([at for each in said for at in each], int)
        check = TokenOrderCheck(facts, index, made.job.counter.end_of_text, problems)  # every shard by itself
        check.add(start // 13, held, ids, tokens, epoch, halves[:, 0], halves[:, 1], begun, begins)
        found.join(facts, index, check.found, problems)
        held += int(tokens.sum())
    conclude_tokens(facts, index, found, problems)
    return problems.sentences()


@pytest.mark.parametrize("domain", ["legal", "book", "code"])
def test_documents_that_sequences_name_follow_each_other_as_hashes_decide(built, domain):
    assert follow(built, domain) == []
    assert any("not in the order of their hashes" in p for p in follow(built, domain, lambda ids: ids[::-1]))
    one = follow(built, domain, lambda ids: [f"{int(i, 16) ^ (n % 2):032x}" for n, i in enumerate(ids)])
    assert {p.partition("name ")[2] for p in one if "more problems like these" not in p} == {"one document by two hashes"}


def test_rows_say_where_documents_begin_and_which_the_first_token_is_of(built, tokenizer):
    """Against the tokenizer: cut at `doc_starts`, rows are documents from their beginning, and the rest of the one before."""
    _, made, manifest, table = built
    library = Tokenizer.from_file(str(tokenizer))
    library.encode_special_tokens = True
    end = made.job.counter.end_of_text
    for name, of in texts().items():
        hashes = hex_digests(*content_hashes(pa.array(of, pa.large_string()))).to_pylist()
        known = {h: [*library.encode(t, add_special_tokens=False).ids, end] for h, t in zip(hashes, of, strict=True)}
        going_on: list[int] = []
        for row in domain_rows(table, name):
            ids, starts = row["input_ids"][: row["tokens"]], row["doc_starts"]
            head, *begun = np.split(ids, starts)
            if 0 in starts:
                assert going_on in ([], *known.values())
                first = begun[0].tolist()
            else:
                first = going_on = going_on + head.tolist()
            assert known[row["doc_id"]][: len(first)] == first
            assert all(document[-1] == end for document in [head, *begun][:-1] if len(document))
            going_on = begun[-1].tolist() if begun else going_on
            assert row["domain_id"] == sorted(texts()).index(name) == manifest.domain_ids[name]


@pytest.mark.parametrize("change", [
    lambda starts: [[at for at in of if at] for of in starts], lambda starts: [[0, *(at for at in of if at)] for of in starts],
    lambda starts: [of[:-1] for of in starts], lambda starts: [[*of, LENGTH] for of in starts],
    lambda starts: [[*of, *of[:1]] for of in starts], lambda starts: [[at + 1 for at in of] for of in starts],
    lambda starts: [starts[0] + [LENGTH + at for at in starts[1]], *([LENGTH + at for at in of] for of in starts[2:]), []],
], ids=["no 0", "always 0", "one less", "one behind", "one twice", "one later", "said by the row before"])  # fmt: skip
def test_starts_where_no_document_begins_are_seen(built, change):
    assert any("'doc_starts' of domain 'legal' are not where" in p for p in follow(built, "legal", starts=change))


def test_verify_sees_another_number_of_epochs(built):
    _, made, manifest, _ = built
    forged = forge(made.store, manifest, lambda plain: plain["domains"]["book"].update(epochs=77.0))
    assert any("in 77 epochs" in p for p in verify_version(made.store, forged).problems)


def test_ids_are_as_small_as_the_vocabulary_allows_and_counts_agree(tokenizer):
    counter = load_token_counter(Tokens(tokenizer=str(tokenizer)))
    assert counter.dtype == np.uint16
    array = pa.array([*texts()["legal"], "", "é" * 10, "long " * 60_000], pa.large_string())
    ids = counter.ids(array)
    sizes = np.array([len(x.as_py()) // 2 for x in ids])
    assert (sizes == counter.count(array) + 1).all()


def test_a_tokenizer_without_an_end_and_a_wrong_one_are_refused(tmp_path, tokenizer):
    with pytest.raises(InputError, match=r"tokens.end_of_text: '<nope>' is no token of"):
        load_token_counter(Tokens(tokenizer=str(tokenizer), end_of_text="<nope>"))
    library = Tokenizer.from_file(str(tokenizer))
    bare = Tokenizer(models.BPE(library.get_vocab(with_added_tokens=False), []))
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.save(str(tmp_path / "bare.json"))
    with pytest.raises(InputError, match="none of the usual tokens"):
        load_token_counter(Tokens(tokenizer=str(tmp_path / "bare.json"))).ids(pa.array(["a"], pa.large_string()))
    counter = load_token_counter(Tokens(tokenizer=str(tokenizer), end_of_text="a"))
    ids = np.frombuffer(counter.ids(pa.array(["aa"], pa.large_string())).buffers()[2], counter.dtype)
    with pytest.raises(InputError, match="also makes it of what a text says"):
        counter.check_ends(ids, 1)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda ids: ids[::-1], "index.json|another epoch|holds other rows|documents, not its|other ids|'content'"),
        (lambda ids: np.where(np.arange(ids.size).reshape(ids.shape) == 70, 5, ids), "'content'"),
    ],
)
def test_verify_sees_changed_ids(tmp_path, tokenizer, damage, message):
    made = packed(tmp_path, tokenizer, "cross", shards={"size": "9KB", "sequence_length": LENGTH, "formats": ["parquet"]})
    manifest = made.manifest()
    files = list_files(made.store, manifest)
    path = Path(made.store.url) / files[1]["path"]
    table = pq.read_table(path)
    ids = damage(np.array(table["input_ids"].to_pylist(), np.uint16))
    column = pa.FixedSizeListArray.from_arrays(pa.array(ids.reshape(-1)), LENGTH)
    pq.write_table(table.set_column(0, table.schema.field(0), column), path)
    files[1] |= {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
    problems = verify_version(made.store, with_files(made.store, manifest, files)).problems
    assert any(pl.Series([p]).str.contains(message)[0] for p in problems), problems


def test_sequences_need_a_tokenizer(tmp_path):
    sources = lay_out(tmp_path / "corpus", documents(), ["jsonl"], 1)
    with pytest.raises(InputError, match=r"shards.sequence_length: sequences are of token ids; name what makes them, 'tokens: "):
        load_recipe(write_recipe(tmp_path / "recipe.yaml", sources, shards={"sequence_length": 64}))


@pytest.mark.parametrize(
    ("formats", "shards"),
    [
        (list(FORMATS), {}),
        (list(FORMATS), {"compression": "none"}),
        (list(FORMATS), {"sequence_length": LENGTH}),
        (list(FORMATS), {"sequence_length": LENGTH, "packing": "whole"}),
        (["megatron"], {}),
        (["megatron"], {"sequence_length": LENGTH}),
    ],
    ids=["text", "uncompressed", "cross", "whole", "ids of documents alone", "ids of sequences alone"],
)
def test_every_format_from_one_plan_in_one_pass(tmp_path, tokenizer, formats, shards):
    made = packed(tmp_path, tokenizer, "cross", shards={"size": "20KB", "formats": formats, "lineage": True, **shards},
                  mix={"budget": 60_000, "max_epochs": 8, "validation": 0.25})  # fmt: skip
    manifest = made.manifest()
    assert verify_version(made.store, manifest).problems == ()
    assert manifest.formats.keys() == set(formats)
    lineage = pl.read_parquet(Path(made.store.url) / manifest.build / "lineage/train-00000.parquet")
    assert len(lineage) == next(read_shards(made.store, manifest)).rows
    if "sequence_length" not in shards and "parquet" in formats:  # the row named is the text that stands in the shard
        rows = table_of(made, manifest).slice(0, len(lineage))
        for text, source, row in zip(rows["text"].to_pylist(), lineage["source"], lineage["row"], strict=True):
            assert json.loads(Path(source).read_text().split("\n")[row])["text"] == text
