"""Whole builds that keep columns: the same rows however the corpus lies, in every format, and proved."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chameleon_data.errors import InputError
from chameleon_data.recipe_file import load_recipe
from chameleon_data.shards.formats.registry import FORMATS
from chameleon_data.versions.verify import verify_version
from tests.support.corpus import documents
from tests.support.in_process import Ready, ready
from tests.support.manifests import forge, list_files, with_files
from tests.support.tokenizers import byte_tokenizer

NAMES = ("url", "score", "lang", "meta", "right")
SOURCES = ("legal", "book", "code")


def rows_of(name: str) -> list[dict[str, Any]]:
    """The documents of a domain with columns: some texts stand several times, with other columns and with the same ones."""
    rows = []
    for i, text in enumerate([t[:400] for t in documents()[name]] + [documents()[name][0][:400]] * 4):
        row = {"text": text, "url": f"http://{name}/{i // 2 * 2}", "score": [1, 2.5, 3, None][i % 4],
               "lang": "en" if i % 3 else "de", "meta": {"n": i % 5, "a": [1, None]}, "right": i % 2 == 0}  # fmt: skip
        if i % 5 == 0:
            del row["url"]
        rows.append(row)
    return rows


def write_corpus(folder: Path, kind: str = "jsonl", files: int = 2, reverse: bool = False) -> dict[str, str]:
    for name in SOURCES:
        rows = rows_of(name)[::-1] if reverse else rows_of(name)
        (folder / name).mkdir(parents=True)
        for n in range(files):
            path = folder / name / f"part-{n}.{kind}"
            if kind == "jsonl":
                path.write_text("".join(json.dumps(row) + "\n" for row in rows[n::files]))
            else:
                pq.write_table(pa.Table.from_pylist(rows[n::files], SCHEMA), path, row_group_size=13)
    return {name: str(folder / name) for name in SOURCES}


SCHEMA = pa.schema([
    ("text", pa.string()), ("url", pa.dictionary(pa.int32(), pa.string())), ("score", pa.float64()), ("lang", pa.string()),
    ("meta", pa.struct([("n", pa.int64()), ("a", pa.list_(pa.int64()))])), ("right", pa.bool_()),
])  # fmt: skip


def build(folder: Path, corpus: dict[str, str], keep: bool = False, keys: dict[str, Any] | None = None, **sections: Any) -> Ready:
    keys = {"keep": list(NAMES), "where": "lang = 'en' or score > 2"} if keys is None else keys
    weights = folder / "weights.json"
    weights.write_text(json.dumps(dict(zip(SOURCES, (0.5, 0.3, 0.2), strict=True))))
    recipe = {
        "name": "test", "out": str(folder / "out"), "sources": {name: {"path": path, **keys} for name, path in corpus.items()},
        "weights": {"from": str(weights)}, "mix": {"budget": 60_000, "max_epochs": 8},
        "shards": {"size": "9KB", "formats": [name for name in FORMATS if name != "megatron"]}, **sections,
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    return ready(load_recipe(folder / "recipe.yaml"), keep=keep)


def stored_rows(made: Ready, format: str = "parquet") -> list[dict[str, Any]]:
    """All rows of a build, in order."""
    rows = []
    for path in sorted(made.store.list(f"{made.build.folder}/{format}")):
        rows += FORMATS[format].decode({path.rpartition("/")[2]: made.store.read(path)}, path)[0].to_pylist()
    return rows


@pytest.mark.parametrize("dedup", ["none", "exact", "exact_across"])
@pytest.mark.parametrize(("kind", "files", "reverse"), [("jsonl", 5, True), ("parquet", 3, False)])
def test_the_bytes_do_not_depend_on_how_the_corpus_lies(tmp_path, dedup, kind, files, reverse):
    """Which of several equal texts comes, and with which columns, neither."""
    made, receipts = list[Ready](), []
    for name, how in (("one", ("jsonl", 2, False)), ("other", (kind, files, reverse))):
        folder = tmp_path / name
        made.append(build(folder, write_corpus(folder / "corpus", *how), keep=name == "one", input={"dedup": dedup}))
        receipts.append(made[-1].write())
    assert receipts[0] == receipts[1]
    rows = stored_rows(made[0])
    texts = Counter((row["domain"], row["text"]) for row in rows if row["epoch"] == 0)
    assert (max(texts.values()) == 1) == (dedup != "none")
    assert made[0].kept is not None
    assert made[1].kept is None


def test_every_row_has_the_columns_that_it_had_in_the_corpus(tmp_path):
    made = build(tmp_path, write_corpus(tmp_path / "corpus"))
    made.write()
    corpus = {(name, row["text"], *columns(row)) for name in SOURCES for row in rows_of(name) if taken(row)}
    rows = stored_rows(made)
    assert {(row["domain"], row["text"], *columns(row)) for row in rows} <= corpus
    assert len(corpus) > len({(name, text) for name, text, *_ in corpus})
    types = {name: type(next(row[name] for row in rows if row[name] is not None)) for name in NAMES}
    assert types == {"url": str, "score": float, "lang": str, "meta": str, "right": bool}


def columns(row: dict[str, Any]) -> tuple[Any, ...]:
    values = [row.get(name) for name in NAMES]
    return tuple(json.dumps(v, sort_keys=True, separators=(",", ":")) if isinstance(v, dict) else v for v in values)


def taken(row: dict[str, Any]) -> bool:
    return row["lang"] == "en" or (row["score"] or 0) > 2


def test_the_books_have_what_the_condition_left_out(tmp_path):
    made = build(tmp_path, write_corpus(tmp_path / "corpus"), input={"dedup": "exact"})
    manifest = made.manifest()
    condition = "lang = 'en' or score > 2"
    expected = {name: sum(not taken(row) for row in rows_of(name)) for name in SOURCES}
    assert {name: d.filtered for name, d in manifest.domains.items()} == expected
    assert manifest.filtered == {name: {condition: number} for name, number in expected.items()}
    missing = {name: sum("url" not in row for row in rows_of(name) if taken(row)) for name in SOURCES}
    assert manifest.columns["url"].missing == missing
    assert {name: column.kind for name, column in manifest.columns.items()} == {
        "lang": "string", "meta": "json", "right": "boolean", "score": "float", "url": "string",
    }  # fmt: skip
    assert not verify_version(made.store, manifest).problems
    for change in (
        lambda m: m["domains"]["book"].update(filtered=0),
        lambda m: m["filtered"]["book"].update({condition: 1}),
        lambda m: m["filtered"].update(book={"another = 1": expected["book"]}),
        lambda m: m["columns"].pop("url"),
        lambda m: m["columns"]["score"].update(kind="string"),
    ):
        assert verify_version(made.store, forge(made.store, manifest, change)).problems


def test_a_changed_column_is_found(tmp_path):
    """A forger who mends every hash of a file cannot mend what names the row."""
    made = build(
        tmp_path, write_corpus(tmp_path / "corpus"), mix={"budget": 20_000}, shards={"size": "1MB", "formats": ["parquet"]}
    )
    manifest = made.manifest()
    (file,) = list_files(made.store, manifest)
    path = file["path"]
    rows = FORMATS["parquet"].decode({"": made.store.read(path)}, "")[0]
    score = [None if v is None else v + 1 for v in rows["score"].to_pylist()]
    changed = rows.set_column(rows.schema.get_field_index("score"), "score", pa.array(score, pa.float64()))
    (data,) = FORMATS["parquet"].encode(changed, 0, 1, "train", 3).files.values()
    Path(made.store.local(path)).write_bytes(data)
    forged = with_files(made.store, manifest, [{**file, "bytes": data.size, "sha256": hashlib.sha256(data).hexdigest()}])
    found = verify_version(made.store, forged).problems
    assert any("or its kept columns, are not those that its doc_id names" in problem for problem in found)


def test_a_text_keeps_its_place_when_another_column_is_kept(tmp_path):
    """The weights' sample too: it is drawn by the texts."""
    corpus = write_corpus(tmp_path / "corpus")
    orders, samples = [], []
    for keys in ({}, {"keep": ["url"]}, {"keep": list(NAMES)}):
        made = build(tmp_path, corpus, keys=keys, input={"dedup": "exact"})
        made.write()
        orders.append([row["text"] for row in stored_rows(made)])
        samples.append(made.survey.sample)
        shutil.rmtree(tmp_path / "out")
    assert orders[0] == orders[1] == orders[2]
    assert samples[0].equals(samples[1])
    assert samples[1].equals(samples[2])


def test_a_sample_is_drawn_from_kept_rows_as_from_the_corpus(tmp_path):
    corpus = write_corpus(tmp_path / "corpus")
    expected = build(tmp_path, corpus, embed={"samples": 7}).survey.sample
    shutil.rmtree(tmp_path / "out")
    build(tmp_path, corpus, keep=True)
    assert build(tmp_path, corpus, keep=True, embed={"samples": 7}).survey.sample.equals(expected)


def test_types_that_clash_are_refused_with_both_files(tmp_path):
    corpus = write_corpus(tmp_path / "corpus")
    file = next((tmp_path / "corpus/legal").iterdir())
    file.write_text(file.read_text() + json.dumps({"text": "more", "score": "high", "lang": "en"}) + "\n")
    with pytest.raises(InputError, match=r"'score' has values of several types.*float in .*legal/part-.*string in .*legal/part-"):
        build(tmp_path, corpus, keys={"keep": "score"})


def test_a_domain_of_which_a_condition_leaves_nothing_is_none(tmp_path):
    corpus = write_corpus(tmp_path / "corpus")
    keys = {"domain": "lang", "where": "lang = 'en'", "rename": {"en": "legal"}}
    (tmp_path / "weights.json").write_text('{"legal": 1}')
    recipe = {"name": "t", "out": str(tmp_path / "out"), "sources": {"a": {"path": corpus["legal"], **keys}},
              "weights": {"from": "weights.json"}, "shards": {"formats": "parquet"}}  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    made = ready(load_recipe(tmp_path / "recipe.yaml"), {"legal": "1"})
    manifest = made.manifest()
    assert list(manifest.domains) == ["legal"]
    assert manifest.filtered == {"de": {"lang = 'en'": sum(row["lang"] == "de" for row in rows_of("legal"))}}
    assert not verify_version(made.store, manifest).problems


def test_megatron_has_the_columns_beside_its_documents(tmp_path):
    made = build(
        tmp_path,
        write_corpus(tmp_path / "corpus"),
        tokens={"tokenizer": str(byte_tokenizer(tmp_path))},
        shards={"size": "20KB", "formats": ["parquet", "megatron"]},
    )
    manifest = made.manifest()
    assert not verify_version(made.store, manifest).problems
    tables = [made.store.read(p) for p in sorted(made.store.list(made.build.folder)) if p.endswith("rows.parquet")]
    beside = [row for table in tables for row in pq.ParquetFile(pa.BufferReader(table)).read().to_pylist()]
    assert [columns(row) for row in beside] == [columns(row) for row in stored_rows(made)]


def test_packed_sequences_have_no_columns(tmp_path):
    with pytest.raises(InputError, match="a packed sequence holds many documents, and no columns of each"):
        build(tmp_path, dict.fromkeys(SOURCES, "x"), tokens={"tokenizer": "x"}, shards={"sequence_length": 64})


def test_other_readers_see_typed_columns(tmp_path):
    shards = {"size": "1MB", "formats": ["parquet", "jsonl"], "compression": "none"}
    made = build(tmp_path, write_corpus(tmp_path / "corpus"), shards=shards)
    made.write()
    files = {format: next(iter(made.store.list(f"{made.build.folder}/{format}"))) for format in ("parquet", "jsonl")}
    table = pq.ParquetFile(pa.BufferReader(made.store.read(files["parquet"]))).read()
    assert {name: str(table.schema.field(name).type) for name in NAMES} == {
        "url": "string", "score": "double", "lang": "string", "meta": "string", "right": "bool",
    }  # fmt: skip
    lines = [json.loads(line) for line in made.store.read(files["jsonl"]).splitlines()]
    assert [{name: line[name] for name in NAMES} for line in lines] == table.select(NAMES).to_pylist()
