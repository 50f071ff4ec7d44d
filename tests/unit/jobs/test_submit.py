"""jobs/cluster/submit and its README."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from chameleon_data.recipe_file import parse_recipe
from tests.support.paths import ROOT


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
    folder = ROOT / "jobs/recipes/demo"
    readme = (ROOT / "jobs/cluster/README.md").read_text(encoding="utf-8")
    pattern, instead = re.search(
        r'sed "s\|(.*)\|(.*)\|" jobs/recipes/demo/demo\.yaml > jobs/recipes/demo/submitted', readme
    ).groups()
    text, times = re.subn(pattern, instead.replace("$PWD", "/somewhere"), (folder / "demo.yaml").read_text(), flags=re.MULTILINE)
    assert times == 1
    assert parse_recipe(text, folder).out == "/somewhere/out/submitted"
