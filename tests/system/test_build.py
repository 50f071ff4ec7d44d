"""Whole builds of real text on both engines: what comes out, that it does not depend on how it went in, and that readers see it.

Most are driven by this process, on an engine of the session. Tests that kill a build, or choose its workers, start the command.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from chameleon_data.errors import InputError
from chameleon_data.recipe_file import load_recipe
from chameleon_data.shards.rows import TEXT_SCHEMA
from chameleon_data.store.store import Store
from chameleon_data.versions.manifest import Manifest
from chameleon_data.versions.verify import verify_version
from tests.support import inline_builds, streaming_reader
from tests.support.corpus import documents, lay_out, write_file, write_recipe
from tests.support.manifests import list_files, list_paths, with_files

on_both_engines = pytest.mark.parametrize("engine", ["local", "ray"])
"""For tests that start the command."""


@pytest.fixture
def engine_options(engine, request):
    """Options with which a command of its own runs on this engine. On Ray it joins the session's cluster, in a tenth of the time
    that starting one takes."""
    if engine == "local":
        return ["--engine", "local"]
    assert request.getfixturevalue("ray_engine").cpus == 2  # so it is started
    import ray

    return ["--address", ray.get_runtime_context().gcs_address]


COMMAND = [str(Path(sys.executable).parent / "chameleon-data")]


def run_command(*arguments: str, expect: int = 0) -> dict:
    """Run `chameleon-data ... --json` in a process of its own; returns its document."""
    done = subprocess.run([*COMMAND, *arguments, "--json"], capture_output=True, text=True, timeout=240)
    assert done.returncode == expect, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def build(engine):
    from chameleon_data.pipelines.build import build_recipe

    return lambda path: build_recipe(load_recipe(path), engine, lambda *_: None, "2026-01-01T00:00:00+00:00")


@pytest.fixture(scope="module")
def built(build, tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    recipe = write_recipe(folder / "recipe.yaml", lay_out(folder / "corpus", documents(), ["jsonl"], 2))
    return folder, recipe, build(recipe).manifest


@pytest.fixture(scope="module")
def digest(tmp_path_factory) -> str:
    """Digest of the same build in this process."""
    folder = tmp_path_factory.mktemp("inline")
    recipe = write_recipe(folder / "recipe.yaml", lay_out(folder / "corpus", documents(), ["jsonl"], 2))
    return inline_builds.build(load_recipe(recipe)).digest


# What comes out


def test_the_manifest_says_what_was_asked_and_what_was_written(built):
    _, _, manifest = built
    corpus = documents()
    for name, weight in (("legal", 0.5), ("book", 0.3), ("code", 0.2)):
        domain = manifest.domains[name]
        texts = [t.encode() for t in corpus[name]]
        assert domain.weight == weight
        assert domain.target_tokens == 400_000 * weight
        assert domain.available_rows == len(texts)
        assert domain.available_tokens == sum(map(len, texts))
        assert domain.largest_document == max(map(len, texts))
        assert abs(domain.tokens - domain.target_tokens) <= domain.largest_document
        assert domain.rows_read == domain.rows_written_once + domain.rows_not_selected + domain.quarantined
    assert sum(sums.files for sums in manifest.formats.values()) == 2 * manifest.shard_count == 16


def test_rows_are_the_corpus_texts_repeated_by_whole_epochs(built):
    folder, _, manifest = built
    table = rows(folder, manifest)
    corpus = {name: Counter(texts) for name, texts in documents().items()}
    for name, texts in corpus.items():
        mine = table.filter(pl.col("domain") == name)
        for epoch, written in mine.partition_by("epoch", as_dict=True).items():
            found = Counter(written["text"].to_list())
            assert found <= texts
            assert found == texts or epoch[0] == mine["epoch"].max()
    assert (table["tokens"] == table["text"].str.len_bytes()).all()


def rows(folder: Path, manifest: Manifest) -> pl.DataFrame:
    return pl.read_parquet(sorted((folder / "out" / manifest.build / "parquet").glob("*.parquet")))


def test_verify_holds_and_names_the_worst_points(built):
    folder, _, manifest = built
    found = verify_version(Store(str(folder / "out")), manifest)
    assert found.problems == ()
    assert found.rows == sum(d.rows for d in manifest.domains.values())
    assert 0 < found.prefix.share <= 1
    assert 0 < found.shard.share <= 1


def test_a_second_build_is_the_same_version_and_a_copy_verifies(built, build, tmp_path):
    folder, recipe, manifest = built
    again = build(recipe)
    assert (again.version.number, again.new, again.manifest.digest) == (1, False, manifest.digest)
    shutil.copytree(folder / "out", tmp_path / "copy")
    assert verify_version(Store(str(tmp_path / "copy")), manifest).ok
    assert not list((folder / "out" / manifest.build / "runs").rglob("*.*")), "runs are removed once the version is there"


# Guarantee 1: how the corpus lies, and how many work on it, does not matter


@pytest.mark.parametrize(
    ("formats", "files", "reverse"),
    [(["parquet", "csv"], 3, True), (["jsonl.zst", "feather", "jsonl.gz"], 5, False), (["jsonl"], 1, True)],
    ids=["parquet+csv", "zst+feather+gz", "one file"],
)
def test_the_same_bytes_from_another_layout(built, build, tmp_path, formats, files, reverse):
    recipe = write_recipe(tmp_path / "recipe.yaml", lay_out(tmp_path / "corpus", documents(), formats, files, reverse))
    manifest = build(recipe).manifest
    for key in ("plan_digest", "digest", "content_digest"):
        assert getattr(manifest, key) == getattr(built[2], key)


@on_both_engines
def test_the_same_bytes_with_one_worker_and_with_four(digest, engine, tmp_path):
    """The digest is of two workers. Starting Ray takes long, so it starts once here."""
    recipe = write_recipe(tmp_path / "recipe.yaml", lay_out(tmp_path / "corpus", documents(), ["jsonl"], 2))

    def build_with(workers: str) -> str:
        (tmp_path / workers).mkdir()
        other = write_recipe(tmp_path / workers / "recipe.yaml", json.loads(recipe.read_text())["sources"])
        return run_command("build", str(other), "--engine", engine, "--workers", workers)["digest"]

    with ThreadPoolExecutor(2) as pool:
        workers = ("1", "4") if engine == "local" else ("4",)
        assert set(pool.map(build_with, workers)) == {digest}


def test_another_budget_is_another_plan_with_nothing_surveyed_again(built, build):
    folder, recipe, manifest = built
    text = json.loads(recipe.read_text())
    other = folder / "other.yaml"
    other.write_text(json.dumps({**text, "mix": {"budget": 200_000, "max_epochs": 8}}))
    cache = {p: p.stat().st_mtime_ns for p in (folder / "out/_chameleon/cache/survey").rglob("*")}
    smaller = build(other)
    assert smaller.manifest.reused["survey"] == "3 of 3 parts of the corpus were counted by an earlier run"
    assert smaller.manifest.content_digest != manifest.content_digest
    assert {p: p.stat().st_mtime_ns for p in (folder / "out/_chameleon/cache/survey").rglob("*")} == cache
    whole, part = rows(folder, manifest), rows(folder, smaller.manifest)
    for name in manifest.domains:  # the smaller budget's stream begins the larger one's
        short = part.filter(pl.col("domain") == name).select("doc_id", "epoch")
        assert short.equals(whole.filter(pl.col("domain") == name).select("doc_id", "epoch").head(len(short)))


def test_identity_by_id_keeps_the_place_of_an_edited_text(build, tmp_path):
    corpus = documents()
    recipes = []
    for folder in ("a", "b"):
        sources = lay_out(tmp_path / folder / "corpus", corpus, ["jsonl"], 1)
        recipes.append(write_recipe(tmp_path / folder / "recipe.yaml", {n: {"path": p, "id": "id"} for n, p in sources.items()},
                                    input={"hash": "id"}))  # fmt: skip
        corpus["book"][3] = corpus["book"][3].replace("e", "a")
    first, second = (rows(tmp_path / f, build(r).manifest) for f, r in zip("ab", recipes, strict=True))
    changed = first.with_row_index().filter(first["text"] != second["text"])
    assert 0 < len(changed) <= 4
    assert (first["doc_id"].str.slice(0, 16) == second["doc_id"].str.slice(0, 16)).all()


# Guarantee 5: killed anywhere


@on_both_engines
@pytest.mark.parametrize("after", ["kept rows", "a run", "a shard"])
def test_a_killed_build_goes_on_and_ends_in_the_same_bytes(digest, engine_options, tmp_path, after):
    sources = lay_out(tmp_path / "corpus", documents(), ["jsonl"], 2)
    recipe = write_recipe(tmp_path / "recipe.yaml", sources, survey={"keep": False if after == "a run" else "auto"})
    process = subprocess.Popen(
        [*COMMAND, "build", str(recipe), *engine_options],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    pattern = {
        "kept rows": "out/_chameleon/cache/rows/*/*.json",
        "a run": "out/builds/*/runs/*/*.json",
        "a shard": "out/builds/*/receipts/*.parquet",
    }[after]
    give_up = time.monotonic() + 120
    while not list(tmp_path.glob(pattern)) and process.poll() is None and time.monotonic() < give_up:
        time.sleep(0.002)
    process.kill()  # the driver alone; the others end by themselves
    process.wait()
    assert not list(tmp_path.glob("out/_chameleon/versions/*")), "killed too late to show anything"
    kept = {p: p.stat().st_mtime_ns for p in tmp_path.glob("out/builds/*/parquet/*.parquet")}
    again = inline_builds.build(load_recipe(recipe))
    assert again.digest == digest
    done = list(tmp_path.glob("out/builds/*/parquet/*.parquet"))
    assert all(p.stat().st_mtime_ns == t for p, t in kept.items()), "a finished shard was written again"
    assert len(done) == again.shard_count
    assert verify_version(Store(str(tmp_path / "out")), again).ok


@on_both_engines
def test_two_builds_of_one_plan_at_once_make_one_version(digest, engine_options, tmp_path):
    recipe = write_recipe(tmp_path / "recipe.yaml", lay_out(tmp_path / "corpus", documents(), ["jsonl"], 2))
    command = [*COMMAND, "build", str(recipe), *engine_options, "--json"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in "ab"]
    found = [json.loads(process.communicate(timeout=240)[0]) for process in both]
    assert [(f.get("error"), f.get("version"), f.get("digest")) for f in found] == [(None, "v1", digest)] * 2


# Readers


def test_every_reader_sees_the_same_documents_in_the_same_order(built, tmp_path):
    folder, _, manifest = built
    build_folder = folder / "out" / manifest.build
    expected = rows(folder, manifest).rows()
    counts = {name: d.rows for name, d in manifest.domains.items()}
    assert Counter(r[1] for r in expected) == counts

    arrow = pyarrow.dataset.dataset(sorted(map(str, (build_folder / "parquet").glob("*.parquet")))).to_table()
    assert list(zip(*arrow.to_pydict().values(), strict=True)) == expected

    import datasets

    loaded = datasets.load_dataset(
        "parquet", data_dir=str(build_folder / "parquet"), split="train", cache_dir=str(tmp_path / "hf")
    )
    assert [tuple(r.values()) for r in loaded] == expected

    streaming_reader.load_or_skip()
    seen = streaming_reader.read_folder(build_folder / "mds", validate_hash="sha256")
    assert [tuple(row[name] for name in TEXT_SCHEMA.names) for row in seen] == expected  # numpy's numbers equal Python's


# Quarantine, and refusals


def test_bad_rows_are_counted_and_named_and_pass_under_the_threshold(build, tmp_path):
    corpus = documents()
    sources = lay_out(tmp_path / "corpus", corpus, ["jsonl"], 1)
    path = tmp_path / "corpus/legal/part-0.jsonl"
    bad = [b'{"text": null}', b'{"txt": "a"}', b"{broken", b'{"text": 5}', b'{"text": "  "}', b'{"text": "\xff"}']
    path.write_bytes(b"\n".join([*bad, path.read_bytes()]))
    strict = write_recipe(tmp_path / "recipe.yaml", sources)
    with pytest.raises(
        InputError, match=r"domain 'legal': 6 of 80 rows cannot be used .*1 broken JSON.*row 1 of .*part-0.jsonl: no text"
    ):
        build(strict)
    assert not list(tmp_path.glob("out/builds")), "nothing is written"
    manifest = build(write_recipe(tmp_path / "recipe.yaml", sources, input={"max_bad": 0.1})).manifest
    assert sum(manifest.quarantine["legal"].values()) == manifest.domains["legal"].quarantined == 6
    assert manifest.domains["legal"].rows_read == 80
    assert verify_version(Store(str(tmp_path / "out")), manifest).ok


@pytest.mark.parametrize("keep", ["auto", False])
def test_a_corpus_that_changes_during_the_build_is_refused_or_not_read_again(digest, engine, tmp_path, keep):
    from chameleon_data.pipelines.build import build_recipe

    sources = lay_out(tmp_path / "corpus", documents(), ["jsonl"], 1)
    recipe = load_recipe(write_recipe(tmp_path / "recipe.yaml", sources, survey={"keep": keep}))
    path = tmp_path / "corpus/book/part-0.jsonl"

    def change(name: str, done: int, total: int) -> None:
        if name == "survey" and done == total:
            path.write_bytes(path.read_bytes().replace(b"the", b"teh", 1))

    if keep:
        assert build_recipe(recipe, engine, change, "now").manifest.digest == digest
        return
    with pytest.raises(InputError, match=r"part-0.jsonl: .*changed"):
        build_recipe(recipe, engine, change, "now")
    assert not list(tmp_path.glob("out/_chameleon/versions/*"))


def pickled() -> pa.Table:
    """A column of a type that Ray registers with Arrow."""
    metadata = {"ARROW:extension:name": "ray.data.arrow_pickled_object", "ARROW:extension:metadata": "c"}
    return pa.table([pa.array([b"a"])], schema=pa.schema([pa.field("text", pa.binary(), metadata=metadata)]))


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda f: shutil.rmtree(f / "corpus/book"), "book"),
        (lambda f: (f / "corpus/book/part-0.jsonl").write_bytes(b""), "; check the path and the key 'text: text'"),
        (
            lambda f: (
                write_file(f / "corpus/book/part-0.jsonl.zst", ["one", "two"] * 500) or cut(f / "corpus/book/part-0.jsonl.zst")
            ),
            "truncated",
        ),
        (
            lambda f: (f / "recipe.yaml").write_text((f / "recipe.yaml").read_text().replace('"budget"', '"budgt"')),
            "did you mean 'budget'",
        ),
        (lambda f: pq.write_table(pickled(), f / "corpus/book/part-1.parquet"), "extension type"),
    ],
    ids=["no file", "no document", "truncated", "unknown key", "a type that runs code"],
)
def test_the_command_refuses_with_one_message_and_exit_2(command_on_engine, tmp_path, break_it, message):
    recipe = write_recipe(tmp_path / "recipe.yaml", lay_out(tmp_path / "corpus", documents(), ["jsonl"], 1))
    break_it(tmp_path)
    assert message in command_on_engine("build", str(recipe), expect=2)["error"]
    assert not list(tmp_path.glob("out/builds")) + list(tmp_path.glob("out/_chameleon/versions"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


# verify catches


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda a, b: flip(a), "sha256 differs"),
        (lambda a, b: a.unlink(), "missing"),
        (lambda a, b: shutil.copy(b, a), "sha256 differs"),
        (lambda a, b: shutil.copy(a, a.with_name("train-99999-of-00008.parquet")), "not part of this version"),
    ],
    ids=["flipped bit", "missing", "replaced", "extra"],
)
@pytest.mark.parametrize("kind", ["parquet", "mds"])
def test_verify_catches_damaged_files(built, tmp_path, damage, message, kind):
    folder, _, manifest = built
    shutil.copytree(folder / "out", tmp_path / "out")
    first, second = [tmp_path / "out" / path for path in list_paths(Store(str(tmp_path / "out")), manifest, kind)][:2]
    damage(first, second)
    problems = verify_version(Store(str(tmp_path / "out")), manifest).problems
    assert any(message in p for p in problems), problems


@pytest.mark.parametrize(
    ("forge", "message"),
    [
        (lambda t: t.take([1, 0, *range(2, len(t))]), "not those of its 'content'"),
        (lambda t: t.slice(1), "other counts of rows"),
        (lambda t: t.set_column(0, "text", [["x" * n for n in t["tokens"].to_pylist()]]), "not the one that its doc_id names"),
    ],
    ids=["reordered rows", "dropped row", "other text"],
)
def test_verify_catches_forged_shards_whose_hashes_fit(built, tmp_path, forge, message):
    """The forger also mends the sha256 in the manifest, so only the content can tell."""
    folder, _, manifest = built
    shutil.copytree(folder / "out", tmp_path / "out")
    store = Store(str(tmp_path / "out"))
    files = list_files(store, manifest)
    path = tmp_path / "out" / files[2]["path"]
    pq.write_table(forge(pq.read_table(path)), path)
    files[2]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    problems = verify_version(store, with_files(store, manifest, files)).problems
    assert any(re.search(message, p) for p in problems), problems


# The command


def test_the_command_from_build_to_report(built, command_on_engine):
    folder, _, manifest = built
    out = str(folder / "out")
    assert run_command("versions", out)[0]["digest"] == manifest.digest
    shown = command_on_engine("show", f"{out}@v1")
    for key in ("version", "digest", "content_digest", "plan_digest", "recipe", "domains", "shards", "provenance"):
        assert key in shown
    assert set(shown["domains"]["book"]) >= {
        "weight",
        "target_tokens",
        "tokens",
        "rows",
        "epochs",
        "available_tokens",
        "available_rows",
        "quarantined",
        "score",
        "weight_interval",
    }
    assert set(shown["shards"][0]) >= {"path", "format", "split", "rows", "tokens", "bytes", "sha256", "domain_tokens"}
    assert command_on_engine("verify", f"{out}@1")["ok"]
    assert command_on_engine("verify", f"{out}@1", "--corpus")["ok"]
    assert not Store(out).list("_chameleon/checks")
    assert command_on_engine("tag", f"{out}@1", "first")["tag"] == "first"
    assert command_on_engine("show", f"{out}@first")["version"] == "v1"
    page = Path(command_on_engine("report", f"{out}@first")["report"])
    assert manifest.digest in page.read_text()
    assert "no version" in run_command("show", f"{out}@v9", expect=2)["error"]


def test_a_damaged_version_fails_and_a_build_mends_it_once_the_file_is_gone(built, build, command_on_engine, tmp_path):
    folder, recipe, manifest = built
    shutil.copytree(folder / "out", tmp_path / "out")
    damaged = tmp_path / "out" / list_paths(Store(str(tmp_path / "out")), manifest)[0]
    flip(damaged)
    assert not command_on_engine("verify", f"{tmp_path / 'out'}@v1", expect=1)["ok"]
    damaged.unlink()
    copy = tmp_path / "recipe.yaml"
    copy.write_text(json.dumps({**json.loads(recipe.read_text()), "out": str(tmp_path / "out")}))
    again = build(copy)
    assert (again.version.number, again.new, again.written) == (1, False, 1)
    assert verify_version(Store(str(tmp_path / "out")), manifest).ok
