"""What the command says when something is wrong, and that what it prints is what is there. No Ray but where it is refused."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chameleon_data.errors import InputError
from chameleon_data.hashing import fingerprint
from chameleon_data.jobs import cli, screen
from chameleon_data.store.store import Store
from chameleon_data.versions.leases import leased
from chameleon_data.versions.manifest import TIMED_PASSES
from chameleon_data.versions.versions import (
    NO_VERSION_YET,
    commit_version,
    delete_version,
    list_versions,
    load_manifest,
    tag_version,
)
from tests.support.paths import ROOT
from tests.unit.versions.test_diff import publish

HOSTILE = ("[/b]", "code[python]", "[red]x[/red]", ":smile:", "[link=file:///x]y")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run the command in this process; returns its exit code, stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["chameleon-data", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        seen = capsys.readouterr()
        return int(end.value.code or 0), seen.out, seen.err

    return run


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    """A store with one version, whose domains have names that look like markup."""
    domain = {
        "weight": 0.2,
        "weight_interval": None,
        "available_tokens": 10,
        "tokens": 10,
        "rows": 2,
        "epochs": 1.0,
        "quarantined": 0,
    }
    manifest: dict[str, Any] = {
        "format": 1,
        "name": "[/name]",
        "build": "builds/x",
        "plan_digest": "a" * 64,
        "digest": "b" * 64,
        "content_digest": "c" * 64,
        "shard_count": 1,
        "seed": 0,
        "unit": "bytes",
        "domains": dict.fromkeys(HOSTILE, domain),
    }
    commit_version(Store(str(tmp_path / "out")), manifest, "2026-01-01")
    return str(tmp_path / "out")


def test_names_that_look_like_markup_are_printed_as_they_are(command, dataset):
    code, out, _ = command("show", dataset)
    assert code == 0
    for name in HOSTILE:
        assert name in out
    code, out, _ = command("versions", dataset)
    assert (code, "[/name]" in out) == (0, True)


def test_messages_that_look_like_markup_are_printed_as_they_are(command, tmp_path):
    code, _, err = command("weights", str(tmp_path / "[/b][bold]:smile:.yaml"))
    assert code == 2
    assert "[/b][bold]:smile:.yaml: the recipe cannot be read" in err


def test_notes_and_sentences_are_printed_as_they_are(capsys):
    moved = {"domain": "[/b]", "before": 0.1, "after": 0.2, "bound": "floor"}
    screen.print_notes({"moved": [moved], "warnings": ["[/x] :smile:"]}, {"survey": "reused [/c]"})
    screen.print_pairs([("next", "verify /a/[/d]")])
    out = capsys.readouterr().out
    assert all(text in out for text in ("[/b]: 0.1000 to 0.2000", "[/x] :smile:", "reused [/c]", "verify /a/[/d]"))


COMMANDS = "\x1b]0;owned\x07 \x9b31m \u202ex"
"""Sets a terminal's title, rings, colours, turns the direction of writing."""


def test_what_a_terminal_would_obey_is_written_out(command, dataset, tmp_path, monkeypatch):
    def obeyed(text: str) -> list[str]:
        return [c for c in text if c != "\n" and not c.isprintable()]

    code, _, err = command("weights", str(tmp_path / f"{COMMANDS}.yaml"))
    assert (code, obeyed(err)) == (2, [])
    assert r"\x1b]0;owned\x07 \x9b31m \u202ex" in err
    manifest = {**load_manifest(Store(dataset), list_versions(Store(dataset))[0]), "name": COMMANDS, "digest": "d" * 64}
    manifest["domains"] = {COMMANDS: manifest["domains"]["[/b]"]}
    commit_version(Store(dataset), {**manifest, "plan_digest": "e" * 64}, COMMANDS)
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


@pytest.mark.parametrize(
    "arguments",
    [
        ["build"],
        ["build", "r.yaml", "--nonsense"],
        ["build", "r.yaml", "--workers", "0"],
        ["build", "r.yaml", "more"],
        ["show"],
        ["report", "x", "--to"],
        ["tag", "x"],
        ["nosuch"],
    ],
)
def test_usage_errors_are_one_document_with_json_and_none_without(command, arguments):
    code, out, err = command(*arguments[:1], "--json", *arguments[1:])
    assert code == 2
    assert list(json.loads(out)) == ["error"]
    assert "error " in err
    code, out, err = command(*arguments)
    assert (code, out, "error " in err) == (2, "", True)


def test_help_and_success_have_exit_0(command, dataset):
    code, out, err = command()
    assert (code, out.count("Usage"), err) == (0, 1, "")
    assert command("--help")[0] == 0
    assert command("build", "--help")[0] == 0
    code, out, _ = command("versions", dataset, "--json")
    assert (code, json.loads(out)[0]["version"]) == (0, "v1")


def test_an_interrupt_has_130_and_a_document(command, dataset, monkeypatch):
    def interrupt(_: Store) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "list_versions", interrupt)
    code, out, err = command("versions", dataset, "--json")
    assert (code, json.loads(out)) == (130, {"error": "interrupted"})
    assert "goes on from here" in err
    assert command("versions", dataset)[:2] == (130, "")


def test_a_defect_of_ours_has_70_a_document_and_a_traceback(command, dataset, monkeypatch):
    def fail(_: Store) -> None:
        raise ZeroDivisionError("[/b] oh")

    monkeypatch.setattr(cli, "list_versions", fail)
    code, out, err = command("versions", dataset, "--json")
    assert code == 70
    assert "ZeroDivisionError: [/b] oh" in json.loads(out)["error"]
    assert "Traceback" in err
    assert command("versions", dataset)[:2] == (70, "")


def test_a_path_that_is_not_utf8_still_gets_its_document(tmp_path):
    typo = os.fsencode(tmp_path) + b"/caf\xe9"
    done = subprocess.run([Path(sys.executable).parent / "chameleon-data", "versions", typo, "--json"], capture_output=True)
    assert done.returncode == 2
    assert "no dataset" in json.loads(done.stdout)["error"]


# Versions


@pytest.fixture
def three(tmp_path: Path) -> str:
    """Three versions, of which the second is deleted; `prod` was at the second and is at the first."""
    store = Store(str(tmp_path / "three"))
    rows = [[("x", f"text {i}", "train"), ("[/b]", "the same", "train")] for i in range(3)]
    made = []
    for i in range(3):
        plan = fingerprint(i)
        inputs = [{"source": "s", "url": f"/{i}", "row_group": None, "bytes": 7, "identity": "i"}]
        manifest = publish(store, plan, [rows[i], rows[0]], provenance={"inputs": inputs, "packages": {"numpy": str(i)}})
        more = {"weight_interval": None, "available_tokens": 9, "quarantined": 0}
        manifest |= {
            "format": 1, "name": f"set {i}", "build": f"builds/{plan}", "plan_digest": plan, "digest": fingerprint([i]),
            "content_digest": "c", "shard_count": 2, "seed": 0, "unit": "bytes", "recipe": {"mix": {"budget": i}},
            "domains": {name: {**d, **more} for name, d in manifest["domains"].items()},
            "weights": {"origin": "computed", "embedder": {"model": "m", "revision": "r1"}},
        }  # fmt: skip
        made.append(commit_version(store, manifest, f"2026-01-0{i + 1}"))
    tag_version(store, made[1], "prod", "then")
    tag_version(store, made[0], "prod", "later")
    tag_version(store, made[1], "old", "once")
    delete_version(store, made[1], "2026-02-02")
    return store.url


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
    assert found["recipe"] == {"mix.budget": [0, 2]}
    assert found["lineage"] == {"packages.numpy": ["0", "2"]}
    assert found["inputs"] == {"s": {"added": 1, "removed": 1, "changed": 0, "same": 0}}
    assert [(d["domain"], d["kept"], d["added"], d["removed"], d["new"], d["gone"]) for d in found["documents"]] == [
        ("[/b]", 2, 0, 0, 0, 0), ("x", 1, 1, 1, 1, 0)]  # fmt: skip
    code, text, _ = command("diff", f"{three}@1", f"{three}@latest")
    assert code == 0
    for said in ("mix.budget: 0 → 2", "packages.numpy: 0 → 2", "[/b]", "2 → 2, 1 the same, byte for byte (",
                 "s: 1 fragment added, 1 fragment removed"):  # fmt: skip
        assert said in text


def test_changes_are_told_as_people_read_them() -> None:
    changes: dict[str, Any] = {
        "mix.budget": [6_000_000, 5_000_000], "mix.validation": [0.0, 0.020000000000000004], "shards.lineage": [False, True],
        "shards.formats": [["parquet", "mds"], ["parquet"]], "code.commit": ["a" * 40, "b" * 40], "seed": [1, None],
        "tokens.tokenizer": [None, "/models/" + "x" * 90 + "/tokenizer.json"], "tokens.unit": ["bytes", None],
        "writer.formats.mds.hashes": [["sha256", "xxh64"], None], "writer.formats.mds.level": [3, None],
        'sources."a.b".path': [["/data"], None], 'sources."a.b".text': ["body", None], 'sources."c.d"': [None, 1],
    }  # fmt: skip
    assert screen.format_changes(changes) == [
        "mix.budget: 6,000,000 → 5,000,000", "mix.validation: 0 → 0.02", "shards.lineage: false → true",
        "shards.formats: [parquet, mds] → [parquet]", "code.commit: aaaaaaaaaaaa… → bbbbbbbbbbbb…", "seed: 1 → –",
        f"tokens.tokenizer: – → /models/{'x' * 12}…{'x' * 25}/tokenizer.json", "tokens.unit: bytes → –",
        "writer.formats.mds: hashes [sha256, xxh64], level 3 → –", 'sources."a.b": path [/data], text body → –',
        'sources."c.d": – → 1',
    ]  # fmt: skip


def test_none_of_the_shards_is_the_same(command, three):
    store = Store(three)
    one = load_manifest(store, list_versions(store)[0])
    shards = [{**file, "sha256": fingerprint(file["sha256"])} for file in one["shards"]]
    commit_version(store, {**one, "shards": shards, "digest": "d" * 64}, "now")
    text = command("diff", f"{three}@1", f"{three}@4")[1]
    assert "2 → 2, none the same" in text
    assert "recipe  the same" in text


def test_a_long_comparison_tells_how_far_it_is(command, three, monkeypatch):
    monkeypatch.setattr(screen, "SILENT_SECONDS", -1.0)
    assert "compare documents: 3 of 3" in command("diff", f"{three}@1", f"{three}@3")[2]


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
    assert {file["kind"] for file in found["files"]} == {"builds", "manifests"}
    code, out, _ = command("gc", three)
    assert (code, f"builds/{fingerprint(1)}" in out, "--delete does it" in out) == (0, True, True)
    assert store.list() == before
    code, out, _ = command("gc", three, "--delete")
    assert (code, f"{len(gone)} files, {found['bytes']:,} bytes removed" in out) == (0, True)
    assert store.list() == {path: size for path, size in before.items() if path not in gone}
    for version in ("v1", "v3"):
        assert command("diff", f"{three}@{version}", f"{three}@v3")[0] == 0
    assert "0 files, 0 bytes could be removed" in command("gc", three)[1]
    with leased(store):
        assert "a build is at work" in command("gc", three)[1]


def test_gc_of_no_dataset_is_refused(command, tmp_path):
    code, _, err = command("gc", str(tmp_path / "typo"), "--delete")
    assert (code, "no dataset is there" in err) == (2, True)
    assert not (tmp_path / "typo").exists()


# What a build, a plan and a proof say at their end


DOMAINS = {
    "a": {"weight": 0.3, "weight_interval": [0.28, 0.31]},
    "b": {"weight": 0.7, "weight_interval": [0.5, 0.6]},
    "c": {"weight": 0.7, "weight_interval": None},
}


def test_why_a_weight_lies_outside_its_interval_is_said(capsys):
    screen.print_outside(DOMAINS)
    assert capsys.readouterr().out == (
        "intervals are of the weights by leverage alone, before priors and bounds moved them: b lies outside its own\n"
    )
    screen.print_outside(dict.fromkeys("xy", DOMAINS["b"]))
    assert "x, y lie outside theirs" in capsys.readouterr().out
    screen.print_outside({"a": DOMAINS["a"]})
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("new", "written", "said"),
    [
        (True, 6, None),
        (False, 0, "nothing to do: v1 is already this build"),
        (False, 1, "1 missing shard written again: v1 is already this build"),
    ],
)
def test_a_build_of_what_is_there_tells_no_old_timings(command, dataset, tmp_path, monkeypatch, new, written, said):
    from chameleon_data.pipelines import build, ray_cluster

    (version,) = list_versions(Store(dataset))
    manifest = load_manifest(Store(dataset), version) | {
        "weights": {"moved": [], "warnings": []}, "reused": {"embed": "embedded 8 of 8 domains"}, "validation": {},
        "timings": dict.fromkeys(TIMED_PASSES, 1.0),
    }  # fmt: skip
    built = build.Built(manifest, version, new, written)
    monkeypatch.setattr(ray_cluster, "cluster", lambda *_: ExitStack())
    monkeypatch.setattr(build, "build_recipe", lambda *_: built)
    (tmp_path / "r.yaml").write_text("name: t\nout: out\nsources: {a: x.jsonl}\n")
    code, text, _ = command("build", str(tmp_path / "r.yaml"))
    assert (code, "seconds" in text, "embedded 8" in text, "already this build" in text) == (0, new, new, not new)
    assert said is None or said in text
    assert text.count("builds/x") == 1, "the folder is told once"
    assert "shards  1 in each of parquet/, mds/" in text
    assert json.loads(command("build", str(tmp_path / "r.yaml"), "--json")[1])["new"] is new


@pytest.mark.parametrize(
    ("packed", "shards", "size", "seconds", "said"),
    [
        (False, {"train": 1}, 900, 0.2, ("1, of about 900 bytes before", "expected  under a second", "largest document")),
        (True, {"train": 3, "validation": 1}, 4_000, 61.3, ("3, of about 1,000 bytes each", "61 s to write", "one sequence")),
    ],
)
def test_a_plan_says_how_large_its_shards_come_out(capsys, packed, shards, size, seconds, said):
    described = {
        "domains": {}, "exhausted": {}, "weights": {"moved": [], "warnings": []}, "warnings": [], "tokens": 9, "budget": 10,
        "shard_count": shards["train"], "shard_counts": shards, "bytes": size, "expected_seconds": seconds, "plan_digest": "p",
    }  # fmt: skip
    layout = SimpleNamespace(plan=SimpleNamespace(packing="cross" if packed else None))
    planned = SimpleNamespace(describe=lambda: described, layouts=[layout], weighed=SimpleNamespace(reused={}), cpus=2.0)
    screen.print_plan(planned)
    text = capsys.readouterr().out
    assert all(words in text for words in said), text
    assert "quota  weight × budget" in text


def test_verify_says_what_it_read_again_of_the_corpus(command, three, monkeypatch):
    from chameleon_data.pipelines import ray_cluster
    from chameleon_data.pipelines import verify as prove_again
    from chameleon_data.versions import verify

    worst = verify.Worst("x", "the whole", 0.0, 1)
    found = verify.Verification((), 2, 4, 99, worst, worst, worst, {})
    store = Store(three)
    manifest = load_manifest(store, list_versions(store)[0])
    manifest["domains"] = {name: {**d, "rows_read": 1_000} for name, d in manifest["domains"].items()}
    commit_version(store, {**manifest, "digest": "d" * 64}, "now")
    monkeypatch.setattr(ray_cluster, "cluster", lambda *_: ExitStack())
    monkeypatch.setattr(verify, "verify_version", lambda *_: found)
    for problems, code in (([], 0), (["the corpus differs"], 1)):
        monkeypatch.setattr(prove_again, "check_against_corpus", lambda *_, problems=problems: (problems, {}))
        done, text, _ = command("verify", three, "--corpus")
        assert (done, "2 domains read again, 2,000 rows: the books and the plan agree" in text) == (code, not problems)
        again = json.loads(command("verify", three, "--corpus", "--json")[1])["corpus"]
        assert again == (None if problems else {"domains": 2, "rows": 2_000})
    assert "read again" not in command("verify", three)[1]


# A cluster that is not there


@pytest.fixture
def closed_port():
    """A port that is taken, so that nobody else gets it, and where nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield int(taken.getsockname()[1])


@pytest.mark.parametrize(
    "address", ["127.0.0.1:{port}", "ray://127.0.0.1:{port}", "nonsense", "127.0.0.1:99999", "http://127.0.0.1:1/x"]
)
def test_an_address_without_a_cluster_is_refused_at_once(address, closed_port):
    from chameleon_data.pipelines.ray_cluster import cluster

    address, start = address.format(port=closed_port), time.monotonic()
    with pytest.raises(InputError, match=re.escape(f"--address {address}: ") + ".*leave --address out"), cluster(address):
        pass
    assert time.monotonic() - start < 5


def test_an_address_with_a_password_is_not_repeated():
    from chameleon_data.pipelines.ray_cluster import cluster

    with pytest.raises(InputError, match=r"--address …@host:1: is not HOST:PORT") as refusal, cluster("ray://me:secret@host:1"):
        pass
    assert "secret" not in str(refusal.value)


def test_a_host_that_does_not_answer_is_given_up(monkeypatch):
    from chameleon_data.pipelines import ray_cluster as cluster

    def silent(where: tuple[str, int], timeout: float) -> None:
        assert (where, timeout) == (("127.0.0.1", 6379), cluster.CONNECT_SECONDS)
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", silent)
    with pytest.raises(InputError, match=r"timed out.*leave --address out"), cluster.cluster("127.0.0.1:6379"):
        pass


@pytest.mark.parametrize("fault", [ConnectionError("none found"), ValueError("bad"), RuntimeError("version 2.0 against 2.60")])
def test_what_ray_says_about_an_address_is_one_message(monkeypatch, fault):
    import ray

    from chameleon_data.pipelines.ray_cluster import cluster

    def refuse(**_: Any) -> None:
        raise fault

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(InputError, match=rf"--address auto: .*{fault}.*leave --address out"), cluster("auto"):
        pass


# A cluster that lets in whoever comes


@pytest.fixture
def answering():
    """Start a server that answers every question with this status code; returns its HOST:PORT."""
    grpc = pytest.importorskip("grpc")
    with ExitStack() as running:

        def start(code: str | None) -> str:
            def answer(_: bytes, context: Any) -> bytes:
                if code is not None:
                    context.abort(grpc.StatusCode[code], "no")
                return b""

            class Any_(grpc.GenericRpcHandler):
                def service(self, _: Any) -> Any:
                    return grpc.unary_unary_rpc_method_handler(answer)

            server = grpc.server(running.enter_context(ThreadPoolExecutor(1)), handlers=[Any_()])
            port = server.add_insecure_port("127.0.0.1:0")
            server.start()
            running.callback(lambda: server.stop(None).wait())
            return f"127.0.0.1:{port}"

        yield start


class Joined(Exception):
    """In place of a cluster."""


@pytest.fixture
def joining(monkeypatch):
    """`ray.init` raises Joined, and nothing of the environment is left."""
    import ray

    def join(**_: Any) -> None:
        raise Joined

    monkeypatch.setattr(ray, "init", join)
    monkeypatch.delenv("RAY_USE_TLS", raising=False)


@pytest.mark.parametrize("scheme", ["", "ray://"])
@pytest.mark.parametrize("code", [None, "NOT_FOUND", "INTERNAL"])
def test_an_open_cluster_is_joined_only_where_that_is_said(answering, joining, scheme, code):
    from chameleon_data.pipelines.ray_cluster import cluster

    address = scheme + answering(code)
    with pytest.raises(InputError, match=rf"--address {address}: .*asks for no token.*--open-cluster"), cluster(address):
        pass
    with pytest.raises(Joined), cluster(address, allow_open=True):
        pass


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_cluster_that_asks_for_a_token_is_joined(answering, joining, scheme):
    from chameleon_data.pipelines.ray_cluster import cluster

    with pytest.raises(Joined), cluster(scheme + answering("UNAUTHENTICATED")):
        pass


def test_what_is_no_cluster_is_not_joined(answering, joining):
    from chameleon_data.pipelines.ray_cluster import cluster

    with pytest.raises(InputError, match="no Ray cluster answers there"), cluster(answering("UNAVAILABLE")):
        pass


def test_the_cluster_that_auto_finds_is_asked_before_anything_runs_on_it(answering, monkeypatch):
    import ray

    from chameleon_data.pipelines.ray_cluster import cluster

    left: list[str] = []
    found = SimpleNamespace(gcs_address=answering(None))
    monkeypatch.setattr(ray, "init", lambda **_: None)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: found)
    monkeypatch.setattr(ray, "shutdown", lambda: left.append("left"))
    with pytest.raises(InputError, match="--open-cluster"), cluster("auto"):
        left.append("used")
    assert left == ["left"]
    with cluster("auto", allow_open=True):
        left.append("used")
    found.gcs_address = answering("UNAUTHENTICATED")
    with cluster("auto"):
        left.append("used")
    assert left == ["left", "used", "left", "used", "left"]


def test_the_flag_reaches_the_cluster(command, tmp_path, monkeypatch):
    from chameleon_data.pipelines import ray_cluster

    (tmp_path / "r.yaml").write_text("name: t\nout: out\nsources: {a: x.jsonl}\n")
    asked: list[Any] = []

    def refuse(*arguments: Any) -> Any:
        asked.append(arguments)
        raise InputError("enough")

    monkeypatch.setattr(ray_cluster, "cluster", refuse)
    for verb in ("weights", "plan", "build"):
        for flag in ([], ["--open-cluster"]):
            assert command(verb, str(tmp_path / "r.yaml"), "--address", "h:1", *flag)[0] == 2
    assert asked == [("h:1", None, False), ("h:1", None, True)] * 3


# Submitting


@pytest.fixture
def submitted(tmp_path):
    """What jobs/cluster/submit asks Ray for, by a `ray` that says it back."""
    fake = tmp_path / "bin/ray"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)
    environment = {**os.environ, "PATH": f"{fake.parent}:{os.environ['PATH']}"}

    def run(*arguments: str) -> list[str]:
        done = subprocess.run(
            [ROOT / "jobs/cluster/submit", *arguments], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.splitlines()

    return run


def test_submit_runs_what_its_readme_says(submitted, tmp_path):
    (tmp_path / "recipe.yaml").touch()
    sent = submitted("build", str(tmp_path / "recipe.yaml"), "--workers", "2")
    assert sent[:5] == ["job", "submit", "--working-dir", str(tmp_path), "--"]
    assert sent[5:] == ["chameleon-data", "build", "recipe.yaml", "--address", "auto", "--json", "--workers", "2"]
    readme = (ROOT / "jobs/cluster/README.md").read_text(encoding="utf-8")
    assert "chameleon-data VERB recipe.yaml --address auto --json" in readme


def test_the_readmes_own_example_has_an_absolute_out():
    from chameleon_data.recipe import parse_recipe

    folder = ROOT / "jobs/recipes/demo"
    readme = (ROOT / "jobs/cluster/README.md").read_text(encoding="utf-8")
    pattern, instead = re.search(
        r'sed "s\|(.*)\|(.*)\|" jobs/recipes/demo/demo\.yaml > jobs/recipes/demo/submitted', readme
    ).groups()
    text, times = re.subn(pattern, instead.replace("$PWD", "/somewhere"), (folder / "demo.yaml").read_text(), flags=re.MULTILINE)
    assert times == 1
    assert parse_recipe(text, folder).out == "/somewhere/out/submitted"


def test_the_terminal_tells_of_twenty_bounds(capsys: pytest.CaptureFixture[str]) -> None:
    from chameleon_data.jobs.screen import print_notes

    moved = [{"domain": f"d{i}", "bound": "cap", "before": 0.3, "after": 0.2} for i in range(25)]
    print_notes({"moved": moved, "warnings": []}, {})
    told = capsys.readouterr().out
    assert told.count("0.3000 to 0.2000 by its cap") == 20
    assert "and 5 more" in told


def test_what_rays_threads_print_while_a_build_is_ended_is_no_part_of_the_answer() -> None:
    script = """
import sys, threading
from contextlib import redirect_stdout
from chameleon_data.errors import InputError
from chameleon_data.jobs import cli

sys.argv = ["chameleon-data", "--json"]
threading.excepthook = cli._watcher_failed
cli.err.print = lambda *_, **__: print("(raylet) my own words")  # between the answer and the end

def watch():
    raise InputError("it died")

with redirect_stdout(sys.stderr):
    thread = threading.Thread(target=watch)
    thread.start()
    thread.join()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 2
    assert json.loads(done.stdout) == {"error": "it died"}
    assert "my own words" in done.stderr
