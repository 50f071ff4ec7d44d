"""What Tab completes beside verbs, options and choices, which typer knows: datasets, versions, tags.

`chameleon-data --install-completion` sets it up in bash, zsh, fish or PowerShell. Where nothing is offered here, the shell offers
files. A completion takes the second that the command takes to start.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path

import typer

from chameleon_data.errors import InputError
from chameleon_data.jobs.screen import print_text
from chameleon_data.store.paths import FORMAT_FILE
from chameleon_data.versions.references import open_dataset
from chameleon_data.versions.tags import LATEST, list_tags
from chameleon_data.versions.versions import list_numbers

ASKED = "_CHAMELEON_DATA_COMPLETE"
"""What typer's scripts set to ask for completions."""
BASH_BREAKS = re.compile("[@:=]")
"""Where bash divides a word that we do not."""


def complete_dataset(typed: str) -> list[str]:
    """The datasets on this machine whose path begins so."""
    above, slash, name = typed.rpartition("/")
    with suppress(OSError):
        beside = sorted(path for path in Path(f"{above}{slash}").iterdir() if path.name.startswith(name))
        return [f"{above}{slash}{path.name}" for path in beside if (path / FORMAT_FILE).is_file()]
    return []


def complete_target(typed: str) -> list[str]:
    """OUT, and behind an @ its versions and tags."""
    url, at, _ = typed.rpartition("@")
    if not at or "/" in typed[len(url) :]:
        return complete_dataset(typed)
    with suppress(InputError, OSError):
        store = open_dataset(url)
        versions = [f"v{number}" for number in reversed(list_numbers(store)[0])]
        return [f"{url}@{name}" for name in (LATEST, *list_tags(store), *versions)]
    return []


def complete_tag(context: typer.Context) -> list[str]:
    """The tags of the dataset that was typed before."""
    with suppress(InputError, OSError):
        return list(list_tags(open_dataset(context.params["target"])))
    return []


@contextmanager
def completing_in_bash() -> Iterator[None]:
    """In bash `out/x@prod` is three words, of which the last alone is completed. Join them, and answer with that last part."""
    if os.environ.get(ASKED) != "complete_bash":
        yield
        return
    words, place = join_words(os.environ.get("COMP_WORDS", "").split("\n"), int(os.environ.get("COMP_CWORD", "0")))
    os.environ |= {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(place)}
    typed = words[place] if place < len(words) else ""
    shown = max((found.end() for found in BASH_BREAKS.finditer(typed)), default=0)
    answer = io.StringIO()
    try:
        with redirect_stdout(answer):
            yield
    finally:
        print_text("\n".join(line.removeprefix(typed[:shown]) for line in answer.getvalue().splitlines()))


def join_words(words: list[str], place: int) -> tuple[list[str], int]:
    """Words that bash divided, whole again, and the place among them of the one that stood at `place`."""
    whole: list[str] = []
    joins, at = False, place
    for number, word in enumerate(words):
        divides = bool(word) and not BASH_BREAKS.sub("", word)
        if whole and number and (divides or joins):
            whole[-1] += word
        else:
            whole.append(word)
        joins = divides
        if number == place:
            at = len(whole) - 1
    return whole, at
