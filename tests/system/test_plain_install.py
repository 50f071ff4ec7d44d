"""What a person gets from `pip install .`: a wheel beside its dependencies, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from chameleon_data import __version__
from tests.support.inline_builds import write_small_recipe
from tests.support.paths import ROOT

SOURCES = ("chameleon_data", "pipelines", "jobs", "pyproject.toml", "README.md", "LICENSE")


def dependencies(requirements: list[str], known: set[str]) -> set[str]:
    """The packages that these requirements bring, and what they bring in turn, without extras."""
    for text in requirements:
        wanted = Requirement(text)
        applies = wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in ("", *wanted.extras))
        if not applies or wanted.name in known:
            continue
        try:
            found = distribution(wanted.name)
        except PackageNotFoundError:
            continue  # for another platform
        known.add(wanted.name)
        inner = [text for text in found.requires or () if "extra ==" not in text]
        inner += [text for text in found.requires or () for extra in wanted.extras if f'extra == "{extra}"' in text]
        dependencies([text.partition(";")[0] if "extra ==" in text else text for text in inner], known)
    return known


def run(command: list[str | Path], folder: Path, **changes: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | changes
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel, and with links to its dependencies: nothing is fetched."""
    folder = tmp_path_factory.mktemp("plain")
    (folder / "source").mkdir()
    for name in SOURCES:  # links are kept as links, as in a clone
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / "source" / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / "source" / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    run([*pip, "wheel", ".", "--no-deps", "--no-build-isolation", "--wheel-dir", folder], folder / "source")
    (wheel,) = folder.glob("*.whl")
    run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], folder)
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder / "venv"), "platbase": str(folder / "venv")}))
    python = folder / "venv/bin/python"
    run([*pip, "--python", python, "install", "--no-deps", "--no-index", wheel], folder)
    assert {path.name.partition("-")[0] for path in packages.iterdir()} == {"chameleon_data"}  # no jobs, no pipelines beside it
    own = next(packages.glob("chameleon_data-*.dist-info")) / "METADATA"
    lines = own.read_text(encoding="utf-8").splitlines()
    required = [line.partition(": ")[2] for line in lines if line.startswith("Requires-Dist") and "extra ==" not in line]
    for name in dependencies(required, set()):
        for file in distribution(name).files or ():
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (packages / top).exists():
                (packages / top).symlink_to(distribution(name).locate_file(top))
    return folder / "venv/bin"


def test_the_command_builds_and_verifies(bare: Path, tmp_path: Path) -> None:
    """In the project's folder too, where `jobs` and `pipelines` lie beside."""
    recipe = write_small_recipe(tmp_path, str(tmp_path / "out"))
    (tmp_path / "plain.json").write_text(recipe.model_dump_json(by_alias=True))
    (tmp_path / "plain.yaml").write_text((tmp_path / "plain.json").read_text())
    command = bare / "chameleon-data"
    assert run([command, "--version"], tmp_path) == f"chameleon-data {__version__}\n"
    assert "Commands:" in run([command, "--help"], ROOT, PYTHONPATH=".")
    built = json.loads(run([command, "build", tmp_path / "plain.yaml", "--json", "--workers", "1"], tmp_path))
    assert built["version"] == "v1"
    assert "every check holds" in run([command, "verify", tmp_path / "out"], tmp_path)
    code = "import chameleon_data as c; print(c.__file__, c.domain_weights({'a': [[1., 0]], 'b': [[0., 1]], 'c': [[2., 0]]}))"
    said = run([bare / "python", "-c", code], tmp_path)
    assert said.startswith(str(bare.parent))
    assert "spread out as" in said


def test_extras_are_asked_for_by_name(bare: Path, tmp_path: Path) -> None:
    recipe = write_small_recipe(tmp_path, str(tmp_path / "out"))
    plain = json.loads(recipe.model_dump_json(by_alias=True))
    plain["weights"]["from"] = None
    (tmp_path / "plain.yaml").write_text(json.dumps(plain))
    done = subprocess.run(
        [bare / "chameleon-data", "plan", tmp_path / "plain.yaml"], capture_output=True, text=True, cwd=tmp_path, timeout=300
    )
    assert done.returncode == 2
    assert "pip install '.[embed]' in the repository" in done.stderr
