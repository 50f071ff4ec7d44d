"""The command as a process of its own: what only a process shows."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import psutil
import pytest
from typer.main import get_command

from chameleon_data.jobs.cli import app
from chameleon_data.jobs.completion import join_words
from chameleon_data.jobs.engine_options import EngineOptions
from chameleon_data.jobs.start import ENGINE_WORDS, PASS_VERBS
from chameleon_data.pipelines.worker_process import memory_of_all, number_of_workers
from chameleon_data.store.store import Store
from chameleon_data.versions.tags import tag_version
from chameleon_data.versions.versions import commit_version
from tests.support.corpus import documents, lay_out, write_recipe
from tests.support.manifests import example_manifest
from tests.support.paths import ROOT


def test_a_path_that_is_not_utf8_still_gets_its_document(tmp_path):
    typo = os.fsencode(tmp_path) + b"/caf\xe9"
    done = subprocess.run([Path(sys.executable).parent / "chameleon-data", "versions", typo, "--json"], capture_output=True)
    assert done.returncode == 2
    assert "is not UTF-8" in json.loads(done.stdout)["error"]


def test_a_sigterm_ends_a_build_which_the_same_command_goes_on_with(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "recipe.yaml", lay_out(tmp_path / "corpus", documents(), ["jsonl"], 6))
    command = [sys.executable, "-m", "chameleon_data.jobs.start", "build", str(recipe), "--json", "--workers", "1"]
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


STARTED = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs have it ignored
class Signalling:
    def find_spec(name, path=None, target=None):
        if name == "pydantic":  # one of the first packages that the command imports
            os.kill(os.getpid(), SIGNUM)
sys.meta_path.insert(0, Signalling)
"""
MAIN = "from chameleon_data.jobs.start import start_command; start_command()"


def run_start(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=ROOT, timeout=120)


def test_the_command_is_what_starts_with_signals_heard() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert scripts == {"chameleon-data": "chameleon_data.jobs.start:start_command"}


TELLS_OF_WORKERS = """
import subprocess, sys
class Popen(subprocess.Popen):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if "chameleon_data.pipelines.local_worker" in self.args:
            print("worker", self.pid, "late" if "chameleon_data.jobs.cli" in sys.modules else "ahead", flush=True)
subprocess.Popen = Popen
from chameleon_data.jobs.start import start_command
start_command()
"""


def started_by(*words: str) -> tuple[int, list[str]]:
    """Exit code of the command, and for each worker process whether it was started `ahead` or `late`. None of them is left."""
    done = run_start(TELLS_OF_WORKERS, *words)
    workers = [line.split() for line in done.stdout.splitlines() if line.startswith("worker ")]
    assert not any(psutil.pid_exists(int(pid)) for _, pid, _ in workers)
    return done.returncode, [when for _, _, when in workers]


def test_a_verb_that_runs_passes_starts_its_workers_ahead(tmp_path: Path) -> None:
    ahead = ["ahead"] * number_of_workers(memory_of_all(None))
    (tmp_path / "broken.yaml").write_text("name: [")
    assert started_by("build", str(tmp_path / "broken.yaml")) == (2, ahead)
    recipe = write_recipe(tmp_path / "recipe.yaml", lay_out(tmp_path / "corpus", documents(), ["jsonl"], 1))
    assert started_by("plan", str(recipe)) == (0, ahead)
    assert started_by("build", str(recipe), "--workers=1") == (0, ["late"])
    assert started_by("build", "--help") == (0, [])
    assert started_by("versions", str(tmp_path / "out")) == (0, [])


@pytest.mark.parametrize("verb", PASS_VERBS)
def test_the_options_by_which_other_workers_are_asked_for_are_known(verb: str) -> None:
    names = {field.name for field in fields(EngineOptions)} - {"open_cluster", "progress_form"}
    command = get_command(app).commands[verb]  # type: ignore[attr-defined]
    assert {*ENGINE_WORDS} == {option.opts[0] for option in command.params if option.name in names}


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_workers_that_were_started_ahead_end_with_a_command_that_ends_before_it_began(signum: signal.Signals) -> None:
    done = run_start(STARTED.replace("SIGNUM", str(int(signum))) + TELLS_OF_WORKERS, "build", "recipe.yaml")
    workers = [int(line.split()[1]) for line in done.stdout.splitlines()]
    assert len(workers) == number_of_workers(memory_of_all(None))
    left = psutil.wait_procs([process for process in psutil.process_iter() if process.pid in workers], timeout=20)[1]
    for process in left:
        process.kill()
    assert left == []


@pytest.mark.parametrize(("signum", "code", "said"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")])
def test_a_signal_while_modules_are_imported_is_one_sentence(signum: signal.Signals, code: int, said: str) -> None:
    started = STARTED.replace("SIGNUM", str(int(signum))) + MAIN
    sentence = f"{said} before anything had begun; run the same command again"
    done = run_start(started, "versions", "out")
    assert (done.returncode, done.stdout, done.stderr) == (code, "", f"{sentence}\n")
    done = run_start(started, "build", "recipe.yaml", "--json", "--progress", "json")
    assert (done.returncode, json.loads(done.stdout), json.loads(done.stderr)) == (code, {"error": sentence}, {"error": sentence})


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["atexit.register(end)", "keep.append(AtTheEnd())"])
def test_a_signal_after_the_answer_changes_no_exit_code(signum: signal.Signals, moment: str) -> None:
    """`end` is called once Python ends, and `__del__` when it takes its modules down."""
    code = f"""
import atexit, os, signal, sys
def end(kill=os.kill, pid=os.getpid(), signum={int(signum)}): kill(pid, signum)
class AtTheEnd: __del__ = lambda self, end=end: end()
keep = sys.modules["__main__"].__dict__.setdefault("keep", [])
signal.signal(signal.SIGINT, signal.default_int_handler)
from chameleon_data.jobs.start import start_command
atexit.register(lambda: {moment})
start_command()
"""
    done = run_start(code, "versions", "/nonexistent", "--json")
    assert (done.returncode, "Traceback" in done.stderr, list(json.loads(done.stdout))) == (2, False, ["error"])


@pytest.fixture
def completing(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """The command as a program, in a folder with the dataset out/one, and an environment in which a shell finds it."""
    store = Store(str(tmp_path / "out/one"))
    version = commit_version(store, example_manifest(build="builds/x"), "2026-01-01")
    tag_version(store, version, "prod", "2026-01-01")
    program = tmp_path / "bin/chameleon-data"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n{MAIN}\n")
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"
    # The last variable has it print the script of the shell that is named, not of the one that started it.
    return program, {**os.environ, "PATH": path, "HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}


def print_script(program: Path, shell: str, named: dict[str, str]) -> str:
    shown = subprocess.run([program, "--show-completion", shell], capture_output=True, text=True, timeout=120, env=named)
    assert f"complete_{shell}" in shown.stdout
    return shown.stdout


def test_tab_completes_verbs_options_datasets_and_versions_in_bash(
    completing: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    """In bash, by the script that `--show-completion` prints, called as bash calls it: words are divided at @, : and = too."""
    program, named = completing
    script, out = print_script(program, "bash", named), f"{tmp_path}/out/one"
    typed = {
        ("sho",): ["show"],
        ("build", "x.yaml", "--progress", "=", "j"): ["json"],
        ("show", f"{tmp_path}/out/"): [out],
        ("show", out, "@"): ["latest", "prod", "v1"],
        ("diff", out, "@", "v1", out, "@", "pr"): ["prod"],
        ("tags", out, "p"): ["prod"],
        ("path", out, "@", "prod", "m"): ["mds", "megatron"],
        ("show", f"{tmp_path}/absent", "@"): [],
    }
    lines = ["PATH=$PWD/bin:$PATH", "complete() { [ $1 = -o ] && shift 2; call=$2; }", script]
    for words in typed:
        lines += [
            f"COMP_WORDS=({shlex.join(('chameleon-data', *words))}); COMP_CWORD={len(words)}; COMPREPLY=()",
            '$call chameleon-data; echo "${COMPREPLY[*]}"',
        ]
    done = subprocess.run(["bash", "-c", "\n".join(lines)], capture_output=True, text=True, cwd=tmp_path, timeout=240)
    assert done.stderr == ""
    assert [line.split() for line in done.stdout.splitlines()] == list(typed.values())


TYPED = {"sho": "show", "diff out/one@v1 out/one@p": "diff out/one@v1 out/one@prod", "build rec": "build recipe.yaml"}
"""What is typed behind the command, and what stands there after Tab."""


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_tab_completes_in_fish(completing: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    program, named = completing
    (tmp_path / "recipe.yaml").touch()
    script = print_script(program, "fish", named)
    asked = [f"complete -C {shlex.quote(f'chameleon-data {typed}')}" for typed in (*TYPED, "show out/one@")]
    code = "\n".join([script, *asked])
    done = subprocess.run(["fish", "-c", code], capture_output=True, text=True, cwd=tmp_path, env=named, timeout=120)
    offered = [line.split("\t")[0] for line in done.stdout.splitlines()]
    versions = ["out/one@latest", "out/one@prod", "out/one@v1"]
    assert (offered, done.stderr) == ([*(whole.split()[-1] for whole in TYPED.values()), *versions], "")


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_tab_completes_in_zsh(completing: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    """zsh completes in a terminal alone."""
    program, named = completing
    (tmp_path / "recipe.yaml").touch()
    (tmp_path / "script").write_text(print_script(program, "zsh", named))
    ours, theirs = pty.openpty()
    plain = {**named, "TERM": "dumb", "COLUMNS": "200", "PS1": "> "}
    with subprocess.Popen(
        ["zsh", "-f", "-i"], stdin=theirs, stdout=theirs, stderr=theirs, cwd=tmp_path, env=plain, start_new_session=True
    ) as shell:
        type_and_see(ours, "autoload -U compinit; compinit -u -D; source ./script; print rea''dy\n", "ready")
        for typed, whole in TYPED.items():
            type_and_see(ours, f"chameleon-data {typed}\t", f"chameleon-data {whole} ")
            type_and_see(ours, "\x15\nprint cle''ar\n", "clear")
        os.write(ours, b"exit\n")
        assert shell.wait(timeout=60) == 0
    os.close(ours)
    os.close(theirs)


def type_and_see(terminal: int, typed: str, shown: str) -> None:
    """Wait until a terminal shows what follows from what is typed."""
    os.write(terminal, typed.encode())
    seen = b""
    while shown.encode() not in seen:
        assert select.select([terminal], [], [], 60)[0], seen
        seen += os.read(terminal, 2**16)


@pytest.mark.parametrize(
    ("words", "place", "whole", "at"),
    [
        ("x show out/a @ v1", 4, ["x", "show", "out/a@v1"], 2),
        ("x diff s3 : //b/o @ 1 s3 : //b/o @", 10, ["x", "diff", "s3://b/o@1", "s3://b/o@"], 3),
        ("x build r.yaml", 2, ["x", "build", "r.yaml"], 2),
        ("x show a@b/c", 2, ["x", "show", "a@b/c"], 2),
    ],
)
def test_words_that_bash_divided_are_joined(words: str, place: int, whole: list[str], at: int) -> None:
    assert join_words(words.split(), place) == (whole, at)
