"""jobs/cluster/submit and its README."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from chameleon_data.errors import InputError
from chameleon_data.jobs.cluster import submit
from chameleon_data.recipe_file import parse_recipe
from tests.support.paths import ROOT

README = (ROOT / "jobs/cluster/README.md").read_text(encoding="utf-8")


def run_submit(*arguments: str, **environment: str) -> tuple[int, str, str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    done = subprocess.run(
        [ROOT / "jobs/cluster/submit", *arguments], env={**clean, **environment}, capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


def test_the_job_runs_what_the_readme_says_on_this_code(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.touch()
    said = submit.make_entrypoint("build", recipe, ["--scratch", "/a b"])
    assert said == "python -P -m chameleon_data.jobs.start build recipe.yaml --address auto --json --scratch '/a b'"
    assert "chameleon-data VERB recipe.yaml --address auto --json" in README
    sent = submit.make_environment(recipe)
    assert sent["working_dir"] == str(tmp_path)
    assert sent["py_modules"] == [str(ROOT / "chameleon_data")]


def test_what_is_kept_with_the_job(tmp_path: Path) -> None:
    about = submit.describe_job("build", tmp_path / "recipe.yaml", ["team=data", "note=a=b"])
    assert about.keys() == {"command", "recipe", "code", "team", "note"}
    assert (about["note"], about["recipe"]) == ("a=b", "recipe.yaml")
    with pytest.raises(InputError, match="--metadata nothing: is not KEY=VALUE"):
        submit.describe_job("build", tmp_path / "recipe.yaml", ["nothing"])


@pytest.mark.parametrize(
    ("printed", "document"),
    [
        ('told\n{"pass": "survey"}\n{\n  "a": {\n    "b": 1\n  }\n}\n', {"a": {"b": 1}}),
        ('{\n  "old": 1\n}\n{\n  "new": 2\n}\nRay says goodbye\n', {"new": 2}),
        ("nothing\n{\n broken", None),
        ("", None),
    ],
)
def test_the_last_document_among_the_jobs_lines_is_found(printed: str, document: object) -> None:
    assert submit.find_document(printed) == document


def test_every_refusal_is_one_document(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.touch()
    for arguments, fault in (
        (("verify", str(recipe)), "no command that runs passes"),
        (("build", str(tmp_path / "none.yaml")), "no such recipe"),
        (("build", str(recipe)), "RAY_API_SERVER_ADDRESS: is not set"),
        (("build",), "RECIPE"),
    ):
        code, answer, said = run_submit(*arguments)
        assert code == 2, said
        assert fault in json.loads(answer)["error"]
        assert fault in said


def test_a_cluster_that_is_not_there_is_one_message(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.touch()
    code, answer, said = run_submit("build", str(recipe), RAY_API_SERVER_ADDRESS="http://127.0.0.1:1")
    assert code == 2, said
    assert "the cluster: does not take the job" in json.loads(answer)["error"]
    assert "Traceback" not in said


def test_the_readmes_own_example_has_an_absolute_out() -> None:
    folder = ROOT / "jobs/recipes/demo"
    found = re.search(r'sed "s\|(.*)\|(.*)\|" jobs/recipes/demo/demo\.yaml > jobs/recipes/demo/submitted', README)
    assert found
    pattern, instead = found.groups()
    text, times = re.subn(pattern, instead.replace("$PWD", "/somewhere"), (folder / "demo.yaml").read_text(), flags=re.MULTILINE)
    assert times == 1
    assert parse_recipe(text, folder).out == "/somewhere/out/submitted"


@pytest.mark.parametrize(("says", "tries"), [("500: No available agent to submit job", 3), ("500: another fault", 1)])
def test_a_cluster_that_has_just_started_is_waited_for(monkeypatch: pytest.MonkeyPatch, says: str, tries: int) -> None:
    monkeypatch.setattr(submit, "STATUS_SECONDS", 0.0)
    tried: list[dict[str, object]] = []

    class Client:
        def submit_job(self, **job: object) -> str:
            tried.append(job)
            if len(tried) < 3:
                raise RuntimeError(says)
            return "own"

    if tries == 3:
        assert submit._submit_patiently(Client(), entrypoint="x") == "own"  # type: ignore[arg-type]
    else:
        with pytest.raises(RuntimeError, match="another fault"):
            submit._submit_patiently(Client(), entrypoint="x")  # type: ignore[arg-type]
    assert tried == [{"entrypoint": "x"}] * tries
