"""What all nodes of a cluster must have in common, so that any of them writes the same bytes into the same folder.

A worker with another version of this code, or of a library that decides bytes, would write other bytes and tell nobody. A worker
whose `out` is another folder than the driver's would write where nobody looks. So before its first pass a driver writes a nonce
into each folder, and asks every node for its versions and for the nonce. A node that joins later is asked by its own workers,
before they work. This module knows nothing of Ray. Cost: a process on each node, which takes a second; a file in each folder.
Why: docs/decisions/166-nodes-that-differ.md.
"""

from __future__ import annotations

import platform
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache

from chameleon_data.errors import InputError, list_some
from chameleon_data.store.paths import nonce_path
from chameleon_data.store.store import Store
from chameleon_data.versions.provenance import code_version, package_versions

THIS_CODE = "this code"
BYTE_PACKAGES = ("numpy", "orjson", "polars", "pyarrow", "tokenizers", "xxhash", "zstandard")
"""Libraries that decide bytes of records or of shards. Those that embed decide weights, which are recorded before the plan."""
NODES_SHOWN = 8
SAME_VERSIONS = (
    "their workers would write other bytes; install the same versions there (pip install -c constraints.txt), or send this code "
    "along with jobs/cluster/submit"
)
SAME_FOLDERS = "what is written there would be missed; name a folder that all nodes share, or a URL"


@dataclass(frozen=True)
class Common:
    """What a driver expects of every node. It travels as plain values, since a node may have another `Common`, or none."""

    versions: tuple[tuple[str, str], ...]
    """(what decides bytes, its version)."""
    folders: tuple[tuple[str, bool, str], ...]
    """(URL, whether there is a single writer, path of the nonce) of each folder that all nodes must see."""


def bytes_versions() -> dict[str, str]:
    """What decides bytes -> its version in this process. This code goes by the sum of its sources."""
    installed = package_versions()
    python = ".".join(platform.python_version_tuple()[:2])
    return {
        THIS_CODE: code_version().sources[:12],
        "python": python,
        **{name: installed.get(name, "none") for name in BYTE_PACKAGES},
    }


@contextmanager
def common_to_nodes(stores: Sequence[Store]) -> Iterator[Common]:
    """What the nodes must have in common with this process; in the body a nonce lies in each of these folders."""
    nonces = [(store, nonce_path(secrets.token_hex(16))) for store in dict.fromkeys(stores)]
    try:
        for store, path in nonces:
            store.write_new(path, path.encode())
        yield Common(tuple(bytes_versions().items()), tuple((store.url, store.single_writer, path) for store, path in nonces))
    finally:
        for store, path in nonces:
            with suppress(InputError):  # gc removes it too
                store.remove([path])


def find_differences(common: Common) -> tuple[list[str], list[str]]:
    """On a node: what of its versions differs from the driver's, and which folders are not the driver's, in words."""
    mine = bytes_versions()
    versions = [
        f"{name} {mine.get(name, 'none')} and not {wanted}" for name, wanted in common.versions if mine.get(name) != wanted
    ]
    return versions, [fault for folder in common.folders if (fault := _compare_folder(*folder))]


def _compare_folder(url: str, single_writer: bool, path: str) -> str:
    """Why this folder is not the driver's; empty where it is."""
    store = Store(url, single_writer)
    try:
        if not store.exists(path):
            return f"{url} is another folder there: what this process wrote a moment ago is missing"
        if store.read(path) != path.encode():
            return f"{url} is another folder there: it holds something else than this process wrote"
    except InputError as error:
        return f"{url} cannot be read there: {error}"
    return ""


@lru_cache(maxsize=1)
def find_own_differences(common: Common) -> str:
    """What differs in this process, which is a worker, as the end of a message; found once. Empty where nothing does."""
    versions, folders = find_differences(common)
    return "; ".join([*versions, *([SAME_VERSIONS] if versions else []), *folders, *([SAME_FOLDERS] if folders else [])])


def explain_differences(found: Mapping[str, tuple[Sequence[str], Sequence[str]]]) -> str:
    """One message about all nodes that differ: which, in what, and what to do. `found` is what `find_differences` says by node;
    empty where no node differs."""
    lines = []
    for faults, end in (
        ({node: versions for node, (versions, _) in found.items() if versions}, SAME_VERSIONS),
        ({node: folders for node, (_, folders) in found.items() if folders}, SAME_FOLDERS),
    ):
        if faults:
            lines += [f"node {node}: {list_some(differing)}" for node, differing in list(faults.items())[:NODES_SHOWN]]
            if len(faults) > NODES_SHOWN:
                lines.append(f"and {len(faults) - NODES_SHOWN:,} more nodes")
            lines.append(end)
    return "\n".join(lines)
