"""The command as a process of its own: what only a process shows."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.corpus import documents, lay_out, write_recipe
from tests.support.paths import ROOT


def test_a_path_that_is_not_utf8_still_gets_its_document(tmp_path):
    typo = os.fsencode(tmp_path) + b"/caf\xe9"
    done = subprocess.run([Path(sys.executable).parent / "chameleon-data", "versions", typo, "--json"], capture_output=True)
    assert done.returncode == 2
    assert "no dataset" in json.loads(done.stdout)["error"]


def test_a_sigterm_ends_a_build_which_the_same_command_goes_on_with(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "recipe.yaml", lay_out(tmp_path / "corpus", documents(), ["jsonl"], 6))
    command = [sys.executable, "-m", "chameleon_data.jobs.cli", "build", str(recipe), "--json", "--workers", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stderr
        first = process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    said = json.loads(out)["error"]
    assert (process.returncode, err.splitlines()[-1]) == (143, said)
    assert "survey the corpus" in first
    kept = f"what was finished is kept in {tmp_path}/out, and the same command goes on from there"
    assert re.fullmatch(rf"terminated at '[^']+'( \([^)]+\))?; {kept}", said)
    assert "Traceback" not in err
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["version"] == "v1"
