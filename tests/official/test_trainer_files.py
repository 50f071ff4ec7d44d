"""The weights as the trainers' own packages take them."""

from __future__ import annotations

import ast
import gc
import json
import re
import runpy
import shlex
import tempfile
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import braceexpand
import pytest
import yaml
from fsspec.implementations.local import LocalFileSystem

from chameleon_data.corpus.fragments import list_fragments
from chameleon_data.recipe_file import parse_recipe
from chameleon_data.store.store import Store
from chameleon_data.versions.corpus_tables import InputFile
from chameleon_data.versions.manifest import Manifest
from chameleon_data.views.trainer_files import TRAINER_WRITERS, BlendEntry, blend_of_version, datasets_script, make_blend
from tests.support import official_readers, streaming_reader
from tests.support.corpus import documents
from tests.support.exports import ODD, WEIGHTS, build_two_versions, open_version


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Manifest:
    folder = tmp_path_factory.mktemp("export #1")
    build_two_versions(folder)
    return open_version(Store(str(folder / "out")), 2)[0]


def write(form: str, manifest: Manifest) -> str:
    """What `export OUT@v2 FORM` prints."""
    return TRAINER_WRITERS[form](blend_of_version("v2", Store(manifest.recipe.out), manifest), "s3://bucket/converted data")


def test_streams_of_mosaicml(manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # a stream makes its cache there
    text = write("mosaicml", manifest)
    streams = yaml.safe_load(text)["streams"]
    assert {name: s["proportion"] for name, s in streams.items()} == WEIGHTS
    assert streams["book"]["remote"] == "s3://bucket/converted data/book"
    assert re.fullmatch(r"s3://bucket/converted data/a_b_c-[0-9a-f]{8}", streams[ODD]["remote"])
    streaming = streaming_reader.load_or_skip()
    made = [streaming.Stream(**stream) for stream in streams.values()]
    assert [s.proportion for s in made] == [s["proportion"] for s in streams.values()]
    assert streaming.Stream.validate_weights(made) == (True, False)
    beside = {n: float(p) for n, p in re.findall(r"^# (.+?): ([0-9.e-]+) of documents; raw files /", text, re.MULTILINE)}
    tokens = {n: beside[n] * d.available_tokens / d.available_rows for n, d in manifest.domains.items()}
    assert {n: t / sum(tokens.values()) for n, t in tokens.items()} == pytest.approx(WEIGHTS, rel=1e-4)


@pytest.mark.parametrize("name", ["a [1] b", "a*b", "a?b", "{a,b}", "a\\b", "日本 #1"])
def test_a_folder_of_any_name_is_no_pattern(manifest: Manifest, tmp_path: Path, name: str) -> None:
    """OLMo-core and torchtitan take a pattern of glob; levanter one of fsspec, once it has expanded the braces."""
    folder = tmp_path / name
    wanted = {}
    for end in ("npy", "jsonl", "jsonl.gz"):
        wanted[end] = folder / "book" / f"0.{end}"
        wanted[end].parent.mkdir(parents=True, exist_ok=True)
        wanted[end].touch()
        for other in ("a 1 b", "axb", "a", "b"):
            (tmp_path / other / "book").mkdir(parents=True, exist_ok=True)
            (tmp_path / other / "book" / f"0.{end}").touch()

    def written(form: str) -> str:
        return TRAINER_WRITERS[form](blend_of_version("v2", Store(manifest.recipe.out), manifest), str(folder))

    def matched(pattern: str) -> list[Path]:
        return list(Path("/").glob(pattern.removeprefix("/")))

    sources = {source["source_name"]: source["paths"] for source in yaml.safe_load(written("olmo"))["sources"]}
    assert matched(*sources["book"]) == [wanted["npy"]]
    (pair,) = (line for line in written("torchtitan").splitlines() if "/book/*.jsonl" in line)
    assert matched(ast.literal_eval(pair.strip().removesuffix(","))[0]) == [wanted["jsonl"]]
    (url,) = yaml.safe_load(written("levanter"))["data"]["components"]["book"]["source"]["train_urls"]
    (pattern,) = braceexpand.braceexpand(url)
    assert LocalFileSystem().glob(pattern) == [str(wanted["jsonl.gz"])]


def test_a_data_path_of_megatron(manifest: Manifest) -> None:
    text = write("megatron", manifest)
    option, *blend = shlex.split(text, comments=True)
    assert option == "--data-path"
    prefixes, weights = official_readers.load("megatron.core.datasets.utils").get_blend_from_list(blend)
    assert dict(zip(prefixes, weights, strict=True)).keys() == {
        *(f"s3://bucket/converted data/{n}_text_document" for n in WEIGHTS if n != ODD),
        next(p for p in prefixes if "a_b_c-" in p),
    }
    assert weights == [WEIGHTS[name] for name in sorted(WEIGHTS)]
    assert sum(line.startswith("--data-path ") for line in text.splitlines()) == 1


def test_trls_datasets_are_loaded_in_the_shares_of_the_weights(manifest: Manifest, tmp_path: Path) -> None:
    """As TRL does: `load_dataset` for each, the columns selected, one behind the other."""
    datasets = official_readers.load("datasets")
    corpus, blend = documents(), blend_of_version("v2", Store(manifest.recipe.out), manifest)
    folder = tmp_path / "a [1]*"
    config = yaml.safe_load(TRAINER_WRITERS["trl"](blend, str(folder)))
    counted = Counter[str]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for entry, wanted in zip(blend.entries, config["datasets"], strict=True):
            texts = corpus["legal"][:20] if entry.name == ODD else corpus[entry.name]
            lies = folder / Path(wanted["data_dir"]).name
            lies.mkdir(parents=True)
            (lies / "0.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
            columns = wanted.pop("columns")
            rows = datasets.load_dataset(**wanted, cache_dir=str(tmp_path / "cache")).select_columns(columns)
            counted[entry.name] = len(rows) * entry.tokens / entry.rows
        gc.collect()  # `datasets` leaves files open
    total = sum(counted.values())
    assert {name: tokens / total for name, tokens in counted.items()} == pytest.approx(WEIGHTS, abs=0.01)
    assert config["num_train_epochs"] * total == pytest.approx(manifest.budget, rel=0.02)


def test_the_snippet_of_datasets_draws_the_weights(manifest: Manifest, tmp_path: Path) -> None:
    """Run as it is, over the raw files: every text is of the domain that it says, and the tokens are shared by the weights."""
    text = write("datasets", replace(manifest, budget=6_000_000))
    (tmp_path / "mixture.py").write_text(text, encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        drawn = list(runpy.run_path(str(tmp_path / "mixture.py"))["mixture"])
        gc.collect()  # `datasets` leaves files open
    corpus = documents()
    known = {**{n: set(corpus[n]) for n in ("legal", "book", "code")}, ODD: set(corpus["legal"][:20])}
    assert all(row["text"] in known[row["domain"]] for row in drawn)
    for name, texts in known.items():
        assert {row["text"] for row in drawn if row["domain"] == name} == texts  # nothing of a domain is out of reach
    tokens = Counter()
    for row in drawn:
        tokens[row["domain"]] += len(row["text"].encode())
    total = sum(tokens.values())
    assert total == pytest.approx(6_000_000, rel=0.05)
    assert {name: t / total for name, t in tokens.items()} == pytest.approx(WEIGHTS, abs=0.02)
    by_weight = {n: WEIGHTS[n] * d.available_tokens / d.available_rows for n, d in manifest.domains.items()}
    naive = {n: share / sum(by_weight.values()) for n, share in by_weight.items()}
    assert max(abs(naive[n] - WEIGHTS[n]) for n in WEIGHTS) > 0.1  # drawing documents by the weights would not have passed


def test_the_snippet_of_datasets_reads_the_files_that_were_read(tmp_path: Path) -> None:
    """Names that look like patterns, files of one source with other columns and formats, domains by column, number and folder."""
    corpus = tmp_path / "my [1] corpus"
    for name, body in {
        "a/l1.jsonl": '{"text": "WRONG"}\n',
        "a/l[1].jsonl": '{"text": "right", "n": 1}\n',
        "a/_old.jsonl": '{"text": "WRONG"}\n',
        "b/x.jsonl": '{"text": "one", "extra": {"y": [1]}}\n{"text": null}\n{"text": " "}\n',
        "b/y.jsonl": '{"other": "3", "text": "two"}\n',
        "b/z.csv": "n,text\n1,007\n",
        "b/part-00000": '{"text": "three"}\n',
        "c/set=0/x.jsonl": '{"text": "zero"}\n',
        "c/y.jsonl": '{"text": "zero too", "set": 0}\n{"text": "first", "set": 1}\n',
    }.items():
        (corpus / name).parent.mkdir(parents=True, exist_ok=True)
        (corpus / name).write_text(body)
    sources = {
        "a": str(corpus / "a/l[1].jsonl"), "b": str(corpus / "b"),
        "c": {"path": str(corpus / "c"), "domain": "set", "rename": {"0": "nought"}},
    }  # fmt: skip
    recipe = parse_recipe(json.dumps({"name": "n", "out": "/out", "sources": sources}), Path("/"))
    fragments = [f for name, source in recipe.sources.items() for f in list_fragments(name, source).fragments]
    inputs = [InputFile(f.source, f.url, f.format, f.compression, f.size, f.identity) for f in fragments]
    expected = {"a": {"right"}, "b": {"one", "two", "three", "007"}, "nought": {"zero", "zero too"}, "1": {"first"}}
    entries = [BlendEntry(name, 0.25, 10, len(texts)) for name, texts in expected.items()]
    (tmp_path / "mixture.py").write_text(datasets_script(make_blend("t", recipe, entries, 400, inputs)), encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        drawn = list(runpy.run_path(str(tmp_path / "mixture.py"))["mixture"])
        gc.collect()  # `datasets` leaves files open
    assert {name: {row["text"] for row in drawn if row["domain"] == name} for name in expected} == expected
    assert {row["domain"] for row in drawn} == set(expected)
