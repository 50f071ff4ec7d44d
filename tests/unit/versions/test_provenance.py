"""Where a version comes from: its inputs summed up, its lineage, the commit and the code that ran."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

import chameleon_data
from chameleon_data.versions.corpus_tables import InputFile
from chameleon_data.versions.manifest import InputSum
from chameleon_data.versions.provenance import code_version, commit_of, describe_lineage, sum_inputs
from tests.support.manifests import example_manifest


def test_inputs_are_summed_up_by_source() -> None:
    inputs = tuple(InputFile("s", url, "jsonl", "none", 5, "i") for url in "abc")
    found = sum_inputs(inputs)
    assert found == {"s": InputSum(3, 15, found["s"].fingerprint)}
    assert sum_inputs(inputs[::-1]) == found
    assert sum_inputs((replace(inputs[0], identity="j"), *inputs[1:]))["s"].fingerprint != found["s"].fingerprint


def test_the_lineage_of_a_manifest() -> None:
    provenance = {"tokenizer": "f", "packages": {"numpy": "2"}}
    found = describe_lineage(example_manifest(seed=3, unit="t", weights={"ridge": 0.1}, provenance=provenance))
    assert found["tokenizer"] == {"name": "t", "fingerprint": "f"}
    assert (found["seed"], found["weights"]["ridge"], found["packages"]) == (3, 0.1, {"numpy": "2"})


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    return subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_of_a_checkout_and_of_a_worktree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout, worktree = tmp_path / "main", tmp_path / "worktree"
    checkout.mkdir()
    assert commit_of(checkout) is None, "no checkout"
    git(checkout, "init", "-q")
    assert commit_of(checkout) is None, "no commit yet"
    git(checkout, "commit", "-q", "--allow-empty", "-m", "one")
    git(checkout, "worktree", "add", "-q", str(worktree))
    git(worktree, "commit", "-q", "--allow-empty", "-m", "two")
    (checkout / "inside").mkdir()
    found = [commit_of(folder) for folder in (checkout, worktree, checkout / "inside")]
    assert found == [git(checkout, "rev-parse", "HEAD"), git(worktree, "rev-parse", "HEAD"), None]
    assert found[0] != found[1]
    monkeypatch.setenv("PATH", "")
    assert commit_of(checkout) is None, "git is not installed"


def test_the_code_that_runs_is_named() -> None:
    found = code_version()
    assert found.version == chameleon_data.__version__
    assert len(found.sources) == 64
