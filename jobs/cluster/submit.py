"""Submits one command of chameleon-data as a Ray job, follows it, and prints one JSON document on stdout.

The job runs this code: the package travels with it, as do the recipe and the files beside it. What the job prints goes to stderr
as it comes. The document says how the job ended, and holds the document of the command itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chameleon_data.errors import InputError, explaining, first_line, say_install
from chameleon_data.jobs.exits import run_command, say_when_stopped
from chameleon_data.jobs.screen import print_json
from chameleon_data.versions.provenance import PACKAGE, code_version

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

ADDRESS = "RAY_API_SERVER_ADDRESS"
VERBS = ("weights", "plan", "build", "evaluate", "export")
"""Those that run passes for a recipe."""
STATUS_SECONDS = 1.0
AGENT_SECONDS = 60.0
"""How long to wait for a cluster that has just started."""
NOT_YET = "No available agent"
"""What Ray says where its dashboard is up and no node has told it that it takes jobs."""
DOCUMENT_BEGINS = "{"
"""The line with which the command's document begins; no other line of it, and no progress, is this alone."""

submit_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@submit_app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="Example: jobs/cluster/submit --submission-id nightly-7 build recipe.yaml --scratch /shared/scratch",
)
def submit(
    words: typer.Context,
    verb: Annotated[str, typer.Argument(metavar="VERB", help=f"{', '.join(VERBS)}.")],
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe, a YAML file.")],
    submission_id: Annotated[
        str | None, typer.Option(metavar="ID", help="Name of the job on the cluster; Ray makes one by default.")
    ] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Kept with the job; may be given several times.")
    ] = None,
) -> None:
    """Run a command as a job of the Ray cluster that RAY_API_SERVER_ADDRESS names. OPTIONS of the command stand behind RECIPE."""
    if verb not in VERBS:
        raise InputError(f"{verb}: is no command that runs passes for a recipe; choose one of {', '.join(VERBS)}")
    if not recipe.is_file():
        raise InputError(f"{recipe}: there is no such recipe; correct the path")
    notes = describe_job(verb, recipe, metadata or [])
    with _explaining_cluster():
        client = _connect()
        job = _submit_patiently(
            client,
            entrypoint=make_entrypoint(verb, recipe, words.args),
            runtime_env=make_environment(recipe),
            submission_id=submission_id,
            metadata=notes,
        )
        sys.stderr.write(f"submitted {job}\n")
        with say_when_stopped(lambda: f"; the job goes on without you: ray job logs --follow {job}, or ray job stop {job}"):
            _follow(client, job)
            while not (status := client.get_job_status(job)).is_terminal():
                time.sleep(STATUS_SECONDS)
        about, answer = client.get_job_info(job), find_document(client.get_job_logs(job))
    code = about.driver_exit_code
    print_json({
        "submission_id": job, "status": str(status), "message": about.message, "exit_code": code, "metadata": notes,
        "answer": answer,
    })  # fmt: skip
    raise typer.Exit(code if code is not None else int(str(status) != "SUCCEEDED"))


def make_entrypoint(verb: str, recipe: Path, options: list[str]) -> str:
    """The job's command line. -P: a file beside the recipe must not stand for a module."""
    words = ["python", "-P", "-m", "chameleon_data.jobs.start", verb, recipe.name, "--address", "auto", "--json", *options]
    return shlex.join(words)


def make_environment(recipe: Path) -> dict[str, Any]:
    """What travels to every node: the folder of the recipe, and this code, which replaces what is installed there."""
    return {"working_dir": str(recipe.resolve().parent), "py_modules": [str(PACKAGE)], "excludes": ["**/__pycache__/**"]}


def describe_job(verb: str, recipe: Path, given: list[str]) -> dict[str, str]:
    """What is kept with the job. Raises InputError for what is not KEY=VALUE."""
    code = code_version()
    about = {"command": f"chameleon-data {verb}", "recipe": recipe.name, "code": code.commit or code.sources}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise InputError(f"--metadata {pair}: is not KEY=VALUE")
        about[key] = value
    return about


def find_document(logs: str) -> Any:
    """The document that the command printed last, among all that the job printed; None where there is none."""
    lines = logs.splitlines()
    starts = [number for number, line in enumerate(lines) if line == DOCUMENT_BEGINS]
    if starts:
        with suppress(ValueError):
            return json.JSONDecoder().raw_decode("\n".join(lines[starts[-1] :]))[0]
    return None


def _connect() -> JobSubmissionClient:
    address = os.environ.get(ADDRESS)
    if not address:
        raise InputError(f"{ADDRESS}: is not set; it is the address of the cluster's dashboard, such as http://HEAD:8265")
    try:
        from ray.job_submission import JobSubmissionClient

        return JobSubmissionClient(address)
    except ImportError as error:
        raise InputError(f"jobs need ray[default]; {say_install('cluster')}") from error


@contextmanager
def _explaining_cluster() -> Iterator[None]:
    kinds = (ConnectionError, RuntimeError, ValueError)
    advice = f"look at {ADDRESS}, RAY_AUTH_TOKEN and the cluster"
    with explaining("the cluster", {kinds: lambda error: f"does not take the job ({first_line(error)}); {advice}"}):
        yield


def _submit_patiently(client: JobSubmissionClient, **job: Any) -> str:
    """Submit the job, and wait for a cluster that has just started and cannot take it yet."""
    end = time.monotonic() + AGENT_SECONDS
    while True:
        try:
            return client.submit_job(**job)
        except RuntimeError as error:
            if NOT_YET not in str(error) or time.monotonic() > end:
                raise
            time.sleep(STATUS_SECONDS)


def _follow(client: JobSubmissionClient, job: str) -> None:
    """Write what the job prints to stderr, as it comes, but for its document."""

    async def follow() -> None:
        rest = ""
        async for chunk in client.tail_job_logs(job):
            *lines, rest = (rest + chunk).split("\n")
            for line in lines:
                if line == DOCUMENT_BEGINS:
                    return
                sys.stderr.write(line + "\n")
            sys.stderr.flush()

    with suppress(RuntimeError, OSError):  # the connection is lost; its status is asked for below
        asyncio.run(follow())


if __name__ == "__main__":
    run_command(submit_app, as_json=True)  # without --json too, since what it prints is always a document
