"""The files under jobs/ with which a scheduler starts the command: each is linted, and runs with stand-ins."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.support.pages import read_blocks
from tests.support.paths import ROOT

CONTAINER = ROOT / "jobs/container/Containerfile"
RAY_JOB = ROOT / "jobs/kubernetes/rayjob.yaml"
BATCH = ROOT / "jobs/slurm/build.sbatch"
BIN = Path(sys.executable).parent
KUBERNETES = "1.34"


def lint(program: str, *files: Path) -> str:
    found = subprocess.run([BIN / program, *files], capture_output=True, text=True, check=False)
    return found.stdout + found.stderr


def test_the_container_file_passes_its_linter() -> None:
    assert lint("hadolint", CONTAINER) == ""


def test_what_the_container_copies_is_there_and_enough_to_install() -> None:
    copied = {name for line in re.findall(r"^COPY (.+) \S+$", CONTAINER.read_text(), re.M) for name in line.split()}
    assert {name for name in copied if not (ROOT / name).exists()} == set()
    project = (ROOT / "pyproject.toml").read_text()
    assert {"pyproject.toml", "constraints.txt", "chameleon_data", "pipelines", "jobs"} <= copied
    assert {name for name in ("README.md", "LICENSE") if name in project} <= copied


@pytest.mark.parametrize("script", [BATCH, ROOT / "jobs/cluster/submit", ROOT / ".ci/run"], ids=lambda path: path.name)
def test_scripts_pass_their_linter(script: Path) -> None:
    assert lint("shellcheck", script) == ""
    assert os.access(script, os.X_OK)


@pytest.mark.parametrize("file", [RAY_JOB, BATCH], ids=lambda path: path.name)
def test_there_are_two_places_to_edit(file: Path) -> None:
    assert re.findall(r"# (EDIT \d)", file.read_text()) == ["EDIT 1", "EDIT 2"]


@pytest.mark.parametrize(("page", "file"), [("kubernetes.md", RAY_JOB), ("slurm.md", BATCH)], ids=["kubernetes", "slurm"])
def test_the_page_shows_the_places_to_edit_as_they_are_in_the_file(page: str, file: Path) -> None:
    """Every line of the section's blocks is a line of the file, but for a comment behind it, and both marks are named."""
    text = file.read_text()
    lines = {re.sub(r"\s+#.*", "", line).strip(" -") for line in text.splitlines() if not line.startswith("# ")}
    lines |= {line for line in text.splitlines() if line.startswith("#SBATCH")}
    shown = [block for block in read_blocks(ROOT / "docs/howto" / page) if block.section == "Two places to edit"]
    assert {line.strip() for block in shown for line in block.code.splitlines()} <= lines
    assert len(shown) >= 2
    assert all(f"`EDIT {number}`" in (ROOT / "docs/howto" / page).read_text() for number in (1, 2))


def groups(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    cluster = job["spec"]["rayClusterSpec"]
    yield cluster["headGroupSpec"]
    yield from cluster["workerGroupSpecs"]


@pytest.fixture
def ray_job() -> dict[str, Any]:
    job: dict[str, Any] = yaml.safe_load(RAY_JOB.read_text())
    return job


def test_the_pods_of_the_ray_job_fit_the_schema_of_kubernetes(ray_job: dict[str, Any]) -> None:
    for group in groups(ray_job):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "node"}, **group["template"]}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate({**pod, "spec": {**pod["spec"], "continers": []}}, KUBERNETES, strict=True)


def test_the_ray_job_asks_for_a_token_and_the_ray_of_this_project(ray_job: dict[str, Any]) -> None:
    assert (ray_job["apiVersion"], ray_job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = ray_job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert f"ray=={cluster['rayVersion']}\n" in (ROOT / "constraints.txt").read_text()
    for group in groups(ray_job):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        (container,) = group["template"]["spec"]["containers"]
        (mount,) = container["volumeMounts"]
        assert ray_job["spec"]["entrypoint"].startswith(f"chameleon-data build {mount['mountPath']}/")
        assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"]


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """The environment of a Slurm job whose programs say what they were asked, and run what they were given."""
    programs = {
        "scontrol": 'echo "scontrol $*" >> "$SAID"; printf "node-1\\nnode-2\\n"',
        "srun": 'echo "srun $*" >> "$SAID"; exec "$@"',
        "ray": 'echo "token ${#RAY_AUTH_TOKEN} $RAY_AUTH_MODE" >> "$SAID"; until [ "$1" = -- ]; do shift; done; shift; exec "$@"',
        "chameleon-data": 'echo "chameleon-data $*" >> "$SAID"; exit 3',
    }
    (tmp_path / "venv/bin").mkdir(parents=True)
    for name, body in programs.items():
        file = tmp_path / "venv/bin" / name
        file.write_text(f"#!/usr/bin/env bash\n{body}\n")
        file.chmod(0o755)
    (tmp_path / "mine.yaml").touch()
    return {
        "PATH": os.environ["PATH"], "SAID": str(tmp_path / "said"), "VENV": str(tmp_path / "venv"),
        "RECIPE": str(tmp_path / "mine.yaml"), "SLURM_JOB_NODELIST": "node-[1-2]", "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_PER_TASK": "32",
    }  # fmt: skip


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the token")
def test_the_slurm_script_runs_the_command_on_a_cluster_with_a_token(slurm: dict[str, str]) -> None:
    assert subprocess.run([BATCH], env=slurm, check=False).returncode == 3  # that of the command
    recipe = slurm["RECIPE"]
    command = f"chameleon-data build {recipe} --address auto"
    assert Path(slurm["SAID"]).read_text().splitlines() == [
        "scontrol show hostnames node-[1-2]",
        f"srun ray symmetric-run --address node-1:6379 --min-nodes 2 --num-cpus 32 -- {command}",
        "token 64 token",
        command,
    ]


@pytest.mark.parametrize("lacking", ["RECIPE", "VENV"])
def test_the_slurm_script_says_what_to_edit(slurm: dict[str, str], lacking: str) -> None:
    ended = subprocess.run([BATCH], env={**slurm, lacking: "/nowhere"}, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert f"edit {lacking}" in ended.stderr
    assert not Path(slurm["SAID"]).exists()
