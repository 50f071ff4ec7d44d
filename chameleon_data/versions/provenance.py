"""Where a version comes from, from its manifest: what it was made of, by which code, and how its weights were reached.

What the manifest records of it beside the recipe and the plan is `provenance`: every input fragment under the identity that the
store gave it, the tokenizer's fingerprint, package versions, and the code that ran.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import chameleon_data
from chameleon_data.hashing import fingerprint

PACKAGE = Path(__file__).parents[1]
WEIGHT_FACTS = ("origin", "given", "objective", "preset", "kernel", "level", "ridge", "temperature")


@functools.lru_cache(maxsize=1)
def code_version() -> dict[str, str | None]:
    """Which code runs: the package's version, the commit where it runs from a git checkout, and a hash of the files themselves,
    which tells a checkout with changes from a clean one."""
    digest = hashlib.sha256()
    folders = os.walk(PACKAGE, followlinks=True)  # in a checkout, pipelines and jobs are links
    for file in sorted(Path(folder, name) for folder, _, names in folders for name in names if name.endswith(".py")):
        digest.update(f"{file.relative_to(PACKAGE).as_posix()}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return {"version": chameleon_data.__version__, "commit": commit_of(PACKAGE.parent), "sources": digest.hexdigest()}


def commit_of(checkout: Path) -> str | None:
    """The commit that is checked out in a folder, read from git's own files; None for what is no checkout."""
    try:
        git = checkout / ".git"
        if git.is_file():  # a worktree: its HEAD is in a folder of its own, branches are in the common one
            git = checkout / git.read_text(encoding="utf-8").removeprefix("gitdir:").strip()
        common = git / (git / "commondir").read_text(encoding="utf-8").strip() if (git / "commondir").is_file() else git
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        if head.startswith("ref:"):
            name = head.removeprefix("ref:").strip()
            loose, packed = common / name, common / "packed-refs"
            if loose.is_file():
                head = loose.read_text(encoding="utf-8").strip()
            else:
                lines = (line.split(" ") for line in packed.read_text(encoding="utf-8").splitlines())
                head = next((parts[0] for parts in lines if parts[1:] == [name]), "")
    except (OSError, UnicodeDecodeError):
        return None
    return head if re.fullmatch("[0-9a-f]{40}([0-9a-f]{24})?", head) else None


def describe_provenance(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What a person asks of a version's origin, in one nested mapping. What an older manifest does not hold is None."""
    provenance, weights, recipe = (manifest.get(key) or {} for key in ("provenance", "weights", "recipe"))
    tokenizer = (recipe.get("tokens") or {}).get("tokenizer") or "bytes"
    by_source: dict[str, list[Mapping[str, Any]]] = {}
    for fragment in provenance.get("inputs", []):
        by_source.setdefault(fragment["source"], []).append(fragment)
    return {
        "inputs": {source: _inputs(fragments) for source, fragments in sorted(by_source.items())},
        "tokenizer": {"name": tokenizer, "fingerprint": provenance.get("tokenizer")},
        "embedder": weights.get("embedder"),
        "weights": {key: weights.get(key) for key in WEIGHT_FACTS},
        "landmarks": (weights.get("nystrom") or {}).get("digest"),
        "seed": manifest.get("seed"),
        "code": provenance.get("code"),
        "python": provenance.get("python"),
        "packages": provenance.get("packages") or {},
        "writer": provenance.get("writer"),
    }


def _inputs(fragments: list[Mapping[str, Any]]) -> dict[str, Any]:
    identities = sorted([f["url"], -1 if f["row_group"] is None else f["row_group"], f["identity"]] for f in fragments)
    return {
        "files": len({f["url"] for f in fragments}),
        "fragments": len(fragments),
        "bytes": sum(f["bytes"] for f in fragments),
        "fingerprint": fingerprint(identities),
    }
