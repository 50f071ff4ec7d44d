"""The verbs that need no cluster: what they print is what is there, and what is wrong is said with what to type."""

from __future__ import annotations

import json
import os
import socket
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chameleon_data.corpus.kept_rows import KeptSummary
from chameleon_data.errors import InputError
from chameleon_data.hashing import fingerprint
from chameleon_data.jobs import cli, screen
from chameleon_data.jobs.engine_options import EngineOptions
from chameleon_data.store.store import Store
from chameleon_data.versions.active import active_driver
from chameleon_data.versions.manifest import TIMED_PASSES
from chameleon_data.versions.references import NO_VERSION_YET
from chameleon_data.versions.versions import commit_version, list_versions, read_manifest
from tests.support.manifests import example_manifest, list_files, with_files
from tests.support.paths import ROOT
from tests.support.words import HOSTILE_NAMES


def test_names_that_look_like_markup_are_printed_as_they_are(command, dataset):
    code, out, _ = command("show", dataset)
    assert code == 0
    for name in HOSTILE_NAMES:
        assert name in out
    code, out, _ = command("versions", dataset)
    assert (code, "[/name]" in out) == (0, True)


def test_messages_that_look_like_markup_are_printed_as_they_are(command, tmp_path):
    code, _, err = command("weights", str(tmp_path / "[/b][bold]:smile:.yaml"))
    assert code == 2
    assert "[/b][bold]:smile:.yaml: the recipe cannot be read" in err


COMMANDS = "\x1b]0;owned\x07 \x9b31m \u202ex"
"""Sets a terminal's title, rings, colours, turns the direction of writing."""


def test_what_a_terminal_would_obey_is_written_out(command, dataset, tmp_path, monkeypatch):
    def obeyed(text: str) -> list[str]:
        return [c for c in text if c != "\n" and not c.isprintable()]

    code, _, err = command("weights", str(tmp_path / f"{COMMANDS}.yaml"))
    assert (code, obeyed(err)) == (2, [])
    assert r"\x1b]0;owned\x07 \x9b31m \u202ex" in err
    commit_version(Store(dataset), example_manifest(COMMANDS, domains={COMMANDS: {"weight": 1.0}}), COMMANDS)
    for arguments in (["versions", dataset], ["show", dataset], ["show", dataset, "--json"], ["versions", dataset, "--json"]):
        code, out, err = command(*arguments)
        assert (code, obeyed(out + err)) == (0, [])
        assert "owned" in out
    assert json.loads(command("versions", dataset, "--json")[1])[1]["name"] == COMMANDS

    def fail(_: Store) -> None:
        raise ZeroDivisionError(COMMANDS)

    monkeypatch.setattr(cli, "list_versions", fail)
    code, out, err = command("versions", dataset, "--json")
    assert (code, obeyed(out + err)) == (70, [])
    assert "Traceback" in err


@pytest.mark.parametrize("verb", ["versions", "show", "verify", "report"])
def test_a_folder_without_a_dataset_is_refused(command, tmp_path, verb):
    code, out, err = command(verb, str(tmp_path / "typo"), "--json")
    assert code == 2
    assert "correct the folder" in json.loads(out)["error"]
    assert "correct the folder" in err
    assert not (tmp_path / "typo").exists()


def test_a_dataset_without_a_version_is_listed_as_empty(command, dataset):
    Path(dataset, "_chameleon/versions/v00000001.json").unlink()
    code, out, _ = command("versions", dataset)
    assert (code, out) == (0, f"{dataset}: {NO_VERSION_YET}\n")
    assert command("show", dataset)[0] == 2
    assert NO_VERSION_YET in command("show", dataset)[2]


def test_a_build_that_was_interrupted_is_told_from_no_dataset(command, tmp_path):
    """Before the first commit there are caches and shards, and no format.json."""
    for file in ("a/_chameleon/cache/survey/x.json", "b/builds/x/parquet/y"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).touch()
    for out in (str(tmp_path / "a"), str(tmp_path / "b")):
        assert command("versions", out, "--json")[:2] == (0, "[]\n")
        assert "goes on where it was interrupted" in command("verify", out)[2]


def test_that_every_version_was_deleted_is_said(command, dataset):
    assert command("delete", f"{dataset}@v1")[0] == 0
    assert command("versions", dataset)[:2] == (0, f"{dataset}: every version was deleted; --deleted lists them\n")


@pytest.mark.parametrize("verb", ["versions", "show", "verify", "report", "tags", "gc"])
@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("out/builds/x", "lies inside a dataset; name the dataset itself: {0}/out"),
        ("out/_chameleon/", "lies inside a dataset; name the dataset itself: {0}/out"),
        ("", "a folder that is no dataset, but holds some; correct the folder: {0}/out"),
        ("empty", "a folder, but no dataset is there; correct the folder: it is a recipe's 'out', or make one"),
        ("outt", "no dataset is there, nor a folder; correct the folder (did you mean {0}/out?), or make one"),
        ("recipe.yaml", "a file, where a dataset is a folder; if it is a recipe, name its 'out'"),
        ("file", "a file, where a dataset is a folder; name a recipe's 'out'"),
    ],
)
def test_what_is_no_dataset_is_told_with_what_to_type(command, dataset, tmp_path, verb, target, message):
    for file in ("recipe.yaml", "file"):
        (tmp_path / file).touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "out/builds/x").mkdir(parents=True)
    code, _, err = command(verb, f"{tmp_path}/{target}")
    assert (code, message.format(tmp_path) in err) == (2, True), err


def test_a_report_that_cannot_be_written_is_refused(command, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("chameleon_data.views.report.page.render_report", lambda *_: "page")
    (tmp_path / "file").touch()
    for to in (tmp_path / "file" / "page.html", tmp_path):
        code, out, _ = command("report", dataset, "--trust", "--to", str(to), "--json")
        assert code == 2
        assert "--to" in json.loads(out)["error"]


# Versions


def test_versions_have_their_tags_and_hide_the_deleted(command, three):
    code, out, _ = command("versions", three, "--json")
    assert code == 0
    assert [(row["version"], row["tags"]) for row in json.loads(out)] == [("v1", ["prod"]), ("v3", [])]
    every = json.loads(command("versions", three, "--deleted", "--json")[1])
    assert [(row["version"], row["tags"], row.get("deleted")) for row in every] == [
        ("v1", ["prod"], None), ("v2", ["old"], "2026-02-02"), ("v3", [], None)]  # fmt: skip
    text = command("versions", three, "--deleted")[1]
    assert "deleted 2026-02-02" in text
    assert "prod" in text
    assert "deleted" not in command("versions", three)[1]


def test_tokens_that_are_bytes_are_called_bytes(command, three):
    for words in (["versions", three], ["show", three], ["diff", f"{three}@1", f"{three}@3"]):
        text = command(*words)[1]
        assert "bytes" in text
        assert "tokens" not in text.replace("tokens are", "").replace(three, "")
    listed = json.loads(command("versions", three, "--json")[1])
    assert {row["unit"] for row in listed} == {"bytes"}


def test_versions_and_tags_read_small_files_alone(command, three, monkeypatch):
    """No manifest and no table, whatever the versions hold: one record a version, and one a tag."""
    read: list[str] = []
    real = Store.read
    monkeypatch.setattr(Store, "read", lambda self, path: read.append(path) or real(self, path))
    monkeypatch.setattr(Store, "open", lambda self, path: pytest.fail(f"opens {path}"))
    for verb in ("versions", "tags"):
        read.clear()
        assert command(verb, three)[0] == 0
        assert {path.split("/")[1] for path in read} <= {"format.json", "versions", "deleted", "tags"}
        assert len(set(read)) <= 1 + 3 + 1 + 2, "format.json, three versions, one of them deleted, and two tags"
        assert sum(Store(three).list()[path] for path in set(read)) < 4_000


def test_the_history_of_a_tag(command, three):
    now = json.loads(command("tags", three, "--json")[1])
    assert [(row["tag"], row["version"], row["deleted"]) for row in now] == [("old", "v2", True), ("prod", "v1", False)]
    history = json.loads(command("tags", three, "prod", "--json")[1])
    assert [(row["generation"], row["version"], row["created"], row["current"]) for row in history] == [
        (1, "v2", "then", False), (2, "v1", "later", True)]  # fmt: skip
    first, second = command("tags", three, "prod")[1].splitlines()[1:]
    assert "v2 (deleted)" in first
    assert (second.endswith("← current"), "current" in first) == (True, False)
    assert "current" not in command("tags", three)[1]
    for name in ("nothing", "../versions"):
        code, _, err = command("tags", three, name)
        assert (code, f"no tag '{name}'" in err) == (2, True)
    command("tag", f"{three}@v3", "prod")
    history = json.loads(command("tags", three, "prod", "--json")[1])
    assert history[-1]["version"] == "v3"
    assert history[-1]["created"].startswith("20"), "the time is kept"


def test_the_folder_of_a_format_is_printed_for_scripts(command, three):
    build = read_manifest(Store(three), list_versions(Store(three))[0]).build
    assert command("path", f"{three}@prod", "mds") == (0, f"{three}/{build}/mds\n", "")
    document = json.loads(command("path", f"{three}@prod", "parquet", "--json")[1])
    assert document == {"version": "v1", "format": "parquet", "paths": [f"{three}/{build}/parquet"]}
    for wrong, says in (("arrow", "holds parquet and mds, no arrow"), ("mps", "mds")):
        code, out, err = command("path", f"{three}@prod", wrong)
        assert (code, out, says in err) == (2, "", True)


def test_show_tells_the_lineage(command, three):
    code, out, _ = command("show", three)
    assert code == 0
    for text in ("s: 1 file, 7 bytes", "model m, revision r1", "origin computed", "numpy 2", "tokenizer  name bytes"):
        assert text in out


def test_what_changed_between_two_versions(command, three):
    code, out, err = command("diff", f"{three}@1", f"{three}@3", "--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert (found["before"], found["after"]) == (f"{three}@v1", f"{three}@v3")
    assert found["recipe"] == {"mix.budget": [1, 3]}
    assert found["lineage"] == {"packages.numpy": ["0", "2"]}
    assert found["inputs"] == {"s": {"added": 1, "removed": 1, "changed": 0, "same": 0}}
    assert [(d["domain"], d["kept"], d["added"], d["removed"], d["new"], d["gone"]) for d in found["documents"]] == [
        ("[/b]", 2, 0, 0, 0, 0), ("x", 1, 1, 1, 1, 0)]  # fmt: skip
    code, text, _ = command("diff", f"{three}@1", f"{three}@latest")
    assert code == 0
    for said in ("mix.budget: 1 → 3", "packages.numpy: 0 → 2", "[/b]", "2 → 2, 1 the same, byte for byte (",
                 "s: 1 fragment added, 1 fragment removed"):  # fmt: skip
        assert said in text


def test_none_of_the_shards_is_the_same(command, three):
    store = Store(three)
    one = read_manifest(store, list_versions(store)[0])
    files = [{**file, "sha256": fingerprint(file["sha256"])} for file in list_files(store, one)]
    commit_version(store, replace(with_files(store, one, files), digest="d" * 64), "now")
    text = command("diff", f"{three}@1", f"{three}@4")[1]
    assert "2 → 2, none the same" in text
    assert "recipe  the same" in text


def test_a_long_comparison_tells_how_far_it_is(command, three, monkeypatch):
    monkeypatch.setattr(screen, "SILENT_SECONDS", -1.0)
    assert "compare documents: 3 shards in" in command("diff", f"{three}@1", f"{three}@3")[2]


def test_deleting_a_version(command, three):
    for target in (three, f"{three}@v9", f"{three}@v2"):
        assert command("delete", target)[0] == 2
    assert "name the version to delete" in command("delete", three)[2]
    code, out, _ = command("delete", f"{three}@prod", "--json")
    assert (code, json.loads(out)) == (0, {"version": "v1", "deleted": True, "tags": ["prod"]})
    code, _, err = command("show", f"{three}@prod")
    assert (code, "'prod' is v1, which was deleted on 20" in err) == (2, True)
    assert command("show", f"{three}@v1")[0] == 2


def test_gc_is_a_dry_run_unless_told(command, three):
    store = Store(three)
    before = store.list()
    found = json.loads(command("gc", three, "--json")[1])
    gone = {file["path"] for file in found["files"]}
    assert (found["removed"], found["uploads"], found["at_work"]) == (False, [], [])
    assert {file["kind"] for file in found["files"]} == {"builds", "manifests", "tables"}
    code, out, _ = command("gc", three)
    assert (code, f"builds/{fingerprint(1)}" in out, "--delete does it" in out) == (0, True, True)
    assert store.list() == before
    code, out, _ = command("gc", three, "--delete")
    assert (code, f"{len(gone)} files, {found['bytes']:,} bytes removed" in out) == (0, True)
    assert store.list() == {path: size for path, size in before.items() if path not in gone}
    for version in ("v1", "v3"):
        assert command("diff", f"{three}@{version}", f"{three}@v3")[0] == 0
    assert "0 files, 0 bytes could be removed" in command("gc", three)[1]


def test_gc_says_who_is_at_work_and_what_stays(command, three):
    store = Store(three)
    with active_driver(store) as driver:
        driver.use_plans([fingerprint(1)])
        code, out, _ = command("gc", three)
        assert code == 0
        assert f"process {os.getpid()} on {socket.gethostname()} was at work less than a minute ago" in out
        assert f"these stay: builds/{fingerprint(1)}, caches, landmarks, manifests, tables, checks, temporary files" in out
        assert f"if none of them is at work any more: chameleon-data gc {three} --older-than 0" in out
        (found,) = json.loads(command("gc", three, "--json")[1])["at_work"]
        assert (found["record"], found["host"], found["pid"]) == (driver.path, socket.gethostname(), os.getpid())
        assert (found["spares"][0], found["age_seconds"] < 60) == (f"builds/{fingerprint(1)}", True)
        code, out, _ = command("gc", three, "--delete", "--older-than", "0")
        assert (code, "active records" in out, "at work" in out) == (0, True, False)
        assert f"builds/{fingerprint(1)}" in out


@pytest.mark.parametrize("age", ["1", "h", "1.5h", "-1h", "7 d", "1y", ""])
def test_gc_refuses_what_is_no_duration(command, three, age):
    code, _, err = command("gc", three, "--older-than", age)
    assert (code, "is no duration; write 0, or a whole number and a unit: 30s, 90m, 12h, 7d, 2w" in err) == (2, True)


def test_gc_takes_every_unit_and_shows_the_option(command, three):
    for age in ("0", "30s", "90m", "12h", "7d", "2w"):
        assert command("gc", three, "--older-than", age)[0] == 0
    assert "--older-than" in command("gc", "--help")[1]


def test_gc_of_no_dataset_is_refused(command, tmp_path):
    code, _, err = command("gc", str(tmp_path / "typo"), "--delete")
    assert (code, "no dataset is there" in err) == (2, True)
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize("record", ["recipe", "manifest"])
def test_the_schema_that_is_printed_is_the_one_that_ships(command, record):
    shipped = json.loads((ROOT / f"chameleon_data/schemas/{record}.json").read_text(encoding="utf-8"))
    code, out, _ = command("schema", record)
    advice = f"run: chameleon-data schema {record} > schema.json, then move it to chameleon_data/schemas/{record}.json"
    assert (code, json.loads(out)) == (0, shipped), advice
    assert command("schema", record, "--json")[:2] == (0, out)
    assert command("schema", "shard")[0] == 2


# Build and verify, whose passes are made up


@pytest.mark.parametrize(
    ("new", "beside", "written", "said"),
    [
        (True, False, 6, None),
        (False, False, 0, "nothing to do: v1 is already this build"),
        (False, False, 1, "1 missing shard written again: v1 is already this build"),
        (False, True, 3, "another build of the same plan ran at the same time and made v1, which is this build"),
    ],
)
def test_a_build_of_what_is_there_tells_no_old_timings(command, dataset, tmp_path, monkeypatch, new, beside, written, said):
    from chameleon_data.pipelines import build

    (version,) = list_versions(Store(dataset))
    timings, reused = dict.fromkeys(TIMED_PASSES, 1.0), {"embed": "embedded 8 of 8 domains"}
    manifest = replace(read_manifest(Store(dataset), version), timings=timings, reused=reused)
    built = build.Built(manifest, version, new, beside, written, KeptSummary(5000, 1, 2, "no room"))
    monkeypatch.setattr(EngineOptions, "start", lambda *_: nullcontext((None, lambda *_: None)))
    monkeypatch.setattr(build, "build_recipe", lambda *_: built)
    (tmp_path / "r.yaml").write_text("name: t\nout: out\nsources: {a: x.jsonl}\n")
    code, text, _ = command("build", str(tmp_path / "r.yaml"))
    assert (code, "seconds" in text, "embedded 8" in text, "already this build" in text) == (0, new, new, not new and not beside)
    assert said is None or said in text
    assert text.count("builds/x") == 1, "the folder is told once"
    assert "shards  1 in each of parquet/, mds/" in text
    assert "5,000 bytes of rows for the next mixture, until gc --caches removes them" in text
    assert ("as its rows are not kept: no room" in text) == bool(written)
    assert json.loads(command("build", str(tmp_path / "r.yaml"), "--json")[1])["new"] is new


def test_verify_says_what_it_read_again_of_the_corpus(command, three, monkeypatch):
    from chameleon_data.pipelines import verify as prove_again
    from chameleon_data.versions import verify
    from chameleon_data.versions.checks import balance

    worst = balance.Deviation("x", "the whole", 0.0, 1)
    found = verify.Verification((), 2, 4, 99, worst, worst, worst, {})
    store = Store(three)
    manifest = read_manifest(store, list_versions(store)[0])
    domains = {name: replace(domain, rows_read=1_000) for name, domain in manifest.domains.items()}
    commit_version(store, replace(manifest, domains=domains, digest="d" * 64), "now")
    monkeypatch.setattr(EngineOptions, "start", lambda *_: nullcontext((None, lambda *_: None)))
    monkeypatch.setattr(verify, "verify_version", lambda *_: found)
    monkeypatch.setattr(prove_again, "verify_on_engine", lambda *_: found)
    for problems, code in (([], 0), (["the corpus differs"], 1)):
        monkeypatch.setattr(prove_again, "check_against_corpus", lambda *_, problems=problems: problems)
        done, text, _ = command("verify", three, "--corpus")
        assert (done, "2 domains read again, 2,000 rows: the books and the plan agree" in text) == (code, not problems)
        again = json.loads(command("verify", three, "--corpus", "--json")[1])["corpus"]
        assert again == (None if problems else {"domains": 2, "rows": 2_000})
    assert "read again" not in command("verify", three)[1]


def test_an_engine_is_chosen_by_its_name_or_by_an_address(command, tmp_path, monkeypatch):
    from chameleon_data.pipelines import local_engine, ray_engine

    (tmp_path / "r.yaml").write_text("name: t\nout: out\nsources: {a: x.jsonl}\n")
    asked: list[Any] = []

    def refuse(name: str) -> Any:
        def engine(*arguments: Any) -> Any:
            *said, note, gpu_share = arguments
            asked.append((name, *said, note.__name__, gpu_share))
            raise InputError("enough")

        return engine

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(local_engine, "local_engine", refuse("local"))
    monkeypatch.setattr(ray_engine, "ray_engine", refuse("ray"))

    def engines(*flags: str) -> set[Any]:
        asked.clear()
        for verb in ("weights", "plan", "build"):
            assert command(verb, str(tmp_path / "r.yaml"), *flags)[0] == 2
        assert len(asked) in (0, 3)
        return set(asked)

    assert engines() == {("local", None, None, "note", 1.0)}
    assert engines("--workers", "3", "--memory", "2GB") == {("local", 3, 2 * 10**9, "note", 1.0)}
    assert engines("--engine", "ray", "--workers", "3") == {("ray", None, 3, False, "note", 1.0)}
    assert engines("--address", "h:1") == {("ray", "h:1", None, False, "note", 1.0)}
    assert engines("--address", "h:1", "--open-cluster") == {("ray", "h:1", None, True, "note", 1.0)}
    monkeypatch.setenv("RAY_ADDRESS", "e:1")
    assert engines() == {("ray", "e:1", None, False, "note", 1.0)}
    assert engines("--gpu-share", "0.5") == {("ray", "e:1", None, False, "note", 0.5)}
    assert engines("--engine", "local", "--gpu-share", "0.5") == {("local", None, None, "note", 0.5)}
    for flags, says in (
        (("--engine", "local", "--address", "h:1"), "leave one of them out"),
        (("--engine", "ray", "--memory", "2GB"), "a Ray cluster has memory of its own"),
        (("--engine", "local", "--memory", "much"), "--memory: 'much' is not a quantity"),
        (("--engine", "local", "--memory", "0"), "--memory: 0 bytes are too few"),
    ):
        assert engines(*flags) == set()
        assert says in command("build", str(tmp_path / "r.yaml"), *flags, "--json")[1]
