"""The options that say where passes run: `--engine`, `--workers`, `--memory`, `--gpu-share`, `--address`, `--open-cluster` and
`--progress`."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from chameleon_data.errors import InputError
from chameleon_data.jobs.exits import say_when_stopped
from chameleon_data.jobs.progress import show_progress
from chameleon_data.jobs.screen import parse_size

if TYPE_CHECKING:
    from chameleon_data.jobs.progress import Standing
    from chameleon_data.pipelines.engine import Engine, Progress


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What a person said of the engine and of its progress."""

    engine: Annotated[
        Literal["local", "ray"] | None,
        typer.Option("--engine", help="local: worker processes of this machine, unless there is an address. ray: a Ray cluster."),
    ] = None
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Worker processes on this machine; one for each CPU by default.")
    ] = None
    memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Memory of all processes on this machine together, such as 8GB.")
    ] = None
    gpu_share: Annotated[
        float,
        typer.Option(min=0.05, max=1.0, metavar="SHARE", help="Part of a GPU that a process takes; 0.5 puts two on each GPU."),
    ] = 1.0
    address: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Run on this Ray cluster; by default on RAY_ADDRESS, if that is set.")
    ] = None
    open_cluster: Annotated[bool, typer.Option("--open-cluster", help="Join the cluster even if it asks for no token.")] = False
    progress_form: Annotated[
        Literal["json"] | None, typer.Option("--progress", help="json: progress on stderr as JSON, an object a line.")
    ] = None

    def names_engine(self) -> bool:
        """Whether any of the options asks for an engine of its own kind or size."""
        return any((self.engine, self.workers, self.memory, self.address))

    @contextmanager
    def start(self, out: str | None = None) -> Iterator[tuple[Engine, Progress]]:
        """The engine, and the progress of its passes on the screen. `out` is where the passes leave their records, if they do.

        Raises InputError where two options exclude each other, or the engine does not start.
        """
        if self.engine == "local" and self.address:
            raise InputError("--address: names a Ray cluster, and --engine local is this machine; leave one of them out")
        address = self.address or os.environ.get("RAY_ADDRESS") or None
        with ExitStack() as stack:
            progress = stack.enter_context(show_progress(self.progress_form))
            stack.enter_context(say_when_stopped(lambda: _explain_stop(progress.standing, out)))
            if self.engine == "ray" or (self.engine is None and address):
                if self.memory:
                    raise InputError("--memory: is for worker processes of this machine; a Ray cluster has memory of its own")
                from chameleon_data.pipelines.ray_engine import ray_engine

                engine = ray_engine(address, self.workers, self.open_cluster, progress.note, self.gpu_share)
                yield stack.enter_context(engine), progress
            else:
                from chameleon_data.pipelines.local_engine import local_engine

                limit = parse_size("--memory", self.memory) if self.memory else None
                yield stack.enter_context(local_engine(self.workers, limit, progress.note, self.gpu_share)), progress


def takes_engine_options(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb as a command that has these options behind its own. It gets them as one argument, `passes`."""
    hints = get_type_hints(EngineOptions, include_extras=True)
    shared = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name])
        for field in fields(EngineOptions)
    ]
    own = inspect.signature(verb, eval_str=True)

    @wraps(verb)
    def command(**given: Any) -> None:
        said = {parameter.name: given.pop(parameter.name) for parameter in shared}
        verb(passes=EngineOptions(**said), **given)

    kept = [parameter for parameter in own.parameters.values() if parameter.name != "passes"]
    command.__signature__ = own.replace(parameters=[*kept, *shared])  # type: ignore[attr-defined]
    return command


def _explain_stop(standing: Standing | None, out: str | None) -> str:
    """How far the passes were, what is kept of them, and how to go on."""
    at = f" at {standing.place()}" if standing else ""
    if out is None:
        return f"{at}; nothing is kept of it, run the same command again"
    return f"{at}; what was finished is kept in {out}, and the same command goes on from there"
