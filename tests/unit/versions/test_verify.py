"""`verify` against forgers who mend every hash: whatever the bytes can still show, it must show.

The build is made in process, by the functions that the passes call; one corpus for all tests.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from chameleon_data.hashing import content_hashes, hex_digests
from chameleon_data.plan.plan import TRAIN
from chameleon_data.recipe_file import load_recipe
from chameleon_data.shards.formats import mds, parquet
from chameleon_data.shards.rows import TEXT_SCHEMA, content_hash
from chameleon_data.store.store import Store
from chameleon_data.versions.checks.problems import ProblemList
from chameleon_data.versions.checks.split_facts import SplitFacts
from chameleon_data.versions.checks.text_order import Cuts, DocumentRows, TextFound, TextOrderCheck, conclude_texts, find_cuts
from chameleon_data.versions.manifest import Manifest
from chameleon_data.versions.verify import verify_version
from tests.support.corpus import documents, lay_out, write_recipe
from tests.support.in_process import ready
from tests.support.manifests import digest_contents, digest_files, forge, list_files, list_paths, with_files

Out = tuple[Path, Manifest]
Forgery = Callable[[dict[str, Any]], object]
"""Changes the JSON of a manifest."""


def build_in_process(folder: Path, **sections: Any) -> Out:
    recipe = load_recipe(write_recipe(folder / "recipe.yaml", lay_out(folder / "corpus", documents(), ["jsonl"], 2), **sections))
    return folder / "out", ready(recipe).manifest()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Out:
    return build_in_process(tmp_path_factory.mktemp("verify"))


@pytest.fixture
def forged(built: Out, tmp_path: Path) -> Out:
    """A copy, to be forged."""
    out, manifest = built
    shutil.copytree(out, tmp_path / "out")
    return tmp_path / "out", manifest


def problems(out: Path, manifest: Manifest) -> tuple[str, ...]:
    return verify_version(Store(str(out)), manifest).problems


def assert_found(out: Path, manifest: Manifest, message: str) -> None:
    found = problems(out, manifest)
    assert any(re.search(message, p) for p in found), found


def rewrite(out: Path, manifest: Manifest, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Manifest:
    """Change the rows (columns of SCHEMA, and `shard`) and mend what a forger can: files, index, hashes, counts and digests."""
    store = Store(str(out))
    files = {(f["format"], f["shard"]): f for f in list_files(store, manifest)}
    count, tables, entries = manifest.shard_count, [], []
    before = [
        pl.DataFrame(parquet.decode({"": (out / files["parquet", n]["path"]).read_bytes()}, "")[0]).with_columns(shard=n)
        for n in range(count)
    ]
    rows = change(pl.concat(before))
    for n in range(count):
        mine = rows.filter(pl.col("shard") == n).drop("shard")
        hi, lo = content_hashes(mine["text"].to_arrow().cast(pa.large_string())) if len(mine) else ([], [])
        table = mine.to_arrow().cast(TEXT_SCHEMA)
        if len(mine):
            table = table.set_column(3, "doc_id", hex_digests(hi, lo))
        tables.append(table)
        entries.append(mds.encode(table, n, count, TRAIN, 3).entry)
        by_domain = mine.group_by("domain").agg(pl.len(), pl.col("tokens").cast(pl.Int64).sum())
        for format, encoder in (("parquet", parquet), ("mds", mds)):
            (data,) = encoder.encode(table, n, count, TRAIN, 3).files.values()
            (out / files[format, n]["path"]).write_bytes(data)
            files[format, n] |= {
                "rows": len(mine), "tokens": int(mine["tokens"].cast(pl.Int64).sum()), "bytes": data.size,
                "sha256": hashlib.sha256(data).hexdigest(), "content": content_hash(table),
                "domain_rows": dict(sorted(by_domain.select("domain", "len").iter_rows())),
                "domain_tokens": dict(by_domain.select("domain", "tokens").iter_rows()),
            }  # fmt: skip
    (out / manifest.build / "mds/index.json").write_bytes(mds.index(TRAIN, entries)["index.json"])
    return replace(
        with_files(store, manifest, list(files.values())),
        digest=digest_files({f["path"].removeprefix(manifest.build + "/"): f["sha256"] for f in files.values()}),
        content_digest=digest_contents([content_hash(table) for table in tables]),
    )


# What is true


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"seed": 5, "mix": {"budget": 100_000, "exhausted": "repeat"}},
        {"mix": {"budget": 30_000}},
        {"seed": 3, "mix": {"budget": 3_000_000, "exhausted": "repeat"}, "shards": {"size": "200KB", "formats": ["mds"]}},
    ],
    ids=["several epochs", "another seed", "less than an epoch", "many epochs"],
)
def test_a_true_build_passes(tmp_path: Path, sections: dict[str, Any]) -> None:
    assert problems(*build_in_process(tmp_path, **sections)) == ()


def test_progress_is_told_in_bytes_from_none_to_all(built: Out) -> None:
    out, manifest = built
    told: list[tuple[int, int]] = []
    verify_version(Store(str(out)), manifest, lambda done, total: told.append((done, total)))
    total = sum(sums.bytes for sums in manifest.formats.values())
    assert told[0] == (0, total)
    assert told[-1] == (total, total)
    assert told == sorted(told)


def test_what_the_forger_mends_is_all_that_the_rewriting_changes(forged: Out) -> None:
    out, manifest = forged
    assert rewrite(out, manifest, lambda rows: rows) == manifest
    assert problems(out, manifest) == ()


# The index of MDS


@pytest.mark.parametrize("key", ["column_names", "column_encodings", "column_sizes", "compression", "hashes", "size_limit"])
def test_an_index_that_would_decode_other_columns(forged: Out, key: str) -> None:
    out, manifest = forged
    path = out / manifest.build / "mds/index.json"
    index = json.loads(path.read_text())
    index["shards"][1][key] = index["shards"][1][key][::-1] if isinstance(index["shards"][1][key], list) else 7
    path.write_text(json.dumps(index))
    assert_found(out, manifest, r"index\.json: does not say what the bytes")


@pytest.mark.parametrize("change", [lambda shards: shards[0].update(extra=None), lambda shards: shards.reverse(),
                                    lambda shards: shards.append(shards[0]), lambda shards: shards.pop()])  # fmt: skip
def test_an_index_with_a_key_too_many_or_other_shards(forged: Out, change: Callable[[Any], Any]) -> None:
    out, manifest = forged
    path = out / manifest.build / "mds/index.json"
    index = json.loads(path.read_text())
    change(index["shards"])
    path.write_text(json.dumps(index, sort_keys=True))
    assert_found(out, manifest, r"index\.json: does not say what the bytes")


# Numbers of domains


def test_a_row_with_the_number_of_another_domain(forged: Out) -> None:
    out, manifest = forged
    other = pl.when((pl.col("shard") == 1) & (pl.col("domain") == "legal")).then(0).otherwise("domain_id")
    manifest = rewrite(out, manifest, lambda rows: rows.with_columns(domain_id=other.cast(pl.UInt32)))
    assert manifest.domain_ids["legal"] > 0
    assert_found(out, manifest, r"train-00001-of.*: a row's 'domain_id' is not the number")


@pytest.mark.parametrize("body", [b'{"book":0,"code":2,"legal":1}', b'{"book": 0, "code": 1, "legal": 2}', None])
def test_the_numbers_beside_the_shards_are_those_of_the_manifest(forged: Out, body: bytes | None) -> None:
    out, manifest = forged
    file = out / manifest.build / "domain_ids.json"
    assert json.loads(file.read_bytes()) == manifest.domain_ids == {"book": 0, "code": 1, "legal": 2}
    if body is None:
        file.unlink()
    else:
        file.write_bytes(body)
    assert_found(out, manifest, r"domain_ids\.json: (missing|does not say what the manifest says)")


# Order and epochs


def test_a_domain_that_is_crowded_into_a_shard(forged: Out) -> None:
    """Its documents are all there, in their order, but the first shard has those of the second too."""
    crowded = pl.when((pl.col("domain") == "legal") & (pl.col("shard") == 1)).then(0).otherwise(pl.col("shard"))
    manifest = rewrite(*forged, lambda rows: rows.with_columns(shard=crowded))
    assert_found(forged[0], manifest, r"domain 'legal': .* off its share at shard [01], more than its bound")


def test_domains_that_follow_one_another_within_a_shard(forged: Out) -> None:
    """Each shard has what it should, but a trainer that stops within it does not."""
    manifest = rewrite(*forged, lambda rows: rows.sort("shard", "domain", maintain_order=True))
    assert_found(forged[0], manifest, r"off its share at row [\d,]+ of shard \d+, more than its bound")
    assert not any("off its share at shard" in problem for problem in problems(forged[0], manifest))


@pytest.mark.parametrize("domain", ["legal", "code", "book"])
def test_any_two_neighbours_of_a_domain_that_change_places(built: Out, domain: str) -> None:
    """All swaps of one domain's neighbours in its whole epochs, on the stream alone: some share a bucket, some a text."""
    out, manifest = built
    rows = pl.concat([pl.read_parquet(out / path) for path in list_paths(Store(str(out)), manifest)])
    mine = rows.filter(pl.col("domain") == domain)
    whole = len(mine.filter(pl.col("epoch") < mine["epoch"].max()))
    assert stream_problems(mine, manifest, domain) == []
    for i in range(whole - 1):
        same = mine["doc_id"][i] == mine["doc_id"][i + 1] and mine["epoch"][i] == mine["epoch"][i + 1]
        order = np.arange(len(mine))
        order[[i, i + 1]] = i + 1, i
        assert bool(stream_problems(mine[order], manifest, domain)) != same


def stream_problems(mine: pl.DataFrame, manifest: Manifest, domain: str, rows_a_shard: int = 13) -> list[str]:
    facts = SplitFacts(TRAIN, replace(manifest, domains={domain: manifest.domains[domain]}))
    parts = list(mine.iter_slices(rows_a_shard))
    problems, cuts, found = ProblemList(), Cuts.unknown(1), TextFound.nothing(1)
    find_cuts(facts, documents_of(parts[-1]), cuts)
    for number, part in enumerate(parts):
        check = TextOrderCheck(facts, cuts, problems)  # every shard by itself
        check.add(number, documents_of(part), part["text"].str.len_bytes().to_numpy().astype(np.int64))
        found.join(facts, check.found, problems)
    conclude_texts(facts, cuts, found, problems)
    return problems.sentences()


def documents_of(part: pl.DataFrame) -> DocumentRows:
    hi, lo = content_hashes(part["text"].to_arrow().cast(pa.large_string()))
    epoch, tokens = (part[c].to_numpy().astype(np.int64) for c in ("epoch", "tokens"))
    return DocumentRows(np.zeros(len(part), np.int64), hi, lo, epoch, tokens)


@pytest.mark.parametrize("rows_a_shard", [1, 2, 1000])
def test_where_shards_end_does_not_matter_to_the_order(built: Out, rows_a_shard: int) -> None:
    out, manifest = built
    rows = pl.concat([pl.read_parquet(out / path) for path in list_paths(Store(str(out)), manifest)])
    for domain in manifest.domains:
        assert stream_problems(rows.filter(pl.col("domain") == domain), manifest, domain, rows_a_shard) == []


def test_epoch_numbers_that_are_reversed(forged: Out) -> None:
    out, manifest = forged
    manifest = rewrite(out, manifest, lambda rows: rows.with_columns(epoch=pl.col("epoch").reverse().over("domain", "doc_id")))
    assert_found(out, manifest, "not in the order of their hashes")


def test_other_texts_of_the_same_lengths_in_the_last_epoch(forged: Out) -> None:
    out, manifest = forged

    def invent(rows: pl.DataFrame) -> pl.DataFrame:
        last = (pl.col("domain") == "code") & (pl.col("epoch") == rows.filter(pl.col("domain") == "code")["epoch"].max())
        return rows.with_columns(text=pl.when(last).then(pl.lit("x").repeat_by("tokens").list.join("")).otherwise("text"))

    manifest = rewrite(out, manifest, invent)
    assert_found(out, manifest, "not in the order of their hashes|holds other documents than its first epoch")


def test_a_document_that_stands_for_another_in_an_epoch_that_the_quota_cuts(forged: Out) -> None:
    """The whole proof, whose tasks are told where the last epochs end: nothing else sees it by the documents alone."""
    out, manifest = forged

    def stand_in(rows: pl.DataFrame) -> pl.DataFrame:
        mine, texts = rows.with_row_index().filter(pl.col("domain") == "legal"), rows["text"].to_list()
        first, second, *_ = mine.filter(pl.col("epoch") == mine["epoch"].max())["index"].to_list()
        texts[first] = texts[second]
        return rows.with_columns(text=pl.Series(texts))

    assert_found(out, rewrite(out, manifest, stand_in), "epoch 2 of domain 'legal' holds other documents than its first epoch")


def test_one_text_invented_in_the_order_of_the_hashes(tmp_path: Path) -> None:
    """Only that the bucket's documents are those of the first epoch can tell."""
    out, manifest = build_in_process(tmp_path, mix={"budget": 500_000, "exhausted": "repeat"})
    rows = pl.concat([pl.read_parquet(out / path) for path in list_paths(Store(str(out)), manifest)])
    mine = rows.filter(pl.col("domain") == "legal")
    first = len(mine.filter(pl.col("epoch") < mine["epoch"].max()))
    for n in range(100_000):
        text = f"{n:0{mine['tokens'][first]}}"
        invented = mine.with_columns(text=pl.when(pl.int_range(pl.len()) == first).then(pl.lit(text)).otherwise("text"))
        found = stream_problems(invented, manifest, "legal")
        assert found
        if not any("order of their hashes" in p for p in found):
            assert any("other documents than its first epoch" in p for p in found)
            return
    raise AssertionError("no such text")


# Counts


def test_a_domain_of_which_the_last_epoch_is_dropped_behind_a_larger_bound(forged: Out) -> None:
    out, manifest = forged
    manifest = forge(
        Store(str(out)), manifest, lambda plain: [d.update(largest_document=10**9) for d in plain["domains"].values()]
    )
    last = pl.col("epoch") == pl.col("epoch").max().over("domain")
    manifest = rewrite(out, manifest, lambda rows: rows.filter(~(last & (pl.col("domain") == "legal"))))
    assert_found(out, manifest, "'legal': its largest document has")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["domains"]["book"].update(weight=0.9), "'book': 'weight' is 0.9, and 0.3 in its stages"),
        (lambda m: m["stages"][0]["domains"]["book"].update(weight=0.9), "'book': its weight 0.9 is 360,000 bytes"),
        (lambda m: m.update(budget=1), "budget of 1 bytes is not the recipe's"),
        (lambda m: m["recipe"]["mix"].update(budget=1), "is not the recipe's"),
        (lambda m: m.update(plan_digest="0" * 64), "not those of 'plan_digest'"),
        (lambda m: m["provenance"]["writer"].update(compression="none"), "not those of 'plan_digest'"),
        (lambda m: m["recipe"]["shards"].update(level=9), "level of the writer is not the recipe's"),
        (lambda m: m["domains"]["book"].update(available_bytes=1), "not those of 'plan_digest'|documents once"),
        (lambda m: m["domains"]["book"].update(largest_document=8000), "'book': its largest document has 9,"),
        (lambda m: m["domains"]["book"].update(largest_document=0), "'book': its largest document has 9,"),
        (lambda m: m["domains"]["book"].update(target_tokens=0), "'book': 'target_tokens' is 0, and 120,000 in its stages"),
        (lambda m: m["stages"][0]["domains"]["book"].update(target_tokens=0), "'book': its weight 0.3 is 120,000 bytes"),
        (lambda m: m.update(unit="gpt2"), "is not the recipe's"),
        (lambda m: m["domains"]["book"].update(tokens=5), "'book': .* says .* 5 "),
        (lambda m: m["domains"]["book"].update(rows=5), "'book': .* says 5,"),
        (lambda m: m["domains"]["book"].update(epochs=77.0), "'book': .* in 77 epochs"),
        (lambda m: m["domains"]["legal"].update(copies_written=5), "'legal': 14 rows .* are copies, at most 3 .* says 5 and 3"),
        (lambda m: m["domains"]["legal"].update(most_copies=2), "'legal': 14 rows .* are copies, at most 3 .* says 14 and 2"),
        (lambda m: m["domains"]["book"].update(rows_written_once=1, rows_not_selected=24), "'book': .* and 1 in"),
        (lambda m: [m["domains"]["book"].update({k: 30}) for k in ("rows_read", "rows_not_selected")], "are not its 25"),
        (lambda m: m["quarantine"].update(ghost={"no text": 10**6}), "names 'ghost'"),
        (lambda m: [f.update(bytes=1) for f in m["shards"]], "bytes where the manifest says 1"),
        (lambda m: m["shards"][7].update(rows=1), "train-00007-of-00008.parquet: holds other counts"),
        (lambda m: m["shards"][7].update(rows=1), "shard.00007.mds.zstd: holds other counts"),
        (lambda m: m["formats"]["mds"].update(bytes=1), "of other sizes, than 'formats' says"),
        (lambda m: m["shards"][2].update(content="0" * 64), "train-00002-of-.* are not those of its 'content'"),
        (lambda m: m["shards"][2].update(content="0" * 64), "not those of 'content_digest'"),
        (lambda m: m.update(shards=[f for f in m["shards"] if f["format"] == "mds"]), "in the recipe's formats"),
        (lambda m: m["recipe"]["shards"].update(formats=["mds"]), "in the recipe's formats"),
        (lambda m: m["domain_ids"].update(book=1, code=0), "number the domains of all splits"),
        (lambda m: [m["shards"].pop(n) for n in (11, 3)], "each once and in order"),
        (lambda m: m["shards"].append({**m["shards"][3], "shard": 8}), "each once and in order"),
    ],
)  # fmt: skip
def test_a_manifest_that_says_another_thing(built: Out, change: Forgery, message: str) -> None:
    out, manifest = built
    assert_found(out, forge(Store(str(out)), manifest, change), message)


@pytest.mark.parametrize("number", [0, 3])
def test_a_shard_without_rows_is_a_problem(forged: Out, number: int) -> None:
    out, manifest = forged
    manifest = rewrite(out, manifest, lambda rows: rows.filter(pl.col("shard") != number))
    assert_found(out, manifest, f"train-0000{number}-of-00008.parquet: holds no row")


# Buckets


@pytest.fixture(scope="module")
def legal(tmp_path_factory: pytest.TempPathFactory) -> tuple[pl.DataFrame, Manifest]:
    """Two and a half epochs of one domain, with the bucket of each row (the top six bits of its hash)."""
    out, manifest = build_in_process(tmp_path_factory.mktemp("legal"), mix={"budget": 500_000, "exhausted": "repeat"})
    rows = pl.concat([pl.read_parquet(out / path) for path in list_paths(Store(str(out)), manifest)])
    bucket = pl.col("doc_id").str.slice(0, 2).str.to_integer(base=16) // 4
    return rows.filter(pl.col("domain") == "legal").with_columns(bucket=bucket), manifest


@pytest.mark.parametrize("rows_a_shard", [1, 1000])
def test_buckets_that_change_places_between_shards(legal: tuple[pl.DataFrame, Manifest], rows_a_shard: int) -> None:
    mine, manifest = legal
    first = (pl.col("epoch") == 0) & (pl.col("bucket") == mine["bucket"][0])
    begin, rest = mine.filter(pl.col("epoch") == 0), mine.filter(pl.col("epoch") > 0)
    moved = pl.concat([begin.filter(~first), begin.filter(first), rest])
    found = stream_problems(moved, manifest, "legal", rows_a_shard)
    assert found
    assert all("not in the order of their hashes" in p for p in found)


def test_a_bucket_that_the_last_epoch_leaves_out(legal: tuple[pl.DataFrame, Manifest]) -> None:
    mine, manifest = legal
    last = mine.filter(pl.col("epoch") == mine["epoch"].max())
    left_out = (pl.col("epoch") == last["epoch"][0]) & (pl.col("bucket") == last["bucket"][0])
    assert any("leaves out documents" in p for p in stream_problems(mine.filter(~left_out), manifest, "legal"))


def test_a_copy_in_the_bucket_that_the_quota_cuts(legal: tuple[pl.DataFrame, Manifest]) -> None:
    """Which documents belong there nobody can tell, but none of them more often than in the first epoch: three times."""
    mine, manifest = legal
    assert stream_problems(mine, manifest, "legal") == []
    found = stream_problems(pl.concat([mine, *[mine.tail(1)] * 3]), manifest, "legal")
    assert any("a later epoch of domain 'legal' holds a document more often than its first" in p for p in found)


def test_two_documents_that_change_places_where_the_quota_cuts(legal: tuple[pl.DataFrame, Manifest]) -> None:
    mine, manifest = legal
    assert stream_problems(mine, manifest, "legal") == []
    order = np.arange(len(mine))
    order[-2:] = order[-2:][::-1]
    assert mine["doc_id"][-1] != mine["doc_id"][-2]
    assert any("not in the order of their hashes" in p for p in stream_problems(mine[order], manifest, "legal"))


def test_an_epoch_that_begins_after_the_quota(legal: tuple[pl.DataFrame, Manifest]) -> None:
    mine, manifest = legal
    domain = manifest.domains["legal"]
    less = replace(manifest, domains={"legal": replace(domain, target_tokens=2 * domain.available_tokens)})
    assert any("epoch 2 begins after" in p for p in stream_problems(mine, less, "legal"))
