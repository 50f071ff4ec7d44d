"""Datasets of the Hugging Face hub as sources, each at one commit.

    hf://datasets/ORG/NAME@REVISION/data/*.parquet      REVISION: a commit, branch or tag; `main` where none is named

`huggingface_hub` brings the file system. A branch may move while a build reads it, so it is resolved to its commit once, before
anything is listed, and the recipe that is recorded names the commit: what reads it again reads the same files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

from chameleon_data.errors import InputError, explaining, first_line
from chameleon_data.recipe import Source
from chameleon_data.store.network_errors import is_transient
from chameleon_data.store.urls import scheme_of

HUB_SCHEME = "hf"
EVERYTHING = "**"
"""Where this is all of a pattern, the dataset is read as a folder: its README and the like are left out, and counted."""
COMMIT = re.compile(r"[0-9a-f]{40}")
Commits = dict[tuple[str, str], str]
"""Dataset and revision -> commit."""


def pin_sources(sources: Mapping[str, Source]) -> tuple[dict[str, Source], dict[str, dict[str, str]]]:
    """The sources with commits for revisions; and source -> `ORG/NAME@REVISION` -> commit, of revisions that are none.

    Raises InputError where the hub does not answer or knows no such thing.
    """
    commits: Commits = {}
    pinned, moving = dict[str, Source](), dict[str, dict[str, str]]()
    for name, source in sources.items():
        paths, resolved = _pin_paths(source.path, f"sources.{name}", commits)
        pinned[name] = source.model_copy(update={"path": paths}) if paths != source.path else source
        moving[name] = resolved
    return pinned, moving


def _pin_paths(paths: Sequence[str], where: str, commits: Commits) -> tuple[tuple[str, ...], dict[str, str]]:
    """The same of the paths of one source. `commits` are those that are known, and takes the others."""
    found, resolved = list[str](), dict[str, str]()
    for path in paths:
        if scheme_of(path) != HUB_SCHEME:
            found.append(path)
            continue
        name, revision, inside = _read_path(path, where)
        if not COMMIT.fullmatch(revision):
            if (name, revision) not in commits:
                commits[name, revision] = _find_commit(name, revision, f"{where}: {path}")
            resolved[f"{name}@{revision}"] = commits[name, revision]
        whole = f"hf://datasets/{name}@{commits.get((name, revision), revision)}"
        found.append(whole if inside in ("", EVERYTHING) else f"{whole}/{inside}")
    return tuple(found), resolved


def refuse_moving(paths: Sequence[str], where: str) -> None:
    """Raise InputError for a dataset of the hub whose revision is no commit."""
    for path in paths:
        if scheme_of(path) == HUB_SCHEME and not COMMIT.fullmatch(_read_path(path, where)[1]):
            raise InputError(f"{where}: {path} names a branch or tag, which may move; name the commit: ORG/NAME@COMMIT")


def _read_path(path: str, where: str) -> tuple[str, str, str]:
    """Dataset, revision, and path or pattern in it."""
    from huggingface_hub import parse_hf_uri

    remedy = "write hf://datasets/ORG/NAME@REVISION/**"
    with explaining(f"{where}: {path}", {ValueError: lambda error: f"is no path of the hub ({first_line(error)}); {remedy}"}):
        parsed = parse_hf_uri(path)
    if parsed.type != "dataset":
        raise InputError(f"{where}: {path} is not a dataset of the hub; {remedy}")
    return parsed.id, parsed.revision or "main", parsed.path_in_repo


def _find_commit(name: str, revision: str, where: str) -> str:
    from huggingface_hub import HfApi

    with explaining_hub(where):
        commit = HfApi().dataset_info(name, revision=revision).sha
    if commit is None:
        raise InputError(f"{where}: the hub does not say which commit {revision} is; name one")
    return commit


def explaining_hub(where: str) -> AbstractContextManager[None]:
    """Turn what the hub refuses into InputError."""
    from huggingface_hub import errors

    return explaining(
        where,
        {
            errors.GatedRepoError: "the dataset asks for consent; give it on its page of the hub and set HF_TOKEN",
            errors.RevisionNotFoundError: "the dataset has no such revision; name a commit, branch or tag that it has",
            errors.RepositoryNotFoundError: "no such dataset on the hub; check the name, or set HF_TOKEN if it is private",
            errors.OfflineModeIsEnabled: "HF_HUB_OFFLINE forbids to ask the hub; unset it",
            errors.HfHubHTTPError: lambda error: f"the hub refuses it ({first_line(error)}); check HF_TOKEN and its rights",
            Exception: lambda error: "the hub is out of reach; try again" if is_transient(error) else None,
        },
    )
