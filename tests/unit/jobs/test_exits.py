"""Exit codes, and that --json has one document however the command ends."""

from __future__ import annotations

import json
import os
import signal
import sys
import time

import pytest
import typer

from chameleon_data import __version__
from chameleon_data.errors import DefectError
from chameleon_data.jobs import cli, screen
from chameleon_data.store.store import Store


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
    assert command("--version") == (0, f"chameleon-data {__version__}\n", "")
    code, out, _ = command("versions", dataset, "--json")
    assert (code, json.loads(out)[0]["version"]) == (0, "v1")


def test_a_defect_of_ours_has_70_a_document_and_a_traceback(command, dataset, monkeypatch):
    def fail(_: Store) -> None:
        raise ZeroDivisionError("[/b] oh")

    monkeypatch.setattr(cli, "list_versions", fail)
    code, out, err = command("versions", dataset, "--json")
    assert code == 70
    assert "ZeroDivisionError: [/b] oh" in json.loads(out)["error"]
    assert "Traceback" in err
    assert command("versions", dataset)[:2] == (70, "")


@pytest.mark.parametrize(("signum", "code", "said"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")])
def test_a_signal_ends_with_its_code_a_document_and_one_line(command, dataset, monkeypatch, request, signum, code, said):
    def stop(_: Store) -> None:
        try:
            os.kill(os.getpid(), signum)
            signal.pause()
        finally:
            if signum == signal.SIGTERM:
                os.kill(os.getpid(), signum)  # a second one does not break off the clean-up

    monkeypatch.setattr(cli, "list_versions", stop)
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs have it ignored
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, inherited))
    before = signal.getsignal(signum)
    assert command("versions", dataset, "--json")[:2] == (
        code,
        json.dumps({"error": f"{said}; the same command goes on from here"}, indent=2) + "\n",
    )
    assert command("versions", dataset) == (code, "", f"{said}; the same command goes on from here\n")
    assert signal.getsignal(signum) == before


def test_a_sigterm_that_python_drops_is_raised_again(command, dataset, monkeypatch, request):
    class Dying:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    def stop(_: Store) -> None:
        Dying()
        time.sleep(5)
        raise AssertionError("nothing interrupted this")

    monkeypatch.setattr(cli, "list_versions", stop)
    inherited = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell's background jobs have it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, inherited))
    assert command("versions", dataset) == (143, "", "terminated; the same command goes on from here\n")


def test_a_contradiction_of_ours_has_70(command, dataset, monkeypatch):
    def contradict(_: Store) -> None:
        raise DefectError("the books do not balance")

    monkeypatch.setattr(cli, "list_versions", contradict)
    code, out, _ = command("versions", dataset, "--json")
    assert code == 70
    assert "DefectError: the books do not balance" in json.loads(out)["error"]


@pytest.mark.parametrize(("typed", "meant"), [("biuld", "build"), ("verfy", "verify"), ("--jsn", "--json")])
def test_the_nearest_verb_or_option_is_named(command, typed, meant):
    code, _, err = command(*(["versions", "x"] if typed.startswith("-") else []), typed)
    assert (code, meant in err.partition("error")[2]) == (2, True)


def test_every_verb_explains_itself_in_sentences_with_an_example(command):
    listed = command("--help")[1].partition("Commands:")[2]
    assert "..." not in listed, "a first sentence is too long for the list"
    for group in typer.main.get_command(cli.app).commands.values():
        text = " ".join(command(group.name, "--help")[1].split())
        assert f"Example: chameleon-data {group.name} " in text
        assert (group.help or "").strip().endswith(".")


@pytest.mark.parametrize("spelling", [["--progress", "json"], ["--progress=json"]])
def test_with_progress_as_json_every_line_of_stderr_is_an_object(command, tmp_path, monkeypatch, spelling):
    def say(*arguments: str) -> list[dict[str, str]]:
        err = command(*arguments, *spelling)[2]
        return [json.loads(line) for line in err.splitlines()]

    absent = str(tmp_path / "absent.yaml")
    assert [list(line) for line in say("build", absent)] == [["error"]]
    assert absent in say("build", absent)[0]["error"]
    assert [list(line) for line in say("build", absent, "--nonsense")] == [["error", "usage"]]
    monkeypatch.setattr(cli, "load_recipe", lambda _: 1 / 0)
    assert [list(line) for line in say("build", absent)] == [["error", "traceback"]]

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "load_recipe", stop)
    assert say("build", absent) == [{"error": "interrupted; the same command goes on from here"}]


def test_work_that_is_not_counted_is_an_object_too(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["chameleon-data", "export", "x", "delta", "--progress", "json"])
    monkeypatch.setattr(screen, "SILENT_SECONDS", 0.0)
    with screen.show_waiting("registering the shards"):
        time.sleep(0.1)
    assert json.loads(capsys.readouterr().err) == {"note": "registering the shards"}
